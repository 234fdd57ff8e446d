"""Edits of `replicas` under a writer: no acknowledged write is lost, no removed member comes back."""

import asyncio
import json
from pathlib import Path

from kvorum.client import Client

from tests.e2e.local_operator import LocalCluster, local_cluster
from tests.e2e.writer import Writer, assert_nothing_lost

SIZES = (3, 5, 3, 5, 1, 0, 3)


def member_ids(cluster: LocalCluster) -> dict[str, str]:
    return {one["name"]: one["id"] for one in cluster.status()["members"]}


def assert_only_members_have_data(cluster: LocalCluster, size: int) -> None:
    """Volumes, processes and the member list name the same members: nothing is left of those removed."""
    names = {f"{cluster.name}-{ordinal}" for ordinal in range(size)}
    assert cluster.volumes() == names
    assert set(cluster.pids()) == names
    for name, member_id in member_ids(cluster).items():
        labels = json.loads((cluster.state / "volumes" / name / "labels.json").read_text())
        assert labels["kvorum.dev/member-id"] == member_id


def test_edits_of_replicas_lose_no_acknowledged_write(engine: str, tmp_path: Path) -> None:
    with local_cluster(tmp_path, engine, replicas=1) as cluster, Writer(cluster.endpoints()) as writer:
        cluster.start()
        cluster.wait_ready(1)
        writer.wait_acknowledged(100)
        cluster_id, used_ids = cluster.status()["clusterID"], set(member_ids(cluster).values())
        for wanted in SIZES:
            before = member_ids(cluster)
            cluster.write(replicas=wanted)
            if wanted == 0:
                cluster.wait(lambda: cluster.condition("Ready").get("reason") == "Asleep", "it sleeps")
                assert cluster.pids() == {}
                assert cluster.volumes() == {f"{cluster.name}-0"}, "the data is kept"
                continue
            cluster.wait_ready(wanted)
            assert cluster.status()["clusterID"] == cluster_id, "the same cluster"
            after = member_ids(cluster)
            for name in before.keys() & after.keys():
                assert before[name] == after[name], f"{name} stayed the member it was"
            for name in after.keys() - before.keys():
                assert after[name] not in used_ids, f"{name} is a new member, never one that was removed"
            used_ids |= set(after.values())
            assert_only_members_have_data(cluster, wanted)
            writer.wait_acknowledged(100)
        writer.stop()
        assert_nothing_lost(writer, cluster.endpoints(SIZES[-1]))
        assert cluster.end() == 0


def test_leader_hands_over_before_it_is_removed(engine: str, tmp_path: Path) -> None:
    async def move_leader_to(name: str, cluster: LocalCluster) -> None:
        async with Client(cluster.endpoints(3), timeout_s=5.0) as client:
            await client.move_leader(int(member_ids(cluster)[name], 16))

    with local_cluster(tmp_path, engine, replicas=3) as cluster:
        cluster.start()
        cluster.wait_ready(3)
        if cluster.status()["leader"] != "c-2":
            asyncio.run(move_leader_to("c-2", cluster))
        cluster.wait(lambda: cluster.status()["leader"] == "c-2", "c-2 leads")
        with Writer(cluster.endpoints(2)) as writer:
            writer.wait_acknowledged(10)
            cluster.write(replicas=1)
            cluster.wait_ready(1)
            writer.wait_acknowledged(10)
        assert "HandOver c-2 to c-0" in cluster.output()
        assert cluster.output().index("HandOver c-2 to c-0") < cluster.output().index("RemoveMember c-2")
        assert_nothing_lost(writer, cluster.endpoints(1))


def test_sleep_and_wake_keep_every_member_and_its_data(engine: str, tmp_path: Path) -> None:
    with local_cluster(tmp_path, engine, replicas=3) as cluster:
        cluster.start()
        cluster.wait_ready(3)
        with Writer(cluster.endpoints(3)) as writer:
            writer.wait_acknowledged(50)
            before = member_ids(cluster)
            cluster.write(replicas=0)
            cluster.wait(lambda: cluster.condition("Ready").get("reason") == "Asleep", "it sleeps")
            assert cluster.pids() == {}
            assert set(cluster.volumes()) == set(before)
            cluster.write(replicas=3)
            cluster.wait_ready(3)
            writer.wait_acknowledged(50)
        assert member_ids(cluster) == before
        assert "AddLearner" not in cluster.output()
        assert_nothing_lost(writer, cluster.endpoints(3))
