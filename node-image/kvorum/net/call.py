"""One call: what a handler sees of it, and the only way to answer it; and the call that came by gRPC.

A handler is a plain function of the Call, and does not know how it came: api.gateway makes some out of JSON. It may
answer at once or keep the call and answer from anywhere in the loop's thread; nobody waits in between. A call knows
nothing of what is asked or answered: messages are bytes to it.

Hot path: see wire/http2.py.
"""

import time
from collections.abc import Callable, Mapping
from struct import Struct
from typing import Final, Protocol

from kvorum.server.histogram import CALL_BOUNDS_S, Histogram
from kvorum.wire import grpc, http2
from kvorum.wire.grpc import BadMessage, Code, MessageReader, Status
from kvorum.wire.hpack import Header

Handler = Callable[["Call"], None]

HELD_BYTES_MAX: Final = 64 << 20  # of all incomplete messages on one connection; beyond it calls are refused


class MethodCounts:
    """What became of the calls of one method since the start, for /metrics: two additions a unary call, 0.1 us.

    Of a unary method every call that started brought one message, and every one that succeeded took one, so those are
    not counted. failed: by gRPC code; a call that the client took back counts as cancelled. took: how long calls were,
    from their headers to their end; None where nobody asked for it, since that costs 0.6 us more.
    """

    __slots__ = ("failed", "is_stream", "received", "sent", "started", "succeeded", "took")

    def __init__(self, *, is_stream: bool, took: Histogram | None) -> None:
        self.is_stream = is_stream
        self.started = 0
        self.succeeded = 0
        self.failed: dict[int, int] = {}
        self.received = 0
        self.sent = 0
        self.took = took

    def ended(self, code: int) -> None:
        if code:
            self.failed[code] = self.failed.get(code, 0) + 1
        else:
            self.succeeded += 1


NOT_COUNTED: Final = MethodCounts(is_stream=False, took=None)  # calls of methods that there are not


class Opening:
    """What one block of headers opens, looked up once: calls with equal headers share it.

    One of unary, stream and refusal is set.
    """

    __slots__ = (
        "_fields",
        "counts",
        "gzip",
        "headers",
        "message_bytes_max",
        "path",
        "refusal",
        "stream",
        "timeout_s",
        "unary",
    )

    def __init__(
        self,
        request: grpc.Request,
        unary: Handler | None,
        stream: Handler | None,
        refusal: Status | None,
        message_bytes_max: int,
        counts: MethodCounts,
    ) -> None:
        self.path = request.path
        self.headers = request.headers
        self.timeout_s = request.timeout_s
        self.gzip = request.gzip
        self.unary = unary
        self.stream = stream
        self.refusal = refusal
        self.message_bytes_max = message_bytes_max
        self.counts = counts
        self._fields: dict[str, str] | None = None

    def metadata(self, name: str) -> str | None:
        if self._fields is None:
            self._fields = {key.decode("latin-1"): value.decode("latin-1") for key, value in reversed(self.headers)}
        return self._fields.get(name)


class Routes:
    """Which handler takes which method. Paths are as on the wire: `/etcdserverpb.KV/Range`.

    unary:   called once the request message is complete; it is `call.body`.
    streams: called at the headers, with or without messages behind them; sets `on_message` and its like.
    message_bytes_max: of one message from a client; beyond it the call fails as with grpc-go.
    timed:   how long each call takes is counted, too. call_type is what a connection is to make for each call.
    """

    def __init__(
        self,
        *,
        unary: Mapping[str, Handler],
        streams: Mapping[str, Handler],
        message_bytes_max: int,
        timed: bool = False,
    ) -> None:
        self.counts = {
            path: MethodCounts(is_stream=path in streams, took=Histogram(CALL_BOUNDS_S) if timed else None)
            for path in (*unary, *streams)
        }
        self.call_type = TimedCall if timed else GrpcCall
        self._unary = unary
        self._streams = streams
        self._services = {path.rpartition("/")[0] for path in (*unary, *streams)}
        self._message_bytes_max = message_bytes_max

    def open(self, headers: list[Header]) -> Opening:
        """Raises http2.MalformedRequest."""
        request = grpc.read_request(headers)
        refusal = request.refusal
        unary = stream = None
        if refusal is None:
            unary = self._unary.get(request.path)
            if unary is None:
                stream = self._streams.get(request.path)
                if stream is None:
                    refusal = self._unknown(request.path)
        counts = self.counts.get(request.path, NOT_COUNTED)
        return Opening(request, unary, stream, refusal, self._message_bytes_max, counts)

    def _unknown(self, path: str) -> Status:
        service, slash, method = path.removeprefix("/").rpartition("/")
        if not slash or not path.startswith("/"):
            return Status(Code.UNIMPLEMENTED, f'malformed method name: "{path}"')
        if "/" + service in self._services:
            return Status(Code.UNIMPLEMENTED, f"unknown method {method} for service {service}")
        return Status(Code.UNIMPLEMENTED, f"unknown service {service}")


class Call(Protocol):
    """
    Unary: one of reply() and fail(), once; the request message is `body`.
    Streaming: push() as often as there is something, then finish(). For a call that the client has taken back
    (`cancelled`) all of them do nothing, so a late answer needs no check; a second answer is a mistake of ours, and
    an AssertionError.

    on_message: a message came. on_end: the client will send no more. on_close: the call ended otherwise than by our
    own reply, fail or finish: taken back, connection lost, protocol broken; called once, after which nothing is.
    on_writable: buffered_bytes fell below 64 KiB.
    All of them, and the handlers, are called while bytes are read, and may answer this call or any other.
    """

    body: bytes
    cancelled: bool
    on_message: Callable[[bytes], None] | None
    on_end: Callable[[], None] | None
    on_close: Callable[[], None] | None
    on_writable: Callable[[], None] | None

    @property
    def path(self) -> str:
        """As on the wire of gRPC: `/etcdserverpb.KV/Range`."""
        ...

    @property
    def timeout_s(self) -> float | None:
        """How long the client waits, from its headers on; it takes the call back by itself then."""
        ...

    @property
    def common_name(self) -> str | None:
        """Of the client's certificate, where one was asked for and verified; never through the gateway, as in etcd."""
        ...

    def metadata(self, name: str) -> str | None:
        """The first header of that name (lower case); a `-bin` one as it came, in base64."""
        ...

    @property
    def buffered_bytes(self) -> int:
        """What was pushed and waits for the client to read."""
        ...

    def reply(self, body: bytes) -> None: ...

    def fail(self, code: int, message: str) -> None: ...

    def push(self, body: bytes) -> None: ...

    def finish(self, code: int = 0, message: str = "") -> None: ...


class GrpcCall(http2.Stream):
    """A Call over gRPC."""

    request: Opening
    connection: "http2.Connection[Opening]"  # .id, .peer
    body: bytes = b""
    cancelled: bool = False
    on_message: Callable[[bytes], None] | None = None
    on_end: Callable[[], None] | None = None
    on_close: Callable[[], None] | None = None
    on_writable: Callable[[], None] | None = None
    _called: bool = False  # unary: the handler has the message, what still comes is nothing to it
    _counted: bool = False  # how it ended
    _reader: MessageReader | None = None
    _held_bytes: int = 0  # what this call adds to its connection's sum

    @property
    def path(self) -> str:
        return self.request.path

    @property
    def timeout_s(self) -> float | None:
        return self.request.timeout_s

    def metadata(self, name: str) -> str | None:
        """The first header of that name (lower case); a `-bin` one as it came, in base64."""
        return self.request.metadata(name)

    @property
    def common_name(self) -> str | None:
        """Of the client's certificate, verified; None without one, or where --client-cert-auth does not ask for it."""
        return self.connection.proven_name

    @property
    def buffered_bytes(self) -> int:
        """What was pushed and waits for the client to read."""
        return self.queued_bytes

    # Answers

    def reply(self, body: bytes) -> None:
        size = len(body) + grpc.MESSAGE_HEAD_BYTES
        connection = self.connection
        if (
            size <= self.send_window
            and size <= connection.send_window
            and size <= connection.sent_frame_bytes_max
            and self.open
            and not connection.paused
        ):
            assert not self.head_sent, f"{self.path}: a reply behind other messages"
            connection.send_window -= size
            connection.answered = True
            connection.write(grpc.reply(self.id, body))
            self.request.counts.succeeded += 1
            self.finished()
        else:
            self.push(body)
            self.finish()

    def fail(self, code: int, message: str) -> None:
        self.finish(code, message)

    def push(self, body: bytes) -> None:
        if self.cancelled:
            return
        if not self.head_sent:
            self.send_headers(grpc.HEADERS)
        self.request.counts.sent += 1
        self.send_data(grpc.message_head(len(body)) + body)

    def finish(self, code: int = 0, message: str = "") -> None:
        if self.cancelled:
            return
        self._count_end(code)
        if self.head_sent:
            self.send_trailers(grpc.trailers(code, message) if code or message else grpc.TRAILERS_OK)
        else:
            self.send_trailers(grpc.trailers_only(Status(code, message)))
        self._let_go()

    def _count_end(self, code: int) -> None:
        """Not twice, though what was finished may still be taken back; and not where no handler was called."""
        if not self._counted and (self._called or self.request.stream is not None):
            self._counted = True
            self.request.counts.ended(code)

    def finished(self) -> None:
        super().finished()
        self._let_go()

    # What comes in

    def opened(self) -> None:
        opening = self.request
        if opening.unary is not None:
            if self.half_closed:
                self._refuse(grpc.NO_MESSAGE)
        elif opening.stream is not None:
            opening.counts.started += 1
            opening.stream(self)
            if self.half_closed and self.on_end is not None:
                self.on_end()
        else:
            assert opening.refusal is not None, f"{opening.path} leads nowhere"
            self._refuse(opening.refusal)

    def received(self, data: bytes, at: int, stop: int) -> None:
        opening = self.request
        unary = opening.unary
        if unary is not None and self._reader is None and not self._called and stop - at >= grpc.MESSAGE_HEAD_BYTES:
            # One frame with one message: nearly every request is this.
            flag, size = _MESSAGE_HEAD_AT(data, at)
            at += grpc.MESSAGE_HEAD_BYTES
            if size == stop - at and not flag and size <= opening.message_bytes_max:
                self._called = True
                self.body = data[at:stop]
                opening.counts.started += 1
                unary(self)
                return
            at -= grpc.MESSAGE_HEAD_BYTES
        self._received_pieces(data, at, stop)

    def _received_pieces(self, data: bytes, at: int, stop: int) -> None:
        if self._called:
            return  # the client has only now finished, or says more than a unary call has to say
        if self._reader is None:
            self._reader = MessageReader(self.request.message_bytes_max, gzip=self.request.gzip)
        try:
            messages = self._reader.feed(data, at, stop)
        except BadMessage as bad:
            self._refuse(bad.status)
            return
        if not self._hold(self._reader.held_bytes):
            self._refuse(TOO_MUCH_HELD)
            return
        unary = self.request.unary
        if unary is not None:
            if messages:
                self._called = True
                self._hold(0)
                self._reader = None
                self.body = messages[0]
                self.request.counts.started += 1
                unary(self)
            elif self.half_closed:
                self._refuse(grpc.CUT_SHORT if self._held_bytes else grpc.NO_MESSAGE)
            return
        for message in messages:
            if self.on_message is None:
                return  # the handler has finished the call
            self.request.counts.received += 1
            self.on_message(message)
        if self.half_closed:
            if self._held_bytes:
                self._refuse(grpc.STREAM_CUT_SHORT)
            elif self.on_end is not None:
                self.on_end()

    def _hold(self, size: int) -> bool:
        """size bytes of an incomplete message are kept for this call; whether the connection's sum allows it."""
        connection = self.connection
        connection.held_bytes += size - self._held_bytes
        self._held_bytes = size
        return connection.held_bytes <= HELD_BYTES_MAX or not size

    def aborted(self) -> None:
        self._count_end(Code.CANCELLED)
        self.cancelled = True
        on_close = self.on_close
        self._let_go()
        if on_close is not None:
            on_close()

    def writable(self) -> None:
        if self.on_writable is not None:
            self.on_writable()

    def _refuse(self, status: Status) -> None:
        """We end the call, not its handler."""
        if not self.open:
            return
        on_close = self.on_close
        if self.head_sent:
            self.finish(status.code, status.message)
        else:
            self._count_end(status.code)
            self.send_trailers(grpc.trailers_only(status))
            self._let_go()
        self.cancelled = True
        if on_close is not None:
            on_close()

    def _let_go(self) -> None:
        """Nothing more is reported, and no handler's closure keeps the call alive in a circle."""
        self.on_message = self.on_end = self.on_close = self.on_writable = None
        if self._reader is not None:
            self._hold(0)
            self._reader = None


class TimedCall(GrpcCall):
    """Counts how long it took."""

    _opened_at = 0.0  # 0: it is counted

    def opened(self) -> None:
        self._opened_at = time.perf_counter()
        super().opened()

    def _let_go(self) -> None:
        took = self.request.counts.took
        if self._opened_at and took is not None and (self._called or self.request.stream is not None):
            took.observe(time.perf_counter() - self._opened_at)
            self._opened_at = 0.0
        super()._let_go()


TOO_MUCH_HELD: Final = Status(Code.RESOURCE_EXHAUSTED, "too many incomplete messages on this connection")
_MESSAGE_HEAD_AT: Final = Struct(">BI").unpack_from
