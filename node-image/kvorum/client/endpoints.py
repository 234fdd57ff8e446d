"""Connections to the endpoints of one cluster, and which of them a call goes to.

A read goes on to the next endpoint where one does not answer. A write leaves only once, over a connection that stands:
an endpoint that cannot be connected to is passed over, but after the bytes have left nothing is repeated, since the
write may have been applied.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio
from google.protobuf.message import Message

from kvorum.client.errors import DEADLINE_EXCEEDED, UNAVAILABLE, ClientError, Unreachable

OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", -1),  # a range of many keys has no bound of its own
    ("grpc.max_send_message_length", -1),  # the server's bound counts, and its error text
    ("grpc.initial_reconnect_backoff_ms", 100),  # a restarted member is back in a second; the default waits 1 to 120 s
    ("grpc.min_reconnect_backoff_ms", 5000),  # what gRPC gives an attempt to connect and to be greeted, not a pause
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),  # nobody else's backoff
    ("grpc.enable_http_proxy", 0),  # members are near; a proxy of the environment is for elsewhere
]

Ask = Callable[[str, str, Message, type[Message], float | None], Awaitable[Any]]


class Endpoints:
    """timeout_s: of each attempt at one endpoint, its connecting included."""

    def __init__(self, urls: Sequence[str], timeout_s: float) -> None:
        assert urls, "a client needs an endpoint"
        self.urls = tuple(urls)
        self.timeout_s = timeout_s
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._preferred = 0  # of urls: the one that answered last

    async def close(self) -> None:
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close(None)

    async def ask(self, url: str, path: str, request: Message, answer: type[Message], timeout_s: float | None) -> Any:
        """One call to one endpoint. Raises Unreachable if it cannot be connected to, ClientError if it failed."""
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        channel = await self.connect(url, timeout_s)
        call = channel.unary_unary(path, type(request).SerializeToString, answer.FromString)
        try:
            return await call(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise failure_of(error, url) from None

    async def ask_stream(
        self, url: str, path: str, request: Message, answer: type[Message], timeout_s: float | None
    ) -> Any:
        """The same for a method of streams: one request, its first answer, and the stream is closed."""
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        channel = await self.connect(url, timeout_s)
        call: Any = channel.stream_stream(path, type(request).SerializeToString, answer.FromString)
        stream = call(timeout=timeout_s)
        try:
            try:
                await stream.write(request)
                await stream.done_writing()
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                # A stream that ends while it is written to: gRPC then says "internal error" whatever the server said.
                raise ClientError(UNAVAILABLE, f"{url}: the stream ended before it took the request") from None
            first = await stream.read()
        except grpc.aio.AioRpcError as error:
            raise failure_of(error, url) from None
        finally:
            stream.cancel()
        if not isinstance(first, answer):  # grpc.aio.EOF
            raise ClientError(UNAVAILABLE, f"{url}: the stream ended before it was answered")
        return first

    async def read(self, path: str, request: Message, answer: type[Message], timeout_s: float | None) -> Any:
        """A call that may be repeated: the first endpoint that is able to answer it does. Raises what they met."""
        return await self._read(self.ask, path, request, answer, timeout_s)

    async def read_stream(self, path: str, request: Message, answer: type[Message], timeout_s: float | None) -> Any:
        """The same by ask_stream."""
        return await self._read(self.ask_stream, path, request, answer, timeout_s)

    async def _read(self, ask: Ask, path: str, request: Message, answer: type[Message], timeout_s: float | None) -> Any:
        failures: list[ClientError] = []
        for index, url in self.in_turn():
            try:
                result = await ask(url, path, request, answer, timeout_s)
            except ClientError as failure:
                if failure.code not in (UNAVAILABLE, DEADLINE_EXCEEDED):
                    raise
                failures.append(failure)
                continue
            self._preferred = index
            return result
        raise combined(failures)

    async def write(self, path: str, request: Message, answer: type[Message], timeout_s: float | None) -> Any:
        """A call that leaves once. Raises Unreachable if it never left, ClientError otherwise."""
        failures: list[ClientError] = []
        for index, url in self.in_turn():
            try:
                result = await self.ask(url, path, request, answer, timeout_s)
            except Unreachable as failure:
                failures.append(failure)
                continue
            self._preferred = index
            return result
        raise combined(failures)

    def in_turn(self) -> list[tuple[int, str]]:
        """The endpoints, the one that answered last in front."""
        count = len(self.urls)
        return [
            ((self._preferred + turn) % count, self.urls[(self._preferred + turn) % count]) for turn in range(count)
        ]

    def prefer_another(self) -> None:
        self._preferred = (self._preferred + 1) % len(self.urls)

    async def connect(self, url: str, timeout_s: float) -> grpc.aio.Channel:
        """The channel to an endpoint, connected. Raises Unreachable."""
        channel = self._channels.get(url)
        if channel is None:
            channel = self._channels[url] = grpc.aio.insecure_channel(target_of(url), OPTIONS)
        try:
            async with asyncio.timeout(timeout_s):
                while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
                    if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                        raise Unreachable(f"{url}: cannot be connected to")
                    await channel.wait_for_state_change(state)
        except TimeoutError:
            raise Unreachable(f"{url}: not connected within {timeout_s:g} s") from None
        return channel


def target_of(url: str) -> str:
    """host:port for gRPC of an endpoint as etcd's tools take it: http://host:port or host:port."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or parts.port is None:
        raise ValueError(f"endpoint {url!r} is not of the form http://host:port (TLS is not supported yet)")
    return parts.netloc


def failure_of(error: grpc.aio.AioRpcError, url: str) -> ClientError:
    code: int = error.code().value[0]
    text = error.details() or ""
    # Of these two codes the text may be gRPC's own and name no endpoint; etcd's texts are kept as they are.
    if code in (UNAVAILABLE, DEADLINE_EXCEEDED) and not text.startswith("etcdserver: "):
        text = f"{url}: {text}"
    return ClientError(code, text)


def combined(failures: Sequence[ClientError]) -> ClientError:
    if len(failures) == 1:
        return failures[0]
    if all(isinstance(failure, Unreachable) for failure in failures):
        return Unreachable("; ".join(failure.text for failure in failures))
    return next(failure for failure in reversed(failures) if not isinstance(failure, Unreachable))
