"""HTTP/1.1 requests to another member: one connection, one request at a time, every wait bounded.

Knows URLs and sockets; nothing of raft. Names are resolved at each dial and off the loop: a member that comes back on
another address must be found, and a slow resolver must not stop the heartbeats.
"""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar
from urllib.parse import urlsplit

from kvorum.net.tls_connection import Policy, connect_tls
from kvorum.wire import http1

ANSWER_BYTES_MAX: Final = 4 << 20  # nine members with all their URLs need a few KB

IDLE_COUNT_MAX: Final = 4  # connections to one URL that wait for the next request
IDLE_S_MAX: Final = 4.5  # the other side closes them after 5 s

ProtocolT = TypeVar("ProtocolT", bound=asyncio.Protocol)


def host_and_port(url: str) -> tuple[str, int]:
    """Where a peer URL points. Raises ValueError for a scheme that is not spoken, or no port."""
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"{url!r}: a host is named in ASCII")  # nor could the header of a request hold another
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{url}: only http:// and https:// are spoken between members")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None:
        raise ValueError(f"{url}: no host and port")
    return host, port


def host_header(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


async def connect(
    url: str, protocol: Callable[[], ProtocolT], *, tls: Policy | None = None, timeout_s: float
) -> ProtocolT:
    """A connection to the member at url; tls: how, for https. Raises OSError; TimeoutError, which is one, after
    timeout_s."""
    try:
        host, port = host_and_port(url)
    except ValueError as error:
        raise OSError(str(error)) from None
    try:
        async with asyncio.timeout(timeout_s):
            if url.startswith("https:"):
                if tls is None:
                    raise OSError(f"{url}: there are no certificates for https here")
                return await connect_tls(tls, host, port, protocol)
            _, connected = await asyncio.get_running_loop().create_connection(protocol, host, port)
    except UnicodeError as error:  # of a name that the resolver is not even asked for: a part is empty, or too long
        raise OSError(f"{url}: {error}") from None
    return connected


class Connection(asyncio.Protocol):
    """A kept connection. `request` from one task at a time."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._transport: asyncio.Transport | None = None
        self._response: http1.WholeResponse | None = None
        self._answered: asyncio.Future[http1.Response] | None = None
        self._closed = False

    @classmethod
    async def open(cls, url: str, *, tls: Policy | None = None, timeout_s: float) -> "Connection":
        """Raises OSError."""
        return await connect(url, lambda: cls(url), tls=tls, timeout_s=timeout_s)

    @property
    def usable(self) -> bool:
        return not self._closed

    async def request(
        self,
        method: str,
        target: str,
        headers: http1.HeaderList = (),
        body: bytes | None = None,
        *,
        timeout_s: float,
    ) -> http1.Response:
        """The member's answer, whatever its status. Raises OSError, also for an answer that is no HTTP; the connection
        is then closed."""
        if self._closed or self._transport is None:
            raise ConnectionResetError(f"{self.url}: the connection is closed")
        assert self._answered is None, "one request at a time"
        self._response = http1.WholeResponse(method, body_bytes_max=ANSWER_BYTES_MAX)
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(http1.request(method, target, host_header(self.url), headers, body))
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._answered
        except BaseException:  # a cancellation as well: the answer that still comes would be the next request's
            self.close()
            raise
        finally:
            self._answered = self._response = None
        if not answer.keep_alive:
            self.close()
        return answer

    def close(self) -> None:
        self._closed = True
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._response is None:
            self.close()  # an answer to nothing: the two sides no longer agree on what was asked
            return
        try:
            self._answer(self._response.feed(data))
            if self._response.surplus:
                self._closed = True
        except http1.BadMessage as error:
            self._fail(ConnectionError(f"{self.url}: {error}"))

    def eof_received(self) -> None:
        if self._response is not None:
            try:
                self._answer(self._response.end_of_input())
            except http1.BadMessage as error:
                self._fail(ConnectionResetError(f"{self.url}: {error}"))
        self._closed = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._fail(exc or ConnectionResetError(f"{self.url}: closed before it answered"))

    def _answer(self, response: http1.Response | None) -> None:
        if response is not None and self._answered is not None and not self._answered.done():
            self._answered.set_result(response)

    def _fail(self, error: Exception) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error)


class Connections:
    """Kept connections by URL: whoever asks takes an idle one or dials, and puts it back."""

    def __init__(self, *, dial_timeout_s: float, tls: Policy | None = None, idle_s_max: float = IDLE_S_MAX) -> None:
        self._dial_timeout_s = dial_timeout_s
        self._tls = tls
        self._idle_s_max = idle_s_max
        self._idle: dict[str, list[tuple[float, Connection]]] = {}
        self._closed = False

    async def ask(
        self,
        url: str,
        method: str,
        target: str,
        headers: http1.HeaderList = (),
        body: bytes | None = None,
        *,
        timeout_s: float,
    ) -> http1.Response:
        """The answer of the member at url, whatever its status. timeout_s: from the request to it. Raises OSError."""
        headers = list(headers)
        connection = self._take(url)
        if connection is not None:
            try:
                return await self._ask(connection, method, target, headers, body, timeout_s)
            except ConnectionError:
                pass  # it was closed while it lay idle; what members ask each other may be asked twice
        connection = await Connection.open(url, tls=self._tls, timeout_s=self._dial_timeout_s)
        return await self._ask(connection, method, target, headers, body, timeout_s)

    async def _ask(
        self,
        connection: Connection,
        method: str,
        target: str,
        headers: http1.HeaderList,
        body: bytes | None,
        timeout_s: float,
    ) -> http1.Response:
        answer = await connection.request(method, target, headers, body, timeout_s=timeout_s)
        idle = self._idle.setdefault(connection.url, [])
        if connection.usable and not self._closed and len(idle) < IDLE_COUNT_MAX:
            idle.append((asyncio.get_running_loop().time(), connection))
        else:
            connection.close()
        return answer

    def close(self) -> None:
        self._closed = True
        for idle in self._idle.values():
            for _, connection in idle:
                connection.close()
        self._idle.clear()

    def _take(self, url: str) -> Connection | None:
        now = asyncio.get_running_loop().time()
        idle = self._idle.get(url, [])
        while idle:
            since, connection = idle.pop()
            if connection.usable and now - since < self._idle_s_max:
                return connection
            connection.close()
        self._idle.pop(url, None)
        return None
