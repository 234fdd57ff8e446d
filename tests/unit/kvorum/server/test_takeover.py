"""etcd's data directories become ours: members, configuration and keys are right, and a crash changes nothing."""

import asyncio
import fcntl
import logging
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from kvorum.raft.message import ConfState
from kvorum.server import takeover
from kvorum.server.snapshot_db import ConversionFailed
from kvorum.server.takeover import take_over
from kvorum.state.hash_kv import KeySpaceHash
from kvorum.state.machine import Machine
from kvorum.state.store import TABLES
from kvorum.storage.bbolt_reader import BUCKET_HEADER, BboltFile
from kvorum.storage.bbolt_writer import write_bbolt
from kvorum.storage.data_dir import DataDir
from kvorum.storage.fault import CorruptDb, CorruptSnap, Locked, LogLost, StorageFault, UnusableDataDir
from kvorum.storage.lmdb_store import LmdbStore
from kvorum.storage.replay import Replay
from kvorum.storage.snap_file import read_snap, write_snap

from tests.unit.kvorum.state.driver import captured_table, hash_of, new_machine

TESTDATA = Path(__file__).parents[1] / "storage" / "testdata"
ASIDE = "db.taken-over-by-kvorum"
LIFE, SNAPSHOT = "member-life", "member-snapshot"
NEWEST_SNAP = "0000000000000002-000000000000003f.snap"  # which the log mentions
PAGE_BYTES = 4096
HASHES = {LIFE: {7: 409507257, 0: 3643176747}, SNAPSHOT: {10: 754725784, 64: 3547499420}}
TABLES_OF = {LIFE: "life-db.json", SNAPSHOT: "snapshot-db.json"}


def etcd_directory(root: Path, name: str) -> Path:
    """As an etcd left it."""
    (root / "member" / "wal").mkdir(parents=True)
    (root / "member" / "snap").mkdir()
    for path in (TESTDATA / name).iterdir():
        if path.suffix == ".wal":
            shutil.copy(path, root / "member" / "wal")
        elif path.suffix == ".snap" or path.name == "db":
            shutil.copy(path, root / "member" / "snap")
    return root


def taken(root: Path) -> tuple[dict[str, dict[bytes, bytes]], Replay]:
    """The tables after a take-over."""
    data_dir = DataDir.open(root)
    wal, replay = data_dir.open_wal()
    try:
        asyncio.run(take_over(data_dir, replay))
        store = LmdbStore.open(data_dir.store_path)
        rows = {table: dict(store.scan(table)) for table in TABLES}
        store.close()
    finally:
        wal.close()
        data_dir.close()
    return rows, replay


def loaded(root: Path) -> Machine:
    data_dir = DataDir.open(root)
    machine = new_machine(LmdbStore.open(data_dir.store_path))
    data_dir.close()
    return machine


@pytest.mark.parametrize("name", [LIFE, SNAPSHOT])
def test_the_tables_are_etcds_and_the_log_fits_them(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = etcd_directory(tmp_path, name)
    with caplog.at_level(logging.INFO):
        rows, replay = taken(root)
    # Worked out from the snapshot file and the log, and equal to what etcd 3.5.30 keeps beside it.
    for table in TABLES:
        assert rows[table] == captured_table(TABLES_OF[name], table), table
    snap = sorted(path.name for path in (root / "member" / "snap").iterdir() if path.suffix != ".snap")
    assert snap == [ASIDE]
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    assert vars(caplog.records[1])["to"] == str(root / "member" / "snap" / ASIDE)

    machine = loaded(root)
    assert machine.applied_index <= replay.last_index
    for revision, told in HASHES[name].items():
        found = hash_of(machine, revision)
        assert isinstance(found, KeySpaceHash)
        assert found.hash == told


def test_nothing_happens_twice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = etcd_directory(tmp_path, SNAPSHOT)
    first, _ = taken(root)
    caplog.clear()
    again, _ = taken(root)
    assert again == first
    assert not caplog.records


def rewrite_db(root: Path, table: str, changes: dict[bytes, bytes]) -> None:
    db = root / "member" / "snap" / "db"
    with BboltFile.open(db) as file:
        tables = {name: dict(file.rows(name)) for name in file.bucket_names()}
    tables[table.encode()] |= changes
    write_bbolt(db, [(name, sorted(tables[name].items())) for name in sorted(tables)])


def test_members_and_configuration_are_the_logs_whatever_the_rows_say(tmp_path: Path) -> None:
    root = etcd_directory(tmp_path, LIFE)
    rewrite_db(root, "meta", {b"confState": b'{"voters":[77],"auto_leave":false}'})  # of a cluster that was backed up
    rewrite_db(root, "members", {b"4d": b'{"id":77,"peerURLs":["http://zombie"]}'})
    rows, _ = taken(root)
    assert rows["members"] == captured_table("life-db.json", "members")
    assert rows["meta"] == captured_table("life-db.json", "meta")
    machine = loaded(root)
    assert machine.conf_state == ConfState(voters=(6183596441604373225, 9447328442032054562, 12683383893584920705))


def test_a_crash_between_the_two_steps_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = etcd_directory(tmp_path, SNAPSHOT)
    with monkeypatch.context() as patch:
        patch.setattr(DataDir, "set_etcd_db_aside", crash)
        with pytest.raises(Crashed):
            taken(root)
    assert (root / "member" / "store").exists()
    assert (root / "member" / "snap" / "db").exists()
    with monkeypatch.context() as patch:
        patch.setattr(takeover, "import_snapshot", crash)  # not again
        rows, _ = taken(root)
    assert rows["key"] == captured_table("snapshot-db.json", "key")
    assert not (root / "member" / "snap" / "db").exists()


def test_what_an_etcd_leaves_that_was_started_there_later_is_set_aside_too(tmp_path: Path) -> None:
    root = etcd_directory(tmp_path, SNAPSHOT)
    first, _ = taken(root)
    snap = root / "member" / "snap"
    for _ in range(2):
        (snap / "db").write_bytes(b"an empty one")
        again, _ = taken(root)
        assert again == first
    names = sorted(path.name for path in snap.iterdir() if path.suffix != ".snap")
    assert names == [ASIDE, f"{ASIDE}-2", f"{ASIDE}-3"]
    assert (snap / ASIDE).stat().st_size == (TESTDATA / SNAPSHOT / "db").stat().st_size


def test_what_a_crash_left_of_a_conversion_is_no_store(tmp_path: Path) -> None:
    root = etcd_directory(tmp_path, SNAPSHOT)
    half = root / "member" / "store.tmp"
    half.mkdir()
    (half / "data.mdb").write_bytes(b"half")
    rows, _ = taken(root)
    assert rows["key"] == captured_table("snapshot-db.json", "key")
    assert not half.exists()


def test_tables_that_came_with_a_snapshot_take_the_place_of_older_ones(tmp_path: Path) -> None:
    """etcd died after the log mentioned a leader's snapshot, and before it renamed the tables that came with it."""
    root = etcd_directory(tmp_path, SNAPSHOT)
    snap = root / "member" / "snap"
    shutil.copy(snap / "db", snap / "000000000000003f.snap.db")
    rewrite_db(root, "meta", {b"consistent_index": (20).to_bytes(8, "big")})
    rewrite_db(root, "lease", {b"only in old": b""})
    rows, _ = taken(root)
    assert rows["lease"] == captured_table("snapshot-db.json", "lease")
    assert rows["meta"] == captured_table("snapshot-db.json", "meta")


class Crashed(Exception):
    pass


def crash(*_: object) -> None:
    raise Crashed


# --- what is refused, with the directory as it was -------------------------------------------------------------------


def refused(root: Path, kind: type[StorageFault], why: str) -> None:
    before = sorted((str(path), path.stat().st_size) for path in (root / "member" / "snap").rglob("*"))
    with pytest.raises(kind, match=why):
        taken(root)
    assert sorted((str(path), path.stat().st_size) for path in (root / "member" / "snap").rglob("*")) == before
    assert not (root / "member" / "store").exists()


def test_a_directory_that_an_etcd_uses_is_refused_by_name_and_untouched(tmp_path: Path) -> None:
    root = etcd_directory(tmp_path, SNAPSHOT)
    db = root / "member" / "snap" / "db"
    with db.open("rb") as etcd:
        fcntl.flock(etcd, fcntl.LOCK_EX)
        for ask in (lambda: DataDir.is_unused(root, root / "member" / "wal"), lambda: DataDir.open(root)):
            with pytest.raises(Locked, match=f"{db} is in use by another process"):
                ask()
    assert sorted(os.listdir(root / "member")) == ["snap", "wal"]
    taken(root)


def test_tables_behind_the_snapshot_are_refused(tmp_path: Path) -> None:
    root = etcd_directory(tmp_path, SNAPSHOT)
    rewrite_db(root, "meta", {b"consistent_index": (62).to_bytes(8, "big")})
    refused(root, UnusableDataDir, r"tables up to entry 62, a snapshot of 63, and a log up to \d+: what lies")


def test_tables_beyond_the_end_of_the_log_are_refused(tmp_path: Path) -> None:
    root = etcd_directory(tmp_path, SNAPSHOT)
    rewrite_db(root, "meta", {b"consistent_index": (1000).to_bytes(8, "big")})
    refused(root, UnusableDataDir, r"tables up to entry 1000, a snapshot of 63, and a log up to \d\d: what lies")


def test_a_missing_snapshot_file_is_named(tmp_path: Path) -> None:
    root = etcd_directory(tmp_path, SNAPSHOT)
    (root / "member" / "snap" / NEWEST_SNAP).unlink()
    refused(root, UnusableDataDir, rf"lacks the snapshot .*member/snap/{NEWEST_SNAP}\)")


def flip_within(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("damage", [flip_within, cut_short, empty])
def test_a_broken_snapshot_file_is_damage_at_each_start_until_it_is_brought_back(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    root = etcd_directory(tmp_path, SNAPSHOT)
    path = root / "member" / "snap" / NEWEST_SNAP
    damage(path)
    for _ in range(2):
        with pytest.raises(
            CorruptSnap, match=rf"{path}: .* is broken: it was renamed to {NEWEST_SNAP}\.broken\n.*remove"
        ):
            taken(root)
    assert not (root / "member" / "store").exists()
    assert (root / "member" / "snap" / "db").exists()
    shutil.copy(TESTDATA / SNAPSHOT / NEWEST_SNAP, path)
    rows, _ = taken(root)
    assert rows["meta"] == captured_table("snapshot-db.json", "meta")


def test_a_snapshot_file_without_members_is_damage(tmp_path: Path) -> None:
    """Its checksum is right: it was never a member's."""
    root = etcd_directory(tmp_path, SNAPSHOT)
    snap = root / "member" / "snap"
    write_snap(snap, replace(read_snap(snap / NEWEST_SNAP), data=b"{}"))
    refused(root, CorruptSnap, f"{NEWEST_SNAP}: Root is not an object")


def test_in_a_directory_of_ours_no_snapshot_file_is_needed(tmp_path: Path) -> None:
    """The tables are the snapshot."""
    root = etcd_directory(tmp_path, SNAPSHOT)
    first, _ = taken(root)
    files = sorted((root / "member" / "snap").glob("*.snap"))
    for path in files:
        flip_within(path)
    again, _ = taken(root)
    assert again == first
    assert sorted((root / "member" / "snap").glob("*.snap")) == files


# --- pages of etcd's tables: PAGE_BYTES each, the first two are the meta pages


def missing_pages(db: Path) -> None:
    os.truncate(db, 4 * PAGE_BYTES)


def meta_pages(db: Path) -> None:
    data = bytearray(db.read_bytes())
    for page in (0, 1):
        data[page * PAGE_BYTES + 40] ^= 0x10
    db.write_bytes(data)


def root_of(bucket: bytes) -> Callable[[Path], None]:
    """The page that holds the bucket's rows, or begins them: it says that it is neither leaf nor branch."""

    def damage(db: Path) -> None:
        with BboltFile.open(db) as file:
            page = BUCKET_HEADER.unpack_from(file._buckets[bucket])[0]
        assert page, "its rows are within the page of the buckets"
        data = bytearray(db.read_bytes())
        data[page * PAGE_BYTES + 8] ^= 0xFF
        db.write_bytes(data)

    return damage


def key_of_two_pages(db: Path) -> None:
    rewrite_db(db.parents[2], "lease", {b"l" * 2 * PAGE_BYTES: b""})


@pytest.mark.parametrize("damage", [missing_pages, meta_pages, root_of(b"key"), key_of_two_pages])
def test_a_damaged_db_is_damage_whoever_finds_it(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """Meta pages are met by the member, the pages of keys by the process that converts them."""
    root = etcd_directory(tmp_path, SNAPSHOT)
    db = root / "member" / "snap" / "db"
    damage(db)
    for _ in range(2):
        refused(root, CorruptDb, f"{db}: .*\n(?s:.*)member remove")


def test_a_conversion_that_is_killed_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = etcd_directory(tmp_path, SNAPSHOT)
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/bin/false")
        refused(root, ConversionFailed, "ended with status 1 and no answer")
    taken(root)


def test_etcds_tables_without_a_log_are_a_member_that_lost_it(tmp_path: Path) -> None:
    root = etcd_directory(tmp_path, SNAPSHOT)
    shutil.rmtree(root / "member" / "wal")
    refused(root, LogLost, r"has etcd's tables \(member/snap/db\), but no log")
