"""HTTP/1.1 messages out of bytes and into bytes, for both sides of a connection (RFC 9110, RFC 9112).

Sans-IO: knows no socket, no clock, no path and no media type, and nothing of HTTP/2: whoever listens looks for the
preface first. Input may come in pieces of any size. What is outside the grammar ends the connection: the reader says
so once (Refusal to a client, BadMessage about a server) and takes nothing more. A body is handed on as it arrives, so
an endless one needs no memory here; WholeRequests and WholeResponse gather it for those who want it in one piece.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote_to_bytes

HEAD_BYTES_MAX: Final = 65_536  # request line or status line, with all fields
FIELDS_COUNT_MAX: Final = 128
LINE_BYTES_MAX: Final = 4_096  # a chunk's size with its extensions; a trailer
TRAILERS_COUNT_MAX: Final = 32

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"

Headers = Mapping[str, str]
"""Names in lower case; several fields of one name are joined by a comma and a blank (RFC 9110, 5.2)."""


class End(Enum):
    """The event after the last piece of a body; a message without a body has it too."""

    END = "end"


END: Final = End.END


@dataclass(frozen=True, slots=True)
class Request:
    """target: as it stood in the request line. path: of the target, percent-decoded. query: raw, without its `?`."""

    method: str
    target: str
    path: str
    query: str
    headers: Headers
    minor: int  # of HTTP/1.x
    keep_alive: bool
    body: bytes = b""

    @property
    def expects_continue(self) -> bool:
        """Whether the client holds its body back until it is told to go on."""
        return self.minor >= 1 and self.headers.get("expect", "").lower() == "100-continue"


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a client sent that no HTTP/1.1 server may take. Answer with it, then close: what follows has no meaning."""

    status: int
    text: str

    def answer(self) -> bytes:
        reason = f"{self.status} {_reason(self.status)}"
        return response(
            self.status,
            f"{reason}: {self.text}".encode(),
            [("Content-Type", "text/plain; charset=utf-8")],
            keep_alive=False,
        )


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    reason: str
    headers: Headers
    keep_alive: bool
    body: bytes = b""


class BadMessage(Exception):
    """Outside the grammar, or beyond a limit. status is what a server answers to it."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


# Reading: the server's side


class RequestReader:
    """Requests out of a client's bytes, pipelined or not: for each a Request, pieces of its body, END.

    body_bytes_max: of one request's body; beyond it the client is refused (413).
    """

    def __init__(self, *, body_bytes_max: int, head_bytes_max: int = HEAD_BYTES_MAX) -> None:
        self._heads = _HeadReader(head_bytes_max)
        self._body: _BodyReader | None = None
        self._body_bytes_max = body_bytes_max
        self._keep_alive = True
        self._closed = False

    @property
    def idle(self) -> bool:
        """Nothing of a request is outstanding: the connection may be closed without harm."""
        return self._body is None and self._heads.empty

    def feed(self, data: bytes) -> list[Request | bytes | End | Refusal]:
        """The events that data completes. A Refusal is the last one ever; after `Connection: close` none follow."""
        events: list[Request | bytes | End | Refusal] = []
        at = 0
        while not self._closed:
            try:
                if self._body is None:
                    head, at = self._heads.take(data, at)
                    if head is None:
                        break
                    request, framing = _parse_request(head)
                    self._body = _BodyReader(framing, self._body_bytes_max)
                    self._keep_alive = request.keep_alive
                    events.append(request)
                at = self._body.take(data, at, events.append)
            except BadMessage as bad:
                events.append(Refusal(bad.status, str(bad)))
                self._closed = True
                break
            if not self._body.done:
                break
            events.append(END)
            self._body = None
            self._closed = not self._keep_alive
        return events


class WholeRequests:
    """Requests with their bodies, for handlers that want them in one piece."""

    def __init__(self, *, body_bytes_max: int, head_bytes_max: int = HEAD_BYTES_MAX) -> None:
        self._reader = RequestReader(body_bytes_max=body_bytes_max, head_bytes_max=head_bytes_max)
        self._request: Request | None = None
        self._parts: list[bytes] = []
        self._continue_due = False

    @property
    def idle(self) -> bool:
        """Nothing of a request is outstanding: the connection may be closed without harm."""
        return self._reader.idle

    def feed(self, data: bytes) -> list[Request | Refusal]:
        """The requests that data completes, in order; a Refusal is the last one ever."""
        whole: list[Request | Refusal] = []
        for event in self._reader.feed(data):
            if isinstance(event, Request):
                self._request = event
                self._continue_due = event.expects_continue
            elif isinstance(event, bytes):
                self._parts.append(event)
                self._continue_due = False
            elif isinstance(event, Refusal):
                self._continue_due = False
                whole.append(event)
            else:
                assert self._request is not None
                whole.append(replace(self._request, body=b"".join(self._parts)) if self._parts else self._request)
                self._request = None
                self._parts.clear()
                self._continue_due = False
        return whole

    def take_continue(self) -> bool:
        """Whether CONTINUE is to be written now: a client waits for it. True once for each request that asks."""
        due, self._continue_due = self._continue_due, False
        return due


# Reading: the client's side


class ResponseReader:
    """One response to a request of `method`: a Response, pieces of its body, END. Interim (1xx) responses are skipped.

    Bytes after the END stay in `surplus`: nobody asked for them, so such a connection must not be used again.
    """

    def __init__(
        self, method: str = "GET", *, body_bytes_max: int | None = None, head_bytes_max: int = HEAD_BYTES_MAX
    ) -> None:
        self._method = method
        self._heads = _HeadReader(head_bytes_max)
        self._body: _BodyReader | None = None
        self._body_bytes_max = body_bytes_max
        self.done = False
        self.surplus = b""

    def feed(self, data: bytes) -> list[Response | bytes | End]:
        """The events that data completes. Raises BadMessage: the connection is then beyond use."""
        events: list[Response | bytes | End] = []
        at = 0
        while self._body is None and not self.done:
            head, at = self._heads.take(data, at)
            if head is None:
                return events
            response_, framing = _parse_response(head, self._method)
            if response_.status >= 200 or response_.status == 101:
                self._body = _BodyReader(framing, self._body_bytes_max)
                events.append(response_)
        if self._body is not None:
            at = self._body.take(data, at, events.append)
            if self._body.done:
                self._body = None
                self.done = True
                events.append(END)
        if self.done:
            self.surplus += data[at:]
        return events

    def end_of_input(self) -> list[Response | bytes | End]:
        """The server closed. END if that ends the body; raises BadMessage if something was still to come."""
        if self.done:
            return []
        if self._body is None or not self._body.until_close:
            raise BadMessage("the server closed the connection before the end of its response")
        self.done = True
        return [END]


class WholeResponse:
    """One response with its body in one piece."""

    def __init__(self, method: str = "GET", *, body_bytes_max: int) -> None:
        self._reader = ResponseReader(method, body_bytes_max=body_bytes_max)
        self._response: Response | None = None
        self._parts: list[bytes] = []

    @property
    def surplus(self) -> bytes:
        return self._reader.surplus

    def feed(self, data: bytes) -> Response | None:
        """The response, once data completes it. Raises BadMessage."""
        return self._gather(self._reader.feed(data))

    def end_of_input(self) -> Response | None:
        """The response, if the server's close completes it. Raises BadMessage if it does not."""
        return self._gather(self._reader.end_of_input())

    def _gather(self, events: Iterable[Response | bytes | End]) -> Response | None:
        for event in events:
            if isinstance(event, Response):
                self._response = event
            elif isinstance(event, bytes):
                self._parts.append(event)
            else:
                assert self._response is not None
                return replace(self._response, body=b"".join(self._parts))
        return None


# Writing

HeaderList = Iterable[tuple[str, str]]


def response(
    status: int, body: bytes = b"", headers: HeaderList = (), *, keep_alive: bool = True, method: str = "GET"
) -> bytes:
    """A whole response. To a HEAD request (`method`) the body's length is told and the body left out.

    keep_alive: as in the Request that is answered; False says `Connection: close`, and the caller closes.
    """
    length = [] if status in (204, 304) else [("Content-Length", str(len(body)))]
    head = response_head(status, [*headers, *length], keep_alive=keep_alive)
    return head if method == "HEAD" or status in (204, 304) else head + body


def response_head(status: int, headers: HeaderList = (), *, keep_alive: bool = True) -> bytes:
    """Status line and fields, for a body that follows: `Transfer-Encoding: chunked` with chunk() and LAST_CHUNK, or
    `keep_alive=False` and a body that ends with the connection (all that a client of HTTP/1.0 understands)."""
    lines = [f"HTTP/1.1 {status} {_reason(status)}"]
    lines += [_field(name, value) for name, value in headers]
    if not keep_alive:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def request(
    method: str, target: str, host: str, headers: HeaderList = (), body: bytes | None = None, *, keep_alive: bool = True
) -> bytes:
    """A whole request. body None: there is none, and no Content-Length. host: with its port, as in the URL."""
    length = [] if body is None else [("Content-Length", str(len(body)))]
    head = request_head(method, target, host, [*headers, *length], keep_alive=keep_alive)
    return head if body is None else head + body


def request_head(method: str, target: str, host: str, headers: HeaderList = (), *, keep_alive: bool = True) -> bytes:
    """Request line and fields, for a body that follows in chunks when the headers say `Transfer-Encoding: chunked`.

    Raises ValueError for a target or field that would break out of its line.
    """
    if not _TARGET.fullmatch(target):
        raise ValueError(f"{target!r} is no request target")
    lines = [f"{method} {target} HTTP/1.1", _field("Host", host)]
    lines += [_field(name, value) for name, value in headers]
    if not keep_alive:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes) -> bytes:
    """data as one chunk of a chunked body. Never empty: an empty chunk would be the last one."""
    assert data, "an empty chunk ends the body"
    return b"%x\r\n%b\r\n" % (len(data), data)


# The grammar

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e\x80-\xff]+) HTTP/([0-9])\.([0-9])")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_FIELD_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^/?#]*(.*)", re.DOTALL)
_TARGET: Final = re.compile(r"[\x21-\x7e\x80-\xff]+")

_CHUNKED: Final = -1
_UNTIL_CLOSE: Final = -2


class _HeadReader:
    """Everything up to an empty line. Lines end in CR LF: a lone LF has been used to hide one request in another."""

    def __init__(self, bytes_max: int) -> None:
        self._pending = b""
        self._bytes_max = bytes_max

    @property
    def empty(self) -> bool:
        return not self._pending

    def take(self, data: bytes, at: int) -> tuple[list[bytes] | None, int]:
        """The lines of a head without the empty one, or None; and how far data is used. Raises BadMessage."""
        if self._pending:
            searched = max(0, len(self._pending) - 3)
            joined = self._pending + data[at:]
            used_before = at - len(self._pending)
        else:
            searched = 0
            joined = data[at:] if at else data
            used_before = at
        start = 0
        while joined.startswith(b"\r\n", start):  # an empty line before a request is a habit of old clients
            start += 2
            if start > self._bytes_max:
                raise BadMessage("nothing but empty lines", 400)
        end = joined.find(b"\r\n\r\n", max(start, searched))
        if end < 0:
            if len(joined) - start > self._bytes_max + 3:  # three bytes of its end may be there
                raise BadMessage("the head is too long", 431)
            self._pending = joined[start:]
            if b"\n" in self._pending and _LONE_LF.search(self._pending):
                raise BadMessage("a line ends without a carriage return")
            return None, len(data)
        self._pending = b""
        if end - start > self._bytes_max:
            raise BadMessage("the head is too long", 431)
        return joined[start:end].split(b"\r\n"), used_before + end + 4


_LONE_LF: Final = re.compile(rb"(?<!\r)\n")


class _BodyReader:
    """The pieces of one body, by its framing: a length, _CHUNKED, or _UNTIL_CLOSE."""

    def __init__(self, framing: int, bytes_max: int | None) -> None:
        if bytes_max is not None and framing > bytes_max:
            raise BadMessage(f"the body has {framing} bytes, {bytes_max} are taken", 413)
        self.until_close = framing == _UNTIL_CLOSE
        self._chunked = framing == _CHUNKED
        self._left = max(framing, 0)  # bytes of the body, or of this chunk, that are still to come
        self._allowance = bytes_max
        self._line = b""  # of an incomplete one between chunks
        self._next = self._chunk_size
        self._trailers_count = 0
        self.done = framing == 0

    def take(self, data: bytes, at: int, emit: Callable[[bytes], None]) -> int:
        """Emits the pieces in data; returns how far data is used. Raises BadMessage."""
        length = len(data)
        while at < length and not self.done:
            if self._left:
                end = min(length, at + self._left)
                self._left -= end - at
                emit(data[at:end])
                at = end
                if not self._left and not self._chunked:
                    self.done = True
            elif self._chunked:
                line, at = self._take_line(data, at)
                if line is not None:
                    self._next(line)
            else:
                self._count(length - at)
                emit(data[at:] if at else data)
                at = length
        return at

    def _take_line(self, data: bytes, at: int) -> tuple[bytes | None, int]:
        end = data.find(b"\n", at, at + LINE_BYTES_MAX + 1)
        line = self._line + data[at : end if end >= 0 else len(data)]
        if len(line) > LINE_BYTES_MAX:
            raise BadMessage("a line between chunks is too long")
        if end < 0:
            self._line = line
            return None, len(data)
        self._line = b""
        if not line.endswith(b"\r"):
            raise BadMessage("a line ends without a carriage return")
        return line[:-1], end + 1

    def _chunk_size(self, line: bytes) -> None:
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            raise BadMessage("a chunk does not begin with its size")
        size = int(match[1], 16)
        if size:
            self._count(size)
            self._left = size
            self._next = self._chunk_end
        else:
            self._next = self._trailer

    def _chunk_end(self, line: bytes) -> None:
        if line:
            raise BadMessage("a chunk is longer than its size")
        self._next = self._chunk_size

    def _trailer(self, line: bytes) -> None:
        """Trailers are read over: none has a meaning to anybody here."""
        if not line:
            self.done = True
            return
        self._trailers_count += 1
        if self._trailers_count > TRAILERS_COUNT_MAX:
            raise BadMessage("too many trailers", 431)

    def _count(self, size: int) -> None:
        if self._allowance is None:
            return
        self._allowance -= size
        if self._allowance < 0:
            raise BadMessage("the body is too long", 413)


def _parse_request(lines: list[bytes]) -> tuple[Request, int]:
    match = _REQUEST_LINE.fullmatch(lines[0])
    if match is None:
        raise BadMessage("malformed request line")
    if match[3] != b"1":
        raise BadMessage("this is HTTP/1.1", 505)
    minor = int(match[4])
    headers = _parse_fields(lines)
    if minor >= 1 and "host" not in headers:
        raise BadMessage("missing required Host header")
    target = match[2].decode("latin-1")
    path, query = split_target(_origin_form(target))
    framing = _framing(headers, minor)
    parsed = Request(
        method=match[1].decode("ascii"),
        target=target,
        path=path,
        query=query,
        headers=headers,
        minor=minor,
        keep_alive=_keep_alive(headers, minor),
    )
    return parsed, 0 if framing is None else framing


def split_target(target: str) -> tuple[str, str]:
    """Path, percent-decoded, and query of a target that begins with its path; the same however the request came."""
    path, _, query = target.partition("?")
    return unquote_to_bytes(path.encode("latin-1")).decode("utf-8", "surrogateescape"), query


def _origin_form(target: str) -> str:
    if target.startswith("/") or target == "*":
        return target
    absolute = _ABSOLUTE.fullmatch(target)  # as a proxy would be asked; servers must take it too (RFC 9112, 3.2.2)
    if absolute is None:
        raise BadMessage("the request target is neither a path nor a URL")
    return absolute[1] if absolute[1].startswith("/") else "/" + absolute[1]


def _parse_response(lines: list[bytes], method: str) -> tuple[Response, int]:
    match = _STATUS_LINE.fullmatch(lines[0])
    if match is None:
        raise BadMessage("malformed status line")
    minor, status = int(match[1]), int(match[2])
    headers = _parse_fields(lines)
    if method == "HEAD" or status < 200 or status in (204, 304):
        framing: int | None = 0
    else:
        framing = _framing(headers, minor)
    keep_alive = framing is not None and _keep_alive(headers, minor)
    parsed = Response(status, (match[3] or b"").decode("latin-1"), headers, keep_alive)
    return parsed, _UNTIL_CLOSE if framing is None else framing


def _parse_fields(lines: list[bytes]) -> Headers:
    if len(lines) - 1 > FIELDS_COUNT_MAX:
        raise BadMessage("too many header fields", 431)
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        # A blank before the colon, or a line that continues the one before, is read differently by different servers.
        if not colon or not _TOKEN.fullmatch(name) or not _FIELD_VALUE.fullmatch(value):
            raise BadMessage("malformed header field")
        key = name.decode("ascii").lower()
        text = value.strip(b" \t").decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def _framing(headers: Headers, minor: int) -> int | None:
    """The body's length, _CHUNKED, or None where no field says anything (RFC 9112, 6.3)."""
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if length is not None or minor < 1:
            raise BadMessage("Transfer-Encoding beside Content-Length, or in HTTP/1.0")
        if coding.lower() != "chunked":
            raise BadMessage("unsupported transfer encoding", 501)
        return _CHUNKED
    if length is None:
        return None
    if not _LENGTH.fullmatch(length):
        raise BadMessage("malformed Content-Length")
    return int(length)


def _keep_alive(headers: Headers, minor: int) -> bool:
    """HTTP/1.0 clients that ask for a kept connection do not get one: they would have to be told so in each answer."""
    return minor >= 1 and "close" not in {o.strip() for o in headers.get("connection", "").lower().split(",")}


def _field(name: str, value: str) -> str:
    raw = value.encode("latin-1")
    if not _TOKEN.fullmatch(name.encode("latin-1")) or not _FIELD_VALUE.fullmatch(raw):
        raise ValueError(f"{name!r}: {value!r} is no header field")
    return f"{name}: {value}"


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
