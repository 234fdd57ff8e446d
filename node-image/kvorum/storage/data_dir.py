"""The data directory: what lies where in it, whose it is, and whether it is whole.

    DATA/member/wal/     the log, as etcd's
    DATA/member/snap/    Raft snapshots, as etcd's; and `db`, etcd's own tables, until they are taken over
    DATA/member/store/   the tables (LMDB)
    DATA/member/lock     held by the node that runs

Looks first, and touches nothing if it refuses: a directory that is somebody else's, or was ours and lost a part. Knows
no ids and no membership: whether an empty directory may join a cluster is the server's question.
"""

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from kvorum.raft.message import Entry, HardState
from kvorum.storage import store_check
from kvorum.storage.disk import Disk, File
from kvorum.storage.fault import CorruptWal, Locked, LogLost, StorageFault, UnusableDataDir
from kvorum.storage.lmdb_store import LmdbStore, map_bytes
from kvorum.storage.replay import Replay
from kvorum.storage.segment import NO_STATE, SEGMENT_BYTES
from kvorum.storage.snapshot_files import SnapshotFiles
from kvorum.storage.wal import Wal

_IGNORED = frozenset(("lost+found", "fixtures"))  # of a fresh volume; certificates that were made for this node
_ETCD_DB = "db"  # in member/snap
ETCD_DB_ASIDE = "db.taken-over-by-kvorum"
_EMPTY_IT = "If the member is gone for good, empty the directory; else give --data-dir the path that holds its data."
_REPLACE_MEMBER = (
    "Bring the missing part back, or remove this member from the cluster, empty the directory, and add it again."
)


class DataDir:
    """A data directory that is ours alone until close(). Makes and opens what lies in it.

    Tests pass a Disk that knows what is durable, and override segment_bytes and open_store.
    """

    segment_bytes = SEGMENT_BYTES

    def __init__(self, root: Path, wal_path: Path, disk: Disk, lock: File, *, is_new: bool) -> None:
        """Not for use outside: open() makes one."""
        self.root = root
        self.wal_path = wal_path
        self.store_path = root / "member" / "store"
        self.is_new = is_new  # no log in it: the member is to be bootstrapped or to join
        self.snapshot_files = SnapshotFiles(self.store_path, disk)
        self._disk = disk
        self._lock = lock

    @staticmethod
    def is_unused(root: Path, wal_path: Path) -> bool:
        """Whether a member would begin here. Touches nothing. Raises UnusableDataDir, CorruptWal."""
        try:
            return _examine(root, wal_path, Disk())
        except OSError as error:
            raise _unusable(root, error) from error

    @classmethod
    def open(cls, root: Path, wal_path: Path | None = None, *, disk: Disk | None = None) -> Self:
        """wal_path: of the log, where it has a place of its own (a disk for it alone, perhaps).

        Raises UnusableDataDir, Locked, CorruptWal (segments missing).
        """
        disk = disk or Disk()
        wal_path = wal_path or root / "member" / "wal"
        try:
            _examine(root, wal_path, disk)
            _make_directories(root / "member" / "snap", disk)
            _make_directories(wal_path.parent, disk)
            path = root / "member" / "lock"
            lock = disk.open(path) if "lock" in disk.names(root / "member") else disk.create(path)
        except OSError as error:
            raise _unusable(root, error) from error
        if not lock.lock():
            lock.close()
            raise Locked(path)
        try:
            # Again, now that nobody else can change it: another node may have come and gone in between.
            return cls(root, wal_path, disk, lock, is_new=_examine(root, wal_path, disk))
        except StorageFault:
            lock.close()
            raise

    def create_wal(self, metadata: bytes, hard_state: HardState = NO_STATE, entries: Sequence[Entry] = ()) -> Wal:
        """See Wal.create. Raises WalFailed."""
        return Wal.create(
            self.wal_path, metadata, hard_state, entries, disk=self._disk, segment_bytes=self.segment_bytes
        )

    def open_wal(self) -> tuple[Wal, Replay]:
        """See Wal.open. Raises CorruptWal, Locked, WalFailed."""
        return Wal.open(self.wal_path, disk=self._disk, segment_bytes=self.segment_bytes)

    @property
    def etcd_db(self) -> Path | None:
        """etcd's tables, where an etcd was the last to run here, or etcdutl restored a backup: to be taken over."""
        path = self.root / "member" / "snap" / _ETCD_DB
        return path if self._disk.exists(path) else None

    def set_etcd_db_aside(self) -> Path:
        """Give etcd's tables another name, so that no etcd goes on from them. Raises UnusableDataDir."""
        assert self.etcd_db is not None
        snap = self.etcd_db.parent
        try:
            # An etcd that was started here by mistake leaves an empty one each time: the first is worth keeping.
            before = sum(name.startswith(ETCD_DB_ASIDE) for name in self._disk.names(snap))
            aside = snap / (f"{ETCD_DB_ASIDE}-{before + 1}" if before else ETCD_DB_ASIDE)
            self._disk.rename(self.etcd_db, aside)
            self._disk.sync_directory(snap)
        except OSError as error:
            raise _unusable(self.root, error) from error
        return aside

    def finish_snapshot(self, replay: Replay) -> None:
        """A leader's snapshot that the log mentions becomes the tables, if a crash kept it from that. Before
        open_store(). Raises StoreFailed, CorruptStore, UnusableDataDir."""
        try:
            self.snapshot_files.finish(replay.snapshot.index)
        except OSError as error:
            raise _unusable(self.root, error) from error

    def open_store(self, quota_bytes: int) -> LmdbStore:
        """Only once there is a log: tables without one are refused at the next start.

        Raises StoreFailed, CorruptStore.
        """
        store_check.require_whole(self.store_path)
        return LmdbStore.open(self.store_path, map_size_bytes=map_bytes(quota_bytes))

    def check_applied(self, replay: Replay, applied_index: int) -> None:
        """Whether log and tables belong together: the tables hold what is applied up to applied_index.

        Raises CorruptWal if the log ends before that (its end was lost: no crash does that) or begins after it.
        """
        if applied_index > replay.last_index:
            raise CorruptWal(
                self.wal_path,
                None,
                f"the log ends with {replay.last_index}, but {applied_index} is in the tables already",
            )
        first_index = replay.entries[0].index if replay.entries else replay.last_index + 1
        if applied_index + 1 < first_index:
            raise CorruptWal(
                self.wal_path, None, f"the log begins with {first_index}, but the tables end with {applied_index}"
            )

    def close(self) -> None:
        self._lock.close()


def _examine(root: Path, wal_path: Path, disk: Disk) -> bool:
    """Whether the directory is new. Raises UnusableDataDir if it cannot be ours as it is, OSError if out of reach."""
    has_log = Wal.exists(wal_path, disk)
    try:
        names = set(disk.names(root)) - _IGNORED
    except FileNotFoundError:
        return not has_log
    if "member" not in names:
        if names:
            raise UnusableDataDir(
                root, f"holds {_some(names)}, but no data of a member", "Give --data-dir an empty or a new directory."
            )
        return not has_log
    parts = set(disk.names(root / "member"))
    if "snap" in parts and _ETCD_DB in disk.names(root / "member" / "snap"):
        _require_unused(root / "member" / "snap" / _ETCD_DB, disk)
        if not has_log:
            raise LogLost(root, f"has etcd's tables (member/snap/{_ETCD_DB}), but no log ({wal_path})", _REPLACE_MEMBER)
    if not has_log and "store" in parts:
        where = "member/wal" if wal_path == root / "member" / "wal" else str(wal_path)
        raise LogLost(root, f"has tables (member/store), but no log ({where})", _REPLACE_MEMBER)
    if not has_log and "wal" in parts:
        raise LogLost(root, "has a directory for the log (member/wal), but no log in it", _REPLACE_MEMBER)
    strange = parts - {"wal", "wal.tmp", "snap", "store", "lock"}
    if not has_log and strange:
        raise UnusableDataDir(root, f"holds {_some(strange)} in member/, but no log (member/wal)", _EMPTY_IT)
    return not has_log


def _require_unused(db_path: Path, disk: Disk) -> None:
    """Raises Locked where an etcd runs on its tables: it holds a lock on the file."""
    file = disk.open(db_path)
    try:
        if not file.lock():
            raise Locked(db_path)
    finally:
        file.close()


def _make_directories(path: Path, disk: Disk) -> None:
    """path and those above it that are missing."""
    missing: list[Path] = []
    while not disk.exists(path):
        missing.append(path)
        path = path.parent
    for absent in reversed(missing):
        disk.make_directory(absent)
        disk.sync_directory(absent.parent)


def _some(names: set[str]) -> str:
    shown = sorted(names)[:3]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")


def _unusable(root: Path, error: OSError) -> UnusableDataDir:
    where = error.filename or root
    why = f"cannot use {where}: {error.strerror or error}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return UnusableDataDir(root, why, "Make it readable and writable for the user this node runs as.")
    if error.errno == errno.EROFS:
        return UnusableDataDir(root, why, "Mount the volume for writing.")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UnusableDataDir(root, why, "Free space on the volume, or enlarge it.")
    if error.errno == errno.ENOTDIR:
        return UnusableDataDir(root, why, "Give --data-dir a directory.")
    return UnusableDataDir(root, why, "See to the disk, then start again.")
