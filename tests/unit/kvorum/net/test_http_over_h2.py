"""Plain HTTP over HTTP/2: the h2 package as a client, and requests that two servers could read differently."""

from collections.abc import Iterator

import h2.config
import h2.connection
import h2.errors
import h2.events
import pytest
from kvorum.net.call import HELD_BYTES_MAX, Opening, Routes
from kvorum.net.exchange import HttpResponse
from kvorum.net.http_over_h2 import H2Exchange, HttpOverH2, open_either, read_request
from kvorum.wire import http1, http2
from kvorum.wire.http2 import MalformedRequest

BODY_BYTES_MAX = 100_000

GET = [(":method", "GET"), (":scheme", "https"), (":path", "/p?q=%20"), (":authority", "h:1")]
POST = [(":method", "POST"), *GET[1:]]


class Talk:
    """A client's connection by the h2 package, and ours, joined by their bytes."""

    def __init__(self) -> None:
        self.requests: list[tuple[http1.Request, H2Exchange]] = []
        self.closed = 0
        routes = Routes(unary={"/t.T/Echo": lambda call: call.reply(call.body)}, streams={}, message_bytes_max=1000)

        def make(
            connection: http2.Connection[Opening | http1.Request], stream_id: int, request: Opening | http1.Request
        ) -> http2.Stream:
            if isinstance(request, http1.Request):
                return HttpOverH2(self._handle, BODY_BYTES_MAX, connection, stream_id, request)
            return routes.call_type(connection, stream_id, request)

        self.ours: http2.Connection[Opening | http1.Request] = http2.Connection(
            lambda headers: open_either(routes, headers), make, lambda: None, http2.Limits(), now=0.0, proven_name="cn"
        )
        config = h2.config.H2Configuration(
            client_side=True, header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.theirs = h2.connection.H2Connection(config)
        self.theirs.initiate_connection()
        self.events: list[h2.events.Event] = []
        self.pump()

    def _handle(self, request: http1.Request, exchange: H2Exchange) -> None:
        self.requests.append((request, exchange))
        exchange.on_close = self._closed

    def _closed(self) -> None:
        self.closed += 1

    def pump(self) -> None:
        while data := self.theirs.data_to_send():
            self.ours.receive(data, 0.0)
        while data := self.ours.take():
            self.events += self.theirs.receive_data(data)

    def ask(self, headers: list[tuple[str, str]], body: bytes | None = None, *, ends: bool = True) -> int:
        stream_id = int(self.theirs.get_next_available_stream_id())
        self.theirs.send_headers(stream_id, headers, end_stream=body is None and ends)
        for at in range(0, len(body or b""), 16_384):
            self.theirs.send_data(stream_id, (body or b"")[at : at + 16_384])
            self.pump()
        if body is not None and ends:
            self.theirs.end_stream(stream_id)
        self.pump()
        return stream_id

    def headers(self, stream_id: int) -> dict[str, str]:
        for event in self.events:
            if isinstance(event, h2.events.ResponseReceived) and event.stream_id == stream_id:
                return dict(event.headers)  # type: ignore[arg-type]  # text, as the configuration says
        return {}

    def body(self, stream_id: int) -> bytes:
        data = [
            event.data
            for event in self.events
            if isinstance(event, h2.events.DataReceived) and event.stream_id == stream_id
        ]
        return b"".join(each for each in data if each is not None)

    def is_over(self, stream_id: int) -> bool:
        return any(isinstance(event, h2.events.StreamEnded) and event.stream_id == stream_id for event in self.events)

    def reset(self, stream_id: int) -> int | None:
        for event in self.events:
            if isinstance(event, h2.events.StreamReset) and event.stream_id == stream_id:
                return int(event.error_code or 0)
        return None


@pytest.fixture
def talk() -> Iterator[Talk]:
    one = Talk()
    yield one
    assert one.ours.fault is None
    assert one.ours.held_bytes == 0


def test_a_request_reads_as_one_of_http_1_1(talk: Talk) -> None:
    headers = [*POST, ("a", "1"), ("a", " 2 "), ("cookie", "x=1"), ("cookie", "y=2"), ("content-length", "3")]
    stream_id = talk.ask(headers, b"abc")
    request, exchange = talk.requests[0]
    assert request == http1.Request(
        method="POST",
        target="/p?q=%20",
        path="/p",
        query="q=%20",
        headers={"a": "1, 2", "cookie": "x=1; y=2", "content-length": "3", "host": "h:1"},
        minor=1,
        keep_alive=True,
        body=b"abc",
    )
    assert (exchange.secure, exchange.common_name) == (True, "cn")
    assert exchange.upgrade((), lambda data: None) is None
    exchange(HttpResponse(201, b"done", (("Content-Type", "text/plain"), ("Connection", "close"))))
    talk.pump()
    assert talk.headers(stream_id) == {":status": "201", "content-type": "text/plain", "content-length": "4"}
    assert talk.body(stream_id) == b"done"
    assert talk.is_over(stream_id)
    assert talk.closed == 0


def test_calls_and_requests_share_a_connection(talk: Talk) -> None:
    grpc = [(":method", "POST"), (":scheme", "https"), (":path", "/t.T/Echo"), ("content-type", "application/grpc")]
    call = talk.ask([*grpc, ("te", "trailers")], ends=False)
    talk.theirs.send_data(call, b"\0\0\0\0\x02hi", end_stream=True)
    talk.pump()
    plain = talk.ask([*POST, ("content-type", "application/json")], b"{}")
    assert talk.body(call) == b"\0\0\0\0\x02hi"
    talk.requests[0][1](HttpResponse(200, b"{}"))
    talk.pump()
    assert talk.body(plain) == b"{}"


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_an_answer_without_a_body_ends_at_once(talk: Talk, method: str) -> None:
    stream_id = talk.ask([(":method", method), *GET[1:]])
    talk.requests[0][1](HttpResponse(200, b"long") if method == "HEAD" else HttpResponse(204))
    talk.pump()
    assert talk.headers(stream_id).get("content-length") == ("4" if method == "HEAD" else None)
    assert talk.body(stream_id) == b""
    assert talk.is_over(stream_id)


def test_an_answer_goes_on_in_pieces_as_fast_as_it_is_read(talk: Talk) -> None:
    stream_id = talk.ask(GET)
    exchange = talk.requests[0][1]
    stream = exchange.open(200, (("Content-Type", "application/json"),))
    for piece in (b"one\n", b"", b"two\n"):
        stream.write(piece)
        talk.pump()
    assert talk.body(stream_id) == b"one\ntwo\n"
    assert not talk.is_over(stream_id)
    writable: list[int] = []
    exchange.on_writable = lambda: writable.append(exchange.buffered_bytes)
    stream.write(bytes(200_000))  # the client's window is 65,535
    talk.pump()
    assert exchange.buffered_bytes == 200_008 - 65_535
    talk.theirs.increment_flow_control_window(300_000)
    talk.theirs.increment_flow_control_window(300_000, stream_id)
    talk.pump()
    assert writable == [0]
    stream.close()
    talk.pump()
    assert talk.is_over(stream_id)
    assert len(talk.body(stream_id)) == 200_008


def test_the_end_of_a_long_answer_follows_what_waits(talk: Talk) -> None:
    stream_id = talk.ask(GET)
    talk.requests[0][1](HttpResponse(200, bytes(200_000)))
    talk.pump()
    assert not talk.is_over(stream_id)
    talk.theirs.increment_flow_control_window(300_000)
    talk.theirs.increment_flow_control_window(300_000, stream_id)
    talk.pump()
    assert talk.is_over(stream_id)
    assert len(talk.body(stream_id)) == 200_000


def test_a_client_that_goes_is_told_once_and_late_answers_are_nothing(talk: Talk) -> None:
    stream_id = talk.ask(GET)
    exchange = talk.requests[0][1]
    stream = exchange.open(200)
    talk.theirs.reset_stream(stream_id)
    talk.pump()
    assert talk.closed == 1
    stream.write(b"late")
    stream.close()
    exchange(HttpResponse(200, b"late"))
    talk.ask(GET)
    talk.ours.lost()
    assert talk.closed == 2


def test_a_client_that_asks_whether_to_go_on_is_told_to(talk: Talk) -> None:
    stream_id = talk.ask([*POST, ("expect", "100-continue")], ends=False)
    assert any(isinstance(event, h2.events.InformationalResponseReceived) for event in talk.events)
    talk.theirs.send_data(stream_id, b"body", end_stream=True)
    talk.pump()
    assert talk.requests[0][0].body == b"body"
    talk.requests[0][1](HttpResponse(200))


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_long_is_refused_and_not_kept(talk: Talk, declared: bool) -> None:
    length = [("content-length", str(BODY_BYTES_MAX + 1))] if declared else []
    stream_id = talk.ask([*POST, *length], None if declared else bytes(BODY_BYTES_MAX + 1), ends=False)
    assert talk.headers(stream_id)[":status"] == "413"
    assert talk.is_over(stream_id)
    assert talk.requests == []


def test_unfinished_requests_together_are_bounded(talk: Talk) -> None:
    talk.ours.held_bytes = HELD_BYTES_MAX - 10
    stream_id = talk.ask(POST, bytes(11), ends=False)
    assert talk.headers(stream_id)[":status"] == "503"
    talk.ours.held_bytes -= HELD_BYTES_MAX - 10


@pytest.mark.parametrize(("length", "body"), [("2", b"abc"), ("4", b"abc"), ("3", b"")])
def test_a_length_that_the_body_does_not_keep_resets_the_stream(talk: Talk, length: str, body: bytes) -> None:
    """h2 would not send these: what is behind the length could be taken for another request by who passes it on."""
    stream_id = talk.ask([*POST, ("content-length", length)], ends=False)
    frame = len(body).to_bytes(3, "big") + b"\0\x01" + stream_id.to_bytes(4, "big") + body
    talk.ours.receive(frame, 0.0)
    talk.pump()
    assert talk.reset(stream_id) == h2.errors.ErrorCodes.PROTOCOL_ERROR
    assert talk.requests == []


@pytest.mark.parametrize(
    "headers",
    [
        [*GET, (b"transfer-encoding", b"chunked")],
        [*GET, (b"connection", b"close")],
        [*GET, (b"upgrade", b"websocket")],
        [*GET, (b"host", b"another")],
        [*GET, (b"Host", b"h:1")],
        [*GET, (b"content-length", b"-1")],
        [*GET, (b"content-length", b"1"), (b"content-length", b"2")],
        [*GET, (b"a", b"b\r\nc: d")],
        [*GET, (b"a: b\r\nc", b"d")],
        [*GET, (b":path", b"/other")],
        [(b":method", b"GET /a HTTP/1.1"), *GET[1:]],
        [*GET[:2], (b":path", b"http://h/p"), GET[3]],
        [*GET[:2], (b":path", b"/a b"), GET[3]],
        [*GET[:2], (b":path", b""), GET[3]],
        [*GET[:2], (b":path", b"p"), GET[3]],
    ],
)
def test_what_could_be_read_as_another_request_is_none(headers: list[tuple[str | bytes, str | bytes]]) -> None:
    raw = [tuple(part.encode() if isinstance(part, str) else part for part in header) for header in headers]
    with pytest.raises(MalformedRequest):
        read_request(raw)  # type: ignore[arg-type]  # pairs all


def test_the_same_host_twice_is_no_contradiction() -> None:
    raw = [(name.encode(), value.encode()) for name, value in [*GET, ("host", "h:1")]]
    assert read_request(raw).headers["host"] == "h:1"
