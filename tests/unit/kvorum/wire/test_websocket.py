"""WebSocket's frames by the RFC's own examples, cut anywhere, and outside the grammar."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvorum.wire import websocket
from kvorum.wire.websocket import Close, MessageReader, Ping, Violation

from tests.unit.kvorum.wire.websocket_frames import frame

BYTES_MAX = 70_000
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def read(data: bytes) -> list[bytes | Ping | Close]:
    return MessageReader(message_bytes_max=BYTES_MAX).feed(data)


HELLO = bytes.fromhex("818537fa213d7f9f4d5158")  # RFC 6455, 5.7


def test_the_examples_of_the_rfc() -> None:
    assert frame(TEXT, b"Hello") == HELLO
    assert read(HELLO) == [b"Hello"]
    assert read(bytes.fromhex("898537fa213d7f9f4d5158")) == [Ping(b"Hello")]
    assert websocket.pong(b"Hello") == bytes.fromhex("8a0548656c6c6f")
    assert websocket.text(b"Hello") == bytes.fromhex("810548656c6c6f")
    assert websocket.text(bytes(256))[:4] == bytes.fromhex("817e0100")
    assert websocket.text(bytes(65536))[:10] == bytes.fromhex("817f0000000000010000")
    key = {"sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-version": "13"}
    assert websocket.accepted(key) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@given(
    st.lists(st.tuples(st.sampled_from([TEXT, PING, PONG]), st.binary(max_size=120)), max_size=5),
    st.lists(st.integers(0, 400), max_size=6),
)
def test_frames_may_come_in_pieces_of_any_size(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    texts = [(kind, data.hex().encode() if kind == TEXT else data) for kind, data in frames]
    stream = b"".join(frame(kind, data) for kind, data in texts)
    whole = read(stream)
    assert whole == [data if kind == TEXT else Ping(data) for kind, data in texts if kind != PONG]
    reader = MessageReader(message_bytes_max=BYTES_MAX)
    found: list[bytes | Ping | Close] = []
    at = 0
    for cut in [*sorted(cuts), len(stream)]:
        found += reader.feed(stream[at:cut])
        at = max(at, cut)
    assert found == whole


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, BYTES_MAX])
def test_messages_of_all_lengths(size: int) -> None:
    assert read(frame(TEXT, b"x" * size)) == [b"x" * size]
    assert read(frame(BINARY, bytes(size))) == [bytes(size)]


def test_a_message_in_parts_with_a_ping_between() -> None:
    parts = frame(TEXT, "é".encode()[:1], last=False) + frame(PING, b"?") + frame(0, "é".encode()[1:] + b"!")
    assert read(parts) == [Ping(b"?"), "é!".encode()]
    assert read(parts + HELLO) == [Ping(b"?"), "é!".encode(), b"Hello"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x05Hello", 1002),  # not masked
        (frame(TEXT, b"", more=0x40), 1002),
        (frame(3), 1002),
        (frame(11), 1002),
        (frame(0, b"x"), 1002),
        (frame(TEXT, b"x", last=False) + frame(TEXT, b"y"), 1002),
        (frame(PING, b"", last=False), 1002),
        (frame(PING, bytes(126)), 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xc3", last=False) + frame(0, b"("), 1007),
        (frame(TEXT, bytes(BYTES_MAX + 1))[:14], 1009),  # told by its head
        (frame(TEXT, bytes(BYTES_MAX), last=False) + frame(0, b"x")[:2], 1009),
        (b"\x81\xff" + b"\xff" * 8, 1009),
        (frame(CLOSE, b"\x03"), 1002),
        (frame(CLOSE, (1005).to_bytes(2, "big")), 1002),
        (frame(CLOSE, (999).to_bytes(2, "big")), 1002),
        (frame(CLOSE, (5000).to_bytes(2, "big")), 1002),
        (frame(CLOSE, (1000).to_bytes(2, "big") + b"\xff"), 1007),
    ],
)
def test_what_is_outside_the_grammar_has_its_code(data: bytes, code: int) -> None:
    with pytest.raises(Violation) as wrong:
        read(data)
    assert wrong.value.code == code
    assert websocket.close(code, wrong.value.text)[2:4] == code.to_bytes(2, "big")


def test_nothing_follows_a_close() -> None:
    assert read(frame(CLOSE, (1001).to_bytes(2, "big") + b"bye") + HELLO) == [Close(1001)]
    assert read(frame(CLOSE) + b"\x81\x05Hello") == [Close(1000)]
    reader = MessageReader(message_bytes_max=BYTES_MAX)
    reader.feed(frame(CLOSE))
    assert reader.feed(HELLO) == []


def test_a_reason_is_cut_to_what_a_close_may_hold() -> None:
    assert len(websocket.close(1002, "x" * 500)) == 2 + 125


@pytest.mark.parametrize(
    ("headers", "asked"),
    [
        ({"connection": "Upgrade", "upgrade": "websocket"}, True),
        ({"connection": "keep-alive, upgrade", "upgrade": "WebSocket"}, True),
        ({"connection": "keep-alive", "upgrade": "websocket"}, False),
        ({"connection": "upgrade", "upgrade": "h2c"}, False),
        ({}, False),
    ],
)
def test_who_asks_for_it(headers: dict[str, str], asked: bool) -> None:
    assert websocket.is_asked_for(headers) == asked


@pytest.mark.parametrize(
    ("key", "version"),
    [("", "13"), ("dGhlIHNhbXBsZSBub25jZQ==", "8"), ("dGhlIHNhbXBsZQ==", "13"), ("?" * 24, "13"), ("é", "13")],
)
def test_what_is_no_handshake(key: str, version: str) -> None:
    assert websocket.accepted({"sec-websocket-key": key, "sec-websocket-version": version}) is None
