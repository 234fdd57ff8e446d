"""The write-ahead log: what a member must not forget, in etcd's byte format, so that each can read the other's.

Hot path: encode and append cost below 3 us an entry in batches; one write for a batch. Knows entries and hard
states, not who leads or what an entry means. Keeps: nothing is acknowledged before sync() returned (the owner's part);
after a failed write or sync nothing is tried again; a torn end is cut off, any other fault refuses to start. A full
disk is no failure: a write that found no space has not happened, and a segment that cannot be made is made later.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

from kvorum.raft.message import Entry, HardState, Snapshot
from kvorum.storage.disk import FULL, Disk, File
from kvorum.storage.entry_codec import NotRaftpb, decode_entry, encode_entry, encode_hard_state
from kvorum.storage.fault import CorruptWal, Locked, NoSpace, WalFailed
from kvorum.storage.record import (
    CRC,
    ENTRY,
    SNAPSHOT,
    STATE,
    CorruptRecord,
    TornRecord,
    encode_record,
    encode_snapshot_mark,
    extend_crc,
    read_record,
)
from kvorum.storage.replay import Replay, Replayer
from kvorum.storage.segment import HEAD, NO_STATE, SEGMENT_BYTES, SegmentName, encode_head, segment_names

_TMP = ".tmp"


class Wal:
    """One member's log, open for appending. One thread writes; sync() may run in another while nobody writes."""

    def __init__(
        self,
        disk: Disk,
        directory: Path,
        segments: list[tuple[SegmentName, File]],
        replayed: Replayer,
        offset: int,
        segment_bytes: int,
    ) -> None:
        """Not for use outside: create() and open() make one."""
        assert replayed.metadata is not None
        self._disk = disk
        self._directory = directory
        self._segments = segments  # all of them stay open: an open file is a locked file
        self._tail = segments[-1][1]
        self._metadata = replayed.metadata
        self._crc = replayed.crc
        self._offset = offset
        self._last_index = replayed.last_index
        self._hard_state = replayed.hard_state  # as last given, written or not
        self._state_is_pending = False
        self._is_synced = True
        self._segment_bytes = segment_bytes
        self._failure: WalFailed | None = None
        self.is_short_of_space = False  # the segment is full, and there was no space for the next one

    # --- birth -----------------------------------------------------------------------------------------------------

    @staticmethod
    def exists(directory: Path, disk: Disk | None = None) -> bool:
        """Whether the directory holds a log. A creation that was interrupted left none."""
        return bool(segment_names(disk or Disk(), directory))

    @classmethod
    def create(
        cls,
        directory: Path,
        metadata: bytes,
        hard_state: HardState = NO_STATE,
        entries: Sequence[Entry] = (),
        *,
        disk: Disk | None = None,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> Self:
        """A new log in `directory`, which is absent, durable with all it was given once this returns, or not there.

        metadata: who the member is (entry_codec.encode_metadata). hard_state, entries: of a static bootstrap, where
        each member writes the same entries and they are committed by definition; none for a member that joins.
        Raises WalFailed, Locked.
        """
        disk = disk or Disk()
        nursery = directory.with_name(directory.name + _TMP)
        name = SegmentName(0, 0)
        doing = "create the log"
        try:
            disk.remove(nursery)  # of a creation that was interrupted
            disk.make_directory(nursery)
            tail = disk.create(nursery / str(name))
            _lock(tail, nursery / str(name))
            tail.allocate(segment_bytes)
            head, crc = encode_head(0, metadata, NO_STATE)
            mark = encode_snapshot_mark(Snapshot())
            crc = extend_crc(crc, mark)
            head += encode_record(SNAPSHOT, crc, mark)
            tail.pwrite(head, 0)
            replayed = Replayer()
            replayed.crc, replayed.metadata = crc, metadata
            wal = cls(disk, directory, [(name, tail)], replayed, len(head), segment_bytes)
            wal.write(hard_state, entries)
            wal._write_pending_state()
            tail.fsync()
            disk.sync_directory(nursery)
            disk.rename(nursery, directory)
            disk.sync_directory(directory.parent)
        except OSError as error:
            raise WalFailed(directory, doing, error) from error
        wal._is_synced = True
        return wal

    @classmethod
    def open(
        cls, directory: Path, *, disk: Disk | None = None, segment_bytes: int = SEGMENT_BYTES
    ) -> tuple[Self, Replay]:
        """The log in `directory`, locked, its torn end cut off, and what it holds.

        Raises CorruptWal if it holds what was never written so, Locked if another process has it, WalFailed if it
        cannot be read or repaired.
        """
        disk = disk or Disk()
        whole = _read_whole(disk, directory)
        try:
            set_aside = _mend(disk, directory, whole, segment_bytes)
        except OSError as error:
            _close(whole.segments)
            raise WalFailed(directory, "read the log", error) from error
        replayer, replay = whole.replayer, replace(whole.replay, set_aside=set_aside)
        wal = cls(disk, directory, whole.segments, replayer, whole.offset, segment_bytes)
        if replayer.ends_with_received:
            wal._state_is_pending = True
            wal._write_pending_state()
        return wal, replay

    # --- life ------------------------------------------------------------------------------------------------------

    @property
    def last_index(self) -> int:
        """Index of the last entry written, synced or not; 0 if there is none."""
        return self._last_index

    def write(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Append the entries and the hard state. Not durable before sync() returns.

        A hard state that only commits more is kept back until something else is written: it can be learned again,
        and with each batch of entries one is enough. Raises WalFailed; and NoSpace: call it again with the same then.
        """
        if self._failure is not None:
            raise self._failure
        parts: list[bytes] = []
        crc = self._crc
        if entries:
            index = entries[0].index
            assert 0 < index <= self._last_index + 1, (index, self._last_index)
            for entry in entries:
                assert entry.index == index, (entry, index)
                index += 1
                data = encode_entry(entry)
                crc = extend_crc(crc, data)
                parts.append(encode_record(ENTRY, crc, data))
            # Bytes that were made for another place in the log (a proposal's, say) would poison it unseen.
            assert decode_entry(data) == entry, (entry, data[:32])
        kept = self._hard_state, self._state_is_pending
        if hard_state is not None and hard_state != self._hard_state:
            known = self._hard_state
            must_write = hard_state.term != known.term or hard_state.vote != known.vote
            self._hard_state = hard_state
            self._state_is_pending = True
        else:
            must_write = False
        if self._state_is_pending and (parts or must_write):
            data = encode_hard_state(self._hard_state)
            crc = extend_crc(crc, data)
            parts.append(encode_record(STATE, crc, data))
            self._state_is_pending = False
        if parts:
            try:
                self._append(b"".join(parts), crc)
            except NoSpace:
                self._hard_state, self._state_is_pending = kept
                raise
            if entries:
                self._last_index = entries[-1].index

    def write_mark(self, snapshot: Snapshot) -> None:
        """Note that this member has snapshotted what it applied up to snapshot.index. Not durable before sync().

        The commit index goes first: a mark above it would be read as one of a snapshot that came from a leader.
        Raises WalFailed; and NoSpace: call it again then, or leave it.
        """
        if self._failure is not None:
            raise self._failure
        assert snapshot.index <= self._hard_state.commit, (snapshot, self._hard_state)
        self._write_pending_state()
        self._append_mark(snapshot)

    def write_received(self, snapshot: Snapshot) -> None:
        """The log goes on behind a leader's snapshot: what it held before is void. Not durable before sync().

        The commit index that makes it so follows at once, and before any entries. Raises WalFailed; and NoSpace: call
        it again then.
        """
        if self._failure is not None:
            raise self._failure
        assert snapshot.index > self._hard_state.commit, (snapshot, self._hard_state)
        hard_state = replace(self._hard_state, commit=snapshot.index)
        mark, state = encode_snapshot_mark(snapshot), encode_hard_state(hard_state)
        mark_crc = extend_crc(self._crc, mark)
        state_crc = extend_crc(mark_crc, state)
        self._append(encode_record(SNAPSHOT, mark_crc, mark) + encode_record(STATE, state_crc, state), state_crc)
        self._hard_state, self._state_is_pending = hard_state, False
        self._last_index = snapshot.index

    def release(self, index: int) -> None:
        """Unlock the segments that a member does not need who restarts from a snapshot at index: purge() may take
        them. As in etcd the one that held that entry stays."""
        needed = [position for position, (name, _) in enumerate(self._segments) if name.first_index <= index]
        first = needed[-1] if needed else 0
        released, self._segments = self._segments[:first], self._segments[first:]
        _close(released)

    def purge(self, keep_count: int) -> None:
        """Delete the oldest segments until keep_count are left (0: all); none that is needed, or that somebody has
        locked. Touches no file that is written to: may run in another thread. Raises WalFailed."""
        try:
            names = segment_names(self._disk, self._directory)
            for name in names[:-keep_count] if keep_count else []:
                if name >= self._segments[0][0] or not self._remove(self._directory / str(name)):
                    break
        except OSError as error:
            raise WalFailed(self._directory, "purge old segments", error) from error

    def _remove(self, path: Path) -> bool:
        """False if somebody reads it. One at a time becomes durable: a gap between two would look like damage."""
        file = self._disk.open(path)
        try:
            if not file.lock():
                return False
            self._disk.remove(path)
            self._disk.sync_directory(self._directory)
            return True
        finally:
            file.close()

    def sync(self) -> None:
        """Everything written is on the disk once this returns. Cuts the segment if it is full (about 1 ms); where there
        is no space for the next one (is_short_of_space) this one grows.

        Raises WalFailed, and then each later call does: the process must end.
        """
        if self._failure is not None:
            raise self._failure
        if self._is_synced:
            return
        try:
            self._tail.fdatasync()
            self._is_synced = True
            if self._offset >= self._segment_bytes and not self.is_short_of_space:
                self._cut()
        except OSError as error:
            raise self._fail("sync", error) from error

    def find_space(self) -> None:
        """Tries again to begin the segment that found no space. Nothing while what was written is not synced.

        Raises WalFailed.
        """
        if self._failure is not None:
            raise self._failure
        if self.is_short_of_space and self._is_synced:
            self.is_short_of_space = False
            try:
                self._cut()
            except OSError as error:
                raise self._fail("begin a segment", error) from error

    def close(self) -> None:
        """Write what was kept back, sync, unlock. After a failure: only unlock."""
        if self._failure is None:
            with suppress(NoSpace):  # how far was committed can be learned again
                self._write_pending_state()
            self.sync()
        _close(self._segments)
        self._segments = []

    def _write_pending_state(self) -> None:
        if self._state_is_pending:
            data = encode_hard_state(self._hard_state)
            crc = extend_crc(self._crc, data)
            self._append(encode_record(STATE, crc, data), crc)
            self._state_is_pending = False

    def _append_mark(self, snapshot: Snapshot) -> None:
        data = encode_snapshot_mark(snapshot)
        crc = extend_crc(self._crc, data)
        self._append(encode_record(SNAPSHOT, crc, data), crc)

    def _append(self, data: bytes, crc: int) -> None:
        self._is_synced = False
        try:
            self._tail.pwrite(data, self._offset)
        except OSError as error:
            if error.errno not in FULL:
                raise self._fail("write", error) from error
            self._take_back(len(data))
            raise NoSpace(self._directory / str(self._segments[-1][0]), "write to the log") from error
        self._offset += len(data)
        self._crc = crc

    def _take_back(self, size_bytes: int) -> None:
        """Of a write of so many bytes that found no space: what is there of it becomes zeros again."""
        try:
            left = min(size_bytes, self._tail.size() - self._offset)
            try:
                self._tail.pwrite(bytes(max(0, left)), self._offset)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                self._tail.truncate(self._offset)  # a file system that needs space even to write over
        except OSError as error:
            raise self._fail("take a write back", error) from error

    def _cut(self) -> None:
        """End this segment and begin the next: it appears under its name only when its head is on the disk."""
        name = SegmentName(self._segments[-1][0].sequence + 1, self._last_index + 1)
        path = self._directory / str(name)
        nursery = path.with_suffix(_TMP)
        head, crc = encode_head(self._crc, self._metadata, self._hard_state)
        tail = self._begin_segment(nursery, head)
        if tail is None:
            self.is_short_of_space = True
            return
        tail.fsync()
        self._tail.truncate(self._offset)
        self._tail.fsync()
        self._disk.rename(nursery, path)
        self._disk.sync_directory(self._directory)
        self._segments.append((name, tail))
        self._tail, self._offset, self._crc = tail, len(head), crc
        self._state_is_pending = False  # the head has it

    def _begin_segment(self, nursery: Path, head: bytes) -> File | None:
        """None, and nothing left of it, where there is no space."""
        tail = None
        try:
            tail = self._disk.create(nursery)
            _lock(tail, nursery)
            tail.allocate(self._segment_bytes)
            tail.pwrite(head, 0)
        except OSError as error:
            if tail is not None:
                tail.close()
            if error.errno not in FULL:
                raise
            self._disk.remove(nursery)
            return None
        return tail

    def _fail(self, doing: str, error: OSError) -> WalFailed:
        name = self._segments[-1][0] if self._segments else ""
        self._failure = WalFailed(self._directory / str(name), doing, error)
        return self._failure


@dataclass(frozen=True, slots=True)
class LogRead:
    """A log that was only read. torn: why its last record is no whole one, "" if it is; a member would cut it off."""

    replay: Replay
    segments_count: int
    torn: str


def read_log(directory: Path, *, disk: Disk | None = None) -> LogRead:
    """What the log in `directory` holds, for who changes nothing of it. Raises CorruptWal, Locked, WalFailed."""
    whole = _read_whole(disk or Disk(), directory)
    _close(whole.segments)
    return LogRead(whole.replay, len(whole.segments), whole.torn)


class _Whole(NamedTuple):
    """A log that was found good: its files are open and locked, nothing of them is changed.

    content: of the last segment; its last good record ends at offset. torn: why the next one is none, "" if it is.
    """

    segments: list[tuple[SegmentName, File]]
    replayer: Replayer
    replay: Replay
    content: bytes
    offset: int
    torn: str


def _read_whole(disk: Disk, directory: Path) -> _Whole:
    """Raises CorruptWal, Locked, WalFailed."""
    names = segment_names(disk, directory)
    if not names:
        raise CorruptWal(directory, None, "holds no segment of a log")
    segments: list[tuple[SegmentName, File]] = []
    try:
        for name in names:
            segments.append((name, _open_locked(disk, directory / str(name))))
        replayer = Replayer(names[0].first_index)
        content, offset, torn = _read_segments(directory, segments, replayer)
        return _Whole(segments, replayer, _result(directory, names, replayer), content, offset, torn)
    except OSError as error:
        _close(segments)
        raise WalFailed(directory, "read the log", error) from error
    except (CorruptWal, Locked):
        _close(segments)
        raise


def _mend(disk: Disk, directory: Path, whole: _Whole, segment_bytes: int) -> Path | None:
    """Leaves a log that may be appended to, durably; where what was cut off is set aside. Raises OSError."""
    for leftover in disk.names(directory):
        if leftover.endswith(_TMP):
            disk.remove(directory / leftover)  # a segment that was being made
    name, tail = whole.segments[-1]
    set_aside = None
    if whole.torn or not whole.content.endswith(bytes(len(whole.content) - whole.offset)):
        set_aside = _cut_off(disk, directory / str(name), tail, whole.content, whole.offset)
    try:
        tail.allocate(max(segment_bytes, whole.offset))
    except OSError as error:
        if error.errno not in FULL:
            raise
        # It goes on with what it has: only slower, and the next segment may find more.
    # What was cut off must be gone for good. And the process before us may have died between a write and its sync: what
    # we now read, and may tell others that we have, must not be lost to a power cut after that.
    tail.fsync()
    disk.sync_directory(directory)
    disk.sync_directory(directory.parent)
    return set_aside


def _read_segments(
    directory: Path, segments: Sequence[tuple[SegmentName, File]], replayer: Replayer
) -> tuple[bytes, int, str]:
    """The last segment's content, the offset behind its last good record, and why the next one is torn. Raises
    CorruptWal."""
    content, offset, torn = b"", 0, ""
    for name, file in segments:
        path = directory / str(name)
        content = file.read()
        offset, torn = _read_segment(path, content, replayer)
        if torn and name != segments[-1][0]:
            raise CorruptWal(path, offset, f"{torn}; but only the last segment can have been torn by a crash")
    return content, offset, torn


def _result(directory: Path, names: Sequence[SegmentName], replayer: Replayer) -> Replay:
    """Raises CorruptWal."""
    try:
        return replayer.result()
    except CorruptRecord as why:
        raise CorruptWal(directory / str(names[-1]), None, str(why)) from None


def _open_locked(disk: Disk, path: Path) -> File:
    file = disk.open(path)
    _lock(file, path)
    return file


def _lock(file: File, path: Path) -> None:
    if not file.lock():
        file.close()
        raise Locked(path)


def _close(segments: list[tuple[SegmentName, File]]) -> None:
    for _, file in segments:
        file.close()


def _read_segment(path: Path, content: bytes, replayer: Replayer) -> tuple[int, str]:
    """The offset behind the last good record, and why the next one is torn ("" if it is not). Raises CorruptWal."""
    offset = records_count = 0
    torn = ""
    try:
        while (record := read_record(content, offset, replayer.crc)) is not None:
            if not _may_stand(record.kind, records_count):
                raise CorruptRecord(f"record {records_count} of a segment cannot be of kind {record.kind}")
            replayer.add(record)
            offset = record.end
            records_count += 1
    except TornRecord as why:
        torn = str(why)
    except (CorruptRecord, NotRaftpb) as why:
        raise CorruptWal(path, offset, str(why)) from None
    if records_count < len(HEAD):
        raise CorruptWal(path, offset, "the segment's head is not all there, but it was synced before it got its name")
    return offset, torn


def _may_stand(kind: int, position: int) -> bool:
    """Whether a record of this kind may be the one at that position, from 0, of a segment."""
    return kind == HEAD[position] if position < len(HEAD) else kind != CRC


def _cut_off(disk: Disk, path: Path, file: File, content: bytes, offset: int) -> Path | None:
    """Make `offset` the end of the records: what is behind it was never acknowledged. A copy is set aside first, if
    there is space for one.

    The caller reserves and syncs: the rest must be zeros again, and durably so, before anything is appended. Else of
    a later torn write only some sectors would replace what is there, and the mixture would look like rot.
    """
    copy = path.with_name(path.name + ".broken")
    is_set_aside = True
    try:
        evidence = disk.create(copy)
        evidence.pwrite(content.rstrip(b"\0"), 0)
        evidence.fsync()
        evidence.close()
    except OSError as error:
        if error.errno not in FULL:
            raise
        disk.remove(copy)
        is_set_aside = False
    disk.sync_directory(path.parent)
    file.truncate(offset)
    return copy if is_set_aside else None
