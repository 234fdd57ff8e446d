"""Plain HTTP over HTTP/2, as curl and browsers speak it where there is TLS: a request that is no call goes to the same
handler as those of HTTP/1.1, and is answered by it whole or in pieces.

A request is refused where the two versions could be read differently (RFC 9113, 8.1 and 10.3): a target that is no
path, a Host beside another :authority, a Content-Length that the DATA does not keep. What HTTP/2 itself forbids was
refused before, in wire/http2.py.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from kvorum.net.call import HELD_BYTES_MAX, Opening, Routes
from kvorum.net.exchange import HttpResponse
from kvorum.wire import grpc, hpack, http1, http2
from kvorum.wire.hpack import Header
from kvorum.wire.http2 import MalformedRequest

_METHOD: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET: Final = re.compile(r"(?:/[\x21-\x7e\x80-\xff]*|\*)")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_NOT_OF_HTTP2: Final = frozenset(("connection", "keep-alive", "transfer-encoding", "upgrade", "content-length"))
_CONTINUE: Final = hpack.encode([(b":status", b"100")])


def open_either(routes: Routes, headers: list[Header]) -> Opening | http1.Request:
    """A call, or a request of plain HTTP without its body. Raises MalformedRequest."""
    for name, value in headers:
        if name == b"content-type":
            if grpc.is_grpc(value):
                return routes.open(headers)
            break
    return read_request(headers)


def read_request(headers: list[Header]) -> http1.Request:
    """Raises MalformedRequest."""
    fields = http2.check_request(headers)
    method, target = fields[b":method"].decode("latin-1"), fields[b":path"].decode("latin-1")
    if not _METHOD.fullmatch(method) or not _TARGET.fullmatch(target):
        raise MalformedRequest("the method or the path is none of HTTP's")
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        if raw_name.startswith(b":"):
            continue
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1").strip(" \t")
        joint = "; " if name == "cookie" else ", "
        found[name] = f"{found[name]}{joint}{value}" if name in found else value
    authority = fields.get(b":authority")
    if authority is not None:
        host = authority.decode("latin-1")
        if found.setdefault("host", host) != host:
            raise MalformedRequest("host is not what :authority says")
    length = found.get("content-length")
    if length is not None and not _LENGTH.fullmatch(length):
        raise MalformedRequest("content-length is no length")
    path, query = http1.split_target(target)
    return http1.Request(method=method, target=target, path=path, query=query, headers=found, minor=1, keep_alive=True)


class HttpOverH2(http2.Stream):
    """One request, on its way in; H2Exchange answers it."""

    request: http1.Request
    _exchange: "H2Exchange | None" = None
    _over: bool = False  # handled or refused: what still comes is nothing to it
    _parts: list[bytes] | None = None
    _body_bytes: int = 0
    _length: int | None = None

    def __init__(
        self,
        handle: Callable[[http1.Request, "H2Exchange"], None],
        body_bytes_max: int,
        connection: "http2.Connection[Opening | http1.Request]",
        stream_id: int,
        request: http1.Request,
    ) -> None:
        super().__init__(connection, stream_id, request)
        self._handle = handle
        self._body_bytes_max = body_bytes_max

    def opened(self) -> None:
        length = self.request.headers.get("content-length")
        if length is not None:
            self._length = int(length)
            if self._length > self._body_bytes_max:
                self._refuse(413, f"the body has {self._length} bytes, {self._body_bytes_max} are taken")
                return
        if self.half_closed:
            self._complete()
        elif self.request.expects_continue:
            self.send_interim(_CONTINUE)

    def received(self, data: bytes, at: int, stop: int) -> None:
        if self._over:
            return
        self._body_bytes += stop - at
        if self._length is not None and self._body_bytes > self._length:
            self._break_off()
        elif self._body_bytes > self._body_bytes_max:
            self._refuse(413, "the body is too long")
        elif self.connection.held_bytes + stop - at > HELD_BYTES_MAX:
            self._refuse(503, "too many incomplete requests on this connection")
        else:
            if self._parts is None:
                self._parts = []
            self._parts.append(data[at:stop])
            self.connection.held_bytes += stop - at
            if self.half_closed:
                self._complete()

    def _complete(self) -> None:
        if self._length is not None and self._body_bytes != self._length:
            self._break_off()
            return
        body = b"".join(self._parts or ())
        self._end_of_body()
        self._exchange = exchange = H2Exchange(self)
        self._handle(replace(self.request, body=body) if body else self.request, exchange)

    def _break_off(self) -> None:
        self._end_of_body()
        self.reset(http2.PROTOCOL_ERROR)

    def _refuse(self, status: int, text: str) -> None:
        self._end_of_body()
        self.answer(status, text.encode(), (("Content-Type", "text/plain; charset=utf-8"),))

    def _end_of_body(self) -> None:
        self._over = True
        if self._parts is not None:
            self.connection.held_bytes -= sum(map(len, self._parts))
            self._parts = None

    def answer(self, status: int, body: bytes, headers: Sequence[tuple[str, str]]) -> None:
        """The whole of it."""
        assert not self.head_sent, f"{self.request.method} {self.request.target} was answered twice"
        has_body = status not in (204, 304)
        length = [("content-length", str(len(body)))] if has_body else []
        block = _block(status, [*headers, *length])
        if body and has_body and self.request.method != "HEAD":
            self.send_headers(block)
            self.send_data(body)
            self.send_end()
        else:
            self.send_trailers(block)

    def aborted(self) -> None:
        self._end_of_body()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.lost()

    def writable(self) -> None:
        if self._exchange is not None and self._exchange.on_writable is not None:
            self._exchange.on_writable()


class H2Exchange:
    """An Exchange, and its own HttpStream."""

    __slots__ = ("_stream", "headers", "on_close", "on_writable")

    secure = True  # without TLS only gRPC is spoken over HTTP/2

    def __init__(self, stream: HttpOverH2) -> None:
        self._stream = stream
        self.headers: Sequence[tuple[str, str]] = ()
        self.on_close: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None

    @property
    def common_name(self) -> str | None:
        return self._stream.connection.proven_name

    def __call__(self, response: HttpResponse, /) -> None:
        stream = self._stream
        if stream.open:
            self.on_close = self.on_writable = None
            stream.answer(response.status, response.body, [*self.headers, *response.headers])

    def open(self, status: int, headers: Sequence[tuple[str, str]] = ()) -> "H2Exchange":
        if self._stream.open:
            self._stream.send_headers(_block(status, [*self.headers, *headers]))
        return self

    def upgrade(self, headers: Sequence[tuple[str, str]], on_data: Callable[[bytes], None]) -> "H2Exchange | None":
        """HTTP/2 has no Upgrade (RFC 9113, 8.6): whoever wants a WebSocket agrees on HTTP/1.1."""
        return None

    @property
    def buffered_bytes(self) -> int:
        return self._stream.queued_bytes

    def write(self, data: bytes) -> None:
        if data and self._stream.open and self._stream.request.method != "HEAD":
            self._stream.send_data(data)

    def close(self) -> None:
        self.on_close = self.on_writable = None
        if self._stream.open:
            self._stream.send_end()

    def lost(self) -> None:
        on_close = self.on_close
        self.on_close = self.on_writable = None
        if on_close is not None:
            on_close()


def _block(status: int, headers: Sequence[tuple[str, str]]) -> bytes:
    """Raises ValueError for a field that is none."""
    fields = [(b":status", b"%d" % status)]
    for name, value in headers:
        lower = name.lower()
        if lower not in _NOT_OF_HTTP2 or name == "content-length":
            fields.append((lower.encode("latin-1"), value.encode("latin-1")))
    return hpack.encode(fields)
