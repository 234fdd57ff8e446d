"""The replicated log: a stable part that is on disk, and an unstable part that is on its way there.

MemoryStorage is the stable part: what the WAL holds, kept in memory, because followers ask for it. Log is what the core
works with: the stable part, with the unstable entries (and at most one snapshot) laid over it. An entry moves from one
to the other when whoever writes the disk says so, and not before; so writes may be in flight while the core goes on,
one at a time (became_durable) or several (became_stable).
Knows no messages, members or roles. Hot path: entries are held in plain lists with an offset, an index is a
subtraction.
"""

from bisect import bisect_right
from collections.abc import Sequence

from kvorum.raft.message import ConfState, Entry, EntryType, HardState, Snapshot
from kvorum.raft.trace import Level, Trace, silent

ENTRY_OVERHEAD_BYTES = 24  # what an entry weighs besides its data: type, term, index and lengths, as raftpb has them
BYTES_UNLIMITED = 1 << 62


def within_bytes(entries: Sequence[Entry], bytes_max: int) -> Sequence[Entry]:
    """The longest head of entries within bytes_max. At least one: an entry that is larger travels alone."""
    total_bytes = 0
    for count, entry in enumerate(entries):
        total_bytes += len(entry.data) + ENTRY_OVERHEAD_BYTES
        if total_bytes > bytes_max and count > 0:
            return entries[:count]
    return entries


def size_bytes(entries: Sequence[Entry]) -> int:
    """What within_bytes counts."""
    return sum(len(entry.data) + ENTRY_OVERHEAD_BYTES for entry in entries)


class MemoryStorage:
    """The stable log: entries (compacted, last], the hard state, the configuration at the time of the start.

    Written by RawNode.advance(), when the caller has made a Ready durable; with asynchronous storage writes by whoever
    does STORAGE_APPEND; at first by who replays the WAL.
    """

    __slots__ = ("_compacted_index", "_compacted_term", "_entries", "_snapshot", "conf_state", "hard_state")

    def __init__(
        self,
        *,
        hard_state: HardState | None = None,
        conf_state: ConfState | None = None,
        entries: Sequence[Entry] = (),
        snapshot: Snapshot | None = None,
    ) -> None:
        """conf_state: as of the applied index that RawNode is started with; by default the snapshot's."""
        self.hard_state = hard_state or HardState()
        self._snapshot = snapshot or Snapshot()
        self.conf_state = conf_state or self._snapshot.conf_state
        self._compacted_index = self._snapshot.index
        self._compacted_term = self._snapshot.term
        self._entries: list[Entry] = []
        self.append(entries)

    @property
    def first_index(self) -> int:
        """Of the oldest entry that is still here; last_index + 1 if there is none."""
        return self._compacted_index + 1

    @property
    def last_index(self) -> int:
        return self._compacted_index + len(self._entries)

    def term(self, index: int) -> int | None:
        """Term of the entry at index, or of the one before the first; None if compacted or not there yet."""
        position = index - self._compacted_index - 1
        if position < 0:
            return self._compacted_term if position == -1 else None
        return self._entries[position].term if position < len(self._entries) else None

    def entries(self, low: int, high: int, bytes_max: int = BYTES_UNLIMITED) -> Sequence[Entry]:
        """Entries low <= index < high, cut at bytes_max but at least one. The range must be here."""
        offset = self._compacted_index + 1
        assert offset <= low <= high <= offset + len(self._entries), (offset, low, high, self.last_index)
        return within_bytes(self._entries[low - offset : high - offset], bytes_max)

    def append(self, entries: Sequence[Entry]) -> None:
        """Puts entries in place of all from the first one's index on. The same ones twice change nothing."""
        if not entries:
            return
        position = entries[0].index - self._compacted_index - 1
        if position == len(self._entries):
            self._entries.extend(entries)
            return
        assert position <= len(self._entries), f"gap in the log: {entries[0].index} after {self.last_index}"
        if position < 0:  # their head was compacted away meanwhile
            entries = entries[-position:]
            if not entries:
                return
            position = 0
        del self._entries[position:]
        self._entries.extend(entries)

    def set_hard_state(self, hard_state: HardState) -> None:
        self.hard_state = hard_state

    def snapshot(self) -> Snapshot | None:
        """The newest snapshot to send to a follower that needs compacted entries; None if none can be had now."""
        return self._snapshot if self._snapshot.index > 0 else None

    def create_snapshot(self, index: int, conf_state: ConfState, data: bytes) -> Snapshot:
        """Notes that the state machine's state at index, with the configuration then, is data. Compacts nothing."""
        term = self.term(index)
        assert term is not None, (index, self.first_index, self.last_index)
        assert index >= self._snapshot.index, (index, self._snapshot.index)
        self._snapshot = Snapshot(index, term, conf_state, data)
        return self._snapshot

    def compact(self, index: int) -> None:
        """Forgets the entries up to and including index. A snapshot at or after index must exist."""
        snapshot = self.snapshot() or Snapshot()
        assert self._compacted_index <= index <= snapshot.index, (self._compacted_index, index, snapshot.index)
        term = self.term(index)
        assert term is not None
        del self._entries[: index - self._compacted_index]
        self._compacted_index, self._compacted_term = index, term

    def restore(self, snapshot: Snapshot) -> None:
        """Becomes a log that begins after snapshot: what was here before is gone."""
        assert snapshot.index >= self._snapshot.index, (snapshot.index, self._snapshot.index)
        self._snapshot = snapshot
        self.conf_state = snapshot.conf_state
        self._entries = []
        self._compacted_index, self._compacted_term = snapshot.index, snapshot.term


class Log:
    """The log as the core sees it.

    applied <= applying <= committed <= last_index: what is up to applying has been in a Ready. Unstable entries begin
    at offset; those before handed_offset are in a Ready that is being written. Nothing up to committed ever changes:
    asserted at each place that could.
    """

    __slots__ = (
        "_applies_unstable",
        "_applying_bytes",
        "_applying_is_full",
        "_storage",
        "_trace",
        "_unstable",
        "applied",
        "applying",
        "committed",
        "handed_offset",
        "last_index",
        "last_term",
        "offset",
        "snapshot",
        "snapshot_handed",
    )

    def __init__(
        self,
        storage: MemoryStorage,
        *,
        committed: int,
        applied: int,
        applies_unstable: bool = True,
        trace: Trace = silent,
    ) -> None:
        """committed may lag: the commit index of a hard state is written without a sync, the applied index is not.

        applies_unstable: a Ready is written before what it gives to apply is applied, so that may be in the same Ready.
        """
        self._storage = storage
        self._applies_unstable = applies_unstable
        self._trace = trace
        self._unstable: list[Entry] = []
        self.snapshot: Snapshot | None = None  # received, and not yet durable
        self.snapshot_handed = False
        self.last_index = storage.last_index
        self.last_term = storage.term(storage.last_index) or 0
        self.offset = self.handed_offset = self.last_index + 1
        self.applied = self.applying = max(applied, storage.first_index - 1)
        self._applying_bytes = (
            0  # counted with asynchronous storage writes alone; else one Ready at a time is the limit
        )
        self._applying_is_full = False
        self.committed = max(committed, self.applied)
        assert self.committed <= self.last_index, (
            f"log ends at {self.last_index}, before {self.committed}: entries were lost"
        )

    # -- reading

    @property
    def first_index(self) -> int:
        return self.snapshot.index + 1 if self.snapshot is not None else self._storage.first_index

    @property
    def durable_index(self) -> int:
        """Up to here the log is on disk, as it is now."""
        return self.offset - 1

    def term(self, index: int) -> int | None:
        """Term of the entry at index; None if it was compacted or is not there. Index 0 has term 0."""
        if index == self.last_index:
            return self.last_term
        position = index - self.offset
        if position >= 0:
            return self._unstable[position].term if position < len(self._unstable) else None
        if self.snapshot is not None:
            return self.snapshot.term if index == self.snapshot.index else None
        return self._storage.term(index)

    def entries(self, low: int, high: int, bytes_max: int = BYTES_UNLIMITED) -> Sequence[Entry]:
        """Entries low <= index < high, cut at bytes_max but at least one. The range must be here: see first_index."""
        assert low <= high <= self.last_index + 1, (low, high, self.last_index)
        offset = self.offset
        if low >= offset:
            return within_bytes(self._unstable[low - offset : high - offset], bytes_max)
        assert self.snapshot is None, f"{low} is before the snapshot at {self.snapshot}"
        if high <= offset:
            return self._storage.entries(low, high, bytes_max)
        both = [*self._storage.entries(low, offset), *self._unstable[: high - offset]]
        return within_bytes(both, bytes_max)

    def is_up_to_date(self, index: int, term: int) -> bool:
        """Whether a log that ends so holds all that this one may have seen committed (Raft paper, 5.4.1)."""
        return term > self.last_term or (term == self.last_term and index >= self.last_index)

    def last_with_term_at_most(self, term: int, index: int) -> int:
        """The highest index, from index down, whose term is at most term; one below first_index if there is none here.

        Terms never decrease along a log, so this is a search by halves.
        """
        low, index = self.first_index - 1, min(index, self.last_index)
        if index <= low:
            return index
        return low + bisect_right(range(low + 1, index + 1), term, key=self._known_term)

    def _known_term(self, index: int) -> int:
        term = self.term(index)
        assert term is not None, (index, self.first_index, self.last_index)
        return term

    def has_unapplied_conf_change(self) -> bool:
        """Whether a committed configuration is not in force yet. Looks at each entry that waits to be applied."""
        low = max(self.applied + 1, self.first_index)
        return any(entry.type != EntryType.NORMAL for entry in self.entries(low, max(low, self.committed + 1)))

    def index_committed_by_rule(self) -> int:
        """The newest conf change with another one after it, which makes it committed; else what is known already.

        A leader proposes a change only when the one before is applied, and tells its commit index along with it. A torn
        write can keep the entries of an append without that commit index; who campaigned then by the configuration of
        two changes ago could win with voters that have nothing in common with those who committed since.
        """
        entries = self.entries(self.committed + 1, self.last_index + 1)
        changes = [entry.index for entry in entries if entry.type != EntryType.NORMAL]
        return changes[-2] if len(changes) > 1 else self.committed

    # -- writing

    def append(self, entries: Sequence[Entry]) -> None:
        """A leader adds to its own log. The entries carry on where it ends."""
        assert entries[0].index == self.last_index + 1, (entries[0].index, self.last_index)
        assert entries[0].term >= self.last_term, f"terms never fall along a log: {entries[0]} after {self.last_term}"
        self._unstable.extend(entries)
        last = entries[-1]
        self.last_index, self.last_term = last.index, last.term

    def extend(self, *, after: int, term: int, entries: Sequence[Entry]) -> int | None:
        """A follower takes a leader's entries, if its own log has the entry after/term before them (Raft paper, 5.3).

        Returns the index up to which both logs are then known to be equal; None if that entry is missing or another.
        """
        if self.term(after) != term:
            return None
        if not entries:
            return after
        last_new = after + len(entries)
        assert (entries[0].index, entries[-1].index) == (after + 1, last_new), (after, entries[0], entries[-1])
        if after < self.last_index:  # the leader repeats itself, or our tail is of another leader
            position = self._first_difference(entries)
            if position == len(entries):
                return last_new
            if position > 0:
                entries = entries[position:]
            if entries[0].index <= self.last_index:
                self._trace_conflict(entries[0])
                self._truncate(entries[0].index - 1)
        self.append(entries)
        return last_new

    def _first_difference(self, entries: Sequence[Entry]) -> int:
        """Position of the first entry that is not in this log, by its term; their number if all are."""
        for position, entry in enumerate(entries):
            if self.term(entry.index) != entry.term:
                return position
        return len(entries)

    def _trace_conflict(self, entry: Entry) -> None:
        self._trace(
            Level.INFO,
            "found conflict at index %d [existing term: %d, conflicting term: %d]",
            entry.index,
            self._known_term(entry.index),
            entry.term,
        )
        kept = (
            "replace the unstable entries from"
            if entry.index <= self.offset
            else "truncate the unstable entries before"
        )
        self._trace(Level.INFO, f"{kept} index %d", entry.index)

    def _truncate(self, last: int) -> None:
        """Drops the entries after last: they are of a leader whose term has passed."""
        assert last >= self.committed, f"cannot drop committed entries: {last} < {self.committed}"
        if last + 1 < self.offset:  # reaches into what is on disk: the next write there replaces it
            self._unstable.clear()
            self.offset = last + 1
        else:
            del self._unstable[last + 1 - self.offset :]
        self.handed_offset = min(self.handed_offset, last + 1)
        last_term = self.term(last) if last != self.last_index else self.last_term
        assert last_term is not None
        self.last_index, self.last_term = last, last_term

    def commit(self, index: int) -> bool:
        """Raises the commit index; False if it was as high already."""
        if index <= self.committed:
            return False
        assert index <= self.last_index, (
            f"commit {index} is beyond the log's end {self.last_index}: was the log lost or damaged?"
        )
        self.committed = index
        return True

    def restore(self, snapshot: Snapshot) -> None:
        """Replaces the whole log by a snapshot of what is committed."""
        assert snapshot.index > self.committed, (snapshot.index, self.committed)
        text = "log [%s] starts to restore snapshot [index: %d, term: %d]"
        self._trace(Level.INFO, text, self, snapshot.index, snapshot.term)
        self._unstable.clear()
        self.snapshot, self.snapshot_handed = snapshot, False
        self.offset = self.handed_offset = snapshot.index + 1
        self.last_index, self.last_term = snapshot.index, snapshot.term
        self.committed = snapshot.index

    # -- handing over to the disk and to the state machine

    def unhanded(self) -> Sequence[Entry]:
        """The entries that are in no Ready yet."""
        return self._unstable[self.handed_offset - self.offset :]

    def has_unhanded(self) -> bool:
        return self.handed_offset <= self.last_index or (self.snapshot is not None and not self.snapshot_handed)

    def hand_over(self, committed: Sequence[Entry] = ()) -> None:
        """All unstable entries, and the snapshot, are in the Ready that is now written; these are applied with it."""
        self.handed_offset = self.last_index + 1
        self.snapshot_handed = self.snapshot is not None
        if committed:
            self.applying = committed[-1].index

    def became_durable(self, entries: Sequence[Entry], snapshot: Snapshot | None) -> None:
        """What was handed over is on disk. Some of it may have been replaced meanwhile: that stays unstable."""
        if snapshot is not None:
            self._storage.restore(snapshot)
            if self.snapshot is snapshot:
                self.snapshot, self.snapshot_handed = None, False
        self._storage.append(entries)
        del self._unstable[: self.handed_offset - self.offset]
        self.offset = self.handed_offset

    def has_unstable(self) -> bool:
        return self.offset <= self.last_index

    def became_stable(self, index: int, term: int) -> None:
        """The log up to this entry is in the storage, and no write that is under way reaches below it. If the entry is
        another one here, it has been replaced meanwhile, and that stays unstable."""
        if index < self.offset and self.snapshot is not None and self.snapshot.index == index:
            self._trace(Level.INFO, "entry at index %d matched unstable snapshot; ignoring", index)
        elif not self.offset <= index <= self.last_index:
            self._trace(Level.INFO, "entry at index %d missing from unstable log; ignoring", index)
        elif (found := self._known_term(index)) != term:
            text = "entry at (index,term)=(%d,%d) mismatched with entry at (%d,%d) in unstable log; ignoring"
            self._trace(Level.INFO, text, index, term, index, found)
        else:
            del self._unstable[: index + 1 - self.offset]
            self.offset = index + 1
            self.handed_offset = max(self.handed_offset, self.offset)

    def snapshot_became_stable(self, index: int) -> None:
        """The same of a snapshot."""
        if self.snapshot is not None and self.snapshot.index == index:
            self.snapshot, self.snapshot_handed = None, False

    def unapplied(self, bytes_max: int) -> Sequence[Entry]:
        """Committed entries to apply next. None before a received snapshot is durable: they follow it.

        bytes_max: of all that are given out and not applied; at least one entry, if nothing else is.
        """
        last = self.committed if self._applies_unstable else min(self.committed, self.offset - 1)
        if self.applying >= last or self.snapshot is not None or self._applying_is_full:
            return ()
        return self.entries(self.applying + 1, last + 1, bytes_max - self._applying_bytes)

    def has_unapplied(self) -> bool:
        last = self.committed if self._applies_unstable else min(self.committed, self.offset - 1)
        return self.applying < last and self.snapshot is None and not self._applying_is_full

    def count_applying(self, entries: Sequence[Entry], bytes_max: int) -> None:
        """These are now applied while more may be asked for: not beyond bytes_max together with these."""
        self._applying_bytes += size_bytes(entries)
        is_cut = self.applying < min(self.committed, self.offset - 1)  # the next one would have exceeded bytes_max
        self._applying_is_full = is_cut or self._applying_bytes >= bytes_max

    def count_applied(self, entries: Sequence[Entry], bytes_max: int) -> None:
        """The end of it."""
        self._applying_bytes = max(0, self._applying_bytes - size_bytes(entries))
        self._applying_is_full = self._applying_bytes >= bytes_max

    def became_applied(self, index: int) -> None:
        assert self.applied <= index <= self.committed, (self.applied, index, self.committed)
        self.applied = index
        if index > self.applying:  # a snapshot
            self.applying = index

    def snapshot_to_send(self) -> Snapshot | None:
        """For a follower whose next entry was compacted. None: not now."""
        return self._storage.snapshot()
