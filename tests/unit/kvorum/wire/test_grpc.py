"""gRPC's framing, statuses and headers. The texts were taken from a running etcd 3.5.30."""

import gzip
from urllib.parse import unquote_to_bytes

import hpack as oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvorum.wire import grpc, http2
from kvorum.wire.grpc import BadMessage, Code, MessageReader, Status, read_request, read_timeout
from kvorum.wire.hpack import Header

REQUEST: list[Header] = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/etcdserverpb.KV/Range"),
    (b":authority", b"127.0.0.1:2379"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
]


def with_header(name: bytes, value: bytes | None) -> list[Header]:
    headers = [header for header in REQUEST if header[0] != name]
    at = 3 if name.startswith(b":") else len(headers)
    return headers if value is None else [*headers[:at], (name, value), *headers[at:]]


@given(st.lists(st.binary(max_size=200), max_size=10), st.lists(st.integers(0, 300), max_size=30))
def test_messages_come_out_whole_however_the_bytes_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(grpc.message_head(len(message)) + message for message in messages)
    reader = MessageReader(200)
    found: list[bytes] = []
    at = 0
    for cut in [*cuts, len(stream)]:
        stop = min(len(stream), at + cut)
        found += reader.feed(b"before" + stream + b"after", 6 + at, 6 + stop)
        at = stop
    assert found == messages
    assert reader.held_bytes == 0


def test_one_byte_at_a_time_is_enough_and_what_is_held_is_told() -> None:
    reader = MessageReader(10)
    stream = grpc.message_head(3) + b"abc"
    for at in range(7):
        assert reader.feed(stream, at, at + 1) == []
        assert reader.held_bytes == at + 1
    assert reader.feed(stream, 7, 8) == [b"abc"]
    assert reader.held_bytes == 0


def test_a_message_of_exactly_the_limit_is_taken_and_one_byte_more_refused_at_its_head() -> None:
    assert MessageReader(4).feed(grpc.message_head(4) + b"abcd", 0, 9) == [b"abcd"]
    with pytest.raises(BadMessage) as bad:
        MessageReader(4).feed(grpc.message_head(5), 0, 5)
    assert bad.value.status == Status(Code.RESOURCE_EXHAUSTED, "grpc: received message larger than max (5 vs. 4)")


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        (1, "grpc: compressed flag set with identity or empty encoding"),
        (2, "grpc: received unexpected payload format 2"),
        (255, "grpc: received unexpected payload format 255"),
    ],
)
def test_a_flag_without_a_meaning_ends_the_call(flag: int, text: str) -> None:
    with pytest.raises(BadMessage) as bad:
        MessageReader(4).feed(bytes([flag, 0, 0, 0, 1]), 0, 5)
    assert bad.value.status == Status(Code.INTERNAL, text)


def test_compressed_messages_are_taken_where_the_headers_announce_them() -> None:
    packed = gzip.compress(b"a" * 1000)
    stream = b"\x01" + len(packed).to_bytes(4, "big") + packed + grpc.message_head(1) + b"b"
    assert MessageReader(1000, gzip=True).feed(stream, 0, len(stream)) == [b"a" * 1000, b"b"]


@pytest.mark.parametrize(
    ("packed", "code"),
    [
        (gzip.compress(b"a" * 1001, mtime=0), Code.RESOURCE_EXHAUSTED),
        (gzip.compress(b"a" * 1000, mtime=0)[:-1], Code.INTERNAL),
        (b"no gzip", Code.INTERNAL),
        (b"", Code.INTERNAL),
    ],
)
def test_compressed_messages_that_are_too_large_or_broken_end_the_call(packed: bytes, code: Code) -> None:
    stream = b"\x01" + len(packed).to_bytes(4, "big") + packed
    with pytest.raises(BadMessage) as bad:
        MessageReader(1000, gzip=True).feed(stream, 0, len(stream))
    assert bad.value.status.code == code


@given(st.text(max_size=50))
def test_a_status_message_is_printable_ascii_and_says_what_it_said(message: str) -> None:
    encoded = grpc.percent_encode(message)
    assert all(0x20 <= byte <= 0x7E for byte in encoded)
    assert unquote_to_bytes(encoded) == message.encode()


def test_the_percent_sign_is_encoded_and_half_a_surrogate_does_no_harm() -> None:
    assert grpc.percent_encode("100 % ~ü\n") == b"100 %25 ~%C3%BC%0A"
    assert grpc.percent_encode("a\ud800b") == b"a?b"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"1H", 3600.0), (b"2M", 120.0), (b"3S", 3.0), (b"4999m", 4.999), (b"5u", 5e-6), (b"99999999n", 0.099999999)],
)
def test_timeouts(value: bytes, seconds: float) -> None:
    assert read_timeout(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"", 'transport: timeout string is too short: ""'),
        (b"1", 'transport: timeout string is too short: "1"'),
        (b"123456789S", 'transport: timeout string is too long: "123456789S"'),
        (b"abc", 'transport: timeout unit is not recognized: "abc"'),
        (b"-1S", 'strconv.ParseUint: parsing "-1": invalid syntax'),
        (b"1.5S", 'strconv.ParseUint: parsing "1.5": invalid syntax'),
        (b"\xb21S", 'strconv.ParseUint: parsing "�1": invalid syntax'),
    ],
)
def test_malformed_timeouts_are_refused(value: bytes, text: str) -> None:
    request = read_request(with_header(b"grpc-timeout", value))
    assert request.refusal == Status(Code.INTERNAL, f"malformed grpc-timeout: {text}", http=400)


def test_a_request_tells_its_path_and_timeout() -> None:
    request = read_request(with_header(b"grpc-timeout", b"250m"))
    assert (request.path, request.timeout_s, request.refusal) == ("/etcdserverpb.KV/Range", 0.25, None)
    assert read_request(REQUEST).timeout_s is None


@pytest.mark.parametrize("content_type", [b"application/grpc", b"application/grpc+proto", b"application/grpc;x"])
def test_content_types_of_grpc_are_taken(content_type: bytes) -> None:
    assert read_request(with_header(b"content-type", content_type)).refusal is None


@pytest.mark.parametrize(
    ("name", "value", "refusal"),
    [
        (b"content-type", None, Status(3, 'invalid gRPC request content-type ""', 415)),
        (b"content-type", b"text/html", Status(3, 'invalid gRPC request content-type "text/html"', 415)),
        (
            b"content-type",
            b"application/grpc-web",
            Status(3, 'invalid gRPC request content-type "application/grpc-web"', 415),
        ),
        (b":method", b"GET", Status(13, 'Received a HEADERS frame with :method "GET" which should be POST', 405)),
        (b"grpc-encoding", b"zz", Status(12, 'grpc: Decompressor is not installed for grpc-encoding "zz"')),
        (b"grpc-timeout", b"0S", Status(4, "context deadline exceeded")),
    ],
)
def test_what_is_no_call_is_refused(name: bytes, value: bytes | None, refusal: Status) -> None:
    assert read_request(with_header(name, value)).refusal == refusal


@pytest.mark.parametrize("encoding", [b"identity", b"", b"gzip"])
def test_encodings_that_are_taken(encoding: bytes) -> None:
    request = read_request(with_header(b"grpc-encoding", encoding))
    assert (request.refusal, request.gzip) == (None, encoding == b"gzip")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        with_header(b":path", None),
        with_header(b":path", b""),
        with_header(b":method", None),
        with_header(b":scheme", None),
        [*REQUEST, (b":authority", b"twice")],
        [*with_header(b":authority", None), (b":authority", b"behind other headers")],
        [REQUEST[0], *REQUEST],
        [(b":status", b"200"), *REQUEST],
        [*REQUEST, (b"Upper", b"x")],
        [*REQUEST, (b"", b"x")],
        [*REQUEST, (b"a b", b"x")],
        [*REQUEST, (b"connection", b"close")],
        [*REQUEST, (b"transfer-encoding", b"chunked")],
        [*REQUEST, (b"x", b"a\nb")],
        [*REQUEST, (b"x", b"a\0b")],
        [*REQUEST, (b"x", b"a\x7fb")],
        with_header(b"te", b"gzip"),
    ],
)
def test_what_is_no_request_of_http2_is_malformed(headers: list[Header]) -> None:
    with pytest.raises(http2.MalformedRequest):
        read_request(headers)


def test_a_tab_in_a_value_and_unusual_names_are_no_harm() -> None:
    assert read_request([*REQUEST, (b"x-1_2.3", b"a\tb\xff")]).refusal is None


@given(st.binary(max_size=300), st.integers(1, (1 << 31) - 1))
def test_a_reply_is_headers_one_message_and_trailers(body: bytes, stream_id: int) -> None:
    frames = grpc.reply(stream_id, body)
    found = []
    while frames:
        size = int.from_bytes(frames[:3], "big")
        found.append((frames[3], frames[4], int.from_bytes(frames[5:9], "big"), frames[9 : 9 + size]))
        frames = frames[9 + size :]
    decoder = oracle.Decoder()

    def decoded(block: bytes) -> str:
        return " ".join(f"{name!s}={value!s}" for name, value in decoder.decode(block))

    (headers, data, trailers) = found
    assert headers[:3] == (http2.HEADERS, http2.END_HEADERS, stream_id)
    assert decoded(headers[3]) == ":status=200 content-type=application/grpc"
    assert data == (http2.DATA, 0, stream_id, b"\0" + len(body).to_bytes(4, "big") + body)
    assert trailers[:3] == (http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, stream_id)
    assert decoded(trailers[3]) == "grpc-status=0"
