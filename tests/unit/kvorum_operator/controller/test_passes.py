"""When a cluster is looked at again, and the status of one that cannot be read. The passes themselves are tested on a
real Kubernetes."""

import asyncio
import logging
import time
from typing import Any, NoReturn

import pytest
from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import Status
from kvorum_operator.cluster.diagnosis import diagnose
from kvorum_operator.cluster.status import unreadable
from kvorum_operator.cluster.step import AddLearner, Hold
from kvorum_operator.controller.news import News
from kvorum_operator.controller.passes import (
    CONFLICT_S,
    CONFLICTS_MAX,
    MOVING_S,
    SEEN_S_MAX,
    SETTLED_S,
    Passes,
    TooLate,
    moving_s,
)
from kvorum_operator.controller.work_queue import Failed, Key
from kvorum_operator.metrics import Metrics
from kvorum_operator.objects.images import Images
from kvorum_operator.platforms.kubernetes.client import Client, Conflict
from kvorum_operator.reconcile import Fenced, Outcome, unfenced

from tests.unit.kvorum_operator.cluster.situations import read_situation

HELD = Hold(Reason.SPEC_INVALID, "spec.replicas: must be at most 9 (it is 10)", "spec to be put right")


def conditions(status: Status) -> dict[str, tuple[str, str, str]]:
    return {one.type: (one.status, one.reason, one.last_transition_time) for one in status.conditions}


def test_what_is_under_way_is_looked_at_each_second_and_less_often_the_longer_nothing_changes() -> None:
    assert moving_s(0, None, SETTLED_S) == moving_s(10, None, SETTLED_S) == MOVING_S
    assert moving_s(100, None, SETTLED_S) == 10
    assert moving_s(86_400, None, SETTLED_S) == SETTLED_S


def test_wait_that_ends_by_itself_is_looked_at_when_it_ends() -> None:
    assert moving_s(86_400, 7, SETTLED_S) == 7
    assert moving_s(86_400, -5, SETTLED_S) == MOVING_S


def test_document_that_cannot_be_read_says_so_and_what_is_not_known() -> None:
    status = unreadable(Status(), HELD, generation=4, now_s=0)
    assert status.observed_generation == 4
    assert status.plan is not None
    assert "must be at most 9" in status.plan.because
    assert {kind: one[:2] for kind, one in conditions(status).items()} == {
        "Ready": ("False", "SpecInvalid"),
        "Reconciling": ("False", "SpecInvalid"),
        "Stalled": ("True", "SpecInvalid"),
        "Available": ("Unknown", "SpecInvalid"),
        "Progressing": ("False", "SpecInvalid"),
        "Degraded": ("Unknown", "SpecInvalid"),
    }


def test_what_was_known_of_a_cluster_stays_when_its_document_cannot_be_read() -> None:
    before = Status(cluster_id="abc", replicas=3, endpoints=("http://demo-0:2379",))
    status = unreadable(before, HELD, generation=4, now_s=0)
    assert (status.cluster_id, status.replicas, status.endpoints) == ("abc", 3, ("http://demo-0:2379",))


def test_condition_keeps_the_instant_of_its_last_change() -> None:
    first = unreadable(Status(), HELD, generation=4, now_s=0)
    assert conditions(unreadable(first, HELD, generation=5, now_s=1000)) == conditions(first)


class FailingClient(Client):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def get(self, *_: Any) -> NoReturn:
        raise self._error


def passes_that_fail_by(error: Exception) -> Passes:
    client = FailingClient(error)
    return Passes(client, Images("kvorum:1"), News(client, "me", time.monotonic), Metrics(), unfenced)


def test_pass_that_was_fenced_is_made_again_should_the_operator_still_lead() -> None:
    assert asyncio.run(passes_that_fail_by(Fenced("the Lease is late")).run(Key("prod", "kv"))) == MOVING_S


def test_race_that_is_lost_again_and_again_is_a_failure() -> None:
    async def case() -> None:
        passes = passes_that_fail_by(Conflict("patch", 409, "Conflict", "the object has been modified"))
        for _ in range(CONFLICTS_MAX):
            assert await passes.run(Key("prod", "kv")) == CONFLICT_S
        with pytest.raises(Failed):
            await passes.run(Key("prod", "kv"))

    asyncio.run(case())


def test_step_that_members_refuse_again_and_again_is_logged_once_and_no_warning_if_it_only_comes_early(
    caplog: pytest.LogCaptureFixture,
) -> None:
    early = Hold(Reason.CLUSTER_UNSETTLED, "AddLearner kv-1: the members are not ready for it yet", "5s")
    refused = Hold(Reason.REQUEST_REFUSED, "AddLearner kv-1 was refused: permission denied", "the members to take it")
    step = AddLearner(name="kv-1", peer_url="http://kv-1:2380", because="spec.replicas is 3")
    caplog.set_level(logging.INFO)
    key, metrics, client = Key("prod", "kv"), Metrics(), Client()
    passes = Passes(client, Images("kvorum:1"), News(client, "me", time.monotonic), metrics, unfenced)
    kept = passes._keep(key, {"metadata": {"uid": "u"}})
    spec, seen = read_situation("plan replicas=3\nkv-0 leader")
    for hold in (*(12 * [early]), None, early, refused, refused):
        passes._count(key, kept, Outcome(seen, diagnose(spec, seen), step, hold, Status()))
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert told == [
        ("INFO", "a step was not done"),
        ("INFO", "spec.replicas is 3"),
        ("INFO", "a step was not done"),
        ("WARNING", "a step was not done"),
    ]


def test_nothing_is_done_by_what_was_seen_long_ago() -> None:
    async def case() -> None:
        clock_s, client = [100.0], Client()
        news = News(client, "me", time.monotonic)
        passes = Passes(client, Images("kvorum:1"), news, Metrics(), unfenced, lambda: clock_s[0])
        kept = passes._keep(Key("prod", "kv"), {"metadata": {"uid": "u"}})
        kept.began_s = clock_s[0]
        clock_s[0] += SEEN_S_MAX
        kept.reconciler.fence()
        clock_s[0] += 1
        with pytest.raises(TooLate, match="seen 21s ago"):
            kept.reconciler.fence()

    asyncio.run(case())
