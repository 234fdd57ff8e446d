"""The gateway over WebSocket, for browsers: each message is a document of the request, or of the answer.

As in etcd: any path of the gateway may be asked so, a call without a stream ends the connection with its answer, and a
token may come as the subprotocol `Bearer, TOKEN`, since a browser cannot send headers here. Not as in etcd: what is no
JSON is refused, where etcd leaves its client waiting; and the connection ends with a close.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from kvorum.net.exchange import Exchange, HttpRequest, HttpResponse, HttpStream
from kvorum.wire import websocket
from kvorum.wire.websocket import Close, Ping, Violation

PONGS_BYTES_MAX = 64 << 10  # unread by the client


class Conversation(Protocol):
    """A call that a client's messages go to."""

    def more(self, text: bytes) -> None: ...


Begin = Callable[[HttpRequest, Exchange], Conversation | None]
"""Makes a call of a request, whose body is the first message; None where it is answered with that."""


def open_socket(request: HttpRequest, exchange: Exchange, begin: Begin, *, message_bytes_max: int) -> None:
    accept = websocket.accepted(request.headers) if request.method == "GET" else None
    if accept is None:
        exchange(HttpResponse(400, b"this is no handshake of WebSocket 13\n", (("Sec-WebSocket-Version", "13"),)))
        return
    socket = GatewaySocket(_with_token(request), begin, message_bytes_max)
    agreed = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)]
    if request.headers.get("sec-websocket-protocol", "").startswith("Bearer"):
        agreed.append(("Sec-WebSocket-Protocol", "Bearer"))
    stream = exchange.upgrade(agreed, socket.data_received)
    if stream is None:
        exchange(HttpResponse(400, b"WebSocket is spoken over HTTP/1.1 alone\n"))
    else:
        socket.opened(stream)


def _with_token(request: HttpRequest) -> HttpRequest:
    protocol = request.headers.get("sec-websocket-protocol", "")
    if not protocol.startswith("Bearer"):
        return request
    token = " ".join(part.strip() for part in protocol.split(","))
    return replace(request, headers={**request.headers, "authorization": token})


class GatewaySocket:
    """One connection: an Exchange, and its own HttpStream, to the call that is answered over it."""

    secure = False  # who is let in was decided at the request
    common_name: str | None = None

    def __init__(self, request: HttpRequest, begin: Begin, message_bytes_max: int) -> None:
        self.headers: Sequence[tuple[str, str]] = ()
        self.on_close: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None
        self._request = request
        self._begin = begin
        self._reader = websocket.MessageReader(message_bytes_max=message_bytes_max)
        self._stream: HttpStream
        self._call: Conversation | None = None
        self._begun = False
        self._ended = False

    def opened(self, stream: HttpStream) -> None:
        self._stream = stream
        stream.on_close = self._gone
        stream.on_writable = self._writable

    # From the client

    def data_received(self, data: bytes) -> None:
        try:
            events = self._reader.feed(data)
        except Violation as wrong:
            self._end(wrong.code, wrong.text)
            self._gone()
            return
        for event in events:
            if self._ended:
                return
            if isinstance(event, Ping):
                if self._stream.buffered_bytes < PONGS_BYTES_MAX:  # a client may be answered its last one alone
                    self._stream.write(websocket.pong(event.payload))
            elif isinstance(event, Close):
                self._end(event.code)
                self._gone()
            else:
                self._message(event)

    def _message(self, text: bytes) -> None:
        if not self._begun:
            self._begun = True
            self._call = self._begin(replace(self._request, method="POST", body=text), self)
        elif self._call is not None:
            self._call.more(text)

    def _gone(self) -> None:
        """The client is, or is as good as that."""
        self._ended = True
        told, self.on_close = self.on_close, None
        self._call = None
        if told is not None:
            told()

    def _writable(self) -> None:
        if self.on_writable is not None:
            self.on_writable()

    # To the client

    def __call__(self, response: HttpResponse, /) -> None:
        if response.body:
            self.write(response.body)
        self.close()

    def open(self, status: int, headers: Sequence[tuple[str, str]] = ()) -> HttpStream:
        return self

    def upgrade(self, headers: Sequence[tuple[str, str]], on_data: Callable[[bytes], None]) -> HttpStream | None:
        return None

    @property
    def buffered_bytes(self) -> int:
        return self._stream.buffered_bytes

    def write(self, data: bytes) -> None:
        if not self._ended:
            self._stream.write(websocket.text(data.removesuffix(b"\n")))

    def close(self) -> None:
        self._end(websocket.NORMAL)

    def _end(self, code: int, reason: str = "") -> None:
        if self._ended:
            return
        self._ended = True
        self._call = None
        self._stream.write(websocket.close(code, reason))
        self._stream.close()
