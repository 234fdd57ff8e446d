"""POST /raft/snapshot: a MsgSnap behind its length, then the database, in chunks, to one member.

The file is read in another thread and written as fast as the other side takes it: a megabyte of memory, whatever its
size. Knows no raft: whether and when to send is the server's to say.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from kvorum.net.tls_connection import Policy
from kvorum.peer.dial import connect, host_header
from kvorum.wire import http1

PIECE_BYTES: Final = 256 << 10
STALLED_S: Final = 30.0  # without a byte taken by a receiver that may be writing to a slow disk
ANSWER_S: Final = 3600.0  # it answers when it has read the database in, which takes a minute for each few million keys
ANSWER_BYTES_MAX: Final = 64 << 10


async def post_snapshot(
    url: str,
    headers: http1.HeaderList,
    message: bytes,
    database: Path,
    *,
    tls: Policy | None = None,
    dial_timeout_s: float,
) -> http1.Response:
    """The member's answer, whatever its status. message: an encoded MsgSnap. Raises OSError, also TimeoutError."""
    connection = await connect(url, lambda: _Posting(url), tls=tls, timeout_s=dial_timeout_s)
    try:
        connection.write(
            http1.request_head(
                "POST",
                "/raft/snapshot",
                host_header(url),
                [*headers, ("Content-Type", "application/octet-stream"), ("Transfer-Encoding", "chunked")],
            )
        )
        connection.write(http1.chunk(len(message).to_bytes(8, "big") + message))
        async for piece in _pieces(database):
            if connection.answered.done():
                break
            connection.write(http1.chunk(piece))
            await connection.drained()
        if not connection.answered.done():
            connection.write(http1.LAST_CHUNK)
        async with asyncio.timeout(ANSWER_S):
            return await connection.answered
    finally:
        connection.close()


async def _pieces(database: Path) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    file = await loop.run_in_executor(None, open, database, "rb")
    with file:
        while piece := await loop.run_in_executor(None, file.read, PIECE_BYTES):
            yield piece


class _Posting(asyncio.Protocol):
    """answered: the response; or OSError, where there was none."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._transport: asyncio.Transport | None = None
        self._response = http1.WholeResponse("POST", body_bytes_max=ANSWER_BYTES_MAX)
        self._writable = asyncio.Event()
        self._writable.set()
        self.answered: asyncio.Future[http1.Response] = asyncio.get_running_loop().create_future()

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def drained(self) -> None:
        """Waits until the socket takes more, or the other side has answered. Raises TimeoutError."""
        async with asyncio.timeout(STALLED_S):
            await self._writable.wait()

    def close(self) -> None:
        if self.answered.done() and not self.answered.cancelled():
            self.answered.exception()  # whoever gave up does not want to hear of it
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def pause_writing(self) -> None:
        if not self.answered.done():
            self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        try:
            self._answer(self._response.feed(data))
        except http1.BadMessage as error:
            self._fail(ConnectionError(f"{self._url}: {error}"))

    def eof_received(self) -> None:
        try:
            self._answer(self._response.end_of_input())
        except http1.BadMessage as error:
            self._fail(ConnectionResetError(f"{self._url}: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionResetError(f"{self._url}: closed before it answered"))

    def _answer(self, response: http1.Response | None) -> None:
        if response is not None and not self.answered.done():
            self.answered.set_result(response)
            self._writable.set()

    def _fail(self, error: Exception) -> None:
        if not self.answered.done():
            self.answered.set_exception(error)
        self._writable.set()
