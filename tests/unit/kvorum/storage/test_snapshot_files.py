"""What a crash leaves of a snapshot that was being taken or received, and what the next start makes of it."""

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from kvorum.raft.message import ConfState, Entry, HardState, Snapshot
from kvorum.state.store import META
from kvorum.storage.entry_codec import encode_metadata
from kvorum.storage.fault import CorruptStore
from kvorum.storage.lmdb_store import LmdbStore
from kvorum.storage.snap_file import newest_snap
from kvorum.storage.snapshot_files import SnapshotFiles
from kvorum.storage.wal import Wal

from tests.kit.power_cut import PowerCut, SimDisk

MEMBER = Path("/member")
WAL = MEMBER / "wal"
METADATA = encode_metadata(7, 9)
VOTERS = ConfState((7, 8))
TAKEN, RECEIVED = Snapshot(6, 2, VOTERS, b"tree"), Snapshot(20, 3, VOTERS, b"tree")
HELD = [Entry(2, index, b"x" * 100) for index in range(1, 9)]
OLD_INDEX = 6  # up to where the old tables have applied the log


class Tables(SnapshotFiles):
    """With a file `index` in place of LMDB's, which no simulated disk can hold."""

    def __init__(self, disk: SimDisk) -> None:
        super().__init__(MEMBER / "store", disk)
        self.disk = disk

    def _reached(self, tables: Path) -> int:
        return self.index_in(tables)

    def index_in(self, path: Path) -> int:
        return int(self.disk.content(path / "index"))

    def make(self, path: Path, index: int) -> None:
        self.disk.make_directory(path)
        file = self.disk.create(path / "index")
        file.pwrite(b"%d" % index, 0)
        file.fsync()
        self.disk.sync_directory(path)
        self.disk.sync_directory(path.parent)


def begun() -> tuple[SimDisk, Wal, Tables]:
    """A member that has applied six of eight entries."""
    disk = SimDisk()
    for folder in (MEMBER, MEMBER / "snap"):
        disk.make_directory(folder)
        disk.sync_directory(folder.parent)
    wal = Wal.create(WAL, METADATA, HardState(2, 7, OLD_INDEX), HELD, disk=disk, segment_bytes=4000)
    files = Tables(disk)
    files.make(files.store_path, OLD_INDEX)
    return disk, wal, files


def take(wal: Wal, files: Tables) -> None:
    """In the order of server.snapshots."""
    files.save(TAKEN)
    wal.write_mark(TAKEN)
    wal.sync()
    wal.release(files.purge(1))
    wal.purge(1)


def receive(wal: Wal, files: Tables) -> None:
    files.make(files.incoming(RECEIVED.index), RECEIVED.index)
    files.save(RECEIVED)
    wal.write_received(RECEIVED)
    wal.write(HardState(3, 0, RECEIVED.index), [])
    wal.sync()
    files.swap_in(RECEIVED.index)


def after_each_crash(work: Callable[[Wal, Tables], None], check: Callable[[Snapshot, Tables, int, bool], None]) -> None:
    """check: mark, files, index of the log's last entry, whether the work came to its end."""
    for stop_after in range(200):
        done = False
        for seed in range(6):
            disk, wal, files = begun()
            disk.stop_after = stop_after
            try:
                work(wal, files)
                done = True
            except PowerCut:
                done = False
            if seed:
                disk.cut(Random(seed))
            else:
                disk.kill()
            _, replay = Wal.open(WAL, disk=disk, segment_bytes=4000)
            again = Tables(disk)
            again.finish(replay.snapshot.index)
            check(replay.snapshot, again, replay.last_index, done)
            # Nothing is left of what was on its way, and a second start changes nothing.
            assert [name for name in disk.names(MEMBER) if name.startswith("store")] == ["store"]
            again.finish(replay.snapshot.index)
            check(replay.snapshot, again, replay.last_index, done)
        if done:
            return
    pytest.fail("it never came to its end")


def test_a_snapshot_that_is_taken_counts_from_its_mark_on_at_each_crash() -> None:
    def check(mark: Snapshot, files: Tables, last_index: int, done: bool) -> None:
        assert files.index_in(files.store_path) == OLD_INDEX
        assert last_index == 8
        if mark.index:
            found = newest_snap(files.directory, [mark], disk=files.disk)
            assert found == TAKEN, "the log mentions a snapshot whose file is not there"
        assert not done or mark.index == TAKEN.index

    after_each_crash(take, check)


def test_tables_and_log_of_a_received_snapshot_belong_together_at_each_crash() -> None:
    outcomes = set()

    def check(mark: Snapshot, files: Tables, last_index: int, done: bool) -> None:
        index = files.index_in(files.store_path)
        outcomes.add(index)
        if mark.index == RECEIVED.index:
            assert (index, last_index) == (RECEIVED.index, RECEIVED.index)
            assert newest_snap(files.directory, [mark], disk=files.disk) == RECEIVED
        else:
            assert (mark.index, index, last_index) == (0, OLD_INDEX, 8)
        assert not done or mark.index == RECEIVED.index

    after_each_crash(receive, check)
    assert outcomes == {OLD_INDEX, RECEIVED.index}


def test_tables_that_no_mark_stands_for_are_removed_and_so_is_what_was_passing() -> None:
    disk, _, files = begun()
    files.make(files.incoming(30), 30)
    files.make(files.incoming(20), 20)
    for name in ("sent-1-1.db", "got-22-3.db"):
        disk.create(MEMBER / "snap" / name)
    disk.create(MEMBER / "snap" / "db.taken-over-by-kvorum")
    files.finish(0)
    assert disk.names(MEMBER) == ["snap", "store", "wal"]
    assert disk.names(MEMBER / "snap") == ["db.taken-over-by-kvorum"]
    assert files.index_in(files.store_path) == OLD_INDEX


def test_tables_that_are_ahead_of_the_mark_are_not_replaced() -> None:
    """The member went on from the snapshot, got the same one again, and died."""
    _, _, files = begun()
    files.make(files.incoming(5), 5)
    files.finish(5)
    assert files.index_in(files.store_path) == OLD_INDEX


# --- with LMDB's own tables ------------------------------------------------------------------------------------------


def real(folder: Path, present_index: int, incoming_index: int, mark: int = 9) -> SnapshotFiles:
    (folder / "snap").mkdir()
    files = SnapshotFiles(folder / "store")
    for path, index in ((files.store_path, present_index), (files.incoming(mark), incoming_index)):
        store = LmdbStore.open(path)
        for number in range(2000):
            store.put("key", b"%08d" % number, b"v" * 200)
        store.put(META, b"consistent_index", index.to_bytes(8, "big"))
        store.commit()
        store.close()
    return files


def real_index(files: SnapshotFiles) -> int:
    store = LmdbStore.open(files.store_path)
    try:
        return int.from_bytes(store.get(META, b"consistent_index") or b"", "big")
    finally:
        store.close()


def cut_in_half(tables: Path) -> None:
    """Whoever reads on gets SIGBUS."""
    file = tables / "data.mdb"
    os.truncate(file, file.stat().st_size // 2 // 4096 * 4096)


def wrong_magic(tables: Path) -> None:
    with (tables / "data.mdb").open("r+b") as file:
        file.seek(16)
        file.write(b"none")


def noise(tables: Path) -> None:
    (tables / "data.mdb").write_bytes(os.urandom(20_000))


def one_page(tables: Path) -> None:
    os.truncate(tables / "data.mdb", 4096)


def test_real_tables_tell_how_far_they_are(tmp_path: Path) -> None:
    files = real(tmp_path, present_index=5, incoming_index=9)
    files.finish(9)
    assert files.marked_index == 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["snap", "store"]
    assert real_index(files) == 9


@pytest.mark.parametrize("present_index", [5, 12])
@pytest.mark.parametrize("damage", [cut_in_half, wrong_magic, noise, one_page])
def test_damaged_tables_make_way_for_whole_ones_that_the_log_mentions(
    tmp_path: Path, damage: Callable[[Path], None], present_index: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the damaged were further: the log goes on from the mark."""
    files = real(tmp_path, present_index, incoming_index=9)
    damage(files.store_path)
    files.finish(9)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["snap", "store"]
    assert real_index(files) == 9
    (warning,) = caplog.records
    assert "the tables are damaged; those that were received take their place" in warning.getMessage()
    assert vars(warning)["why"]


def every_file(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("data.mdb")}


@pytest.mark.parametrize("incoming_index", [9, 8], ids=["damaged too", "not up to the mark"])
def test_damaged_tables_without_any_that_may_replace_them_are_corrupt_and_stay(
    tmp_path: Path, incoming_index: int
) -> None:
    files = real(tmp_path, 5, incoming_index)
    cut_in_half(files.store_path)
    if incoming_index == 9:
        cut_in_half(files.incoming(9))
    before = every_file(tmp_path)
    for _ in range(2):
        with pytest.raises(CorruptStore, match=f"{files.store_path}.*: the tables are damaged"):
            files.finish(9)
        assert every_file(tmp_path) == before


def test_damaged_tables_that_came_do_not_replace_any_that_are_whole_and_further(tmp_path: Path) -> None:
    files = real(tmp_path, present_index=12, incoming_index=9)
    cut_in_half(files.incoming(9))
    files.finish(9)
    assert real_index(files) == 12


def test_names_of_passing_files_are_used_once() -> None:
    files = SnapshotFiles(Path("/nowhere/store"))
    assert files.new_passing("sent") != files.new_passing("sent")


def test_the_last_tables_are_never_removed() -> None:
    """What was to take their place is gone, by somebody's hand."""
    _, _, files = begun()
    files.disk.rename(files.store_path, files.store_path.with_name("store.replaced"))
    files.finish(RECEIVED.index)
    assert files.index_in(files.store_path) == OLD_INDEX
