"""Commits of the store, one at a time: when one is due, what is durable by the last, and the last of all.

Only what is applied is committed, and only what the own log durably holds is applied; so a commit may come late, or be
left out at the end, and the log brings back what it lacks. A thread waits for the disk. A commit that finds no space is
tried again; any other failure ends the process.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from kvorum.server.histogram import Histogram
from kvorum.storage.fault import NoSpace, StorageFault

if TYPE_CHECKING:
    from kvorum.server.server import Server

log = logging.getLogger(__name__)

PENDING_ROWS_MAX = 20_000  # that find no space in the tables: each try to write them holds up the loop, for 100 ms here
SPACE_RETRY_S = 0.5  # until a commit that found no space is tried again
WAITER_RETRY_S = 0.1  # until who waits for it looks again


class Commits:
    """Of one member's store, whichever it is: an installed snapshot brings another one."""

    def __init__(self, server: "Server", on_fatal: Callable[[BaseException], None]) -> None:
        self._server = server
        self._on_fatal = on_fatal
        self.is_defragmenting = False
        self.on_defragmenting: set[Callable[[], None]] = set()  # told whenever that changes
        self.has_failed = False  # for want of space: its rows are pending again
        self.commit_seconds = Histogram()
        self._thread = ThreadPoolExecutor(1, "store")
        self._ended = asyncio.Event()  # not set: a commit is under way, or somebody took the store
        self._ended.set()
        self._due = 0.0
        self._begun_index = server.machine.applied_index  # by the last commit, be it still under way
        self._durable_index = server.machine.applied_index

    @property
    def is_crammed(self) -> bool:
        """Asked while it has_failed: the tables find no space, though the log does. What is applied is held in memory
        meanwhile, and not without end."""
        return self._server.store.pending_count >= PENDING_ROWS_MAX

    def begin_if_due(self) -> None:
        """By the clock; sooner if many rows are pending."""
        server = self._server
        now = server.loop.time()
        is_crowded = server.store.pending_count >= server.settings.commit_rows_max and not self.has_failed
        if not self._ended.is_set() or (now < self._due and not is_crowded):
            return
        self._due = now + server.settings.commit_interval_ms / 1000
        if server.store.pending_count or server.machine.applied_index > self._begun_index:
            self._begin()

    def _begin(self) -> None:
        server = self._server
        server.machine.checkpoint()
        index = self._begun_index = server.machine.applied_index
        self._ended.clear()
        commit = server.store.begin_commit()
        started = time.perf_counter()
        self._thread.submit(commit).add_done_callback(
            lambda future: server.call_threadsafe(self._end, future, index, time.perf_counter() - started)
        )
        commit.wait_filled()

    def _end(self, future: "Future[None]", index: int, took_s: float) -> None:
        self.commit_seconds.observe(took_s)
        error = future.exception()
        self.has_failed = isinstance(error, NoSpace)
        if error is None:
            self._durable_index = max(self._durable_index, index)
        elif isinstance(error, NoSpace):
            self._server.store.take_back()
            self._due = self._server.loop.time() + SPACE_RETRY_S
            self._server.full_disk.note(error)
        else:
            self._on_fatal(error)
        self._ended.set()

    async def catch_up(self) -> None:
        """Everything that is applied now is durable in the store once this returns."""
        index = self._server.machine.applied_index
        while True:
            while not self._ended.is_set():
                await self._ended.wait()
            if self._durable_index >= index or self._server.stopped:
                return
            if self._begun_index >= index:
                await asyncio.sleep(WAITER_RETRY_S)  # the last one failed, for want of space
            else:
                self._begin()

    async def take(self) -> None:
        """Waits for the commit that runs; the next one waits for give_back()."""
        while not self._ended.is_set():
            await self._ended.wait()
        self._ended.clear()

    def give_back(self) -> None:
        self._ended.set()

    def all_durable(self) -> None:
        """Whoever took the store has seen to it that it holds all that is applied."""
        self._begun_index = self._durable_index = self._server.machine.applied_index

    async def defragment(self) -> None:
        """Rewrites the store's file without its free pages. Requests go on; what they write is committed afterwards.

        Raises NoSpace, StoreFailed: the file is as it was.
        """
        await self.take()
        server, store = self._server, self._server.store
        self._set_defragmenting(True)
        try:
            server.machine.checkpoint()
            copy = self._begin_defragment()
            self.all_durable()
            try:
                await server.loop.run_in_executor(self._thread, copy)
            finally:
                if not server.stopped:  # the store is closed; what there is of a copy goes when it is opened
                    store.finish_defragment()
        finally:
            self._set_defragmenting(False)
            self.give_back()

    def _set_defragmenting(self, is_defragmenting: bool) -> None:
        self.is_defragmenting = is_defragmenting
        for told in list(self.on_defragmenting):
            told()

    def _begin_defragment(self) -> Callable[[], None]:
        try:
            return self._server.store.begin_defragment()
        except NoSpace:
            raise
        except StorageFault as fault:  # of the commit before it
            self._on_fatal(fault)
            raise

    def stop(self) -> None:
        """Waits for what its thread has begun, and commits what is left."""
        self._thread.shutdown(wait=True)
        if not self._server.store.may_commit:
            return
        self._server.machine.checkpoint()
        try:
            self._server.store.commit()
        except NoSpace as full:
            log.warning("the last commit was left out, the log has it: %s", full)
