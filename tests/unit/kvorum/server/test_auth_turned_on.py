"""A server whose log turns authentication on: what was open ends, what comes is refused, and leases still expire."""

from pathlib import Path

import pytest
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.etcdpb.internal_pb2 import InternalRaftRequest
from kvorum.server.answer import Done
from kvorum.server.server import Server
from kvorum.server.watch_hub import BUFFERED_BYTES_MAX, Watcher
from kvorum.state.refusal import AUTH_IS_ON, USER_EMPTY, Refusal
from kvorum.state.revisions import FROM_KEY

from tests.unit.kvorum.server.cluster import Cluster, Reply, put
from tests.unit.kvorum.server.test_server import run

ROOT = b"root"


def ask(server: Server, **request: object) -> Reply:
    """An entry of nobody."""
    reply = Reply()
    server.propose(InternalRaftRequest(**request).SerializeToString(), reply)  # type: ignore[arg-type]  # any field
    return reply


def as_root(server: Server, **request: object) -> Reply:
    """An entry that an etcd member proposed for its user root."""
    reply = Reply()
    header = {"ID": server.ids.next(), "username": ROOT, "auth_revision": server.machine.auth.revision}
    entry = InternalRaftRequest(header=header, **request)  # type: ignore[arg-type]  # any field
    server.propose_entry(entry.header.ID, entry.SerializeToString(), reply)
    return reply


async def turn_on(server: Server) -> None:
    await ask(server, auth_user_add={"name": ROOT, "options": {"no_password": True}}).body()
    await ask(server, auth_user_grant_role={"user": ROOT, "role": ROOT}).body()
    await ask(server, auth_enable={}).body()


class Stream:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._watchers: list[Watcher] = []
        self.ended: list[Refusal] = []
        self.bodies: list[bytes] = []
        self.buffered_bytes = 0

    def watch(self, key: bytes, start_revision: int) -> None:
        watcher = Watcher(self, len(self._watchers), key, FROM_KEY, start_revision=start_revision)
        self._watchers.append(watcher)
        self._server.watches.add(watcher)

    def push(self, body: bytes) -> None:
        self.bodies.append(body)

    def watch_ended(self, watcher: Watcher) -> None:
        raise AssertionError("nothing was compacted")

    def end(self, why: Refusal) -> None:
        self.ended.append(why)
        for watcher in self._watchers:
            self._server.watches.remove(watcher)


def test_streams_that_watch_end_once_whatever_they_wait_for(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        streams = [Stream(server) for _ in range(4)]
        streams[0].watch(b"a", 2)
        streams[0].watch(b"b", 2)
        streams[1].watch(b"b", 2)
        streams[2].watch(b"a", 1000)  # of the future
        streams[3].buffered_bytes = BUFFERED_BYTES_MAX + 1  # does not read
        streams[3].watch(b"a", 1)
        await turn_on(server)
        assert [stream.ended for stream in streams] == [[AUTH_IS_ON]] * 4
        assert server.watches.watchers_count == 0
        await as_root(server, put={"key": b"secret"}).body()
        assert [stream.bodies for stream in streams] == [[]] * 4

    run(tmp_path, 1, story)


def test_a_snapshot_in_which_it_is_on_ends_them_too(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        follower, leader = cluster.follower(), cluster.leader()
        stream = Stream(follower)
        stream.watch(b"a", 2)
        cluster.cut_off(follower.member_id)
        await turn_on(leader)
        while not leader.snapshots.taken_count:
            await as_root(leader, put={"key": b"secret"}).body()
        cluster.heal()
        await cluster.until(lambda: follower.machine.auth.enabled, "the snapshot arrives")
        assert (stream.ended, stream.bodies) == ([AUTH_IS_ON], [])
        assert follower.machine.auth.revision == leader.machine.auth.revision

    run(tmp_path, 3, story, snapshot_count=20, snapshot_catch_up_entries=5)


def test_a_clients_read_that_began_before_is_refused_and_the_members_own_is_not(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        await turn_on(server)
        client = Reply()
        own: list[Refusal | None] = []
        server.read(lambda server, answer: answer.reply(b"secret"), client)
        server.read(lambda server, answer: answer.reply(b""), Done(own.append))
        assert await client.outcome() == AUTH_IS_ON
        assert own == [None]

    run(tmp_path, 1, story)


def test_a_put_that_was_on_its_way_is_refused_when_it_is_applied(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        before = await put(server, b"a", b"1").body()
        await turn_on(server)
        assert await put(server, b"a", b"2").outcome() == USER_EMPTY
        await as_root(server, auth_disable={}).body()
        after = await put(server, b"a", b"3").body()
        revisions = [rpc.PutResponse.FromString(body).header.revision for body in (before, after)]
        assert revisions == [2, 3]

    run(tmp_path, 1, story)


def test_the_leader_revokes_expired_leases_as_root(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        await ask(server, lease_grant={"ID": 7, "TTL": 1}).body()
        await ask(server, put={"key": b"k", "lease": 7}).body()
        await turn_on(server)
        # Rights that changed meanwhile do not keep it from going.
        await as_root(server, auth_role_add={"name": b"r"}).body()
        await cluster.until(lambda: server.machine.leases.find(7) is None, "the lease expires")
        assert server.machine.revisions.current(b"k") is None

    run(tmp_path, 1, story)


def test_a_member_that_starts_with_it_on_says_so_and_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story(cluster: Cluster) -> None:
        await turn_on(cluster.leader())
        member_id = cluster.leader().member_id
        cluster.stop_one(member_id)
        caplog.clear()
        cluster.restart(member_id)
        server = await cluster.elected()
        await as_root(server, put={"key": b"a"}).body()
        assert "authentication is on: clients are refused here" in caplog.text
        await as_root(server, auth_disable={}).body()
        assert "authentication is off: clients are served again" in caplog.text

    caplog.set_level("INFO", "kvorum")
    run(tmp_path, 1, story)
