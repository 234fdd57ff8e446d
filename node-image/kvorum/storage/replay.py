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

    entries:  contiguous; the first has index 1 unless what is before it was purged, or came as a snapshot.
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
    """Adds up records. Raises CorruptRecord or NotRaftpb where they make no sense together.

    first_index_max: of the log's first entry; above 1 where the segments before have been purged.
    """

    def __init__(self, first_index_max: int = 1) -> None:
        self.crc = 0
        self.metadata: bytes | None = None
        self.hard_state = HardState()
        self.entries: list[Entry] = []
        self.snapshots: list[Snapshot] = []
        self._first_index_max = first_index_max
        self._received: Snapshot | None = None  # a leader's; whether the member took it, the next record says

    @property
    def last_index(self) -> int:
        return max(self.entries[-1].index if self.entries else 0, self._newest_snapshot().index)

    @property
    def ends_with_received(self) -> bool:
        """Whether the last record is the mark of a snapshot that did not come to count. It must not stay the last."""
        return self._received is not None

    def _newest_snapshot(self) -> Snapshot:
        """Of those at or below the commit: the write of a mark may have been torn off before what makes it good."""
        usable = [mark for mark in self.snapshots if mark.index <= self.hard_state.commit]
        return max(usable, key=lambda mark: mark.index, default=Snapshot())

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
            self._add_snapshot(decode_snapshot_mark(data))
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
        received, self._received = self._received, None
        if received is not None and state.commit >= received.index:
            self.entries.clear()

    def _add_snapshot(self, mark: Snapshot) -> None:
        """A member snapshots what it has committed; a mark above that is of a snapshot that came from its leader.

        Such a one counts if the very next record goes on behind it. Else a crash tore that off: the log is as before.
        """
        self.snapshots.append(mark)
        if mark.index > self.hard_state.commit:
            self._received = mark

    def _add_entry(self, entry: Entry) -> None:
        """An entry at or below the last one replaces it and all behind it: a new leader overwrote them."""
        entries = self.entries
        received, self._received = self._received, None
        if received is not None and entry.index == received.index + 1:
            entries[:] = [entry]  # etcd writes entries before the state that commits the snapshot
            return
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
        if not self._may_begin_with(entry.index):
            raise CorruptRecord(f"entry {entry.index} follows entry {self.last_index}")
        entries[:] = [entry]

    def _may_begin_with(self, index: int) -> bool:
        """The log goes on behind a snapshot that came from the leader; or it begins with the oldest segment that is
        left, whose first entries a new leader may have replaced together with some of the segment before."""
        if index == 1 or any(snapshot.index + 1 == index for snapshot in self.snapshots):
            return True
        is_head = not self.entries or index < self.entries[0].index
        return is_head and self.hard_state.commit < index <= self._first_index_max

    def result(self) -> Replay:
        """Raises CorruptRecord if the log as a whole cannot be what was written."""
        if self.metadata is None:
            raise CorruptRecord("the log names no member: its metadata record is missing")
        replay = Replay(self.metadata, self.hard_state, self.entries, self._newest_snapshot())
        commit = self.hard_state.commit
        if commit > replay.last_index:
            raise CorruptRecord(f"entries up to {commit} were committed, but the log ends with {replay.last_index}")
        if self.entries and self.entries[0].index > replay.snapshot.index + 1:
            raise CorruptRecord(
                f"the log begins with entry {self.entries[0].index}, and no snapshot it mentions reaches that far"
            )
        return replay
