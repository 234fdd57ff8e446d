"""A member's disk that is full while a test says so: the log's files, the tables, and what the file system tells."""

import errno
from dataclasses import dataclass
from pathlib import Path

import lmdb
from kvorum.storage.disk import Disk, File
from kvorum.storage.lmdb_store import LmdbStore


@dataclass
class Space:
    """free_bytes: as the file system tells. log, tables: whether writes there find none. sync_fails: fdatasync does."""

    free_bytes: int = 1 << 40
    log: bool = False
    tables: bool = False
    sync_fails: bool = False


class FillableDisk(Disk):
    def __init__(self, space: Space) -> None:
        self._space = space

    def create(self, path: Path) -> File:
        if self._space.log:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return _FillableFile(super().create(path)._fd, self._space)

    def open(self, path: Path) -> File:
        return _FillableFile(super().open(path)._fd, self._space)


class _FillableFile(File):
    def __init__(self, fd: int, space: Space) -> None:
        super().__init__(fd)
        self._space = space

    def pwrite(self, data: bytes, offset: int) -> None:
        if self._space.log and data.strip(b"\0"):  # zeros are written over what is there already
            raise OSError(errno.ENOSPC, "No space left on device")
        super().pwrite(data, offset)

    def fdatasync(self) -> None:
        if self._space.sync_fails:
            raise OSError(errno.EIO, "Input/output error")
        super().fdatasync()


class FillableStore(LmdbStore):
    space: Space

    def _fill(self, txn: lmdb.Transaction, table: str, changes: dict[bytes, bytes | None]) -> None:
        super()._fill(txn, table, changes)
        if self.space.tables:
            raise lmdb.DiskError("No space left on device")
