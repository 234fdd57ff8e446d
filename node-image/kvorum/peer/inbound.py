"""One stream from another member to this one: dialed by us, read until it ends.

Hot path: all frames that one read of the socket completes are handed over in one call.
Knows HTTP's answer to the request and what its status means; who is dialed when is peer.py's to say.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from kvorum.net.tls_connection import Policy
from kvorum.peer import dial
from kvorum.peer.identity import KVORUM_VERSION, Identity
from kvorum.peer.streams import Decoder, StreamBroken
from kvorum.raft.message import Message
from kvorum.wire import http1

ENDED: Final = "ended by the other member"  # in good order
REFUSAL_BYTES_MAX: Final = 4096


class StreamRefused(Exception):
    """The other member answered, and gave no stream. status: HTTP's; text: as it was sent, without its newline."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status} {text}")
        self.status = status
        self.text = text


class Inbound(asyncio.Protocol):
    """deliver: what a read completed; never empty. read_timeout_s: without a byte, and the stream is given up."""

    def __init__(self, decoder: Decoder, deliver: Callable[[list[Message]], None], *, read_timeout_s: float) -> None:
        self._decoder = decoder
        self._deliver = deliver
        self._read_timeout_s = read_timeout_s
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._http = http1.ResponseReader(body_bytes_max=None)
        self._answered: asyncio.Future[http1.Response] = self._loop.create_future()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._refusal: list[bytes] | None = None
        self._last_read = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self.received_bytes = 0
        self.is_from_kvorum = False  # once it is open

    async def open(self, request: bytes, identity: Identity) -> None:
        """Raises StreamRefused, or OSError where there was no answer."""
        assert self._transport is not None
        self._transport.write(request)
        async with asyncio.timeout(self._read_timeout_s):
            answer = await self._answered
            if answer.status != 200:
                await self._ended
                text = b"".join(self._refusal or ()).decode("utf-8", "replace").strip()
                raise StreamRefused(answer.status, text)
        if not identity.may_stream_from(answer.headers):
            version = answer.headers.get("x-server-version", "no version")
            raise StreamRefused(200, f"a member of {version} streams in a way that is not understood")
        self.is_from_kvorum = KVORUM_VERSION.lower() in answer.headers

    async def end(self) -> str:
        """Waits until the stream ends; why it did."""
        return await self._ended

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._timer = self._loop.call_later(self._read_timeout_s, self._check_silence)

    def data_received(self, data: bytes) -> None:
        if self._ended.done():
            return
        self._last_read = self._loop.time()
        self.received_bytes += len(data)
        messages: list[Message] = []
        try:
            for event in self._http.feed(data):
                if isinstance(event, bytes):
                    if self._refusal is None:
                        self._decoder.feed(event, messages)
                    elif sum(map(len, self._refusal)) < REFUSAL_BYTES_MAX:
                        self._refusal.append(event)
                elif isinstance(event, http1.Response):
                    if event.status != 200:
                        self._refusal = []
                    if not self._answered.done():
                        self._answered.set_result(event)
                else:
                    self._finish(ENDED)
        except (StreamBroken, http1.BadMessage) as error:
            self._finish(str(error))
            self.close()
        if messages:
            self._deliver(messages)

    def eof_received(self) -> None:
        self._finish("closed by the other member")

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(str(exc or "closed"))

    def _check_silence(self) -> None:
        left = self._last_read + self._read_timeout_s - self._loop.time()
        if left <= 0:
            self._finish(f"silent for {self._read_timeout_s:g} s")
            self.close()
        else:
            self._timer = self._loop.call_later(left, self._check_silence)

    def _finish(self, why: str) -> None:
        if not self._ended.done():
            self._ended.set_result(why)
        if not self._answered.done():
            self._answered.set_exception(ConnectionResetError(why))
            self._answered.exception()  # not always awaited: a cancelled dialer has gone


async def open_stream(
    url: str,
    target: str,
    headers: http1.HeaderList,
    inbound: Callable[[], Inbound],
    *,
    tls: Policy | None = None,
    dial_timeout_s: float,
) -> tuple[Inbound, bytes]:
    """A connection for the stream at url, and the request that opens it. Raises OSError."""
    request = http1.request("GET", target, dial.host_header(url), headers)
    return await dial.connect(url, inbound, tls=tls, timeout_s=dial_timeout_s), request
