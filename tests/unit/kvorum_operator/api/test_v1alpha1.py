"""The document: what is taken, what is refused and with which words."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from kvorum_operator.api.v1alpha1 import (
    CompactionMode,
    Engine,
    InvalidCluster,
    KVCluster,
    Status,
    parse,
    parse_spec,
    status_of,
    without_meaning_locally,
)


def document(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "kvorum.dev/v1alpha1", "kind": "KVCluster", "metadata": {"name": "demo"}, "spec": spec}


def problems(document: object) -> tuple[str, ...]:
    with pytest.raises(InvalidCluster) as caught:
        parse(document)
    return caught.value.problems


def test_replicas_are_enough() -> None:
    cluster = parse(document(replicas=5))
    assert cluster.spec.replicas == 5
    assert cluster.spec.engine is Engine.KVORUM
    assert str(cluster.spec.settings.database_quota) == "2Gi"
    assert cluster.spec.settings.compaction.mode is CompactionMode.PERIODIC


@pytest.mark.parametrize("spec", [None, {}])
def test_empty_specification_is_all_defaults(spec: object) -> None:
    assert parse({**document(), "spec": spec}) == parse(document(replicas=3))


def test_readmes_own_file_is_three_members_named_demo() -> None:
    text = (Path(__file__).parents[4] / "cluster.yaml").read_text()
    cluster = parse(yaml.safe_load(text))
    assert (cluster.metadata.name, cluster.spec.replicas) == ("demo", 3)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"replicas": -1}, "spec.replicas: must be greater than or equal to 0 (it is -1)"),
        ({"replicas": 10}, "spec.replicas: must be less than or equal to 9 (it is 10)"),
        ({"replicas": "3"}, "spec.replicas: must be a valid integer (it is '3')"),
        ({"replicas": True}, "spec.replicas: must be a valid integer (it is True)"),
        ({"replicas": 2.5}, "spec.replicas: must be a valid integer (it is 2.5)"),
        ({"replica": 3}, "spec.replica: there is no such field"),
        ({"engine": "redis"}, "spec.engine: must be 'kvorum' or 'etcd' (it is 'redis')"),
        ({"paused": "no"}, "spec.paused: must be a valid boolean (it is 'no')"),
        ({"storage": {"size": "big"}}, "spec.storage.size: must be a size, like 512Mi or 2Gi (it is 'big')"),
        ({"storage": {"size": -1}}, "spec.storage.size: must be a size, like 512Mi or 2Gi (it is -1)"),
        ({"settings": {"databaseQuota": 8}}, "spec.settings.databaseQuota: must be at least 64Mi (it is 8)"),
        (
            {"settings": {"heartbeatInterval": 100}},
            "spec.settings.heartbeatInterval: must be a duration with its unit, like 100ms, 30s or 1h (it is 100)",
        ),
        (
            {"settings": {"heartbeatInterval": "1ms"}},
            "spec.settings.heartbeatInterval: must be between 10ms and 10s (it is '1ms')",
        ),
        (
            {"settings": {"electionTimeout": "400ms"}},
            "spec.settings.electionTimeout: must be at least 5 heartbeat intervals of 100ms (it is '400ms')",
        ),
        (
            {"settings": {"electionTimeout": "51s"}},
            "spec.settings.electionTimeout: must be between 100ms and 50s (it is '51s')",
        ),
        (
            {"settings": {"compaction": {"mode": "Revision", "retention": "1h"}}},
            "spec.settings.compaction.retention: must be a number of revisions of at least 1 with mode Revision, "
            "like 1000 (it is '1h')",
        ),
        (
            {"settings": {"compaction": {"mode": "Periodic", "retention": 1000}}},
            "spec.settings.compaction.retention: must be a duration with its unit with mode Periodic, like 1h "
            "(it is 1000)",
        ),
        (
            {"settings": {"compaction": {"mode": "Revision"}}},
            "spec.settings.compaction.retention: must be a number of revisions of at least 1 with mode Revision, "
            "like 1000 (it is '1h')",
        ),
        (
            {"settings": {"compaction": {"retention": "1s"}}},
            "spec.settings.compaction.retention: must be at least 1m (it is '1s')",
        ),
        ({"settings": {"snapshotCount": 1}}, "spec.settings.snapshotCount: there is no such field"),
    ],
)
def test_wrong_value_is_named_by_its_path_and_with_the_way_out(spec: dict[str, Any], problem: str) -> None:
    assert problems(document(**spec)) == (problem,)


def test_raised_heartbeat_is_told_that_the_election_timeout_must_follow() -> None:
    (found,) = problems(document(settings={"heartbeatInterval": "500ms"}))
    assert found.startswith("spec.settings.electionTimeout: must be at least 5 heartbeat intervals of 500ms")


def test_all_problems_are_told_at_once() -> None:
    found = problems({**document(replicas=99, engine="x"), "kind": "Deployment"})
    assert [one.partition(":")[0] for one in found] == ["kind", "spec.replicas", "spec.engine"]


@pytest.mark.parametrize("name", ["", "Demo", "1st", "a_b", "a.b", "-a", "a-", "x" * 53, "../up"])
def test_name_that_cannot_name_pods_is_refused(name: str) -> None:
    (found,) = problems({**document(), "metadata": {"name": name}})
    assert found.startswith("metadata.name: ")


@pytest.mark.parametrize("nothing", [None, [], "text", 3])
def test_what_is_no_document_is_refused(nothing: object) -> None:
    (found,) = problems(nothing)
    assert "apiVersion: kvorum.dev/v1alpha1" in found


def test_fields_without_meaning_here_are_named_only_when_set() -> None:
    assert without_meaning_locally(parse(document(replicas=3))) == ()
    assert without_meaning_locally(parse(document(storage={"size": "1Gi"}))) == ("spec.storage",)
    spec = {
        "version": "0.1.0",
        "pod": {"image": "a"},
        "service": {},
        "monitoring": {"podMonitor": True},
        "deletionPolicy": "Delete",
    }
    assert without_meaning_locally(parse(document(**spec))) == (
        "spec.version",
        "spec.pod",
        "spec.service",
        "spec.monitoring",
        "spec.deletionPolicy",
    )


def test_what_was_written_is_what_is_shown() -> None:
    cluster = parse(document(settings={"databaseQuota": "0.5Gi", "electionTimeout": "1500ms"}))
    shown = cluster.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert shown["spec"]["settings"]["databaseQuota"] == "0.5Gi"
    assert shown["spec"]["settings"]["electionTimeout"] == "1500ms"
    assert parse(shown) == cluster


def test_status_survives_being_written_and_read() -> None:
    cluster = parse(document()).model_copy(update={"status": Status(cluster_id="c1", observed_generation=2)})
    shown = cluster.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert shown["status"]["clusterID"] == "c1"
    assert KVCluster.model_validate(shown).status == cluster.status


# Fields of Kubernetes.


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (
            {"pod": {"resources": {"requests": {"cpu": "lots"}}}},
            "spec.pod.resources.requests.cpu: must be an amount, like 100m, 2 or 512Mi (it is 'lots')",
        ),
        (
            {"pod": {"resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "1023Mi"}}}},
            "spec.pod.resources.limits: must give memory at least what requests asks for, 1Gi",
        ),
        (
            {"pod": {"metadata": {"labels": {"kvorum.dev/fresh": "true"}}}},
            "spec.pod.metadata.labels: must not have kvorum.dev/fresh, which the operator sets itself",
        ),
        (
            {"pod": {"metadata": {"annotations": {"a b": "c"}}}},
            "spec.pod.metadata.annotations: must have keys like name or example.com/name, which a b is not",
        ),
        (
            {"pod": {"overlay": {"spec": {"hostname": "a"}}}},
            "spec.pod.overlay: must not set spec.hostname, which the operator relies on",
        ),
        ({"pod": {"scheduling": {"nodes": []}}}, "spec.pod.scheduling.nodes: there is no such field"),
        (
            {"service": {"type": "Headless"}},
            "spec.service.type: must be 'ClusterIP', 'NodePort' or 'LoadBalancer' (it is 'Headless')",
        ),
        ({"deletionPolicy": "delete"}, "spec.deletionPolicy: must be 'Retain' or 'Delete' (it is 'delete')"),
    ],
)
def test_wrong_field_of_kubernetes_is_named_locally_too(spec: dict[str, Any], problem: str) -> None:
    assert problems(document(**spec)) == (problem,)


@pytest.mark.parametrize("amounts", [("100m", "0.1"), ("1", "1"), ("1Gi", "1025Mi"), ("1G", "1000M"), ("500", "1k")])
def test_limit_that_is_no_less_than_the_request_is_taken_however_written(amounts: tuple[str, str]) -> None:
    requested, most = amounts
    parse(document(pod={"resources": {"requests": {"a": requested}, "limits": {"a": most}}}))


@pytest.mark.parametrize(
    ("spec", "least"),
    [
        ({"storage": {"size": "6Gi"}}, "7Gi"),
        ({"settings": {"databaseQuota": "4Gi"}}, "13Gi"),
        ({"storage": {"size": "1Gi"}, "settings": {"databaseQuota": "64Mi"}}, "1216Mi"),
    ],
)
def test_volume_too_small_for_the_quota_is_refused_on_kubernetes_and_means_nothing_locally(
    spec: dict[str, Any], least: str
) -> None:
    parse(document(**spec))
    with pytest.raises(InvalidCluster) as caught:
        parse_spec(document(**spec))
    (found,) = caught.value.problems
    assert found.startswith(f"spec.storage.size: must be at least {least}, 3 times settings.databaseQuota")
    parse_spec(document(**{**spec, "storage": {"size": least}}))


@pytest.mark.parametrize(
    "version", ["3.6.5", "v3.6.5", "3.4.30", "3.5.15", "3.5.3", "v3.5", "3.5.160", "3x5.30", "latest"]
)
def test_version_of_etcd_that_is_not_promised_is_refused_on_kubernetes_and_means_nothing_locally(version: str) -> None:
    parse(document(engine="etcd", version=version))
    with pytest.raises(InvalidCluster, match=r"^spec.version: must be 3\.5\.16 or a later 3\.5 with engine etcd"):
        parse_spec(document(engine="etcd", version=version))
    parse_spec(document(engine="kvorum", version=version))


@pytest.mark.parametrize("version", ["3.5.16", "v3.5.30", "3.5.21-arm64"])
def test_version_of_etcd_that_is_promised_is_taken_with_and_without_its_v(version: str) -> None:
    parse_spec(document(engine="etcd", version=version))


def test_name_of_another_clusters_service_is_refused_on_kubernetes() -> None:
    with pytest.raises(InvalidCluster, match=r"^metadata.name: must not end in -peers"):
        parse_spec({**document(), "metadata": {"name": "demo-peers"}})


# Objects of the API server.


def test_object_is_read_without_its_status_and_with_whatever_metadata_there_is() -> None:
    metadata = {"name": "demo", "namespace": "prod", "uid": "u", "generation": 3, "managedFields": [{}]}
    cluster = parse_spec({**document(replicas=5), "metadata": metadata, "status": {"illegible": True}})
    assert cluster.status is None
    assert (cluster.metadata.namespace, cluster.metadata.uid) == ("prod", "u")


MEMBER = {"name": "demo-0", "healthy": True, "state": "Serving"}


@pytest.mark.parametrize(
    ("status", "read"),
    [
        ({}, Status()),
        (None, Status()),
        ("broken", Status()),
        ({"clusterID": "c1", "futureField": {"a": [1]}}, Status(cluster_id="c1")),
        ({"clusterID": "c1", "replicas": "three"}, Status(cluster_id="c1")),
        ({"clusterID": "c1", "conditions": [{"type": "Ready"}]}, Status(cluster_id="c1")),
        ({"clusterID": 17, "leader": "demo-0"}, Status(leader="demo-0")),
        ({"clusterID": "c1", "members": "none"}, Status(cluster_id="c1")),
    ],
)
def test_status_of_another_operator_is_read_as_far_as_it_can_be(status: object, read: Status) -> None:
    assert status_of({**document(), "status": status}) == read


def test_members_of_an_illegible_status_are_read_one_by_one() -> None:
    members = [
        {**MEMBER, "flavour": "new"},
        {"name": "demo-1"},
        {**MEMBER, "name": "demo-2", "revision": "many", "id": "f1"},
    ]
    found = status_of({**document(), "status": {"members": members}})
    assert [(one.name, one.id, one.revision) for one in found.members] == [
        ("demo-0", None, None),
        ("demo-2", "f1", None),
    ]


def test_reading_a_status_changes_nothing_of_the_object() -> None:
    raw = {**document(), "status": {"clusterID": "c1", "future": 1}}
    status_of(raw)
    assert raw["status"] == {"clusterID": "c1", "future": 1}
