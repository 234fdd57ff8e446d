"""The tables of the replicated state in LMDB: state's Store, durable in batches.

Hot path: a get costs below 0.5 us, a put 0.2 us, a commit 0.4 us a row and two flushes. Knows tables and bytes, no
rows' meaning. Keeps: all writes between two commits are durable together or not at all. The owner's part: the log
holds, durably, every entry whose rows are committed here.

Writes gather in dicts (pending), move as a whole to the batch that is being committed (in flight), and are in LMDB
when the next batch is begun. A read asks the three in this order. One thread, the owner's, calls everything here but
the function that begin_commit returns.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Self

import lmdb

from kvorum.state.store import ALL_TABLES, Store
from kvorum.storage import long_keys
from kvorum.storage.disk import free_bytes
from kvorum.storage.fault import CorruptStore, NoSpace, StorageFault, StoreFailed

MAP_BYTES_MIN = 16 << 30  # address space, not disk: the file is as long as what is in it
KEY_BYTES_MAX = long_keys.STORED_BYTES  # LMDB's, and ours in all tables but those of names
FULL_BYTES = 16 << 20  # with less than this free, a write that failed is taken to have failed for want of space
FORMAT_KEY, FORMAT = b"\0format", b"1"
_COMPACTION = "compaction"  # directory for the copy that is to replace the file

_Rows = dict[str, dict[bytes, bytes | None]]  # table -> key -> value; None: deleted
_ABSENT = bytes(bytearray(b"absent"))  # compared by identity

_DAMAGE = (lmdb.InvalidError, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PanicError)

_REPLAY = "The log brings back what is missing: see to the disk (space, errors in the kernel's log), then start again."


class KeyTooLong(StorageFault):
    """A row's key is longer than LMDB can hold. Whoever lets clients choose it must refuse it before."""


def map_bytes(quota_bytes: int) -> int:
    """The map that a quota needs. A full map ends the process, so it is far above: the quota is checked ahead of it."""
    return max(MAP_BYTES_MIN, 8 * quota_bytes)


def _no_rows() -> _Rows:
    return {table: {} for table in ALL_TABLES}


class Commit:
    """One batch on its way to the disk. Call it once, in any thread; it returns when the batch is durable.

    Raises NoSpace: take_back() then, and commit again when there is. Raises StoreFailed or CorruptStore: then the
    process must end.
    """

    def __init__(self, store: "LmdbStore", rows: _Rows) -> None:
        self._store = store
        self._rows = rows
        self._filled = Event()
        self.is_done = False
        self.has_ended = False  # done, or failed

    def __call__(self) -> None:
        try:
            self._store._write(self._rows, self._filled.set)
            self.is_done = True
        finally:
            self._filled.set()
            self.has_ended = True

    def wait_filled(self) -> None:
        """Block until the rows are in the transaction and only the flush is left (0.1 ms and 0.4 us a row).

        For the owner that runs a commit in another thread: LMDB drops the GIL once for each row, and a thread that
        wants it back while another one computes waits up to 5 ms each time. Measured with a busy owner: 1,000 rows
        in 70-420 ms, 4,000 once in 12 s; while the owner waits here, 1 ms and 3 ms.
        """
        self._filled.wait()


class LmdbStore(Store):
    """Open one for a directory at a time; the data directory's lock sees to other processes."""

    def __init__(self, path: Path, map_size_bytes: int) -> None:
        """Not for use outside: open() makes one."""
        self._path = path
        self._map_size_bytes = map_size_bytes
        self._pending = _no_rows()
        self._in_flight = _no_rows()
        self._commit: Commit | None = None  # the last one begun
        self._defragmentation: _Defragmentation | None = None
        self._open()

    @classmethod
    def open(cls, path: Path, *, map_size_bytes: int = MAP_BYTES_MIN) -> Self:
        """The store in the directory `path`, made if absent. Its parent exists. Raises StoreFailed, CorruptStore."""
        return cls(path, map_size_bytes)

    def _open(self) -> None:
        way_out = (
            "If the disk is in order, remove this member from the cluster, empty its data directory, add it again."
        )
        try:
            is_new = not self._path.exists()
            self._path.mkdir(mode=0o700, exist_ok=True)
            shutil.rmtree(self._path / _COMPACTION, ignore_errors=True)  # of one that was interrupted
            # Defaults that matter: sync and metasync on (a commit is durable), writemap off (a stray write cannot
            # reach the file), lock on (snapshots may be read by another process).
            self._env = lmdb.open(
                str(self._path),
                map_size=self._map_size_bytes,
                subdir=True,
                mode=0o600,
                max_dbs=len(ALL_TABLES),
                max_spare_txns=2,
            )
            self._env.reader_check()  # slots of processes that are gone would keep free pages from being used
            with self._env.begin(write=True) as txn:
                stored = txn.get(FORMAT_KEY)
                if stored is None and txn.stat()["entries"] == 0:
                    txn.put(FORMAT_KEY, FORMAT)
                elif stored != FORMAT:
                    raise StoreFailed(
                        self._path,
                        "read the store",
                        f"its format is {stored!r}, this version knows {FORMAT!r}",
                        "Start the version of kvorum that wrote it, or give this one an empty --data-dir.",
                    )
                self._tables = {table: self._env.open_db(table.encode(), txn=txn) for table in ALL_TABLES}
            if is_new:
                _sync_directory(self._path)
                _sync_directory(self._path.parent)
            self._read = self._env.begin(buffers=False)
        except _DAMAGE as error:
            raise CorruptStore(self._path, str(error)) from error
        except lmdb.Error as error:
            raise StoreFailed(self._path, "open the store", str(error), way_out) from error
        except OSError as error:
            raise StoreFailed(self._path, "open the store", error.strerror or str(error), _REPLAY) from error
        self._measure()

    # --- rows ------------------------------------------------------------------------------------------------------

    def get(self, table: str, key: bytes) -> bytes | None:
        """Raises CorruptStore."""
        value = self._pending[table].get(key, _ABSENT)
        if value is _ABSENT:
            value = self._in_flight[table].get(key, _ABSENT)
            if value is _ABSENT:
                try:
                    if len(key) >= KEY_BYTES_MAX and table in long_keys.TABLES:
                        return self._get_long(table, key)
                    return self._read.get(key, None, self._tables[table])
                except lmdb.Error as error:
                    raise CorruptStore(self._path, str(error)) from error
        return value

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Raises KeyTooLong."""
        if not key or (len(key) > KEY_BYTES_MAX and table not in long_keys.TABLES):
            raise KeyTooLong(
                f"{self._path}: a key of {len(key)} bytes in table {table}; 1 to {KEY_BYTES_MAX} are possible\n"
                "  This is a fault of kvorum: the request should have been refused. Please report it."
            )
        self._pending[table][key] = value

    def _get_long(self, table: str, key: bytes) -> bytes | None:
        stored = self._read.get(long_keys.stored_key(key), None, self._tables[table])
        return None if stored is None else long_keys.value_of(key, stored)

    def delete(self, table: str, key: bytes) -> None:
        self._pending[table][key] = None

    def scan(self, table: str, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """See Store. It has a read transaction of its own until it is exhausted or dropped: use it up within a request.

        Raises StoreFailed if a defragmentation is finished meanwhile, CorruptStore.
        """
        # Both taken at the call, so that later writes and commits do not show.
        overlay = {
            key: value
            for rows in (self._in_flight[table], self._pending[table])
            for key, value in rows.items()
            if start <= key and (end is None or key < end)
        }
        stored = self._scan_stored(table, self._env.begin(buffers=False), start, end)
        if table in long_keys.TABLES:
            assert (start, end) == (b"", None), "a table of names is read whole"
            stored = long_keys.restored_rows(stored)
        return _merge(stored, sorted(overlay.items(), key=_key_of))

    def _scan_stored(
        self, table: str, txn: "lmdb.Transaction[bytes]", start: bytes, end: bytes | None
    ) -> Iterator[tuple[bytes, bytes]]:
        try:
            with txn, txn.cursor(self._tables[table]) as cursor:
                if cursor.set_range(start) if start else cursor.first():
                    for key, value in cursor.iternext():
                        if end is not None and key >= end:
                            break
                        yield key, value
        except _DAMAGE as error:
            raise CorruptStore(self._path, str(error)) from error
        except lmdb.Error as error:
            raise StoreFailed(self._path, "go on with a scan", str(error), "Ask again.") from error

    # --- commits ---------------------------------------------------------------------------------------------------

    @property
    def pending_count(self) -> int:
        """Rows that the next commit will write."""
        return sum(map(len, self._pending.values()))

    def commit(self) -> None:
        """All that was put and deleted is durable once this returns. Raises as Commit does; NoSpace loses nothing."""
        try:
            self.begin_commit()()
        except NoSpace:
            self.take_back()
            raise
        self._retire()

    def begin_commit(self) -> Commit:
        """Take all that was put and deleted so far as one batch. Calling the result writes it and makes it durable.

        The result may run in another thread; call its wait_filled() then. Reads go on and see the batch. The next one
        may begin once this one has returned.
        """
        self._retire()
        assert self._defragmentation is None, "a commit while the file is being copied would be lost"
        self._in_flight, self._pending = self._pending, _no_rows()
        self._commit = Commit(self, self._in_flight)
        return self._commit

    @property
    def may_commit(self) -> bool:
        """Whether no commit has failed or is under way, and the file is not being copied."""
        return self._defragmentation is None and (self._commit is None or self._commit.is_done)

    def take_back(self) -> None:
        """After a commit that found no space: what it was to write is pending again, below what came since."""
        assert self._commit is not None, "no commit was begun"
        assert not self._commit.is_done, "the last commit has not failed"
        self._commit = None
        for table, rows in self._in_flight.items():
            self._pending[table] = rows | self._pending[table]
        self._in_flight = _no_rows()

    def _retire(self) -> None:
        """Read from LMDB what the last commit wrote there. In the owner's thread: a transaction belongs to one."""
        if self._commit is None:
            return
        assert self._commit.is_done, "the commit before has not returned, or failed"
        self._commit = None
        self._in_flight = _no_rows()
        self._read.abort()
        self._read = self._env.begin(buffers=False)  # 0.1 us: py-lmdb keeps the slot
        self._measure()

    def _write(self, rows: _Rows, filled: Callable[[], None]) -> None:
        """Begin, fill and commit, in one thread: py-lmdb hangs for ever after a commit by another one."""
        try:
            if any(rows.values()):
                with self._env.begin(write=True) as txn:
                    for table, changes in rows.items():
                        if changes:
                            self._fill(txn, table, changes)
                    filled()
        except lmdb.MapFullError as error:
            raise StoreFailed(
                self._path,
                "commit",
                f"its map of {self._map_size_bytes} bytes is full",
                "Start again with a larger --quota-backend-bytes (the map is 8 times that); compact and defragment.",
            ) from error
        except _DAMAGE as error:
            raise CorruptStore(self._path, str(error)) from error
        except lmdb.Error as error:
            # Pages found no place: the transaction is gone, and the file is as it was to whoever reads it. Of a page of
            # which half was written LMDB says "Input/output error".
            if isinstance(error, lmdb.DiskError) or free_bytes(self._path) < FULL_BYTES:
                raise NoSpace(self._path, "commit") from error
            raise StoreFailed(self._path, "commit", str(error), _REPLAY) from error

    def _fill(self, txn: lmdb.Transaction, table: str, changes: dict[bytes, bytes | None]) -> None:
        handle = self._tables[table]
        if table in long_keys.TABLES:
            changes = {
                long_keys.stored_key(key): None if value is None else long_keys.stored_value(key, value)
                for key, value in changes.items()
            }
        puts = [(key, value) for key, value in changes.items() if value is not None]
        if puts:
            with txn.cursor(handle) as cursor:
                cursor.putmulti(puts)
        if len(puts) < len(changes):
            for key, value in changes.items():
                if value is None:
                    txn.delete(key, db=handle)

    # --- size ------------------------------------------------------------------------------------------------------

    @property
    def size_bytes(self) -> int:
        """As of the last commit but one, or the last if it was by commit(). An attribute's cost."""
        return self._size_bytes

    @property
    def size_in_use_bytes(self) -> int:
        """The same without pages that are free. The pages of the free list itself are not counted."""
        return self._size_in_use_bytes

    def _measure(self) -> None:
        page_bytes: int = self._env.stat()["psize"]
        self._size_bytes = (self._env.info()["last_pgno"] + 1) * page_bytes
        stats = [self._read.stat(handle) for handle in self._tables.values()]
        stats.append(self._env.stat())
        pages = sum(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"] for stat in stats)
        self._size_in_use_bytes = (2 + pages) * page_bytes  # two meta pages

    # --- the file --------------------------------------------------------------------------------------------------

    def begin_defragment(self) -> Callable[[], None]:
        """Commit, then return what copies the file without its free pages: run it in another thread, it takes long.

        Reads and puts go on meanwhile, commits wait for finish_defragment. The copy raises StoreFailed, mostly for
        want of space; the store is as before then. Raises as commit does.
        """
        assert self._defragmentation is None
        self.commit()
        self._defragmentation = _Defragmentation(self._env, self._path)
        return self._defragmentation

    def finish_defragment(self) -> None:
        """Put the copy in the file's place; if it failed, only clear it away. Scans that are not used up end."""
        defragmentation = self._defragmentation
        assert defragmentation is not None
        self._defragmentation = None
        if defragmentation.is_done:
            self._read.abort()
            self._env.close()
            # In this order: an export that opens the store now never gets the new file with the old lock, by which
            # this process would not know of it. One that still reads the old file keeps the old lock with it.
            (self._path / "lock.mdb").unlink()
            os.replace(defragmentation.copy / "data.mdb", self._path / "data.mdb")
            _sync_directory(self._path)
            self._open()
        else:
            shutil.rmtree(defragmentation.copy, ignore_errors=True)

    def defragment(self) -> None:
        """All of it at once. Raises StoreFailed."""
        copy = self.begin_defragment()
        try:
            copy()
        finally:
            self.finish_defragment()

    def forget_dead_readers(self) -> None:
        """After an export was ended from outside: what its transaction held may be used again."""
        self._env.reader_check()

    def moved_to(self, path: Path) -> None:
        """The directory was renamed while the store was open, which its files do not mind."""
        self._path = path

    def close(self) -> None:
        """What is not committed is dropped: the log has it."""
        assert self._commit is None or self._commit.has_ended
        self._read.abort()
        self._env.close()


class _Defragmentation:
    def __init__(self, env: lmdb.Environment, path: Path) -> None:
        self._env = env
        self.copy = path / _COMPACTION
        self.is_done = False

    def __call__(self) -> None:
        try:
            self.copy.mkdir(mode=0o700)
            self._env.copy(str(self.copy), compact=True)
            fd = os.open(self.copy / "data.mdb", os.O_RDWR | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except (lmdb.Error, OSError) as error:
            raise StoreFailed(
                self.copy,
                "defragment",
                str(error),
                "A second copy of the data in use needs to fit. Nothing was changed.",
            ) from error
        self.is_done = True


def _key_of(row: tuple[bytes, bytes | None]) -> bytes:
    return row[0]


def _merge(
    stored: Iterator[tuple[bytes, bytes]], overlay: list[tuple[bytes, bytes | None]]
) -> Iterator[tuple[bytes, bytes]]:
    """Rows of both in order; of equal keys the overlay's counts, and its None hides the row."""
    at, end = 0, len(overlay)
    for row in stored:
        while at < end and overlay[at][0] < row[0]:
            key, value = overlay[at]
            at += 1
            if value is not None:
                yield key, value
        if at < end and overlay[at][0] == row[0]:
            key, value = overlay[at]
            at += 1
            if value is not None:
                yield key, value
        else:
            yield row
    for key, value in overlay[at:]:
        if value is not None:
            yield key, value


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
