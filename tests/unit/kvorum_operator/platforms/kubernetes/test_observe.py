"""What is seen of one cluster's objects: nodes that are there or will be, volumes, the record, and complaints."""

from dataclasses import replace
from typing import Any

import pytest
from kvorum_operator.api.reasons import Reason
from kvorum_operator.cluster.observation import HeldUp, Record
from kvorum_operator.platforms.kubernetes.observe import EVENT_AGE_S_MAX, Sight, event_s, record_of, scene_of

from tests.unit.kvorum_operator.objects.clusters import UID, cluster

NOW_S = 1_795_636_800.0
NOW = "2026-11-25T20:00:00Z"
LABELS = {"kvorum.dev/cluster": "kv"}
REFUSAL = (
    'create Pod kv-1 in StatefulSet kv failed error: pods "kv-1" is forbidden: exceeded quota: q, requested: pods=1'
)


def stateful_set(replicas: int = 3, *, observed: int = 2) -> dict[str, Any]:
    return {
        "metadata": {"name": "kv", "uid": "s", "generation": 2},
        "spec": {"replicas": replicas},
        "status": {"observedGeneration": observed, "updateRevision": "kv-5f"},
    }


def pod(name: str, **metadata: Any) -> dict[str, Any]:
    about = {"name": name, "uid": f"uid-{name}", "creationTimestamp": NOW, "labels": LABELS, **metadata}
    running = {"name": "member", "state": {"running": {"startedAt": NOW}}}
    return {"metadata": about, "spec": {"nodeName": "node-1"}, "status": {"containerStatuses": [running]}}


def claim(member: str, phase: str = "Bound", **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": f"data-{member}", "uid": f"claim-{member}", "labels": {**LABELS, **labels}},
        "status": {"phase": phase},
    }


def event(uid: str, reason: str, message: str, **times: Any) -> dict[str, Any]:
    return {
        "metadata": {"creationTimestamp": NOW},
        "involvedObject": {"uid": uid},
        "reason": reason,
        "message": message,
        **(times or {"lastTimestamp": NOW}),
    }


def node_of(sight: Sight, name: str) -> Any:
    return scene_of(sight, cluster(), NOW_S).nodes.get(name)


def test_members_have_their_permanent_addresses() -> None:
    addresses = scene_of(Sight(), cluster(), NOW_S).addresses
    assert list(addresses) == [f"kv-{k}" for k in range(9)]
    assert addresses["kv-1"].peer_url == "http://kv-1.kv-peers.prod.svc:2380"


def test_pod_that_is_not_there_is_awaited_only_where_the_stateful_set_makes_it() -> None:
    sight = Sight(stateful_set(2))
    assert node_of(sight, "kv-1").held_up == HeldUp(Reason.WAKING, "its pod is being made")
    assert node_of(sight, "kv-2") is None


def test_without_a_stateful_set_there_are_as_many_as_there_are_pods() -> None:
    assert Sight().replicas == 0
    assert Sight(pods={"kv-0": pod("kv-0"), "kv-2": pod("kv-2")}).replicas == 3


def test_revision_counts_once_the_controller_has_seen_the_latest_template() -> None:
    assert Sight(stateful_set(observed=2)).revision == "kv-5f"
    assert Sight(stateful_set(observed=1)).revision is None
    assert Sight().revision is None


def test_pod_on_a_fresh_claim_is_no_running_member_and_has_no_volume() -> None:
    sight = Sight(stateful_set(), {"kv-1": pod("kv-1")}, {"kv-1": claim("kv-1", **{"kvorum.dev/fresh": "true"})})
    scene = scene_of(sight, cluster(), NOW_S)
    assert not scene.nodes["kv-1"].running
    assert "kv-1" not in scene.volumes


def test_refusal_of_a_pod_is_told_of_the_member_it_names() -> None:
    sight = Sight(stateful_set(), events=(event("s", "FailedCreate", REFUSAL),))
    text = 'its pod is not admitted: pods "kv-1" is forbidden: exceeded quota: q, requested: pods=1'
    assert node_of(sight, "kv-1").held_up == HeldUp(Reason.POD_REFUSED, text)
    assert node_of(sight, "kv-0").held_up.reason is Reason.WAKING


@pytest.mark.parametrize(
    "old",
    [
        event("s", "FailedCreate", REFUSAL, lastTimestamp="2026-11-25T19:00:00Z"),
        event("an earlier one", "FailedCreate", REFUSAL),
        event("s", "SuccessfulCreate", "create Pod kv-1 in StatefulSet kv successful"),
    ],
)
def test_what_was_said_long_ago_or_of_another_is_not_told(old: dict[str, Any]) -> None:
    assert node_of(Sight(stateful_set(), events=(old,)), "kv-1").held_up.text == "its pod is being made"


def test_refusal_of_a_pod_that_was_made_since_is_of_another_time() -> None:
    made = event("s", "SuccessfulCreate", "create Pod kv-1 in StatefulSet kv successful")
    refused = event("s", "FailedCreate", REFUSAL, lastTimestamp="2026-11-25T19:59:00Z")
    assert event_s(refused) < event_s(made)
    sight = Sight(stateful_set(), events=(refused, made))
    assert node_of(sight, "kv-1").held_up == HeldUp(Reason.WAKING, "its pod is being made")
    sight = Sight(
        stateful_set(), events=(event("s", "FailedCreate", REFUSAL), {**made, "lastTimestamp": "2026-11-25T19:59:00Z"})
    )
    assert node_of(sight, "kv-1").held_up.reason is Reason.POD_REFUSED


def test_pod_whose_former_volume_is_still_being_deleted_is_not_refused() -> None:
    going = claim("kv-1")
    going["metadata"]["deletionTimestamp"] = "2026-11-25T20:00:00Z"
    sight = Sight(stateful_set(), claims={"kv-1": going}, events=(event("s", "FailedCreate", REFUSAL),))
    assert node_of(sight, "kv-1").held_up.reason is Reason.WAKING


def test_pod_waits_in_the_words_of_whoever_cannot_make_its_volume_or_its_container() -> None:
    waiting = pod("kv-1")
    waiting["status"] = {"phase": "Pending"}
    unbound = {"kv-1": claim("kv-1", "Pending")}
    said = event("claim-kv-1", "ProvisioningFailed", 'storageclass "gold" not found')
    sight = Sight(stateful_set(), {"kv-1": waiting}, unbound, events=(said,))
    text = 'its volume cannot be made: storageclass "gold" not found'
    assert node_of(sight, "kv-1").held_up == HeldUp(Reason.POD_UNSCHEDULABLE, text)
    said = event("uid-kv-1", "FailedMount", 'secret "x" not found')
    sight = Sight(stateful_set(), {"kv-1": waiting}, {"kv-1": claim("kv-1")}, events=(said,))
    text = 'its container cannot be made: FailedMount: secret "x" not found'
    assert node_of(sight, "kv-1").held_up == HeldUp(Reason.IMAGE_UNAVAILABLE, text)


def test_claim_whose_volume_object_is_gone_is_told_and_still_a_volume() -> None:
    waiting, lost = pod("kv-1"), claim("kv-1", "Lost")
    waiting["status"] = {"phase": "Pending"}
    lost["spec"] = {"volumeName": "pvc-7"}
    scene = scene_of(Sight(stateful_set(), {"kv-1": waiting}, {"kv-1": lost}), cluster(), NOW_S)
    held = scene.nodes["kv-1"].held_up
    assert held == HeldUp(Reason.POD_UNSCHEDULABLE, "its claim is Lost: PersistentVolume pvc-7 is gone")
    assert scene.volumes["kv-1"].ours


def test_volume_that_was_kept_of_another_engine_starts_nobody_and_is_not_replaced() -> None:
    """A KVCluster that is deleted, and applied again with another engine, by mistake perhaps."""
    sight = Sight(claims={"kv-1": claim("kv-1", **{"kvorum.dev/engine": "etcd"}), "kv-2": claim("kv-2")})
    scene = scene_of(sight, cluster(), 0.0)
    assert set(scene.blocked) == {"kv-1"}
    assert "was made for engine etcd, and spec.engine is kvorum" in scene.blocked["kv-1"]
    assert scene.engine_blocked


def test_member_that_runs_is_held_up_by_no_old_complaint() -> None:
    said = event("uid-kv-1", "FailedMount", 'secret "x" not found')
    sight = Sight(stateful_set(), {"kv-1": pod("kv-1")}, {"kv-1": claim("kv-1")}, events=(said,))
    assert node_of(sight, "kv-1").held_up is None


@pytest.mark.parametrize(
    "times",
    [
        {"lastTimestamp": NOW, "eventTime": None},
        {"lastTimestamp": None, "eventTime": "2026-11-25T19:00:00.123456Z", "series": {"lastObservedTime": NOW}},
        {"lastTimestamp": None, "eventTime": "2026-11-25T20:00:00.000000Z"},
        {"lastTimestamp": None, "eventTime": None},
    ],
)
def test_event_happened_last_when_either_of_the_apis_says_so(times: dict[str, Any]) -> None:
    assert event_s(event("s", "FailedCreate", "", **times)) == NOW_S
    assert EVENT_AGE_S_MAX > 600  # the StatefulSet controller may be as long silent between two attempts


def record(data: Any, labels: dict[str, str] | None = None) -> dict[str, Any]:
    found = LABELS if labels is None else labels
    return {"metadata": {"name": "kv-bootstrap", "labels": found}, **({"data": data} if data is not None else {})}


def test_record_is_read_and_one_that_cannot_be_is_never_taken_for_none() -> None:
    assert record_of(None, cluster()) == (None, "")
    assert record_of(record({"token": "t", "members": "kv-0 kv-1"}), cluster()) == (Record("t", ("kv-0", "kv-1")), "")
    for damaged in (None, {}, {"token": "t"}, {"token": "t", "members": "other-0"}):
        found, damage = record_of(record(damaged), cluster())
        assert found is None
        assert damage.startswith("ConfigMap kv-bootstrap is damaged: ")


def test_record_of_somebody_else_is_no_record_and_not_none() -> None:
    found, damage = record_of(record({"token": "t", "members": "kv-0"}, labels={}), cluster())
    assert found is None
    assert "it is not this cluster's" in damage


def test_record_of_a_kvcluster_that_was_deleted_is_no_record_and_not_none() -> None:
    before = {"apiVersion": "kvorum.dev/v1alpha1", "kind": "KVCluster", "name": "kv", "uid": "of-one-before"}
    one = record({"token": "t", "members": "kv-0"})
    one["metadata"]["ownerReferences"] = [before]
    found, damage = record_of(one, cluster())
    assert found is None
    assert "goes with that" in damage
    one["metadata"]["ownerReferences"] = [{**before, "uid": UID}]
    assert record_of(one, cluster()) == (Record("t", ("kv-0",)), "")


def owned(one: dict[str, Any], kind: str, uid: str) -> dict[str, Any]:
    owner = {"kind": kind, "name": "kv", "uid": uid, "controller": True}
    return {**one, "metadata": {**one["metadata"], "ownerReferences": [owner]}}


@pytest.mark.parametrize("left", [None, owned(stateful_set(), "KVCluster", "of-one-before"), stateful_set()])
def test_pod_of_a_kvcluster_that_was_deleted_is_nobody_and_is_not_made_anew(left: dict[str, Any] | None) -> None:
    maker = "s" if left is not None and "ownerReferences" in left["metadata"] else "of-one-before"
    sight = Sight(left, {"kv-0": owned(pod("kv-0"), "StatefulSet", maker)}, {"kv-0": claim("kv-0")})
    node = node_of(sight, "kv-0")
    assert (node.running, node.stopping, node.held_up.reason) == (False, True, Reason.WAKING)
    assert replace(sight, stateful_set=None).replicas == 0


def test_pod_of_the_stateful_set_or_of_none_is_a_member() -> None:
    made = owned(pod("kv-0"), "StatefulSet", "s")
    assert node_of(Sight(owned({**stateful_set()}, "KVCluster", UID), {"kv-0": made}), "kv-0").running
    assert node_of(Sight(None, {"kv-0": pod("kv-0")}), "kv-0").running
