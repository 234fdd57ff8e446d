"""Snapshot files: etcd's bytes, which of them counts, and what a power cut or rot leaves of them."""

import json
import logging
import random
import re
import shutil
from pathlib import Path
from random import Random

import pytest
from kvorum.raft.message import ConfState, Snapshot
from kvorum.storage.fault import CorruptSnap, SnapFailed
from kvorum.storage.snap_file import encode_snap, newest_snap, purge_snaps, read_snap, snap_name, write_snap

from tests.kit.power_cut import PowerCut, SimDisk

CAPTURED = Path(__file__).parent / "testdata" / "member-snapshot"
NAMES = sorted(path.name for path in CAPTURED.glob("*.snap"))
SNAP = Path("/data/member/snap")


def snapshot(index: int, term: int = 2, data: bytes = b"tree") -> Snapshot:
    return Snapshot(index, term, ConfState(voters=(1, 2, 3), learners=(4,)), data)


def sim_disk() -> SimDisk:
    disk = SimDisk()
    for path in (SNAP.parent.parent, SNAP.parent, SNAP):
        disk.make_directory(path)
        disk.sync_directory(path.parent)
    return disk


@pytest.mark.parametrize("name", NAMES)
def test_etcds_files_are_read_and_written_again_byte_for_byte(name: str, tmp_path: Path) -> None:
    told = json.loads((CAPTURED / f"{name}.json").read_text())
    read = read_snap(CAPTURED / name)
    assert (read.index, read.term) == (told["metadata"]["index"], told["metadata"]["term"])
    assert list(read.conf_state.voters) == told["metadata"]["conf_state"]["voters"]
    assert json.loads(read.data) == told["v2store"]
    assert write_snap(tmp_path, read) == tmp_path / name
    assert (tmp_path / name).read_bytes() == (CAPTURED / name).read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_three_files_were_captured() -> None:
    assert len(NAMES) == 3


def test_the_newest_that_the_log_mentions_counts(tmp_path: Path) -> None:
    for index, term in ((10, 1), (20, 1), (15, 2), (40, 2)):
        write_snap(tmp_path, snapshot(index, term))
    marks = [Snapshot(), snapshot(10, 1), snapshot(20, 1), snapshot(15, 2)]
    assert newest_snap(tmp_path, marks) == snapshot(15, 2)
    # 40 was written, but the mark of it was lost in a crash: it never counted.
    assert newest_snap(tmp_path, marks[:3]) == snapshot(20, 1)
    assert newest_snap(tmp_path, marks[:1]) is None
    assert newest_snap(tmp_path / "absent", marks) is None
    assert newest_snap(tmp_path, [snapshot(15, 1)]) is None, "term and index must both be the mark's"


def test_a_broken_file_is_renamed_and_the_one_before_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for index in (10, 20, 30):
        write_snap(tmp_path, snapshot(index))
    newest = tmp_path / snap_name(snapshot(30))
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    (tmp_path / snap_name(snapshot(20))).write_bytes(b"")
    marks = [snapshot(index) for index in (10, 20, 30)]
    with caplog.at_level(logging.WARNING):
        assert newest_snap(tmp_path, marks) == snapshot(10)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        snap_name(snapshot(10)),
        snap_name(snapshot(20)) + ".broken",
        snap_name(snapshot(30)) + ".broken",
    ]
    assert [record.file for record in caplog.records] == [str(newest), str(tmp_path / snap_name(snapshot(20)))]  # type: ignore[attr-defined]  # an extra
    assert [record.why for record in caplog.records][1] == "the file is empty"  # type: ignore[attr-defined]  # an extra


def test_a_broken_file_that_the_log_does_not_mention_is_left_alone(tmp_path: Path) -> None:
    write_snap(tmp_path, snapshot(10))
    unmentioned = tmp_path / snap_name(snapshot(20))
    unmentioned.write_bytes(b"half")
    assert newest_snap(tmp_path, [snapshot(10)]) == snapshot(10)
    assert unmentioned.exists()


def test_every_flipped_bit_and_every_cut_is_seen(tmp_path: Path) -> None:
    good = encode_snap(snapshot(300, data=bytes(range(64))))
    path = tmp_path / snap_name(snapshot(300))
    for at in range(len(good) * 8):
        rotten = bytearray(good)
        rotten[at // 8] ^= 1 << at % 8
        path.write_bytes(rotten)
        with pytest.raises(CorruptSnap, match=re.escape(str(path))):
            read_snap(path)
    for size in range(len(good)):
        path.write_bytes(good[:size])
        with pytest.raises(CorruptSnap):
            read_snap(path)
        path.write_bytes(good[:size] + bytes(len(good) - size))
        with pytest.raises(CorruptSnap):
            read_snap(path)


def test_a_file_under_another_ones_name_is_not_taken(tmp_path: Path) -> None:
    shutil.copy(CAPTURED / NAMES[0], tmp_path / NAMES[1])
    with pytest.raises(CorruptSnap, match="holds the snapshot of term 2, index 21"):
        read_snap(tmp_path / NAMES[1])


def test_a_file_that_is_written_is_durable_and_none_is_half_there() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    marks = [snapshot(10), snapshot(20)]
    whole = sim_disk()
    write_snap(SNAP, snapshot(10), disk=whole)
    before = whole.operations_count
    write_snap(SNAP, snapshot(20), disk=whole)
    operations = whole.operations_count - before
    for round_number in range(operations * 8):
        rng = Random(seed + round_number)
        disk = sim_disk()
        write_snap(SNAP, snapshot(10), disk=disk)
        disk.stop_after = round_number % (operations + 1)
        try:
            write_snap(SNAP, snapshot(20), disk=disk)
            done = True
        except PowerCut:
            done = False
        disk.cut(rng)
        found = newest_snap(SNAP, marks, disk=disk)
        assert found is not None, round_number
        assert found == snapshot(20) if done else found in (snapshot(10), snapshot(20)), round_number
        assert not [name for name in disk.names(SNAP) if name.endswith(".broken")], round_number
        # And what was interrupted can be done again, and leaves nothing behind.
        write_snap(SNAP, snapshot(20), disk=disk)
        purge_snaps(SNAP, 5, disk=disk)
        assert disk.names(SNAP) == [snap_name(snapshot(10)), snap_name(snapshot(20))]


def test_a_disk_that_fails_is_named_and_the_old_files_stay() -> None:
    disk = sim_disk()
    write_snap(SNAP, snapshot(10), disk=disk)
    for fault in ("fail_create", "fail_write", "fail_sync"):
        setattr(disk, fault, True)
        with pytest.raises(SnapFailed, match=re.escape(f"{SNAP}/{snap_name(snapshot(20))}: cannot write the snapshot")):
            write_snap(SNAP, snapshot(20), disk=disk)
        setattr(disk, fault, False)
        assert newest_snap(SNAP, [snapshot(10), snapshot(20)], disk=disk) == snapshot(10)


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for index in range(10, 80, 10):
        write_snap(tmp_path, snapshot(index, 1 + index // 40))
    (tmp_path / "db").write_bytes(b"not a snapshot file")
    (tmp_path / (snap_name(snapshot(90)) + ".tmp")).write_bytes(b"interrupted")
    (tmp_path / (snap_name(snapshot(5)) + ".broken")).write_bytes(b"evidence")
    kept = purge_snaps(tmp_path, 3)
    assert [(mark.index, mark.term) for mark in kept] == [(70, 2), (60, 2), (50, 2)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["db", snap_name(snapshot(5)) + ".broken", *(snap_name(snapshot(index)) for index in (50, 60, 70))]
    )
    assert purge_snaps(tmp_path, 5) == kept
