"""Labels of volumes: whose data is on them (I4, I6)."""

from dataclasses import replace

import pytest
from kvorum_operator.api.v1alpha1 import Engine
from kvorum_operator.objects import labels
from kvorum_operator.objects.labels import VolumeLabels

from tests.unit.kvorum_operator.cluster.situations import CLUSTER_ID, id_of, read_situation


def test_volume_of_an_added_member_carries_its_id_from_the_start() -> None:
    _, seen = read_situation("plan replicas=3\nkv-0 leader\nkv-1 added down no-volume")
    assert labels.at_creation("kv-1", Engine.ETCD, seen) == VolumeLabels(CLUSTER_ID, id_of("kv-1"), Engine.ETCD)


def test_volume_of_a_first_member_is_labelled_once_the_cluster_has_formed() -> None:
    _, seen = read_situation("plan replicas=3 no-id list=unknown\nrecord kv-0 kv-1")
    assert labels.at_creation("kv-0", Engine.KVORUM, seen) == VolumeLabels(None, None, Engine.KVORUM)
    _, seen = read_situation(
        "plan replicas=3 no-id\nrecord kv-0 kv-1\nkv-0 leader unlabelled\nkv-1 follower unlabelled of=etcd"
    )
    assert labels.missing(seen) == {
        "kv-0": VolumeLabels(CLUSTER_ID, id_of("kv-0"), Engine.KVORUM),
        "kv-1": VolumeLabels(CLUSTER_ID, id_of("kv-1"), Engine.ETCD),
    }
    _, seen = read_situation(
        "plan replicas=3 no-id list=unknown\nrecord kv-0 kv-1\nkv-0 follower leaderless unlabelled"
    )
    assert labels.missing(seen) == {}


def test_labels_are_never_changed_and_none_is_given_while_two_clusters_answer() -> None:
    _, seen = read_situation("plan replicas=3\nkv-0 leader\nkv-1 follower stale-volume\nkv-2 follower foreign-volume")
    assert labels.missing(seen) == {}
    _, seen = read_situation("plan replicas=3\nkv-0 leader unlabelled\nkv-1 follower other-cluster unlabelled")
    assert labels.missing(seen) == {}


def test_volume_is_not_labelled_by_another_member_that_has_its_address_by_now() -> None:
    _, seen = read_situation("plan replicas=2\nrecord kv-0 kv-1\nkv-0 leader\nkv-1 follower unlabelled")
    assert set(labels.missing(seen)) == {"kv-1"}
    assert labels.missing(replace(seen, answered={"kv-1": seen.answered["kv-0"]})) == {}


# On Kubernetes.

OURS = {"kvorum.dev/cluster": "kv"}


@pytest.mark.parametrize(
    "known",
    [
        VolumeLabels(None, None, None),
        VolumeLabels(0xCDF818194E3A8C32, 0x00F1, Engine.ETCD),
        VolumeLabels(0xC1, None, Engine.KVORUM),
    ],
)
def test_labels_of_a_claim_are_read_back_as_they_were_written(known: VolumeLabels) -> None:
    assert labels.from_labels({**OURS, **labels.to_labels(known)}, "kv") == known


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"app": "kv"},
        {"kvorum.dev/cluster": "other", "kvorum.dev/cluster-id": "c1"},
        {**OURS, "kvorum.dev/cluster-id": "none"},
        {**OURS, "kvorum.dev/cluster-id": "c1", "kvorum.dev/member-id": "kv-0"},
        {**OURS, "kvorum.dev/engine": "redis"},
        {**OURS, "kvorum.dev/fresh": "true"},
    ],
)
def test_claim_that_does_not_say_whose_it_is_is_not_ours(found: dict[str, str]) -> None:
    assert labels.from_labels(found, "kv") is None


def test_claim_of_the_stateful_set_controller_is_told_from_ours() -> None:
    assert labels.is_fresh({**OURS, "kvorum.dev/fresh": "true"})
    assert not labels.is_fresh({**OURS, "kvorum.dev/cluster-id": "c1"})
