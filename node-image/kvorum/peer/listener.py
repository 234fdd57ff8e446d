"""The peer port: connections of other members, their requests in turn, and streams, which take a connection over.

Knows sockets and HTTP/1.1 framing; what is asked and answered is handlers.py's. Each wait and each buffer is bounded:
5 s without a byte end a connection that is no stream, a body is gathered up to what its path takes.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from email.utils import formatdate
from typing import Final

from kvorum.net.tls_connection import Policy, TlsDoor
from kvorum.peer.handlers import Answer, Handlers, StreamOpened
from kvorum.peer.outbound import Outbound
from kvorum.peer.snapshot_receiver import BODY_BYTES_MAX, SnapshotBody, SnapshotRefused
from kvorum.peer.transport import Transport
from kvorum.peer.wiring import TIMINGS, log
from kvorum.wire import http1

LINGER_S: Final = 1.0  # for the other side to read the last words before a connection is cut
BACKLOG: Final = 1024
DISCARDED_BYTES_MAX: Final = 256 << 10  # of a body that nobody reads, before its connection is given up
WRITE_BUFFER_BYTES: Final = 1 << 20  # in front of a stream's socket; beyond it messages wait in their queue


class PeerListener:
    """Made within the running loop; close() ends what listen() began.

    read_timeout_s: without a byte on a connection that is no stream and waits for no answer of ours.
    """

    def __init__(
        self, transport: Transport, handlers: Handlers, *, read_timeout_s: float = TIMINGS.read_timeout_s
    ) -> None:
        self.read_timeout_s = read_timeout_s
        self._transport = transport
        self._handlers = handlers
        self._servers: list[asyncio.AbstractServer] = []
        self._tls_doors: list[TlsDoor] = []
        self._connections: set[_Connection] = set()
        self._closed = False

    async def listen(self, host: str, port: int, *, reuse_port: bool = False, tls: Policy | None = None) -> int:
        """Takes connections from now on, with TLS or without; the port, which the system chooses for 0.

        Raises OSError.
        """
        loop = asyncio.get_running_loop()
        accept: Callable[[], asyncio.BaseProtocol] = self._accept
        if tls is not None:
            accept = door = TlsDoor(tls, self._accept, timeout_s=self.read_timeout_s, log=log, whose="peer")
            self._tls_doors.append(door)
        server = await loop.create_server(accept, host, port, backlog=BACKLOG, reuse_port=reuse_port)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Takes no more; streams that the transport has ended get LINGER_S to leave, all else is cut."""
        self._closed = True
        for server in self._servers:
            server.close()
        for door in self._tls_doors:
            door.close()
        connections = list(self._connections)
        for connection in connections:
            connection.shut()
        await asyncio.gather(*[connection.gone for connection in connections])
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()

    def _accept(self) -> "_Connection":
        return _Connection(self._transport, self._handlers, self)

    def opened(self, connection: "_Connection") -> None:
        self._connections.add(connection)
        if self._closed:  # it was already accepted, and shows up only now
            connection.abort()

    def ended(self, connection: "_Connection") -> None:
        self._connections.discard(connection)


class _Connection(asyncio.Protocol):
    """One accepted connection: requests answered in order, one at a time, until one becomes a stream."""

    def __init__(self, transport: Transport, handlers: Handlers, listener: PeerListener) -> None:
        self._peers = transport
        self._handlers = handlers
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._socket: asyncio.Transport | None = None
        self._reader = http1.RequestReader(body_bytes_max=BODY_BYTES_MAX)
        self._events: deque[http1.Request | bytes | http1.End | http1.Refusal] = deque()
        self._request: http1.Request | None = None
        self._early: Answer | None = None  # decided at the head; the body is read over
        self._snapshot: SnapshotBody | None = None  # takes the body of this request as it comes
        self._parts: list[bytes] = []
        self._body_bytes = 0
        self._answering: asyncio.Task[None] | None = None
        self._stream: Outbound | None = None
        self._lingering = False
        self._unread = False
        self._last_read = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self.gone: asyncio.Future[None] = self._loop.create_future()

    # What the stream's end of it needs (outbound.Carrier)

    def write(self, data: bytes) -> None:
        assert self._socket is not None
        self._socket.write(data)

    def buffered_bytes(self) -> int:
        assert self._socket is not None
        return self._socket.get_write_buffer_size()

    def end(self) -> None:
        """Closes once what was written has left, or LINGER_S later."""
        assert self._socket is not None
        self._lingering = True
        self._socket.close()
        self._rearm(LINGER_S, self.abort)

    def abort(self) -> None:
        if self._socket is not None:
            self._socket.abort()

    def shut(self) -> None:
        """Ends at once, unless its last words are already on their way; those end it within LINGER_S."""
        if not self._lingering:
            self.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._socket = transport
        self._rearm(self._listener.read_timeout_s, self._check_silence)
        self._listener.opened(self)

    def data_received(self, data: bytes) -> None:
        self._last_read = self._loop.time()
        if self._stream is not None or self._lingering:
            return  # a stream's dialer has nothing more to say; of a refused body nothing is wanted
        self._events.extend(self._reader.feed(data))
        self._advance()

    def eof_received(self) -> bool:
        # Go closes for writing only when it closes altogether. A stream then ends; an answer still under way is lost.
        return False

    def pause_writing(self) -> None:
        self._unread = True  # whoever asks without reading the answers gets no more of them
        if self._stream is not None:
            self._stream.pause()
        else:
            self._choose_reading()

    def resume_writing(self) -> None:
        self._unread = False
        if self._stream is not None:
            self._stream.resume()
        else:
            self._choose_reading()
            self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.ended(self)
        self._events.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._snapshot is not None:
            self._snapshot.lost()
        if self._answering is not None:
            self._answering.cancel()
        if self._stream is not None:
            self._stream.lost()
        if not self.gone.done():
            self.gone.set_result(None)

    # Requests

    def _advance(self) -> None:
        """Takes what has arrived as far as it goes: up to an answer that must be waited for, or that nobody reads."""
        while self._events and not (self._answering or self._unread or self._stream or self._lingering):
            event = self._events.popleft()
            if isinstance(event, http1.Request):
                self._begin(event)
            elif isinstance(event, bytes):
                self._take_body(event)
            elif isinstance(event, http1.Refusal):
                self.write(event.answer())
                self._linger()
            else:
                self._finish()

    def _begin(self, request: http1.Request) -> None:
        self._request, self._early = request, None
        self._parts.clear()
        self._body_bytes = 0
        decided = self._handlers.at_head(request)
        if isinstance(decided, StreamOpened):
            self._open_stream(decided)
        elif isinstance(decided, SnapshotBody):
            self._snapshot = decided
            decided.on_room = self._choose_reading
            if request.expects_continue:
                self.write(http1.CONTINUE)
        elif decided is not None:
            self._early = decided
            if decided.closes or request.expects_continue:
                self._write_answer(decided, closes=True)
        elif request.expects_continue:
            self.write(http1.CONTINUE)

    def _take_body(self, part: bytes) -> None:
        assert self._request is not None
        if self._snapshot is not None:
            self._take_snapshot(self._snapshot, part)
            return
        self._body_bytes += len(part)
        if self._early is not None:
            if self._body_bytes > DISCARDED_BYTES_MAX:
                self._write_answer(self._early, closes=True)
        elif self._body_bytes > self._handlers.body_bytes_max(self._request):
            self.write(http1.Refusal(413, "the body is too long").answer())
            self._linger()
        else:
            self._parts.append(part)

    def _take_snapshot(self, body: SnapshotBody, part: bytes) -> None:
        try:
            body.feed(part)
        except SnapshotRefused as why:
            self._snapshot = None
            self._write_answer(self._handlers.refused_snapshot(why), closes=True)
            return
        if body.is_full:
            self._choose_reading()

    def _finish(self) -> None:
        assert self._request is not None
        if self._snapshot is not None:
            self._answering = self._loop.create_task(self._answer_later(self._handlers.took_snapshot(self._snapshot)))
            self._snapshot = None
            self._choose_reading()
            return
        if self._early is not None:
            self._write_answer(self._early)
            return
        request = self._request
        if self._parts:
            request = replace(request, body=b"".join(self._parts))
            self._parts.clear()
        answer = self._handlers.answer(request)
        if isinstance(answer, Answer):
            self._write_answer(answer)
        else:
            self._answering = self._loop.create_task(self._answer_later(answer))
            self._choose_reading()

    async def _answer_later(self, answer: Awaitable[Answer]) -> None:
        try:
            self._write_answer(await answer)
        except Exception:  # noqa: BLE001 - the edge of a task: one request fails, as it would in etcd, and the port goes on
            log.exception("a request of another member failed")
            self.abort()
            return
        self._answering = None
        self._last_read = self._loop.time()
        self._choose_reading()
        self._advance()

    def _choose_reading(self) -> None:
        """Reads only while what it reads can be answered: so all that is queued here stays within one read."""
        assert self._socket is not None
        is_full = self._snapshot is not None and self._snapshot.is_full
        if self._answering is not None or is_full or (self._unread and not self._lingering):
            self._socket.pause_reading()
        elif not self._socket.is_closing():
            self._socket.resume_reading()

    def _write_answer(self, answer: Answer, *, closes: bool = False) -> None:
        request = self._request
        assert request is not None
        closes = closes or answer.closes or not request.keep_alive
        headers = [*answer.headers, ("Date", formatdate(usegmt=True))]
        method = request.method
        self.write(http1.response(answer.status, answer.body, headers, keep_alive=not closes, method=method))
        self._request = self._early = None
        if closes:
            self._linger()

    def _linger(self) -> None:
        """The last words are written: the other side may still be sending, and must not lose them to a reset."""
        assert self._socket is not None
        self._lingering = True
        self._events.clear()
        if self._socket.can_write_eof():
            self._socket.write_eof()
        self._rearm(LINGER_S, self.abort)

    def _open_stream(self, opened: StreamOpened) -> None:
        assert self._socket is not None
        headers = [*opened.headers, ("Date", formatdate(usegmt=True)), ("Transfer-Encoding", "chunked")]
        # At once and by itself: the dialer must know that it stands before there is anything to send on it.
        self.write(http1.response_head(200, headers))
        self._socket.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        if self._timer is not None:
            self._timer.cancel()
        self._stream = self._peers.attach(opened.member_id, opened.kind, self)

    # Time

    def _rearm(self, delay_s: float, callback: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay_s, callback)

    def _check_silence(self) -> None:
        left = self._last_read + self._listener.read_timeout_s - self._loop.time()
        if self._answering is not None or (self._snapshot is not None and self._snapshot.is_full):
            left = self._listener.read_timeout_s  # it waits for us
        if left <= 0:
            self.abort()
        else:
            self._rearm(left, self._check_silence)
