"""Under one member: the real write-ahead log on a simulated disk, tables with LMDB's promise, received snapshots.

A power cut loses any sectors that were not synced (power_cut.SimDisk), a kill of the process loses nothing. Beside the
bytes a plain ledger is kept of what is durable: the oracle judges by it, and after a crash the log must hold what the
ledger does, and perhaps some of what was written since the last sync. Knows nothing of who leads or what entries mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from kvorum.raft.core import Ready
from kvorum.raft.log import MemoryStorage
from kvorum.raft.message import NONE, ConfState, Entry, HardState, Snapshot
from kvorum.server.snapshots import raft_log_from
from kvorum.state.dict_store import DictStore
from kvorum.state.machine import CONF_STATE, CONSISTENT_INDEX, TERM, Machine
from kvorum.state.membership import decode_conf_state
from kvorum.state.store import ALL_TABLES, META
from kvorum.storage.entry_codec import encode_metadata
from kvorum.storage.fault import StorageFault
from kvorum.storage.replay import Replay
from kvorum.storage.segment import NO_STATE
from kvorum.storage.wal import Wal

from tests.kit.power_cut import SimDisk
from tests.sim.violation import Violation

Write = Entry | HardState | Snapshot
Tables = dict[str, dict[bytes, bytes]]

WAL_PATH = Path("/wal")
SEGMENT_BYTES = 8_192  # so that worlds of a few thousand steps cut segments
SEGMENTS_KEPT = 1
CATCH_UP_ENTRIES = 10  # kept before what is applied, at a start


class CrashStore(DictStore):
    """Tables of which what was put before the last commit() is durable, all of it or nothing."""

    def __init__(self, durable: Tables) -> None:
        self._dirty: set[tuple[str, bytes]] = set()
        super().__init__(durable)
        self._dirty.clear()
        self._durable = durable

    def put(self, table: str, key: bytes, value: bytes) -> None:
        super().put(table, key, value)
        self._dirty.add((table, key))

    def delete(self, table: str, key: bytes) -> None:
        super().delete(table, key)
        self._dirty.add((table, key))

    def commit(self) -> None:
        for table, key in self._dirty:
            value = self.get(table, key)
            if value is None:
                self._durable[table].pop(key, None)
            else:
                self._durable[table][key] = value
        self._dirty.clear()


def empty_tables() -> Tables:
    return {table: {} for table in ALL_TABLES}


def applied_index(tables: Mapping[str, Mapping[bytes, bytes]]) -> int:
    return int.from_bytes(tables[META].get(CONSISTENT_INDEX, b""), "big")


def snapshot_of(tables: Tables, name: bytes) -> Snapshot:
    """How a leader tells of tables that travel beside the message."""
    meta = tables[META]
    conf_state = decode_conf_state(meta[CONF_STATE]) if CONF_STATE in meta else ConfState()
    return Snapshot(applied_index(tables), int.from_bytes(meta.get(TERM, b""), "big"), conf_state, name)


@dataclass(slots=True)
class Ledger:
    """What is durable: entries after compacted_index, and the hard state."""

    hard_state: HardState = NO_STATE
    compacted_index: int = 0
    compacted_term: int = 0
    entries: list[Entry] = field(default_factory=list)
    applied_index: int = 0

    @property
    def last_index(self) -> int:
        return self.compacted_index + len(self.entries)

    @property
    def last_term(self) -> int:
        return self.entries[-1].term if self.entries else self.compacted_term

    @property
    def commit(self) -> int:
        """What the member will know to be committed when it starts from here."""
        return max(self.hard_state.commit, self.applied_index)

    def term(self, index: int) -> int | None:
        """Of the durable entry at index; None if it is not here. What was compacted is not asked for."""
        position = index - self.compacted_index - 1
        if position == -1:
            return self.compacted_term
        return self.entries[position].term if 0 <= position < len(self.entries) else None

    def keep(self, write: Write) -> None:
        if isinstance(write, Entry):
            position = write.index - self.compacted_index - 1
            assert 0 <= position <= len(self.entries), f"gap on the disk: {write} after {self.last_index}"
            del self.entries[position:]
            self.entries.append(write)
        elif isinstance(write, HardState):
            self.hard_state = write
        else:
            self.compacted_index, self.compacted_term = write.index, write.term
            self.entries = []

    def agrees_with(self, other: "Ledger") -> bool:
        """In votes, and in the entries that neither has compacted. (A commit index is written without a sync.)"""
        first = max(self.compacted_index, other.compacted_index)
        mine, others = (
            (ledger.hard_state.term, ledger.hard_state.vote, ledger.entries[first - ledger.compacted_index :])
            for ledger in (self, other)
        )
        return mine == others

    def forget_up_to(self, index: int) -> None:
        term = self.term(index)
        assert term is not None, (index, self.compacted_index, self.last_index)
        del self.entries[: index - self.compacted_index]
        self.compacted_index, self.compacted_term = index, term


class MemberDisk:
    """The disk of one member, for as long as the world lasts."""

    def __init__(self, member: int, bootstrap: Sequence[Entry]) -> None:
        """bootstrap: what the log of a first member begins with, committed by definition.

        Nothing for one that joins.
        """
        self.files = SimDisk()
        self.tables = empty_tables()
        self.incoming: dict[int, Tables] = {}  # received, durable, and not taken into use yet: by index
        hard_state = HardState(1, NONE, len(bootstrap)) if bootstrap else HardState()
        self.wal = Wal.create(
            WAL_PATH,
            encode_metadata(member, 1),
            hard_state,
            bootstrap,
            disk=self.files,
            segment_bytes=SEGMENT_BYTES,
        )
        self.ledger = Ledger(hard_state=hard_state, entries=list(bootstrap))
        self.store = CrashStore(self.tables)
        self._replay: Replay | None = None
        self._unsynced: list[Write] = []

    # -- while the member runs

    def write(self, ready: Ready) -> None:
        """In the order of a WAL: the hard state last, so that its commit index never points beyond the entries."""
        if ready.snapshot is not None:
            self.wal.write_received(ready.snapshot)
            self._unsynced.append(ready.snapshot)
        self.wal.write(ready.hard_state, ready.entries)
        self._unsynced.extend(ready.entries)
        if ready.hard_state is not None:
            self._unsynced.append(ready.hard_state)

    def sync(self) -> None:
        self.wal.sync()
        for write in self._unsynced:
            self.ledger.keep(write)
        self._unsynced.clear()

    def receive(self, snapshot: Snapshot, tables: Tables) -> None:
        """A leader's tables arrived whole. They wait until the log has a mark for them."""
        self.incoming[snapshot.index] = {table: dict(rows) for table, rows in tables.items()}

    def take_into_use(self, index: int) -> CrashStore:
        """The tables that were received take the place of the own ones (two renames, finished at the next start)."""
        self.tables = self.incoming.pop(index)
        self.incoming = {later: tables for later, tables in self.incoming.items() if later > index}
        self.store = CrashStore(self.tables)
        self.ledger.applied_index = applied_index(self.tables)
        return self.store

    def commit(self) -> None:
        """The tables, with the index they are at. They never run ahead of the durable log."""
        self.store.commit()
        self.ledger.applied_index = applied_index(self.tables)
        assert self.ledger.applied_index <= self.ledger.last_index, (self.ledger.applied_index, self.ledger.last_index)

    def compact(self, snapshot: Snapshot, index: int) -> None:
        """The log gets a mark for the tables as they were committed, and is needed behind index only."""
        self.wal.write_mark(snapshot)
        self.wal.sync()
        self.wal.release(snapshot.index)
        self.wal.purge(SEGMENTS_KEPT)
        self.ledger.forget_up_to(max(index, self.ledger.compacted_index))

    # -- death and life

    def crash(self, rng: Random, *, power: bool) -> None:
        """The process dies. Without power, of what was not synced any part is gone."""
        if power:
            self.files.kill()
        else:
            self.files.cut(rng)
        try:
            self.wal, replay = Wal.open(WAL_PATH, disk=self.files, segment_bytes=SEGMENT_BYTES)
        except StorageFault as fault:
            raise Violation("log refused", f"after a crash: {fault}") from fault
        self._replay = replay
        mark = replay.snapshot
        entries = [entry for entry in replay.entries if entry.index > mark.index]
        found = Ledger(
            hard_state=replay.hard_state,
            compacted_index=mark.index,
            compacted_term=mark.term,
            entries=entries,
            applied_index=applied_index(self.tables),
        )
        self._compare(found)
        self.ledger = found
        if mark.index > self.ledger.applied_index:
            if mark.index not in self.incoming:
                raise Violation(
                    "tables lost", f"the log begins behind {mark}, the tables end with {self.ledger.applied_index}"
                )
            self.take_into_use(mark.index)
        self.incoming.clear()

    def _compare(self, found: Ledger) -> None:
        """The log must hold all that was synced, and of what was not the first few writes: each of them or none."""
        kept, unsynced = self.ledger, self._unsynced
        self._unsynced = []
        is_equal = kept.agrees_with(found)
        for write in unsynced:
            if is_equal:
                return
            kept.keep(write)
            is_equal = kept.agrees_with(found)
        if not is_equal:
            raise Violation("synced writes gone", f"after a crash the log holds {found}, it should be {kept}")

    def open(self) -> CrashStore:
        """The tables that a member starts from, as of their last commit."""
        self.store = CrashStore(self.tables)
        return self.store

    def raft_log(self, machine: Machine) -> MemoryStorage:
        """The log that a member starts from, whose state machine was loaded from the tables."""
        if self._replay is None:
            return MemoryStorage(hard_state=self.ledger.hard_state, entries=self.ledger.entries)
        return raft_log_from(self._replay, machine, CATCH_UP_ENTRIES)
