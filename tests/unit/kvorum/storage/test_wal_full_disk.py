"""A disk without space: what found none has not happened, and goes through later, with nothing between lost or torn."""

import errno
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random

import pytest
from kvorum.raft.message import HardState, Snapshot
from kvorum.storage.fault import NoSpace
from kvorum.storage.replay import Replay
from kvorum.storage.wal import Wal

from tests.kit.power_cut import SECTOR_BYTES, SimDisk
from tests.unit.kvorum.storage.test_wal import DIRECTORY, METADATA_BYTES, SEGMENT, entries, sim_disk, sim_open, sim_wal

BATCHES = [(first, first + 29) for first in range(1, 600, 30)]  # 4 segments of 150 entries
LAST = HardState(2, 7, 590)


def until_there_is_space(call: Callable[[], None], tries: int = 4) -> int:
    """How often it found none."""
    for failed in range(tries):
        with suppress(NoSpace):
            call()
            return failed
    raise AssertionError(f"still no space after {tries} tries")


def story(disk: SimDisk, full_at: set[int]) -> tuple[Wal, int]:
    """Batches of entries, each until it is synced. Gives the log, and how many writes found no space."""
    wal = sim_wal(disk)
    disk.space_count, disk.full_at = 0, full_at
    refused = 0
    for first, last in BATCHES:
        hard_state = HardState(2, 7, last - 10)
        refused += until_there_is_space(partial(wal.write, hard_state, entries(first, last)))
        wal.sync()
        wal.find_space()
    return wal, refused


def require_all(disk: SimDisk) -> Replay:
    _, replay = sim_open(disk)
    assert replay.entries == entries(1, 600)
    assert replay.hard_state == LAST
    assert replay.set_aside is None, "there was something torn"
    return replay


def space_needed() -> int:
    disk = sim_disk()
    story(disk, set())
    return disk.space_count


@pytest.mark.parametrize("power", ["stays", "goes"])
def test_no_space_at_any_call_once_or_for_a_while_loses_nothing(power: str) -> None:
    everywhere = space_needed()
    assert everywhere > 25
    refused_count = 0
    for at in range(everywhere):
        for length in (1, 3):
            disk = sim_disk()
            _, refused = story(disk, set(range(at, at + length)))
            refused_count += refused
            if power == "goes":
                disk.cut(Random(at))
            else:
                disk.kill()
            require_all(disk)
    assert refused_count > everywhere, "hardly any write found the disk full"


def test_a_power_cut_while_the_disk_is_full_leaves_a_log_that_goes_on() -> None:
    for seed in range(60):
        disk = sim_disk()
        wal = sim_wal(disk)
        wal.write(HardState(2, 7, 1), entries(1, 40))
        wal.sync()
        disk.full_at = set(range(disk.space_count, disk.space_count + 1))
        with pytest.raises(NoSpace):
            wal.write(HardState(2, 7, 30), entries(41, 60))
        disk.cut(Random(seed))
        again, replay = sim_open(disk)
        assert replay.entries[:40] == entries(1, 40)
        assert replay.entries == entries(1, len(replay.entries))  # of what was never acknowledged a whole part may be
        again.write(None, entries(len(replay.entries) + 1, 80))
        again.sync()
        disk.cut(Random(seed))
        assert sim_open(disk)[1].entries == entries(1, 80)


def test_another_batch_may_take_the_place_of_one_that_found_no_space() -> None:
    """A new leader's, shorter than the first: nothing of that one may show behind it."""
    disk = sim_disk()
    wal = sim_wal(disk)
    disk.full_at = {disk.space_count}
    with pytest.raises(NoSpace, match=r"no space left on the disk\n.*goes on by itself"):
        wal.write(HardState(2, 7, 0), entries(1, 90))
    wal.write(HardState(3, 8, 1), entries(1, 2, term=3))
    wal.sync()
    disk.cut(Random(1))
    _, replay = sim_open(disk)
    assert (replay.entries, replay.hard_state) == (entries(1, 2, term=3), HardState(3, 8, 1))
    assert replay.set_aside is None


def test_while_no_segment_can_be_made_the_last_one_grows_and_the_log_says_so() -> None:
    disk = sim_disk()
    wal = sim_wal(disk)
    wal.write(None, entries(1, 170))
    disk.full_at = {disk.space_count}
    wal.sync()
    assert wal.is_short_of_space
    assert len(disk.names(DIRECTORY)) == 1, "half a segment was left"
    wal.write(None, entries(171, 180))
    wal.sync()
    assert wal.is_short_of_space, "it tries again only when it is told to"
    wal.find_space()
    assert len(disk.names(DIRECTORY)) == 2
    wal.write(None, entries(181, 200))
    wal.close()
    assert sim_open(disk)[1].entries == entries(1, 200)


def test_marks_of_snapshots_wait_for_space() -> None:
    disk = sim_disk()
    wal = sim_wal(disk)
    wal.write(HardState(2, 7, 5), entries(1, 10))
    wal.sync()
    disk.full_at = {disk.space_count, disk.space_count + 1}
    assert until_there_is_space(lambda: wal.write_mark(Snapshot(index=5, term=2))) == 1
    disk.full_at = {disk.space_count, disk.space_count + 1}
    assert until_there_is_space(lambda: wal.write_received(Snapshot(index=50, term=3))) == 1
    wal.write(HardState(3, 7, 50), entries(51, 52, term=3))
    wal.sync()
    disk.cut(Random(2))
    _, replay = sim_open(disk)
    assert (replay.snapshot.index, replay.entries) == (50, entries(51, 52, term=3))


def test_a_start_on_a_full_disk_goes_on_with_the_log_as_it_is() -> None:
    """Neither room for a whole segment, nor for a copy of the torn end."""
    disk = sim_disk()
    wal = sim_wal(disk)
    wal.write(None, entries(1, 20))
    wal.sync()
    end = wal._offset
    wal.write(None, entries(21, 21, size=3000))
    disk.kill()
    (name,) = disk.names(DIRECTORY)
    content = disk.content(DIRECTORY / name)
    sector = (end // SECTOR_BYTES + 2) * SECTOR_BYTES
    content[sector : sector + SECTOR_BYTES] = bytes(SECTOR_BYTES)  # it was torn
    del content[SEGMENT // 2 :]
    disk.full_at = set(range(disk.space_count, disk.space_count + 9))
    again, replay = sim_open(disk)
    assert replay.entries == entries(1, 20)
    assert replay.set_aside is None
    assert disk.names(DIRECTORY) == [name]
    disk.full_at = set()
    again.write(None, entries(21, 22))
    again.close()
    assert sim_open(disk)[1].entries == entries(1, 22)


def test_a_log_that_cannot_be_created_for_want_of_space_leaves_nothing(tmp_path: Path) -> None:
    disk = sim_disk()
    disk.full_at = {0, 1, 2}
    with pytest.raises(Exception, match="No space left") as refused:
        sim_wal(disk)
    assert isinstance(refused.value.__cause__, OSError)
    assert refused.value.__cause__.errno == errno.ENOSPC
    assert not Wal.exists(DIRECTORY, disk)
    disk.full_at = set()
    Wal.create(DIRECTORY, METADATA_BYTES, disk=disk, segment_bytes=SEGMENT).close()
