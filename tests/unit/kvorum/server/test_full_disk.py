"""A member whose disk is full: what it refuses, what goes on, who leads, and that space ends it without a restart."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.server.full_disk import FREE_BYTES_AGAIN, FREE_BYTES_MIN, LOOK_EVERY_MS
from kvorum.server.server import Server
from kvorum.state import refusal
from kvorum.storage.fault import WalFailed

from tests.unit.kvorum.server.cluster import Cluster, propose, put, read

PUT = rpc.PutRequest(key=b"k", value=b"v")


def run(folder: Path, count: int, story: Callable[[Cluster], Awaitable[None]]) -> None:
    async def told() -> None:
        cluster = await Cluster(folder).start(count)
        try:
            await story(cluster)
        finally:
            cluster.stop()

    asyncio.run(told())


def value_of(body: bytes) -> bytes:
    return rpc.RangeResponse.FromString(body).kvs[0].value


async def until_full(cluster: Cluster, server: Server, full: bool = True) -> None:
    await cluster.until(lambda: server.full_disk.is_full is full, "the disk is seen as it is")


def test_with_little_left_writes_are_refused_and_reads_and_deletes_go_on(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        space = cluster.space[server.member_id]
        await put(server, b"k", b"v").body()
        assert server.quota.refuses(PUT) is None
        space.free_bytes = FREE_BYTES_MIN - 1
        await until_full(cluster, server)
        assert server.quota.refuses(PUT) == refusal.NO_SPACE
        assert server.quota.refuses(rpc.LeaseGrantRequest(TTL=10)) == refusal.NO_SPACE
        assert server.quota.refuses(rpc.TxnRequest()) is None, "it writes nothing"
        assert value_of(await read(server, b"k").body()) == b"v"
        await propose(server, b"\x2a", rpc.DeleteRangeRequest(key=b"k")).body()
        assert not server.machine.alarms.is_active(rpc.NOSPACE), "that is for a quota, and somebody must clear it"
        space.free_bytes = FREE_BYTES_AGAIN - 1
        looked = server.ticks + 2 * LOOK_EVERY_MS // server.settings.heartbeat_ms
        await cluster.until(lambda: server.ticks > looked, "it has looked again")
        assert server.full_disk.is_full, "a little more is not enough: it would go back and forth"
        space.free_bytes = FREE_BYTES_AGAIN
        await until_full(cluster, server, full=False)
        assert server.quota.refuses(PUT) is None

    run(tmp_path, 1, story)


def test_what_finds_no_space_in_the_log_waits_and_goes_through(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        space = cluster.space[server.member_id]
        await put(server, b"k", b"v").body()
        space.log = True
        waiting = put(server, b"k", b"w")
        await until_full(cluster, server)
        assert "no space left on the disk" in server.full_disk.reason
        assert value_of(await read_now(server, b"k")) == b"v"
        assert not waiting.done
        space.log = False
        await waiting.body()
        await until_full(cluster, server, full=False)
        assert value_of(await read(server, b"k").body()) == b"w"
        server.stop()
        again = cluster.restart(server.member_id)
        await cluster.elected()
        assert value_of(await read(again, b"k").body()) == b"w"

    run(tmp_path, 1, story)


async def read_now(server: Server, key: bytes) -> bytes:
    """Serializable: what is applied here."""
    body = server.machine.range(rpc.RangeRequest(key=key))
    assert isinstance(body, bytes)
    return body


def test_a_commit_that_finds_no_space_is_made_again(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        space = cluster.space[server.member_id]
        space.tables = True
        await put(server, b"k", b"v").body()  # the log has it
        await until_full(cluster, server)
        assert server.wants_space
        assert value_of(await read(server, b"k").body()) == b"v"
        space.tables = False
        await until_full(cluster, server, full=False)
        await server.commits.catch_up()
        assert server.store.pending_count == 0

    run(tmp_path, 1, story)


def test_a_member_that_stops_while_its_disk_is_full_loses_nothing(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        space = cluster.space[server.member_id]
        space.tables = True
        await put(server, b"k", b"v").body()
        await until_full(cluster, server)
        server.stop()
        space.tables = False
        again = cluster.restart(server.member_id)
        await cluster.elected()
        assert value_of(await read(again, b"k").body()) == b"v"

    run(tmp_path, 1, story)


def test_a_leader_whose_disk_gets_full_hands_over(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        leader = cluster.leader()
        cluster.space[leader.member_id].free_bytes = 0
        await cluster.until(lambda: leader.raft.leader not in (0, leader.member_id), "another leads")
        other = await cluster.elected()
        await put(other, b"k", b"v").body()
        await cluster.until(lambda: leader.machine.revision == 2, "who handed over still follows")
        assert leader.full_disk.is_full

    run(tmp_path, 3, story)


def test_a_leader_whose_log_takes_nothing_is_replaced_and_catches_up(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        leader = cluster.leader()
        cluster.space[leader.member_id].log = True
        put(leader, b"lost", b"v")
        await cluster.until(lambda: leader.full_disk.is_full, "its disk is full")
        await cluster.until(
            lambda: any(each.is_leader for each in cluster.servers.values() if each is not leader), "another leads"
        )
        other = next(each for each in cluster.servers.values() if each.is_leader and each is not leader)
        await cluster.until(lambda: other.lessor.is_primary, "it can be asked")
        await put(other, b"k", b"v").body()
        cluster.space[leader.member_id].log = False
        await cluster.until(
            lambda: leader.machine.applied_index == other.machine.applied_index, "the old leader catches up"
        )
        await until_full(cluster, leader, full=False)

    run(tmp_path, 3, story)


def test_where_all_disks_are_full_nobody_hands_over_for_ever(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        for member_id in cluster.servers:
            cluster.space[member_id].free_bytes = 0
        await cluster.until(lambda: all(each.full_disk.is_full for each in cluster.servers.values()), "all are full")
        changes = [each.leader_changes for each in cluster.servers.values()]
        ticks = cluster.leader().ticks

        def calm() -> bool:
            nonlocal ticks, changes
            now = [each.leader_changes for each in cluster.servers.values()]
            if now != changes:
                ticks, changes = (
                    cluster.leader().ticks if any(s.is_leader for s in cluster.servers.values()) else 0,
                    now,
                )
            leading = [each for each in cluster.servers.values() if each.is_leader]
            return bool(leading) and leading[0].ticks > ticks + 100

        await cluster.until(calm, "one of them leads and goes on leading")
        await propose(cluster.leader(), b"\x2a", rpc.DeleteRangeRequest(key=b"k")).body()

    run(tmp_path, 3, story)


def test_an_error_of_fdatasync_ends_the_process(tmp_path: Path) -> None:
    """Nothing is retried, and nothing acknowledged."""

    async def story() -> None:
        cluster = await Cluster(tmp_path).start(1)
        server = cluster.leader()
        cluster.space[server.member_id].sync_fails = True
        waiting = put(server, b"k", b"v")
        await cluster.until(lambda: bool(cluster.broken), "it gives up")
        (error,) = cluster.broken
        assert isinstance(error, WalFailed)
        assert "cannot sync: Input/output error" in str(error)
        assert not waiting.done
        assert server.stopped
        with pytest.raises(AssertionError):
            cluster.stop()

    asyncio.run(story())
