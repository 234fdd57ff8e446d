"""Clusters and namespaces that are deleted: what goes, what stays, and that nothing hangs."""

import pytest

from tests.kubernetes.cluster import Sentinel
from tests.kubernetes.stage import Stage, grant, make_namespace, remove_namespace


@pytest.fixture(autouse=True)
def _operator(stage: Stage) -> None:
    stage.ensure_operator()


def test_deletion_policy_delete_takes_the_volumes_and_a_new_cluster_begins_empty(stage: Stage) -> None:
    with stage.cluster("fleeting") as cluster:
        cluster.apply(replicas=3, deletionPolicy="Delete")
        cluster.wait_ready(3)
        cluster_id = cluster.status()["clusterID"]
        cluster.delete()
        cluster.wait(lambda: not cluster.volumes(), "its volumes go with it")
        cluster.wait(
            lambda: not cluster.api.list("configmaps", cluster.namespace, cluster.labels), "its record goes with it"
        )
        cluster.apply(replicas=1, deletionPolicy="Delete")
        cluster.wait_ready(1)
        assert cluster.status()["clusterID"] != cluster_id


def test_cluster_that_is_applied_again_before_all_of_it_is_gone_begins_empty_too(stage: Stage) -> None:
    with stage.cluster("hasty") as cluster:
        cluster.apply(replicas=3, deletionPolicy="Delete")
        cluster.wait_ready(3)
        cluster_id, uids = cluster.status()["clusterID"], cluster.uids()
        cluster.api.delete("kvclusters", cluster.namespace, cluster.name)
        cluster.wait(lambda: cluster.seen() is None, "the KVCluster is gone")
        cluster.apply(replicas=3, deletionPolicy="Delete")
        assert cluster.pods(), "its pods are still there: else the case shows nothing"
        cluster.wait_ready(3, 180)
        assert cluster.status()["clusterID"] != cluster_id
        assert not set(cluster.uids().values()) & set(uids.values())


def test_cluster_that_is_applied_again_before_its_pods_are_gone_has_its_data(stage: Stage) -> None:
    with stage.cluster("hasty-kept") as cluster:
        cluster.apply(replicas=3)
        cluster.wait_ready(3)
        sentinel, ids = Sentinel(cluster), cluster.member_ids()
        cluster.api.delete("kvclusters", cluster.namespace, cluster.name)
        cluster.wait(lambda: cluster.seen() is None, "the KVCluster is gone")
        cluster.apply(replicas=3)
        assert cluster.pods(), "its pods are still there: else the case shows nothing"
        cluster.wait_ready(3, 180)
        assert cluster.member_ids() == ids
        sentinel.check()


def test_deletion_policy_that_goes_back_to_retain_keeps_the_volumes(stage: Stage) -> None:
    with stage.cluster("kept") as cluster:
        cluster.apply(replicas=1, deletionPolicy="Delete")
        cluster.wait_ready(1)
        sentinel, ids = Sentinel(cluster), cluster.member_ids()
        cluster.wait(lambda: owners(cluster.volumes()["kept-0"]), "the volume is owned by the cluster")
        cluster.edit(deletionPolicy="Retain")
        cluster.wait(lambda: not owners(cluster.volumes()["kept-0"]), "the volume is nobody's", 30)
        cluster.delete()
        assert set(cluster.volumes()) == {"kept-0"}
        cluster.apply(replicas=1)
        cluster.wait_ready(1)
        assert cluster.member_ids() == ids
        sentinel.check()
        cluster.edit(replicas=0)
        cluster.wait_reason("Ready", "Asleep")
        cluster.wait(lambda: not cluster.pods(), "no pod runs")
        cluster.edit(replicas=1)
        cluster.wait_ready(1)
        told = [one for one in cluster.events() if one["reason"] == "QuorumLost"]
        assert not told, "who is put on kept volumes, or wakes, has lost no quorum"


def owners(claim: dict[str, dict[str, list[object]]]) -> list[object]:
    return claim["metadata"].get("ownerReferences", [])


def test_deleted_namespace_goes_and_others_are_looked_after_as_before(stage: Stage) -> None:
    with stage.cluster("bystander") as bystander:
        with stage.cluster("doomed", stage.narrow) as doomed:
            doomed.apply(replicas=3)
            doomed.wait_ready(3)
            bystander.apply(replicas=1)
            bystander.wait_ready(1)
            try:
                remove_namespace(stage.api, stage.narrow, 120)
            finally:
                make_namespace(stage.api, stage.narrow)
                grant(stage.api, stage.namespaces)
        stage.ensure_operator()
        bystander.edit(replicas=2)
        bystander.wait_ready(2)
        with stage.cluster("again", stage.narrow) as again:
            again.apply(replicas=1)
            again.wait_ready(1)
