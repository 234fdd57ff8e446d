"""Calls that a service of ours makes to the others, for the client of a call that it serves.

They go to the handlers that a client's own would go to, in his name and with his rights, and never leave the process.
Locks and elections are made of such calls, as etcd's are of its client's.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from google.protobuf.message import Message

from kvorum.api import kv, lease, watch
from kvorum.api.request import Request, read
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.net.call import Call
from kvorum.server.server import Server
from kvorum.state.refusal import UNKNOWN

SERVED_FOR_A_LEADER = "hasleader"  # asks to be sent away while there is none: the outer call's to answer


class Refused(Exception):
    """What an inner call was answered instead of a result."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class InnerCall:
    """A net.call.Call whose answers come out of `answers`: encoded messages, a Refused, None at the end."""

    timeout_s: float | None = None  # the outer call ends this one

    def __init__(self, outer: Call, path: str, body: bytes = b"") -> None:
        self.body = body
        self.path = path
        self.cancelled = False
        self.buffered_bytes = 0
        self.on_message: Callable[[bytes], None] | None = None
        self.on_end: Callable[[], None] | None = None
        self.on_close: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None
        self.answers: asyncio.Queue[bytes | Refused | None] = asyncio.Queue()
        self._outer = outer

    @property
    def common_name(self) -> str | None:
        return self._outer.common_name

    def metadata(self, name: str) -> str | None:
        return None if name == SERVED_FOR_A_LEADER else self._outer.metadata(name)

    def reply(self, body: bytes) -> None:
        self.push(body)

    def fail(self, code: int, message: str) -> None:
        self.finish(code, message)

    def push(self, body: bytes) -> None:
        if not self.cancelled:
            self.buffered_bytes += len(body)
            self.answers.put_nowait(body)

    def finish(self, code: int = 0, message: str = "") -> None:
        if not self.cancelled:
            self.answers.put_nowait(Refused(message) if code else None)

    async def answer(self) -> bytes:
        """The next one. Raises Refused, also where there is none."""
        found = await self.answers.get()
        if isinstance(found, bytes):
            self.buffered_bytes -= len(found)
            return found
        raise found or Refused("the call ended")

    def leave(self) -> None:
        """As a client that goes away."""
        self.cancelled = True
        if self.on_close is not None:
            self.on_close()


class Services:
    """What the client of one outer call may ask of KV, Lease and Watch. Everything raises Refused."""

    def __init__(self, server: Server, outer: Call) -> None:
        self._server = server
        self._outer = outer

    async def range(self, request: rpc.RangeRequest) -> rpc.RangeResponse:
        found: rpc.RangeResponse = await self._ask(kv.range_, "/etcdserverpb.KV/Range", request, rpc.RangeResponse)
        return found

    async def txn(self, request: rpc.TxnRequest) -> rpc.TxnResponse:
        done: rpc.TxnResponse = await self._ask(kv.txn, "/etcdserverpb.KV/Txn", request, rpc.TxnResponse)
        return done

    async def delete(self, key: bytes) -> rpc.DeleteRangeResponse:
        request = rpc.DeleteRangeRequest(key=key)
        path = "/etcdserverpb.KV/DeleteRange"
        gone: rpc.DeleteRangeResponse = await self._ask(kv.delete_range, path, request, rpc.DeleteRangeResponse)
        return gone

    async def grant(self, ttl_s: int) -> int:
        """The id of a new lease."""
        request, path = rpc.LeaseGrantRequest(TTL=ttl_s), "/etcdserverpb.Lease/LeaseGrant"
        granted: rpc.LeaseGrantResponse = await self._ask(lease.grant, path, request, rpc.LeaseGrantResponse)
        return granted.ID

    async def _ask(self, handler: Callable[[Server, Call], None], path: str, request: Message, response: Any) -> Any:
        call = InnerCall(self._outer, path, request.SerializeToString())
        handler(self._server, call)
        try:
            return response.FromString(await call.answer())
        finally:
            call.leave()

    def txn_unheard(self, request: rpc.TxnRequest) -> None:
        """For a client that is gone: nobody waits for what becomes of it."""
        kv.txn(self._server, InnerCall(self._outer, "/etcdserverpb.KV/Txn", request.SerializeToString()))

    def delete_unheard(self, key: bytes) -> None:
        body = rpc.DeleteRangeRequest(key=key).SerializeToString()
        kv.delete_range(self._server, InnerCall(self._outer, "/etcdserverpb.KV/DeleteRange", body))

    async def watch(self, request: rpc.WatchCreateRequest) -> AsyncGenerator[rpc.WatchResponse, None]:
        """What has events. To be closed by who takes it up, with contextlib.aclosing."""
        call = InnerCall(self._outer, "/etcdserverpb.Watch/Watch")
        watch.watch(self._server, call)
        try:
            assert call.on_message is not None, "a watch stream takes requests"
            call.on_message(rpc.WatchRequest(create_request=request).SerializeToString())
            while True:
                told = rpc.WatchResponse.FromString(await call.answer())
                if told.canceled:
                    raise Refused(told.cancel_reason or "etcdserver: mvcc: required revision has been compacted")
                if told.events:
                    yield told
        finally:
            call.leave()


def serve(
    server: Server,
    call: Call,
    kind: type[Request],
    work: Callable[[Services, Request], Coroutine[Any, Any, bytes]],
) -> None:
    """Answers the call by what work returns, encoded, or by what it was refused; ends it with the client.

    Refusals within have no code of their own in etcd, whose services here are written on its client.
    """
    request = read(call, kind, call.body)
    if request is None:
        return

    async def served() -> None:
        try:
            body = await work(Services(server, call), request)
        except Refused as refused:
            call.fail(UNKNOWN, refused.text)
        else:
            call.reply(body)

    task = server.tasks.spawn(served(), call)

    def closed() -> None:
        task.cancel()

    call.on_close = closed
