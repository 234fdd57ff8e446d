"""Pods, volumes and statuses that are lost: what comes back by itself, what is repaired, and what never is."""

import asyncio
from collections.abc import Iterator

import pytest
from kvorum.client import Client, ClientError

from tests.kubernetes.changes import lose, under_writer, wait_replaced
from tests.kubernetes.cluster import Cluster, Sentinel, takes_writes
from tests.kubernetes.stage import Stage

STORAGE = {"className": "network"}
EMPTY = "import shutil; shutil.rmtree('/var/lib/kvorum/data')"


@pytest.fixture(scope="module")
def three(stage: Stage) -> Iterator[Cluster]:
    with stage.cluster("lossy") as cluster:
        cluster.apply(replicas=3, storage=STORAGE)
        yield cluster


@pytest.fixture
def ready(stage: Stage, three: Cluster) -> Cluster:
    stage.ensure_operator()
    three.wait_ready(3)
    return three


def wait_remade(cluster: Cluster, before: dict[str, str], names: set[str]) -> None:
    """Just those pods are new, and all is well."""

    def remade() -> bool:
        now = cluster.uids()
        return now.keys() == before.keys() and {name for name in now if now[name] != before[name]} == names

    cluster.wait(remade, f"just {sorted(names)} are made anew")
    cluster.wait_ready(len(before))


def test_deleted_pods_are_back_without_a_membership_change(ready: Cluster) -> None:
    """One after the other, then two by force, then all at once."""
    ids = ready.member_ids()
    with under_writer(ready) as writer:
        for name in sorted(ids):
            before = ready.uids()
            ready.delete_pod(name)
            wait_remade(ready, before, {name})
        assert writer.failed == [], "one pod at a time is no interruption"
        for names in ({"lossy-0", "lossy-1"}, set(ids)):
            before = ready.uids()
            for name in names:
                ready.delete_pod(name, grace_s=0)
            wait_remade(ready, before, names)
            writer.wait_acknowledged(20)
    assert ready.member_ids() == ids


def test_lost_status_is_written_anew_and_nothing_is_bootstrapped(ready: Cluster, stage: Stage) -> None:
    """As backup tools restore it: the object without its status, the volumes there."""
    ids, uids, sentinel = ready.member_ids(), ready.uids(), Sentinel(ready)
    cluster_id = ready.status()["clusterID"]
    stage.operator.end()
    ready.api.patch("kvclusters", ready.namespace, ready.name, {"status": None}, part="/status")
    assert ready.status() == {"observedGeneration": -1}, "what the API server makes of none"
    stage.ensure_operator()
    ready.wait_ready(3)
    assert (ready.status()["clusterID"], ready.member_ids(), ready.uids()) == (cluster_id, ids, uids)
    sentinel.check()


def test_volume_that_is_emptied_beneath_its_pod_is_no_reason_to_start_empty(ready: Cluster, stage: Stage) -> None:
    """Kubernetes makes a new claim for a pod that lost its own: such a member never serves from it."""
    victim = next(name for name, one in ready.members().items() if one["role"] == "follower")
    ids = ready.member_ids()
    with under_writer(ready):
        stage.operator.end()  # so that nobody but Kubernetes itself acts
        lose(ready, victim)
        ready.wait(
            lambda: ready.volumes().get(victim, {}).get("metadata", {}).get("labels", {}).get("kvorum.dev/fresh"),
            "Kubernetes made another volume",
        )
        ready.wait(lambda: not said_to_serve(ready, victim), "it does not serve from an empty volume", 30)
        stage.ensure_operator()
        wait_replaced(ready, victim, ids)


def test_member_whose_data_is_gone_from_its_volume_is_replaced_by_its_own_word(ready: Cluster) -> None:
    """The claim is the same; the node, started anew, says that it has lost its data."""
    victim = next(name for name, one in ready.members().items() if one["role"] == "follower")
    ids, pod = ready.member_ids(), ready.uids()[victim]
    with under_writer(ready):
        ready.api.kubectl("exec", victim, "-n", ready.namespace, "--", "python", "-c", EMPTY)
        ready.delete_pod(victim, grace_s=0)
        wait_replaced(ready, victim, ids)
    assert ready.uids()[victim] != pod
    told = [one["message"] for one in ready.events() if one["reason"] == "RemoveMember"]
    assert any(f"the data of {victim} is lost" in message for message in told), told


def said_to_serve(cluster: Cluster, name: str) -> bool:
    """Whether the member answers a linearizable read: it is a voter that follows."""
    pod = cluster.pods().get(name, {})
    address = pod.get("status", {}).get("podIP")
    if not address:
        return False

    async def read() -> None:
        async with Client([f"http://{address}:2379"], timeout_s=1.0) as client:
            await client.range(b"x")

    try:
        asyncio.run(read())
    except ClientError:
        return False
    return True


def test_without_a_quorum_nobody_is_replaced_and_who_comes_back_brings_it_up(stage: Stage) -> None:
    """A quota keeps two pods of three away, and the data of one is gone: the one that is left decides nothing."""
    stage.ensure_operator()
    with stage.cluster("minority", stage.narrow) as cluster:
        cluster.apply(replicas=3, storage=STORAGE)
        cluster.wait_ready(3)
        ids, sentinel = cluster.member_ids(), Sentinel(cluster)
        with stage.quota(pods=1):
            cluster.delete_pod("minority-1")
            cluster.wait(lambda: "minority-1" not in cluster.pods(), "one is gone, and another would be too many")
            lose(cluster, "minority-2")
            message = cluster.wait_reason("Available", "QuorumLost")
            cluster.keep("quorum-lost")
            print(f"Available: {message}")
            cluster.wait(
                lambda: cluster.members()["minority-2"]["state"] == "DataLost", "the loss of minority-2's data is seen"
            )
            assert cluster.member_ids().items() <= ids.items(), "nobody is replaced without a quorum"
            assert not takes_writes(cluster.endpoint("minority-0"))
            steps = {
                str((status.get("plan") or {}).get("next", "")).split(" ")[0]
                for at_s, status in cluster.chronicle.statuses
            }
            assert not steps & {"RemoveMember", "Discard", "AddLearner"}
        wait_replaced(cluster, "minority-2", ids)
        sentinel.check()
