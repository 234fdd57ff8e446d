"""Each reason is reached by a situation and left by the next one: none is for decoration, none sticks."""

import pytest
from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import Status
from kvorum_operator.cluster import status as statuses
from kvorum_operator.cluster.diagnosis import diagnose
from kvorum_operator.cluster.plan import plan
from kvorum_operator.cluster.step import Hold

from tests.unit.kvorum_operator.cluster.situations import read_situation

THREE = "plan replicas=3\nkv-0 leader\nkv-1 follower\nkv-2 follower"

REACHED_AND_LEFT = {
    Reason.HEALTHY: (THREE, THREE + " silent=4m"),
    Reason.ASLEEP: (
        "plan replicas=0 list=unknown\nkv-0 follower down",
        "plan replicas=1 list=unknown\nkv-0 follower down",
    ),
    Reason.FALLING_ASLEEP: ("plan replicas=0\nkv-0 leader", "plan replicas=0 list=unknown\nkv-0 follower down"),
    Reason.NEVER_BOOTSTRAPPED: ("plan replicas=0 no-id list=unknown", "plan replicas=1 no-id list=unknown"),
    Reason.BOOTSTRAPPING: (
        "plan replicas=1 no-id list=unknown\nrecord kv-0",
        "plan replicas=1\nrecord kv-0\nkv-0 leader",
    ),
    Reason.WAKING: ("plan replicas=1 list=unknown\nkv-0 follower silent=1s", "plan replicas=1\nkv-0 leader"),
    Reason.CHANGING_MEMBERS: (
        "plan replicas=2\nkv-0 leader\nkv-1 added",
        "plan replicas=2\nkv-0 leader\nkv-1 follower",
    ),
    Reason.LEARNER_BEHIND: (
        "plan replicas=2\nkv-0 leader\nkv-1 learner log=50%",
        "plan replicas=2\nkv-0 leader\nkv-1 learner",
    ),
    Reason.HANDING_OVER: (
        "plan replicas=1\nhand-overs kv-1 1 500ms\nkv-0 follower\nkv-1 leader",
        "plan replicas=1\nkv-0 leader\nkv-1 follower",
    ),
    Reason.MIGRATING: (
        "plan replicas=3 engine=etcd\nkv-0 leader\nkv-1 follower\nkv-2 follower of=etcd behind=6000",
        "plan replicas=3 engine=etcd\nkv-0 leader of=etcd\nkv-1 follower of=etcd\nkv-2 follower of=etcd",
    ),
    Reason.TOO_FEW_MEMBERS: (
        "plan replicas=1 engine=etcd\nkv-0 leader",
        "plan replicas=3 engine=etcd\nkv-0 leader\nkv-1 follower\nkv-2 follower",
    ),
    Reason.ROLLING: (THREE + " outdated", THREE),
    Reason.IMAGE_UNAVAILABLE: (THREE + " held-up=ImageUnavailable,ErrImagePull", THREE),
    Reason.POD_REFUSED: (THREE + " held-up=PodRefused,exceeded_quota", THREE),
    Reason.POD_UNSCHEDULABLE: (THREE + " held-up=PodUnschedulable,0/3_nodes_are_available", THREE),
    Reason.MEMBERS_SHARE_NODE: (
        "plan replicas=2\nkv-0 leader host=m1\nkv-1 follower host=m1",
        "plan replicas=2\nkv-0 leader host=m1\nkv-1 follower host=m2",
    ),
    Reason.SPREAD_OUT: (
        "plan replicas=2\nkv-0 leader host=m1\nkv-1 follower host=m2",
        "plan replicas=2\nkv-0 leader host=m1\nkv-1 follower host=m1",
    ),
    Reason.CHANGE_PENDING: (
        "plan replicas=2\nkv-0 leader\nkv-8 added elsewhere",
        "plan replicas=2\nkv-0 leader\nkv-8 follower elsewhere",
    ),
    Reason.PAUSED: ("plan replicas=3 paused\nkv-0 leader", "plan replicas=3\nkv-0 leader"),
    Reason.NODE_BLOCKED: (THREE + " blocked=taken", THREE + " down"),
    Reason.RECORD_DAMAGED: (
        "plan replicas=1 no-id list=unknown\nrecord-damaged",
        "plan replicas=1 no-id list=unknown\nrecord kv-0",
    ),
    Reason.FOREIGN_VOLUME: (
        "plan replicas=2\nkv-0 leader\nkv-1 nobody down foreign-volume",
        "plan replicas=2\nkv-0 leader",
    ),
    Reason.MEMBER_DOWN: (
        "plan replicas=5 paused\nkv-0 leader\nkv-1 follower\nkv-2 follower\nkv-3 follower\nkv-4 follower down",
        "plan replicas=5 paused\nkv-0 leader\nkv-1 follower\nkv-2 follower\nkv-3 follower\nkv-4 follower",
    ),
    Reason.MEMBER_FAILING: (THREE + " failing=3,2s", THREE),
    Reason.MEMBER_UNREACHABLE: (THREE + " silent=4m", THREE),
    Reason.MEMBER_BEHIND: (
        "plan replicas=1\nkv-0 leader\nkv-1 follower behind=9000\nkv-2 follower",
        "plan replicas=1\nkv-0 leader\nkv-1 follower\nkv-2 follower",
    ),
    Reason.MEMBER_DATA_LOST: ("plan replicas=1 list=unknown\nbefore kv-0", THREE + " down no-volume"),
    Reason.QUORUM_AT_RISK: (THREE + " silent=4m", THREE),
    Reason.QUORUM_LOST: ("plan replicas=1 list=unknown\nkv-0 follower silent=4m", "plan replicas=1\nkv-0 leader"),
    Reason.CLUSTER_ID_MISMATCH: (THREE + " other-cluster", THREE),
}
# Reached by what is outside of a situation; tests elsewhere.
ELSEWHERE = {
    Reason.STOPPED: "tests/e2e/test_local_failures.py",
    Reason.SPEC_MISSING: "tests/e2e/test_local_document.py",
    Reason.SPEC_INVALID: "tests/e2e/test_local_document.py",
    Reason.OBJECT_REFUSED: "test_reconcile.py",
    Reason.CLUSTER_UNSETTLED: "members/test_asking.py",
    Reason.REQUEST_REFUSED: "members/test_asking.py",
}


def reasons(question: str) -> set[str]:
    """Every reason that the status of a situation gives."""
    spec, seen = read_situation(question)
    diagnosis, decision = diagnose(spec, seen), plan(spec, seen)
    status = statuses.compose("kv", spec, seen, diagnosis, decision, Status(), generation=1)
    found = {one.reason for one in status.conditions}
    return found | {decision.reason} if isinstance(decision, Hold) else found


@pytest.mark.parametrize("reason", REACHED_AND_LEFT)
def test_reason_is_reached_and_left(reason: Reason) -> None:
    reached, left = REACHED_AND_LEFT[reason]
    assert reason in reasons(reached)
    assert reason not in reasons(left)


def test_there_is_no_reason_without_a_test() -> None:
    assert set(REACHED_AND_LEFT) | set(ELSEWHERE) == set(Reason)
