"""WebSocket, the server's side (RFC 6455): a client's bytes into messages, ours into frames.

Sans-IO: knows no socket, no path and no JSON; the request that asks for it is HTTP's. No extension is spoken. What is
outside the grammar ends the connection, with the code of the RFC; what a client can make us keep has a bound.
"""

import hashlib
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

VERSION: Final = "13"
_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTROL_BYTES_MAX: Final = 125

# Opcodes
_CONTINUATION: Final = 0
_TEXT: Final = 1
_BINARY: Final = 2
_CLOSE: Final = 8
_PING: Final = 9
_PONG: Final = 10
_END: Final = 0x80  # the last frame of a message
_RESERVED: Final = 0x70
_MASKED: Final = 0x80

# Codes of a close
NORMAL: Final = 1000
PROTOCOL_ERROR: Final = 1002
NOT_UTF_8: Final = 1007
TOO_LARGE: Final = 1009
_NO_CODE: Final = frozenset((1004, 1005, 1006, 1015))  # never sent by anybody


class Violation(Exception):
    """The client broke the protocol: answer with close(code, text), then close the connection."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@dataclass(frozen=True, slots=True)
class Ping:
    """To be answered by pong(payload)."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """The client says goodbye: answer with close(code), then close the connection."""

    code: int


def is_asked_for(headers: Mapping[str, str]) -> bool:
    """Of a request of HTTP/1.1: whether it wants to go on as WebSocket. Names in lower case."""
    return "upgrade" in _words(headers, "connection") and "websocket" in _words(headers, "upgrade")


def _words(headers: Mapping[str, str], name: str) -> list[str]:
    return [word.strip().lower() for word in headers.get(name, "").split(",")]


def accepted(headers: Mapping[str, str]) -> str | None:
    """What Sec-WebSocket-Accept must say; None where the request is none that can be accepted."""
    key = headers.get("sec-websocket-key", "")
    try:
        nonce = b64decode(key, validate=True)
    except (NotBase64, ValueError):
        return None
    if len(nonce) != 16 or headers.get("sec-websocket-version") != VERSION:
        return None
    return b64encode(hashlib.sha1(key.encode("ascii") + _MAGIC, usedforsecurity=False).digest()).decode("ascii")


class MessageReader:
    """Messages, pings and the close out of a client's bytes, however they are cut."""

    def __init__(self, *, message_bytes_max: int) -> None:
        self._bytes_max = message_bytes_max
        self._pending = bytearray()
        self._needed = 2  # bytes of _pending with which there is something new to do
        self._parts: list[bytes] = []  # of a message, until its last frame is here
        self._parts_bytes = 0
        self._opcode = _CONTINUATION  # of that message; _CONTINUATION: there is none
        self._closed = False

    def feed(self, data: bytes) -> list[bytes | Ping | Close]:
        """What data completes: whole messages, text (checked) or binary alike. Nothing follows Close.

        Raises Violation.
        """
        self._pending += data
        events: list[bytes | Ping | Close] = []
        start = 0
        while not self._closed and len(self._pending) - start >= self._needed:
            end = self._frame_end(start)
            if end is None:
                continue  # more is needed than was thought
            self._take(start, end, events)
            start, self._needed = end, 2
        del self._pending[:start]
        return events

    def _frame_end(self, start: int) -> int | None:
        """Where the frame ends, once all of it is here; else sets _needed. Raises Violation as early as can be told."""
        first, second = self._pending[start], self._pending[start + 1]
        head, size = 2, second & 0x7F
        if first & _RESERVED:
            raise Violation(PROTOCOL_ERROR, "reserved bits are set")
        if not second & _MASKED:
            raise Violation(PROTOCOL_ERROR, "a client's frame is not masked")
        if size > CONTROL_BYTES_MAX:
            head += 2 if size == 126 else 8
            if len(self._pending) - start < head:
                self._needed = head
                return None
            size = int.from_bytes(self._pending[start + 2 : start + head], "big")
        opcode = first & 0x0F
        if opcode >= _CLOSE:
            if not first & _END or size > CONTROL_BYTES_MAX:
                raise Violation(PROTOCOL_ERROR, "a control frame is cut or too long")
        elif self._parts_bytes + size > self._bytes_max:
            raise Violation(TOO_LARGE, f"a message of more than {self._bytes_max} bytes")
        self._needed = head + 4 + size
        return start + self._needed if len(self._pending) - start >= self._needed else None

    def _take(self, start: int, end: int, events: list[bytes | Ping | Close]) -> None:
        """A whole frame. Raises Violation."""
        first, size = self._pending[start], self._pending[start + 1] & 0x7F
        at = start + (2 if size < 126 else 4 if size == 126 else 10)
        payload = _unmasked(bytes(self._pending[at : at + 4]), bytes(self._pending[at + 4 : end]))
        opcode = first & 0x0F
        if opcode == _PING:
            events.append(Ping(payload))
        elif opcode == _CLOSE:
            self._closed = True
            events.append(Close(_code_of(payload)))
        elif opcode in (_TEXT, _BINARY, _CONTINUATION):
            self._piece(opcode, payload, last=bool(first & _END), events=events)
        elif opcode != _PONG:
            raise Violation(PROTOCOL_ERROR, f"an unknown opcode: {opcode}")

    def _piece(self, opcode: int, payload: bytes, *, last: bool, events: list[bytes | Ping | Close]) -> None:
        if (opcode == _CONTINUATION) != (self._opcode != _CONTINUATION):
            raise Violation(PROTOCOL_ERROR, "a message is interrupted, or goes on that did not begin")
        self._opcode = opcode or self._opcode
        self._parts.append(payload)
        self._parts_bytes += len(payload)
        if not last:
            return
        message = b"".join(self._parts)
        if self._opcode == _TEXT:
            _require_text(message)
        self._parts.clear()
        self._parts_bytes = 0
        self._opcode = _CONTINUATION
        events.append(message)


def _unmasked(mask: bytes, payload: bytes) -> bytes:
    """As integers: a loop over bytes would take a tenth of a second for a mebibyte."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def _require_text(message: bytes) -> None:
    try:
        message.decode()
    except UnicodeDecodeError:
        raise Violation(NOT_UTF_8, "a text is not UTF-8") from None


def _code_of(payload: bytes) -> int:
    """Raises Violation."""
    if not payload:
        return NORMAL
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or not 1000 <= code < 5000 or code in _NO_CODE:
        raise Violation(PROTOCOL_ERROR, "a close without a code that may be sent")
    _require_text(payload[2:])
    return code


# Writing: a server's frames are not masked


def text(message: bytes) -> bytes:
    """A message in one frame."""
    return _frame(_TEXT, message)


def pong(payload: bytes) -> bytes:
    return _frame(_PONG, payload)


def close(code: int, reason: str = "") -> bytes:
    return _frame(_CLOSE, code.to_bytes(2, "big") + reason.encode()[: CONTROL_BYTES_MAX - 2])


def _frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        head = bytes((_END | opcode, size))
    elif size < 1 << 16:
        head = bytes((_END | opcode, 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((_END | opcode, 127)) + size.to_bytes(8, "big")
    return head + payload
