"""A lease that is kept alive, what may be concluded when it cannot be, and snapshots that are whole or not there."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from kvorum.client import BadSnapshot, Client, ClientError, Lock, Session, SessionExpired, Unreachable
from kvorum.client.snapshot import receive_snapshot
from kvorum.etcdpb import rpc_pb2 as rpc

from tests.kit.scripted_server import ScriptedServer, Stream, Unary

GRANT = "/etcdserverpb.Lease/LeaseGrant"
REVOKE = "/etcdserverpb.Lease/LeaseRevoke"
KEEP_ALIVE = "/etcdserverpb.Lease/LeaseKeepAlive"
RANGE = "/etcdserverpb.KV/Range"
TXN = "/etcdserverpb.KV/Txn"
DELETE = "/etcdserverpb.KV/DeleteRange"
LEASE_ID = 0x1234


class Lessor:
    """Grants a lease of a second, and renews it as long as it may."""

    def __init__(self) -> None:
        self.renewals = 0
        self.renewed = asyncio.Event()
        self.ttl_s = 1
        self.is_silent = False
        self.revoked = False

    async def grant(self, request: bytes, context: Any) -> bytes:
        return rpc.LeaseGrantResponse(ID=LEASE_ID, TTL=self.ttl_s).SerializeToString()

    async def revoke(self, request: bytes, context: Any) -> bytes:
        self.revoked = True
        return b""

    async def keep_alive(self, requests: Any, context: Any) -> None:
        await context.read()
        if self.is_silent:
            await asyncio.Event().wait()
        self.renewals += 1
        self.renewed.set()
        await context.write(rpc.LeaseKeepAliveResponse(ID=LEASE_ID, TTL=self.ttl_s).SerializeToString())

    def server(self, **unary: Unary) -> ScriptedServer:
        streams: dict[str, Stream] = {KEEP_ALIVE: self.keep_alive}
        return ScriptedServer({GRANT: self.grant, REVOKE: self.revoke, **unary}, streams)


def run_with(lessor_test: Callable[[Lessor], Any]) -> None:
    async def run() -> None:
        async with asyncio.timeout(20):
            await lessor_test(Lessor())

    asyncio.run(run())


def test_session_renews_its_lease_and_revokes_it_at_the_end() -> None:
    async def run(lessor: Lessor) -> None:
        async with lessor.server() as server, Client([server.endpoint]) as client:
            async with Session(client, 1) as session:
                for _ in range(4):  # longer than the lease alone would live
                    lessor.renewed.clear()
                    await lessor.renewed.wait()
                assert (session.lease_id, session.is_lost) == (LEASE_ID, False)
                session.require()
            assert lessor.revoked

    run_with(run)


def test_session_whose_server_says_nothing_is_lost_when_its_time_has_passed() -> None:
    async def run(lessor: Lessor) -> None:
        async with lessor.server() as server, Client([server.endpoint], timeout_s=30) as client:
            async with Session(client, 1) as session:
                await lessor.renewed.wait()
                lessor.is_silent = True
                begun_s = asyncio.get_running_loop().time()
                await session.lost()
                assert asyncio.get_running_loop().time() - begun_s < 10
                with pytest.raises(SessionExpired):
                    session.require()
            assert not lessor.revoked

    run_with(run)


def test_session_whose_lease_is_gone_is_lost_at_once() -> None:
    async def run(lessor: Lessor) -> None:
        async with lessor.server() as server, Client([server.endpoint]) as client:
            async with Session(client, 1) as session:
                lessor.ttl_s = 0
                await session.lost()
            with pytest.raises(SessionExpired, match="is not there"):
                async with Session(client, lease_id=LEASE_ID):
                    pass

    run_with(run)


def test_lease_of_somebody_else_is_kept_and_not_revoked() -> None:
    async def run(lessor: Lessor) -> None:
        async with lessor.server() as server, Client([server.endpoint]) as client:
            async with Session(client, lease_id=LEASE_ID) as session:
                assert session.ttl_s == 1
                await lessor.renewed.wait()
            assert not lessor.revoked

    run_with(run)


def test_lock_whose_key_may_be_there_is_withdrawn() -> None:
    """The answer to its entry was lost: nobody may have to wait for a lock that nobody knows to hold."""

    async def run(lessor: Lessor) -> None:
        deleted: list[bytes] = []

        async def lost(request: bytes, context: Any) -> bytes:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "etcdserver: request timed out")
            raise AssertionError("abort raises")

        async def delete(request: bytes, context: Any) -> bytes:
            deleted.append(rpc.DeleteRangeRequest.FromString(request).key)
            return b""

        async with (
            lessor.server(**{TXN: lost, DELETE: delete}) as server,
            Client([server.endpoint]) as client,
            Session(client, 1) as session,
        ):
            with pytest.raises(ClientError, match="timed out"):
                await Lock(session, b"jobs").acquire()
        assert deleted == [b"jobs/1234"]

    run_with(run)


def test_lock_whose_key_went_while_it_waited_is_not_held() -> None:
    async def run(lessor: Lessor) -> None:
        async def entered(request: bytes, context: Any) -> bytes:
            return rpc.TxnResponse(succeeded=True, header=rpc.ResponseHeader(revision=5)).SerializeToString()

        async def nothing(request: bytes, context: Any) -> bytes:  # nobody is older, and the own key is not there
            return rpc.RangeResponse().SerializeToString()

        async with (
            lessor.server(**{TXN: entered, RANGE: nothing}) as server,
            Client([server.endpoint]) as client,
            Session(client, 1) as session,
        ):
            with pytest.raises(SessionExpired):
                await Lock(session, b"jobs").acquire()

    run_with(run)


def test_read_is_asked_in_rounds_until_its_deadline() -> None:
    async def run(lessor: Lessor) -> None:
        tries = 0

        async def third_time(request: bytes, context: Any) -> bytes:
            nonlocal tries
            tries += 1
            if tries < 3:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "etcdserver: no leader")
            return rpc.RangeResponse(count=7).SerializeToString()

        async with lessor.server(**{RANGE: third_time}) as server:
            async with Client([server.endpoint], deadline_s=10) as client:
                assert (await client.range(b"a")).count == 7
            tries = 0
            async with Client([server.endpoint]) as client:
                with pytest.raises(ClientError, match="no leader"):
                    await client.range(b"a")

    run_with(run)


def test_write_that_left_is_not_asked_again_within_a_deadline_either() -> None:
    async def run(lessor: Lessor) -> None:
        async def lost(request: bytes, context: Any) -> bytes:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "etcdserver: leader changed")
            raise AssertionError("abort raises")

        async with (
            lessor.server(**{TXN: lost, DELETE: lost}) as server,
            Client([server.endpoint], deadline_s=10) as client,
        ):
            with pytest.raises(ClientError) as caught:
                await client.delete(b"a")
            assert caught.value.may_have_been_applied
            assert len(server.calls) == 1
            await server.stop()
            async with Client([server.endpoint], deadline_s=0.5) as another:
                with pytest.raises(Unreachable):
                    await another.delete(b"a")

    run_with(run)


async def blobs(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def test_snapshot_counts_only_with_its_checksum(tmp_path: Path) -> None:
    page = bytes(range(256)) * 16
    whole = page + hashlib.sha256(page).digest()
    for cut in (1, 20, 4096, len(whole)):
        parts = [whole[at : at + cut] for at in range(0, len(whole), cut)]
        assert asyncio.run(receive_snapshot(blobs(*parts), tmp_path / "whole")) == len(whole)
        assert (tmp_path / "whole").read_bytes() == whole
    with pytest.raises(BadSnapshot, match=r"checksum not found \[bytes: 4096\]"):
        asyncio.run(receive_snapshot(blobs(page), tmp_path / "cut"))
    with pytest.raises(BadSnapshot, match="is not that of the 4096 bytes"):
        asyncio.run(receive_snapshot(blobs(page[:-1] + b"x", whole[4096:]), tmp_path / "rotten"))
