"""HTTP/2, the server's side (RFC 9113): a client's bytes into requests, their responses into frames.

Sans-IO: bytes go in by receive(), with the time; bytes to write gather in a list and come out by take(). What a request
is made of comes as an argument, and what happens with it is a subclass of Stream. Knows no socket, no clock, no gRPC.

What is outside the grammar, or a flood, ends the connection: GOAWAY with the code of the RFC and the reason in words,
after which nothing more is read. What is only wrong with one request (a malformed header, a window overrun) resets
that stream. Everything a client can make us keep has a bound in Limits or in a constant here.

Hot path: with wire/grpc.py and net/call.py 2.4 us for a unary call, 8 us with a new timeout; tests/bench/codec.py.
Hence no object for a frame, bounds instead of copies, and defaults of a stream on its class.
"""

import re
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final, Generic, TypeVar

from kvorum.wire.hpack import Decoder, Header, HeaderListTooLarge, HpackError

R = TypeVar("R")

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# Frame types
DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

# Flags
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITISED: Final = 0x20

# Error codes (RFC 9113, 7)
NO_ERROR: Final = 0
PROTOCOL_ERROR: Final = 1
FLOW_CONTROL_ERROR: Final = 3
STREAM_CLOSED: Final = 5
FRAME_SIZE_ERROR: Final = 6
REFUSED_STREAM: Final = 7
CANCEL: Final = 8
COMPRESSION_ERROR: Final = 9
ENHANCE_YOUR_CALM: Final = 11

# Settings
_ENABLE_PUSH: Final = 2
_MAX_CONCURRENT_STREAMS: Final = 3
_INITIAL_WINDOW_SIZE: Final = 4
_MAX_FRAME_SIZE: Final = 5
_MAX_HEADER_LIST_SIZE: Final = 6

FRAME_HEAD_BYTES: Final = 9
FRAME_BYTES_MAX: Final = 16_384  # of what we take: the default, and the least a client may be held to
SENT_AT_ONCE_BYTES: Final = 256 << 10  # of what waited: then it is for the transport to say whether it takes more
SENT_FRAME_BYTES_MAX: Final = 65_536  # of what we send where the client takes so much: longer ones hold up the others
WINDOW_MAX: Final = (1 << 31) - 1
WINDOW_DEFAULT: Final = 65_535
STREAM_ID_MAX: Final = (1 << 31) - 1

STREAM_WINDOW: Final = 1 << 20  # bytes a client may send on a stream before it hears from us
CONNECTION_WINDOW: Final = 16 << 20  # the same for all streams together

HEADER_BLOCK_BYTES_MAX: Final = 65_536  # compressed, over all its frames
CONTINUATIONS_MAX: Final = 16  # frames of one block behind the first: 64 KiB need four
REMEMBERED_RESETS_MAX: Final = 1024  # streams we ended first, whose late frames are still to be understood

# Patience: what a client pays for frames that bring no call on, what calls earn it, and how time heals.
PATIENCE_MAX: Final = 20_000
PATIENCE_PER_S: Final = 5_000
EARNED: Final = 4  # by a request, and by a message we send: acknowledgements of these are no flood
_COST_CONTROL: Final = 2  # PING, PRIORITY, unknown frames, small WINDOW_UPDATEs, frames on closed streams
_COST_EMPTY: Final = 10  # DATA without data and without end
_COST_SETTINGS: Final = 50
_COST_RESET: Final = 8  # a request taken back before there was an answer (rapid reset), or one that was malformed
_SMALL_INCREMENT: Final = 1024  # a window opened by less, again and again, is a flood; 2^31 bounds the others

PING_STRIKES_MAX: Final = 2  # as grpc-go: the third ping too many ends the connection
PING_WITHOUT_STREAM_S: Final = 7200.0
_PING_KEEPALIVE: Final = b"kv-alive"
_PING_DRAIN: Final = b"kv-drain"

_HEAD: Final = Struct(">IBI")  # length << 8 | type, flags, stream
_HEAD_4: Final = Struct(">IBII")
_SETTING: Final = Struct(">HI")
_HEAD_MAX: Final = FRAME_BYTES_MAX << 8 | 0xFF


class MalformedRequest(Exception):
    """Headers that are no request (RFC 9113, 8.1.1): the stream is reset, the connection goes on."""


class ConnectionFault(Exception):
    """The client broke the protocol; code for its GOAWAY. Never leaves this module."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@dataclass(frozen=True, slots=True)
class Limits:
    streams_max: int = 0xFFFF_FFFF  # open at once; etcd's default is none
    header_list_bytes_max: int = 65_536  # uncompressed, with 32 for each header
    ping_interval_min_s: float = 5.0  # pings of a client that come faster are strikes (etcd: grpc-keepalive-min-time)
    silence_s: float = 7200.0  # after so much we ask whether the client still lives (grpc-keepalive-interval)
    answer_s: float = 20.0  # and wait this long for its word (grpc-keepalive-timeout)
    settings_s: float = 60.0  # for the first frame after the preface


class Stream:
    """One request and its response. Subclasses say what becomes of what comes in.

    Attributes that most streams never change are on the class: making a stream is part of each call.
    """

    half_closed: bool = False  # the client has sent all it will
    open: bool = True  # there may still be something to send
    queued_bytes: int = 0  # DATA that waits for the client's windows
    writable_below: int = 65_536  # writable() is called when queued_bytes falls below
    head_sent: bool = False
    _queue: deque[bytes] | None = None
    _queue_at: int = 0  # bytes of the first piece that were sent
    _last: bytes | None = None  # the trailers, once they are known; empty for an end without any

    def __init__(self, connection: "Connection[Any]", stream_id: int, request: Any) -> None:
        self.connection = connection
        self.id = stream_id
        self.request = request
        self.send_window: int = connection.stream_send_window
        self.receive_window: int = STREAM_WINDOW

    # What comes in

    def opened(self) -> None:
        """The headers are here. half_closed: and that is all."""
        raise NotImplementedError

    def received(self, data: bytes, at: int, stop: int) -> None:
        """data[at:stop] came in, maybe nothing; half_closed: and that was the last."""
        raise NotImplementedError

    def aborted(self) -> None:
        """The client took it back, broke the protocol or went away; nothing can be sent any more."""
        raise NotImplementedError

    def writable(self) -> None:
        """queued_bytes fell below writable_below."""
        raise NotImplementedError

    # What goes out

    def send_headers(self, block: bytes) -> None:
        assert self.open, f"stream {self.id}: headers after the end"
        assert not self.head_sent, f"stream {self.id}: headers twice"
        self.head_sent = True
        connection = self.connection
        connection.answered = True
        connection.write(_HEAD.pack(len(block) << 8 | HEADERS, END_HEADERS, self.id) + block)

    def send_data(self, data: bytes) -> None:
        """Now, or as the client opens its windows: queued_bytes tells how much waits."""
        assert self.head_sent, f"stream {self.id}: data before the headers"
        assert self.open, f"stream {self.id}: data after the end"
        assert self._last is None, f"stream {self.id}: data behind the trailers"
        connection = self.connection
        connection.answered = True
        connection.patience += EARNED
        size = len(data)
        if (
            not self.queued_bytes
            and size <= self.send_window
            and size <= connection.send_window
            and size <= connection.sent_frame_bytes_max
            and not connection.paused
        ):
            self.send_window -= size
            connection.send_window -= size
            connection.write(_HEAD.pack(size << 8, 0, self.id) + data)  # DATA is type 0
            return
        if self._queue is None:
            self._queue = deque()
        self._queue.append(data)
        self.queued_bytes += size
        connection.queued_bytes += size
        connection.send_queued(self)

    def send_trailers(self, block: bytes) -> None:
        """The end, behind what is queued. Without headers before it, the whole response."""
        assert self.open, f"stream {self.id}: trailers after the end"
        assert self._last is None, f"stream {self.id}: trailers twice"
        self.connection.answered = True
        if self.queued_bytes:
            self._last = block
        else:
            self.connection.write(_HEAD.pack(len(block) << 8 | HEADERS, END_HEADERS | END_STREAM, self.id) + block)
            self.finished()

    def send_end(self) -> None:
        """The end without trailers, behind what is queued. The headers are sent."""
        assert self.head_sent, f"stream {self.id}: an end before the headers"
        assert self.open, f"stream {self.id}: an end after the end"
        assert self._last is None, f"stream {self.id}: an end behind the trailers"
        if self.queued_bytes:
            self._last = b""
        else:
            self.connection.write(_HEAD.pack(0, END_STREAM, self.id))  # DATA is type 0
            self.finished()

    def send_interim(self, block: bytes) -> None:
        """Headers of a 1xx response, before those of the response."""
        assert self.open, f"stream {self.id}: headers after the end"
        assert not self.head_sent, f"stream {self.id}: interim headers behind the headers"
        self.connection.write(_HEAD.pack(len(block) << 8 | HEADERS, END_HEADERS, self.id) + block)

    def reset(self, code: int) -> None:
        """Ends the stream without an answer."""
        if self.open:
            self.leave()
            self.connection.reset_sent(self.id, code, may_hear_more=not self.half_closed)

    def finished(self) -> None:
        """The last frame of the response is written."""
        self.leave()
        if not self.half_closed:
            # The client may stop sending; what it has sent is to be understood, not answered (RFC 9113, 8.1).
            self.connection.reset_sent(self.id, NO_ERROR, may_hear_more=True)

    def leave(self) -> None:
        self.open = False
        if self.queued_bytes:
            self.connection.queued_bytes -= self.queued_bytes
            self.queued_bytes = 0
            self._queue = None
        self.connection.forget(self)

    def send_frame(self, room: int) -> None:
        """Writes one DATA frame of at most room bytes from the queue."""
        queue = self._queue
        assert queue
        parts: list[bytes] = []
        size = 0
        while queue and size < room:
            piece = queue[0]
            rest = len(piece) - self._queue_at
            used = min(rest, room - size)
            # A slice copies no more than the frame is long, so a long message is copied once in all.
            parts.append(piece if used == len(piece) else piece[self._queue_at : self._queue_at + used])
            size += used
            if used == rest:
                queue.popleft()
                self._queue_at = 0
            else:
                self._queue_at += used
        self.queued_bytes -= size
        self.send_window -= size
        connection = self.connection
        connection.queued_bytes -= size
        connection.send_window -= size
        connection.write(_HEAD.pack(size << 8, 0, self.id))
        for part in parts:
            connection.write(part)

    def queue_empty(self) -> None:
        """All that was queued is written; the end, if it waited, follows."""
        block = self._last
        if block is not None:
            head = len(block) << 8 | HEADERS, END_HEADERS | END_STREAM, self.id
            self.connection.write(_HEAD.pack(*head) + block if block else _HEAD.pack(0, END_STREAM, self.id))
            self.finished()


class Connection(Generic[R]):
    """One client.

    read_request: what to make of a request's headers; may raise MalformedRequest. The same bytes of a header block may
                  get the same object again, so it is not to be changed.
    make_stream:  called with (connection, stream id, request) for each request.
    wake:         called once when there is something to take() that receive() did not put there.
    peer, proven_name: who the client is by its address, and by what it proved; for who makes streams, not used here.
    """

    def __init__(
        self,
        read_request: Callable[[list[Header]], R],
        make_stream: Callable[["Connection[R]", int, R], Stream],
        wake: Callable[[], None],
        limits: Limits,
        *,
        now: float,
        connection_id: int = 0,
        peer: str = "",
        proven_name: str | None = None,
    ) -> None:
        self.id = connection_id
        self.peer = peer
        self.proven_name = proven_name
        self.streams: dict[int, Stream] = {}
        self.closing = False  # take() what is left, write it, close
        self.fault: str | None = None  # why, if the client is to blame
        self.paused = False  # the transport takes no more for now
        self.answered = False  # something was sent that was no mere acknowledgement, since the last ping
        self.held_bytes = 0  # of incomplete messages, on all streams; counted by who puts messages together
        self.queued_bytes = 0  # of DATA that waits for windows or the transport, on all streams
        self.send_window = WINDOW_DEFAULT
        self.stream_send_window = WINDOW_DEFAULT  # of new streams: the client's SETTINGS_INITIAL_WINDOW_SIZE
        self.sent_frame_bytes_max = FRAME_BYTES_MAX
        self._make_stream = make_stream
        self._wake = wake
        self._limits = limits
        self._decoder = Decoder(read_request, list_bytes_max=limits.header_list_bytes_max)
        self._out: list[bytes] = []
        self._enough_at = 0  # send_window at which what waits goes on waiting until the next take()
        self._awake = True  # somebody is going to take() anyway
        self._pending = b""
        self._preface_due = True
        self._settings_due = True
        self._receive_window = CONNECTION_WINDOW
        self._last_id = 0
        self._last_id_taken = STREAM_ID_MAX  # requests behind it are not taken up any more
        self._block: bytearray | None = None  # of headers, until their last frame is here
        self._block_stream = 0
        self._block_flags = 0
        self._block_frames = 0
        self._resets: OrderedDict[int, None] = OrderedDict()
        self._blocked: OrderedDict[int, Stream] = (
            OrderedDict()
        )  # have DATA and a window of their own: wait for the connection's
        self.patience = PATIENCE_MAX
        self._patience_at = now
        self._now = now
        self._opened_at = now
        self._heard_at = now
        self._asked_at: float | None = None
        self._ping_at = float("-inf")
        self._ping_strikes = 0
        self._draining = False
        settings = [(_INITIAL_WINDOW_SIZE, STREAM_WINDOW), (_MAX_HEADER_LIST_SIZE, limits.header_list_bytes_max)]
        if limits.streams_max < 0xFFFF_FFFF:
            settings.append((_MAX_CONCURRENT_STREAMS, limits.streams_max))
        payload = b"".join(_SETTING.pack(*setting) for setting in settings)
        self.write(_HEAD.pack(len(payload) << 8 | SETTINGS, 0, 0) + payload)
        self.write(_HEAD_4.pack(4 << 8 | WINDOW_UPDATE, 0, 0, CONNECTION_WINDOW - WINDOW_DEFAULT))

    # Bytes in

    def receive(self, data: bytes, now: float) -> None:
        """Handles all frames that data completes. now: seconds of any steady clock.

        Responses made meanwhile wait for take(), and wake is not called for them.
        """
        if self.closing:
            return
        self._awake = True
        self._now = self._heard_at = now
        self._asked_at = None
        try:
            self._pending = self._frames(self._pending + data if self._pending else data)
        except ConnectionFault as fault:
            self._end(fault.code, fault.text)

    def _frames(self, data: bytes) -> bytes:
        """Handles the whole frames in data, returns the rest."""
        at, end = 0, len(data)
        if self._preface_due:
            if not data.startswith(PREFACE):
                if PREFACE.startswith(data):
                    return data
                raise ConnectionFault(PROTOCOL_ERROR, "no preface of HTTP/2")
            self._preface_due = False
            at = len(PREFACE)
        unpack = _HEAD.unpack_from
        streams = self.streams
        while end - at >= FRAME_HEAD_BYTES:
            length_and_type, flags, stream_id = unpack(data, at)
            kind = length_and_type & 0xFF
            stop = at + FRAME_HEAD_BYTES + (length_and_type >> 8)
            if length_and_type > _HEAD_MAX:
                raise ConnectionFault(FRAME_SIZE_ERROR, f"a frame of {length_and_type >> 8} bytes")
            if stop > end:
                break
            at += FRAME_HEAD_BYTES
            if self._block is not None:
                self._on_continuation(kind, flags, stream_id, data, at, stop)
            elif kind == HEADERS and flags & ~END_STREAM == END_HEADERS and not self._settings_due:
                self._on_block(stream_id & STREAM_ID_MAX, data[at:stop], flags)
            elif kind == DATA and flags <= END_STREAM and (stream := streams.get(stream_id)) and stop > at:
                # Most frames are this one; the others, and the checks that fail, go the long way.
                self._receive_window -= stop - at
                stream.receive_window -= stop - at
                if self._receive_window < CONNECTION_WINDOW // 2:
                    self._open_window()
                if stream.receive_window < STREAM_WINDOW // 2 or stream.half_closed:
                    self._open_stream_window(stream, flags)
                if stream.open:
                    if flags:
                        stream.half_closed = True
                    stream.received(data, at, stop)
            else:
                self._on_frame(kind, flags, stream_id & STREAM_ID_MAX, data, at, stop)
            if self.closing:
                return b""
            at = stop
        return data[at:] if at < end else b""

    def _on_frame(self, kind: int, flags: int, stream_id: int, data: bytes, at: int, stop: int) -> None:
        if self._settings_due and (kind != SETTINGS or flags & ACK):
            raise ConnectionFault(PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if kind == DATA:
            self._on_data(flags, stream_id, data, at, stop)
        elif kind == HEADERS:
            self._on_headers(flags, stream_id, data, at, stop)
        elif kind == WINDOW_UPDATE:
            self._on_window_update(stream_id, data[at:stop])
        elif kind == PING:
            self._on_ping(flags, stream_id, data[at:stop])
        elif kind == SETTINGS:
            self._on_settings(flags, stream_id, data[at:stop])
        elif kind == RST_STREAM:
            self._on_reset(stream_id, data[at:stop])
        elif kind == GOAWAY:
            # The client opens no more streams; it closes when it has all its answers.
            if stream_id:
                raise ConnectionFault(PROTOCOL_ERROR, "GOAWAY on a stream")
            if stop - at < 8:
                raise ConnectionFault(FRAME_SIZE_ERROR, "GOAWAY is cut short")
            self._charge(_COST_CONTROL)
        elif kind == PRIORITY:
            # Nothing here has a priority (RFC 9113, 5.3.2); only the form is looked at.
            if not stream_id:
                raise ConnectionFault(PROTOCOL_ERROR, "PRIORITY on the connection")
            if stop - at != 5:
                raise ConnectionFault(FRAME_SIZE_ERROR, f"PRIORITY of {stop - at} bytes")
            self._charge(_COST_CONTROL)
        elif kind in (PUSH_PROMISE, CONTINUATION):
            raise ConnectionFault(PROTOCOL_ERROR, "PUSH_PROMISE or CONTINUATION out of place")
        else:
            self._charge(_COST_CONTROL)  # extensions are ignored (RFC 9113, 4.1)

    def _on_data(self, flags: int, stream_id: int, data: bytes, at: int, stop: int) -> None:
        if not stream_id:
            raise ConnectionFault(PROTOCOL_ERROR, "DATA on the connection")
        length = stop - at  # padding counts against the windows, too
        self._receive_window -= length
        if self._receive_window < CONNECTION_WINDOW // 2:
            self._open_window()
        at, stop = _without_padding(flags, data, at, stop)
        stream = self.streams.get(stream_id)
        if stream is None:
            known = stream_id in self._resets
            self._on_no_stream(stream_id, ended=bool(flags & END_STREAM))
            if not known and stream_id <= self._last_id_taken:
                self._refuse(stream_id, STREAM_CLOSED, END_STREAM)
            return
        stream.receive_window -= length
        if stream.receive_window < STREAM_WINDOW // 2 or stream.half_closed:
            self._open_stream_window(stream, flags)
            if not stream.open:
                return
        if flags & END_STREAM:
            stream.half_closed = True
        elif at == stop:
            self._charge(_COST_EMPTY)
        stream.received(data, at, stop)

    def _open_window(self) -> None:
        """All that came is taken at once, so the connection's window follows what came, not what was handled: streams
        that wait for each other could stand still otherwise. What is held of them is bounded a layer up."""
        if self._receive_window < 0:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "more DATA than the connection's window")
        increment = CONNECTION_WINDOW - self._receive_window
        self._receive_window = CONNECTION_WINDOW
        self.write(_HEAD_4.pack(4 << 8 | WINDOW_UPDATE, 0, 0, increment))

    def _open_stream_window(self, stream: Stream, flags: int) -> None:
        """Opens it again unless this was the last of it; resets the stream if it sent what it may not."""
        if stream.half_closed:
            self._abort(stream, STREAM_CLOSED)
        elif stream.receive_window < 0:
            self._abort(stream, FLOW_CONTROL_ERROR)
        elif not flags & END_STREAM:
            increment = STREAM_WINDOW - stream.receive_window
            stream.receive_window = STREAM_WINDOW
            self.write(_HEAD_4.pack(4 << 8 | WINDOW_UPDATE, 0, stream.id, increment))

    def _on_headers(self, flags: int, stream_id: int, data: bytes, at: int, stop: int) -> None:
        if not stream_id:
            raise ConnectionFault(PROTOCOL_ERROR, "HEADERS on the connection")
        at, stop = _without_padding(flags, data, at, stop)
        if flags & PRIORITISED:
            at += 5
            if at > stop:
                raise ConnectionFault(FRAME_SIZE_ERROR, "HEADERS are cut short")
        if flags & END_HEADERS:
            self._on_block(stream_id, data[at:stop], flags)
        else:
            self._block = bytearray(data[at:stop])
            self._block_stream, self._block_flags, self._block_frames = stream_id, flags, 0

    def _on_continuation(self, kind: int, flags: int, stream_id: int, data: bytes, at: int, stop: int) -> None:
        block = self._block
        assert block is not None
        if kind != CONTINUATION or stream_id & STREAM_ID_MAX != self._block_stream:
            raise ConnectionFault(PROTOCOL_ERROR, "a header block is interrupted")
        block += data[at:stop]
        self._block_frames += 1
        if self._block_frames > CONTINUATIONS_MAX or len(block) > HEADER_BLOCK_BYTES_MAX:
            raise ConnectionFault(ENHANCE_YOUR_CALM, "a header block is too long")
        if flags & END_HEADERS:
            self._block = None
            self._on_block(self._block_stream, bytes(block), self._block_flags)

    def _on_block(self, stream_id: int, block: bytes, flags: int) -> None:
        if stream_id <= self._last_id or not stream_id & 1:
            self._on_trailers(stream_id, block, flags)
            return
        self._last_id = stream_id
        try:
            request = self._decoder.decode(block)
        except HpackError as error:
            raise ConnectionFault(COMPRESSION_ERROR, str(error)) from None
        except MalformedRequest:
            self._refuse(stream_id, PROTOCOL_ERROR, flags)
            return
        except HeaderListTooLarge:
            self._refuse(stream_id, FRAME_SIZE_ERROR, flags)  # as grpc-go does
            return
        if stream_id > self._last_id_taken:
            return  # our GOAWAY told the client that these are its to repeat elsewhere
        if len(self.streams) >= self._limits.streams_max:
            self._refuse(stream_id, REFUSED_STREAM, flags)
            return
        self.patience += EARNED
        stream = self.streams[stream_id] = self._make_stream(self, stream_id, request)
        if flags & END_STREAM:
            stream.half_closed = True
        stream.opened()

    def _refuse(self, stream_id: int, code: int, flags: int) -> None:
        self.reset_sent(stream_id, code, may_hear_more=not flags & END_STREAM)
        self._charge(_COST_RESET)

    def _on_trailers(self, stream_id: int, block: bytes, flags: int) -> None:
        """Headers on a stream that was opened before. They mean nothing in gRPC but that the client has finished."""
        stream = self.streams.get(stream_id)
        if stream is None and stream_id not in self._resets:
            if not stream_id & 1:
                raise ConnectionFault(PROTOCOL_ERROR, f"a client's stream {stream_id}")
            raise ConnectionFault(STREAM_CLOSED, f"HEADERS on stream {stream_id}, which is closed")
        try:
            headers = self._decoder.decode_unread(block)
        except HpackError as error:
            raise ConnectionFault(COMPRESSION_ERROR, str(error)) from None
        except HeaderListTooLarge:
            headers = [(b":", b"")]  # refused below, as what else may not be here
        if stream is None:
            self._on_no_stream(stream_id, ended=bool(flags & END_STREAM))
        elif stream.half_closed:
            self._abort(stream, STREAM_CLOSED)
        elif not flags & END_STREAM or any(name.startswith(b":") for name, _ in headers):
            self._abort(stream, PROTOCOL_ERROR)
        else:
            stream.half_closed = True
            stream.received(b"", 0, 0)

    def _on_no_stream(self, stream_id: int, *, ended: bool) -> None:
        """DATA or RST_STREAM on a stream that is over: ignored, within patience. Idle ones are a fault."""
        if stream_id > self._last_id or not stream_id & 1:
            raise ConnectionFault(PROTOCOL_ERROR, f"a frame on stream {stream_id}, which was never opened")
        if ended:
            self._resets.pop(stream_id, None)
        self._charge(_COST_CONTROL)

    def _on_reset(self, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise ConnectionFault(PROTOCOL_ERROR, "RST_STREAM on the connection")
        if len(payload) != 4:
            raise ConnectionFault(FRAME_SIZE_ERROR, f"RST_STREAM of {len(payload)} bytes")
        stream = self.streams.get(stream_id)
        if stream is None:
            self._on_no_stream(stream_id, ended=True)
            return
        answered = stream.head_sent
        stream.leave()
        stream.aborted()
        if not answered:
            self._charge(_COST_RESET)

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(FRAME_SIZE_ERROR, f"WINDOW_UPDATE of {len(payload)} bytes")
        increment = int.from_bytes(payload, "big") & WINDOW_MAX
        if increment < _SMALL_INCREMENT:
            self._charge(_COST_CONTROL)
        if not stream_id:
            if not increment:
                raise ConnectionFault(PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
            self.send_window += increment
            if self.send_window > WINDOW_MAX:
                raise ConnectionFault(FLOW_CONTROL_ERROR, "the connection's window is above 2^31-1")
            if self._blocked:
                self._send_blocked()
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id > self._last_id or not stream_id & 1:
                raise ConnectionFault(PROTOCOL_ERROR, f"WINDOW_UPDATE on stream {stream_id}, which was never opened")
        elif not increment:
            self._abort(stream, PROTOCOL_ERROR)
        else:
            stream.send_window += increment
            if stream.send_window > WINDOW_MAX:
                self._abort(stream, FLOW_CONTROL_ERROR)
            elif stream.queued_bytes:
                self.send_queued(stream)

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(PROTOCOL_ERROR, "SETTINGS on a stream")
        self._charge(_COST_SETTINGS)
        if flags & ACK:
            if payload:
                raise ConnectionFault(FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS with settings")
            return
        if len(payload) % 6:
            raise ConnectionFault(FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes")
        self._settings_due = False
        for setting, value in _SETTING.iter_unpack(payload):
            if setting == _INITIAL_WINDOW_SIZE:
                self._on_initial_window(value)
            elif setting == _MAX_FRAME_SIZE:
                if not FRAME_BYTES_MAX <= value < 1 << 24:
                    raise ConnectionFault(PROTOCOL_ERROR, f"SETTINGS_MAX_FRAME_SIZE {value}")
                self.sent_frame_bytes_max = min(value, SENT_FRAME_BYTES_MAX)
            elif setting == _ENABLE_PUSH and value > 1:
                raise ConnectionFault(PROTOCOL_ERROR, f"SETTINGS_ENABLE_PUSH {value}")
        self.write(_HEAD.pack(SETTINGS, ACK, 0))
        self._send_blocked()

    def _on_initial_window(self, value: int) -> None:
        """Also the windows of open streams move, and may become negative (RFC 9113, 6.9.2)."""
        if value > WINDOW_MAX:
            raise ConnectionFault(FLOW_CONTROL_ERROR, f"SETTINGS_INITIAL_WINDOW_SIZE {value}")
        delta = value - self.stream_send_window
        self.stream_send_window = value
        for stream in self.streams.values():
            stream.send_window += delta
            if stream.send_window > WINDOW_MAX:
                raise ConnectionFault(FLOW_CONTROL_ERROR, f"the window of stream {stream.id} is above 2^31-1")
            if stream.queued_bytes:
                self._blocked[stream.id] = stream

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(FRAME_SIZE_ERROR, f"PING of {len(payload)} bytes")
        self._charge(_COST_CONTROL)
        if flags & ACK:
            if payload == _PING_DRAIN and self._draining:
                self._finish_drain()
            return
        self.write(_HEAD.pack(8 << 8 | PING, ACK, 0) + payload)
        interval_s, self._ping_at = self._now - self._ping_at, self._now
        if self.answered:
            # A ping behind an answer measures the line, as grpc-go's clients do. It never is too much.
            self.answered = False
            self._ping_strikes = 0
            return
        allowed_s = self._limits.ping_interval_min_s if self.streams else PING_WITHOUT_STREAM_S
        if interval_s < allowed_s:
            self._ping_strikes += 1
            if self._ping_strikes > PING_STRIKES_MAX:
                raise ConnectionFault(ENHANCE_YOUR_CALM, "too_many_pings")

    def _charge(self, cost: int) -> None:
        self.patience = min(self.patience, PATIENCE_MAX) - cost
        if self.patience < 0:
            healed = int((self._now - self._patience_at) * PATIENCE_PER_S)
            self._patience_at = self._now
            self.patience = min(self.patience + healed, PATIENCE_MAX)
            if self.patience < 0:
                raise ConnectionFault(ENHANCE_YOUR_CALM, "too many frames that bring no call on")

    # Bytes out

    def take(self) -> bytes:
        """What is to be written now; ask again until nothing comes. If closing is set then, close behind it."""
        if not self._out and self._blocked:
            self._awake = True
            self._send_blocked()
        self._awake = False
        self._enough_at = self.send_window - SENT_AT_ONCE_BYTES
        data = b"".join(self._out)
        self._out.clear()
        return data

    def write(self, frames: bytes) -> None:
        self._out.append(frames)
        if not self._awake:
            self._awake = True
            self._wake()

    def send_queued(self, stream: Stream) -> None:
        """stream has DATA queued, or its window has opened: sends what the windows allow."""
        self._blocked[stream.id] = stream
        self._send_blocked()

    def _send_blocked(self) -> None:
        """One frame of each stream in turn, until a window or the transport stops it, or it is enough for once."""
        blocked = self._blocked
        writable: list[Stream] = []
        while blocked and self.send_window > max(0, self._enough_at) and not self.paused:
            _, stream = blocked.popitem(last=False)
            room = min(stream.send_window, self.send_window, self.sent_frame_bytes_max)
            if room <= 0:
                continue  # it comes back when its own window opens
            queued_before = stream.queued_bytes
            stream.send_frame(room)
            if stream.queued_bytes < stream.writable_below <= queued_before:
                writable.append(stream)
            if stream.queued_bytes:
                blocked[stream.id] = stream
            else:
                stream.queue_empty()
        for stream in writable:
            if stream.open:
                stream.writable()

    def resume(self) -> None:
        """The transport takes bytes again."""
        self.paused = False
        self._send_blocked()

    def reset_sent(self, stream_id: int, code: int, *, may_hear_more: bool) -> None:
        """Resets a stream that is over on our side; frames that are on their way then mean nothing."""
        self.write(_HEAD_4.pack(4 << 8 | RST_STREAM, 0, stream_id, code))
        if may_hear_more:
            self._resets[stream_id] = None
            if len(self._resets) > REMEMBERED_RESETS_MAX:
                self._resets.popitem(last=False)

    def forget(self, stream: Stream) -> None:
        """stream is over, for whatever reason."""
        del self.streams[stream.id]
        if self._blocked:
            self._blocked.pop(stream.id, None)
        if self._draining and not self.streams:
            self._close_if_drained()

    # The end

    def tick(self, now: float) -> None:
        """To be called every few seconds: asks a silent client whether it lives, gives a dead one up."""
        if self.closing:
            return
        if self._settings_due and now - self._opened_at > self._limits.settings_s:
            self._give_up(f"no SETTINGS within {self._limits.settings_s:g} s")
        elif self._asked_at is None:
            if now - self._heard_at > self._limits.silence_s:
                self._asked_at = now
                self.write(_HEAD.pack(8 << 8 | PING, 0, 0) + _PING_KEEPALIVE)
        elif now - self._asked_at > self._limits.answer_s:
            self._give_up(f"no answer to a PING within {self._limits.answer_s:g} s")

    def drain(self) -> None:
        """Takes no new requests, and is closing once the open ones are answered.

        In two steps, so that requests already on their way are still served (RFC 9113, 6.8): the GOAWAY that names the
        last one follows when the client has answered a PING behind the first.
        """
        if self._draining or self.closing:
            return
        self._draining = True
        self._goaway(STREAM_ID_MAX, NO_ERROR, "")
        self.write(_HEAD.pack(8 << 8 | PING, 0, 0) + _PING_DRAIN)

    def _finish_drain(self) -> None:
        if self._last_id_taken == STREAM_ID_MAX:
            self._last_id_taken = self._last_id
            self._goaway(self._last_id, NO_ERROR, "")
            self._close_if_drained()

    def _close_if_drained(self) -> None:
        if not self.streams and self._last_id_taken != STREAM_ID_MAX:
            self.closing = True
            self.write(b"")  # wakes who has to close

    def lost(self) -> None:
        """The transport is gone."""
        self.closing = True
        self._abort_all()

    def _give_up(self, text: str) -> None:
        self._end(NO_ERROR, text)

    def _end(self, code: int, text: str) -> None:
        self._goaway(self._last_id, code, text)
        self.closing = True
        self.fault = text
        self._pending = b""
        self._abort_all()

    def _goaway(self, last_id: int, code: int, text: str) -> None:
        reason = text.encode()
        self.write(_HEAD_4.pack(8 + len(reason) << 8 | GOAWAY, 0, 0, last_id) + code.to_bytes(4, "big") + reason)

    def _abort(self, stream: Stream, code: int) -> None:
        """The client did something on this stream that it may not."""
        stream.reset(code)
        stream.aborted()
        self._charge(_COST_RESET)

    def _abort_all(self) -> None:
        for stream in list(self.streams.values()):
            stream.leave()
            stream.aborted()


def _without_padding(flags: int, data: bytes, at: int, stop: int) -> tuple[int, int]:
    if not flags & PADDED:
        return at, stop
    if at == stop:
        raise ConnectionFault(FRAME_SIZE_ERROR, "a padded frame without the padding's length")
    padding = data[at]
    at += 1
    if padding > stop - at:
        raise ConnectionFault(PROTOCOL_ERROR, "more padding than frame")
    return at, stop - padding


# Requests

_PSEUDO: Final = frozenset((b":method", b":scheme", b":path", b":authority"))
_USUAL: Final = frozenset(
    b"content-type te user-agent grpc-timeout grpc-accept-encoding accept-encoding grpc-encoding authorization token"
    b" hasleader client-api-version content-length grpc-trace-bin traceparent".split()
)
_FORBIDDEN: Final = frozenset(b"connection keep-alive proxy-connection transfer-encoding upgrade".split())
_CONTROL: Final = bytes(code for code in (*range(32), 127) if code != 9)  # more than the RFC forbids, as Go does
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")


def check_request(headers: list[Header]) -> dict[bytes, bytes]:
    """The first value of each name. Raises MalformedRequest (RFC 9113, 8.2 and 8.3.1).

    What is not checked: a content-length against the DATA, because gRPC's messages carry their own.
    """
    fields: dict[bytes, bytes] = {}
    pseudo_done = False
    for name, value in headers:
        if name in _PSEUDO:
            if pseudo_done or name in fields:
                raise MalformedRequest(f"{name!r} twice or behind other headers")
        else:
            pseudo_done = True
            if name not in _USUAL and (name in _FORBIDDEN or not _NAME.fullmatch(name)):
                raise MalformedRequest(f"{name!r} is no header of a request")
        if name not in fields:
            fields[name] = value
    if b":method" not in fields or b":scheme" not in fields or not fields.get(b":path"):
        raise MalformedRequest(":method, :scheme or :path is missing")
    if fields.get(b"te", b"trailers") != b"trailers":
        raise MalformedRequest("te is not trailers")
    values = b",".join([value for _, value in headers])
    if len(values.translate(None, _CONTROL)) != len(values):
        raise MalformedRequest("a control character in a value")
    return fields
