"""The v2 store at work: who waits is told what concerns it, once; what expires goes by the leader's word alone."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from kvorum.etcdpb.internal_pb2 import V2Request
from kvorum.server.server import Server
from kvorum.server.settings import Settings
from kvorum.server.v2 import SYNC_S
from kvorum.state.v2_error import EVENT_INDEX_CLEARED, RAFT_INTERNAL, V2Error
from kvorum.state.v2_event import HISTORY_EVENTS_MAX, Event
from kvorum.state.v2_store import Applied

from tests.unit.kvorum.server.cluster import DEADLINE_S, SETTINGS, Cluster
from tests.unit.kvorum.server.test_snapshots import left_behind, write

SMALL = Settings(
    heartbeat_ms=10, election_ms=100, commit_interval_ms=20, snapshot_count=50, snapshot_catch_up_entries=5
)


def run(folder: Path, count: int, story: Callable[[Cluster], Awaitable[None]], settings: Settings = SETTINGS) -> None:
    async def told() -> None:
        cluster = await Cluster(folder, settings).start(count)
        try:
            await story(cluster)
        finally:
            cluster.stop()

    asyncio.run(told())


async def change(server: Server, method: str, path: str, value: str = "", **fields: object) -> Applied:
    applied: asyncio.Future[Applied] = asyncio.get_running_loop().create_future()
    request = V2Request(Method=method, Path=path.encode(), Val=value.encode(), **fields)  # type: ignore[arg-type]  # its fields
    server.v2.propose(request, applied.set_result)
    return await asyncio.wait_for(applied, DEADLINE_S)


class Told:
    """A watcher's own list."""

    def __init__(
        self, server: Server, path: str, *, recursive: bool = False, stream: bool = False, since: int = 0
    ) -> None:
        self.events: list[Event] = []
        self.ended = False
        self.watcher = server.v2.watch(path, recursive=recursive, is_stream=stream, since=since)
        self.watcher.start(self.events.append, self._end)

    def _end(self) -> None:
        self.ended = True

    @property
    def keys(self) -> list[str]:
        return [event.node.key for event in self.events]


def test_watchers_are_told_what_is_theirs(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        exact, below = Told(server, "/1/a/b"), Told(server, "/1/a", recursive=True, stream=True)
        above, hidden = Told(server, "/1/a"), Told(server, "/1", recursive=True, stream=True)
        inside = Told(server, "/1/a/_h", recursive=True, stream=True)
        for path in ("/1/a/b", "/1/a/_h/x", "/1/ab", "/1/a/b"):
            await change(server, "PUT", path)
        assert exact.keys == ["/1/a/b"], "one is enough"
        assert below.keys == ["/1/a/b", "/1/a/b"]
        assert above.keys == [], "what is below does not concern it"
        assert hidden.keys == ["/1/a/b", "/1/ab", "/1/a/b"]
        assert inside.keys == ["/1/a/_h/x"], "who looks into what is hidden sees it"
        await change(server, "DELETE", "/1/a", Recursive=True)
        assert above.keys == ["/1/a"]
        assert inside.keys == ["/1/a/_h/x", "/1/a"], "what it watched went with its directory"
        assert server.v2.watchers_count == 3

    run(tmp_path, 1, story)


def test_a_watcher_that_is_removed_is_told_nothing(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        told, other = Told(server, "/1/a", stream=True), Told(server, "/1/a", stream=True)
        told.watcher.remove()
        told.watcher.remove()
        await change(server, "PUT", "/1/a")
        assert (told.keys, other.keys) == ([], ["/1/a"])
        server.v2.end_all()
        assert (told.ended, other.ended) == (False, True)
        assert server.v2.watchers_count == 0

    run(tmp_path, 1, story)


def test_what_was_missed_is_told_first(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        first = await change(server, "PUT", "/1/a", "1")
        await change(server, "PUT", "/1/b", "2")
        await change(server, "PUT", "/1/a", "3")
        one = Told(server, "/1/a", since=first.store_index)
        assert [event.node.value for event in one.events] == ["1"]
        assert one.watcher.start_index == server.machine.v2.index
        stream = Told(server, "/1/a", stream=True, since=first.store_index)
        await change(server, "PUT", "/1/a", "4")
        assert [event.node.value for event in stream.events] == ["1", "3", "4"], "all of it, where etcd tells one"
        later = Told(server, "/1/a", since=server.machine.v2.index + 2)
        await change(server, "PUT", "/1/a", "5")
        assert later.events == []
        await change(server, "PUT", "/1/a", "6")
        assert [event.node.value for event in later.events] == ["6"]
        assert server.v2.watchers_count == 1

    run(tmp_path, 1, story)


def test_what_is_forgotten_is_refused(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        await asyncio.gather(*(change(server, "PUT", "/1/a") for _ in range(HISTORY_EVENTS_MAX + 1)))
        with pytest.raises(V2Error) as refused:
            Told(server, "/1/a", since=1)
        assert refused.value.code == EVENT_INDEX_CLEARED

    run(tmp_path, 1, story)


def test_what_expires_goes_by_the_leaders_word_on_all_members(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        follower = cluster.follower()
        told = [Told(server, "/1/a") for server in cluster.servers.values()]
        await change(follower, "PUT", "/1/stays", Expiration=time.time_ns() + 3600 * 10**9)
        await cluster.until(lambda: len({server.machine.v2.index for server in cluster.servers.values()}) == 1, "level")
        quiet, loop = cluster.leader().raft.log.last_index, follower.loop
        looked_twice = loop.time() + 2 * SYNC_S
        await cluster.until(lambda: loop.time() > looked_twice, "the leader has looked")
        await change(follower, "PUT", "/1/a", Expiration=time.time_ns() + 5 * 10**7)
        await cluster.until(lambda: all(one.events for one in told), "the first change")
        again = [Told(server, "/1/a") for server in cluster.servers.values()]
        await cluster.until(lambda: all(one.events for one in again), "it expires")
        assert {one.events[0].action for one in again} == {"expire"}
        assert len({one.events[0].at_index for one in again}) == 1
        assert cluster.leader().raft.log.last_index == quiet + 2, "a change, a word, and no more while nothing is due"

    run(tmp_path, 3, story)


def test_requests_that_do_not_come_through_are_failed_with_etcds_words(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.follower()
        large = await change(server, "PUT", "/1/a", "x" * (server.settings.request_bytes_max + 1))
        assert large.error is not None
        assert (large.error.code, large.error.cause) == (RAFT_INTERNAL, "etcdserver: request is too large")
        cluster.cut_off(server.member_id)
        waiting = asyncio.ensure_future(change(server, "PUT", "/1/a"))
        await asyncio.sleep(0)
        cluster.stop_one(server.member_id)
        lost = await waiting
        assert lost.error is not None
        assert (lost.error.code, lost.error.cause) == (RAFT_INTERNAL, "etcdserver: server stopped")

    run(tmp_path, 3, story)


def test_watchers_are_told_what_a_snapshot_brought(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        lonely = await left_behind(cluster)
        one = Told(lonely, "/1/a")
        stream = Told(lonely, "/1/a", stream=True)
        other = Told(lonely, "/1/b")
        leader = cluster.leader()
        for value in ("1", "2"):
            await change(leader, "PUT", "/1/a", value)
        await write(leader, 0, 120)
        await cluster.until(lambda: leader.snapshots.taken_count > 0, "a snapshot")
        cluster.heal()
        await cluster.until(lambda: lonely.snapshots.received_count == 1, "it is caught up")
        assert [event.node.value for event in one.events] == ["1"]
        assert [event.node.value for event in stream.events] == ["1", "2"]
        assert (other.events, other.ended) == ([], False)
        await change(leader, "PUT", "/1/b", "3")
        await cluster.until(lambda: bool(other.events), "and is told of what comes")
        expiring = await change(lonely, "PUT", "/1/c", Expiration=time.time_ns() + 3600 * 10**9)
        assert expiring.event is not None
        assert expiring.event.node.ttl == 3600, "by a clock that runs"

    run(tmp_path, 3, story, SMALL)


def test_who_may_have_missed_something_is_told_no_more(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        ended = Told(server, "/1/b", stream=True)
        await asyncio.gather(*(change(server, "PUT", "/1/a") for _ in range(HISTORY_EVENTS_MAX + 50)))
        server.v2.restored(told_index=10)
        assert (ended.ended, ended.events) == (True, [])

    run(tmp_path, 1, story)
