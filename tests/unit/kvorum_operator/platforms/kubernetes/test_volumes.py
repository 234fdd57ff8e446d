"""Claims as volumes: whose they are, when they are none, and what is changed of them."""

from typing import Any

import pytest
from kvorum_operator.api.v1alpha1 import Engine
from kvorum_operator.cluster.observation import Volume
from kvorum_operator.objects.labels import VolumeLabels
from kvorum_operator.platforms.kubernetes import volumes
from kvorum_operator.platforms.kubernetes.volumes import volume_of

from tests.unit.kvorum_operator.objects.clusters import UID, cluster

OURS = {"kvorum.dev/cluster": "kv"}
KNOWN = {**OURS, "kvorum.dev/cluster-id": "c1", "kvorum.dev/member-id": "0a1", "kvorum.dev/engine": "etcd"}
FRESH = {**OURS, "kvorum.dev/fresh": "true"}
CLUSTER = {"apiVersion": "kvorum.dev/v1alpha1", "kind": "KVCluster", "name": "kv"}
OWNER = {**CLUSTER, "uid": UID, "controller": False, "blockOwnerDeletion": False}
THIS = {"name": "data-kv-1", "namespace": "prod", "uid": "c", "resourceVersion": "7"}


def claim(labels: dict[str, str], **metadata: Any) -> dict[str, Any]:
    return {"metadata": {**THIS, "labels": labels, **metadata}}


def pod(uid: str = "p1") -> dict[str, Any]:
    return {"metadata": {"name": "kv-1", "uid": uid}}


@pytest.mark.parametrize(
    ("one", "volume"),
    [
        (claim(OURS), Volume("kv-1")),
        (claim(KNOWN), Volume("kv-1", True, 0xC1, 0xA1, Engine.ETCD)),
        (claim({}), Volume("kv-1", ours=False)),
        ({"metadata": THIS}, Volume("kv-1", ours=False)),
        (claim({"kvorum.dev/cluster": "other"}), Volume("kv-1", ours=False)),
        (claim({**OURS, "kvorum.dev/member-id": "one"}), Volume("kv-1", ours=False)),
        (claim(KNOWN, ownerReferences=[OWNER]), Volume("kv-1", True, 0xC1, 0xA1, Engine.ETCD)),
        (claim(KNOWN, ownerReferences=[{**OWNER, "uid": "of-one-that-was-deleted"}]), Volume("kv-1", ours=False)),
        (claim(FRESH), None),
        (claim(KNOWN, deletionTimestamp="2026-11-25T20:00:00Z"), None),
    ],
)
def test_claim_is_a_volume_as_its_labels_say(one: dict[str, Any], volume: Volume | None) -> None:
    assert volume_of(one, cluster()) == volume


def test_adopted_claim_is_fresh_no_longer_and_names_the_pod_that_was_on_it() -> None:
    patch = volumes.adopted(claim(FRESH), cluster(), VolumeLabels(0xC1, 0xA1, Engine.KVORUM), pod())["metadata"]
    assert THIS.items() <= patch.items()
    assert patch["labels"]["kvorum.dev/fresh"] is None
    assert patch["labels"]["kvorum.dev/member-id"] == "a1"
    assert patch["annotations"] == {volumes.FORMER_POD: "p1"}
    alone = volumes.adopted(claim(FRESH), cluster(), VolumeLabels(None, None, None), None)["metadata"]
    assert alone["annotations"] == {volumes.FORMER_POD: None}


def test_pod_from_before_its_claim_was_a_members_is_told_from_the_one_after() -> None:
    adopted = claim(KNOWN, annotations={volumes.FORMER_POD: "p1"})
    assert volumes.is_before(pod("p1"), adopted)
    assert not volumes.is_before(pod("p2"), adopted)
    assert volumes.is_before(pod("p2"), claim(FRESH))
    assert not volumes.is_before(pod(), claim(OURS))
    assert not volumes.is_before(pod(), None)


def test_volume_that_says_all_is_left_alone() -> None:
    known = VolumeLabels(0xC1, 0x0A1, Engine.ETCD)
    labels = {**KNOWN, "kvorum.dev/member-id": "a1"}
    assert volumes.corrected(claim(labels), cluster(), known) is None
    assert volumes.corrected(claim(labels), cluster(), None) is None


def test_volume_learns_its_ids_and_keeps_its_other_labels() -> None:
    patch = volumes.corrected(claim(OURS), cluster(), VolumeLabels(0xC1, 0xA1, None))
    assert patch == {"metadata": {**THIS, "labels": {"kvorum.dev/cluster-id": "c1", "kvorum.dev/member-id": "a1"}}}


def test_data_goes_with_its_kvcluster_exactly_while_the_policy_says_delete() -> None:
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "y"}
    patch = volumes.corrected(claim(OURS, ownerReferences=[theirs]), cluster(deletionPolicy="Delete"), None)
    assert patch == {"metadata": {**THIS, "ownerReferences": [theirs, OWNER]}}
    owned = claim(OURS, ownerReferences=[theirs, OWNER])
    assert volumes.corrected(owned, cluster(deletionPolicy="Delete"), None) is None
    assert volumes.corrected(owned, cluster(), None) == {"metadata": {**THIS, "ownerReferences": [theirs]}}
