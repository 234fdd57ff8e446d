"""A data directory of a stopped member, ours or etcd's: held against others, its log read, nothing in it changed."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from kvorum.storage.disk import Disk
from kvorum.storage.fault import Locked, UnusableDataDir
from kvorum.storage.wal import LogRead, Wal, read_log

GIVE_ANOTHER = "Give the path that holds a member's data."


@dataclass(frozen=True, slots=True)
class StoppedMember:
    """db: etcd's tables, where the directory is etcd's; else the tables are ours, in store."""

    root: Path
    wal: Path
    log: LogRead
    db: Path | None

    @property
    def snap(self) -> Path:
        return self.root / "member" / "snap"

    @property
    def store(self) -> Path:
        return self.root / "member" / "store"


@contextmanager
def stopped_member(root: Path, wal: Path | None = None) -> Iterator[StoppedMember]:
    """Held until the end of the block: no member of ours or etcd's can start on it meanwhile.

    Raises Locked while one runs, UnusableDataDir where there is no member's data, CorruptWal, WalFailed.
    """
    wal = wal or root / "member" / "wal"
    disk = Disk()
    store, db = root / "member" / "store", root / "member" / "snap" / "db"
    if not root.is_dir():
        raise UnusableDataDir(root, "is no directory", GIVE_ANOTHER)
    if not Wal.exists(wal, disk):
        raise UnusableDataDir(root, f"holds no log of a member ({wal})", GIVE_ANOTHER)
    with ExitStack() as held:
        for path in (root / "member" / "lock", db):
            if path.exists():
                file = disk.open(path)
                held.callback(file.close)
                if not file.lock():
                    raise Locked(path)
        log = read_log(wal, disk=disk)
        if not store.exists() and not db.exists():
            raise UnusableDataDir(
                root,
                "holds a log and no tables: its member has not come that far",
                "Start the member once, or give --data-dir the path of another.",
            )
        yield StoppedMember(root, wal, log, None if store.exists() else db)
