"""Who asks, while authentication is on: tokens as the log makes and ends them, and what goes on without any."""

from pathlib import Path

from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.etcdpb.internal_pb2 import InternalRaftRequest
from kvorum.server.callers import HELD_BYTES_MAX, HELD_MAX, NOBODY
from kvorum.server.server import Server
from kvorum.state.auth import Caller
from kvorum.state.refusal import INVALID_AUTH_TOKEN, STOPPED, TOO_MANY_REQUESTS, USER_EMPTY, Refusal

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


class Asker:
    """A call, as far as it says who asks."""

    def __init__(self, *, token: str | None = None, authorization: str | None = None, common_name: str | None = None):
        self._metadata = {"token": token, "authorization": authorization}
        self.common_name = common_name

    def metadata(self, name: str) -> str | None:
        return self._metadata.get(name)


class Stream:
    """What hears of changes."""

    def __init__(self, server: Server) -> None:
        self.told: list[bytes | str] = []
        server.callers.streams.add(self)

    def signed_out(self, user: bytes) -> None:
        self.told.append(user)

    def rights_changed(self) -> None:
        self.told.append("rights")


async def sign_in(server: Server, user: bytes = ROOT, letters: bytes = b"abcdefghijklmnop") -> str:
    """The token that the log gives a user whose password was right."""
    body = await ask(server, authenticate={"name": user, "simple_token": letters}).body()
    return rpc.AuthenticateResponse.FromString(body).token


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


def test_a_token_names_its_user_at_every_member_until_he_is_changed(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        leader, follower = cluster.leader(), cluster.follower()
        await turn_on(leader)
        await as_root(leader, auth_user_add={"name": b"ann", "hashedPassword": b""}).body()
        token = await sign_in(leader, b"ann")
        await cluster.until(lambda: follower.machine.applied_index == leader.machine.applied_index, "it follows")
        for server in (leader, follower):
            revision = server.machine.auth.revision
            assert server.callers.of(Asker(token=token)) == Caller(b"ann", revision)
            assert server.callers.of(Asker(authorization=token)) == Caller(b"ann", revision)
            assert server.callers.of(Asker(token="", authorization=token)) == INVALID_AUTH_TOKEN
            assert server.callers.of(Asker(token=token + "1")) == INVALID_AUTH_TOKEN
        await as_root(leader, auth_user_change_password={"name": b"ann"}).body()
        await cluster.until(lambda: follower.machine.applied_index == leader.machine.applied_index, "it follows")
        assert [server.callers.of(Asker(token=token)) for server in (leader, follower)] == [INVALID_AUTH_TOKEN] * 2

    run(tmp_path, 3, story)


def test_a_certificate_names_its_user_where_no_token_does(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        await turn_on(server)
        revision = server.machine.auth.revision
        assert server.callers.of(Asker(common_name="ann")) == Caller(b"ann", revision)
        assert server.callers.of(Asker(common_name="ann", token="x.1")) == INVALID_AUTH_TOKEN
        assert server.callers.of(Asker()) is NOBODY

    run(tmp_path, 1, story)


def test_no_token_outlives_turning_it_off(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        await turn_on(server)
        await as_root(server, auth_user_change_password={"name": ROOT}).body()
        await as_root(server, auth_user_add={"name": b"ann"}).body()
        token = await sign_in(server, b"ann")
        await as_root(server, auth_disable={}).body()
        await ask(server, auth_enable={}).body()
        assert server.callers.of(Asker(token=token)) == INVALID_AUTH_TOKEN

    run(tmp_path, 1, story)


def test_no_token_outlives_a_snapshot(tmp_path: Path) -> None:
    """Whose tokens it has ended in between, nobody can tell."""

    async def story(cluster: Cluster) -> None:
        follower, leader = cluster.follower(), cluster.leader()
        await turn_on(leader)
        await as_root(leader, auth_user_add={"name": b"ann"}).body()
        token = await sign_in(leader, b"ann")
        await cluster.until(lambda: follower.machine.applied_index == leader.machine.applied_index, "it follows")
        stream = Stream(follower)
        cluster.cut_off(follower.member_id)
        while not leader.snapshots.taken_count:
            await as_root(leader, put={"key": b"secret"}).body()
        cluster.heal()
        await cluster.until(lambda: bool(stream.told), "the snapshot arrives")
        assert stream.told == ["rights"]
        assert follower.callers.of(Asker(token=token)) == INVALID_AUTH_TOKEN
        assert leader.callers.of(Asker(token=token)) == Caller(b"ann", leader.machine.auth.revision)

    run(tmp_path, 3, story, snapshot_count=20, snapshot_catch_up_entries=5)


def test_streams_hear_who_signed_out_and_that_rights_changed(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        stream = Stream(server)
        await ask(server, auth_role_add={"name": b"early"}).body()
        assert stream.told == []  # while it is off nobody needs rights
        await turn_on(server)
        assert stream.told == ["rights"]
        stream.told.clear()
        await as_root(server, put={"key": b"a"}).body()
        assert stream.told == []
        await as_root(server, auth_user_add={"name": b"ann"}).body()
        await as_root(server, auth_user_delete={"name": b"ann"}).body()
        assert stream.told == ["rights", b"ann", "rights"]

    run(tmp_path, 1, story)


def test_a_call_waits_for_the_entry_of_its_token_and_for_no_other(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        await turn_on(server)
        applied = server.machine.applied_index
        assert server.callers.awaits(Asker(token=f"abc.{applied}")) == applied + 1
        for token in (f"abc.{applied - 1}", "abc", "a.b.5", "abc.", "abc.-5", "abc.99999999999999999999", "", None):
            assert server.callers.awaits(Asker(token=token)) == 0
        told: list[str | Refusal] = []
        server.callers.hold(applied + 2, 10, lambda: told.append("second"), told.append)
        server.callers.hold(applied + 1, 10, lambda: told.append("first"), told.append)
        await as_root(server, put={"key": b"a"}).body()
        assert told == ["first"]
        await as_root(server, put={"key": b"a"}).body()
        assert told == ["first", "second"]
        assert not server.callers.has_held

    run(tmp_path, 1, story)


def test_a_call_whose_token_nobody_made_is_refused_in_the_end(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        told: list[Refusal] = []
        server.callers.hold(10**9, 10, lambda: None, told.append)
        await cluster.until(lambda: bool(told), "its time is up")
        assert told == [INVALID_AUTH_TOKEN]
        for _ in range(HELD_MAX):
            server.callers.hold(10**9, 10, lambda: None, told.append)
        assert told == [INVALID_AUTH_TOKEN]
        server.callers.hold(10**9, 10, lambda: None, told.append)
        assert told[1:] == [TOO_MANY_REQUESTS]
        server.retire()
        assert told[2:] == [STOPPED] * HELD_MAX

    run(tmp_path, 1, story)


def test_what_is_kept_for_calls_that_wait_is_bounded_in_bytes(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        told: list[Refusal | str] = []
        index = server.machine.applied_index + 1

        def hold(size_bytes: int) -> None:
            server.callers.hold(index, size_bytes, lambda: told.append("went on"), told.append)

        hold(HELD_BYTES_MAX - 1)
        hold(2)
        assert told == [TOO_MANY_REQUESTS]
        hold(1)
        await put(server, b"a", b"1").body()
        assert told == [TOO_MANY_REQUESTS, "went on", "went on"]
        index = 10**9
        hold(HELD_BYTES_MAX)  # what went on is not counted any more
        assert len(told) == 3
        await cluster.until(lambda: len(told) == 4, "its time is up")
        hold(HELD_BYTES_MAX)  # nor what was given up
        assert len(told) == 4

    run(tmp_path, 1, story)


def test_an_entry_names_its_caller_as_etcds_do(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        callers = cluster.leader().callers
        for caller in (Caller(b"ann", 7), Caller(b"u" * 200, 1 << 40), NOBODY, Caller(b"", 3), Caller(b"\xff", 0)):
            for request_id in (1 << 63, 1 << 14):
                field = cluster.leader().ids.header_field(request_id, callers.header_tail(caller))
                header = InternalRaftRequest.FromString(field).header
                assert (header.ID, header.username, header.auth_revision) == (request_id, *caller)

    run(tmp_path, 1, story)
