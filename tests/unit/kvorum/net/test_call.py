"""Calls as handlers see them, over a connection without a socket; frames are made by hand."""

import gzip
from collections.abc import Callable

import hpack as oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kvorum.net.call import HELD_BYTES_MAX, Call, GrpcCall, Handler, Opening, Routes
from kvorum.wire import http2
from kvorum.wire.grpc import Code, message_head
from kvorum.wire.hpack import Header

from tests.unit.kvorum.wire import frames

MESSAGE_BYTES_MAX = 1000


def message(body: bytes) -> bytes:
    return message_head(len(body)) + body


def request(path: str, *more: Header) -> list[Header]:
    return [(name, path.encode() if name == b":path" else value) for name, value in frames.REQUEST] + list(more)


class Server:
    """One connection with routes. answer() reads what was written for one stream: status lines and messages."""

    def __init__(
        self,
        *,
        unary: dict[str, Handler] | None = None,
        streams: dict[str, Handler] | None = None,
        message_bytes_max: int = MESSAGE_BYTES_MAX,
        timed: bool = False,
    ) -> None:
        self.calls: list[Call] = []
        self.wakes = 0
        self.routes = routes = Routes(
            unary={"/t.Toy/Unary": self.calls.append, **(unary or {})},
            streams={"/t.Toy/Stream": self.calls.append, **(streams or {})},
            message_bytes_max=message_bytes_max,
            timed=timed,
        )
        self.connection: http2.Connection[Opening] = http2.Connection(
            routes.open, routes.call_type, self._wake, http2.Limits(), now=0.0, connection_id=7, peer="127.0.0.1:9"
        )
        self._decoder = oracle.Decoder()
        self.feed(http2.PREFACE, frames.settings())

    def _wake(self) -> None:
        self.wakes += 1

    def feed(self, *pieces: bytes) -> dict[int, list[str | bytes]]:
        self.connection.receive(b"".join(pieces), 0.0)
        return self.take()

    def take(self) -> dict[int, list[str | bytes]]:
        """For each stream: its headers as `name=value ...` (with `.` if they end it), its messages, `RST code`."""
        told: dict[int, list[str | bytes]] = {}
        for frame in frames.read(self.connection.take()):
            on_stream = told.setdefault(frame.stream_id, [])
            if frame.kind == http2.HEADERS:
                text = " ".join(f"{name!s}={value!s}" for name, value in self._decoder.decode(frame.payload))
                on_stream.append(text + (" ." if frame.flags & http2.END_STREAM else ""))
            elif frame.kind == http2.DATA:
                on_stream.append(frame.payload)
            elif frame.kind == http2.RST_STREAM:
                on_stream.append(f"RST {frame.number}")
        told.pop(0, None)
        return told

    def open_call(self, path: str, *pieces: bytes) -> Call:
        self.feed(frames.headers(1, request(path)), *pieces)
        return self.calls[-1]


HEAD = ":status=200 content-type=application/grpc"
OK = "grpc-status=0 ."


# Unary


def test_a_unary_call_is_answered_in_the_same_breath() -> None:
    server = Server(unary={"/t.Toy/Double": lambda call: call.reply(call.body * 2)})
    told = server.feed(frames.headers(1, request("/t.Toy/Double")), frames.data(1, message(b"abc"), end=True))
    assert told == {1: [HEAD, message(b"abcabc"), OK]}
    assert server.wakes == 0
    assert not server.connection.streams


def test_a_unary_call_may_be_answered_later_and_from_anywhere() -> None:
    server = Server()
    assert server.feed(frames.headers(1, request("/t.Toy/Unary")), frames.data(1, message(b"a"), end=True)) == {}
    assert server.feed(frames.headers(3, request("/t.Toy/Unary")), frames.data(3, message(b"b"), end=True)) == {}
    first, second = server.calls
    second.reply(second.body)
    first.fail(Code.NOT_FOUND, "gone")
    assert server.wakes == 1
    assert server.take() == {
        1: [f"{HEAD} grpc-status=5 grpc-message=gone ."],
        3: [HEAD, message(b"b"), OK],
    }


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=60), st.lists(st.integers(0, 30), max_size=8), st.booleans())
def test_the_handler_is_called_once_however_the_message_is_cut(body: bytes, cuts: list[int], ended: bool) -> None:
    server = Server()
    server.feed(frames.headers(1, request("/t.Toy/Unary")))
    stream = message(body)
    at = 0
    for cut in cuts:
        server.feed(frames.data(1, stream[at : at + cut]))
        at += cut
    server.feed(frames.data(1, stream[at:], end=ended))
    if not ended:
        server.feed(frames.data(1, b"", end=True))
    assert [call.body for call in server.calls] == [body]
    assert server.connection.held_bytes == 0


def test_the_handler_is_called_at_the_message_not_at_the_end_of_the_request() -> None:
    server = Server()
    call = server.open_call("/t.Toy/Unary", frames.data(1, message(b"a")))
    call.reply(b"b")
    assert server.take() == {1: [HEAD, message(b"b"), OK, "RST 0"]}
    assert server.feed(frames.data(1, end=True)) == {}


def test_an_end_behind_the_handlers_start_spares_the_reset() -> None:
    server = Server()
    call = server.open_call("/t.Toy/Unary", frames.data(1, message(b"a")), frames.data(1, end=True))
    call.reply(b"b")
    assert server.take() == {1: [HEAD, message(b"b"), OK]}
    assert len(server.calls) == 1


def test_a_second_message_means_nothing() -> None:
    server = Server()
    call = server.open_call("/t.Toy/Unary", frames.data(1, message(b"a") + message(b"b"), end=True))
    assert call.body == b"a"
    assert len(server.calls) == 1


def test_half_a_second_message_is_not_kept() -> None:
    server = Server()
    server.open_call("/t.Toy/Unary", frames.data(1, message(b"a") + message(b"second")[:8])).reply(b"b")
    assert server.connection.held_bytes == 0


def test_an_empty_message_is_a_message() -> None:
    assert Server().open_call("/t.Toy/Unary", frames.data(1, message(b""), end=True)).body == b""


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        (frames.data(1, end=True), "grpc-status=2 grpc-message=EOF ."),
        (frames.headers(1, [], end=True), "grpc-status=2 grpc-message=EOF ."),
        (frames.data(1, message(b"abc")[:-1], end=True), "grpc-status=2 grpc-message=unexpected EOF ."),
        (frames.data(1, message(b"abc")[:3], end=True), "grpc-status=2 grpc-message=unexpected EOF ."),
        (
            frames.data(1, message_head(1001)),
            "grpc-status=8 grpc-message=grpc: received message larger than max (1001 vs. 1000) .",
        ),
        (
            frames.data(1, message(bytes(1001)), end=True),
            "grpc-status=8 grpc-message=grpc: received message larger than max (1001 vs. 1000) .",
        ),
        (
            frames.data(1, b"\1" + message(b"abc")[1:], end=True),
            "grpc-status=13 grpc-message=grpc: compressed flag set with identity or empty encoding .",
        ),
    ],
)
def test_what_is_no_message_fails_the_call_before_its_handler(pieces: bytes, status: str) -> None:
    server = Server()
    told = server.feed(frames.headers(1, request("/t.Toy/Unary")), pieces)
    assert told[1][0] == f"{HEAD} {status}"
    assert not server.calls
    assert not server.connection.streams
    assert server.connection.held_bytes == 0


def test_headers_alone_are_no_unary_call() -> None:
    server = Server()
    told = server.feed(frames.headers(1, request("/t.Toy/Unary"), end=True))
    assert told == {1: [f"{HEAD} grpc-status=2 grpc-message=EOF ."]}


def test_a_message_of_the_limit_is_taken() -> None:
    call = Server().open_call("/t.Toy/Unary", frames.data(1, message(bytes(MESSAGE_BYTES_MAX)), end=True))
    assert len(call.body) == MESSAGE_BYTES_MAX


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/t.Toy/Nope", "unknown method Nope for service t.Toy"),
        ("/t.Toy/", "unknown method  for service t.Toy"),
        ("/t.Tool/Unary", "unknown service t.Tool"),
        ("/a/b/c", "unknown service a/b"),
        ("/x", 'malformed method name: "/x"'),
        ("/", 'malformed method name: "/"'),
        ("*", 'malformed method name: "*"'),
        ("t.Toy/Unary", 'malformed method name: "t.Toy/Unary"'),
    ],
)
def test_unknown_methods_are_named(path: str, status: str) -> None:
    told = Server().feed(frames.headers(1, request(path)), frames.data(1, message(b"a"), end=True))
    assert told == {1: [f"{HEAD} grpc-status=12 grpc-message={status} .", "RST 0"]}


def test_what_is_not_grpc_is_told_so_in_http() -> None:
    told = Server().feed(frames.headers(1, [h for h in frames.REQUEST if h[0] != b"content-type"], end=True))
    (answer,) = told[1]
    assert isinstance(answer, str)
    assert answer.startswith(":status=415 content-type=application/grpc grpc-status=3 grpc-message=invalid gRPC")


def test_a_compressed_message_is_unpacked() -> None:
    packed = gzip.compress(b"abc" * 100)
    stream = b"\1" + len(packed).to_bytes(4, "big") + packed
    server = Server()
    server.feed(
        frames.headers(1, request("/t.Toy/Unary", (b"grpc-encoding", b"gzip"))), frames.data(1, stream, end=True)
    )
    assert server.calls[0].body == b"abc" * 100


def test_status_messages_are_percent_encoded() -> None:
    server = Server()
    server.open_call("/t.Toy/Unary", frames.data(1, message(b"a"), end=True)).fail(3, "ünder 100%\n")
    assert server.take() == {1: [f"{HEAD} grpc-status=3 grpc-message=%C3%BCnder 100%25%0A ."]}


def test_a_call_tells_its_path_peer_timeout_and_metadata() -> None:
    server = Server()
    server.feed(
        frames.headers(
            1,
            request(
                "/t.Toy/Unary", (b"grpc-timeout", b"1500m"), (b"token", b"first"), (b"token", b"2"), (b"x", b"\xff")
            ),
        ),
        frames.data(1, message(b"a"), end=True),
    )
    call = server.calls[0]
    assert (call.path, call.timeout_s) == ("/t.Toy/Unary", 1.5)
    assert isinstance(call, GrpcCall)
    assert (call.connection.id, call.connection.peer) == (7, "127.0.0.1:9")
    assert (call.metadata("token"), call.metadata("x"), call.metadata("nope")) == ("first", "ÿ", None)


def test_calls_on_one_connection_keep_their_own_headers() -> None:
    """The dynamic table makes blocks that look alike mean different things; nobody may get another's token."""
    server, encoder = Server(), oracle.Encoder()
    expected = []
    for n in range(300):
        token = b"user-%d" % (n % 3 if n % 7 else n)
        block = encoder.encode(request("/t.Toy/Unary", (b"token", token)))
        stream_id = 2 * n + 1
        server.feed(
            frames.frame(http2.HEADERS, http2.END_HEADERS, stream_id, block),
            frames.data(stream_id, message(b"%d" % n), end=True),
        )
        expected.append((token.decode(), b"%d" % n))
    assert [(call.metadata("token"), call.body) for call in server.calls] == expected


def test_a_late_answer_to_a_call_taken_back_does_nothing() -> None:
    server = Server()
    call = server.open_call("/t.Toy/Unary", frames.data(1, message(b"a"), end=True))
    closed: list[int] = []
    call.on_close = lambda: closed.append(1)
    server.feed(frames.reset(1))
    assert (call.cancelled, closed) == (True, [1])
    call.reply(b"late")
    call.fail(1, "late")
    call.push(b"late")
    call.finish()
    assert server.take() == {}


@pytest.mark.parametrize(
    "second",
    [
        lambda call: call.reply(b"x"),
        lambda call: call.fail(1, "x"),
        lambda call: call.push(b"x"),
        lambda call: call.finish(),
    ],
)
@pytest.mark.parametrize("size", [1, 100_000])
def test_a_second_answer_is_our_mistake(second: Callable[[Call], None], size: int) -> None:
    server = Server()
    call = server.open_call("/t.Toy/Unary", frames.data(1, message(b"a"), end=True))
    call.reply(bytes(size))
    with pytest.raises(AssertionError):
        second(call)


def test_a_large_reply_waits_for_the_client_and_then_ends() -> None:
    server = Server()
    server.feed(frames.settings((4, 30_000)))
    body = bytes(range(256)) * 300
    call = server.open_call("/t.Toy/Unary", frames.data(1, message(b"a"), end=True))
    call.reply(body)
    told = server.take()[1]
    assert told[0] == HEAD
    assert call.buffered_bytes == len(body) + 5 - 30_000
    told += server.feed(frames.window_update(1, 1 << 20), frames.window_update(0, 1 << 20))[1]
    assert told[-1] == OK
    assert b"".join(piece for piece in told if isinstance(piece, bytes)) == message(body)
    assert not server.connection.streams


def test_a_reply_waits_for_the_transport() -> None:
    server = Server()
    call = server.open_call("/t.Toy/Unary", frames.data(1, message(b"a"), end=True))
    server.connection.paused = True
    call.reply(b"abc")
    assert server.take() == {1: [HEAD]}
    server.connection.resume()
    assert server.take() == {1: [message(b"abc"), OK]}


@pytest.mark.parametrize("size", [65_530, 65_531])
def test_replies_at_the_edge_of_the_window_are_whole(size: int) -> None:
    """65535 bytes of window, 5 of them for the message's head."""
    server = Server()
    server.feed(frames.settings((5, 1 << 20)))
    server.open_call("/t.Toy/Unary", frames.data(1, message(b"a"), end=True)).reply(bytes(size))
    told = server.take()[1] + server.feed(frames.window_update(1, 9999), frames.window_update(0, 9999)).get(1, [])
    assert b"".join(piece for piece in told if isinstance(piece, bytes)) == message(bytes(size))
    assert told[-1] == OK


def test_incomplete_messages_are_bounded_over_all_calls() -> None:
    size = HELD_BYTES_MAX // 2
    server = Server(message_bytes_max=size + 1)
    most = frames.data(1, message(bytes(size + 1))[:size])
    server.feed(frames.headers(1, request("/t.Toy/Unary")), most)
    server.feed(frames.headers(3, request("/t.Toy/Unary")), most.replace(b"\0\0\0\1", b"\0\0\0\3"))
    assert server.connection.held_bytes == HELD_BYTES_MAX
    server.feed(frames.headers(5, request("/t.Toy/Unary")))
    told = server.feed(frames.data(5, b"\0"))
    assert told == {
        5: [f"{HEAD} grpc-status=8 grpc-message=too many incomplete messages on this connection .", "RST 0"]
    }
    for stream_id in (1, 3):
        server.feed(frames.data(stream_id, bytes(6), end=True))
    assert [len(call.body) for call in server.calls] == [size + 1, size + 1]
    assert server.connection.held_bytes == 0


def test_what_was_held_for_a_call_is_let_go_with_it() -> None:
    server = Server()
    server.feed(frames.headers(1, request("/t.Toy/Unary")), frames.data(1, message(bytes(900))[:800]))
    assert server.connection.held_bytes == 800
    server.feed(frames.reset(1))
    assert server.connection.held_bytes == 0


# Streaming


class Log:
    """What a streaming handler was told, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def __call__(self, call: Call) -> None:
        self.call = call
        self.events.append("opened")
        call.on_message = lambda body: self.events.append(body.decode())
        call.on_end = lambda: self.events.append("end")
        call.on_close = lambda: self.events.append("close")
        call.on_writable = lambda: self.events.append("writable")


def stream_server() -> tuple[Server, Log]:
    log = Log()
    server = Server(streams={"/t.Toy/Log": log})
    server.feed(frames.headers(1, request("/t.Toy/Log")))
    return server, log


def test_a_stream_is_opened_by_its_headers_and_gets_each_message() -> None:
    server, log = stream_server()
    assert log.events == ["opened"]
    server.feed(frames.data(1, message(b"a") + message(b"b") + message(b"c")[:3]))
    server.feed(frames.data(1, message(b"c")[3:]))
    assert log.events == ["opened", "a", "b", "c"]
    server.feed(frames.data(1, message(b"d"), end=True))
    assert log.events == ["opened", "a", "b", "c", "d", "end"]


@pytest.mark.parametrize("end", [frames.data(1, end=True), frames.headers(1, [], end=True)])
def test_the_clients_end_is_told_and_answers_may_still_follow(end: bytes) -> None:
    server, log = stream_server()
    server.feed(end)
    assert log.events == ["opened", "end"]
    log.call.push(b"one")
    log.call.push(b"two")
    log.call.finish()
    assert server.take() == {1: [HEAD, message(b"one"), message(b"two"), OK]}
    assert log.events == ["opened", "end"]


def test_a_stream_without_messages_ends_at_its_headers() -> None:
    log = Log()
    server = Server(streams={"/t.Toy/Log": log})
    server.feed(frames.headers(1, request("/t.Toy/Log"), end=True))
    assert log.events == ["opened", "end"]


def test_finishing_tells_the_client_to_stop_and_nothing_is_heard_of_it_any_more() -> None:
    server, log = stream_server()
    log.call.push(b"x")
    log.call.finish(Code.UNAVAILABLE, "etcdserver: no leader")
    assert server.take() == {1: [HEAD, message(b"x"), "grpc-status=14 grpc-message=etcdserver: no leader .", "RST 0"]}
    server.feed(frames.data(1, message(b"late"), end=True), frames.reset(1))
    server.connection.lost()
    assert log.events == ["opened"]


def test_a_status_needs_no_message() -> None:
    server, log = stream_server()
    log.call.push(b"x")
    log.call.finish(Code.CANCELLED)
    assert server.take() == {1: [HEAD, message(b"x"), "grpc-status=1 grpc-message= .", "RST 0"]}


def test_messages_behind_the_handlers_finish_are_not_delivered() -> None:
    bodies: list[bytes] = []

    def handler(call: Call) -> None:
        def on_message(body: bytes) -> None:
            bodies.append(body)
            call.finish()

        call.on_message = on_message

    server = Server(streams={"/t.Toy/Once": handler})
    told = server.feed(
        frames.headers(1, request("/t.Toy/Once")), frames.data(1, message(b"a") + message(b"b"), end=True)
    )
    assert bodies == [b"a"]
    assert told == {1: [f"{HEAD} grpc-status=0 grpc-message= ."]}


def test_a_handler_may_refuse_at_the_headers() -> None:
    server = Server(streams={"/t.Toy/No": lambda call: call.fail(7, "etcdserver: permission denied")})
    told = server.feed(frames.headers(1, request("/t.Toy/No")), frames.data(1, message(b"a")))
    assert told == {1: [f"{HEAD} grpc-status=7 grpc-message=etcdserver: permission denied .", "RST 0"]}


@pytest.mark.parametrize("how", ["reset", "lost", "fault"])
def test_the_end_of_a_call_is_told_once_when_it_was_not_ours(how: str) -> None:
    server, log = stream_server()
    if how == "reset":
        server.feed(frames.reset(1))
    elif how == "fault":
        server.feed(frames.window_update(0, 0))
    server.connection.lost()
    assert log.events == ["opened", "close"]
    assert log.call.cancelled
    log.call.push(b"late")
    assert log.call.buffered_bytes == 0


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (frames.data(1, message_head(1001)), "grpc-status=8"),
        (frames.data(1, b"\2" + bytes(4)), "grpc-status=13"),
        (frames.data(1, message(b"abc")[:6], end=True), "grpc-status=13 grpc-message=unexpected EOF"),
    ],
)
@pytest.mark.parametrize("pushed", [True, False])
def test_a_broken_message_ends_a_stream_and_its_handler_hears_of_it(sent: bytes, status: str, pushed: bool) -> None:
    server, log = stream_server()
    if pushed:
        log.call.push(b"x")
        server.take()
    told = server.feed(sent)[1][0]
    assert isinstance(told, str)
    assert told.removeprefix(HEAD + " ").startswith(status)
    assert told.startswith(HEAD) != pushed
    assert log.events == ["opened", "close"]
    log.call.push(b"late")  # the handler may not have noticed yet
    assert server.take() == {}


def test_pushes_wait_for_a_slow_client_and_tell_when_it_has_read() -> None:
    server, log = stream_server()
    assert isinstance(log.call, GrpcCall)
    log.call.writable_below = 50
    server.feed(frames.settings((4, 0)))
    for _ in range(10):
        log.call.push(bytes(5))
    assert log.call.buffered_bytes == 100
    server.feed(frames.window_update(1, 50))
    assert (log.call.buffered_bytes, log.events) == (50, ["opened"])
    server.feed(frames.window_update(1, 1))
    assert (log.call.buffered_bytes, log.events) == (49, ["opened", "writable"])


def test_a_finish_behind_pushes_that_wait_is_sent_last() -> None:
    server, log = stream_server()
    server.feed(frames.settings((4, 0)), frames.data(1, end=True))
    log.call.push(b"abc")
    log.call.finish(5, "gone")
    assert server.take() == {1: [HEAD]}
    assert server.feed(frames.window_update(1, 100)) == {1: [message(b"abc"), "grpc-status=5 grpc-message=gone ."]}


def test_more_may_be_pushed_from_on_writable() -> None:
    pushed = 0

    def handler(call: Call) -> None:
        def more() -> None:
            nonlocal pushed
            while pushed < 200 and call.buffered_bytes < 30_000:
                call.push(bytes(995))
                pushed += 1
            if pushed == 200 and call.on_writable is not None:
                call.finish()

        assert isinstance(call, GrpcCall)
        call.writable_below = 30_000
        call.on_writable = more
        more()

    server = Server(streams={"/t.Toy/Much": handler})
    told = server.feed(frames.headers(1, request("/t.Toy/Much"), end=True))[1]
    for _ in range(100):
        told += server.feed(frames.window_update(1, 20_000), frames.window_update(0, 20_000)).get(1, [])
        if told[-1] == OK:
            break
    assert told[-1] == OK
    assert sum(len(piece) for piece in told if isinstance(piece, bytes)) == 200_000


def test_a_call_that_is_over_keeps_nothing_of_its_handler() -> None:
    _, log = stream_server()
    log.call.finish()
    call = log.call
    assert (call.on_message, call.on_end, call.on_close, call.on_writable) == (None, None, None, None)


# Counts


def counts(server: Server, method: str) -> tuple[int, int, int, int, dict[int, int]]:
    """Started, received, sent, succeeded, failed by code."""
    counted = server.routes.counts[f"/t.Toy/{method}"]
    return counted.started, counted.received, counted.sent, counted.succeeded, counted.failed


def test_a_unary_call_counts_as_started_and_by_how_it_ended() -> None:
    server = Server()
    server.open_call("/t.Toy/Unary", frames.data(1, message(b"a"), end=True)).reply(b"b")
    server.feed(frames.headers(3, request("/t.Toy/Unary")), frames.data(3, message(b"a"), end=True))
    server.calls[-1].fail(Code.NOT_FOUND, "gone")
    server.feed(frames.headers(5, request("/t.Toy/Unary")), frames.data(5, message(b"a"), end=True))
    server.feed(frames.reset(5))
    started, _, _, succeeded, failed = counts(server, "Unary")
    assert (started, succeeded, failed) == (3, 1, {Code.NOT_FOUND: 1, Code.CANCELLED: 1})


def test_what_reaches_no_handler_counts_as_nothing() -> None:
    server = Server()
    server.feed(frames.headers(1, request("/t.Toy/Unary")), frames.data(1, message(bytes(2000)), end=True))
    server.feed(frames.headers(3, request("/t.Toy/Unary"), end=True))
    server.feed(frames.headers(5, request("/t.Toy/None")), frames.data(5, message(b"a"), end=True))
    server.feed(frames.headers(7, request("/t.Toy/Unary")))
    server.feed(frames.reset(7))
    assert counts(server, "Unary") == (0, 0, 0, 0, {})


def test_a_stream_counts_its_messages_and_one_end() -> None:
    server = Server()
    call = server.open_call("/t.Toy/Stream")
    call.on_message = lambda body: None
    server.feed(frames.data(1, message(b"a") + message(b"b")))
    call.push(b"c")
    assert counts(server, "Stream") == (1, 2, 1, 0, {})
    call.finish()
    server.take()
    server.feed(frames.reset(1))
    assert counts(server, "Stream") == (1, 2, 1, 1, {})


def test_an_answer_that_waits_for_the_client_counts_once_though_it_is_taken_back() -> None:
    server = Server()
    call = server.open_call("/t.Toy/Unary", frames.data(1, message(b"a"), end=True))
    call.reply(bytes(200_000))  # more than the window
    server.feed(frames.reset(1))
    started, _, _, succeeded, failed = counts(server, "Unary")
    assert (started, succeeded, failed) == (1, 1, {})


def test_a_stream_that_is_cut_short_has_failed() -> None:
    server = Server()
    server.open_call("/t.Toy/Stream").on_message = lambda body: None
    server.feed(frames.data(1, message(b"abc")[:6], end=True))
    assert counts(server, "Stream")[4] == {Code.INTERNAL: 1}


def test_how_long_calls_take_is_counted_if_asked_and_once_a_call() -> None:
    server = Server(timed=True)
    server.open_call("/t.Toy/Unary", frames.data(1, message(b"a"), end=True)).reply(b"b")
    server.feed(frames.headers(3, request("/t.Toy/Stream")))
    server.feed(frames.reset(3))
    server.feed(frames.headers(5, request("/t.Toy/Stream")))
    server.calls[-1].push(bytes(200_000))  # more than the window
    server.calls[-1].finish()
    server.feed(frames.reset(5))
    for method, count in (("Unary", 1), ("Stream", 2)):
        took = server.routes.counts[f"/t.Toy/{method}"].took
        assert took is not None
        assert sum(took.counts) == count
    assert Server().routes.counts["/t.Toy/Unary"].took is None
