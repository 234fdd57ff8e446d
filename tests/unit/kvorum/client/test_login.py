"""A user's token: fetched once, given with every call, fetched again when it is not taken, and never shown."""

import asyncio
from typing import Any

import grpc
import pytest
from kvorum.client import AuthenticationFailed, Client, ClientError
from kvorum.client.login import LOGINS_MAX
from kvorum.etcdpb import rpc_pb2 as rpc

from tests.kit.scripted_server import ScriptedServer, Unary

AUTHENTICATE = "/etcdserverpb.Auth/Authenticate"
PUT = "/etcdserverpb.KV/Put"
RANGE = "/etcdserverpb.KV/Range"
WATCH = "/etcdserverpb.Watch/Watch"
SNAPSHOT = "/etcdserverpb.Maintenance/Snapshot"
PASSWORD = "a secret"


class Guarded:
    """A server with authentication on, which takes the newest of the tokens that it gave."""

    def __init__(self) -> None:
        self.given = 0
        self.seen: list[str] = []
        self.stale_text = "etcdserver: invalid auth token"
        self.takes_none = False

    async def authenticate(self, request: bytes, context: Any) -> bytes:
        asked = rpc.AuthenticateRequest.FromString(request)
        if (asked.name, asked.password) != ("alice", PASSWORD):
            text = "etcdserver: authentication failed, invalid user ID or password"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, text)
        await asyncio.sleep(0)  # others want a token meanwhile
        self.given += 1
        return rpc.AuthenticateResponse(token=f"token{self.given}").SerializeToString()

    def is_known(self, context: Any) -> bool:
        token = dict(context.invocation_metadata()).get("token", "")
        self.seen.append(token)
        return not self.takes_none and token == f"token{self.given}"

    async def answer(self, request: bytes, context: Any) -> bytes:
        if not self.is_known(context):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, self.stale_text)
        return rpc.RangeResponse(count=7).SerializeToString()

    async def watch(self, requests: Any, context: Any) -> None:
        await context.read()
        is_known = self.is_known(context)
        reason = f"rpc error: code = Unauthenticated desc = {self.stale_text}"
        answer = rpc.WatchResponse(created=True, canceled=not is_known, cancel_reason="" if is_known else reason)
        await context.write(answer.SerializeToString())
        if is_known:
            event = rpc.Event(kv=rpc.KeyValue(key=b"k", mod_revision=5))
            await context.write(rpc.WatchResponse(events=[event]).SerializeToString())
        await asyncio.Event().wait()

    def server(self) -> ScriptedServer:
        unary: dict[str, Unary] = {AUTHENTICATE: self.authenticate, PUT: self.answer, RANGE: self.answer}
        return ScriptedServer(unary, {WATCH: self.watch})


def test_token_is_fetched_once_for_all_calls_that_wait_for_it() -> None:
    async def run() -> None:
        guarded = Guarded()
        async with guarded.server() as server, Client([server.endpoint], user="alice", password=PASSWORD) as client:
            await asyncio.gather(*(client.range(b"a") for _ in range(5)))
            await client.put(b"a", b"1")
        assert (guarded.given, set(guarded.seen)) == (1, {"token1"})

    asyncio.run(run())


@pytest.mark.parametrize(
    "text",
    ["etcdserver: invalid auth token", "etcdserver: revision of auth store is old", "etcdserver: user name is empty"],
)
def test_refused_token_is_replaced_and_the_call_made_again_a_write_too(text: str) -> None:
    async def run() -> None:
        guarded = Guarded()
        guarded.stale_text = text
        async with guarded.server() as server, Client([server.endpoint], user="alice", password=PASSWORD) as client:
            await client.range(b"a")
            guarded.given += 1  # somebody changed a role
            await client.put(b"a", b"1")
            assert guarded.seen == ["token1", "token1", "token3"]

    asyncio.run(run())


def test_token_that_is_never_taken_ends_after_some_tries() -> None:
    async def run() -> None:
        guarded = Guarded()
        guarded.takes_none = True
        async with guarded.server() as server, Client([server.endpoint], user="alice", password=PASSWORD) as client:
            with pytest.raises(AuthenticationFailed) as caught:
                await client.put(b"a", b"1")
            assert not caught.value.may_have_been_applied
        assert (guarded.given, len(guarded.seen)) == (LOGINS_MAX, LOGINS_MAX)

    asyncio.run(run())


def test_watch_gets_a_new_token_when_its_own_is_refused() -> None:
    async def run() -> None:
        guarded = Guarded()
        async with guarded.server() as server, Client([server.endpoint], user="alice", password=PASSWORD) as client:
            await client.login()
            guarded.given += 1
            async with client.watch(b"k") as watcher, asyncio.timeout(10):
                assert [event.kv.mod_revision for event in (await anext(watcher)).events] == [5]

    asyncio.run(run())


def test_server_without_authentication_is_given_no_token() -> None:
    async def run() -> None:
        seen: list[dict[str, str]] = []

        async def not_enabled(request: bytes, context: Any) -> bytes:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "etcdserver: authentication is not enabled")
            raise AssertionError("abort raises")

        async def answer(request: bytes, context: Any) -> bytes:
            seen.append(dict(context.invocation_metadata()))
            return b""

        async with (
            ScriptedServer({AUTHENTICATE: not_enabled, RANGE: answer}) as server,
            Client([server.endpoint], user="alice", password=PASSWORD) as client,
        ):
            await client.range(b"a")
            await client.range(b"a")
        assert len(server.calls) == 3
        assert all("token" not in metadata for metadata in seen)

    asyncio.run(run())


def test_wrong_password_is_told_without_it() -> None:
    async def run() -> None:
        guarded = Guarded()
        async with guarded.server() as server, Client([server.endpoint], user="alice", password="a guess") as client:
            with pytest.raises(AuthenticationFailed) as caught:
                await client.get(b"a")
            assert not caught.value.may_have_been_applied
            shown = f"{caught.value!r} {caught.value} {client!r} {vars(client)!r} {vars(client._endpoints)!r}"
            assert "a guess" not in shown

    asyncio.run(run())


def test_user_without_a_password_is_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="both user and password"):
        Client(["http://127.0.0.1:1"], user="alice")


def test_errors_that_programs_decide_by_have_classes() -> None:
    async def run() -> None:
        async def refuse(request: bytes, context: Any) -> bytes:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied")
            raise AssertionError("abort raises")

        async with ScriptedServer({RANGE: refuse}) as server, Client([server.endpoint]) as client:
            with pytest.raises(ClientError) as caught:
                await client.get(b"a")
        assert type(caught.value).__name__ == "PermissionDenied"

    asyncio.run(run())
