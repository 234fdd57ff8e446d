"""What the records of a log add up to when it is read again: entries, hard state, snapshots.

Takes records in order and holds what a member restarts from. Knows no file; says what is wrong, the reader says where.
"""

from dataclasses import dataclass
from pathlib import Path

from kvorum.raft.message import Entry, HardState, Snapshot
from kvorum.storage.entry_codec import decode_entry, decode_hard_state, encode_hard_state
from kvorum.storage.record import CRC, ENTRY, METADATA, SNAPSHOT, STATE, CorruptRecord, Record, decode_snapshot_mark


@dataclass(frozen=True, slots=True)
class Replay:
    """A log as read at start.

    entries:  contiguous; the first has index 1 unless the log begins behind a snapshot.
    snapshot: the newest one the log mentions at or below hard_state.commit; index 0 if none was taken.
    set_aside: copy of the last segment as it was found, if its torn end had to be cut off; worth a line in the log.
    """

    metadata: bytes
    hard_state: HardState
    entries: list[Entry]
    snapshot: Snapshot
    set_aside: Path | None = None

    @property
    def last_index(self) -> int:
        """Of the newest entry, or of the snapshot where that is newer."""
        return max(self.entries[-1].index if self.entries else 0, self.snapshot.index)


class Replayer:
    """Adds up records. Raises CorruptRecord or NotRaftpb where they make no sense together."""

    def __init__(self) -> None:
        self.crc = 0
        self.metadata: bytes | None = None
        self.hard_state = HardState()
        self.entries: list[Entry] = []
        self.snapshots: list[Snapshot] = []

    @property
    def last_index(self) -> int:
        return max(self.entries[-1].index if self.entries else 0, self.snapshots[-1].index if self.snapshots else 0)

    def add(self, record: Record) -> None:
        kind, crc, data, _ = record
        if kind == CRC:
            # The first of the first segment we have is taken as it is: what came before may have been purged.
            if self.crc not in (0, crc):
                raise CorruptRecord(
                    f"this segment continues a sum of {crc:08x}, but the one before ends with {self.crc:08x}: "
                    "records at its end are lost"
                )
            self.crc = crc
            return
        self.crc = crc
        if kind == ENTRY:
            self._add_entry(decode_entry(data))
        elif kind == STATE:
            self._set_state(data)
        elif kind == SNAPSHOT:
            self.snapshots.append(decode_snapshot_mark(data))
        elif kind == METADATA:
            if self.metadata is not None and self.metadata != data:
                raise CorruptRecord("this segment belongs to another member")
            self.metadata = data

    def _set_state(self, data: bytes) -> None:
        """The checksum does not cover a record's kind, so an entry could pass for a state: it must look like one."""
        before, state = self.hard_state, decode_hard_state(data)
        if encode_hard_state(state) != data or state.term < before.term or state.commit < before.commit:
            raise CorruptRecord(f"{state} cannot follow {before}: terms and commits never go back")
        self.hard_state = state

    def _add_entry(self, entry: Entry) -> None:
        """An entry at or below the last one replaces it and all behind it: a new leader overwrote them."""
        entries = self.entries
        at = entry.index - entries[0].index if entries else 0
        if entries and at == len(entries):
            entries.append(entry)
            return
        if entries and 0 <= at < len(entries):
            commit = self.hard_state.commit
            if entry.index <= commit and entry.term != entries[at].term:
                raise CorruptRecord(
                    f"entry {entry.index} of term {entry.term} replaces a committed one: commit is {commit}"
                )
            del entries[at:]
            entries.append(entry)
            return
        # The log goes on behind a snapshot that came from the leader: what was before it is no longer needed.
        if entry.index == 1 or any(snapshot.index + 1 == entry.index for snapshot in self.snapshots):
            entries[:] = [entry]
            return
        raise CorruptRecord(f"entry {entry.index} follows entry {self.last_index}")

    def result(self) -> Replay:
        """Raises CorruptRecord if the log as a whole cannot be what was written."""
        if self.metadata is None:
            raise CorruptRecord("the log names no member: its metadata record is missing")
        commit = self.hard_state.commit
        usable = [snapshot for snapshot in self.snapshots if snapshot.index <= commit]
        snapshot = max(usable, key=lambda mark: mark.index, default=Snapshot())
        replay = Replay(self.metadata, self.hard_state, self.entries, snapshot)
        if commit > replay.last_index:
            raise CorruptRecord(f"entries up to {commit} were committed, but the log ends with {replay.last_index}")
        return replay
