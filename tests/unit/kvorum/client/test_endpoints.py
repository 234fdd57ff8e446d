"""Which calls the client sends again elsewhere, and which it never does."""

import asyncio
from contextlib import suppress
from typing import Any

import grpc
import pytest
from kvorum.client import Client, ClientError, Unreachable, prefix_end
from kvorum.client.endpoints import target_of
from kvorum.etcdpb import rpc_pb2 as rpc

from tests.kit.deadline import wait_until_async
from tests.kit.ports import free_port
from tests.kit.scripted_server import ScriptedServer, Unary

PUT = "/etcdserverpb.KV/Put"
RANGE = "/etcdserverpb.KV/Range"
MOVE_LEADER = "/etcdserverpb.Maintenance/MoveLeader"
KEEP_ALIVE = "/etcdserverpb.Lease/LeaseKeepAlive"
GREETED_S = 0.5


def nowhere() -> str:
    """An endpoint that nobody listens at."""
    return f"http://127.0.0.1:{free_port()}"


def answers(message: Any) -> Unary:
    async def handler(request: bytes, context: Any) -> bytes:
        return bytes(message.SerializeToString())

    return handler


def refuses(code: grpc.StatusCode, text: str) -> Unary:
    async def handler(request: bytes, context: Any) -> bytes:
        await context.abort(code, text)
        raise AssertionError("abort raises")

    return handler


async def hangs(request: bytes, context: Any) -> bytes:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


def test_read_goes_on_to_the_next_endpoint_when_one_is_down() -> None:
    async def run() -> None:
        async with (
            ScriptedServer({RANGE: answers(rpc.RangeResponse(count=7))}) as server,
            Client([nowhere(), server.endpoint]) as client,
        ):
            assert (await client.range(b"a")).count == 7

    asyncio.run(run())


def test_read_goes_on_to_the_next_endpoint_when_one_hangs_or_has_no_leader() -> None:
    async def run() -> None:
        async with (
            ScriptedServer({RANGE: hangs}) as hanging,
            ScriptedServer({RANGE: refuses(grpc.StatusCode.UNAVAILABLE, "etcdserver: no leader")}) as leaderless,
            ScriptedServer({RANGE: answers(rpc.RangeResponse(count=7))}) as server,
            Client([hanging.endpoint, leaderless.endpoint, server.endpoint], timeout_s=0.3) as client,
        ):
            assert (await client.range(b"a")).count == 7
            assert (len(hanging.calls), len(leaderless.calls)) == (1, 1)

    asyncio.run(run())


def test_endpoint_that_answered_is_asked_first_from_then_on() -> None:
    async def run() -> None:
        async with (
            ScriptedServer({RANGE: hangs}) as hanging,
            ScriptedServer({RANGE: answers(rpc.RangeResponse()), PUT: answers(rpc.PutResponse())}) as server,
            Client([hanging.endpoint, server.endpoint], timeout_s=0.3) as client,
        ):
            await client.range(b"a")
            await client.range(b"a")
            await client.put(b"a", b"1")
            assert len(hanging.calls) == 1

    asyncio.run(run())


def test_refused_read_is_not_asked_elsewhere() -> None:
    async def run() -> None:
        text = "etcdserver: mvcc: required revision has been compacted"
        async with (
            ScriptedServer({RANGE: refuses(grpc.StatusCode.OUT_OF_RANGE, text)}) as refusing,
            ScriptedServer({RANGE: answers(rpc.RangeResponse())}) as other,
            Client([refusing.endpoint, other.endpoint]) as client,
        ):
            with pytest.raises(ClientError) as caught:
                await client.range(b"a", revision=1)
            assert (caught.value.code, caught.value.text) == (11, text)
            assert not caught.value.may_have_been_applied
            assert other.calls == []

    asyncio.run(run())


def test_write_passes_over_an_endpoint_that_cannot_be_connected_to() -> None:
    async def run() -> None:
        async with ScriptedServer({PUT: answers(rpc.PutResponse())}) as server:
            async with Client([nowhere(), server.endpoint]) as client:
                await client.put(b"a", b"1")
            assert len(server.calls) == 1

    asyncio.run(run())


def test_write_that_met_no_endpoint_was_surely_not_applied() -> None:
    async def run() -> None:
        async with Client([nowhere(), nowhere()]) as client:
            with pytest.raises(Unreachable) as caught:
                await client.put(b"a", b"1")
        assert not caught.value.may_have_been_applied
        assert caught.value.text.count("cannot be connected to") == 2

    asyncio.run(run())


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED])
def test_write_that_left_is_never_repeated(code: grpc.StatusCode) -> None:
    async def run() -> None:
        async with (
            ScriptedServer({PUT: refuses(code, "etcdserver: request timed out")}) as first,
            ScriptedServer({PUT: answers(rpc.PutResponse())}) as second,
            Client([first.endpoint, second.endpoint]) as client,
        ):
            with pytest.raises(ClientError) as caught:
                await client.put(b"a", b"1")
            assert caught.value.may_have_been_applied
            assert caught.value.text == "etcdserver: request timed out"
            assert len(first.calls) == 1
            assert second.calls == []

    asyncio.run(run())


def test_write_whose_server_dies_or_hangs_meanwhile_is_not_repeated() -> None:
    async def run() -> None:
        arrived = asyncio.Event()

        async def hangs_noticed(request: bytes, context: Any) -> bytes:
            arrived.set()
            return await hangs(request, context)

        async with (
            ScriptedServer({PUT: hangs_noticed}) as first,
            ScriptedServer({PUT: answers(rpc.PutResponse())}) as second,
        ):
            async with Client([first.endpoint, second.endpoint], timeout_s=0.3) as client:
                with pytest.raises(ClientError) as caught:
                    await client.put(b"a", b"1")
                assert caught.value.may_have_been_applied
                assert first.endpoint in caught.value.text
            async with Client([first.endpoint, second.endpoint], timeout_s=20) as client:
                arrived.clear()
                put = asyncio.create_task(client.put(b"a", b"1"))
                await arrived.wait()
                await first.stop()
                with pytest.raises(ClientError) as caught:
                    await put
                assert caught.value.may_have_been_applied
            assert second.calls == []

    asyncio.run(run())


def test_call_with_an_endpoint_asks_that_one_only() -> None:
    async def run() -> None:
        async with ScriptedServer({RANGE: answers(rpc.RangeResponse())}) as server:
            async with Client([server.endpoint]) as client:
                with pytest.raises(Unreachable):
                    await client.range(b"a", endpoint=nowhere())
            assert server.calls == []

    asyncio.run(run())


def test_client_is_back_soon_after_its_server_is() -> None:
    async def run() -> None:
        server = ScriptedServer({RANGE: answers(rpc.RangeResponse())})
        async with Client([server.endpoint], timeout_s=5) as client:
            for _ in range(20):  # enough failures for a doubling backoff to grow long
                with pytest.raises(Unreachable):
                    await client.range(b"a")
            await server.start()

            async def reached() -> bool:
                try:
                    await client.range(b"a")
                except Unreachable:
                    return False
                return True

            async with asyncio.timeout(8):  # a call that takes longer is not soon either
                await wait_until_async(reached, 8, "the client reaches its server")
            await server.stop()

    asyncio.run(run())


def test_server_that_is_slow_to_greet_is_waited_for() -> None:
    """A busy one, or one far away: the connection stands long before it says its first bytes."""

    async def run() -> None:
        async with ScriptedServer({PUT: answers(rpc.PutResponse())}) as server:

            async def relayed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                server_reader, server_writer = await asyncio.open_connection("127.0.0.1", server.port)
                await asyncio.gather(passed(reader, server_writer), passed(server_reader, writer, after_s=GREETED_S))

            port = free_port()
            async with (
                await asyncio.start_server(relayed, "127.0.0.1", port),
                Client([f"http://127.0.0.1:{port}"], timeout_s=20) as client,
            ):
                await client.put(b"a", b"1")

    asyncio.run(run())


async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, after_s: float = 0.0) -> None:
    await asyncio.sleep(after_s)  # the line's delay
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
    writer.close()


def test_leadership_is_moved_by_the_endpoint_that_leads() -> None:
    async def run() -> None:
        async with (
            ScriptedServer(
                {MOVE_LEADER: refuses(grpc.StatusCode.FAILED_PRECONDITION, "etcdserver: not leader")}
            ) as one,
            ScriptedServer({MOVE_LEADER: answers(rpc.MoveLeaderResponse())}) as leading,
        ):
            async with Client([nowhere(), one.endpoint, leading.endpoint]) as client:
                await client.move_leader(5)
            assert leading.calls == [(MOVE_LEADER, rpc.MoveLeaderRequest(targetID=5).SerializeToString())]
            async with Client([one.endpoint]) as client:
                with pytest.raises(ClientError, match="not leader"):
                    await client.move_leader(5)

    asyncio.run(run())


def test_bad_transferee_is_told_at_once() -> None:
    async def run() -> None:
        text = "etcdserver: bad leader transferee"
        async with (
            ScriptedServer({MOVE_LEADER: refuses(grpc.StatusCode.FAILED_PRECONDITION, text)}) as one,
            ScriptedServer({MOVE_LEADER: answers(rpc.MoveLeaderResponse())}) as other,
            Client([one.endpoint, other.endpoint]) as client,
        ):
            with pytest.raises(ClientError, match="bad leader"):
                await client.move_leader(5)
            assert other.calls == []

    asyncio.run(run())


def test_keepalive_whose_stream_ends_unanswered_goes_elsewhere() -> None:
    async def run() -> None:
        async def ends(requests: Any, context: Any) -> None:
            return

        async def renews(requests: Any, context: Any) -> None:
            request = rpc.LeaseKeepAliveRequest.FromString(await context.read())
            await context.write(rpc.LeaseKeepAliveResponse(ID=request.ID, TTL=9).SerializeToString())

        async with (
            ScriptedServer(streams={KEEP_ALIVE: ends}) as first,
            ScriptedServer(streams={KEEP_ALIVE: renews}) as second,
            Client([first.endpoint, second.endpoint]) as client,
        ):
            assert await client.lease_keepalive(77) == 9

    asyncio.run(run())


def test_endpoint_may_be_a_url_or_an_address() -> None:
    assert target_of("http://127.0.0.1:2379") == "127.0.0.1:2379"
    assert target_of("127.0.0.1:2379") == "127.0.0.1:2379"
    assert target_of("https://127.0.0.1:2379") == "127.0.0.1:2379"
    for bad in ("ftp://127.0.0.1:2379", "http://127.0.0.1", "unix:///run/x"):
        with pytest.raises(ValueError, match="is not of the form"):
            target_of(bad)


def test_prefix_end_covers_exactly_the_keys_with_the_prefix() -> None:
    assert prefix_end(b"a/") == b"a0"
    assert prefix_end(b"a\xff\xff") == b"b"
    assert prefix_end(b"\xff") == b"\0"
