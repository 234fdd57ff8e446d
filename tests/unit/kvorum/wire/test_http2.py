"""The HTTP/2 server codec: against the `h2` package as client, and against frames that no client should send."""

from collections.abc import Callable
from random import Random
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kvorum.wire import http2
from kvorum.wire.hpack import Header, encode
from kvorum.wire.http2 import Connection, Limits, Stream

from tests.unit.kvorum.wire import frames
from tests.unit.kvorum.wire.frames import Frame

HEAD = encode([(b":status", b"200")])
END = encode([(b"x-end", b"1")])


class Recorder(Stream):
    """Remembers what came, answers nothing by itself."""

    request: dict[bytes, bytes]

    def __init__(self, connection: Connection[Any], stream_id: int, request: dict[bytes, bytes]) -> None:
        super().__init__(connection, stream_id, request)
        self.body = b""
        self.events: list[str] = []

    def opened(self) -> None:
        self.events.append("opened and ended" if self.half_closed else "opened")

    def received(self, data: bytes, at: int, stop: int) -> None:
        assert 0 <= at <= stop <= len(data)
        self.body += data[at:stop]
        if self.half_closed:
            self.events.append("ended")

    def aborted(self) -> None:
        self.events.append("aborted")

    def writable(self) -> None:
        self.events.append("writable")

    def answer(self, body: bytes) -> None:
        self.send_headers(HEAD)
        if body:
            self.send_data(body)
        self.send_trailers(END)


class Echo(Recorder):
    """Answers with what it got, once it got all."""

    def opened(self) -> None:
        super().opened()
        if self.half_closed:
            self.answer(b"")

    def received(self, data: bytes, at: int, stop: int) -> None:
        super().received(data, at, stop)
        if self.half_closed:
            self.answer(self.body)


class Server:
    """A connection under test, with all it ever opened, and the frames it writes."""

    def __init__(self, kind: type[Recorder] = Recorder, limits: Limits | None = None, *, greet: bool = True) -> None:
        self.seen: dict[int, Recorder] = {}
        self.wakes = 0
        self.now = 1000.0

        def make(connection: Connection[dict[bytes, bytes]], stream_id: int, request: dict[bytes, bytes]) -> Stream:
            stream = self.seen[stream_id] = kind(connection, stream_id, request)
            return stream

        self.connection: Connection[dict[bytes, bytes]] = Connection(
            http2.check_request, make, self._wake, limits or Limits(), now=self.now
        )
        self.greeting = frames.read(self.connection.take())
        if greet:
            assert self.feed(http2.PREFACE, frames.settings()) == [Frame(http2.SETTINGS, http2.ACK, 0, b"")]

    def _wake(self) -> None:
        self.wakes += 1

    def feed(self, *pieces: bytes) -> list[Frame]:
        self.connection.receive(b"".join(pieces), self.now)
        return self.take()

    def closing(self) -> bool:
        return self.connection.closing

    def take(self) -> list[Frame]:
        return frames.read(self.connection.take())


def kinds(written: list[Frame]) -> list[tuple[int, int]]:
    return [(frame.kind, frame.stream_id) for frame in written]


def data_sizes(written: list[Frame], stream_id: int | None = None) -> list[int]:
    return [
        len(frame.payload)
        for frame in written
        if frame.kind == http2.DATA and (stream_id is None or frame.stream_id == stream_id)
    ]


# With h2 as the client


class Client:
    """h2, with every response it has seen."""

    def __init__(self) -> None:
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self.connection = h2.connection.H2Connection(config)
        self.bodies: dict[int, bytes] = {}
        self.unread: list[tuple[int, int]] = []  # (stream, bytes) that were not acknowledged yet
        self.ended: set[int] = set()
        self.reset: dict[int, int] = {}

    def take_in(self, written: bytes) -> None:
        for event in self.connection.receive_data(written):
            match event:
                case h2.events.DataReceived():
                    self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                    self.unread.append((event.stream_id, event.flow_controlled_length))
                case h2.events.StreamEnded():
                    self.ended.add(event.stream_id)
                case h2.events.StreamReset():
                    self.reset[event.stream_id] = int(event.error_code)
                case h2.events.ConnectionTerminated():
                    raise AssertionError(f"the server gave up: {event.additional_data!r}")
                case _:
                    pass

    def read_everything(self) -> None:
        for stream_id, size in self.unread:
            self.connection.acknowledge_received_data(size, stream_id)
        self.unread.clear()


HEADERS = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/t.Toy/Echo"),
    (b":authority", b"x"),
    (b"te", b"trailers"),
]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    window=st.sampled_from([0, 1, 100, 65_535, 200_000]),
    frame_bytes_max=st.sampled_from([16_384, 20_000, 100_000]),
    sizes=st.lists(st.sampled_from([0, 1, 20, 16_384, 16_385, 70_000]), min_size=1, max_size=6),
    cut_max=st.sampled_from([3, 100, 5_000, 1 << 20]),
)
def test_whatever_h2_sends_in_whatever_pieces_comes_back(
    seed: int, window: int, frame_bytes_max: int, sizes: list[int], cut_max: int
) -> None:
    """Bodies of many sizes on interleaved streams, padded, with priorities, small windows and late reading."""
    random = Random(seed)
    server, client = Server(Echo, greet=False), Client()
    ours, theirs = server.connection, client.connection
    theirs.initiate_connection()
    codes = h2.settings.SettingCodes
    theirs.update_settings({codes.INITIAL_WINDOW_SIZE: window, codes.MAX_FRAME_SIZE: frame_bytes_max})
    client.take_in(b"".join(frames.frame(*frame) for frame in server.greeting))

    def exchange() -> None:
        sent = theirs.data_to_send()
        at = 0
        while at < len(sent):
            cut = random.randint(1, cut_max) if len(sent) - at < 2_000 else 2_000 + random.randint(0, 30_000)
            ours.receive(sent[at : at + cut], 0.0)
            at += cut
        client.take_in(ours.take())

    unsent: dict[int, bytes] = {}
    for size in sizes:
        stream_id = theirs.get_next_available_stream_id()
        priority = random.choice([None, 7])
        # (h2 miscounts a priority in front of a block of more than one frame.)
        long = b"v" * random.choice([0, 20_000]) if priority is None else b""
        theirs.send_headers(stream_id, [*HEADERS, (b"x-long", long)], priority_weight=priority)
        unsent[stream_id] = bytes([stream_id]) * size
    bodies = dict(unsent)
    exchange()
    while unsent:
        stream_id = random.choice(sorted(unsent))
        room = min(theirs.local_flow_control_window(stream_id), theirs.max_outbound_frame_size) - 256
        step = max(0, min(room, random.choice([1, 1_000, 16_000, 16_000]), len(unsent[stream_id])))
        piece, rest = unsent[stream_id][:step], unsent[stream_id][step:]
        padding = random.choice([None, random.randint(0, 255)])
        theirs.send_data(stream_id, piece, end_stream=not rest, pad_length=padding)
        if rest:
            unsent[stream_id] = rest
        else:
            del unsent[stream_id]
        if random.random() < 0.3:
            exchange()
            if random.random() < 0.5:
                client.read_everything()
    for stream_id in bodies:  # a window that begins near 0 is opened as the client sees fit
        exchange()
        if stream_id not in client.ended:
            theirs.increment_flow_control_window(random.choice([70_000, 100_000]), stream_id)
    for _ in range(100):
        exchange()
        client.read_everything()
        if len(client.ended) == len(bodies):
            break
    assert client.ended == set(bodies)
    assert {stream_id: client.bodies.get(stream_id, b"") for stream_id in bodies} == bodies
    assert not client.reset
    assert not ours.streams
    assert ours.queued_bytes == 0
    assert not ours.closing


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 30), max_size=60))
def test_the_pieces_make_no_difference(cuts: list[int]) -> None:
    stream = b"".join(
        (
            http2.PREFACE,
            frames.settings((http2._INITIAL_WINDOW_SIZE, 10)),
            frames.headers(1),
            frames.data(1, b"0123456789ab"),
            frames.headers(3, end=True),
            frames.frame(http2.HEADERS, 0, 5, encode(frames.REQUEST)[:10]),
            frames.frame(http2.CONTINUATION, http2.END_HEADERS, 5, encode(frames.REQUEST)[10:]),
            frames.window_update(0, 5),
            frames.data(1, b"", end=True),
            frames.ping(),
            frames.frame(http2.DATA, http2.PADDED | http2.END_STREAM, 5, b"\x03abc\0\0\0"),
            frames.window_update(1, 3),
            frames.reset(7) if len(cuts) % 2 else b"",  # was never opened: ends all
        )
    )
    whole, cut_up = Server(Echo, greet=False), Server(Echo, greet=False)
    expected = whole.feed(stream)
    found: list[Frame] = []
    at = 0
    for cut in [*cuts, len(stream)]:
        found += cut_up.feed(stream[at : at + cut])
        at += cut
    assert found == expected
    assert {n: s.events for n, s in cut_up.seen.items()} == {n: s.events for n, s in whole.seen.items()}


def test_the_greeting_tells_our_limits_and_opens_the_connections_window() -> None:
    server = Server(limits=Limits(streams_max=7, header_list_bytes_max=5000))
    told, opened = server.greeting
    pairs = {told.payload[at : at + 6] for at in range(0, len(told.payload), 6)}
    assert pairs == {
        b"\0\x04" + http2.STREAM_WINDOW.to_bytes(4, "big"),
        b"\0\x06" + (5000).to_bytes(4, "big"),
        b"\0\x03" + (7).to_bytes(4, "big"),
    }
    assert opened == Frame(
        http2.WINDOW_UPDATE, 0, 0, (http2.CONNECTION_WINDOW - http2.WINDOW_DEFAULT).to_bytes(4, "big")
    )


def test_without_a_limit_of_streams_none_is_told() -> None:
    assert len(Server().greeting[0].payload) == 12


# Outside the grammar

BLOCK = encode(frames.REQUEST)
OPEN = frames.headers(1)
FAULTS: list[tuple[str, bytes, int]] = [
    ("a frame too long", frames.frame(http2.DATA, 0, 1, bytes(16_385)), http2.FRAME_SIZE_ERROR),
    ("a frame too long, not yet here", b"\x00\x40\x01\x00\x00\0\0\0\x01", http2.FRAME_SIZE_ERROR),
    ("DATA on the connection", frames.data(0, b"x"), http2.PROTOCOL_ERROR),
    ("DATA on an idle stream", frames.data(3, b"x"), http2.PROTOCOL_ERROR),
    ("DATA on a stream of ours", frames.data(2, b"x"), http2.PROTOCOL_ERROR),
    ("padding longer than the frame", frames.frame(http2.DATA, http2.PADDED, 1, b"\x02a"), http2.PROTOCOL_ERROR),
    ("padded, without a length", frames.frame(http2.DATA, http2.PADDED, 1, b""), http2.FRAME_SIZE_ERROR),
    ("HEADERS on the connection", frames.headers(0), http2.PROTOCOL_ERROR),
    ("HEADERS on an even stream", frames.headers(4), http2.PROTOCOL_ERROR),
    ("padded HEADERS", frames.frame(http2.HEADERS, http2.PADDED | 4, 3, b"\xff" + BLOCK), http2.PROTOCOL_ERROR),
    ("HEADERS too short", frames.frame(http2.HEADERS, http2.PRIORITISED | 4, 3, b"\0"), http2.FRAME_SIZE_ERROR),
    ("a block that is no HPACK", frames.frame(http2.HEADERS, 4, 3, b"\x80"), http2.COMPRESSION_ERROR),
    ("trailers that are no HPACK", frames.frame(http2.HEADERS, 5, 1, b"\x80"), http2.COMPRESSION_ERROR),
    (
        "a block interrupted by DATA",
        frames.frame(http2.HEADERS, 0, 3, BLOCK) + frames.data(1, b"x"),
        http2.PROTOCOL_ERROR,
    ),
    (
        "a block interrupted by another stream's",
        frames.frame(http2.HEADERS, 0, 3, BLOCK) + frames.frame(http2.CONTINUATION, 4, 5, b""),
        http2.PROTOCOL_ERROR,
    ),
    ("a CONTINUATION of nothing", frames.frame(http2.CONTINUATION, 4, 1, b""), http2.PROTOCOL_ERROR),
    ("PRIORITY on the connection", frames.frame(http2.PRIORITY, 0, 0, bytes(5)), http2.PROTOCOL_ERROR),
    ("PRIORITY of 4 bytes", frames.frame(http2.PRIORITY, 0, 1, bytes(4)), http2.FRAME_SIZE_ERROR),
    ("RST_STREAM on the connection", frames.reset(0), http2.PROTOCOL_ERROR),
    ("RST_STREAM on an idle stream", frames.reset(3), http2.PROTOCOL_ERROR),
    ("RST_STREAM of 5 bytes", frames.frame(http2.RST_STREAM, 0, 1, bytes(5)), http2.FRAME_SIZE_ERROR),
    ("SETTINGS on a stream", frames.frame(http2.SETTINGS, 0, 1, b""), http2.PROTOCOL_ERROR),
    ("SETTINGS of 5 bytes", frames.frame(http2.SETTINGS, 0, 0, bytes(5)), http2.FRAME_SIZE_ERROR),
    ("SETTINGS acknowledged with some", frames.frame(http2.SETTINGS, 1, 0, bytes(6)), http2.FRAME_SIZE_ERROR),
    ("ENABLE_PUSH 2", frames.settings((2, 2)), http2.PROTOCOL_ERROR),
    ("INITIAL_WINDOW_SIZE 2^31", frames.settings((4, 1 << 31)), http2.FLOW_CONTROL_ERROR),
    ("MAX_FRAME_SIZE 16383", frames.settings((5, 16_383)), http2.PROTOCOL_ERROR),
    ("MAX_FRAME_SIZE 2^24", frames.settings((5, 1 << 24)), http2.PROTOCOL_ERROR),
    ("PUSH_PROMISE", frames.frame(http2.PUSH_PROMISE, 4, 1, bytes(4)), http2.PROTOCOL_ERROR),
    ("PING on a stream", frames.frame(http2.PING, 0, 1, bytes(8)), http2.PROTOCOL_ERROR),
    ("PING of 7 bytes", frames.frame(http2.PING, 0, 0, bytes(7)), http2.FRAME_SIZE_ERROR),
    ("GOAWAY on a stream", frames.frame(http2.GOAWAY, 0, 1, bytes(8)), http2.PROTOCOL_ERROR),
    ("GOAWAY of 7 bytes", frames.frame(http2.GOAWAY, 0, 0, bytes(7)), http2.FRAME_SIZE_ERROR),
    ("WINDOW_UPDATE of 3 bytes", frames.frame(http2.WINDOW_UPDATE, 0, 0, bytes(3)), http2.FRAME_SIZE_ERROR),
    ("WINDOW_UPDATE by 0", frames.window_update(0, 0), http2.PROTOCOL_ERROR),
    ("WINDOW_UPDATE on an idle stream", frames.window_update(3, 9), http2.PROTOCOL_ERROR),
    ("a window above 2^31-1", frames.window_update(0, (1 << 31) - 65_535), http2.FLOW_CONTROL_ERROR),
    (
        "a stream's window above 2^31-1 by SETTINGS",
        frames.window_update(1, (1 << 31) - 1 - 65_535) + frames.settings((4, 65_536)),
        http2.FLOW_CONTROL_ERROR,
    ),
]


@pytest.mark.parametrize(("sent", "code"), [case[1:] for case in FAULTS], ids=[case[0] for case in FAULTS])
def test_ends_the_connection_at(sent: bytes, code: int) -> None:
    server = Server()
    server.feed(OPEN)
    assert not server.closing()
    goaway = server.feed(sent)[-1]
    assert (goaway.kind, goaway.stream_id, goaway.code) == (http2.GOAWAY, 0, code)
    assert goaway.payload[8:].decode() == server.connection.fault
    assert server.closing()
    assert server.seen[1].events[-1] == "aborted"
    assert not server.connection.streams
    assert server.feed(frames.ping()) == []  # and nothing is read after that


def test_a_closed_stream_is_not_opened_again() -> None:
    server = Server(Echo)
    server.feed(frames.headers(3, end=True))
    assert server.feed(frames.headers(3, end=True))[-1].code == http2.STREAM_CLOSED


def test_a_stream_older_than_the_newest_is_never_opened() -> None:
    server = Server(Echo)
    server.feed(frames.headers(5, end=True))
    assert server.feed(frames.headers(3, end=True))[-1].code == http2.STREAM_CLOSED
    assert 3 not in server.seen


@pytest.mark.parametrize("first", [frames.ping(), frames.headers(1), frames.frame(http2.SETTINGS, http2.ACK, 0)])
def test_the_first_frame_is_settings(first: bytes) -> None:
    server = Server(greet=False)
    assert server.feed(http2.PREFACE, first)[-1].code == http2.PROTOCOL_ERROR
    assert not server.seen


def test_another_preface_is_refused() -> None:
    server = Server(greet=False)
    assert server.feed(b"PRI * HTTP/2.0\r\n\r\nSN") == [
        Frame(http2.GOAWAY, 0, 0, bytes(4) + b"\0\0\0\x01no preface of HTTP/2")
    ]


RESETS: list[tuple[str, bytes, int]] = [
    ("a malformed request", frames.headers(3, [(b":method", b"GET")]), http2.PROTOCOL_ERROR),
    ("a pseudo-header in the trailers", frames.headers(1, [(b":path", b"/")], end=True), http2.PROTOCOL_ERROR),
    ("trailers that are not the end", frames.headers(1, [(b"a", b"b")]), http2.PROTOCOL_ERROR),
    ("too large trailers", frames.headers(1, [(b"a", b"b" * 8000)] * 2, end=True), http2.PROTOCOL_ERROR),
    ("DATA behind the end", frames.data(1, end=True) + frames.data(1, b"x"), http2.STREAM_CLOSED),
    ("empty DATA behind the end", frames.data(1, end=True) + frames.data(1), http2.STREAM_CLOSED),
    ("HEADERS behind the end", frames.data(1, end=True) + frames.headers(1, [], end=True), http2.STREAM_CLOSED),
    ("WINDOW_UPDATE by 0", frames.window_update(1, 0), http2.PROTOCOL_ERROR),
    ("a window above 2^31-1", frames.window_update(1, (1 << 31) - 65_535), http2.FLOW_CONTROL_ERROR),
    ("too large headers", frames.headers(3, [*frames.REQUEST, (b"a", b"b" * 10_000)]), http2.FRAME_SIZE_ERROR),
]


@pytest.mark.parametrize(("sent", "code"), [case[1:] for case in RESETS], ids=[case[0] for case in RESETS])
def test_resets_only_the_stream_at(sent: bytes, code: int) -> None:
    server = Server(limits=Limits(header_list_bytes_max=10_000))
    server.feed(OPEN, frames.headers(5)[:0])
    (reset,) = server.feed(sent)
    assert (reset.kind, reset.number) == (http2.RST_STREAM, code)
    if reset.stream_id in server.seen:
        assert server.seen[reset.stream_id].events[-1] == "aborted"
    assert reset.stream_id not in server.connection.streams
    server.feed(frames.headers(7, end=True))  # the others go on
    assert server.seen[7].events == ["opened and ended"]


def test_late_frames_on_a_stream_we_reset_are_understood_and_ignored() -> None:
    server = Server()
    server.feed(OPEN, frames.window_update(1, 0))
    dynamic = b"\x40\x01a\x01b"  # the trailers put an entry into the table
    written = server.feed(
        frames.data(1, b"late"), frames.frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, 1, dynamic)
    )
    assert written == []
    server.feed(frames.frame(http2.HEADERS, 5, 3, encode(frames.REQUEST) + b"\xbe"))
    assert server.seen[3].request[b"a"] == b"b"


def test_trailers_end_a_request() -> None:
    server = Server()
    server.feed(OPEN, frames.data(1, b"abc"), frames.headers(1, [(b"x", b"y")], end=True))
    assert (server.seen[1].body, server.seen[1].events) == (b"abc", ["opened", "ended"])


def test_unknown_frames_flags_settings_and_the_reserved_bit_are_ignored() -> None:
    server = Server(Echo)
    written = server.feed(
        frames.frame(0xFA, 0xFF, 1, b"?" * 100),
        frames.settings((0xF0F0, 1)),
        frames.frame(http2.HEADERS, http2.END_HEADERS | 0x40, 1 | 1 << 31, BLOCK),
        frames.frame(http2.DATA, http2.END_STREAM | 0x40, 1 | 1 << 31, b"body"),
        frames.frame(http2.PRIORITY, 0, 9, bytes(5)),
        frames.frame(http2.GOAWAY, 0, 0, bytes(8)),
    )
    assert kinds(written) == [(http2.SETTINGS, 0), (http2.HEADERS, 1), (http2.DATA, 1), (http2.HEADERS, 1)]
    assert written[2].payload == b"body"


def test_padding_and_priority_are_taken_off() -> None:
    server = Server()
    padded = b"\x04" + b"\0\0\0\x05\x10" + BLOCK + b"\0" * 4
    server.feed(
        frames.frame(http2.HEADERS, http2.END_HEADERS | http2.PADDED | http2.PRIORITISED, 1, padded),
        frames.frame(http2.DATA, http2.PADDED, 1, b"\x02ab\0\0"),
        frames.frame(http2.DATA, http2.PADDED | http2.END_STREAM, 1, b"\x01\0"),
    )
    assert server.seen[1].request[b":path"] == b"/t.Toy/Echo"
    assert (server.seen[1].body, server.seen[1].events) == (b"ab", ["opened", "ended"])


# What we may send


def test_data_waits_for_the_streams_window_and_the_trailers_for_the_data() -> None:
    server = Server(Echo)
    server.feed(frames.settings((4, 10)))
    body = bytes(range(25))
    written = server.feed(frames.headers(1), frames.data(1, body, end=True))
    assert kinds(written) == [(http2.HEADERS, 1), (http2.DATA, 1)]
    assert server.connection.queued_bytes == 15
    more = server.feed(frames.window_update(1, 14))
    assert data_sizes(more) == [14]
    assert server.feed(frames.window_update(0, 1000)) == []  # the other window does not help
    last = server.feed(frames.window_update(1, 1))
    assert kinds(last) == [(http2.DATA, 1), (http2.HEADERS, 1)]
    assert b"".join(f.payload for f in written + more + last if f.kind == http2.DATA) == body
    assert server.connection.queued_bytes == 0
    assert not server.connection.streams


def test_the_connections_window_is_shared_in_turns() -> None:
    server = Server(Echo)
    server.feed(frames.settings((4, 1 << 20)))
    for stream_id in (1, 3):
        server.feed(frames.headers(stream_id), frames.data(stream_id, bytes(100_000), end=True))
    # Stream 1 had the 65535 bytes of the beginning; from here on it takes turns with stream 3.
    written = server.feed(frames.window_update(0, 65_536))
    assert [(f.stream_id, len(f.payload)) for f in written if f.kind == http2.DATA] == [
        (1, 16_384),
        (3, 16_384),
        (1, 16_384),
        (3, 16_384),
    ]


def test_new_initial_windows_move_open_streams_below_zero_and_back() -> None:
    server = Server()
    server.feed(OPEN)
    stream = server.seen[1]
    stream.send_headers(HEAD)
    stream.send_data(bytes(60_000))
    server.take()
    assert stream.send_window == 5_535
    server.feed(frames.settings((4, 1_000)))
    assert stream.send_window == 1_000 - 60_000
    stream.send_data(b"x" * 100)
    assert data_sizes(server.take()) == []
    assert data_sizes(server.feed(frames.window_update(1, 59_000))) == []  # exactly 0
    assert data_sizes(server.feed(frames.settings((4, 1_001)))) == [1]
    assert data_sizes(server.feed(frames.settings((4, 1_100)))) == [99]
    assert stream.send_window == 0


def test_frames_are_no_longer_than_the_client_takes_and_never_longer_than_ours() -> None:
    for told, longest in ((16_384, 16_384), (20_000, 20_000), (1 << 20, 65_536)):
        server = Server(Echo)
        server.feed(frames.settings((4, 1 << 20), (5, told)), frames.window_update(0, 1 << 20))
        written = server.feed(frames.headers(1), frames.data(1, bytes(200_000), end=True))
        assert max(data_sizes(written)) == longest
        assert sum(data_sizes(written)) == 200_000


def test_writable_is_told_once_when_the_queue_falls_below_the_mark() -> None:
    server = Server()
    server.feed(frames.settings((4, 0)), OPEN)
    stream = server.seen[1]
    stream.writable_below = 1000
    stream.send_headers(HEAD)
    stream.send_data(bytes(700))
    stream.send_data(bytes(700))
    server.feed(frames.window_update(1, 400))
    assert (stream.queued_bytes, stream.events) == (1000, ["opened"])
    server.feed(frames.window_update(1, 1))
    assert (stream.queued_bytes, stream.events) == (999, ["opened", "writable"])
    server.feed(frames.window_update(1, 999))
    assert (stream.queued_bytes, stream.events) == (0, ["opened", "writable"])


def test_what_waits_keeps_its_order_over_many_pieces() -> None:
    server = Server()
    server.feed(frames.settings((4, 0)), OPEN)
    stream = server.seen[1]
    stream.send_headers(HEAD)
    pieces = [bytes([n]) * (n * 37 % 500) for n in range(1, 200)]
    for piece in pieces:
        stream.send_data(piece)
    server.take()
    found = b""
    for step in range(1, 400):
        found += b"".join(f.payload for f in server.feed(frames.window_update(1, step)))
    assert found == b"".join(pieces)


def test_a_small_piece_behind_a_long_one_stays_behind_it() -> None:
    """The long one leaves in several takes, though all windows are open."""
    server = Server()
    server.feed(frames.settings((4, 1 << 22)), frames.window_update(0, 1 << 22), OPEN)
    stream = server.seen[1]
    stream.send_headers(HEAD)
    stream.send_data(bytes(2 * http2.SENT_AT_ONCE_BYTES))
    stream.send_data(b"behind")
    takes = []
    while written := server.take():
        takes.append(b"".join(frame.payload for frame in written if frame.kind == http2.DATA))
    assert [len(take) for take in takes] == [http2.SENT_AT_ONCE_BYTES, http2.SENT_AT_ONCE_BYTES, 6]
    assert takes[-1] == b"behind"
    assert server.wakes == 1


def test_a_paused_transport_holds_data_back_and_resuming_sends_it() -> None:
    server = Server(Echo)
    server.connection.paused = True
    written = server.feed(frames.headers(1), frames.data(1, b"abc", end=True))
    assert kinds(written) == [(http2.HEADERS, 1)]
    assert server.connection.queued_bytes == 3
    server.connection.resume()
    assert kinds(server.take()) == [(http2.DATA, 1), (http2.HEADERS, 1)]


def test_a_client_that_resets_a_stream_frees_what_waited() -> None:
    server = Server(Echo)
    server.feed(frames.settings((4, 0)))
    server.feed(frames.headers(1), frames.data(1, bytes(5000), end=True))
    assert server.connection.queued_bytes == 5000
    server.feed(frames.reset(1))
    assert server.connection.queued_bytes == 0
    assert server.seen[1].events[-1] == "aborted"
    assert server.feed(frames.window_update(0, 10), frames.window_update(1, 10_000)) == []


def test_an_answer_before_the_end_of_the_request_tells_the_client_to_stop() -> None:
    server = Server()
    server.feed(OPEN)
    server.seen[1].answer(b"")
    assert kinds(server.take()) == [(http2.HEADERS, 1), (http2.HEADERS, 1), (http2.RST_STREAM, 1)]
    assert server.feed(frames.data(1, b"on its way", end=True)) == []


def test_only_so_many_late_streams_are_remembered() -> None:
    server = Server()
    for stream_id in range(1, 2 * http2.REMEMBERED_RESETS_MAX + 100, 2):
        server.feed(frames.headers(stream_id))
        server.seen[stream_id].reset(http2.CANCEL)
        server.take()
    assert len(server.connection._resets) == http2.REMEMBERED_RESETS_MAX
    (reset,) = server.feed(frames.data(1, b"very late"))  # forgotten: told once more
    assert (reset.kind, reset.stream_id, reset.number) == (http2.RST_STREAM, 1, http2.STREAM_CLOSED)
    assert server.feed(frames.data(2 * http2.REMEMBERED_RESETS_MAX - 1, b"late")) == []


@pytest.mark.parametrize(
    "mistake",
    [
        lambda stream: (stream.answer(b""), stream.answer(b"")),
        lambda stream: (stream.answer(b""), stream.send_trailers(END)),
        lambda stream: stream.send_data(b"x"),
        lambda stream: (stream.send_headers(HEAD), stream.send_headers(HEAD)),
        lambda stream: (stream.answer(b"x" * 100_000), stream.send_data(b"behind the trailers that wait")),
        lambda stream: (stream.answer(b"x" * 100_000), stream.send_trailers(END)),
    ],
)
def test_a_mistake_of_ours_is_an_assertion(mistake: Callable[[Recorder], object]) -> None:
    server = Server()
    server.feed(OPEN)
    with pytest.raises(AssertionError):
        mistake(server.seen[1])


# What we may receive


def test_a_long_request_gets_its_windows_opened_again() -> None:
    class Forgetful(Recorder):
        def received(self, data: bytes, at: int, stop: int) -> None: ...

    server = Server(Forgetful)
    server.feed(OPEN)
    stream_window, connection_window = http2.STREAM_WINDOW, http2.CONNECTION_WINDOW
    for _ in range(3 * http2.CONNECTION_WINDOW // 16_384):
        for frame in server.feed(frames.data(1, bytes(16_384))):
            assert frame.kind == http2.WINDOW_UPDATE
            if frame.stream_id:
                stream_window += frame.number
            else:
                connection_window += frame.number
        stream_window -= 16_384
        connection_window -= 16_384
        assert 0 < stream_window <= http2.STREAM_WINDOW
        assert 0 < connection_window <= http2.CONNECTION_WINDOW


def test_padding_counts_against_the_windows() -> None:
    server = Server()
    server.feed(OPEN)
    server.feed(frames.frame(http2.DATA, http2.PADDED, 1, b"\xff" + bytes(300)))
    assert http2.STREAM_WINDOW - server.seen[1].receive_window == 301
    assert http2.CONNECTION_WINDOW - server.connection._receive_window == 301


def test_more_than_the_streams_window_resets_it() -> None:
    server = Server()
    server.feed(OPEN)
    server.seen[1].receive_window = 5
    assert server.feed(frames.data(1, b"12345")) != []  # opened again
    server.seen[1].receive_window = 5
    (reset,) = server.feed(frames.data(1, b"123456"))
    assert (reset.kind, reset.number) == (http2.RST_STREAM, http2.FLOW_CONTROL_ERROR)
    assert server.seen[1].body == b"12345"


def test_more_than_the_connections_window_ends_it() -> None:
    server = Server()
    server.feed(OPEN)
    server.connection._receive_window = 5
    assert server.feed(frames.data(1, b"123456"))[-1].code == http2.FLOW_CONTROL_ERROR


def test_data_for_closed_streams_counts_against_the_connection_too() -> None:
    server = Server()
    server.feed(OPEN)
    server.seen[1].reset(http2.CANCEL)
    server.feed(frames.data(1, bytes(1000)))
    assert http2.CONNECTION_WINDOW - server.connection._receive_window == 1000


def test_more_streams_than_allowed_are_refused_and_others_live() -> None:
    server = Server(limits=Limits(streams_max=2))
    written = server.feed(*(frames.headers(stream_id) for stream_id in (1, 3, 5)))
    assert [(f.kind, f.stream_id, f.number) for f in written] == [(http2.RST_STREAM, 5, http2.REFUSED_STREAM)]
    server.feed(frames.reset(1))
    assert server.feed(frames.headers(7)) == []
    assert sorted(server.connection.streams) == [3, 7]


# Floods


def flood_until_refused(server: Server, make: Callable[[int], bytes], most: int) -> int:
    """How many pieces it took."""
    for count in range(most):
        written = server.feed(make(count))
        if server.closing():
            assert (written[-1].kind, written[-1].code) == (http2.GOAWAY, http2.ENHANCE_YOUR_CALM)
            return count
    raise AssertionError(f"{most} pieces were taken")


@pytest.mark.parametrize(
    ("make", "least", "most"),
    [
        (lambda n: frames.headers(2 * n + 3) + frames.reset(2 * n + 3), 4_000, 5_100),
        (lambda n: frames.headers(2 * n + 3, [(b":method", b"GET")]), 2_000, 2_600),
        (lambda n: frames.settings(), 300, 401),
        (lambda n: frames.frame(http2.SETTINGS, http2.ACK, 0), 300, 401),
        (lambda n: frames.ping(ack=True), 5_000, 10_001),
        (lambda n: frames.frame(http2.PRIORITY, 0, 1, bytes(5)), 5_000, 10_001),
        (lambda n: frames.frame(0x77, 0, 0), 5_000, 10_001),
        (lambda n: frames.data(1), 1_500, 2_001),
        (lambda n: frames.window_update(1, 1), 5_000, 10_001),
        (lambda n: frames.window_update(0, 1), 5_000, 10_001),
    ],
    ids=[
        "rapid reset",
        "malformed requests",
        "settings",
        "acknowledgements of settings",
        "acknowledgements of pings",
        "priorities",
        "unknown frames",
        "empty data",
        "small updates of a stream's window",
        "small updates of the connection's window",
    ],
)
def test_a_flood_ends_the_connection(make: Callable[[int], bytes], least: int, most: int) -> None:
    server = Server()
    server.feed(OPEN)
    assert least <= flood_until_refused(server, make, most)


def test_large_window_updates_are_ended_by_arithmetic() -> None:
    server = Server()
    for _ in range((1 << 31) // 65_536 - 1):
        server.feed(frames.window_update(0, 65_536))
    assert not server.closing()
    assert server.feed(frames.window_update(0, 65_536))[-1].code == http2.FLOW_CONTROL_ERROR


def test_patience_comes_back_with_time() -> None:
    server = Server()
    for number in range(2_000):
        server.feed(frames.settings())
        server.now += 0.011
        assert not server.closing(), number


def test_a_busy_client_may_reset_and_acknowledge_as_it_likes() -> None:
    """Small window updates for each message, and a call taken back for each answered: no flood."""
    server = Server(Echo)
    sent = []
    for stream_id in range(1, 60_000, 4):
        sent += [
            frames.headers(stream_id),
            frames.data(stream_id, b"abc", end=True),
            frames.window_update(0, 3),
            frames.headers(stream_id + 2),
            frames.reset(stream_id + 2),
        ]
        if len(sent) > 1000:
            server.feed(*sent)
            server.now += 0.25
            sent.clear()
    assert not server.closing()


def test_a_cancelled_stream_that_was_answered_costs_nothing() -> None:
    """A thousand watches that end at once are no rapid reset."""
    server = Server()
    for round_ in range(20):
        for n in range(1_000):
            stream_id = 2 * (round_ * 1_000 + n) + 1
            server.feed(frames.headers(stream_id))
            server.seen[stream_id].send_headers(HEAD)
        for n in range(1_000):
            server.feed(frames.reset(2 * (round_ * 1_000 + n) + 1))
    assert not server.closing()


@pytest.mark.parametrize(("piece", "count"), [(b"", http2.CONTINUATIONS_MAX), (b"x" * 16_000, 4)])
def test_endless_headers_end_the_connection(piece: bytes, count: int) -> None:
    server = Server()
    server.feed(frames.frame(http2.HEADERS, 0, 1, BLOCK))
    assert flood_until_refused(server, lambda n: frames.frame(http2.CONTINUATION, 0, 1, piece), 20) == count


def test_headers_over_several_frames_are_taken_to_the_limit() -> None:
    server = Server()
    fields = [*frames.REQUEST, (b"x", b"y" * 60_000)]
    block = encode(fields)
    pieces = [block[at : at + 5_000] for at in range(0, len(block), 5_000)]
    server.feed(frames.frame(http2.HEADERS, http2.END_STREAM, 1, pieces[0]))
    for piece in pieces[1:-1]:
        assert server.feed(frames.frame(http2.CONTINUATION, 0, 1, piece)) == []
    server.feed(frames.frame(http2.CONTINUATION, http2.END_HEADERS, 1, pieces[-1]))
    assert server.seen[1].request[b"x"] == b"y" * 60_000
    assert server.seen[1].events == ["opened and ended"]


# Pings


def test_pings_are_answered() -> None:
    assert Server().feed(frames.ping(b"abcdefgh")) == [Frame(http2.PING, http2.ACK, 0, b"abcdefgh")]


def ping_every(server: Server, interval_s: float, count: int) -> bool:
    """Whether the connection survived."""
    for _ in range(count):
        server.now += interval_s
        server.feed(frames.ping())
    return not server.closing()


def test_pings_in_the_allowed_time_go_on_for_ever() -> None:
    server = Server()
    server.feed(OPEN)
    assert ping_every(server, 5.0, 100)


def test_the_third_ping_too_early_ends_the_connection_as_grpc_go_does() -> None:
    server = Server()
    server.feed(OPEN)
    assert ping_every(server, 4.9, 3)  # the first has none before it
    server.now += 4.9
    goaway = server.feed(frames.ping())[-1]
    assert (goaway.kind, goaway.code, goaway.payload[8:]) == (http2.GOAWAY, http2.ENHANCE_YOUR_CALM, b"too_many_pings")


def test_without_a_stream_pings_are_not_permitted() -> None:
    assert not ping_every(Server(), 60.0, 4)


def test_pings_behind_answers_are_never_too_many() -> None:
    server = Server(Echo)
    for n in range(200):
        server.feed(frames.headers(2 * n + 1, end=True))
        assert server.feed(frames.ping()) != []
    assert not server.closing()


def test_the_ping_behind_an_answer_is_free_and_three_more_are_too_many() -> None:
    server = Server()
    server.feed(OPEN, frames.headers(3, end=True))
    assert ping_every(server, 1.0, 3)
    server.seen[3].answer(b"")
    assert ping_every(server, 1.0, 3)
    assert not ping_every(server, 1.0, 1)


def test_a_silent_client_is_asked_and_given_up() -> None:
    server = Server(limits=Limits(silence_s=100.0, answer_s=20.0))
    connection = server.connection
    server.feed(OPEN)
    start = server.now
    connection.tick(start + 100.0)
    assert server.take() == []
    connection.tick(start + 100.1)
    (asked,) = server.take()
    assert (asked.kind, asked.flags) == (http2.PING, 0)
    server.now = start + 110.0
    server.feed(frames.ping(asked.payload, ack=True))
    connection.tick(start + 200.0)
    assert server.take() == []
    connection.tick(start + 210.1)
    assert len(server.take()) == 1
    connection.tick(start + 230.1)
    assert not server.closing()
    connection.tick(start + 230.2)
    assert server.closing()
    assert server.take()[-1].kind == http2.GOAWAY
    assert server.seen[1].events[-1] == "aborted"


def test_a_client_that_never_says_its_settings_is_given_up() -> None:
    server = Server(limits=Limits(settings_s=60.0), greet=False)
    server.feed(http2.PREFACE)
    server.connection.tick(server.now + 60.0)
    assert not server.closing()
    server.connection.tick(server.now + 60.1)
    assert server.closing()


# The end


def test_draining_lets_open_and_travelling_requests_finish() -> None:
    server = Server()
    connection = server.connection
    server.feed(frames.headers(1))
    connection.drain()
    first, asked = server.take()
    assert (first.kind, first.number, first.code) == (http2.GOAWAY, http2.STREAM_ID_MAX, http2.NO_ERROR)
    assert asked.kind == http2.PING
    server.feed(frames.headers(3))  # was on its way
    (last,) = server.feed(frames.ping(asked.payload, ack=True))
    assert (last.kind, last.number, last.code) == (http2.GOAWAY, 3, http2.NO_ERROR)
    assert server.feed(frames.headers(5), frames.data(5, b"x", end=True)) == []
    assert sorted(server.seen) == [1, 3]
    server.seen[1].answer(b"")
    assert not server.closing()
    server.seen[3].answer(b"")
    assert server.closing()
    assert connection.fault is None
    assert server.take()[-1].kind == http2.RST_STREAM


def test_draining_an_idle_connection_ends_it_when_the_client_has_answered() -> None:
    server = Server()
    server.connection.drain()
    asked = server.take()[-1]
    assert not server.closing()
    server.feed(frames.ping(asked.payload, ack=True))
    assert server.closing()


def test_draining_twice_is_draining_once() -> None:
    server = Server()
    server.connection.drain()
    server.connection.drain()
    assert len(server.take()) == 2


def test_a_lost_connection_aborts_every_stream_once() -> None:
    server = Server()
    server.feed(frames.headers(1), frames.headers(3))
    server.connection.lost()
    server.connection.lost()
    assert [s.events for s in server.seen.values()] == [["opened", "aborted"]] * 2


def test_wake_is_called_once_for_what_is_written_outside_of_receive() -> None:
    server = Server()
    server.feed(frames.headers(1, end=True), frames.headers(3, end=True))
    assert server.wakes == 0
    server.seen[1].answer(b"a")
    server.seen[3].answer(b"b")
    assert server.wakes == 1
    server.take()
    server.feed(frames.headers(5, end=True))
    server.seen[5].answer(b"c")
    assert server.wakes == 2


# Anything at all

ANY_FRAME = st.builds(
    frames.frame,
    st.integers(0, 10),
    st.integers(0, 255) | st.sampled_from([0, 1, 4, 5]),
    st.sampled_from([0, 1, 3, 5, 7, 2, (1 << 32) - 1]),
    st.binary(max_size=30) | st.sampled_from([BLOCK, BLOCK[:9], b"\0\0\0\1", bytes(8), b"\0\4\0\0\0\0", bytes(16_384)]),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(ANY_FRAME | st.binary(max_size=20), max_size=25), st.integers(1, 400))
def test_any_bytes_are_answered_or_end_the_connection(sent: list[bytes], cut: int) -> None:
    server = Server(Echo)
    stream = b"".join(sent)
    for at in range(0, len(stream), cut):
        server.feed(stream[at : at + cut])
        connection = server.connection
        assert connection.queued_bytes == sum(s.queued_bytes for s in connection.streams.values())
        if server.closing():
            assert connection.fault
            assert not connection.streams
    for stream_id, seen in server.seen.items():
        assert seen.open == (stream_id in server.connection.streams)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_instead_of_a_preface_end_the_connection_or_wait(sent: bytes) -> None:
    server = Server(greet=False)
    server.feed(sent)
    assert server.closing() != http2.PREFACE.startswith(sent)


def test_headers_reach_the_request_as_they_were() -> None:
    fields: list[Header] = [*frames.REQUEST, (b"token", b"abc"), (b"token", b"second")]
    server = Server()
    server.feed(frames.headers(1, fields, end=True))
    assert server.seen[1].request == {**dict(frames.REQUEST), b"token": b"abc"}
