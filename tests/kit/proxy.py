"""A network between members, in user space: each advertises a port of this, and what passes between any two of them can
be held, cut, swallowed, delayed and split, one way or both.

Who dials is told by the X-Server-From header of the first request that has one. What names nobody (/members, /version,
probes, lease renewals) passes, unless the member it goes to is out of reach of everybody. Knows nothing of raft.

Runs on a thread of its own, so that a test that blocks delays no heartbeat; all calls are made from other threads.
"""

import asyncio
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from tests.kit.ports import free_port

READ_BYTES = 1 << 16
CALL_S = 10.0
NO_LINGER = struct.pack("ii", 1, 0)
PIECES_IN_A_ROW = 16
BREATH_S = 0.001
SENDER = re.compile(rb"\r\nx-server-from: *([0-9a-f]+)\r\n", re.IGNORECASE)
HEAD = re.compile(rb"([A-Z]+ \S+) HTTP/1\.1\r\n")

T = TypeVar("T")


class Fate(Enum):
    """What becomes of bytes on their way. HELD: they wait, and arrive when the way is free again, as TCP repeats them.
    CUT: the connection is reset. SWALLOWED: they vanish and the sender never knows; its connection is reset at the end.
    """

    PASSES = "passes"
    HELD = "held"
    CUT = "cut"
    SWALLOWED = "swallowed"


@dataclass(eq=False)
class Line:
    """From one member to another, whoever of them dialed. piece_bytes: what is written at once; 0 for all there is."""

    fate: Fate = Fate.PASSES
    delay_s: float = 0.0
    piece_bytes: int = 0
    free: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class Dial:
    """A connection that said who it comes from. at_s: of the monotonic clock; what: method and target of its head."""

    at_s: float
    sender: str
    to: str
    what: str


@dataclass(eq=False)
class _Connection:
    to: str
    near: asyncio.StreamWriter
    far: asyncio.StreamWriter | None = None
    sender: str = ""
    is_spoiled: bool = False

    def reset(self) -> None:
        """Both sides are told by a reset, not by an end of what was sent."""
        for writer in (self.near, self.far):
            if writer is not None and not writer.transport.is_closing():
                connected: socket.socket = writer.get_extra_info("socket")
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
                writer.transport.abort()

    def close(self) -> None:
        for writer in (self.near, self.far):
            if writer is not None:
                writer.close()


class PeerNetwork:
    """add() each member, identify() it once its id is known, then do to the lines between them what is to happen."""

    def __init__(self) -> None:
        self.dials: list[Dial] = []
        self._names: dict[str, str] = {}  # by hexadecimal id
        self._targets: dict[str, int] = {}
        self._lines: dict[tuple[str, str], Line] = {}
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="peer network", daemon=True)
        self._thread.start()

    def add(self, name: str, port: int) -> int:
        """A member that listens on `port`: the port to advertise for it."""
        advertised = free_port()
        self._targets[name] = port

        async def listen() -> None:
            self._servers.append(
                await asyncio.start_server(
                    lambda reader, writer: self._accepted(name, reader, writer), "127.0.0.1", advertised
                )
            )

        asyncio.run_coroutine_threadsafe(listen(), self._loop).result(CALL_S)
        return advertised

    def identify(self, member_id: int, name: str) -> None:
        self._names[f"{member_id:x}"] = name

    def set(
        self, sender: str, to: str, fate: Fate = Fate.PASSES, *, delay_s: float = 0.0, piece_bytes: int = 0
    ) -> None:
        """What happens from now on to what `sender` sends `to`. By default nothing."""
        self._call(lambda: self._set(sender, to, fate, delay_s, piece_bytes))

    def between(self, ones: Iterable[str], others: Iterable[str], fate: Fate) -> None:
        """A partition: no way from ones to others, nor back."""
        others = list(others)
        for one in ones:
            for other in others:
                self.set(one, other, fate)
                self.set(other, one, fate)

    def heal(self) -> None:
        """All lines pass again."""
        for sender, to in list(self._lines):
            self.set(sender, to)

    def reset(self, one: str, other: str) -> None:
        """Cuts all connections between two members, once: they may dial again at once."""
        self._call(lambda: self._abort(lambda connection: {connection.sender, connection.to} == {one, other}))

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(CALL_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_S)
        self._loop.close()

    # On the thread of the network

    def _call(self, function: Callable[[], T]) -> T:
        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(CALL_S)

    def _line(self, sender: str, to: str) -> Line:
        line = self._lines.get((sender, to))
        if line is None:
            line = self._lines[sender, to] = Line()
            line.free.set()
        return line

    def _set(self, sender: str, to: str, fate: Fate, delay_s: float, piece_bytes: int) -> None:
        line = self._line(sender, to)
        was, line.fate, line.delay_s, line.piece_bytes = line.fate, fate, delay_s, piece_bytes
        if fate is Fate.HELD:
            line.free.clear()
        else:
            line.free.set()
        ends = {sender, to}
        if fate is Fate.CUT:
            self._abort(lambda connection: {connection.sender, connection.to} == ends)
        elif was is Fate.SWALLOWED:
            self._abort(lambda connection: connection.is_spoiled and {connection.sender, connection.to} == ends)

    def _abort(self, condemned: Callable[[_Connection], bool]) -> None:
        for connection in list(self._connections):
            if condemned(connection):
                connection.reset()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        self._abort(lambda _: True)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accepted(self, to: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._carry(_Connection(to, writer), reader))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, connection: _Connection, near: asyncio.StreamReader) -> None:
        self._connections.add(connection)
        try:
            first = await near.read(READ_BYTES)
            self._learn_sender(connection, first)
            # Before dialing: the way there may be closed.
            if not first or not await self._passes(connection, connection.sender, connection.to):
                return
            far, connection.far = await asyncio.open_connection("127.0.0.1", self._targets[connection.to])
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(connection, near, connection.far, first))
                both.create_task(self._pump(connection, far, connection.near, None))
        except* OSError:
            connection.reset()  # either side has gone: so does the other
        finally:
            connection.close()
            self._connections.discard(connection)

    async def _pump(
        self,
        connection: _Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        first: bytes | None,
    ) -> None:
        """first: of the dialer, what it has said already; None for the other side."""
        is_dialer = first is not None
        data = first or await reader.read(READ_BYTES)
        while data:
            if is_dialer:
                self._learn_sender(connection, data)
            sender, to = (connection.sender, connection.to) if is_dialer else (connection.to, connection.sender)
            if await self._passes(connection, sender, to):
                await write(writer, data, self._line(sender, to).piece_bytes if connection.sender else 0)
            data = await reader.read(READ_BYTES)
        sender, to = (connection.sender, connection.to) if is_dialer else (connection.to, connection.sender)
        await self._passes(connection, sender, to)  # an end waits behind what was held, too
        with suppress(OSError):
            if is_dialer:
                writer.write_eof()
            else:
                writer.close()
                await writer.wait_closed()

    async def _passes(self, connection: _Connection, sender: str, to: str) -> bool:
        """Whether bytes go on now; waits while they are held. Raises ConnectionResetError where they are cut."""
        if not connection.sender:
            await self._reachable(connection.to)
            return True
        line = self._line(sender, to)
        if line.delay_s:
            await asyncio.sleep(line.delay_s)
        await line.free.wait()
        if line.fate is Fate.CUT:
            raise ConnectionResetError
        if line.fate is Fate.SWALLOWED:
            connection.is_spoiled = True
            return False
        return True

    async def _reachable(self, to: str) -> None:
        """Waits while no member at all may reach this one."""
        lines = [self._line(name, to) for name in self._targets if name != to]
        if lines and all(line.fate is not Fate.PASSES for line in lines):
            if any(line.fate is Fate.CUT for line in lines):
                raise ConnectionResetError
            waits = [asyncio.ensure_future(line.free.wait()) for line in lines]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    def _learn_sender(self, connection: _Connection, data: bytes) -> None:
        if connection.sender:
            return
        found = SENDER.search(data)
        if found is not None:
            connection.sender = self._names.get(found.group(1).decode(), "")
            head = HEAD.search(data)
            what = head.group(1).decode() if head else ""
            self.dials.append(Dial(time.monotonic(), connection.sender, connection.to, what))


async def write(writer: asyncio.StreamWriter, data: bytes, piece_bytes: int) -> None:
    if not piece_bytes:
        writer.write(data)
        await writer.drain()
        return
    for count, start in enumerate(range(0, len(data), piece_bytes), 1):
        writer.write(data[start : start + piece_bytes])
        await writer.drain()
        # The reader's turn, so that pieces arrive as pieces.
        await asyncio.sleep(0 if count % PIECES_IN_A_ROW else BREATH_S)
