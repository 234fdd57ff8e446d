"""What a power cut leaves of files: disks for tests that know what has been synced, and what has not.

SimDisk holds files in memory and loses, at a cut, any part of what fdatasync, fsync and sync_directory did not cover:
by sectors of 512 bytes, in any combination. RecordingDisk is a real disk that keeps a journal of all that is done to
it, so that another process can say after a `kill -9` what a power cut at that moment would have left, and put it there.
CopyingStore does the same for LMDB, which writes its own file: after each commit it sets a copy aside.
"""

import errno
import itertools
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from kvorum.storage.data_dir import DataDir
from kvorum.storage.disk import Disk, File
from kvorum.storage.lmdb_store import LmdbStore, map_bytes

SECTOR_BYTES = 512


class PowerCut(Exception):
    """The power went. Raised out of the operation that SimDisk was told to stop at."""


class _Inode:
    def __init__(self, content: bytes = b"") -> None:
        self.durable = bytearray(content)
        self.now = bytearray(content)
        self.unsynced: list[tuple[int, bytes] | int] = []  # (offset, data) or a new size, in order
        self.is_locked = False

    def write(self, offset: int, data: bytes) -> None:
        self.unsynced.append((offset, data))
        _overwrite(self.now, offset, data)

    def resize(self, size: int) -> None:
        self.unsynced.append(size)
        _resize(self.now, size)

    def sync(self) -> None:
        self.durable[:] = self.now
        self.unsynced.clear()

    def cut(self, random: Random) -> None:
        """Keep of what is not synced nothing, all, what came first, or any sectors."""
        manner = random.choice(("nothing", "all", "first", "any"))
        pieces = [piece for change in self.unsynced for piece in _sectors(change)]
        if manner == "all":
            kept = pieces
        elif manner == "first":
            kept = pieces[: random.randint(0, len(pieces))]
        elif manner == "any":
            # Of each sector some state that it had: no later write is in it without those before.
            lost: set[int] = set()
            kept = []
            for piece in pieces:
                sector = -1 if isinstance(piece, int) else piece[0] // SECTOR_BYTES
                if sector in lost or random.random() < 0.5:
                    lost.add(sector)
                else:
                    kept.append(piece)
        else:
            kept = []
        for piece in kept:
            if isinstance(piece, int):
                _resize(self.durable, piece)
            else:
                _overwrite(self.durable, *piece)
        self.now[:] = self.durable
        self.unsynced.clear()
        self.is_locked = False


def _overwrite(content: bytearray, offset: int, data: bytes) -> None:
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _resize(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


def _sectors(change: tuple[int, bytes] | int) -> Iterator[tuple[int, bytes] | int]:
    if isinstance(change, int):
        yield change
        return
    offset, data = change
    at = 0
    while at < len(data):
        step = SECTOR_BYTES - (offset + at) % SECTOR_BYTES
        yield offset + at, data[at : at + step]
        at += step


class _Directory:
    def __init__(self) -> None:
        self.entries: dict[str, _Inode | _Directory] = {}
        self.states = [self.entries]  # since the last sync, oldest first: a journal keeps some of them, in order

    def change(self, entries: "dict[str, _Inode | _Directory]") -> None:
        self.entries = entries
        self.states.append(entries)

    def sync(self) -> None:
        self.states = [self.entries]

    def cut(self, random: Random) -> None:
        self.entries = self.states[random.randint(0, len(self.states) - 1)]
        self.sync()
        for node in self.entries.values():
            node.cut(random)


class SimDisk(Disk):
    """A disk in memory. stop_after: operations until PowerCut is raised out of one; fail_...: the next ones fail."""

    def __init__(self) -> None:
        self.root = _Directory()
        self.operations_count = 0
        self.stop_after: int | None = None
        self.fail_sync = self.fail_write = self.fail_create = False
        self.full_at: set[int] = set()  # of the operations that need space, from 0: those that find none
        self.space_count = 0
        self.era = 0  # a file opened before a crash is of no use after it

    # --- what happens to it ------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """The process dies, the machine lives: all that was written stays, synced or not."""
        self.era += 1
        self.stop_after = None
        for inode in _inodes(self.root):
            inode.is_locked = False

    def cut(self, random: Random) -> None:
        """The power goes: of what is not synced, any part is lost."""
        self.kill()
        self.root.cut(random)

    def operate(self) -> None:
        """Called before and after each operation's effect, so that a cut comes between any two of them."""
        self.operations_count += 1
        if self.stop_after is not None:
            if self.stop_after == 0:
                raise PowerCut
            self.stop_after -= 1

    def need_space(self) -> bool:
        """Counts an operation that needs space. Whether it finds some."""
        self.space_count += 1
        return self.space_count - 1 not in self.full_at

    # --- Disk --------------------------------------------------------------------------------------------------------

    def create(self, path: Path) -> File:
        self.operate()
        if self.fail_create:
            raise OSError(errno.EIO, "Input/output error", str(path))
        if not self.need_space():
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        directory = self.directory(path.parent)
        old = directory.entries.get(path.name)
        if isinstance(old, _Inode):
            inode = old
            inode.resize(0)
        else:
            inode = _Inode()
            directory.change({**directory.entries, path.name: inode})
        self.operate()
        return SimFile(self, inode)

    def open(self, path: Path) -> File:
        inode = self.directory(path.parent).entries.get(path.name)
        if not isinstance(inode, _Inode):
            raise FileNotFoundError(errno.ENOENT, "No such file", str(path))
        return SimFile(self, inode)

    def exists(self, path: Path) -> bool:
        return path == path.parent or path.name in self.directory(path.parent).entries

    def names(self, directory: Path) -> list[str]:
        return sorted(self.directory(directory).entries)

    def make_directory(self, path: Path) -> None:
        self.operate()
        parent = self.directory(path.parent)
        if path.name not in parent.entries:
            parent.change({**parent.entries, path.name: _Directory()})
        self.operate()

    def rename(self, old: Path, new: Path) -> None:
        self.operate()
        assert old.parent == new.parent
        parent = self.directory(old.parent)
        entries = dict(parent.entries)
        node = entries.pop(old.name)
        if isinstance(node, _Directory) and new.name in entries:
            raise OSError(errno.ENOTEMPTY, "Directory not empty", str(new))
        parent.change({**entries, new.name: node})
        self.operate()

    def remove(self, path: Path) -> None:
        self.operate()
        parent = self.directory(path.parent)
        if path.name in parent.entries:
            parent.change({name: node for name, node in parent.entries.items() if name != path.name})
        self.operate()

    def sync_directory(self, path: Path) -> None:
        self.operate()
        self.directory(path).sync()
        self.operate()

    # --- looking at it -----------------------------------------------------------------------------------------------

    def directory(self, path: Path) -> _Directory:
        node: _Inode | _Directory = self.root
        for part in path.parts[1:] if path.is_absolute() else path.parts:
            if not isinstance(node, _Directory) or part not in node.entries:
                raise FileNotFoundError(errno.ENOENT, "No such directory", str(path))
            node = node.entries[part]
        assert isinstance(node, _Directory)
        return node

    def content(self, path: Path) -> bytearray:
        """The file as a reader sees it. A change to it is durable at once: bytes that rot."""
        inode = self.directory(path.parent).entries[path.name]
        assert isinstance(inode, _Inode)
        return inode.now

    def write_to(self, root: Path, directory: _Directory | None = None) -> None:
        """Put everything below `root` of a real file system, in place of what is there."""
        directory = directory or self.directory(root)
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(mode=0o700, parents=True)
        for name, node in directory.entries.items():
            if isinstance(node, _Directory):
                self.write_to(root / name, node)
            else:
                with open(root / name, "wb") as file:
                    file.write(node.now.rstrip(b"\0"))
                    file.truncate(len(node.now))


def _inodes(directory: _Directory) -> Iterator[_Inode]:
    for node in directory.entries.values():
        if isinstance(node, _Directory):
            yield from _inodes(node)
        else:
            yield node


class SimFile(File):
    def __init__(self, disk: SimDisk, inode: _Inode) -> None:
        self._disk = disk
        self._inode = inode
        self._era = disk.era
        self._holds_lock = False

    def _operate(self) -> None:
        assert self._era == self._disk.era, "a file of a process that is gone"
        self._disk.operate()

    def pwrite(self, data: bytes, offset: int) -> None:
        self._operate()
        if self._disk.fail_write:
            self._inode.write(offset, data[: len(data) // 2])
            raise OSError(errno.EIO, "Input/output error")
        if not self._disk.need_space():
            whole = (offset + len(data) // 2) // SECTOR_BYTES * SECTOR_BYTES - offset  # blocks are full or not there
            self._inode.write(offset, data[: max(0, whole)])
            raise OSError(errno.ENOSPC, "No space left on device")
        self._inode.write(offset, data)
        self._operate()

    def fdatasync(self) -> None:
        self._operate()
        if self._disk.fail_sync:
            self._disk.fail_sync = False  # the kernel reports it once, and may have dropped the pages
            raise OSError(errno.EIO, "Input/output error")
        self._inode.sync()
        self._operate()

    def fsync(self) -> None:
        self.fdatasync()

    def read(self) -> bytes:
        return bytes(self._inode.now)

    def allocate(self, size_bytes: int) -> None:
        self._operate()
        if size_bytes > len(self._inode.now):
            if not self._disk.need_space():
                raise OSError(errno.ENOSPC, "No space left on device")
            self._inode.resize(size_bytes)

    def size(self) -> int:
        return len(self._inode.now)

    def truncate(self, size_bytes: int) -> None:
        self._operate()
        self._inode.resize(size_bytes)
        self._operate()

    def lock(self) -> bool:
        if self._inode.is_locked:
            return False
        self._inode.is_locked = self._holds_lock = True
        return True

    def close(self) -> None:
        if self._holds_lock and self._era == self._disk.era:
            self._inode.is_locked = False


# --- a real disk, for whole processes --------------------------------------------------------------------------------


class RecordingDisk(Disk):
    """A real disk with a journal. What writes is in the journal before it happens, what syncs after it has happened."""

    def __init__(self, journal: Path, root: Path) -> None:
        """root: of all that is recorded; what is there now counts as durable."""
        unfinished = journal.with_suffix(".tmp")
        self._journal = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        self._file_ids = itertools.count()
        for path in sorted(root.rglob("*")):
            if path.is_dir():
                self.record("base_directory", path)
            elif path.suffix != ".mdb":
                content = path.read_bytes()
                self.record("base_file", path, content.rstrip(b"\0"), len(content))
        os.replace(unfinished, journal)  # who is killed before this has done nothing yet

    def record(self, operation: str, *arguments: Any) -> None:
        data = pickle.dumps((operation, arguments))
        # One write call: a kill leaves the line whole, or no part of it that matters.
        os.write(self._journal, len(data).to_bytes(4, "big") + data)

    def _file(self, file: File, operation: str, path: Path) -> File:
        file_id = next(self._file_ids)
        self.record(operation, path, file_id)
        return _RecordingFile(self, file, file_id)

    def create(self, path: Path) -> File:
        return self._file(super().create(path), "create", path)

    def open(self, path: Path) -> File:
        return self._file(super().open(path), "open", path)

    def make_directory(self, path: Path) -> None:
        self.record("make_directory", path)
        super().make_directory(path)

    def rename(self, old: Path, new: Path) -> None:
        self.record("rename", old, new)
        super().rename(old, new)

    def remove(self, path: Path) -> None:
        self.record("remove", path)
        super().remove(path)

    def sync_directory(self, path: Path) -> None:
        super().sync_directory(path)
        self.record("sync_directory", path)


class _RecordingFile(File):
    def __init__(self, disk: RecordingDisk, file: File, file_id: int) -> None:
        super().__init__(file._fd)
        self._disk = disk
        self._id = file_id

    def pwrite(self, data: bytes, offset: int) -> None:
        self._disk.record("pwrite", self._id, data, offset)
        super().pwrite(data, offset)

    def fdatasync(self) -> None:
        super().fdatasync()
        self._disk.record("sync", self._id)

    def fsync(self) -> None:
        super().fsync()
        self._disk.record("sync", self._id)

    def allocate(self, size_bytes: int) -> None:
        self._disk.record("allocate", self._id, size_bytes)
        super().allocate(size_bytes)

    def truncate(self, size_bytes: int) -> None:
        self._disk.record("truncate", self._id, size_bytes)
        super().truncate(size_bytes)


def replay_journal(journal: Path) -> SimDisk:
    """The recorded disk as it was when its process died: what was written, and what of it was synced."""
    disk = SimDisk()
    files: dict[int, File] = {}
    for operation, arguments in _journal_lines(journal):
        if operation in ("base_directory", "base_file"):
            _make_base(disk, *arguments)
        elif operation in ("create", "open"):
            path, file_id = arguments
            _make_base(disk, path.parent)
            files[file_id] = disk.create(path) if operation == "create" else disk.open(path)
        elif operation in ("pwrite", "allocate", "truncate"):
            getattr(files[arguments[0]], operation)(*arguments[1:])
        elif operation == "sync":
            files[arguments[0]].fdatasync()
        else:
            _make_base(disk, arguments[0].parent)
            getattr(disk, operation)(*arguments)
    return disk


def _journal_lines(journal: Path) -> Iterator[tuple[str, tuple[Any, ...]]]:
    data = journal.read_bytes()
    at = 0
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if at + 4 + size > len(data):
            return  # killed while it wrote this: the operation had not begun, or nobody had been told that it ended
        yield pickle.loads(data[at + 4 : at + 4 + size])
        at += 4 + size


def _make_base(disk: SimDisk, path: Path, content: bytes | None = None, size: int = 0) -> None:
    """path and its parents, durable from the start: they lie outside of what was recorded, or were there before."""
    node = disk.root
    for part in path.parts[1:] if content is None else path.parts[1:-1]:
        if part not in node.entries:
            node.entries[part] = _Directory()
            for state in node.states:
                state.setdefault(part, node.entries[part])
        child = node.entries[part]
        assert isinstance(child, _Directory)
        node = child
    if content is not None:
        node.entries[path.name] = _Inode(content + bytes(size - len(content)))


class CopyingStore(LmdbStore):
    """LMDB whose file is set aside, as `copy`, after each commit: what is durable for sure."""

    copy: Path

    def _write(self, rows: Any, filled: Callable[[], None]) -> None:
        super()._write(rows, filled)
        fresh = self.copy.with_suffix(".tmp")
        shutil.copyfile(self._path / "data.mdb", fresh)
        os.replace(fresh, self.copy)


class RecordedDataDir(DataDir):
    """A data directory for a process that is to be killed. Records below `beside`, which lies outside of it.

    After the kill: power_cut_after_kill(root, beside, random), then start the next process.
    """

    beside: Path
    segment_bytes = 200_000  # cuts within seconds

    @classmethod
    def record(cls, root: Path, beside: Path) -> "RecordedDataDir":
        beside.mkdir(parents=True, exist_ok=True)
        data_dir = cls.open(root, disk=RecordingDisk(beside / "journal", root))
        data_dir.beside = beside
        return data_dir

    def open_store(self, quota_bytes: int) -> LmdbStore:
        store = CopyingStore.open(self.store_path, map_size_bytes=map_bytes(quota_bytes))
        store.copy = self.beside / "data.mdb"
        return store


def power_cut_after_kill(root: Path, beside: Path, random: Random) -> None:
    """Make of what a killed process left what a power cut at that moment would have left, drawn by `random`.

    LMDB's file is put back to the last commit that returned.
    """
    if not (beside / "journal").exists():
        return  # it was killed before it did anything
    store, copy = root / "member" / "store", beside / "data.mdb"
    disk = replay_journal(beside / "journal")
    disk.cut(random)
    try:
        disk.directory(root)
    except FileNotFoundError:
        shutil.rmtree(root, ignore_errors=True)
    else:
        disk.write_to(root)
    if copy.exists():
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(copy, store / "data.mdb")
    elif store.exists():
        shutil.rmtree(store)
