"""A data directory of ours as etcd's, and etcd's as ours: a copy, without a network, with the same member in it.

The member keeps its id, its votes and its entries. So it may run from one of the two directories only, the new one or
the old one: from both, the cluster would have a member twice.
"""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from kvorum.data.directory import StoppedMember, stopped_member
from kvorum.server.snapshot_db import export_snapshot
from kvorum.server.takeover import take_over
from kvorum.storage import store_check
from kvorum.storage.data_dir import DataDir
from kvorum.storage.disk import Disk
from kvorum.storage.fault import StorageFault, UnusableDataDir, WalFailed
from kvorum.storage.snap_file import write_snap
from kvorum.storage.wal import Wal

NEW_DIRECTORY = "Give an empty or a new directory."


class NothingToDo(StorageFault):
    """The directory is already of the form asked for."""


@dataclass(frozen=True, slots=True)
class Transferred:
    """applied_index: of the tables; last_index: of the log that goes on from there."""

    applied_index: int
    last_index: int


def export_to_etcd(root: Path, wal: Path | None, out: Path) -> Transferred:
    """Makes in `out`, which is new or empty, what an etcd 3.5 starts from. Raises StorageFault; `out` is empty then."""
    require_empty(out)
    with stopped_member(root, wal) as member:
        if member.db is not None:
            raise NothingToDo(f"{root}: is a data directory of etcd's already\n  Copy it, while no etcd runs on it.")
        with making(out):
            done = asyncio.run(_export(member, out))
    return done


async def _export(member: StoppedMember, out: Path) -> Transferred:
    """The tables as etcd's file; a snapshot at what is applied in them; a log that begins there."""
    disk = Disk()
    store_check.require_whole(member.store)
    snap = out / "member" / "snap"
    snap.mkdir(parents=True)
    exported = await export_snapshot(member.store, snap / "db")
    snapshot = exported.snapshot
    replay = member.log.replay
    entries = [entry for entry in replay.entries if entry.index > snapshot.index]
    if entries and entries[0].index != snapshot.index + 1:
        raise UnusableDataDir(
            member.root,
            f"has tables up to entry {snapshot.index} and a log from {entries[0].index} on: what lies between is "
            "missing",
            "Look at it with `kvorum data check`.",
        )
    write_snap(snap, snapshot, disk=disk)
    # A killed member's tables may be ahead of the commit that its log remembers: etcd takes no snapshot beyond it.
    hard_state = replace(replay.hard_state, commit=max(replay.hard_state.commit, snapshot.index))
    log = Wal.create(out / "member" / "wal", replay.metadata, disk=disk)
    try:
        log.write_received(snapshot)
        log.write(hard_state, entries)
        log.sync()
    finally:
        log.close()
    disk.sync_directory(snap)
    disk.sync_directory(out / "member")
    return Transferred(snapshot.index, max(snapshot.index, replay.last_index))


def import_from_etcd(source: Path, wal: Path | None, root: Path) -> Transferred:
    """Makes in `root`, which is new or empty, what a node of ours starts from, of a directory of etcd's.

    The log will lie in it, also where etcd's has a place of its own. Raises StorageFault; `root` is empty then.
    """
    require_empty(root)
    with stopped_member(source, wal) as member:
        if member.db is None:
            raise NothingToDo(
                f"{source}: is a data directory of kvorum's already\n  Copy it, while no node runs on it."
            )
        with making(root):
            shutil.copytree(member.wal, root / "member" / "wal", ignore=shutil.ignore_patterns("*.tmp"))
            (root / "member" / "snap").mkdir()
            for path in sorted(member.snap.iterdir()):
                if path.suffix in (".snap", ".db") or path.name == "db":
                    shutil.copy(path, root / "member" / "snap")
            done = asyncio.run(_import(root))
    return done


async def _import(root: Path) -> Transferred:
    data_dir = DataDir.open(root)
    try:
        log, replay = data_dir.open_wal()
        try:
            await take_over(data_dir, replay)
        finally:
            log.close()
        store = data_dir.open_store(0)
        try:
            applied = int.from_bytes(store.get("meta", b"consistent_index") or b"", "big")
        finally:
            store.close()
        for copy in data_dir.snapshot_files.directory.glob("db.*"):
            copy.unlink()  # etcd's own is where it was
        return Transferred(applied, replay.last_index)
    finally:
        data_dir.close()


def require_empty(folder: Path) -> None:
    """Raises UnusableDataDir."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UnusableDataDir(folder, "exists and is not empty", NEW_DIRECTORY)


@contextmanager
def making(folder: Path) -> Iterator[None]:
    """Takes away what was made in a folder if the block fails, and tells a full disk as what it is."""
    was_there = folder.exists()
    try:
        yield
    except BaseException as error:  # Ctrl-C, too: half a copy must not be taken for one
        shutil.rmtree(folder / "member" if was_there else folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise WalFailed(folder, "write the copy", error) from error
        raise
