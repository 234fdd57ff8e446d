"""Which events call for a look, and what kopf is told not to do."""

from typing import Any

import kopf
from kvorum_operator.controller.handlers import WATCHED, Noticed, kopf_settings, place, registry_of
from kvorum_operator.controller.work_queue import Key, Lane

DEMO = Key("prod", "demo")


class Heard:
    def __init__(self) -> None:
        self.changed: list[tuple[Key, Lane]] = []
        self.gone: list[Key] = []
        self.belonging: list[tuple[Key, bool]] = []
        self.noticed = Noticed(
            lambda key, lane: self.changed.append((key, lane)),
            self.gone.append,
            lambda key, touched: self.belonging.append((key, touched)),
        )

    def count_changes(self, kind: str | None, body: dict[str, Any]) -> int:
        before = len(self.changed)
        self.noticed.cluster(kind, body)
        return len(self.changed) - before


def demo(**metadata: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "prod", "name": "demo", "uid": "1", "generation": 1, **metadata}, "status": {}}


def test_status_that_is_written_calls_for_no_look() -> None:
    heard = Heard()
    assert heard.count_changes(None, demo()) == 1
    assert heard.count_changes("MODIFIED", demo(resourceVersion="2") | {"status": {"replicas": 3}}) == 0
    assert heard.count_changes("MODIFIED", demo(resourceVersion="3", labels={"a": "b"}, managedFields=[{}])) == 0


def test_generation_annotations_deletion_and_another_object_of_the_name_do() -> None:
    heard = Heard()
    heard.noticed.cluster(None, demo())
    for change in (
        {"generation": 2},
        {"generation": 2, "annotations": {"kvorum.dev/x": "y"}},
        {"generation": 2, "deletionTimestamp": "2026-11-25T20:00:00Z"},
        {"uid": "2"},
    ):
        assert heard.count_changes("MODIFIED", demo(**change)) == 1, change


def test_edit_overtakes_what_is_only_listed() -> None:
    heard = Heard()
    heard.noticed.cluster(None, demo())
    heard.noticed.cluster("MODIFIED", demo(generation=2))
    assert heard.changed == [(DEMO, Lane.ORDINARY), (DEMO, Lane.CHANGED)]


def test_cluster_that_is_gone_and_comes_again_is_looked_at() -> None:
    heard = Heard()
    heard.noticed.cluster("ADDED", demo())
    heard.noticed.cluster("DELETED", demo())
    assert heard.gone == [DEMO]
    assert heard.count_changes("ADDED", demo()) == 1


def test_object_calls_for_a_look_at_the_cluster_that_its_label_names() -> None:
    heard = Heard()
    pod = {"metadata": {"namespace": "prod", "name": "demo-0", "labels": {"kvorum.dev/cluster": "demo"}}}
    heard.noticed.belonging(pod, read_when_touched=False)
    heard.noticed.belonging({"metadata": {"namespace": "prod", "name": "stray"}}, read_when_touched=True)
    assert heard.belonging == [(DEMO, False)]


def test_server_is_asked_for_our_objects_only_and_kopf_writes_nothing() -> None:
    settings = kopf_settings()
    assert not settings.posting.enabled
    assert settings.scanning.disabled
    chosen = {str(selector): value for selector, value in settings.watching.label_selectors.items()}
    assert set(chosen.values()) == {"kvorum.dev/cluster"}
    assert len(chosen) == len(WATCHED) - 1


def test_kopf_has_handlers_of_events_alone_so_that_it_never_adds_a_finalizer() -> None:
    registry = registry_of(Heard().noticed)
    assert len(registry._watching.get_all_handlers()) == len(WATCHED)
    for others in (registry._changing, registry._spawning, registry._indexing, registry._webhooks):
        assert list(others.get_all_handlers()) == []


def test_resources_are_named_by_group_version_and_plural() -> None:
    assert {place(resource) for resource in WATCHED} >= {
        ("", "v1", "pods"),
        ("apps", "v1", "statefulsets"),
        ("kvorum.dev", "v1alpha1", "kvclusters"),
    }
    assert isinstance(kopf_settings(), kopf.OperatorSettings)
