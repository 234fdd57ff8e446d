"""A directory that is looked at offline: what of it is told, what is damage, and that nothing of it changes."""

import fcntl
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from kvorum.data.check import check
from kvorum.data.directory import stopped_member
from kvorum.data.state import hash_of, state_of
from kvorum.data.transfer import NothingToDo, export_to_etcd, import_from_etcd
from kvorum.etcdpb.internal_pb2 import InternalRaftRequest, RequestHeader
from kvorum.etcdpb.rpc_pb2 import PutRequest
from kvorum.raft.message import Entry
from kvorum.state.hash_kv import KeySpaceHash
from kvorum.state.refusal import COMPACTED, FUTURE_REVISION
from kvorum.storage.fault import CorruptDb, CorruptSnap, CorruptWal, Locked, StorageFault, UnusableDataDir
from kvorum.storage.record import ENTRY, encode_record, read_record
from kvorum.storage.wal import Wal

TESTDATA = Path(__file__).parents[1] / "storage" / "testdata"
# Lives of real etcds, and what they said of themselves (tests/unit/kvorum/server/test_takeover.py).
LIFE, SNAPSHOT = "member-life", "member-snapshot"
PAGE_BYTES = 4096
HASHES = {LIFE: {7: 409507257, 0: 3643176747}, SNAPSHOT: {10: 754725784, 64: 3547499420}}


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


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(params=[LIFE, SNAPSHOT])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_etcds_directory_is_whole_has_etcds_hashes_and_stays_as_it_is(name: str, tmp_path: Path) -> None:
    root = etcd_directory(tmp_path / "etcd", name)
    before = contents(root)
    report = check(root)
    assert report.damages == []
    assert "etcd's tables" in report.lines[0]
    with stopped_member(root) as member, state_of(member) as machine:
        found = {revision: hash_of(machine, revision) for revision in HASHES[name]}
        assert hash_of(machine, 10_000) is FUTURE_REVISION
    assert {revision: one.hash for revision, one in found.items() if isinstance(one, KeySpaceHash)} == HASHES[name]
    assert contents(root) == before


def test_directory_taken_over_has_the_same_hashes_and_the_source_stays(name: str, tmp_path: Path) -> None:
    root = etcd_directory(tmp_path / "etcd", name)
    before = contents(root)
    done = import_from_etcd(root, None, tmp_path / "ours")
    assert contents(root) == before
    assert list((tmp_path / "ours" / "member" / "snap").glob("db*")) == []
    report = check(tmp_path / "ours")
    assert (report.damages, "kvorum's tables" in report.lines[0]) == ([], True)
    assert f"applied {done.applied_index}" in report.lines[-1] or done.applied_index < done.last_index
    with stopped_member(tmp_path / "ours") as member, state_of(member) as machine:
        for revision, hashed in HASHES[name].items():
            found = hash_of(machine, revision)
            assert isinstance(found, KeySpaceHash)
            assert found.hash == hashed
        refused = hash_of(machine, 1)
        assert refused is COMPACTED or machine.compact_revision < 1
    with pytest.raises(NothingToDo):
        import_from_etcd(tmp_path / "ours", None, tmp_path / "third")
    assert not (tmp_path / "third").exists()


def test_directory_in_use_is_left_alone(tmp_path: Path) -> None:
    root = etcd_directory(tmp_path / "etcd", LIFE)
    with (root / "member" / "snap" / "db").open("rb+") as used:
        fcntl.flock(used, fcntl.LOCK_EX)
        for refused in (lambda: check(root), lambda: import_from_etcd(root, None, tmp_path / "ours")):
            with pytest.raises(Locked):
                refused()
    assert not (tmp_path / "ours").exists()
    with stopped_member(root), (root / "member" / "snap" / "db").open("rb+") as wanted, pytest.raises(BlockingIOError):
        fcntl.flock(wanted, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_torn_end_of_the_log_is_told_and_is_no_damage(tmp_path: Path) -> None:
    root = etcd_directory(tmp_path / "etcd", SNAPSHOT)
    segment = sorted((root / "member" / "wal").iterdir())[-1]
    content = segment.read_bytes()
    end = crc = 0
    while (found := read_record(content, end, crc)) is not None:
        end, crc = found.end, found.crc
    record = encode_record(ENTRY, crc, b"x" * 2000)
    segment.write_bytes(content[:end] + record[:300] + bytes(len(record)))  # the rest of it was never written
    before = contents(root)
    report = check(root)
    assert report.damages == []
    assert any("torn by a crash" in line for line in report.lines)
    assert contents(root) == before


def test_each_damage_is_told_with_what_it_is(tmp_path: Path) -> None:
    root = etcd_directory(tmp_path / "etcd", SNAPSHOT)
    segment = sorted((root / "member" / "wal").iterdir())[0]
    db = root / "member" / "snap" / "db"
    newest = max(path for path in (root / "member" / "snap").iterdir() if path.suffix == ".snap")
    pages = db.stat().st_size - 2 * PAGE_BYTES
    for path, kind, at, count in (
        (segment, CorruptWal, 200, 8),
        (newest, CorruptSnap, 30, 8),
        (db, CorruptDb, 2 * PAGE_BYTES, pages),
    ):
        whole = path.read_bytes()
        path.write_bytes(whole[:at] + bytes(byte ^ 0xFF for byte in whole[at : at + count]) + whole[at + count :])
        assert [type(damage) for damage in check(root).damages][:1] == [kind], path
        with pytest.raises(StorageFault):
            import_from_etcd(root, None, tmp_path / "ours")
        assert not (tmp_path / "ours").exists()
        path.write_bytes(whole)
    assert check(root).damages == []


def test_what_the_log_has_and_the_tables_lack_counts_and_is_not_written(tmp_path: Path) -> None:
    """As after kill -9: the tables follow the log by a moment."""
    import_from_etcd(etcd_directory(tmp_path / "etcd", LIFE), None, tmp_path / "ours")
    root = tmp_path / "ours"
    with stopped_member(root) as member, state_of(member) as machine:
        before, commit = hash_of(machine, 0), member.log.replay.hard_state
    data = InternalRaftRequest(header=RequestHeader(ID=7), put=PutRequest(key=b"late", value=b"1")).SerializeToString()
    wal, replay = Wal.open(root / "member" / "wal")
    index = replay.last_index + 1
    entries = [Entry(commit.term, index + more, data) for more in range(2)]
    wal.write(replace(commit, commit=index), entries)  # the second of them is not committed
    wal.close()
    for _ in range(2):
        with stopped_member(root) as member, state_of(member) as machine:
            found = hash_of(machine, 0)
            assert isinstance(before, KeySpaceHash)
            assert isinstance(found, KeySpaceHash)
            assert (found.revision, found.hash == before.hash) == (before.revision + 1, False)
            assert machine.applied_index == index


def test_tables_ahead_of_the_logs_commit_become_a_directory_that_begins_with_them(tmp_path: Path) -> None:
    """As after kill -9: the commit that let entries into the tables is written with the next entries."""
    root, log = tmp_path / "ours", tmp_path / "ours" / "member" / "wal"
    done = import_from_etcd(etcd_directory(tmp_path / "etcd", LIFE), None, root)
    wal, replay = Wal.open(log)
    wal.close()
    shutil.rmtree(log)
    wal = Wal.create(log, replay.metadata)
    wal.write(replace(replay.hard_state, commit=done.applied_index - 1), replay.entries)
    wal.close()
    export_to_etcd(root, None, tmp_path / "out")
    report = check(tmp_path / "out")
    assert report.damages == []
    assert f"committed {done.applied_index}" in report.lines[1]


def test_tables_behind_the_logs_beginning_are_damage(tmp_path: Path) -> None:
    """What lies between is nowhere."""
    root = etcd_directory(tmp_path / "etcd", SNAPSHOT)
    shutil.copy(TESTDATA / LIFE / "db", root / "member" / "snap" / "db")
    (damage,) = check(root).damages
    assert isinstance(damage, CorruptWal)


def test_what_is_no_directory_of_a_member_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for root in (tmp_path / "nosuch", tmp_path / "empty"):
        with pytest.raises(UnusableDataDir):
            check(root)


def test_log_may_have_a_place_of_its_own(tmp_path: Path) -> None:
    root = etcd_directory(tmp_path / "etcd", LIFE)
    (root / "member" / "wal").rename(tmp_path / "log")
    with pytest.raises(UnusableDataDir):
        check(root)
    assert check(root, tmp_path / "log").damages == []
    import_from_etcd(root, tmp_path / "log", tmp_path / "ours")
    assert check(tmp_path / "ours").damages == []
