"""Whole processes, killed at random, and the power cut that could have come at the same moment."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from kvorum.raft.message import Entry, HardState
from kvorum.storage.entry_codec import encode_metadata
from kvorum.storage.wal import Wal

from tests.kit.power_cut import (
    PowerCut,
    RecordedDataDir,
    RecordingDisk,
    SimDisk,
    power_cut_after_kill,
    replay_journal,
)

REPOSITORY = Path(__file__).parents[4]
CHILD = Path(__file__).with_name("power_cut_child.py")
ROUNDS = 20


def one_life(root: Path, beside: Path, random: Random) -> tuple[int, int, int]:
    """Start, watch, kill. Returns the last index found at the start, the tables' index then, the last acknowledged."""
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'node-image'}"}
    command = [sys.executable, str(CHILD), str(root), str(beside), str(random.randrange(1 << 30))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        found = applied = acknowledged = 0
        wanted = random.choice((0, 1, 2, 5, 15, 40))
        for lines_count, line in enumerate(process.stdout, 1):
            word, *numbers = line.decode().split()
            if word == "found":
                found, applied = map(int, numbers)
                acknowledged = max(acknowledged, found)
            else:
                acknowledged = int(numbers[0])
            if lines_count > wanted:
                deadline = time.monotonic() + random.random() * 0.003  # to be in the middle of something
                while time.monotonic() < deadline:
                    pass
                break
        process.send_signal(signal.SIGKILL)
        rest, errors = process.communicate(timeout=60)
        for line in rest.splitlines():
            if line.startswith(b"ack ") and line[4:].isdigit():
                acknowledged = int(line[4:])
        assert process.returncode == -signal.SIGKILL, errors.decode()
        assert not errors, errors.decode()
    return found, applied, acknowledged


def test_what_a_process_acknowledged_outlives_kills_and_power_cuts(tmp_path: Path) -> None:
    root, beside = tmp_path / "data", tmp_path / "beside"
    random = Random(20)
    acknowledged = 0
    for turn in range(ROUNDS):
        found, applied, now_acknowledged = one_life(root, beside, random)
        assert found >= acknowledged, f"turn {turn}: {acknowledged} was acknowledged, {found} came back"
        assert applied <= found
        acknowledged = max(now_acknowledged, found)
        if random.random() < 0.8:
            power_cut_after_kill(root, beside, random)
    assert acknowledged > 500, "too little was written to mean anything"
    wals = os.listdir(root / "member" / "wal")
    assert sum(name.endswith(".wal") for name in wals) > 2


# --- the disks themselves --------------------------------------------------------------------------------------------


def test_a_power_cut_loses_only_what_was_not_synced() -> None:
    outcomes = set()
    for seed in range(300):
        disk = SimDisk()
        path = Path("/file")
        file = disk.create(path)
        disk.sync_directory(Path("/"))
        file.pwrite(b"a" * 512, 0)
        file.fdatasync()
        file.pwrite(b"b" * 1024, 512)
        disk.cut(Random(seed))
        content = bytes(disk.content(path))
        assert content[:512] == b"a" * 512
        outcomes.add((content[512:1024], content[1024:]))
    b = b"b" * 512
    # Nothing, all, one sector or the other: where only the later one is left, the earlier reads as zeros.
    assert outcomes == {(b"", b""), (b, b), (b, b""), (bytes(512), b)}


def test_a_new_name_is_lost_with_its_directory_not_synced() -> None:
    outcomes = set()
    for seed in range(50):
        disk = SimDisk()
        file = disk.create(Path("/old"))
        disk.sync_directory(Path("/"))
        file.pwrite(b"data", 0)
        file.fsync()
        disk.rename(Path("/old"), Path("/new"))
        disk.cut(Random(seed))
        (name,) = disk.names(Path("/"))
        outcomes.add(name)
        assert disk.content(Path("/") / name) == b"data"
    assert outcomes == {"old", "new"}


def test_a_kill_loses_nothing_that_was_written() -> None:
    disk = SimDisk()
    disk.create(Path("/file")).pwrite(b"data", 0)
    disk.kill()
    assert disk.content(Path("/file")) == b"data"


def test_the_power_goes_at_the_operation_it_was_told_to() -> None:
    disk = SimDisk()
    disk.stop_after = 1
    with pytest.raises(PowerCut):
        disk.create(Path("/file"))
    assert disk.names(Path("/")) == ["file"]


def test_a_journal_knows_what_was_synced(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    disk = RecordingDisk(tmp_path / "journal", root)
    wal = Wal.create(root / "wal", encode_metadata(7, 9), disk=disk, segment_bytes=10_000)
    wal.write(HardState(1, 1, 0), [Entry(1, 1, b"synced" * 300)])
    wal.sync()
    wal.write(None, [Entry(1, 2, b"not synced" * 300)])
    kept = set()
    for seed in range(40):
        image = replay_journal(tmp_path / "journal")
        for name in os.listdir(root / "wal"):
            assert bytes(image.content(root / "wal" / name)) == (root / "wal" / name).read_bytes(), "not what is there"
        image.cut(Random(seed))
        _, replay = Wal.open(root / "wal", disk=image, segment_bytes=10_000)
        kept.add(len(replay.entries))
    assert kept == {1, 2}
    wal.close()


def test_a_process_that_died_before_it_did_anything_left_nothing_to_lose(tmp_path: Path) -> None:
    (tmp_path / "beside").mkdir()
    power_cut_after_kill(tmp_path / "data", tmp_path / "beside", Random(0))
    assert not (tmp_path / "data").exists()


def test_tables_are_put_back_to_their_last_commit(tmp_path: Path) -> None:
    root, beside = tmp_path / "data", tmp_path / "beside"
    data_dir = RecordedDataDir.record(root, beside)
    data_dir.create_wal(encode_metadata(7, 9)).close()
    store = data_dir.open_store(2 << 30)
    store.put("key", b"a", b"1")
    store.commit()
    store.close()
    data_dir.close()
    good = (root / "member" / "store" / "data.mdb").read_bytes()
    (root / "member" / "store" / "data.mdb").write_bytes(bytes(len(good)))
    power_cut_after_kill(root, beside, Random(0))
    again = RecordedDataDir.record(root, beside)
    assert again.open_store(2 << 30).get("key", b"a") == b"1"
    again.close()
    shutil.rmtree(root)
