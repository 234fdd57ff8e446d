"""The data directory: what is taken for ours, what is refused untouched, and what is said."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from kvorum.raft.message import Entry, HardState, Snapshot
from kvorum.state.store import KEY
from kvorum.storage.data_dir import DataDir
from kvorum.storage.disk import Disk, File
from kvorum.storage.entry_codec import encode_metadata
from kvorum.storage.fault import CorruptWal, Locked, StorageFault, UnusableDataDir
from kvorum.storage.replay import Replay

METADATA = encode_metadata(7, 9)
QUOTA_BYTES = 2 << 30


def used(root: Path) -> Path:
    """A directory that a member has lived in."""
    data_dir = DataDir.open(root)
    data_dir.create_wal(METADATA, HardState(1, 0, 1), [Entry(1, 1, b"a")]).close()
    store = data_dir.open_store(QUOTA_BYTES)
    store.put(KEY, b"a", b"1")
    store.commit()
    store.close()
    data_dir.close()
    return root


def tree(root: Path) -> list[tuple[str, int, float]]:
    return sorted((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in root.rglob("*"))


def test_a_member_comes_back_to_what_it_left(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "down" / "data"
    data_dir = DataDir.open(root)
    assert data_dir.is_new
    data_dir.close()
    used(root)
    data_dir = DataDir.open(root)
    assert not data_dir.is_new
    wal, replay = data_dir.open_wal()
    assert (replay.metadata, replay.entries) == (METADATA, [Entry(1, 1, b"a")])
    store = data_dir.open_store(QUOTA_BYTES)
    assert store.get(KEY, b"a") == b"1"
    wal.close()
    store.close()
    data_dir.close()


def test_the_layout_is_etcds_and_for_the_owner_only(tmp_path: Path) -> None:
    root = used(tmp_path / "data")
    assert sorted(os.listdir(root)) == ["member"]
    assert sorted(os.listdir(root / "member")) == ["lock", "snap", "store", "wal"]
    for path in (root, *root.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_a_new_directory_may_be_the_root_of_a_volume(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    assert DataDir.open(tmp_path).is_new


def test_a_creation_that_was_interrupted_is_still_new(tmp_path: Path) -> None:
    DataDir.open(tmp_path / "data").close()
    (tmp_path / "data" / "member" / "wal.tmp").mkdir()
    data_dir = DataDir.open(tmp_path / "data")
    assert data_dir.is_new
    data_dir.create_wal(METADATA).close()


def test_a_log_whose_tables_were_not_made_yet_is_whole(tmp_path: Path) -> None:
    root = used(tmp_path / "data")
    shutil.rmtree(root / "member" / "store")
    assert not DataDir.open(root).is_new


def refuse_foreign(root: Path) -> None:
    root.mkdir()
    for name in ("thesis.odt", "photos", ".bashrc", "mail"):
        (root / name).write_text("mine")


def refuse_etcds_without_log(root: Path) -> None:
    (root / "member" / "snap").mkdir(parents=True)
    (root / "member" / "snap" / "db").write_bytes(b"bbolt")


def refuse_without_log(root: Path) -> None:
    shutil.rmtree(used(root) / "member" / "wal")


def refuse_emptied_log(root: Path) -> None:
    wal = used(root) / "member" / "wal"
    shutil.rmtree(root / "member" / "store")
    for path in wal.iterdir():
        path.unlink()


def refuse_strange(root: Path) -> None:
    (root / "member" / "photos").mkdir(parents=True)


def refuse_file(root: Path) -> None:
    root.write_text("a file")


@pytest.mark.parametrize(
    ("make", "why", "way_out"),
    [
        (
            refuse_foreign,
            "holds .bashrc, mail, photos and 1 more, but no data of a member",
            "an empty or a new directory",
        ),
        (
            refuse_etcds_without_log,
            r"has etcd's tables \(member/snap/db\), but no log",
            "Bring the missing part back",
        ),
        (
            refuse_without_log,
            r"has tables \(member/store\), but no log \(member/wal\)",
            "remove this member from the cluster",
        ),
        (
            refuse_emptied_log,
            r"has a directory for the log \(member/wal\), but no log in it",
            "Bring the missing part back",
        ),
        (refuse_strange, "holds photos in member/, but no log", "empty the directory"),
        (refuse_file, "Not a directory", "Give --data-dir a directory"),
    ],
)
def test_a_directory_that_is_not_ours_or_not_whole_is_refused_untouched(
    make: object, why: str, way_out: str, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    assert callable(make)
    make(root)
    before = tree(tmp_path)
    with pytest.raises(UnusableDataDir, match=why) as refusal:
        DataDir.open(root)
    assert str(refusal.value).startswith(f"{root}: ")
    assert way_out in str(refusal.value).splitlines()[1]
    assert tree(tmp_path) == before


def test_a_missing_segment_is_refused_untouched(tmp_path: Path) -> None:
    root = used(tmp_path / "data")
    wal = root / "member" / "wal"
    (path,) = wal.iterdir()
    shutil.copy(path, wal / "0000000000000002-0000000000000009.wal")
    before = tree(root)
    with pytest.raises(CorruptWal, match="segment 0000000000000001 is missing"):
        DataDir.open(root)
    assert tree(root) == before


class FullDisk(Disk):
    def create(self, path: Path) -> File:
        raise OSError(28, "No space left on device", str(path))


class ReadOnlyDisk(Disk):
    def make_directory(self, path: Path) -> None:
        raise OSError(30, "Read-only file system", str(path))


class ForbiddenDisk(Disk):
    def names(self, directory: Path) -> list[str]:
        raise PermissionError(13, "Permission denied", str(directory))


@pytest.mark.parametrize(
    ("disk", "why", "way_out"),
    [
        (FullDisk(), "No space left on device", "Free space"),
        (ReadOnlyDisk(), "Read-only file system", "for writing"),
        (ForbiddenDisk(), "Permission denied", "for the user this node runs as"),
    ],
)
def test_a_directory_out_of_reach_is_named_with_the_way_out(disk: Disk, why: str, way_out: str, tmp_path: Path) -> None:
    with pytest.raises(UnusableDataDir, match=why) as refusal:
        DataDir.open(tmp_path / "data", disk=disk)
    assert str(tmp_path / "data") in str(refusal.value)
    assert way_out in str(refusal.value)


def test_two_nodes_cannot_have_one_directory(tmp_path: Path) -> None:
    data_dir = DataDir.open(tmp_path / "data")
    with pytest.raises(Locked, match="in use by another process") as refusal:
        DataDir.open(tmp_path / "data")
    assert str(tmp_path / "data") in str(refusal.value)
    program = (
        "import sys, pathlib\n"
        "from kvorum.storage.data_dir import DataDir\n"
        "from kvorum.storage.fault import Locked\n"
        "try:\n    DataDir.open(pathlib.Path(sys.argv[1]))\n"
        "except Locked:\n    print('locked')\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "data")]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout == "locked\n"
    data_dir.close()
    DataDir.open(tmp_path / "data").close()


def test_a_directory_that_changed_before_it_was_locked_is_looked_at_again(tmp_path: Path) -> None:
    """Another node may have come, bootstrapped and gone between our look and our lock."""
    root = tmp_path / "data"

    class Overtaken(Disk):
        overtaken = False

        def make_directory(self, path: Path) -> None:
            super().make_directory(path)
            if path.name == "snap" and not self.overtaken:
                self.overtaken = True
                used(root)

    assert not DataDir.open(root, disk=Overtaken()).is_new


def test_a_refusal_after_the_lock_gives_the_lock_back(tmp_path: Path) -> None:
    root = tmp_path / "data"

    class Spoiled(Disk):
        def make_directory(self, path: Path) -> None:
            super().make_directory(path)
            if path.name == "snap":
                (root / "member" / "store").mkdir()

    with pytest.raises(UnusableDataDir):
        DataDir.open(root, disk=Spoiled())
    (root / "member" / "store").rmdir()
    DataDir.open(root).close()


def replay_of(first: int, last: int) -> Replay:
    return Replay(METADATA, HardState(1, 0, last), [Entry(1, index) for index in range(first, last + 1)], Snapshot())


@pytest.mark.parametrize(
    ("first", "last", "applied", "why"),
    [
        (1, 9, 0, None),
        (1, 9, 9, None),
        (5, 9, 4, None),
        (1, 9, 10, "the log ends with 9, but 10 is in the tables already"),
        (5, 9, 3, "the log begins with 5, but the tables end with 3"),
    ],
)
def test_log_and_tables_must_belong_together(
    first: int, last: int, applied: int, why: str | None, tmp_path: Path
) -> None:
    data_dir = DataDir.open(tmp_path / "data")
    if why is None:
        data_dir.check_applied(replay_of(first, last), applied)
    else:
        with pytest.raises(CorruptWal, match=why):
            data_dir.check_applied(replay_of(first, last), applied)


def test_each_fault_is_one_of_the_storages() -> None:
    assert all(issubclass(fault, StorageFault) for fault in (CorruptWal, Locked, UnusableDataDir))
