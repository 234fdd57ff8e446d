"""A watch stream as bytes on the wire have it: what is sent is what is asked for, what comes is what is returned.

Unlike kvorum.client it opens nothing anew, joins no fragments and follows no revision.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc.aio
from kvorum.etcdpb import rpc_pb2 as rpc

WATCH = "/etcdserverpb.Watch/Watch"
ANSWER_S = 30.0


class RawWatch:
    """metadata: of the stream, as `hasleader`. Raises grpc.aio.AioRpcError where the stream ended with an error."""

    def __init__(self, endpoint: str, metadata: Sequence[tuple[str, str]] = ()) -> None:
        options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.aio.insecure_channel(
            endpoint.removeprefix("http://"), [*options, ("grpc.enable_http_proxy", 0)]
        )
        call: Any = self._channel.stream_stream(WATCH, rpc.WatchRequest.SerializeToString, rpc.WatchResponse.FromString)
        self._stream = call(metadata=tuple(metadata))

    async def __aenter__(self) -> "RawWatch":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stream.cancel()
        await self._channel.close(None)

    async def ask(self, **fields: Any) -> None:
        """A WatchCreateRequest, whose answer is not waited for."""
        await self._stream.write(rpc.WatchRequest(create_request=rpc.WatchCreateRequest(**fields)))

    async def create(self, **fields: Any) -> rpc.WatchResponse:
        """A WatchCreateRequest, and the next answer on the stream."""
        await self.ask(**fields)
        return await self.next()

    async def cancel(self, watch_id: int) -> None:
        await self._stream.write(rpc.WatchRequest(cancel_request=rpc.WatchCancelRequest(watch_id=watch_id)))

    async def ask_progress(self) -> None:
        await self._stream.write(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))

    async def next(self, deadline_s: float = ANSWER_S) -> rpc.WatchResponse:
        """The next answer. Raises TimeoutError."""
        async with asyncio.timeout(deadline_s):
            answer = await self._stream.read()
        assert isinstance(answer, rpc.WatchResponse), "the stream ended"
        return answer

    async def events(self, count: int) -> list[rpc.Event]:
        """The next `count` events, which have to be all of the answers they come in."""
        events: list[rpc.Event] = []
        while len(events) < count:
            answer = await self.next()
            assert answer.events, f"an answer without events: {answer}"
            events += answer.events
        assert len(events) == count, f"more events than {count}: {events}"
        return events
