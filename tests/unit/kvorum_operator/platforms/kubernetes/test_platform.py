"""How many pods there are to be, whose an object is, and what the API server's refusals mean."""

from dataclasses import replace
from typing import Any

import pytest
from kvorum_operator.platforms.kubernetes.apply import why_not_ours
from kvorum_operator.platforms.kubernetes.client import Conflict, Refused
from kvorum_operator.platforms.kubernetes.observe import Sight
from kvorum_operator.platforms.kubernetes.platform import (
    is_immutable,
    replicas_kept,
    replicas_reached,
    require_in_time,
)
from kvorum_operator.reconcile import StepFailed

from tests.unit.kvorum_operator.objects.clusters import UID, cluster, situation

THREE = "plan replicas=3\nrecord kv-0 kv-1 kv-2\nkv-0 leader\nkv-1 follower\nkv-2 follower"
SILENT = replace(situation(THREE), entries=None, answered={})


def sight(replicas: int) -> Sight:
    return Sight({"metadata": {}, "spec": {"replicas": replicas}})


def owner(kind: str, name: str, uid: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "name": name, "uid": uid, "controller": True}


def test_pods_above_the_member_list_go_and_more_only_a_step_makes() -> None:
    seen = situation(THREE)
    assert replicas_kept(cluster(replicas=3), seen, sight(5)) == 3
    assert replicas_kept(cluster(replicas=3), seen, sight(3)) == 3
    assert replicas_kept(cluster(replicas=5), seen, sight(2)) == 2
    assert replicas_kept(cluster(replicas=1), seen, sight(3)) == 3  # still members: they go one at a time


def test_without_a_member_list_no_pod_goes() -> None:
    assert replicas_kept(cluster(replicas=3), SILENT, sight(5)) == 5
    assert replicas_kept(cluster(replicas=3), SILENT, sight(50)) == 9  # there are no names for more


def test_of_a_cluster_with_two_ids_no_pod_goes() -> None:
    split = replace(situation(THREE), latched_cluster_id=0xBAD)
    assert len(split.cluster_ids) == 2
    assert replicas_kept(cluster(replicas=3), split, sight(5)) == 5


@pytest.mark.parametrize(
    ("replicas", "startable", "refused", "reached"),
    [
        (0, [0, 1, 2], [], 3),
        (0, [0, 1], [2], 2),
        (0, [1, 2], [0], 0),  # theirs would come along
        (0, [0, 2], [1], 1),
        (3, [0, 2], [1], 3),  # it is there already
        (3, [3], [1], 4),
        (3, [1], [], 3),
    ],
)
def test_no_pod_is_made_on_a_volume_that_was_refused(
    replicas: int, startable: list[int], refused: list[int], reached: int
) -> None:
    assert replicas_reached(replicas, startable, refused) == reached


def test_sleep_is_a_step_and_nothing_that_objects_do() -> None:
    assert replicas_kept(cluster(replicas=0), situation(THREE), sight(3)) == 3
    assert replicas_kept(cluster(replicas=0), situation(THREE), Sight(pods={"kv-0": {}})) == 0


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ({"labels": {"kvorum.dev/cluster": "kv"}}, ""),
        ({"ownerReferences": [owner("KVCluster", "kv", UID)]}, ""),
        ({}, "it has no label kvorum.dev/cluster=kv"),
        ({"labels": {"kvorum.dev/cluster": "other"}}, "it has no label kvorum.dev/cluster=kv"),
        (
            {"labels": {"kvorum.dev/cluster": "kv"}, "ownerReferences": [owner("Deployment", "web", "x")]},
            "Deployment web controls it",
        ),
        (
            {"labels": {"kvorum.dev/cluster": "kv"}, "ownerReferences": [owner("KVCluster", "kv", "x")]},
            "it belongs to a KVCluster of this name that was deleted, and goes with that",
        ),
    ],
)
def test_object_is_ours_by_its_owner_else_by_its_label(metadata: dict[str, Any], why: str) -> None:
    assert why_not_ours({"metadata": metadata}, cluster()) == why


FORBIDDEN = "Forbidden: updates to statefulset spec for fields other than 'replicas', 'template' are forbidden"
IMMUTABLE = 'Invalid value: "other": field is immutable'
UNSUPPORTED = 'Unsupported value: "Never": supported values: "Always"'


@pytest.mark.parametrize(
    ("refusal", "anew"),
    [
        (Refused("patch", 422, "Invalid", "", (FORBIDDEN,)), True),
        (Refused("patch", 422, "Invalid", "", (IMMUTABLE, IMMUTABLE)), True),
        (Refused("patch", 422, "Invalid", "", (IMMUTABLE, UNSUPPORTED)), False),  # there would be none afterwards
        (Refused("patch", 422, "Invalid", ""), False),
        (Refused("patch", 403, "Forbidden", IMMUTABLE, (IMMUTABLE,)), False),  # a webhook's
        (Conflict("patch", 409, "Conflict", "", (IMMUTABLE,)), False),
        (None, False),
    ],
)
def test_only_what_cannot_be_changed_makes_a_stateful_set_anew(refusal: Exception | None, anew: bool) -> None:
    assert is_immutable(refusal) is anew


def test_claim_that_stays_too_long_is_told_with_what_keeps_it() -> None:
    going = {
        "metadata": {
            "name": "data-kv-1",
            "deletionTimestamp": "2026-11-25T20:00:00Z",
            "finalizers": ["kubernetes.io/pvc-protection"],
        }
    }
    require_in_time(going, 1_795_636_800.0 + 30)
    with pytest.raises(StepFailed, match=r"data-kv-1 is still being deleted.*kubernetes.io/pvc-protection"):
        require_in_time(going, 1_795_636_800.0 + 31)
