"""The tables as a bbolt file, and a bbolt file as tables: rows are carried over as they are, nothing is left half done.

Knows tables and rows, not what they mean: that is server/snapshot_db.py's, which runs this in a process of its own, as
each takes seconds for a large store. An export reads one transaction of LMDB beside the node that goes on writing; an
import appears under its name only when it is whole and durable.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import lmdb

from kvorum.state.store import ALL_TABLES, CLUSTER, MEMBERS, MEMBERS_REMOVED, META, TABLES, V2
from kvorum.storage import long_keys
from kvorum.storage.bbolt_reader import BboltFile
from kvorum.storage.bbolt_writer import UnfitRow, write_bbolt
from kvorum.storage.disk import Disk
from kvorum.storage.fault import CorruptDb, StoreFailed
from kvorum.storage.lmdb_store import FORMAT, FORMAT_KEY, KEY_BYTES_MAX, MAP_BYTES_MIN

Rows = Iterable[tuple[bytes, bytes]]

SMALL_TABLES = (META, CLUSTER, MEMBERS, MEMBERS_REMOVED, V2)  # they say what the others are, or have no bucket in etcd
ROWS_A_COMMIT = 50_000  # of an import: bounds what LMDB holds in memory before it writes
_GROWTH = 4  # of the map over the file that is read or converted
_TMP = ".tmp"
_SPACE = "Nothing was changed. See to the disk: the file needs about as much space as the store."


@dataclass(frozen=True, slots=True)
class ExportedDb:
    """What was exported. small: rows of SMALL_TABLES, of the same transaction as the file."""

    size_bytes: int
    small: Mapping[str, list[tuple[bytes, bytes]]]


def export_db(store_path: Path, out: Path) -> ExportedDb:
    """Write the last committed state of the store as a bbolt file; 400k rows of 256 bytes take 0.7 s.

    The node that has the store open goes on meanwhile; pages it frees are not used again until this is done.
    out: durable once this returns, but for its name; absent if this raises. Raises StoreFailed.
    """
    try:
        env = _open_beside(store_path)
        try:
            with env.begin(buffers=False) as txn:
                handles = _handles(env, txn, store_path)
                size_bytes = write_bbolt(
                    out, ((table.encode(), _scan(txn, table, handles[table])) for table in sorted(TABLES))
                )
                small = {table: list(_scan(txn, table, handles[table])) for table in SMALL_TABLES}
        finally:
            env.close()
    except (lmdb.Error, UnfitRow) as error:
        out.unlink(missing_ok=True)
        raise StoreFailed(store_path, "read the store", str(error), "Nothing was changed.") from error
    except OSError as error:
        out.unlink(missing_ok=True)
        raise StoreFailed(out, "write the file", error.strerror or str(error), _SPACE) from error
    return ExportedDb(size_bytes, small)


def import_db(db_path: Path, store_path: Path, replacing: Mapping[str, Rows]) -> int:
    """Make a store of a bbolt file, and give the count of its rows; 400k rows of 256 bytes take 1 s.

    replacing: tables whose rows, by ascending key, count instead of the file's. Buckets that are no tables of ours stay
    behind. store_path: absent before; a whole store, durable, once this returns, and absent still if this raises, or
    if this process is ended. Raises CorruptDb, StoreFailed.
    """
    if store_path.exists():
        raise StoreFailed(store_path, "make the store", "it exists already", "Remove it, or give another name.")
    nursery = store_path.with_name(store_path.name + _TMP)
    disk = Disk()
    try:
        disk.remove(nursery)
        with BboltFile.open(db_path) as file:
            disk.make_directory(nursery)
            rows_count = _fill(nursery, file, replacing, db_path)
        disk.sync_directory(nursery)
        disk.rename(nursery, store_path)
        disk.sync_directory(store_path.parent)
    except lmdb.Error as error:
        raise StoreFailed(store_path, f"convert {db_path}", str(error), _SPACE) from error
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise StoreFailed(store_path, f"convert {db_path}", f"{error.strerror or error}{where}", _SPACE) from error
    finally:
        shutil.rmtree(nursery, ignore_errors=True)
    return rows_count


def _open_beside(store_path: Path) -> lmdb.Environment:
    """For reading, while another process may write.

    Read-only, LMDB opens the data file before the lock file, and a defragmentation takes the lock file away before it
    replaces the data: so a reader never has the new data with the old lock, by which nobody would know of it.
    """
    size_bytes = (store_path / "data.mdb").stat().st_size
    return lmdb.open(
        str(store_path),
        map_size=max(MAP_BYTES_MIN, _GROWTH * size_bytes),
        subdir=True,
        readonly=True,
        max_dbs=len(ALL_TABLES),
        create=False,
    )


def _handles(env: lmdb.Environment, txn: "lmdb.Transaction[bytes]", store_path: Path) -> dict[str, "lmdb._Database"]:
    stored = txn.get(FORMAT_KEY)
    if stored != FORMAT:
        raise StoreFailed(
            store_path,
            "read the store",
            f"its format is {stored!r}, this version knows {FORMAT!r}",
            "Nothing was changed.",
        )
    return {table: env.open_db(table.encode(), txn=txn, create=False) for table in ALL_TABLES}


def _scan(txn: "lmdb.Transaction[bytes]", table: str, handle: "lmdb._Database") -> Iterator[tuple[bytes, bytes]]:
    with txn.cursor(handle) as cursor:
        rows = cursor.iternext()
        yield from long_keys.restored_rows(rows) if table in long_keys.TABLES else rows


def _fill(nursery: Path, file: BboltFile, replacing: Mapping[str, Rows], db_path: Path) -> int:
    rows_count = 0
    names = {name.decode(errors="replace") for name in file.bucket_names()}
    env = lmdb.open(
        str(nursery),
        map_size=max(MAP_BYTES_MIN, _GROWTH * db_path.stat().st_size),
        subdir=True,
        mode=0o600,
        max_dbs=len(ALL_TABLES),
        sync=False,  # once, at the end
        lock=False,  # nobody else knows of it
    )
    try:
        with env.begin(write=True) as txn:
            txn.put(FORMAT_KEY, FORMAT)
            handles = {table: env.open_db(table.encode(), txn=txn) for table in ALL_TABLES}
        for table in ALL_TABLES:
            rows = replacing.get(table)
            if rows is None:
                rows = file.rows(table.encode()) if table in names else ()
            if table in long_keys.TABLES:
                rows = long_keys.stored_rows(rows)
            rows_count += _append(env, handles[table], rows, db_path, table)
        env.sync(True)
    finally:
        env.close()
    return rows_count


def _append(env: lmdb.Environment, handle: "lmdb._Database", rows: Rows, db_path: Path, table: str) -> int:
    """All rows at the end of a table that has none, in commits of bounded size. Raises CorruptDb."""
    remaining = iter(rows)
    total = 0
    while batch := list(islice(remaining, ROWS_A_COMMIT)):
        for key, _ in batch:
            if len(key) > KEY_BYTES_MAX:
                raise CorruptDb(
                    db_path,
                    f"bucket {table}: a key {key[:64]!r}... has {len(key)} bytes, and etcd writes none above "
                    f"{KEY_BYTES_MAX} there",
                )
        with env.begin(write=True) as txn, txn.cursor(handle) as cursor:
            consumed, added = cursor.putmulti(batch, append=True)
            assert consumed == added == len(batch), (db_path, table, consumed, added, len(batch))
        total += len(batch)
    return total
