"""A value that changed on one member's disk: found at start, by the hour, and after compactions; among etcds, too."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import lmdb
import pytest
from kvorum.client import AlarmType, Client, ClientError

from tests.e2e.standing_aside import require_aside
from tests.kit.deadline import wait_until, wait_until_async
from tests.kit.etcd import EtcdMissing
from tests.kit.processes import Cluster, Node, Program, etcd_program, kvorum_program

QUICK = ("--heartbeat-interval=50", "--election-timeout=500")
ALARM_S = 30.0
CORRUPT = int(AlarmType.CORRUPT)

OURS = (kvorum_program,) * 3
BESIDE_ETCDS = (kvorum_program, etcd_program, etcd_program)
BY_TIME = "--experimental-corrupt-check-time=300ms"
BY_COMPACTION = ("--experimental-compact-hash-check-enabled", "--experimental-compact-hash-check-time=300ms")


def programs(makers: Sequence[object]) -> list[Program]:
    try:
        return [maker() for maker in makers]  # type: ignore[operator]  # functions without arguments
    except EtcdMissing as error:
        pytest.skip(f"NOT RUN: {error}")


async def fill(cluster: Cluster, count: int) -> int:
    """The revision afterwards, which all members have applied."""
    async with Client(cluster.endpoints, timeout_s=10) as client:
        for number in range(count):
            await client.put(b"k%d" % number, b"value")
        revision = (await client.range(b"k", b"l")).header.revision

        async def everywhere() -> bool:
            for node in cluster.nodes:
                async with Client([node.endpoint], timeout_s=10) as one:
                    if (await one.range(b"k", b"l", serializable=True)).header.revision < revision:
                        return False
            return True

        await wait_until_async(everywhere, ALARM_S, "all members have all of it")
    return revision


def flip_a_value(node: Node) -> None:
    """In its tables, while it does not run: what k3 holds now, everything else as before."""
    assert not node.alive
    with lmdb.open(str(node.data_dir / "member" / "store"), max_dbs=16) as env:
        table = env.open_db(b"key")
        with env.begin(write=True) as txn, txn.cursor(table) as cursor:
            key, row = [(key, row) for key, row in cursor if b"\x02k3" in row][-1]
            txn.put(key, row.replace(b"value", b"valve"), db=table)


def alarms(node: Node) -> list[int]:
    async def ask() -> list[int]:
        async with Client([node.endpoint], timeout_s=5) as client:
            try:
                return [int(alarm.type) for alarm in await client.alarms()]
            except ClientError:
                return []

    return asyncio.run(ask())


@pytest.mark.parametrize("makers", [OURS, BESIDE_ETCDS], ids=["three of ours", "beside two etcds"])
def test_a_member_with_other_keys_does_not_start(makers: Sequence[object], tmp_path: Path) -> None:
    with Cluster(programs(makers), tmp_path, flags=QUICK) as cluster:
        asyncio.run(fill(cluster, 20))
        ill, *others = cluster.nodes
        ill.stop()
        ill.flags = (*QUICK, "--experimental-initial-corrupt-check")
        ill.start()
        ill.wait_healthy()  # nothing is wrong yet
        ill.stop()
        flip_a_value(ill)
        ill.log_path.unlink()
        ill.start()
        reason = require_aside(ill, "corrupt", "found data inconsistency with peers", "member remove")
        assert reason.count("revision") == 1
        assert all(node.is_healthy() for node in others)


@pytest.mark.parametrize("makers", [OURS, BESIDE_ETCDS], ids=["three of ours", "beside two etcds"])
@pytest.mark.parametrize("check", ["by time", "by compaction"])
def test_a_flipped_value_raises_the_alarm(makers: Sequence[object], check: str, tmp_path: Path) -> None:
    """Whoever leads compares; ours is the one that is ill, and no alarm comes before it is."""
    flags = (*QUICK, BY_TIME) if check == "by time" else (*QUICK, *BY_COMPACTION)
    with Cluster(programs(makers), tmp_path, flags=flags) as cluster:
        revision = asyncio.run(fill(cluster, 20))
        ill, other = cluster.nodes[:2]
        asyncio.run(compacted(other, revision - 10))
        asyncio.run(fill(cluster, 5))
        assert alarms(other) == []
        ill.stop()
        flip_a_value(ill)
        ill.start()
        ill.wait_serving()
        if check == "by compaction":
            asyncio.run(compacted(other, asyncio.run(fill(cluster, 1))))
        wait_until(lambda: alarms(other) == [CORRUPT], ALARM_S, "the alarm")


@pytest.mark.parametrize("leads", ["ours", "etcd"])
def test_ours_as_leader_finds_it_and_an_etcd_does(leads: str, tmp_path: Path) -> None:
    flags = (*QUICK, BY_TIME)
    with Cluster(programs(BESIDE_ETCDS), tmp_path, flags=flags) as cluster:
        asyncio.run(fill(cluster, 20))
        ill = cluster.nodes[0]
        ill.stop()
        flip_a_value(ill)
        ill.start()
        ill.wait_serving()
        leader = ill if leads == "ours" else cluster.nodes[1]
        asyncio.run(led_by(cluster, leader))
        wait_until(lambda: alarms(leader) == [CORRUPT], ALARM_S, "the alarm")


def test_load_and_compactions_raise_no_alarm(tmp_path: Path) -> None:
    flags = (*QUICK, "--experimental-corrupt-check-time=100ms", *BY_COMPACTION)
    with Cluster(programs(BESIDE_ETCDS), tmp_path, flags=flags) as cluster:
        asyncio.run(led_by(cluster, cluster.nodes[0]))
        asyncio.run(load(cluster))
        assert alarms(cluster.nodes[1]) == []
        for node in cluster.nodes:
            assert node.is_healthy()


async def load(cluster: Cluster) -> None:
    async with Client(cluster.endpoints, timeout_s=10) as client:
        for number in range(1200):
            put = await client.put(b"k%d" % (number % 31), os.urandom(number % 100))
            if number % 13 == 0:
                await client.delete(b"k%d" % (number % 31))
            if number % 100 == 99:
                await client.compact(put.header.revision - 5)


async def compacted(node: Node, revision: int) -> None:
    async with Client([node.endpoint], timeout_s=10) as client:
        await client.compact(revision, physical=True)


async def led_by(cluster: Cluster, leader: Node) -> None:
    ids: dict[str, int] = {}
    for node in cluster.nodes:
        async with Client([node.endpoint], timeout_s=10) as client:
            ids[node.name] = (await client.status()).member_id

    async def leads() -> bool:
        for node in cluster.nodes:
            async with Client([node.endpoint], timeout_s=10) as client:
                status = await client.status()
                if status.leader == status.member_id:
                    if node is leader:
                        return True
                    try:
                        await client.move_leader(ids[leader.name])
                    except ClientError:
                        continue
        return False

    await wait_until_async(leads, ALARM_S, f"{leader.name} leads")
