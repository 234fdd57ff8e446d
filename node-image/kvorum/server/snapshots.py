"""Snapshots of a member: its own, so that the log stays short; to followers that need one; and from its leader.

The tables are the snapshot: they are committed with the applied index, so nothing is copied to take one. What leaves
for a follower or a client is written from them by another process, in one read transaction; what comes in is turned
into tables by another process, loaded in a thread, and takes the place of the old ones in one turn of the loop once
the log durably says so. The loop itself never waits for any of it.

Order, as etcd's, so that every crash is finished at the next start: tables, .snap file, mark in the log, then what is
no longer needed is forgotten. For a received one: tables beside the old ones, .snap file, mark and commit index, then
the swap by rename.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.message import DecodeError

from kvorum.raft.log import MemoryStorage
from kvorum.raft.message import Message, Snapshot
from kvorum.server.peers import PeerRefused
from kvorum.server.snapshot_db import ConversionFailed, export_snapshot, import_snapshot
from kvorum.state.machine import Machine
from kvorum.state.membership import hex_id
from kvorum.state.v2_tree import BadV2Tree, decode_v2_tree, encode_members
from kvorum.storage.disk import FULL
from kvorum.storage.fault import NoSpace, SnapFailed, StorageFault
from kvorum.storage.lmdb_store import LmdbStore, map_bytes
from kvorum.storage.replay import Replay
from kvorum.storage.snapshot_files import SnapshotFiles

if TYPE_CHECKING:
    from kvorum.server.server import Server

log = logging.getLogger(__name__)

SENDS_MAX = 2  # snapshots that leave at once, each to another member; and as many for clients
NEVER = sys.maxsize  # an index
COMPACT_ENTRIES_A_SLICE = 5000  # below 2 ms of the loop: they are freed one by one
SPACE_RETRY_S = 1.0
SEND_PAUSE_S, SEND_PAUSE_S_MAX = 0.5, 30.0  # before a snapshot that did not arrive is made again: doubled each time
PENDING_BYTES_MAX = 4 << 20  # received, and not yet written

# What reading rows raises that nobody ever wrote so.
ROWS_THAT_ARE_NONE = (DecodeError, ValueError, KeyError, TypeError, IndexError, AttributeError, AssertionError)

T = TypeVar("T")


class SnapshotRefused(Exception):
    """A snapshot that was received cannot be used. str(): for the sender and the log."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A received snapshot, loaded and ready to take over, if raft takes it."""

    snapshot: Snapshot
    store: LmdbStore
    machine: Machine


def raft_log_from(replay: Replay, machine: Machine, catch_up_entries: int) -> MemoryStorage:
    """The log that raft starts from: what the disk has, but no more before the applied index than followers may need.

    The entry before the first one may be known by nothing but its being applied: then the first one takes its place.
    """
    entries, base = replay.entries, replay.snapshot
    if entries and entries[0].index != base.index + 1:
        base = Snapshot()
        if entries[0].index > 1:
            base, entries = Snapshot(entries[0].index, entries[0].term), entries[1:]
    assert base.index <= machine.applied_index, (base.index, machine.applied_index)  # DataDir.check_applied
    raft_log = MemoryStorage(hard_state=replay.hard_state, snapshot=base, entries=entries)
    if machine.applied_index > base.index:
        raft_log.create_snapshot(machine.applied_index, machine.conf_state, b"")
        raft_log.compact(max(base.index, machine.applied_index - catch_up_entries))
    return raft_log


class Snapshots:
    """Of one member. due_index: when more than this is applied, begin() is due."""

    def __init__(self, server: "Server", raft_log: MemoryStorage, files: SnapshotFiles) -> None:
        self._server = server
        self._raft_log = raft_log
        self._files = files
        self._count = server.settings.snapshot_count
        self._threads = ThreadPoolExecutor(4, "snapshot")
        self._sending: set[int] = set()
        self._send_pause_s: dict[int, float] = {}  # after the next failure, by member; none since it last succeeded
        self._files_lock = asyncio.Lock()  # .snap files are written, and old ones removed, one after the other
        self._keeping = 0  # snapshots that leave or left just now: the log is not compacted
        self._compacting = False
        self._for_clients = asyncio.Semaphore(SENDS_MAX)
        self._arrived: Arrived | None = None
        self._receiving = False
        self.due_index = files.marked_index + self._count
        self.taken_count = self.sent_count = self.received_count = 0

    async def in_thread(self, work: Callable[..., T], *args: Any) -> T:
        return await self._server.loop.run_in_executor(self._threads, work, *args)

    def _discard(self, path: Path) -> None:
        """Removes a file or a folder in a thread: a large one takes longer than the loop may stand still."""
        try:
            self._threads.submit(self._remove, path)
        except RuntimeError:  # stopped
            self._remove(path)

    def _remove(self, path: Path) -> None:
        try:
            self._files.remove(path)
        except OSError as error:
            log.warning("cannot remove what is not needed any more: %s", error)

    def stop(self) -> None:
        """Waits for what its threads have begun."""
        self._threads.shutdown(wait=True)
        arrived = self._arrived
        if arrived is not None and arrived.store is not self._server.store:  # the server closes its own
            arrived.store.close()

    # -- its own -----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Takes a snapshot of what is applied now."""
        self.due_index = NEVER  # before this one is done
        self._server.tasks.run(self._take_and_purge())

    async def _take_and_purge(self) -> None:
        next_index = self._server.machine.applied_index + self._count
        if await self._take():
            self._compact()
            await self._purge()
        self.due_index = max(next_index, self._files.marked_index + self._count)

    async def _take(self) -> bool:
        """False if none was taken: for now, or because the leader's is newer."""
        server = self._server
        machine = server.machine
        tree = encode_members(machine.v2)
        snapshot = Snapshot(machine.applied_index, machine.applied_term, machine.conf_state, tree)
        await server.commits.catch_up()
        try:
            await self._save(snapshot)
            await server.log_writer.write_mark(snapshot)
        except (SnapFailed, NoSpace) as error:
            log.error("no snapshot was taken; the log grows until the next one: %s", error)
            return False
        if snapshot.index <= self._files.marked_index:
            return False
        self._files.marked_index = snapshot.index
        self._raft_log.create_snapshot(snapshot.index, snapshot.conf_state, b"")
        self.taken_count += 1
        log.info("saved snapshot", extra={"snapshot-index": snapshot.index})
        return True

    async def _save(self, snapshot: Snapshot) -> None:
        async with self._files_lock:
            await self.in_thread(self._files.save, snapshot)

    def _compact(self) -> None:
        if not self._compacting and not self._keeping:
            self._compacting = True
            self._server.loop.call_soon(self._compact_slice)

    def _compact_slice(self) -> None:
        raft_log = self._raft_log
        snapshot = raft_log.snapshot()
        marked_index = snapshot.index if snapshot is not None else 0  # as far as raft knows
        wanted = marked_index - self._server.settings.snapshot_catch_up_entries
        index = min(wanted, raft_log.first_index - 1 + COMPACT_ENTRIES_A_SLICE)
        if self._keeping or self._server.stopped or index < raft_log.first_index:
            self._compacting = False
            return
        raft_log.compact(index)
        self._server.loop.call_soon(self._compact_slice)

    async def _purge(self) -> None:
        settings = self._server.settings
        try:
            async with self._files_lock:
                oldest_index = await self.in_thread(self._files.purge, settings.snapshots_max)
            await self._server.log_writer.purge(oldest_index, settings.wals_max)
        except StorageFault as error:
            log.error("old snapshots and segments of the log stay: %s", error)

    # -- to followers ------------------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Raft wants a follower to have a snapshot: makes one and sends it. Called within a turn of raft's work."""
        if message.to in self._sending or len(self._sending) >= SENDS_MAX or self._server.stopped:
            self._server.loop.call_soon(self._server.snapshot_sent, message.to, False)  # it asks again
            return
        self._sending.add(message.to)
        self._keeping += 1
        self._server.tasks.run(self._send(message))

    async def _send(self, message: Message) -> None:
        server, name = self._server, hex_id(message.to)
        arrived = False
        path = self._files.new_passing("sent")
        try:
            snapshot = await self._export(path)
            log.info("sending a snapshot", extra={"to": name, "snapshot-index": snapshot.index})
            await server.peers.send_snapshot(replace(message, snapshot=snapshot), path)
            arrived = True
            self.sent_count += 1
            log.info("sent a snapshot", extra={"to": name, "snapshot-index": snapshot.index})
        except (OSError, ConversionFailed, PeerRefused) as error:
            log.warning("a snapshot did not arrive", extra={"to": name, "why": str(error) or type(error).__name__})
        finally:
            self._discard(path)
            self._sending.discard(message.to)
            if arrived:
                server.loop.call_later(server.settings.log_kept_after_snapshot_s, self._release)
            else:
                self._release()
        if arrived:
            self._send_pause_s.pop(message.to, None)
            server.snapshot_sent(message.to, True)
        else:
            # Raft asks for the next one as soon as it hears of this: with the next heartbeat, for ever.
            pause_s = self._send_pause_s.get(message.to, SEND_PAUSE_S)
            self._send_pause_s[message.to] = min(2 * pause_s, SEND_PAUSE_S_MAX)
            server.loop.call_later(pause_s, server.snapshot_sent, message.to, False)

    def _release(self) -> None:
        self._keeping -= 1
        self._compact()

    async def _export(self, path: Path) -> Snapshot:
        """Everything applied by now, written by another process. Raises ConversionFailed."""
        server = self._server
        await server.commits.catch_up()
        missing_bytes = server.full_disk.missing_bytes(server.store.size_in_use_bytes)
        if missing_bytes:
            raise ConversionFailed(
                f"{self._files.directory}: no space for a copy of the database, {missing_bytes >> 20} MiB are missing\n"
                "  It is written there before it is sent. Free space on the volume, or enlarge it; a compaction and a "
                "defragmentation may shrink the database."
            )
        try:
            return (await export_snapshot(self._files.store_path, path)).snapshot
        finally:
            if not server.stopped:
                server.store.forget_dead_readers()  # a process that was killed would keep its pages for good

    # -- to clients --------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def exported(self) -> AsyncIterator[Path]:
        """The database with all that is applied now, as long as it is read. Waits for others who read theirs. Raises
        ConversionFailed."""
        async with self._for_clients:
            path = self._files.new_passing("sent")
            try:
                await self._export(path)
                yield path
            finally:
                self._discard(path)

    # -- from the leader ---------------------------------------------------------------------------------------------

    def receive(self, message: Message) -> "Incoming":
        """A leader's snapshot whose database is on its way. Raises SnapshotRefused."""
        server = self._server
        assert message.snapshot is not None
        if message.to != server.member_id or message.sender in server.machine.membership.removed:
            raise SnapshotRefused("not a member that may send it here")
        is_stale = message.snapshot.index <= server.raft.log.committed
        if not is_stale:
            if self._receiving:
                raise SnapshotRefused("another snapshot is being received")
            try:
                decode_v2_tree(message.snapshot.data)
            except BadV2Tree as error:
                raise SnapshotRefused(f"its members cannot be read: {error}") from error
            self._receiving = True
        return Incoming(self, message, is_stale=is_stale)

    async def write(self, path: Path, data: bytes) -> None:
        await self.in_thread(_append, path, data)

    def new_incoming_path(self) -> Path:
        return self._files.new_passing("got")

    def received(self, path: Path) -> None:
        """Of the database that came nothing is needed any more."""
        self._discard(path)
        self._receiving = False

    async def take_in(self, message: Message, path: Path) -> None:
        """A whole database is here: makes tables of it, and lets raft decide. Raises SnapshotRefused."""
        snapshot = message.snapshot
        assert snapshot is not None
        if self._arrived is not None:
            raise SnapshotRefused("another snapshot is being applied")
        tables = self._files.incoming(snapshot.index)
        try:
            await self.in_thread(self._files.remove_incoming)  # of one that was cut off
            await import_snapshot(path, tables, snapshot)
            arrived = await self._loaded(tables, snapshot)
        except (ConversionFailed, StorageFault, SnapshotRefused) as error:
            self._discard(tables)
            raise SnapshotRefused(str(error)) from error
        self._arrived = arrived
        self._server.step([message])
        if self._arrived is arrived and self._server.raft.log.snapshot is not snapshot:
            self._arrived = None  # raft knows all of it already
            arrived.store.close()
            self._discard(tables)

    async def _loaded(self, tables: Path, snapshot: Snapshot) -> Arrived:
        """Raises SnapshotRefused, StorageFault."""
        loading = self._threads.submit(self._load, tables, snapshot)
        try:
            return await asyncio.wrap_future(loading)
        except asyncio.CancelledError:
            loading.add_done_callback(_close_unused)
            raise

    def step_stale(self, message: Message) -> None:
        """It says nothing new; raft answers how far this member is."""
        self._server.step([message])

    def _load(self, tables: Path, snapshot: Snapshot) -> Arrived:
        """In a thread. Raises SnapshotRefused, StorageFault."""
        settings = self._server.settings
        store = LmdbStore.open(tables, map_size_bytes=map_bytes(max(0, settings.quota_bytes)))
        try:
            machine = Machine(
                store,
                lease_ttl_min_s=settings.lease_ttl_min_s,
                quota_bytes=settings.quota_bytes,
                persists_checkpoints=settings.lease_checkpoint_persist,
            )
            try:
                machine.load()
            except ROWS_THAT_ARE_NONE as error:
                raise SnapshotRefused(
                    f"a row of its database cannot be read ({type(error).__name__}: {error})"
                ) from error
            if machine.applied_index != snapshot.index:
                raise SnapshotRefused(
                    f"its database is of index {machine.applied_index}, the snapshot of {snapshot.index}"
                )
        except BaseException:  # whatever it was, also being cancelled: nobody else knows the store
            store.close()
            raise
        return Arrived(snapshot, store, machine)

    async def save_arrived(self, snapshot: Snapshot) -> Arrived:
        """Raft has taken a snapshot: its file is durable once this returns, and the log may mention it."""
        arrived = self._arrived
        assert arrived is not None, "raft took a snapshot that never arrived"
        assert arrived.snapshot is snapshot, (arrived.snapshot.index, snapshot.index)
        await insist(partial(self._save, snapshot))
        return arrived

    async def swap_in(self, arrived: Arrived) -> None:
        """The log mentions it, and the member has taken it over: its tables go to their place."""
        index = arrived.snapshot.index
        await self.in_thread(self._files.swap_in, index)
        self._arrived = None  # not before: the next ones to arrive clear away what has no place yet
        self._files.marked_index = index
        if self.due_index != NEVER:
            self.due_index = index + self._count
        arrived.store.moved_to(self._files.store_path)
        self.received_count += 1
        log.info("applied snapshot", extra={"snapshot-index": index, "snapshot-term": arrived.snapshot.term})


class Incoming:
    """A database on its way in, written to a file as it comes.

    on_drained: there is room for more. One that only repeats what is known (is_stale) is read over.
    """

    def __init__(self, snapshots: Snapshots, message: Message, *, is_stale: bool) -> None:
        self._snapshots = snapshots
        self._message = message
        self._is_stale = is_stale
        self._path = snapshots.new_incoming_path()
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._error: OSError | None = None
        self._ended = False
        self.on_drained: Callable[[], None] = lambda: None

    @property
    def is_full(self) -> bool:
        return self._pending_bytes > PENDING_BYTES_MAX

    def write(self, data: bytes) -> None:
        if self._is_stale or self._error is not None or self._ended:
            return
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._pending:
                data = b"".join(self._pending)
                self._pending.clear()
                await self._snapshots.write(self._path, data)
                self._pending_bytes -= len(data)
                self.on_drained()
        except OSError as error:
            self._error = error
            self._pending.clear()
            self._pending_bytes = 0
            self.on_drained()
        finally:
            self._writing = None

    async def finish(self) -> str | None:
        """All of it is here: raft is told. None: it was; else why the snapshot cannot be used."""
        if self._is_stale:
            self._snapshots.step_stale(self._message)
            return None
        try:
            if self._writing is not None:
                await self._writing
            if self._error is not None:
                raise SnapshotRefused(f"cannot write it: {self._error.strerror or self._error}")
            await self._snapshots.take_in(self._message, self._path)
        except SnapshotRefused as why:
            log.error("a snapshot was refused", extra={"from": hex_id(self._message.sender), "why": str(why)})
            return str(why)
        finally:
            self._end()
        return None

    def abandon(self) -> None:
        """The sender is gone before the end."""
        self._end()

    def _end(self) -> None:
        if self._ended or self._is_stale:
            return
        self._ended = True
        self._pending.clear()
        if self._writing is None:
            self._snapshots.received(self._path)
        else:  # a piece is being written, which would bring the file back
            self._writing.add_done_callback(lambda _: self._snapshots.received(self._path))


async def insist(write: Callable[[], Awaitable[None] | None]) -> None:
    """Writes what must be written, be it that space has to be made first: raft has taken the leader's snapshot."""
    while True:
        try:
            written = write()
            if written is not None:
                await written
            return
        except (NoSpace, SnapFailed) as error:
            if isinstance(error, SnapFailed) and error.error.errno not in FULL:
                raise
            log.error("a snapshot waits to be applied: %s", error)
        await asyncio.sleep(SPACE_RETRY_S)


def _close_unused(loading: "Future[Arrived]") -> None:
    if not loading.cancelled() and loading.exception() is None:
        loading.result().store.close()


def _append(path: Path, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)
