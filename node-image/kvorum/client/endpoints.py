"""Connections to the endpoints of one cluster, and which of them a call goes to.

A read goes on to the next endpoint where one does not answer. A write leaves only once, over a connection that stands:
an endpoint that cannot be connected to is passed over, but after the bytes have left nothing is repeated, since the
write may have been applied. A call that a server refused for its token was not, and leaves again with a new one.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol
from urllib.parse import urlsplit

import grpc
import grpc.aio
from google.protobuf.message import Message

from kvorum.client.errors import DEADLINE_EXCEEDED, UNAVAILABLE, ClientError, Unreachable, error_of
from kvorum.client.login import LOGINS_MAX, STALE, Login
from kvorum.client.tls import Tls
from kvorum.etcdpb import rpc_pb2 as rpc

OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", -1),  # a range of many keys has no bound of its own
    ("grpc.max_send_message_length", -1),  # the server's bound counts, and its error text
    ("grpc.initial_reconnect_backoff_ms", 100),  # a restarted member is back in a second; the default waits 1 to 120 s
    ("grpc.min_reconnect_backoff_ms", 5000),  # what gRPC gives an attempt to connect and to be greeted, not a pause
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),  # nobody else's backoff
    ("grpc.enable_http_proxy", 0),  # members are near; a proxy of the environment is for elsewhere
]
ROUND_PAUSE_S = 0.1  # between two rounds over all endpoints

HEALTH = "/grpc.health.v1.Health/Check"
HEALTH_TIMEOUT_S = 5.0  # it fails at once, but on a machine that has no time
# Of `…last error: UNKNOWN: ipv4:127.0.0.1:2379: …OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: …: OK`, what it is about.
LAST_ERROR = re.compile(r"ipv[46]:\S+: (?:.*OPENSSL_internal:)?(.*?)(?:: OK)?$")

AUTHENTICATE = "/etcdserverpb.Auth/Authenticate"


class Ask(Protocol):
    """One attempt at one endpoint."""

    def __call__(self, url: str, *, timeout_s: float | None) -> Awaitable[Any]: ...


def is_repeatable(failure: ClientError) -> bool:
    """For who only reads: somebody else may answer, or the same one later."""
    return failure.code in (UNAVAILABLE, DEADLINE_EXCEEDED)


def never_left(failure: ClientError) -> bool:
    return isinstance(failure, Unreachable)


class Endpoints:
    """timeout_s: of each attempt at one endpoint, its connecting included. connect_timeout_s: of connecting alone.

    deadline_s: for how long in all endpoints are asked again where each of them failed; None: each once.
    """

    def __init__(
        self,
        urls: Sequence[str],
        timeout_s: float,
        *,
        connect_timeout_s: float | None = None,
        deadline_s: float | None = None,
        tls: Tls | None = None,
        login: Login | None = None,
    ) -> None:
        assert urls, "a client needs an endpoint"
        self.urls = tuple(urls)
        self.timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._deadline_s = deadline_s
        self._tls = tls
        self._login = login
        self._channels: dict[str, Connection] = {}
        self._preferred = 0  # of urls: the one that answered last

    async def close(self) -> None:
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()

    async def ask(self, url: str, path: str, request: Message, answer: type[Message], timeout_s: float | None) -> Any:
        """One call to one endpoint. Raises Unreachable if it cannot be connected to, ClientError if it failed."""

        async def once(channel: grpc.aio.Channel, metadata: Metadata, timeout_s: float) -> Any:
            call = channel.unary_unary(path, type(request).SerializeToString, answer.FromString)
            return await call(request, timeout=timeout_s, metadata=metadata)

        return await self._ask(url, once, timeout_s)

    async def ask_stream(
        self, url: str, path: str, request: Message, answer: type[Message], timeout_s: float | None
    ) -> Any:
        """The same for a method of streams: one request, its first answer, and the stream is closed."""

        async def once(channel: grpc.aio.Channel, metadata: Metadata, timeout_s: float) -> Any:
            call: Any = channel.stream_stream(path, type(request).SerializeToString, answer.FromString)
            stream = call(timeout=timeout_s, metadata=metadata)
            try:
                try:
                    await stream.write(request)
                    await stream.done_writing()
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    # A stream that ends while it is written to: gRPC then says "internal error", whatever the server
                    # said.
                    raise ClientError(UNAVAILABLE, f"{url}: the stream ended before it took the request") from None
                first = await stream.read()
            finally:
                stream.cancel()
            if not isinstance(first, answer):  # grpc.aio.EOF
                raise ClientError(UNAVAILABLE, f"{url}: the stream ended before it was answered")
            return first

        return await self._ask(url, once, timeout_s)

    async def _ask(
        self, url: str, once: Callable[[grpc.aio.Channel, "Metadata", float], Awaitable[Any]], timeout_s: float | None
    ) -> Any:
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        channel = await self.connect(url, timeout_s)
        for logins in range(1, LOGINS_MAX + 1):
            token = await self.token(url, timeout_s)
            try:
                return await once(channel, metadata_of(token), timeout_s)
            except grpc.aio.AioRpcError as error:
                failure = failure_of(error, url)
            if logins == LOGINS_MAX or not self.renew(token, failure.text):
                raise failure
        raise AssertionError("the last of the logins raises")

    async def read_all(
        self, url: str, path: str, request: Message, answer: type[Message], timeout_s: float | None
    ) -> AsyncIterator[Any]:
        """The answers of a method that streams them, to its end. timeout_s: of all of it; None: none."""
        channel = await self.connect(url, self.timeout_s)
        for logins in range(1, LOGINS_MAX + 1):
            token = await self.token(url, self.timeout_s)
            call: Any = channel.unary_stream(path, type(request).SerializeToString, answer.FromString)
            stream = call(request, timeout=timeout_s, metadata=metadata_of(token))
            begun = False
            try:
                while isinstance(one := await stream.read(), answer):  # else grpc.aio.EOF
                    begun = True
                    yield one
                return
            except grpc.aio.AioRpcError as error:
                failure = failure_of(error, url)
            finally:
                stream.cancel()
            if begun or logins == LOGINS_MAX or not self.renew(token, failure.text):
                raise failure

    async def token(self, url: str, timeout_s: float) -> str | None:
        """The login's, "" while authentication is off; None without a login."""
        if self._login is None:
            return None

        async def authenticate(request: rpc.AuthenticateRequest) -> rpc.AuthenticateResponse:
            channel = await self.connect(url, timeout_s)
            call: Any = channel.unary_unary(
                AUTHENTICATE, rpc.AuthenticateRequest.SerializeToString, rpc.AuthenticateResponse.FromString
            )
            try:
                answer: rpc.AuthenticateResponse = await call(request, timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                raise failure_of(error, url) from None
            return answer

        return await self._login.token(authenticate)

    def renew(self, token: str | None, refusal: str) -> bool:
        """Whether a new token may help against what a server said; the next call fetches it then."""
        if self._login is None or token is None or refusal not in STALE:
            return False
        self._login.forget(token)
        return True

    async def read(self, path: str, request: Message, answer: type[Message], timeout_s: float | None) -> Any:
        """A call that may be repeated: the first endpoint that is able to answer it does. Raises what they met."""
        return await self._in_rounds(partial(self.ask, path=path, request=request, answer=answer), timeout_s)

    async def read_stream(self, path: str, request: Message, answer: type[Message], timeout_s: float | None) -> Any:
        """The same by ask_stream."""
        return await self._in_rounds(partial(self.ask_stream, path=path, request=request, answer=answer), timeout_s)

    async def write(self, path: str, request: Message, answer: type[Message], timeout_s: float | None) -> Any:
        """A call that leaves once. Raises Unreachable if it never left, ClientError otherwise."""
        ask = partial(self.ask, path=path, request=request, answer=answer)
        return await self._in_rounds(ask, timeout_s, may_go_on=never_left)

    async def log_in(self, timeout_s: float | None) -> None:
        """Fetches the token from the first endpoint that answers within timeout_s, its connecting included."""

        async def ask(url: str, *, timeout_s: float | None) -> str | None:
            return await self.token(url, self.timeout_s if timeout_s is None else timeout_s)

        await self._in_rounds(ask, timeout_s)

    async def _in_rounds(
        self, ask: Ask, timeout_s: float | None, *, may_go_on: Callable[[ClientError], bool] = is_repeatable
    ) -> Any:
        """What the first endpoint says that fails in no way one may go on from; in rounds, if there is a deadline."""
        until = None if self._deadline_s is None else time.monotonic() + (timeout_s or self._deadline_s)
        while True:
            failures: list[ClientError] = []
            for index, url in self.in_turn():
                if until is not None:
                    left_s = max(0.001, until - time.monotonic())
                    timeout_s = min(left_s, self.timeout_s if timeout_s is None else timeout_s)
                try:
                    result = await ask(url, timeout_s=timeout_s)
                except ClientError as failure:
                    if not may_go_on(failure):
                        raise
                    failures.append(failure)
                    continue
                self._preferred = index
                return result
            if until is None or time.monotonic() + ROUND_PAUSE_S >= until:
                raise combined(failures)
            await asyncio.sleep(ROUND_PAUSE_S)

    def in_turn(self) -> list[tuple[int, str]]:
        """The endpoints, the one that answered last in front."""
        count = len(self.urls)
        return [
            ((self._preferred + turn) % count, self.urls[(self._preferred + turn) % count]) for turn in range(count)
        ]

    def prefer_another(self) -> None:
        self._preferred = (self._preferred + 1) % len(self.urls)

    async def connect(self, url: str, timeout_s: float) -> grpc.aio.Channel:
        """The channel to an endpoint, connected. Raises Unreachable; BadCertificates."""
        connection = self._channels.get(url)
        if connection is not None and connection.is_outdated():
            await self._channels.pop(url).close()
            connection = None
        if connection is None:
            connection = self._channels[url] = Connection(url, self._tls)
        channel = connection.channel
        if self._connect_timeout_s is not None:
            timeout_s = min(timeout_s, self._connect_timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
                    if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                        raise Unreachable(f"{url}: cannot be connected to" + await connection.trouble())
                    await channel.wait_for_state_change(state)
        except TimeoutError:
            raise Unreachable(f"{url}: not connected within {timeout_s:g} s") from None
        return channel


class Connection:
    """A channel to one endpoint, and the certificates as they were when it was made."""

    def __init__(self, url: str, tls: Tls | None) -> None:
        target = target_of(url)
        self._tls = tls_for(url, tls)
        if self._tls is None:
            self.channel = grpc.aio.insecure_channel(target, OPTIONS)
        else:
            self._state = self._tls.state()
            options = OPTIONS + self._tls.options()
            self.channel = grpc.aio.secure_channel(target, self._tls.credentials(), options)

    def is_outdated(self) -> bool:
        """Whether it must be made anew: its certificates changed, and it does not stand. One that stands stays."""
        if self._tls is None or self.channel.get_state() is grpc.ChannelConnectivity.READY:
            return False
        return self._state != self._tls.state()

    async def trouble(self) -> str:
        """Why a channel that failed did, where that is not plain: certificates. gRPC tells it only to who makes a call,
        which fails at once; should the channel stand by then, the call asks for nothing."""
        if self._tls is None:
            return ""
        call: Any = self.channel.unary_unary(HEALTH, bytes, bytes)
        try:
            await call(b"", timeout=HEALTH_TIMEOUT_S, wait_for_ready=False)
        except grpc.aio.AioRpcError as error:
            found = LAST_ERROR.search(error.details() or "")
            return f" ({found[1]})" if found else ""
        return ""

    async def close(self) -> None:
        await self.channel.close(None)


Metadata = tuple[tuple[str, str], ...]


def metadata_of(token: str | None) -> Metadata:
    return (("token", token),) if token else ()


def target_of(url: str) -> str:
    """host:port for gRPC of an endpoint as etcd's tools take it: http(s)://host:port or host:port."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port is None:
        raise ValueError(f"endpoint {url!r} is not of the form http://host:port, https://host:port or host:port")
    return parts.netloc


def tls_for(url: str, tls: Tls | None) -> Tls | None:
    """As etcd's clients have it: http:// is never encrypted, https:// always, and a bare address if there is a Tls."""
    if url.startswith("http://"):
        return None
    return tls or (Tls() if url.startswith("https://") else None)


def failure_of(error: grpc.aio.AioRpcError, url: str) -> ClientError:
    code: int = error.code().value[0]
    text = error.details() or ""
    # Of these two codes the text may be gRPC's own and name no endpoint; etcd's texts are kept as they are.
    if code in (UNAVAILABLE, DEADLINE_EXCEEDED) and not text.startswith("etcdserver: "):
        text = f"{url}: {text}"
    return error_of(code, text)


def combined(failures: Sequence[ClientError]) -> ClientError:
    if len(failures) == 1:
        return failures[0]
    if all(isinstance(failure, Unreachable) for failure in failures):
        return Unreachable("; ".join(failure.text for failure in failures))
    return next(failure for failure in reversed(failures) if not isinstance(failure, Unreachable))
