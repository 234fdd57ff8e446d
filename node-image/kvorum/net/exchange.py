"""One HTTP request and its answer, as a handler sees them: whole, as a stream, or as another protocol from there on.

Beside call.py, which is that for gRPC. Knows no connection: the request may have come by HTTP/1.1 (http1_port.py) or by
HTTP/2 (http_over_h2.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from kvorum.wire import http1


@dataclass(frozen=True, slots=True)
class HttpResponse:
    status: int
    body: bytes = b""
    headers: Sequence[tuple[str, str]] = ()


HttpRequest = http1.Request
Respond = Callable[[HttpResponse], None]


class HttpStream(Protocol):
    """An answer that goes on: each write is a chunk of its own, and on its way at once, until close().

    on_close: the client went before close(); called once, after which nothing is. on_writable: buffered_bytes, which
    the client has not taken yet, was above 64 KiB and has fallen. To a client that is gone writes do nothing.
    """

    on_close: Callable[[], None] | None
    on_writable: Callable[[], None] | None

    @property
    def buffered_bytes(self) -> int: ...

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class Exchange(Protocol):
    """How a request is answered: by a call with the whole response, or by open(), once, now or later.

    secure: the request came by TLS. common_name: of the client's certificate, verified; None without one.
    headers: added to those of the answer.
    on_close: the client went before the answer was whole. Set it while the request is handled, or not at all: with it a
    client that sends no more counts as gone, as in Go's server; without it such a client still gets its answer. A
    client that is gone by the time of an answer is no error.
    """

    headers: Sequence[tuple[str, str]]
    on_close: Callable[[], None] | None

    @property
    def secure(self) -> bool: ...

    @property
    def common_name(self) -> str | None: ...

    def __call__(self, response: HttpResponse, /) -> None: ...

    def open(self, status: int, headers: Sequence[tuple[str, str]] = ()) -> HttpStream:
        """Sends the head at once. The end of the request's body does not end the stream."""
        ...

    def upgrade(self, headers: Sequence[tuple[str, str]], on_data: Callable[[bytes], None]) -> HttpStream | None:
        """Instead of an answer: the connection goes on in another protocol (101), whose bytes come and go as they are.

        None where it cannot: over HTTP/2, and where the client did not wait for the answer.
        """
        ...


HttpHandler = Callable[[HttpRequest, Exchange], None]
