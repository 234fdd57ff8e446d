"""Etcds and ours bootstrapped as one new cluster: the same log from its first entry on, whoever leads.

Joining a cluster that exists is test_mixed_member.py's.
"""

import asyncio
import shutil
from pathlib import Path

import pytest
from kvorum.client import Client, ClientError
from kvorum.raft.message import Entry
from kvorum.storage.wal import Wal

from tests.compat.test_mixed_member import changed, equal, puts, written
from tests.kit.deadline import wait_until_async
from tests.kit.processes import Cluster, Node, Program

LEADER_S = 30.0


@pytest.mark.parametrize("etcds", [1, 2], ids=["one-etcd-and-two-of-ours", "two-etcds-and-one-of-ours"])
def test_etcds_and_ours_are_born_as_one_cluster(
    reference: Program, subject: Program, etcds: int, tmp_path: Path
) -> None:
    programs = [reference] * etcds + [subject] * (3 - etcds)
    with Cluster(programs, tmp_path) as cluster:
        asyncio.run(one_life(cluster))
    logs = [log_of(node, tmp_path) for node in cluster.nodes]
    ends = [log[-1].index for log in logs]
    for entries in zip(*logs, strict=False):  # to the end of the shortest
        assert len(set(map(essence, entries))) == 1, f"{entries} at the same place in {ends}"
    assert [entry.type for entry in logs[0][:4]] == [1, 1, 1, 0]  # the members, then the first leader's empty entry
    assert [(entry.term, entry.index) for entry in logs[0][:3]] == [(1, 1), (1, 2), (1, 3)]
    assert min(ends) > 100


def essence(entry: Entry) -> tuple[int, int, int, bytes]:
    return entry.term, entry.index, int(entry.type), entry.data


def log_of(node: Node, folder: Path) -> list[Entry]:
    """The entries in a log that nobody uses any more, from a copy: a reader repairs what it finds torn."""
    copy = folder / f"wal-of-{node.name}"
    shutil.copytree(node.data_dir / "member" / "wal", copy)
    wal, replay = Wal.open(copy)
    wal.close()
    return replay.entries


async def one_life(cluster: Cluster) -> None:
    async with Client(cluster.endpoints, timeout_s=10) as client:
        ids = {node.name: (await client.status(node.endpoint)).member_id for node in cluster.nodes}
        listed = {member.name: member.id for member in await client.members()}
        assert listed == ids
        await client.lease_grant(3600, 77)
        await client.put(b"leased", b"", lease=77)
        for leader in cluster.nodes:
            await led_by(client, cluster, leader, ids[leader.name])
            # All three serve: each takes writes and reads while this one leads.
            for node in cluster.nodes:
                async with Client([node.endpoint], timeout_s=10) as one:
                    await wait_until_async(
                        lambda one=one, node=node: puts(one, b"by " + node.name.encode(), b""),  # type: ignore[misc]  # bound
                        LEADER_S,
                        f"{node.name} takes a write",
                    )
                    await written(one, 0, 15)
                    assert (await one.lease_keepalive(77)) == 3600
            await equal(client, cluster.nodes)
        await client.compact(40, physical=True)
        await equal(client, cluster.nodes)
        # A member joins and leaves again: the list changes on all three.
        added = await changed(lambda: client.member_add(["http://127.0.0.1:9"], learner=True), "a learner is added")
        await equal(client, cluster.nodes)
        await changed(lambda: client.member_remove(added.id), "it is removed")  # type: ignore[attr-defined]  # a Member
        await equal(client, cluster.nodes)


async def led_by(client: Client, cluster: Cluster, leader: Node, leader_id: int) -> None:
    async def told_by_all() -> bool:
        return {(await client.status(node.endpoint)).leader for node in cluster.nodes} == {leader_id}

    async def moved() -> bool:
        if await told_by_all():
            return True
        try:
            await client.move_leader(leader_id)
        except ClientError:  # between two leaders, or it leads and not all have heard of it
            return False
        return await told_by_all()

    await wait_until_async(moved, LEADER_S, f"{leader.describe()} leads")
