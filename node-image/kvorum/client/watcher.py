"""A watch that goes on where it was when its stream breaks.

No event comes twice and none is left out: after a break the next endpoint is asked from the revision after the last one
seen. It ends when the server cancels it, when no endpoint takes it over, or when it is closed.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc.aio

from kvorum.client.endpoints import Endpoints, Metadata, combined, failure_of, metadata_of
from kvorum.client.errors import DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, ClientError, WatchCancelled
from kvorum.client.login import LOGINS_MAX
from kvorum.client.messages import event_of, header_of
from kvorum.client.values import Event, WatchBatch
from kvorum.etcdpb import rpc_pb2 as rpc

WATCH = "/etcdserverpb.Watch/Watch"

BREAKS_MAX = 8  # in a row, each after a confirmed watch: then the servers are the trouble, not the way to them


class Watcher:
    """Iterate over it for WatchBatch; `async with` closes it.

    next_revision: the first revision not seen yet; 0 before the server has confirmed a watch from "now".

    Iterating raises WatchCancelled when the server ends it (compacted, refused), Unreachable or ClientError when no
    endpoint serves it; a new watch from next_revision goes on without a gap.
    """

    def __init__(self, endpoints: Endpoints, request: rpc.WatchCreateRequest, *, require_leader: bool) -> None:
        self.next_revision = request.start_revision
        self._endpoints = endpoints
        self._request = request
        self._metadata = (("hasleader", "true"),) if require_leader else ()
        self._stream: Any = None  # grpc's StreamStreamCall, whose stubs lack its type parameters
        self._fragments: list[Event] = []
        self._breaks = 0  # since the last batch

    async def __aenter__(self) -> "Watcher":
        """Returns when the server has confirmed the watch: what is written from now on will be seen."""
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None

    async def request_progress(self) -> None:
        """Asks for a progress report, which comes as a batch without events once all before it were seen.

        Raises ClientError; after a break there is none, and it has to be asked for again.
        """
        if self._stream is None:
            await self._open()
        await self._send(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))

    def __aiter__(self) -> "Watcher":
        return self

    async def __anext__(self) -> WatchBatch:
        while True:
            if self._stream is None:
                await self._open()
            try:
                answer = await self._read()
            except ClientError as failure:
                self.close()
                self._breaks += 1
                if failure.code not in (UNAVAILABLE, INTERNAL) or self._breaks > BREAKS_MAX:
                    raise
                self._endpoints.prefer_another()
                continue
            if answer.canceled:
                self.close()
                raise cancellation_of(answer)
            self._fragments += map(event_of, answer.events)
            if answer.fragment:
                continue
            events, self._fragments = tuple(self._fragments), []
            # The header may be ahead of a watch that is catching up, so only an answer without events says more.
            seen = events[-1].kv.mod_revision if events else answer.header.revision
            self.next_revision = max(self.next_revision, seen + 1)
            self._breaks = 0
            return WatchBatch(header_of(answer.header), events)

    async def _open(self) -> None:
        """Asks one endpoint after the other, each once. Raises what they met if none confirms the watch."""
        failures: list[ClientError] = []
        for _, url in self._endpoints.in_turn():
            try:
                await self._open_at(url)
            except WatchCancelled:
                raise
            except ClientError as failure:
                self.close()
                if failure.code not in (UNAVAILABLE, DEADLINE_EXCEEDED):
                    raise
                failures.append(failure)
                continue
            return
        raise combined(failures)

    async def _open_at(self, url: str) -> None:
        self._url = url
        timeout_s = self._endpoints.timeout_s
        channel = await self._endpoints.connect(url, timeout_s)
        for logins in range(1, LOGINS_MAX + 1):
            token = await self._endpoints.token(url, timeout_s)
            try:
                answer = await self._create(channel, metadata_of(token), timeout_s)
            except ClientError as refusal:
                self.close()
                if logins == LOGINS_MAX or not self._endpoints.renew(token, refusal.text):
                    raise
                continue
            if self.next_revision == 0:
                self.next_revision = answer.header.revision + 1
            return

    async def _create(self, channel: grpc.aio.Channel, metadata: Metadata, timeout_s: float) -> rpc.WatchResponse:
        """A stream with the watch on it, and the server's confirmation. Raises ClientError, WatchCancelled."""
        self._fragments.clear()
        call: Any = channel.stream_stream(WATCH, rpc.WatchRequest.SerializeToString, rpc.WatchResponse.FromString)
        self._stream = call(metadata=self._metadata + metadata)
        request = rpc.WatchCreateRequest()
        request.CopyFrom(self._request)
        request.start_revision = self.next_revision
        try:
            async with asyncio.timeout(timeout_s):
                await self._send(rpc.WatchRequest(create_request=request))
                answer = await self._read()
        except TimeoutError:
            text = f"{self._url}: the watch was not confirmed within {timeout_s:g} s"
            raise ClientError(DEADLINE_EXCEEDED, text) from None
        if answer.canceled:
            raise cancellation_of(answer)
        return answer

    async def _send(self, request: rpc.WatchRequest) -> None:
        try:
            await self._stream.write(request)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # A stream that ends while it is written to: gRPC then says "internal error" whatever the server said.
            raise ClientError(UNAVAILABLE, f"{self._url}: the watch stream ended before it took a request") from None

    async def _read(self) -> rpc.WatchResponse:
        try:
            answer = await self._stream.read()
        except grpc.aio.AioRpcError as error:
            raise failure_of(error, self._url) from None
        if not isinstance(answer, rpc.WatchResponse):  # grpc.aio.EOF: ended with OK, as at a graceful stop
            raise ClientError(UNAVAILABLE, f"{self._url}: the watch stream ended")
        return answer


def cancellation_of(answer: rpc.WatchResponse) -> WatchCancelled:
    reason = answer.cancel_reason
    if not reason and answer.compact_revision:
        reason = "etcdserver: mvcc: required revision has been compacted"
    return WatchCancelled(reason or "etcdserver: watch canceled", answer.compact_revision, header_of(answer.header))


def watch_request(
    key: bytes,
    range_end: bytes,
    *,
    start_revision: int,
    prev_kv: bool,
    progress_notify: bool,
    filters: Sequence[str],
) -> rpc.WatchCreateRequest:
    """filters: of NOPUT and NODELETE, the events left out."""
    return rpc.WatchCreateRequest(
        key=key,
        range_end=range_end,
        start_revision=start_revision,
        prev_kv=prev_kv,
        progress_notify=progress_notify,
        filters=filters,
        fragment=True,  # a revision of many events then comes in pieces that fit
    )
