"""Calls whose token is not known yet: they wait for its entry, and what their clients say meanwhile is kept."""

from collections.abc import Callable
from pathlib import Path

from kvorum.api import routes
from kvorum.api.routes import HELD_STREAM_BYTES_MAX, MESSAGE_BYTES, streams, unary
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.server.server import Server
from kvorum.state.refusal import INVALID_AUTH_TOKEN, TOO_MANY_REQUESTS, Refusal

from tests.unit.kvorum.server.cluster import Cluster
from tests.unit.kvorum.server.test_callers import as_root, ask, turn_on
from tests.unit.kvorum.server.test_server import run

WATCH, RANGE = "/etcdserverpb.Watch/Watch", "/etcdserverpb.KV/Range"
LETTERS = b"abcdefghijklmnop"


class ToyCall:
    """A net.call.Call whose client is the test."""

    timeout_s: float | None = None
    common_name: str | None = None
    buffered_bytes = 0

    def __init__(self, path: str, token: str, body: bytes = b"") -> None:
        self.path = path
        self.body = body
        self.cancelled = False
        self.on_message: Callable[[bytes], None] | None = None
        self.on_end: Callable[[], None] | None = None
        self.on_close: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None
        self.pushed: list[bytes] = []
        self.answers: list[bytes | Refusal] = []
        self._token = token

    def metadata(self, name: str) -> str | None:
        return self._token if name == "token" else None

    def says(self, message: bytes) -> None:
        if self.on_message is not None:
            self.on_message(message)

    def push(self, body: bytes) -> None:
        self.pushed.append(body)

    def reply(self, body: bytes) -> None:
        assert not self.answers, "answered twice"
        self.answers.append(body)
        self.on_message = self.on_end = None

    def fail(self, code: int, message: str) -> None:
        assert not self.answers, "answered twice"
        self.answers.append(Refusal(code, message))
        self.on_message = self.on_end = None

    def finish(self, code: int = 0, message: str = "") -> None:
        self.answers.append(Refusal(code, message))


def early_token(server: Server) -> str:
    """That of the sign-in that comes next."""
    return f"{LETTERS.decode()}.{server.machine.applied_index}"


async def sign_in(server: Server) -> None:
    await ask(server, authenticate={"name": b"ann", "simple_token": LETTERS}).body()


async def with_ann(server: Server) -> None:
    await turn_on(server)
    await as_root(server, auth_user_add={"name": b"ann"}).body()
    await as_root(server, auth_user_grant_role={"user": b"ann", "role": b"root"}).body()


def watch_of(key: bytes) -> bytes:
    return rpc.WatchRequest(create_request={"key": key}).SerializeToString()


def test_a_call_that_is_early_is_answered_once_its_token_is_known(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        await with_ann(server)
        call = ToyCall(RANGE, early_token(server), rpc.RangeRequest(key=b"a", serializable=True).SerializeToString())
        unary(server)[RANGE](call)
        assert call.answers == []
        await sign_in(server)
        [answer] = call.answers
        assert isinstance(answer, bytes)

    run(tmp_path, 1, story)


def test_a_stream_that_is_early_hears_in_order_what_was_said_meanwhile(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        await with_ann(server)
        call = ToyCall(WATCH, early_token(server))
        streams(server)[WATCH](call)
        for key in (b"a", b"b"):
            call.says(watch_of(key))
        assert call.pushed == []
        await sign_in(server)
        call.says(watch_of(b"c"))
        answers = [rpc.WatchResponse.FromString(body) for body in call.pushed]
        assert [(answer.watch_id, answer.created, answer.canceled) for answer in answers] == [
            (0, True, False),
            (1, True, False),
            (2, True, False),
        ]

    run(tmp_path, 1, story)


def test_who_says_too_much_meanwhile_is_refused(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        await with_ann(server)
        call = ToyCall(WATCH, early_token(server))
        streams(server)[WATCH](call)
        message = watch_of(b"a")
        for _ in range(HELD_STREAM_BYTES_MAX // (len(message) + MESSAGE_BYTES)):
            call.says(message)
        assert call.answers == []
        for _ in range(3):
            call.says(message)
        assert call.answers == [TOO_MANY_REQUESTS]
        await sign_in(server)
        assert (call.answers, call.pushed) == ([TOO_MANY_REQUESTS], [])

    run(tmp_path, 1, story)


def test_a_client_that_is_gone_is_answered_nothing(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        await with_ann(server)
        call = ToyCall(WATCH, early_token(server))
        streams(server)[WATCH](call)
        call.says(watch_of(b"a"))
        call.cancelled = True
        await sign_in(server)
        assert (call.answers, call.pushed) == ([], [])
        assert server.watches.watchers_count == 0

    run(tmp_path, 1, story)


def test_a_token_that_nobody_made_is_refused_when_its_entry_is_another(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        await with_ann(server)
        call = ToyCall(RANGE, early_token(server), rpc.RangeRequest(key=b"a").SerializeToString())
        unary(server)[RANGE](call)
        await as_root(server, put={"key": b"a"}).body()
        await cluster.until(lambda: bool(call.answers), "it is answered")
        assert call.answers == [INVALID_AUTH_TOKEN]

    run(tmp_path, 1, story)


def test_signing_in_and_health_wait_for_no_token(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        await with_ann(server)
        for path in routes.NAMELESS & routes.UNARY.keys():
            call = ToyCall(path, "abc.999999999")
            unary(server)[path](call)
            await cluster.until(lambda call=call: bool(call.answers), f"{path} is answered")  # type: ignore[misc]  # of a lambda with a default
        assert not server.callers.has_held

    run(tmp_path, 1, story)
