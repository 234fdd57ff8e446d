"""Snapshot files: member/snap/TERM-INDEX.snap, a raftpb.Snapshot behind its checksum, in etcd's byte format.

Small: configuration and membership as of an index. The keys are in the tables, not here. Knows no WAL: which of the
files count is for the marks to say that the log holds. Keeps: a file under its name is whole and durable; one that
is found broken is renamed, the next older one is taken instead, and nothing is deleted but what is older than asked.
"""

import logging
import re
from collections.abc import Iterable
from pathlib import Path

import google_crc32c

from kvorum.raft.message import Snapshot
from kvorum.storage.disk import Disk
from kvorum.storage.entry_codec import (
    NotRaftpb,
    decode_snapshot,
    decode_varint,
    encode_snapshot,
    encode_varint,
)
from kvorum.storage.fault import CorruptSnap, SnapFailed

log = logging.getLogger(__name__)

_TMP, _BROKEN = ".tmp", ".broken"
_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.snap")


def snap_name(snapshot: Snapshot) -> str:
    return f"{snapshot.term:016x}-{snapshot.index:016x}.snap"


def broken_path(directory: Path, snapshot: Snapshot) -> Path:
    """Where the file is once it was found broken: by newest_snap(), or by an etcd that ran here."""
    return directory / (snap_name(snapshot) + _BROKEN)


def write_snap(directory: Path, snapshot: Snapshot, *, disk: Disk | None = None) -> Path:
    """The file, durable once this returns. Only then may the log mention it. Raises SnapFailed: nothing has changed."""
    disk = disk or Disk()
    path = directory / snap_name(snapshot)
    nursery = path.with_name(path.name + _TMP)
    try:
        file = disk.create(nursery)
        try:
            file.pwrite(encode_snap(snapshot), 0)
            file.fsync()
        finally:
            file.close()
        disk.rename(nursery, path)
        disk.sync_directory(directory)
    except OSError as error:
        raise SnapFailed(path, "write the snapshot", error) from error
    return path


def read_snap(path: Path, *, disk: Disk | None = None) -> Snapshot:
    """Raises CorruptSnap, SnapFailed."""
    try:
        file = (disk or Disk()).open(path)
        try:
            content = file.read()
        finally:
            file.close()
    except OSError as error:
        raise SnapFailed(path, "read the snapshot", error) from error
    try:
        snapshot = decode_snap(content)
    except NotRaftpb as why:
        raise CorruptSnap(path, str(why)) from None
    if path.name != snap_name(snapshot):
        raise CorruptSnap(path, f"holds the snapshot of term {snapshot.term}, index {snapshot.index}")
    return snapshot


def newest_snap(directory: Path, marks: Iterable[Snapshot], *, disk: Disk | None = None) -> Snapshot | None:
    """The newest snapshot that the log mentions and whose file is good; None if there is none.

    marks: of the log, at or below its commit; only index and term are read. A file that no mark names was written just
    before a crash and never counted. A broken one gets the name NAME.broken and a line in the log. Raises SnapFailed.
    """
    disk = disk or Disk()
    known = {(mark.term, mark.index) for mark in marks}
    for term, index, name in _names(directory, disk):
        if (term, index) not in known:
            continue
        path = directory / name
        try:
            return read_snap(path, disk=disk)
        except CorruptSnap as why:
            try:
                disk.rename(path, path.with_name(name + _BROKEN))
                disk.sync_directory(directory)
            except OSError as error:
                raise SnapFailed(path, "set the broken snapshot aside", error) from error
            log.warning("a snapshot file is broken and was renamed", extra={"file": str(path), "why": why.why})
    return None


def purge_snaps(directory: Path, count_max: int, *, disk: Disk | None = None) -> list[Snapshot]:
    """Remove all but the count_max newest files, and what interrupted writes left. Gives those that stay, newest first.

    Of what stays only index and term are filled. The log must not be cut behind the oldest of them. Raises SnapFailed.
    """
    disk = disk or Disk()
    assert count_max > 0, count_max
    found = _names(directory, disk)
    doomed = [name for _, _, name in found[count_max:]]
    try:
        doomed += [name for name in disk.names(directory) if name.endswith(".snap" + _TMP)]
        for name in doomed:
            disk.remove(directory / name)
    except OSError as error:
        raise SnapFailed(directory, "remove old snapshots", error) from error
    return [Snapshot(index, term) for term, index, _ in found[:count_max]]


def _names(directory: Path, disk: Disk) -> list[tuple[int, int, str]]:
    """(term, index, name) of all snapshot files, newest first, as etcd orders them."""
    try:
        names = disk.names(directory)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SnapFailed(directory, "list the snapshots", error) from error
    matches = [match for name in names if (match := _NAME.fullmatch(name))]
    return sorted(((int(match[1], 16), int(match[2], 16), match[0]) for match in matches), reverse=True)


# --- bytes -----------------------------------------------------------------------------------------------------------


def encode_snap(snapshot: Snapshot) -> bytes:
    """snappb.Snapshot: 1 checksum (CRC-32C of the data), 2 data (raftpb.Snapshot)."""
    data = encode_snapshot(snapshot)
    crc: int = google_crc32c.value(data)
    return b"\x08%b\x12%b%b" % (encode_varint(crc), encode_varint(len(data)), data)


def decode_snap(content: bytes) -> Snapshot:
    """Raises NotRaftpb. Stricter than etcd, which takes the fields in any order: nobody ever wrote them otherwise."""
    if not content.strip(b"\0"):
        raise NotRaftpb("the file is empty")
    if content[0] != 0x08:
        raise NotRaftpb(f"no snapshot begins with {content[:4].hex()}")
    crc, at = decode_varint(content, 1)
    if content[at : at + 1] != b"\x12":
        raise NotRaftpb(f"no data at byte {at}")
    size, at = decode_varint(content, at + 1)
    if size != len(content) - at:
        raise NotRaftpb(f"{size} bytes of data are promised, {len(content) - at} are there")
    data = content[at:]
    found: int = google_crc32c.value(data)
    if found != crc:
        raise NotRaftpb(f"checksum {crc:08x} is stored, but the data give {found:08x}")
    return decode_snapshot(data)
