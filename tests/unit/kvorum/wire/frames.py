"""Frames of HTTP/2 made and read by hand, for what the `h2` package would never send."""

from typing import NamedTuple

from kvorum.wire import http2
from kvorum.wire.hpack import Header, encode

REQUEST: list[Header] = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/t.Toy/Echo"),
    (b":authority", b"x"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
]


class Frame(NamedTuple):
    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def number(self) -> int:
        """The payload of RST_STREAM and WINDOW_UPDATE, the last stream of a GOAWAY."""
        return int.from_bytes(self.payload[:4], "big")

    @property
    def code(self) -> int:
        """Of GOAWAY."""
        return int.from_bytes(self.payload[4:8], "big")


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big") + payload


def headers(
    stream_id: int, fields: list[Header] = REQUEST, *, end: bool = False, flags: int = http2.END_HEADERS
) -> bytes:
    return frame(http2.HEADERS, flags | (http2.END_STREAM if end else 0), stream_id, encode(fields))


def data(stream_id: int, payload: bytes = b"", *, end: bool = False) -> bytes:
    """DATA, in as many frames as the limit asks for."""
    most = http2.FRAME_BYTES_MAX
    pieces = [payload[at : at + most] for at in range(0, len(payload), most)] or [b""]
    last = len(pieces) - 1
    return b"".join(frame(http2.DATA, int(end and at == last), stream_id, piece) for at, piece in enumerate(pieces))


def settings(*pairs: tuple[int, int]) -> bytes:
    payload = b"".join(name.to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in pairs)
    return frame(http2.SETTINGS, 0, 0, payload)


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(http2.WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4, "big"))


def reset(stream_id: int, code: int = http2.CANCEL) -> bytes:
    return frame(http2.RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def ping(payload: bytes = b"12345678", *, ack: bool = False) -> bytes:
    return frame(http2.PING, http2.ACK if ack else 0, 0, payload)


def read(stream: bytes) -> list[Frame]:
    """All frames of stream, which must end with one."""
    found: list[Frame] = []
    at = 0
    while at < len(stream):
        head = stream[at : at + 9]
        end = at + 9 + int.from_bytes(head[:3], "big")
        assert end <= len(stream), "half a frame was written"
        found.append(Frame(head[3], head[4], int.from_bytes(head[5:9], "big"), stream[at + 9 : end]))
        at = end
    return found
