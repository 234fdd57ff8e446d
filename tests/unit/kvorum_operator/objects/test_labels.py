"""Labels of volumes: whose data is on them (I4, I6)."""

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
