"""A connection that speaks HTTP/1.1: requests one after the other, answered in their order, whole or in chunks.

Knows when the client may go on, when it is gone, and whom that concerns. What the bytes mean is wire/http1.py's.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from kvorum.net.exchange import HttpResponse, HttpStream
from kvorum.net.port import UNREAD_BYTES_MAX, Port, name_of_peer, nothing_here
from kvorum.wire import http1

if TYPE_CHECKING:
    from kvorum.net.listener import Listener

HTTP_REQUEST_S: Final = 120.0  # for a request of HTTP/1.1, from its first byte to its last
PIPELINED_REQUESTS_MAX: Final = 32  # of HTTP/1.1, that wait for the answer before theirs


class Http1Port(Port):
    """HTTP/1.1: one request after the other, answered in their order."""

    def __init__(self, listener: "Listener", transport: asyncio.Transport) -> None:
        super().__init__(listener)
        self._transport = transport
        self._reader = http1.WholeRequests(body_bytes_max=listener.http_body_bytes_max)
        self._waiting: deque[http1.Request | http1.Refusal] = deque()
        self._answering: _Exchange | None = None
        self._taking = False  # inside _take_waiting
        self._paused = False  # the transport takes no more for now
        self._ended = False  # the client sends no more
        self._whole_at = asyncio.get_running_loop().time()  # when there last was no half request

    def transport(self) -> asyncio.Transport:
        return self._transport

    def data_received(self, data: bytes) -> None:
        if self._answering is not None and self._answering.on_data is not None:
            self._answering.on_data(data)
            if self._transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
                self._transport.pause_reading()  # who does not read is not read either
            return
        self._waiting += self._reader.feed(data)
        if self._reader.take_continue() and self._idle:
            self._transport.write(http1.CONTINUE)
        if len(self._waiting) > PIPELINED_REQUESTS_MAX:
            if self._is_open_ended:
                self._transport.abort()  # not read any more, it could go away unseen while it is never answered
                return
            self._transport.pause_reading()
        self._take_waiting()

    @property
    def _idle(self) -> bool:
        return self._answering is None and not self._waiting

    @property
    def _is_open_ended(self) -> bool:
        """The answer under way may end only with the client."""
        return self._answering is not None and self._answering.is_open_ended

    def _take_waiting(self) -> None:
        if self._taking:
            return  # a handler answered at once: the loop below goes on by itself
        self._taking = True
        while self._waiting and self._answering is None and not self._paused and not self._transport.is_closing():
            request = self._waiting.popleft()
            if isinstance(request, http1.Refusal):
                peer = name_of_peer(self._transport)
                self._listener.log.debug("refused %s: %d, %s", peer, request.status, request.text)
                self._transport.write(request.answer())
                self._transport.close()
            else:
                self._answering = exchange = _Exchange(self, self._transport, request)
                http = self._listener.http or nothing_here
                http(request, exchange)
        self._taking = False
        if (self._idle and (self._ended or self._listener.closing)) or (self._ended and self._is_open_ended):
            self._transport.close()

    # For the exchange

    @property
    def is_between_requests(self) -> bool:
        """Behind the request under way the client has said nothing."""
        return self._reader.idle and not self._waiting

    def is_answering(self, exchange: "_Exchange") -> bool:
        return self._answering is exchange

    def keeps_alive(self, request: http1.Request) -> bool:
        return request.keep_alive and not self._listener.closing

    def answered(self, *, keep_alive: bool) -> None:
        """The last byte of an answer is written."""
        self._answering = None
        if not keep_alive:
            self._transport.close()
            return
        self._transport.resume_reading()
        self._take_waiting()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        # Not at once: a transport that is closed from within this call tells its end twice (seen with CPython 3.11).
        asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        exchange = self._answering
        if exchange is not None:
            if exchange.on_data is not None:
                self._transport.resume_reading()
            if exchange.on_writable is not None:
                exchange.on_writable()
        self._take_waiting()

    def eof_received(self) -> bool:
        """Keeps the way back open until all is answered, unless an answer is awaited that has no end."""
        self._ended = True
        return not self._idle and not self._is_open_ended

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        exchange, self._answering = self._answering, None
        if exchange is not None:
            exchange.lost()

    def tick(self, now: float) -> None:
        super().tick(now)
        if self._reader.idle or not self._idle:
            self._whole_at = now
        elif now - self._whole_at > HTTP_REQUEST_S:
            self._listener.log.debug("closed the connection of %s: half a request", name_of_peer(self._transport))
            self._transport.close()

    def drain(self) -> None:
        if self._idle:
            self._transport.close()


class _Exchange:
    """One request of HTTP/1.1 and its answer, whole or in chunks: an Exchange, and its own HttpStream."""

    __slots__ = (
        "_keep_alive",
        "_port",
        "_streaming",
        "_transport",
        "headers",
        "on_close",
        "on_data",
        "on_writable",
        "request",
    )

    def __init__(self, port: Http1Port, transport: asyncio.Transport, request: http1.Request) -> None:
        self.request = request
        self.headers: Sequence[tuple[str, str]] = ()
        self.on_close: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None
        self.on_data: Callable[[bytes], None] | None = None  # once the connection speaks another protocol
        self._port = port
        self._transport = transport
        self._streaming = False
        self._keep_alive = False

    @property
    def secure(self) -> bool:
        return bool(self._transport.get_extra_info("tls"))

    @property
    def common_name(self) -> str | None:
        name = self._transport.get_extra_info("common_name")
        return name if isinstance(name, str) else None

    @property
    def is_open_ended(self) -> bool:
        return self._streaming or self.on_close is not None

    def __call__(self, response: HttpResponse) -> None:
        if self._transport.is_closing():
            return
        self._require_unanswered()
        keep_alive = self._port.keeps_alive(self.request)
        headers = [*self.headers, *response.headers]
        self._transport.write(
            http1.response(response.status, response.body, headers, keep_alive=keep_alive, method=self.request.method)
        )
        self._end(keep_alive=keep_alive)

    def open(self, status: int, headers: Sequence[tuple[str, str]] = ()) -> HttpStream:
        if not self._transport.is_closing():
            self._require_unanswered()
            self._streaming = True
            chunked = [("Transfer-Encoding", "chunked")] if self.request.minor else []  # 1.0 knows only the end itself
            self._keep_alive = bool(chunked) and self._port.keeps_alive(self.request)
            self._transport.write(
                http1.response_head(status, [*self.headers, *headers, *chunked], keep_alive=self._keep_alive)
            )
        return self

    def upgrade(self, headers: Sequence[tuple[str, str]], on_data: Callable[[bytes], None]) -> HttpStream | None:
        if not self.request.minor or not self._port.is_between_requests:
            return None
        if not self._transport.is_closing():
            self._require_unanswered()
            self._streaming = True
            self.on_data = on_data
            self._transport.write(http1.response_head(101, headers))
        return self

    @property
    def buffered_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        if self.on_data is not None:
            self._transport.write(data)
        elif data and self.request.method != "HEAD":
            self._transport.write(http1.chunk(data) if self.request.minor else data)

    def close(self) -> None:
        if self._transport.is_closing():
            return
        if self.on_data is None and self.request.minor and self.request.method != "HEAD":
            self._transport.write(http1.LAST_CHUNK)
        self._end(keep_alive=self._keep_alive)

    def _require_unanswered(self) -> None:
        answered = self._streaming or not self._port.is_answering(self)
        assert not answered, f"{self.request.method} {self.request.target} was answered twice"

    def _end(self, *, keep_alive: bool) -> None:
        self.on_close = self.on_writable = self.on_data = None
        self._streaming = False
        self._port.answered(keep_alive=keep_alive)

    def lost(self) -> None:
        on_close = self.on_close
        self.on_close = self.on_writable = self.on_data = None  # no handler's closure keeps this alive in a circle
        if on_close is not None:
            on_close()
