"""HTTP/1.1 messages: however the bytes are cut, whoever wrote them, and what no server or client may take."""

import http.client
import io
import socket
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kvorum.wire import http1
from kvorum.wire.http1 import END, BadMessage, Refusal, Request, RequestReader, Response, ResponseReader, WholeRequests

PIPELINED = (
    b"GET /health HTTP/1.1\r\nHost: kv-0:2379\r\n\r\n"
    b"POST /v3/kv/put?pretty=1 HTTP/1.1\r\nHost: kv-0\r\nContent-Length: 11\r\nX-A: 1\r\nx-a: 2\r\n\r\nhello\r\n\r\nGE"
    b"POST /raft HTTP/1.1\r\nhost: kv-0\r\nTransfer-Encoding: CHUNKED\r\n\r\n"
    b'5;name="a b"\r\nab\r\nc\r\n0A \r\n0123456789\r\n00\r\nTrailer: x\r\n\r\n'
    b"\r\nGET http://kv-0:2379/a%2Fb%20%C3%A4?x=%20 HTTP/1.1\r\nHost: kv-0\r\nConnection: Keep-Alive , Close\r\n\r\n"
)


def cut(data: bytes, at: Sequence[int]) -> Iterator[bytes]:
    edges = [0, *sorted(position % (len(data) + 1) for position in at), len(data)]
    return (data[start:end] for start, end in pairwise(edges))


def read_requests(pieces: Iterator[bytes], body_bytes_max: int = 1000) -> list[Request | Refusal]:
    reader = WholeRequests(body_bytes_max=body_bytes_max)
    return [request for piece in pieces for request in reader.feed(piece)]


def one_by_one(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


# Requests


def test_pipelined_requests_come_in_order_with_their_bodies() -> None:
    health, put, raft, last = read_requests(iter([PIPELINED]))
    assert isinstance(health, Request)
    assert (health.method, health.path, health.query, health.body) == ("GET", "/health", "", b"")
    assert health.headers == {"host": "kv-0:2379"}
    assert health.keep_alive
    assert isinstance(put, Request)
    assert (put.path, put.query, put.target) == ("/v3/kv/put", "pretty=1", "/v3/kv/put?pretty=1")
    assert put.body == b"hello\r\n\r\nGE"
    assert put.headers["x-a"] == "1, 2"
    assert isinstance(raft, Request)
    assert raft.body == b"ab\r\nc0123456789"
    assert isinstance(last, Request)
    assert (last.path, last.query, last.keep_alive) == ("/a/b ä", "x=%20", False)


@given(st.lists(st.integers(0, len(PIPELINED)), max_size=12))
@settings(deadline=None)
def test_requests_are_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    assert read_requests(cut(PIPELINED, cuts)) == read_requests(iter([PIPELINED]))


def test_requests_are_the_same_one_byte_at_a_time() -> None:
    assert read_requests(one_by_one(PIPELINED)) == read_requests(iter([PIPELINED]))


def test_a_request_is_not_given_out_before_its_last_byte() -> None:
    reader = WholeRequests(body_bytes_max=1000)
    data = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    was_idle = [reader.idle]
    assert [request for byte in one_by_one(data[:-1]) for request in reader.feed(byte)] == []
    was_idle.append(reader.idle)
    assert len(reader.feed(data[-1:])) == 1
    was_idle.append(reader.idle)
    assert was_idle == [True, False, True]


def test_a_body_is_handed_on_as_it_arrives() -> None:
    reader = RequestReader(body_bytes_max=1000)
    head = reader.feed(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert [type(event) for event in head] == [Request]
    assert reader.feed(b"8\r\nabc") == [b"abc"]
    assert reader.feed(b"defgh\r\n2\r\nij") == [b"defgh", b"ij"]
    assert reader.feed(b"\r\n0\r\n\r\n") == [END]


def test_nothing_is_read_after_a_request_that_closes() -> None:
    reader = WholeRequests(body_bytes_max=1000)
    assert (
        len(reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"))
        == 1
    )
    assert reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") == []


def test_http_1_0_needs_no_host_and_closes() -> None:
    (request,) = read_requests(iter([b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"]))
    assert isinstance(request, Request)
    assert (request.minor, request.keep_alive, request.expects_continue) == (0, False, False)


def test_a_client_that_waits_is_told_to_go_on_once() -> None:
    reader = WholeRequests(body_bytes_max=1000)
    head = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n"
    assert reader.feed(head) == []
    assert [reader.take_continue(), reader.take_continue()] == [True, False]
    (request,) = reader.feed(b"ab")
    assert isinstance(request, Request)
    assert request.expects_continue
    reader = WholeRequests(body_bytes_max=1000)
    assert len(reader.feed(head + b"ab")) == 1
    assert not reader.take_continue()


HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
        (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
        (b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET a/b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (HEAD + b"A : 1\r\n\r\n", 400),
        (HEAD + b": 1\r\n\r\n", 400),
        (HEAD + b"A\r\n\r\n", 400),
        (HEAD + b"A: 1\r\n 2\r\n\r\n", 400),
        (HEAD + b"A: \x001\r\n\r\n", 400),
        (HEAD + b"A: 1\r2\r\n\r\n", 400),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400),
        (HEAD + b"Content-Length: +1\r\n\r\n", 400),
        (HEAD + b"Content-Length: 1_0\r\n\r\n", 400),
        (HEAD + b"Content-Length: 0x1\r\n\r\n", 400),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
        (HEAD + "Content-Length: ١\r\n\r\n".encode(), 400),
        (HEAD + b"Content-Length: \xb2\r\n\r\n", 400),
        (HEAD + b"Content-Length: 0000000000000000001\r\n\r\na", 400),
        (HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 501),
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Content-Length: 11\r\n\r\n", 413),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n6\r\n012345\r\n5\r\n01234\r\n0\r\n\r\n", 413),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n", 413),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\na\n0\n\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;x\na\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n", 400),
    ],
)
@pytest.mark.parametrize("split", [lambda data: iter([data]), one_by_one], ids=["whole", "bytewise"])
def test_what_is_outside_the_grammar_is_refused_once_and_nothing_after_it_is_read(
    data: bytes, status: int, split: Callable[[bytes], Iterator[bytes]]
) -> None:
    good = b"GET /before HTTP/1.1\r\nHost: a\r\n\r\n"
    requests = read_requests(split(good + data + good), body_bytes_max=10)
    assert isinstance(requests[0], Request)
    assert requests[0].path == "/before"
    assert [request.status for request in requests[1:] if isinstance(request, Refusal)] == [status]
    assert len(requests) == 2


def test_a_refusal_is_an_answer_that_closes() -> None:
    answer = standard_library_reads(Refusal(431, "the head is too long").answer())
    assert (answer.status, answer.read()) == (431, b"431 Request Header Fields Too Large: the head is too long")
    assert answer.getheader("Connection") == "close"


# Limits, each at its bound


def test_a_head_may_be_as_long_as_the_limit_and_no_longer() -> None:
    def read(extra: int, pieces: Callable[[bytes], Iterator[bytes]]) -> list[Request | Refusal]:
        head = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
        reader = WholeRequests(body_bytes_max=0, head_bytes_max=200)
        data = head + b"x" * (200 - len(head) + extra) + b"\r\n\r\n"
        return [request for piece in pieces(data) for request in reader.feed(piece)]

    for pieces in (one_by_one, lambda data: iter([data])):
        assert [type(request) for request in read(0, pieces)] == [Request]
        assert [request.status for request in read(1, pieces) if isinstance(request, Refusal)] == [431]


def test_a_head_without_an_end_is_refused_before_it_is_all_there() -> None:
    reader = WholeRequests(body_bytes_max=0, head_bytes_max=1000)
    fed = 0
    while not (events := reader.feed(b"x" * 100)):
        fed += 100
        assert fed <= 1000 + 3
    assert isinstance(events[0], Refusal)
    assert events[0].status == 431


def test_empty_lines_before_a_request_are_few() -> None:
    reader = WholeRequests(body_bytes_max=0, head_bytes_max=1000)
    (refusal,) = reader.feed(b"\r\n" * 600)
    assert isinstance(refusal, Refusal)


def test_fields_trailers_and_chunk_lines_have_limits() -> None:
    def fields(count: int) -> bytes:
        return b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: 1\r\n" * (count - 1) + b"\r\n"

    def trailers(count: int) -> bytes:
        return HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: 1\r\n" * count + b"\r\n"

    def chunk_line(length: int) -> bytes:
        return HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * (length - 3) + b"\r\na\r\n0\r\n\r\n"

    for make, bound in (
        (fields, http1.FIELDS_COUNT_MAX),
        (trailers, http1.TRAILERS_COUNT_MAX),
        (chunk_line, http1.LINE_BYTES_MAX),
    ):
        for pieces in (iter([make(bound)]), one_by_one(make(bound))):
            assert [type(request) for request in read_requests(pieces)] == [Request]
        for pieces in (iter([make(bound + 1)]), one_by_one(make(bound + 1))):
            assert [type(request) for request in read_requests(pieces)] == [Refusal]


# Responses


class SentBytes:
    """What http.client.HTTPResponse needs of a socket: the bytes that a server sent."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def standard_library_reads(data: bytes, method: str = "GET") -> http.client.HTTPResponse:
    response = http.client.HTTPResponse(cast(socket.socket, SentBytes(data)), method=method)
    response.begin()
    return response


def read_response(pieces: Iterator[bytes], method: str = "GET", *, closes: bool = False) -> Response | None:
    reader = http1.WholeResponse(method, body_bytes_max=1 << 20)
    found: Response | None = None
    for piece in pieces:
        found = reader.feed(piece) or found
    return reader.end_of_input() or found if closes else found


HEADER_VALUE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20)


@given(
    status=st.sampled_from([200, 204, 304, 400, 404, 410, 412, 500, 503]),
    body=st.binary(max_size=3000),
    value=HEADER_VALUE,
    method=st.sampled_from(["GET", "HEAD"]),
    keep_alive=st.booleans(),
    cuts=st.lists(st.integers(0, 4000), max_size=6),
)
@settings(deadline=None)
def test_our_responses_are_read_alike_by_the_standard_library_and_by_us(
    status: int, body: bytes, value: str, method: str, keep_alive: bool, cuts: list[int]
) -> None:
    data = http1.response(status, body, [("X-V", value)], keep_alive=keep_alive, method=method)
    oracle = standard_library_reads(data, method)
    ours = read_response(cut(data, cuts), method)
    assert ours is not None
    assert (ours.status, ours.reason, ours.body) == (oracle.status, oracle.reason, oracle.read())
    assert ours.headers["x-v"] == oracle.getheader("X-V")
    assert ours.keep_alive == keep_alive == (oracle.getheader("Connection") != "close")
    assert ours.body == (b"" if method == "HEAD" or status in (204, 304) else body)


@given(
    pieces=st.lists(st.binary(min_size=1, max_size=300), max_size=8), cuts=st.lists(st.integers(0, 3000), max_size=9)
)
@settings(deadline=None)
def test_chunks_are_read_alike_by_the_standard_library_and_by_us(pieces: list[bytes], cuts: list[int]) -> None:
    head = http1.response_head(200, [("Transfer-Encoding", "chunked")])
    data = head + b"".join(map(http1.chunk, pieces)) + http1.LAST_CHUNK
    oracle = standard_library_reads(data)
    ours = read_response(cut(data, cuts))
    assert ours is not None
    assert ours.body == oracle.read() == b"".join(pieces)


@given(
    method=st.sampled_from(["GET", "POST", "PUT"]),
    target=st.from_regex(r"/[a-z0-9/?=&%.-]{0,40}", fullmatch=True),
    value=HEADER_VALUE,
    body=st.none() | st.binary(max_size=2000),
    keep_alive=st.booleans(),
    cuts=st.lists(st.integers(0, 3000), max_size=6),
)
@settings(deadline=None)
def test_our_requests_come_out_as_they_were_written(
    method: str, target: str, value: str, body: bytes | None, keep_alive: bool, cuts: list[int]
) -> None:
    data = http1.request(method, target, "kv-0:2380", [("X-V", value)], body, keep_alive=keep_alive)
    (read,) = read_requests(cut(data, cuts), body_bytes_max=2000)
    assert isinstance(read, Request)
    assert (read.method, read.target, read.body, read.keep_alive) == (method, target, body or b"", keep_alive)
    assert (read.headers["host"], read.headers["x-v"]) == ("kv-0:2380", value)
    assert ("content-length" in read.headers) == (body is not None)


def test_pieces_of_an_endless_body_come_at_once() -> None:
    reader = ResponseReader()
    (head,) = reader.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert isinstance(head, Response)
    for _ in range(100):
        assert reader.feed(b"4\r\nab") == [b"ab"]
        assert reader.feed(b"cd\r\n1\r\ne\r\n") == [b"cd", b"e"]
    assert not reader.done
    assert reader.feed(b"0\r\n\r\n") == [END]


def test_interim_responses_are_skipped() -> None:
    response = read_response(
        one_by_one(http1.CONTINUE + b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n" + http1.response(200, b"x"))
    )
    assert response is not None
    assert (response.status, response.body) == (200, b"x")


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    data = b"HTTP/1.1 200 OK\r\n\r\nsome"
    assert read_response(iter([data])) is None
    response = read_response(one_by_one(data), closes=True)
    assert response is not None
    assert (response.body, response.keep_alive) == (b"some", False)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n",
    ],
)
def test_a_response_that_is_cut_off_is_none(data: bytes) -> None:
    with pytest.raises(BadMessage):
        read_response(iter([data]), closes=True)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n",
    ],
)
def test_what_is_no_response_raises(data: bytes) -> None:
    with pytest.raises(BadMessage):
        read_response(iter([data]))


def test_bytes_after_the_response_are_surplus() -> None:
    reader = http1.WholeResponse(body_bytes_max=100)
    assert reader.feed(http1.response(200, b"x") + b"HTTP") is not None
    assert reader.surplus == b"HTTP"


def test_a_field_or_target_that_breaks_out_of_its_line_is_not_written() -> None:
    for name, value in (("A", "1\r\nB: 2"), ("A\r\nB", "1"), ("A", "\n"), ("A:", "1"), ("", "1")):
        with pytest.raises(ValueError):
            http1.request("GET", "/", "h", [(name, value)])
        with pytest.raises(ValueError):
            http1.response(200, b"", [(name, value)])
    for target in ("/ HTTP/1.1\r\nA: b", "/a b", ""):
        with pytest.raises(ValueError):
            http1.request("GET", target, "h")
    with pytest.raises(AssertionError):
        http1.chunk(b"")
