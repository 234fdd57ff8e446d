"""The listener on real sockets: grpcio and http.client as clients, and bytes that no client should send."""

import asyncio
import contextlib
import http.client
import logging
import random
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import grpc
import pytest
from kvorum.net.call import Call, Routes
from kvorum.net.exchange import Exchange, HttpRequest, HttpResponse, HttpStream
from kvorum.net.http1_port import PIPELINED_REQUESTS_MAX, Http1Port
from kvorum.net.listener import CannotListen, Listener, _Door
from kvorum.wire import http2
from kvorum.wire.grpc import message_head

from tests.kit.deadline import wait_until
from tests.unit.kvorum.wire import frames

T = TypeVar("T")
DEADLINE_S = 20.0
MESSAGE_BYTES_MAX = 2 << 20


class Toy:
    """A listener with toy handlers, on a loop in a thread of its own."""

    def __init__(self, *, url: str = "http://127.0.0.1:0", limits: http2.Limits | None = None, sweep_s: float = 5.0):
        self.waiting: list[Call] = []  # calls of /t.Toy/Wait, unanswered
        self.held: list[tuple[HttpRequest, Exchange]] = []  # requests of /later and /waits
        self.streams: list[HttpStream] = []  # answers to /stream
        self.closed: list[str] = []  # paths whose on_close was called
        self.faults: list[str] = []  # what reached the loop's exception handler
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda loop, context: self.faults.append(repr(context.get("exception"))))
        self.thread = threading.Thread(target=self.loop.run_forever, name="toy listener", daemon=True)
        self.thread.start()
        limits = limits or http2.Limits()
        try:
            self.listener = self.run(self._listen(url, limits, sweep_s))
        except BaseException:
            self.stop_loop()
            raise

    async def _listen(self, url: str, limits: http2.Limits, sweep_s: float) -> Listener:
        routes = Routes(
            unary={
                "/t.Toy/Echo": lambda call: call.reply(call.body),
                "/t.Toy/Many": lambda call: call.reply(bytes(int(call.body))),
                "/t.Toy/Fail": lambda call: call.fail(5, call.body.decode()),
                "/t.Toy/Wait": self._wait,
                "/t.Toy/Broken": self._broken,
                "/t.Toy/Token": lambda call: call.reply((call.metadata("token") or "none").encode()),
            },
            streams={"/t.Toy/Chat": self._chat, "/t.Toy/Count": self._count, "/t.Toy/Quiet": self._wait},
            message_bytes_max=MESSAGE_BYTES_MAX,
        )
        log = logging.getLogger("test.listener")
        listener = Listener(routes, self._http, limits=limits, http_body_bytes_max=1000, log=log, sweep_s=sweep_s)
        await listener.listen(url)
        return listener

    def _wait(self, call: Call) -> None:
        self.waiting.append(call)
        call.on_close = lambda: self.closed.append(call.path)

    def _broken(self, call: Call) -> None:
        raise ZeroDivisionError("a handler's mistake")

    def _chat(self, call: Call) -> None:
        call.on_message = call.push
        call.on_end = call.finish
        call.on_close = lambda: self.closed.append(call.path)

    def _count(self, call: Call) -> None:
        """Pushes as many messages as the first one says, no faster than they are read."""
        left = -1

        def more() -> None:
            nonlocal left
            while left > 0 and call.buffered_bytes < 64 << 10:
                left -= 1
                call.push(b"%06d" % left + bytes(1000))
            if left == 0:
                left = -1
                call.finish()

        def start(body: bytes) -> None:
            nonlocal left
            left = int(body)
            more()

        call.on_message = start
        call.on_writable = more

    def _http(self, request: HttpRequest, respond: Exchange) -> None:
        if request.path == "/later":
            self.held.append((request, respond))
        elif request.path == "/waits":
            respond.on_close = lambda: self.closed.append(request.path)
            self.held.append((request, respond))
        elif request.path == "/stream":
            stream = respond.open(200, [("Content-Type", "text/plain")])
            stream.on_close = lambda: self.closed.append(request.path)
            self.streams.append(stream)
        elif request.path == "/echo":
            raw = respond.upgrade([("Upgrade", "echo"), ("Connection", "Upgrade")], lambda data: self._echo(raw, data))
            if raw is None:
                respond(HttpResponse(400))
            else:
                raw.on_close = lambda: self.closed.append(request.path)
        elif request.path == "/big":
            respond(HttpResponse(200, bytes(100_000)))
        else:
            text = f"{request.method} {request.path} {request.body.decode()}"
            respond(HttpResponse(200, text.encode(), [("Content-Type", "text/plain")]))

    def _echo(self, raw: HttpStream | None, data: bytes) -> None:
        assert raw is not None
        if data == b"bye":
            raw.close()
        else:
            raw.write(data)

    def run(self, awaitable: Awaitable[T]) -> T:
        async def wait() -> T:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(wait(), self.loop).result(DEADLINE_S)

    def do(self, action: Callable[[], T]) -> T:
        """In the loop's thread."""

        async def wait() -> T:
            return action()

        return self.run(wait())

    @property
    def port(self) -> int:
        return self.listener.addresses[0][1]

    def channel(self, *options: tuple[str, Any]) -> grpc.Channel:
        return grpc.insecure_channel(f"127.0.0.1:{self.port}", options=[("grpc.enable_http_proxy", 0), *options])

    def connect(self) -> socket.socket:
        connection = socket.create_connection(self.listener.addresses[0], timeout=DEADLINE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def speak_http2(self) -> socket.socket:
        connection = self.connect()
        connection.sendall(http2.PREFACE + frames.settings())
        return connection

    def close(self) -> None:
        self.run(self.listener.close(grace_s=0.0))
        until(lambda: self.listener.connections_count == 0, "no connection is left")
        self.stop_loop()

    def stop_loop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(DEADLINE_S)
        self.loop.close()


def until(condition: Callable[[], bool], what: str) -> None:
    wait_until(condition, DEADLINE_S, what)


@pytest.fixture
def toy() -> Iterator[Toy]:
    toy = Toy()
    try:
        yield toy
    finally:
        toy.close()
    assert toy.faults == []


def unary(channel: grpc.Channel, method: str) -> Any:
    return channel.unary_unary(f"/t.Toy/{method}", request_serializer=None, response_deserializer=None)


def streaming(channel: grpc.Channel, method: str) -> Any:
    return channel.stream_stream(f"/t.Toy/{method}", request_serializer=None, response_deserializer=None)


def read_all(connection: socket.socket) -> bytes:
    """Until the other end closes, which it must."""
    found = b""
    try:
        while piece := connection.recv(1 << 16):
            found += piece
    except ConnectionResetError:
        pass
    return found


# gRPC, with grpcio


def test_unary_calls_of_all_sizes(toy: Toy) -> None:
    with toy.channel() as channel:
        for size in (0, 1, 16_379, 16_380, 65_530, 65_536, 1 << 20):
            body = random.Random(size).randbytes(size)
            assert unary(channel, "Echo")(body, timeout=DEADLINE_S) == body


@pytest.mark.parametrize("window", [1_000, 70_000])
def test_a_mebibyte_both_ways_through_small_windows(toy: Toy, window: int) -> None:
    options = (("grpc.http2.lookahead_bytes", window), ("grpc.http2.bdp_probe", 0))
    with toy.channel(*options) as channel:
        bodies = [random.Random(n).randbytes(1 << 20) for n in range(4)]
        calls = [unary(channel, "Echo").future(body, timeout=DEADLINE_S) for body in bodies]
        assert [call.result() for call in calls] == bodies


def test_errors_carry_their_code_and_any_text(toy: Toy) -> None:
    with toy.channel() as channel:
        for text in ("etcdserver: key not found", "schöne Grüße, 100 %", "日本\n語", ""):
            with pytest.raises(grpc.RpcError) as failed:
                unary(channel, "Fail")(text.encode(), timeout=DEADLINE_S)
            assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.NOT_FOUND, text)


@pytest.mark.parametrize(
    ("path", "details"),
    [("/t.Toy/Nope", "unknown method Nope for service t.Toy"), ("/x.Y/Z", "unknown service x.Y")],
)
def test_unknown_methods_are_unimplemented(toy: Toy, path: str, details: str) -> None:
    with toy.channel() as channel, pytest.raises(grpc.RpcError) as failed:
        channel.unary_unary(path, request_serializer=None, response_deserializer=None)(b"", timeout=DEADLINE_S)
    assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.UNIMPLEMENTED, details)


def test_a_message_too_large_is_refused_and_the_connection_lives(toy: Toy) -> None:
    with toy.channel() as channel:
        with pytest.raises(grpc.RpcError) as failed:
            unary(channel, "Echo")(bytes(MESSAGE_BYTES_MAX + 1), timeout=DEADLINE_S)
        assert failed.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert failed.value.details() == "grpc: received message larger than max (2097153 vs. 2097152)"
        assert unary(channel, "Echo")(b"on", timeout=DEADLINE_S) == b"on"


def test_a_deadline_takes_the_call_back(toy: Toy) -> None:
    with toy.channel() as channel:
        with pytest.raises(grpc.RpcError) as failed:
            unary(channel, "Wait")(b"", timeout=1.0)
        assert failed.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        until(lambda: toy.closed == ["/t.Toy/Wait"], "the handler is told")
        (call,) = toy.waiting
        assert call.cancelled
        assert call.timeout_s is not None
        assert 0.1 < call.timeout_s < 1.1  # grpcio rounds up
        toy.do(lambda: call.reply(b"late"))
        assert unary(channel, "Echo")(b"on", timeout=DEADLINE_S) == b"on"


def test_metadata_reaches_the_call_it_belongs_to(toy: Toy) -> None:
    with toy.channel() as channel:
        for n in range(50):
            token = f"token-{n % 4}"
            assert unary(channel, "Token")(b"", metadata=[("token", token)], timeout=DEADLINE_S) == token.encode()
        assert unary(channel, "Token")(b"", timeout=DEADLINE_S) == b"none"


def test_compressed_requests_are_taken(toy: Toy) -> None:
    with toy.channel() as channel:
        body = b"abc" * 10_000
        call = unary(channel, "Echo")
        assert call(body, timeout=DEADLINE_S, compression=grpc.Compression.Gzip) == body


def test_messages_go_to_and_fro_on_one_stream(toy: Toy) -> None:
    with toy.channel() as channel:
        bodies = [random.Random(n).randbytes(n * 997 % 50_000) for n in range(100)]
        assert list(streaming(channel, "Chat")(iter(bodies), timeout=DEADLINE_S)) == bodies
        assert list(streaming(channel, "Chat")(iter([]), timeout=DEADLINE_S)) == []
    assert toy.closed == []


def test_a_slow_reader_gets_everything_and_the_server_waits_for_it(toy: Toy) -> None:
    with toy.channel(("grpc.http2.lookahead_bytes", 1_000), ("grpc.http2.bdp_probe", 0)) as channel:
        answers = streaming(channel, "Count")(iter([b"3000"]), timeout=DEADLINE_S)
        assert [int(answer[:6]) for answer in answers] == list(range(2999, -1, -1))


def test_cancelling_a_stream_is_told_to_its_handler(toy: Toy) -> None:
    with toy.channel() as channel:
        call = streaming(channel, "Quiet")(iter([]), timeout=DEADLINE_S)
        until(lambda: len(toy.waiting) == 1, "the stream is open")
        call.cancel()
        until(lambda: toy.closed == ["/t.Toy/Quiet"], "the handler is told")


def test_a_connection_that_breaks_ends_all_its_calls(toy: Toy) -> None:
    channel = toy.channel()
    calls = [unary(channel, "Wait").future(b"") for _ in range(10)]
    until(lambda: len(toy.waiting) == 10, "the calls arrive")
    channel.close()
    until(lambda: len(toy.closed) == 10, "the handlers are told")
    assert all(call.done() for call in calls)


def test_a_thousand_calls_at_once_on_one_connection(toy: Toy) -> None:
    with toy.channel() as channel:
        calls = [unary(channel, "Wait").future(b"%d" % n, timeout=DEADLINE_S) for n in range(1000)]
        until(lambda: len(toy.waiting) == 1000, "the calls arrive")

        def answer_all() -> None:
            for call in reversed(toy.waiting):
                call.reply(call.body)

        toy.do(answer_all)
        assert [call.result() for call in calls] == [b"%d" % n for n in range(1000)]


def test_a_thousand_streams_at_once_end_by_one_disconnect(toy: Toy) -> None:
    connection = toy.speak_http2()
    path = [(n, b"/t.Toy/Quiet" if n == b":path" else v) for n, v in frames.REQUEST]
    connection.sendall(b"".join(frames.headers(2 * n + 1, path) for n in range(1000)))
    until(lambda: len(toy.waiting) == 1000, "the streams are open")
    connection.close()
    until(lambda: len(toy.closed) == 1000, "the handlers are told")


def test_more_streams_than_allowed_wait_at_the_client() -> None:
    toy = Toy(limits=http2.Limits(streams_max=10))
    try:
        with toy.channel() as channel:
            unary(channel, "Echo")(b"settings are known now", timeout=DEADLINE_S)
            calls = [unary(channel, "Wait").future(b"", timeout=DEADLINE_S) for _ in range(30)]
            answered = 0

            def answer() -> None:
                toy.waiting[answered].reply(b"ok")

            def another() -> bool:
                return len(toy.waiting) > answered

            while answered < 30:
                until(another, "a call arrives")
                assert len(toy.waiting) - answered <= 10
                toy.do(answer)
                answered += 1
            assert [call.result() for call in calls] == [b"ok"] * 30
    finally:
        toy.close()


def test_a_handlers_mistake_breaks_its_connection_and_no_other(toy: Toy) -> None:
    with toy.channel() as broken, toy.channel(("grpc.use_local_subchannel_pool", 1)) as other:
        unary(other, "Echo")(b"", timeout=DEADLINE_S)
        with pytest.raises(grpc.RpcError) as failed:
            unary(broken, "Broken")(b"", timeout=DEADLINE_S)
        assert failed.value.code() == grpc.StatusCode.UNAVAILABLE
        assert unary(other, "Echo")(b"on", timeout=DEADLINE_S) == b"on"
    assert toy.faults == ['ZeroDivisionError("a handler\'s mistake")']
    toy.faults.clear()


def test_answers_of_one_tick_are_one_write(toy: Toy) -> None:
    connection = toy.speak_http2()
    path = [(n, b"/t.Toy/Wait" if n == b":path" else v) for n, v in frames.REQUEST]
    for n in range(50):
        connection.sendall(frames.headers(2 * n + 1, path) + frames.data(2 * n + 1, message_head(0), end=True))
    until(lambda: len(toy.waiting) == 50, "the calls arrive")
    greeting = connection.recv(1 << 16)
    assert http2.HEADERS not in {frame.kind for frame in frames.read(greeting)}

    def answer_all() -> None:
        for call in toy.waiting:
            call.reply(b"x" * 100)

    toy.do(answer_all)
    answers = frames.read(connection.recv(1 << 20))
    assert sum(frame.kind == http2.DATA for frame in answers) == 50
    connection.close()


def test_bytes_are_counted(toy: Toy) -> None:
    with toy.channel() as channel:
        unary(channel, "Echo")(bytes(100_000), timeout=DEADLINE_S)
    assert 100_000 < toy.listener.received_bytes < 120_000
    assert 100_000 < toy.listener.sent_bytes < 120_000


def test_a_client_that_does_not_read_is_not_read_either_and_gets_all_in_the_end(toy: Toy) -> None:
    connection = toy.speak_http2()
    connection.sendall(frames.settings((4, (1 << 31) - 1)) + frames.window_update(0, (1 << 31) - 1 - 65_535))
    path = [(n, b"/t.Toy/Many" if n == b":path" else v) for n, v in frames.REQUEST]
    asked = 200
    size = 300_000

    def ask() -> None:
        for n in range(asked):
            body = message_head(6) + b"%06d" % size
            connection.sendall(frames.headers(2 * n + 1, path) + frames.data(2 * n + 1, body, end=True))
            # Something for the server to read, so that not reading shows: this client's own window of 1 MiB.
            connection.sendall(frames.frame(0x77, 0, 0, bytes(16_000)) if n % 4 == 0 else b"")

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()

    def transports() -> list[asyncio.Transport]:
        return [transport for port in list(toy.listener._ports) if (transport := port.transport()) is not None]

    until(lambda: any(not transport.is_reading() for transport in transports()), "the server stops reading")
    pieces: list[bytes] = []
    ends = 0
    while ends < asked:
        pieces.append(connection.recv(1 << 20))
        assert pieces[-1], "closed too early"
        before = pieces[-2][-12:] if len(pieces) > 1 else b""
        ends += (before + pieces[-1]).count(b"grpc-status\x010")  # the last bytes of an answer
    asking.join(DEADLINE_S)
    found = b"".join(pieces)
    answered = [frame for frame in frames.read(found) if frame.kind == http2.DATA]
    assert sum(len(frame.payload) for frame in answered) == asked * (size + 5)
    connection.close()


def test_a_closed_connection_whose_client_does_not_read_goes_away() -> None:
    toy = Toy(sweep_s=0.05)
    try:
        connection = toy.speak_http2()
        path = [(n, b"/t.Toy/Many" if n == b":path" else v) for n, v in frames.REQUEST]
        body = message_head(5) + b"65000"
        asked = b"".join(frames.headers(n, path) + frames.data(n, body, end=True) for n in range(1, 401, 2))
        open_windows = frames.settings((4, 1 << 30), (5, 1 << 20)) + frames.window_update(0, 1 << 30)
        # More answers than the kernel's buffers take, and a fault behind them.
        connection.sendall(open_windows + asked + frames.window_update(0, 0))
        until(lambda: toy.listener.sent_bytes > 9_000_000, "answers")
        until(lambda: toy.listener.connections_count == 0, "it goes")
        connection.close()
    finally:
        toy.close()


# HTTP/1.1 beside it


def test_http_1_is_served_on_the_same_port(toy: Toy) -> None:
    with toy.channel() as channel:
        unary(channel, "Echo")(b"", timeout=DEADLINE_S)
        client = http.client.HTTPConnection("127.0.0.1", toy.port, timeout=DEADLINE_S)
        for method, body in (("GET", None), ("POST", b"hello"), ("PUT", b"")):
            client.request(method, "/health", body=body)
            response = client.getresponse()
            text = f"{method} /health {(body or b'').decode()}"
            assert (response.status, response.read().decode()) == (200, text)
            assert response.headers["Content-Type"] == "text/plain"
        client.request("HEAD", "/health")
        response = client.getresponse()
        assert (response.headers["Content-Length"], response.read()) == ("13", b"")
        client.close()


def test_http_answers_may_come_later_and_keep_their_order(toy: Toy) -> None:
    connection = toy.connect()
    get = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"
    connection.sendall(get % b"/later" + get % b"/second" + get % b"/later")
    until(lambda: len(toy.held) == 1, "the request arrives")
    (_, respond) = toy.held[0]
    toy.loop.call_soon_threadsafe(respond, HttpResponse(202, b"first"))
    until(lambda: len(toy.held) == 2, "the third request follows")
    toy.loop.call_soon_threadsafe(toy.held[1][1], HttpResponse(203, b"third"))
    connection.shutdown(socket.SHUT_WR)
    answers = read_all(connection)
    assert [answers.find(text) >= 0 for text in (b"202 Accepted", b"203 Non")] == [True, True]
    assert answers.index(b"first") < answers.index(b"GET /second") < answers.index(b"third")


def test_many_pipelined_requests_are_all_answered(toy: Toy) -> None:
    connection = toy.connect()
    connection.sendall(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n" + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 500)
    until(lambda: len(toy.held) == 1, "the request arrives")
    toy.loop.call_soon_threadsafe(toy.held[0][1], HttpResponse(200, b"first"))
    connection.shutdown(socket.SHUT_WR)
    assert read_all(connection).count(b"HTTP/1.1 200 OK") == 501


def test_an_answer_for_a_client_that_left_does_no_harm(toy: Toy) -> None:
    connection = toy.connect()
    connection.sendall(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n")
    until(lambda: len(toy.held) == 1, "the request arrives")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
    until(lambda: toy.listener.connections_count == 0, "the connection goes")
    toy.do(lambda: toy.held[0][1](HttpResponse(200, b"late")))


def test_a_client_that_waits_for_permission_gets_it(toy: Toy) -> None:
    connection = toy.connect()
    connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(b"hello")
    connection.shutdown(socket.SHUT_WR)
    assert b"POST / hello" in read_all(connection)


def test_a_client_of_http_that_does_not_read_waits_and_gets_every_answer(toy: Toy) -> None:
    asked = 200
    connection = toy.connect()
    connection.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n" * asked)
    connection.shutdown(socket.SHUT_WR)

    def waiting() -> int:
        (port,) = toy.listener._ports
        assert isinstance(port, Http1Port)
        return len(port._waiting) if port._paused else 0

    until(lambda: toy.listener.connections_count == 1 and toy.do(waiting) > 0, "the server stops answering")
    assert read_all(connection).count(b"HTTP/1.1 200") == asked


def test_a_body_too_large_is_refused(toy: Toy) -> None:
    connection = toy.connect()
    connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n")
    assert read_all(connection).startswith(b"HTTP/1.1 413 ")


def test_connection_close_is_honoured(toy: Toy) -> None:
    connection = toy.connect()
    connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"Connection: close" in read_all(connection)


# Answers that go on


STREAM = b"%s /stream HTTP/1.%d\r\nHost: x\r\n\r\n"


def receive(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size and (piece := connection.recv(size - len(found))):
        found += piece
    return found


def head_of(connection: socket.socket) -> bytes:
    found = b""
    while not found.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        assert piece, found
        found += piece
    return found


def opened_stream(toy: Toy, request: bytes) -> tuple[socket.socket, HttpStream, bytes]:
    connection = toy.connect()
    connection.sendall(request)
    head = head_of(connection)
    until(lambda: bool(toy.streams), "the handler opens the stream")
    return connection, toy.streams[0], head


def write_last(stream: HttpStream, *pieces: bytes) -> None:
    for piece in pieces:
        stream.write(piece)
    stream.close()


def test_the_head_of_a_stream_and_each_chunk_go_out_at_once(toy: Toy) -> None:
    connection, stream, head = opened_stream(toy, STREAM % (b"GET", 1))
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n")
    for data in (b"one\n", b"and two\n"):
        toy.do(lambda data=data: stream.write(data))  # type: ignore[misc]  # a default is how a loop binds
        assert receive(connection, len(data) + 5) == b"%x\r\n%b\r\n" % (len(data), data)
    toy.do(lambda: stream.write(b""))  # which would have been the last chunk
    toy.do(stream.close)
    assert receive(connection, 5) == b"0\r\n\r\n"
    connection.sendall(b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n")
    assert head_of(connection).startswith(b"HTTP/1.1 200 OK")
    assert toy.closed == []


def test_requests_behind_a_stream_wait_for_its_end(toy: Toy) -> None:
    connection, stream, _ = opened_stream(toy, STREAM % (b"GET", 1) + b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n")
    toy.do(lambda: write_last(stream, b"first"))
    connection.shutdown(socket.SHUT_WR)
    answers = read_all(connection)
    assert answers.startswith(b"5\r\nfirst\r\n0\r\n\r\nHTTP/1.1 200 OK")
    assert b"GET /next" in answers


def test_a_client_of_http_1_0_gets_a_stream_without_chunks(toy: Toy) -> None:
    connection, stream, head = opened_stream(toy, STREAM % (b"GET", 0))
    assert b"Transfer-Encoding" not in head
    toy.do(lambda: write_last(stream, b"all of ", b"it"))
    assert read_all(connection) == b"all of it"


def test_a_stream_asked_for_by_head_is_its_head(toy: Toy) -> None:
    connection, stream, _ = opened_stream(toy, STREAM % (b"HEAD", 1))
    toy.do(lambda: write_last(stream, b"left out"))
    connection.shutdown(socket.SHUT_WR)
    assert read_all(connection) == b""


@pytest.mark.parametrize("leave", ["close", "shutdown", "reset"])
def test_the_handler_of_a_stream_is_told_once_that_its_client_went(toy: Toy, leave: str) -> None:
    connection, stream, _ = opened_stream(toy, STREAM % (b"GET", 1))
    if leave == "shutdown":
        connection.shutdown(socket.SHUT_WR)  # what a client can do last that still wants to be told nothing
    else:
        if leave == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
    until(lambda: toy.closed == ["/stream"], "the handler is told")
    toy.do(lambda: write_last(stream, b"late"))
    until(lambda: toy.listener.connections_count == 0, "the connection goes")
    assert toy.closed == ["/stream"]


@pytest.mark.parametrize("order", ["before", "behind"])
def test_who_waits_without_an_end_is_told_that_the_client_sends_no_more(toy: Toy, order: str) -> None:
    connection = toy.connect()
    request = b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n"
    if order == "behind":  # the end of input is known before the request is taken up
        connection.sendall(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: len(toy.held) == 1, "the first request arrives")
    connection.sendall(request)
    if order == "before":
        until(lambda: len(toy.held) == 1, "the request arrives")
    connection.shutdown(socket.SHUT_WR)
    if order == "behind":
        port = next(iter(toy.listener._ports))
        assert isinstance(port, Http1Port)
        until(lambda: port._ended, "the end arrives")
        toy.do(lambda: toy.held[0][1](HttpResponse(200, b"first")))
        assert b"first" in read_all(connection)
    until(lambda: toy.closed == ["/waits"], "the handler is told")
    toy.do(lambda: toy.held[-1][1](HttpResponse(200, b"late")))


def test_an_answer_in_time_tells_nobody_that_the_client_went(toy: Toy) -> None:
    connection = toy.connect()
    connection.sendall(b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n")
    until(lambda: len(toy.held) == 1, "the request arrives")
    toy.do(lambda: toy.held[0][1](HttpResponse(200, b"in time")))
    assert head_of(connection).startswith(b"HTTP/1.1 200")
    connection.close()
    until(lambda: toy.listener.connections_count == 0, "the connection goes")
    assert toy.closed == []


def test_a_stream_shows_how_much_is_unread_and_tells_when_it_was_read(toy: Toy) -> None:
    connection, stream, _ = opened_stream(toy, STREAM % (b"GET", 1))
    written, told = 0, threading.Event()
    while toy.do(lambda: stream.buffered_bytes) < 1 << 20:
        toy.do(lambda: stream.write(bytes(1 << 16)))
        written += 1
    stream.on_writable = told.set
    assert not told.is_set()
    assert len(receive(connection, written * (len(b"10000\r\n\r\n") + (1 << 16)))) > 1 << 20
    assert told.wait(DEADLINE_S)
    assert toy.do(lambda: stream.buffered_bytes) < 1 << 16


def test_a_client_that_asks_on_behind_a_stream_without_end_is_closed(toy: Toy) -> None:
    connection, _, _ = opened_stream(toy, STREAM % (b"GET", 1))
    with contextlib.suppress(ConnectionError):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * (PIPELINED_REQUESTS_MAX + 1))
    until(lambda: toy.closed == ["/stream"], "the handler is told")


def test_a_second_answer_is_a_mistake_of_ours(toy: Toy) -> None:
    connection, stream, _ = opened_stream(toy, STREAM % (b"GET", 1))
    assert callable(stream)
    with pytest.raises(AssertionError, match="answered twice"):
        toy.do(lambda: stream(HttpResponse(200)))
    toy.do(stream.close)
    with pytest.raises(AssertionError, match="answered twice"):
        toy.do(lambda: stream(HttpResponse(200)))
    connection.close()


def test_a_connection_may_go_on_in_another_protocol(toy: Toy) -> None:
    connection = toy.connect()
    connection.sendall(b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
    assert head_of(connection) == b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n"
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\xff\0\xff"):
        connection.sendall(data)
        assert receive(connection, len(data)) == data
    connection.sendall(b"bye")
    assert read_all(connection) == b""
    assert toy.closed == []


def test_who_leaves_another_protocol_is_noticed(toy: Toy) -> None:
    connection = toy.connect()
    connection.sendall(b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
    head_of(connection)
    connection.shutdown(socket.SHUT_WR)
    until(lambda: toy.closed == ["/echo"], "the handler is told")
    assert read_all(connection) == b""


@pytest.mark.parametrize("request_", [b"GET /echo HTTP/1.0\r\n\r\n", b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\nearly"])
def test_another_protocol_is_not_begun_for_who_cannot_or_did_not_wait(toy: Toy, request_: bytes) -> None:
    connection = toy.connect()
    connection.sendall(request_)
    assert head_of(connection).startswith(b"HTTP/1.1 400")


# Bad input


def test_the_preface_may_come_byte_by_byte(toy: Toy) -> None:
    connection = toy.connect()
    for byte in http2.PREFACE + frames.settings() + frames.ping():
        connection.sendall(bytes([byte]))
    found = b""
    while b"12345678" not in found:
        piece = connection.recv(1000)
        assert piece, "closed"
        found += piece
    connection.close()


def test_a_request_of_http_1_may_begin_like_the_preface(toy: Toy) -> None:
    connection = toy.connect()
    connection.sendall(b"P")
    until(lambda: any(isinstance(port, _Door) and port._data == b"P" for port in list(toy.listener._ports)), "a door")
    connection.sendall(b"RI * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"PRI *" in read_all(connection)


GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\r\n\r\n",  # TLS
    b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    b"PRI * HTTP/1.1\r\n\r\n",
    b"\r\n" * 100_000,
    b"GET / HTTP/1.1\nHost: x\n\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\0" * 100_000,
    b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    http2.PREFACE + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    http2.PREFACE + http2.PREFACE,
    http2.PREFACE + frames.frame(http2.SETTINGS, 0, 0, bytes(7)),
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_closed_and_logged_without_a_traceback(
    toy: Toy, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "test.listener")
    connection = toy.connect()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may be closed in the middle
        connection.sendall(garbage)
    read_all(connection)
    until(lambda: toy.listener.connections_count == 0, "the connection goes")
    (record,) = [record for record in caplog.records if record.name == "test.listener"]
    assert record.levelno == logging.DEBUG
    assert "127.0.0.1:" in record.getMessage()
    assert record.exc_info is None


def test_random_bytes_never_raise(toy: Toy) -> None:
    source = random.Random(2379)
    starts = [b"", http2.PREFACE, http2.PREFACE + frames.settings(), b"GET / HTTP/1.1\r\n"]
    for round_ in range(200):
        connection = toy.connect()
        try:
            connection.sendall(starts[round_ % 4] + source.randbytes(source.randint(0, 3000)))
            connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError, OSError):
            pass
        read_all(connection)
        connection.close()
    until(lambda: toy.listener.connections_count == 0, "no connection is left")
    assert toy.faults == []
    with toy.channel() as channel:
        assert unary(channel, "Echo")(b"on", timeout=DEADLINE_S) == b"on"


def test_a_flood_on_one_connection_ends_it_and_spares_the_others(toy: Toy) -> None:
    with toy.channel() as channel:
        unary(channel, "Echo")(b"", timeout=DEADLINE_S)
        flood = toy.speak_http2()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            flood.sendall(b"".join(frames.headers(n) + frames.reset(n) for n in range(1, 40_000, 2)))
        read_all(flood)
        assert unary(channel, "Echo")(b"on", timeout=DEADLINE_S) == b"on"


def test_a_silent_client_is_given_up() -> None:
    toy = Toy(limits=http2.Limits(silence_s=0.1, answer_s=0.1), sweep_s=0.05)
    try:
        connection = toy.speak_http2()
        told = frames.read(read_all(connection))
        assert [frame.kind for frame in told][-2:] == [http2.PING, http2.GOAWAY]
    finally:
        toy.close()


def test_a_living_client_is_not_given_up() -> None:
    toy = Toy(limits=http2.Limits(silence_s=0.1, answer_s=2.0), sweep_s=0.05)
    try:
        with toy.channel() as channel:
            call = unary(channel, "Wait").future(b"", timeout=DEADLINE_S)
            until(lambda: len(toy.waiting) == 1, "the call arrives")
            sent_bytes = toy.listener.sent_bytes
            until(lambda: toy.listener.sent_bytes >= sent_bytes + 5 * 17, "it is asked five times")
            toy.do(lambda: toy.waiting[0].reply(b"alive"))
            assert call.result() == b"alive"
    finally:
        toy.close()


# Listening


def test_localhost_is_127_0_0_1() -> None:
    toy = Toy(url="http://localhost:0")
    assert toy.listener.addresses[0][0] == "127.0.0.1"
    toy.close()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="NOT RUN: this machine has no IPv6")
def test_ipv6_and_all_addresses() -> None:
    for url, reached in (("http://[::1]:0", ["::1"]), ("http://[::]:0", ["::1", "127.0.0.1"])):
        toy = Toy(url=url)
        for host in reached:
            client = http.client.HTTPConnection(host, toy.port, timeout=DEADLINE_S)
            client.request("GET", "/")
            assert client.getresponse().status == 200
            client.close()
        toy.close()


def test_a_port_in_use_is_named_with_the_way_out(toy: Toy) -> None:
    with pytest.raises(CannotListen) as refused:
        toy.run(toy.listener.listen(f"http://127.0.0.1:{toy.port}"))
    assert str(refused.value) == (
        f"127.0.0.1:{toy.port} is in use by another process\n"
        "  Only one can listen there: `ss -ltnp` names it.\n"
        "  Stop it, or choose another address with --listen-client-urls"
    )


def test_an_address_of_another_machine_is_named(toy: Toy) -> None:
    with pytest.raises(CannotListen, match=r"^192\.0\.2\.1:1234 is no address of this machine\n"):
        toy.run(toy.listener.listen("http://192.0.2.1:1234"))


@pytest.mark.parametrize(
    "url", ["127.0.0.1:2379", "https://127.0.0.1:2379", "http://127.0.0.1", "http://:1", "http://x:99999", "http://x:y"]
)
def test_what_is_no_address_is_refused(toy: Toy, url: str) -> None:
    with pytest.raises(CannotListen, match="--listen-client-urls"):
        toy.run(toy.listener.listen(url))


def test_a_port_is_free_again_at_once() -> None:
    toy = Toy()
    connection = toy.connect()
    connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    read_all(connection)  # the server closed first: the port is in TIME_WAIT
    connection.close()
    port = toy.port
    toy.close()
    again = Toy(url=f"http://127.0.0.1:{port}")
    again.close()


def test_small_answers_are_not_held_back_and_dead_peers_found_by_the_kernel(toy: Toy) -> None:
    connection = toy.connect()
    until(lambda: toy.listener.connections_count == 1, "a connection")
    (port,) = toy.listener._ports
    transport = port.transport()
    assert transport is not None
    accepted = transport.get_extra_info("socket")
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    connection.close()


# Closing


def test_closing_lets_calls_finish_and_takes_no_new_ones() -> None:
    toy = Toy()
    with toy.channel() as channel:
        call = unary(channel, "Wait").future(b"", timeout=DEADLINE_S)
        until(lambda: len(toy.waiting) == 1, "the call arrives")
        closing = asyncio.run_coroutine_threadsafe(toy.listener.close(grace_s=DEADLINE_S), toy.loop)
        until(lambda: toy.listener.closing, "it closes")
        with pytest.raises(ConnectionRefusedError):
            toy.connect()
        toy.do(lambda: toy.waiting[0].reply(b"in time"))
        assert call.result() == b"in time"
        closing.result(DEADLINE_S)
    toy.close()


def test_closing_ends_idle_connections_at_once() -> None:
    toy = Toy()
    silent, kept_alive = toy.connect(), toy.connect()
    kept_alive.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert kept_alive.recv(1000).startswith(b"HTTP/1.1 200")
    with toy.channel() as channel:
        unary(channel, "Echo")(b"", timeout=DEADLINE_S)
        until(lambda: toy.listener.connections_count == 3, "three connections")
        started = time.monotonic()
        toy.run(toy.listener.close(grace_s=DEADLINE_S))
        assert time.monotonic() - started < DEADLINE_S / 2
    assert (read_all(silent), read_all(kept_alive)) == (b"", b"")
    toy.close()


def test_closing_answers_the_http_request_under_way_first() -> None:
    toy = Toy()
    connection = toy.connect()
    connection.sendall(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n")
    until(lambda: len(toy.held) == 1, "the request arrives")
    closing = asyncio.run_coroutine_threadsafe(toy.listener.close(grace_s=DEADLINE_S), toy.loop)
    until(lambda: toy.listener.closing, "it closes")
    toy.loop.call_soon_threadsafe(toy.held[0][1], HttpResponse(200, b"in time"))
    answer = read_all(connection)
    assert b"in time" in answer
    assert b"Connection: close" in answer
    closing.result(DEADLINE_S)
    toy.close()


def test_what_does_not_end_in_time_is_dropped_and_told() -> None:
    toy = Toy()
    with toy.channel() as channel:
        call = unary(channel, "Wait").future(b"", timeout=DEADLINE_S)
        until(lambda: len(toy.waiting) == 1, "the call arrives")
        toy.run(toy.listener.close(grace_s=0.05))
        until(lambda: toy.closed == ["/t.Toy/Wait"], "the handler is told")
        assert call.exception().code() == grpc.StatusCode.UNAVAILABLE
    toy.close()
