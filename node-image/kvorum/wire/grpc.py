"""gRPC on top of HTTP/2 (grpc's PROTOCOL-HTTP2.md), the server's side: what a request asks for, messages in and out of
their 5-byte frames, statuses into trailers.

Knows no service, no socket and no stream state. Texts and codes are grpc-go's, because clients of etcd compare them.
"""

import re
import zlib
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from kvorum.wire import hpack, http2
from kvorum.wire.hpack import Header

MESSAGE_HEAD_BYTES: Final = 5  # compressed flag, length


class Code(IntEnum):
    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Status(NamedTuple):
    """How a call ends. http: the response's own status, other than 200 only for what was not gRPC at all."""

    code: int
    message: str
    http: int = 200


class Request:
    """What one block of headers asks for.

    refusal: what to answer if this cannot be a call. gzip: messages may be compressed so.
    """

    __slots__ = ("gzip", "headers", "path", "refusal", "timeout_s")

    def __init__(
        self,
        headers: list[Header],
        path: str,
        timeout_s: float | None = None,
        refusal: Status | None = None,
        *,
        gzip: bool = False,
    ) -> None:
        self.headers = headers
        self.path = path
        self.timeout_s = timeout_s
        self.refusal = refusal
        self.gzip = gzip


def read_request(headers: list[Header]) -> Request:
    """Raises http2.MalformedRequest where the headers are not even a request of HTTP/2."""
    fields = http2.check_request(headers)
    path = fields[b":path"].decode("utf-8", "replace")
    content_type = fields.get(b"content-type", b"")
    if not is_grpc(content_type):
        text = f"invalid gRPC request content-type {_quoted(content_type)}"
        return Request(headers, path, None, Status(Code.INVALID_ARGUMENT, text, http=415))
    method = fields[b":method"]
    if method != b"POST":
        text = f"Received a HEADERS frame with :method {_quoted(method)} which should be POST"
        return Request(headers, path, None, Status(Code.INTERNAL, text, http=405))
    timeout = fields.get(b"grpc-timeout")
    timeout_s = None
    if timeout is not None:
        try:
            timeout_s = read_timeout(timeout)
        except ValueError as error:
            return Request(headers, path, None, Status(Code.INTERNAL, f"malformed grpc-timeout: {error}", http=400))
        if not timeout_s:
            return Request(headers, path, timeout_s, Status(Code.DEADLINE_EXCEEDED, "context deadline exceeded"))
    encoding = fields.get(b"grpc-encoding", b"")
    if encoding in (b"", b"identity"):
        return Request(headers, path, timeout_s)
    if encoding == b"gzip":  # as etcd takes it; answers are never compressed, which every client must take
        return Request(headers, path, timeout_s, gzip=True)
    text = f"grpc: Decompressor is not installed for grpc-encoding {_quoted(encoding)}"
    return Request(headers, path, timeout_s, Status(Code.UNIMPLEMENTED, text))


def is_grpc(content_type: bytes) -> bool:
    """Whether a request with this content type is a call."""
    return content_type[:16] == b"application/grpc" and content_type[16:17] in (b"", b"+", b";")


_UNIT_S: Final = {72: 3600.0, 77: 60.0, 83: 1.0, 109: 1e-3, 117: 1e-6, 110: 1e-9}  # H M S m u n


def read_timeout(value: bytes) -> float:
    """grpc-timeout in seconds. Raises ValueError with grpc-go's text."""
    if not 2 <= len(value) <= 9:
        raise ValueError(f"transport: timeout string is too {'short' if len(value) < 2 else 'long'}: {_quoted(value)}")
    unit_s = _UNIT_S.get(value[-1])
    if unit_s is None:
        raise ValueError(f"transport: timeout unit is not recognized: {_quoted(value)}")
    digits = value[:-1]
    if not digits.isdigit():
        raise ValueError(f"strconv.ParseUint: parsing {_quoted(digits)}: invalid syntax")
    return int(digits) * unit_s


def _quoted(value: bytes) -> str:
    return f'"{value.decode("utf-8", "replace")}"'


# Messages


def too_large(size: int, size_max: int) -> Status:
    return Status(Code.RESOURCE_EXHAUSTED, f"grpc: received message larger than max ({size} vs. {size_max})")


def _compressed(flag: int) -> Status:
    if flag == 1:
        return Status(Code.INTERNAL, "grpc: compressed flag set with identity or empty encoding")
    return Status(Code.INTERNAL, f"grpc: received unexpected payload format {flag}")


NO_MESSAGE: Final = Status(Code.UNKNOWN, "EOF")
CUT_SHORT: Final = Status(Code.UNKNOWN, "unexpected EOF")
STREAM_CUT_SHORT: Final = Status(Code.INTERNAL, "unexpected EOF")
_MESSAGE_HEAD: Final = Struct(">BI")


class BadMessage(Exception):
    """A message that cannot be taken; the call ends with status."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status


class MessageReader:
    """Messages out of a call's DATA, however it is cut. Holds no more than one message and what came with its end."""

    __slots__ = ("_bytes_max", "_gzip", "_needed", "_partial")

    def __init__(self, bytes_max: int, *, gzip: bool = False) -> None:
        self._bytes_max = bytes_max
        self._gzip = gzip
        self._partial = bytearray()
        self._needed = MESSAGE_HEAD_BYTES  # bytes of _partial with which there is something new to do

    @property
    def held_bytes(self) -> int:
        """Of an incomplete message."""
        return len(self._partial)

    def feed(self, data: bytes, at: int, stop: int) -> list[bytes]:
        """The messages that data[at:stop] completes. Raises BadMessage as soon as a head tells of one."""
        partial = self._partial
        partial += memoryview(data)[at:stop]
        messages: list[bytes] = []
        start, end = 0, len(partial)
        while end - start >= self._needed:
            flag, length = _MESSAGE_HEAD.unpack_from(partial, start)
            if length > self._bytes_max:
                raise BadMessage(too_large(length, self._bytes_max))
            if flag and not (flag == 1 and self._gzip):
                raise BadMessage(_compressed(flag))
            self._needed = MESSAGE_HEAD_BYTES + length
            if end - start < self._needed:
                break
            with memoryview(partial) as view:
                message = bytes(view[start + MESSAGE_HEAD_BYTES : start + self._needed])
            messages.append(_decompress(message, self._bytes_max) if flag else message)
            start += self._needed
            self._needed = MESSAGE_HEAD_BYTES
        del partial[:start]
        return messages


def _decompress(message: bytes, bytes_max: int) -> bytes:
    """Raises BadMessage. Never makes more than bytes_max, whatever a small message claims to become."""
    decompressor = zlib.decompressobj(wbits=31)  # gzip's format
    try:
        plain = decompressor.decompress(message, bytes_max + 1)
    except zlib.error as error:
        text = f"grpc: failed to decompress the received message: {error}"
        raise BadMessage(Status(Code.INTERNAL, text)) from None
    if len(plain) > bytes_max:
        text = f"grpc: received message after decompression larger than max {bytes_max}"
        raise BadMessage(Status(Code.RESOURCE_EXHAUSTED, text))
    if not decompressor.eof:
        text = "grpc: failed to decompress the received message: unexpected EOF"
        raise BadMessage(Status(Code.INTERNAL, text))
    return plain


def message_head(size: int) -> bytes:
    """The 5 bytes before a message that is not compressed."""
    return _MESSAGE_HEAD.pack(0, size)


# Responses

HEADERS: Final = hpack.encode([(b":status", b"200"), (b"content-type", b"application/grpc")])
TRAILERS_OK: Final = hpack.encode([(b"grpc-status", b"0")])

_REPLY_HEAD: Final = Struct(f">IBI{len(HEADERS)}sIBIBI")
_REPLY_END: Final = Struct(f">IBI{len(TRAILERS_OK)}s")
_REPLY_HEADERS_HEAD: Final = len(HEADERS) << 8 | http2.HEADERS
_REPLY_TRAILERS_HEAD: Final = len(TRAILERS_OK) << 8 | http2.HEADERS


def reply(stream_id: int, body: bytes) -> bytes:
    """All frames of a unary call that succeeds: headers, the message in one DATA frame, trailers."""
    size = len(body)
    return (
        _REPLY_HEAD.pack(
            _REPLY_HEADERS_HEAD, http2.END_HEADERS, stream_id, HEADERS,
            size + MESSAGE_HEAD_BYTES << 8, 0, stream_id,  # DATA is type 0
            0, size,
        )
        + body
        + _REPLY_END.pack(_REPLY_TRAILERS_HEAD, http2.END_HEADERS | http2.END_STREAM, stream_id, TRAILERS_OK)
    )  # fmt: skip


def trailers(code: int, message: str) -> bytes:
    """The block that ends a call whose headers were sent."""
    return hpack.encode([(b"grpc-status", b"%d" % code), (b"grpc-message", percent_encode(message))])


def trailers_only(status: Status) -> bytes:
    """The block that is the whole response of a call without an answer."""
    return hpack.encode(
        [
            (b":status", b"%d" % status.http),
            (b"content-type", b"application/grpc"),
            (b"grpc-status", b"%d" % status.code),
            (b"grpc-message", percent_encode(status.message)),
        ]
    )


_NOT_PLAIN: Final = re.compile(rb"[^ -$&-~]")


def percent_encode(message: str) -> bytes:
    """grpc-message: UTF-8, with all but printable ASCII, and the percent sign itself, as %XX."""
    return _NOT_PLAIN.sub(lambda match: b"%%%02X" % match[0][0], message.encode("utf-8", "replace"))
