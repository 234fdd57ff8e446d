"""Writes to the member's own log, one at a time, and whose turn it is: Readys, marks of snapshots, installed snapshots.

Hot path: once for every Ready. A fast disk is waited for on the loop, a slow one in a thread; server.work_off goes on
with what is durable. What finds no space is held, and nothing else goes on before it. A sync that fails ends the
process. Knows nothing of what entries mean.
"""

import asyncio
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from kvorum.raft.core import Ready
from kvorum.raft.message import Snapshot
from kvorum.server.histogram import Histogram
from kvorum.server.snapshots import insist
from kvorum.storage.fault import NoSpace
from kvorum.storage.wal import Wal

if TYPE_CHECKING:
    from kvorum.server.server import Server

SYNC_INLINE_S = 0.002  # a faster disk is waited for on the loop: a thread and back costs 90 us, on a busy machine 300


class LogWriter:
    """Of one member. The next Ready waits while it is taken, wanted, or something is held: attributes, because that is
    asked three times a put (16 ns each; behind one property 47)."""

    def __init__(self, server: "Server", wal: Wal) -> None:
        self._server = server
        self._wal = wal
        self.held: Ready | None = None  # found no space
        self._held_tick = 0
        self.taken = False  # by a sync in the thread, or for a snapshot that is installed
        self.wanted_count = 0  # of those who wait to write between two Readys
        self._given_back = asyncio.Event()  # the next time
        self._sync_average_s = 0.0
        self._thread = ThreadPoolExecutor(1, "wal")
        self.sync_seconds = Histogram()

    def make_durable(self, ready: Ready) -> bool:
        """Whether it is now. Else server.work_off(ready) is called once it is, or it is held."""
        try:
            self._wal.write(ready.hard_state, ready.entries)
        except NoSpace as full:
            # Nothing of it was promised to anybody yet: once a tick it is tried again.
            self.held, self._held_tick = ready, self._server.ticks
            self._server.full_disk.note(full)
            return False
        if not ready.must_sync:
            return True
        if self._sync_average_s < SYNC_INLINE_S:
            self._sync()
            return True
        self.taken = True
        self._thread.submit(self._sync).add_done_callback(partial(self._server.call_threadsafe, self._synced, ready))
        return False

    def retry_held(self) -> Ready | None:
        """Once a tick: what is held, if it found space and is durable now."""
        held = self.held
        if held is None or self.taken or self._server.ticks <= self._held_tick:
            return None
        self.held = None
        return held if self.make_durable(held) else None

    def _sync(self) -> None:
        started = time.perf_counter()
        self._wal.sync()
        took_s = time.perf_counter() - started
        self.sync_seconds.observe(took_s)
        self._sync_average_s += (took_s - self._sync_average_s) / 16

    def _synced(self, ready: Ready, future: "Future[None]") -> None:
        self.give_back()
        error = future.exception()
        if error is not None:
            self._server.die(error)
        elif not self._server.stopped:
            self._server.work_off(ready)

    def take(self) -> None:
        """Nobody else writes until give_back(). Not while somebody has it."""
        self.taken = True

    def give_back(self) -> None:
        self.taken = False
        self._given_back.set()
        self._given_back = asyncio.Event()

    async def _idle(self) -> None:
        """From here to the next await nobody else writes to the log. What was held back for that is work_off's."""
        self.wanted_count += 1
        try:
            while self.taken:
                await self._given_back.wait()
        finally:
            self.wanted_count -= 1

    async def _sync_in_thread(self) -> None:
        await self._server.loop.run_in_executor(self._thread, self._sync)

    async def write_mark(self, snapshot: Snapshot) -> None:
        """The log durably mentions a snapshot of this member's own once this returns. Raises NoSpace."""
        await self._idle()
        self._wal.write_mark(snapshot)
        self.take()
        await self._sync_in_thread()
        self.give_back()
        self._server.work_off()

    async def write_received(self, ready: Ready) -> None:
        """The log durably begins anew with the leader's snapshot once this returns. For who did take() it."""
        assert ready.snapshot is not None
        await insist(partial(self._wal.write_received, ready.snapshot))
        await insist(partial(self._wal.write, ready.hard_state, ready.entries))
        await self._sync_in_thread()

    async def purge(self, index: int, keep_count: int) -> None:
        """Gives up segments that nobody needs who starts from a snapshot at index. Raises WalFailed."""
        await self._idle()
        self._wal.release(index)
        self._server.work_off()
        await self._server.loop.run_in_executor(self._thread, self._wal.purge, keep_count)

    @property
    def wants_space(self) -> bool:
        return self.held is not None or self._wal.is_short_of_space

    def find_space(self) -> bool:
        """Tries to begin the segment of the log that found no space. Whether the log has all it needs."""
        if self._wal.is_short_of_space and not self.taken:
            self._wal.find_space()
        return not self._wal.is_short_of_space

    def stop(self) -> None:
        """Waits for what its thread has begun."""
        self._thread.shutdown(wait=True)

    def close(self) -> None:
        self._wal.close()
