"""Locks and elections of members that are real in everything but the network. Beside a real etcd: tests/compat."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from kvorum.api import routes
from kvorum.api.election import UNREAD_BYTES_MAX
from kvorum.etcdpb import election_pb2, lock_pb2
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.server.server import Server

from tests.kit.deadline import wait_until_async
from tests.unit.kvorum.server.cluster import DEADLINE_S, Cluster

LOCK, ELECTION = "/v3lockpb.Lock/", "/v3electionpb.Election/"
RESPONSES: dict[str, Any] = {
    f"{LOCK}Lock": lock_pb2.LockResponse,
    f"{LOCK}Unlock": lock_pb2.UnlockResponse,
    f"{ELECTION}Campaign": election_pb2.CampaignResponse,
    f"{ELECTION}Proclaim": election_pb2.ProclaimResponse,
    f"{ELECTION}Leader": election_pb2.LeaderResponse,
    f"{ELECTION}Resign": election_pb2.ResignResponse,
    f"{ELECTION}Observe": election_pb2.LeaderResponse,
    "/etcdserverpb.KV/Range": rpc.RangeResponse,
    "/etcdserverpb.Lease/LeaseGrant": rpc.LeaseGrantResponse,
    "/etcdserverpb.Lease/LeaseRevoke": rpc.LeaseRevokeResponse,
}


class Asked:
    """A client's call: a net.call.Call whose answers wait to be taken."""

    timeout_s: float | None = None
    common_name: str | None = None

    def __init__(self, server: Server, path: str, request: Any, **metadata: str) -> None:
        self.path = path
        self.body: bytes = request.SerializeToString()
        self.cancelled = False
        self.buffered_bytes = 0
        self.on_message: Callable[[bytes], None] | None = None
        self.on_end: Callable[[], None] | None = None
        self.on_close: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None
        self.answers: asyncio.Queue[Any] = asyncio.Queue()
        self._metadata = metadata
        handler = {**routes.unary(server), **routes.streams(server)}[path]
        handler(self)
        self._tell()

    def _tell(self) -> None:
        if self.on_message is not None:  # a stream's
            self.on_message(self.body)

    def metadata(self, name: str) -> str | None:
        return self._metadata.get(name)

    def reply(self, body: bytes) -> None:
        self.push(body)

    def push(self, body: bytes) -> None:
        self.answers.put_nowait(RESPONSES[self.path].FromString(body))

    def fail(self, code: int, message: str) -> None:
        self.answers.put_nowait((code, message))

    def finish(self, code: int = 0, message: str = "") -> None:
        self.fail(code, message)

    async def answer(self) -> Any:
        return await asyncio.wait_for(self.answers.get(), DEADLINE_S)

    def leave(self) -> None:
        self.cancelled = True
        assert self.on_close is not None
        self.on_close()


def run(folder: Path, story: Callable[[Server, Cluster], Awaitable[None]]) -> None:
    async def told() -> None:
        cluster = await Cluster(folder).start(3)
        try:
            await story(cluster.follower(), cluster)
        finally:
            cluster.stop()

    asyncio.run(told())


def lock(server: Server, lease: int, name: bytes = b"l") -> Asked:
    return Asked(server, f"{LOCK}Lock", lock_pb2.LockRequest(name=name, lease=lease))


def campaign(server: Server, lease: int, value: bytes) -> Asked:
    return Asked(server, f"{ELECTION}Campaign", election_pb2.CampaignRequest(name=b"e", lease=lease, value=value))


def observe(server: Server, **metadata: str) -> Asked:
    return Asked(server, f"{ELECTION}Observe", election_pb2.LeaderRequest(name=b"e"), **metadata)


def proclaim(server: Server, leader: election_pb2.LeaderKey, value: bytes) -> Asked:
    return Asked(server, f"{ELECTION}Proclaim", election_pb2.ProclaimRequest(leader=leader, value=value))


def resign(server: Server, leader: election_pb2.LeaderKey) -> Asked:
    return Asked(server, f"{ELECTION}Resign", election_pb2.ResignRequest(leader=leader))


async def leased(server: Server, *leases: int) -> None:
    for lease in leases:
        granted = Asked(server, "/etcdserverpb.Lease/LeaseGrant", rpc.LeaseGrantRequest(ID=lease, TTL=3600))
        assert lease == (await granted.answer()).ID


async def keys(server: Server) -> list[bytes]:
    request = rpc.RangeRequest(key=b"\0", range_end=b"\0", sort_target="CREATE", sort_order="ASCEND")
    return [kv.key for kv in (await Asked(server, "/etcdserverpb.KV/Range", request).answer()).kvs]


async def until_keys(server: Server, expected: list[bytes]) -> None:
    async def there() -> bool:
        return await keys(server) == expected

    await wait_until_async(there, DEADLINE_S, f"the keys are {expected}")


def test_a_lock_is_handed_on_in_the_order_of_asking(tmp_path: Path) -> None:
    async def story(server: Server, cluster: Cluster) -> None:
        await leased(server, 1, 2, 3)
        first = await lock(server, 1).answer()
        assert first.key == b"l/1"
        assert first.header.revision == 2
        again = await lock(server, 1).answer()  # by the same session
        assert (again.key, again.header.revision) == (first.key, 2)
        second = lock(server, 2)
        await until_keys(server, [b"l/1", b"l/2"])
        third = lock(cluster.leader(), 3)
        await until_keys(server, [b"l/1", b"l/2", b"l/3"])
        other = await lock(server, 3, b"other").answer()
        assert other.key == b"other/3"
        assert second.answers.empty()
        await Asked(server, f"{LOCK}Unlock", lock_pb2.UnlockRequest(key=first.key)).answer()
        granted = await second.answer()
        assert granted.key == b"l/2"
        assert granted.header.revision == 6  # that of the unlocking
        assert third.answers.empty()
        await Asked(server, "/etcdserverpb.Lease/LeaseRevoke", rpc.LeaseRevokeRequest(ID=2)).answer()
        assert (await third.answer()).key == b"l/3"

    run(tmp_path, story)


def test_a_lock_without_a_lease_gets_one_of_a_minute(tmp_path: Path) -> None:
    async def story(server: Server, cluster: Cluster) -> None:
        locked = await lock(server, 0).answer()
        lease = int(locked.key.removeprefix(b"l/"), 16)
        found = server.machine.leases.find(lease)
        assert found is not None
        assert found.ttl_s == 60
        assert await lock(server, 404).answer() == (2, "etcdserver: requested lease not found")

    run(tmp_path, story)


def test_who_lost_its_lease_while_it_waited_has_no_lock(tmp_path: Path) -> None:
    async def story(server: Server, cluster: Cluster) -> None:
        await leased(server, 1, 2)
        first = await lock(server, 1).answer()
        waiting = lock(server, 2)
        await until_keys(server, [b"l/1", b"l/2"])
        await Asked(server, "/etcdserverpb.Lease/LeaseRevoke", rpc.LeaseRevokeRequest(ID=2)).answer()
        assert waiting.answers.empty()
        await Asked(server, f"{LOCK}Unlock", lock_pb2.UnlockRequest(key=first.key)).answer()
        assert await waiting.answer() == (2, "mutex: session is expired")

    run(tmp_path, story)


def test_who_leaves_while_it_waits_takes_its_key_along(tmp_path: Path) -> None:
    async def story(server: Server, cluster: Cluster) -> None:
        await leased(server, 1, 2, 3)
        await lock(server, 1, b"e").answer()
        for lease in (2, 3):
            waiting = lock(server, 2, b"e") if lease == 2 else campaign(server, 3, b"v")
            await until_keys(server, [b"e/1", b"e/%x" % lease])
            waiting.leave()
            await until_keys(server, [b"e/1"])
            assert waiting.answers.empty()
        # The watch that waited went as well.
        await cluster.until(lambda: server.watches.watchers_count == 0, "nobody watches")

    run(tmp_path, story)


def test_an_election_is_won_proclaimed_and_resigned_from(tmp_path: Path) -> None:
    async def story(server: Server, cluster: Cluster) -> None:
        await leased(server, 1, 2)
        leading = Asked(server, f"{ELECTION}Leader", election_pb2.LeaderRequest(name=b"e"))
        assert await leading.answer() == (2, "election: no leader")
        first = (await campaign(server, 1, b"one").answer()).leader
        assert (first.name, first.key, first.rev, first.lease) == (b"e", b"e/1", 2, 1)
        # Again, with another value: still the leader, which now proposes that.
        again = await campaign(server, 1, b"uno").answer()
        assert (again.leader, again.header.revision) == (first, 2)
        waiting = campaign(server, 2, b"two")
        await until_keys(server, [b"e/1", b"e/2"])
        await proclaim(server, first, b"eins").answer()
        leading = Asked(server, f"{ELECTION}Leader", election_pb2.LeaderRequest(name=b"e"))
        assert (await leading.answer()).kv.value == b"eins"
        await resign(server, first).answer()
        second = (await waiting.answer()).leader
        assert second.key == b"e/2"
        assert await proclaim(server, first, b"late").answer() == (2, "election: not leader")
        await resign(server, first).answer()  # of one who leads no more: nothing happens
        assert await keys(server) == [b"e/2"]
        for call in (
            Asked(server, f"{ELECTION}Proclaim", election_pb2.ProclaimRequest()),
            Asked(server, f"{ELECTION}Resign", election_pb2.ResignRequest()),
        ):
            assert await call.answer() == (2, '"leader" field must be provided')

    run(tmp_path, story)


def test_who_observes_sees_each_leader_and_each_word(tmp_path: Path) -> None:
    async def story(server: Server, cluster: Cluster) -> None:
        await leased(server, 1, 2)
        early = observe(server)
        leader = (await campaign(server, 1, b"one").answer()).leader
        late = observe(server)
        for observer in (early, late):
            told = await observer.answer()
            assert (told.kv.key, told.kv.value, told.header.revision) == (b"e/1", b"one", 2)
        waiting = campaign(server, 2, b"two")
        await until_keys(server, [b"e/1", b"e/2"])
        await proclaim(server, leader, b"uno").answer()
        await resign(server, leader).answer()
        await waiting.answer()
        for observer in (early, late):
            seen = [(await observer.answer()).kv for _ in range(2)]
            assert [(kv.key, kv.value) for kv in seen] == [(b"e/1", b"uno"), (b"e/2", b"two")]
            observer.leave()
        await cluster.until(lambda: server.watches.watchers_count == 0, "nobody watches")

    run(tmp_path, story)


def test_an_observer_that_does_not_read_is_waited_for(tmp_path: Path) -> None:
    async def story(server: Server, cluster: Cluster) -> None:
        await leased(server, 1)
        leader = (await campaign(server, 1, b"0").answer()).leader
        observer = observe(server)
        await observer.answer()
        observer.buffered_bytes = UNREAD_BYTES_MAX + 1
        for value in (b"1", b"2", b"3"):
            await proclaim(server, leader, value).answer()
        assert (await observer.answer()).kv.value == b"1"
        assert observer.answers.empty()
        observer.buffered_bytes = 0
        assert observer.on_writable is not None
        observer.on_writable()
        assert [(await observer.answer()).kv.value for _ in range(2)] == [b"2", b"3"]
        observer.leave()

    run(tmp_path, story)


@pytest.mark.parametrize("asked", [{}, {"hasleader": "true"}])
def test_who_asked_is_sent_away_when_there_is_no_leader(tmp_path: Path, asked: dict[str, str]) -> None:
    async def story(server: Server, cluster: Cluster) -> None:
        observer = observe(server, **asked)
        await cluster.until(lambda: server.watches.watchers_count == 1, "it waits for a first leader")
        cluster.cut_off(server.member_id)
        if asked:
            assert await observer.answer() == (14, "etcdserver: no leader")
        else:
            await cluster.until(lambda: server.raft.leader == 0, "there is no leader")
            assert observer.answers.empty()
            observer.leave()

    run(tmp_path, story)
