"""Marks of snapshots in the log, the log behind a leader's snapshot, and what of it may be deleted."""

from pathlib import Path
from random import Random

import pytest
from kvorum.raft.message import ConfState, Entry, HardState, Snapshot
from kvorum.storage.entry_codec import encode_metadata
from kvorum.storage.fault import CorruptWal
from kvorum.storage.replay import Replay
from kvorum.storage.wal import Wal

from tests.kit.power_cut import PowerCut, SimDisk

DIRECTORY = Path("/member/wal")
SEGMENT = 4_000
METADATA = encode_metadata(7, 9)
VOTERS = ConfState((7, 8))


def new_disk() -> SimDisk:
    disk = SimDisk()
    disk.make_directory(DIRECTORY.parent)
    disk.sync_directory(Path("/"))
    return disk


def create(disk: SimDisk) -> Wal:
    return Wal.create(DIRECTORY, METADATA, disk=disk, segment_bytes=SEGMENT)


def reopen(disk: SimDisk) -> tuple[Wal, Replay]:
    disk.kill()
    return Wal.open(DIRECTORY, disk=disk, segment_bytes=SEGMENT)


def entries(first: int, last: int, term: int = 2) -> list[Entry]:
    return [Entry(term, index, b"%d" % index + b"x" * 300) for index in range(first, last + 1)]


def segments(disk: SimDisk) -> list[str]:
    return [name for name in disk.names(DIRECTORY) if name.endswith(".wal")]


def grow(wal: Wal, first: int, last: int, term: int = 2) -> None:
    for entry in entries(first, last, term):
        wal.write(HardState(term, 7, entry.index), [entry])
        wal.sync()


def test_a_mark_is_found_again_with_its_configuration() -> None:
    disk = new_disk()
    wal = create(disk)
    wal.write(HardState(2, 7, 0), entries(1, 5))
    wal.write(HardState(2, 7, 4), [])  # kept back: only a higher commit
    wal.write_mark(Snapshot(4, 2, VOTERS))
    wal.sync()
    disk.cut(Random(1))
    _, replay = reopen(disk)
    assert replay.snapshot == Snapshot(4, 2, VOTERS)
    assert replay.hard_state == HardState(2, 7, 4)
    assert replay.entries == entries(1, 5)


def test_a_mark_above_the_commit_is_a_mistake() -> None:
    wal = create(new_disk())
    wal.write(HardState(2, 7, 3), entries(1, 5))
    with pytest.raises(AssertionError):
        wal.write_mark(Snapshot(4, 2, VOTERS))


@pytest.mark.parametrize("before", [0, 3, 12])
def test_a_received_snapshot_voids_what_the_log_held(before: int) -> None:
    """before: entries of an old leader, fewer than the snapshot covers, or more."""
    disk = new_disk()
    wal = create(disk)
    if before:
        wal.write(HardState(2, 7, 2), entries(1, before))
    wal.write_received(Snapshot(9, 3, VOTERS))
    assert wal.last_index == 9
    wal.write(HardState(3, 0, 10), entries(10, 11, term=3))
    wal.sync()
    _, replay = reopen(disk)
    assert replay.entries == entries(10, 11, term=3)
    assert replay.snapshot == Snapshot(9, 3, VOTERS)
    assert replay.hard_state == HardState(3, 0, 10)


def test_a_received_snapshot_without_entries_behind_it_is_where_the_log_ends() -> None:
    disk = new_disk()
    wal = create(disk)
    wal.write(HardState(2, 7, 2), entries(1, 12))
    wal.write_received(Snapshot(9, 3, VOTERS))
    wal.sync()
    wal, replay = reopen(disk)
    assert replay.entries == []
    assert replay.last_index == wal.last_index == 9


def test_a_received_snapshot_is_taken_whole_or_not_at_all_at_each_crash() -> None:
    for cut_at in range(30):
        for seed in range(8):
            disk = new_disk()
            wal = create(disk)
            wal.write(HardState(2, 7, 2), entries(1, 6))
            wal.sync()
            disk.stop_after = cut_at
            try:
                wal.write_received(Snapshot(9, 3, VOTERS))
                wal.write(HardState(3, 0, 11), entries(10, 11, term=3))
                wal.sync()
                done = True
            except PowerCut:
                done = False
            disk.cut(Random(seed))
            wal, replay = reopen(disk)
            before = (entries(1, 6), Snapshot(), HardState(2, 7, 2))
            taken = Snapshot(9, 3, VOTERS)
            after = [entries(10, last, term=3) for last in (9, 10, 11)]
            if replay.snapshot == taken:
                assert replay.entries in after
                assert replay.last_index >= replay.hard_state.commit >= 9
            else:
                assert (replay.entries, replay.snapshot, replay.hard_state) == before
            # A mark that was torn off from what makes it good does no harm to what comes later.
            last = replay.last_index
            assert wal.last_index == last
            grow(wal, last + 1, 20, term=4)
            _, again = reopen(disk)
            assert again.entries == [*replay.entries, *entries(last + 1, 20, term=4)]
            if done:
                assert replay.entries == after[-1]
                return
    pytest.fail("it never came to its end")


@pytest.mark.parametrize("held", [6, 9])
def test_a_mark_that_was_torn_off_from_what_makes_it_count_is_as_if_it_had_never_been_written(held: int) -> None:
    """Written together, but a sector may end between them. held: the log may end just where the mark stands."""
    torn_count = 0
    for filler in range(0, 512, 8):
        disk = new_disk()
        wal = create(disk)
        before = [*entries(1, held - 1), Entry(2, held, b"y" * (1 + filler))]
        wal.write(HardState(2, 7, 2), before)
        wal.sync()
        size = wal._offset
        wal.write_received(Snapshot(9, 3, VOTERS))
        sector_end = size - size % 512 + 512
        content = disk.content(DIRECTORY / segments(disk)[0])
        content[sector_end : wal._offset] = bytes(max(0, wal._offset - sector_end))
        wal, replay = reopen(disk)
        if replay.snapshot.index:
            continue
        torn_count += bool(content[size : size + 8].strip(b"\0"))
        assert replay.entries == before
        grow(wal, held + 1, 12, term=2)  # the leader of the old term still thinks it leads
        _, again = reopen(disk)
        assert again.entries == [*before, *entries(held + 1, 12, term=2)]
        assert again.snapshot in (Snapshot(), Snapshot(9, 3, VOTERS))
    assert torn_count > 0


def test_segments_are_deleted_up_to_the_oldest_snapshot_that_is_kept() -> None:
    disk = new_disk()
    wal = create(disk)
    grow(wal, 1, 100)
    for index in (40, 60, 95):
        wal.write_mark(Snapshot(index, 2, VOTERS))
    wal.sync()
    all_segments = segments(disk)
    assert len(all_segments) > 6
    wal.release(60)
    wal.purge(2)
    left = segments(disk)
    first_indexes = [int(name[17:33], 16) for name in left]
    assert first_indexes[0] <= 60 < first_indexes[1]
    wal, replay = reopen(disk)
    assert replay.entries == entries(first_indexes[0], 100)
    assert replay.snapshot == Snapshot(95, 2, VOTERS)
    grow(wal, 101, 120)
    assert reopen(disk)[1].last_index == 120


def test_as_many_segments_stay_as_one_asks_for() -> None:
    disk = new_disk()
    wal = create(disk)
    grow(wal, 1, 100)
    wal.write_mark(Snapshot(95, 2, VOTERS))
    wal.sync()
    count = len(segments(disk))
    wal.release(95)
    wal.purge(0)
    assert len(segments(disk)) == count
    wal.purge(count - 1)
    assert len(segments(disk)) == count - 1
    wal.purge(1)
    assert reopen(disk)[1].entries[0].index <= 95


def test_a_segment_that_somebody_reads_is_not_deleted() -> None:
    disk = new_disk()
    wal = create(disk)
    grow(wal, 1, 100)
    wal.write_mark(Snapshot(95, 2, VOTERS))
    wal.sync()
    before = segments(disk)
    wal.release(95)
    reader = disk.open(DIRECTORY / before[1])
    assert reader.lock()
    wal.purge(1)
    assert segments(disk) == before[1:]
    reader.close()
    wal.purge(1)
    assert len(segments(disk)) < len(before) - 1


def test_a_power_cut_while_segments_are_deleted_leaves_no_gap() -> None:
    for cut_at in range(40):
        disk = new_disk()
        wal = create(disk)
        grow(wal, 1, 60)
        wal.write_mark(Snapshot(55, 2, VOTERS))
        wal.sync()
        wal.release(55)
        disk.stop_after = cut_at
        try:
            wal.purge(1)
            done = True
        except PowerCut:
            done = False
        disk.cut(Random(cut_at))
        _, replay = reopen(disk)
        assert replay.snapshot == Snapshot(55, 2, VOTERS)
        assert replay.entries[-1].index == 60
        if done:
            return
    pytest.fail("the purge never came to its end")


def test_the_oldest_segment_may_begin_with_entries_that_replaced_some_of_the_one_before() -> None:
    disk = new_disk()
    wal = create(disk)
    # The segment before ends within an uncommitted tail of term 2; a leader of term 3 replaces it from 15 on.
    wal.write(HardState(2, 7, 10), entries(1, 20))
    wal.sync()
    assert len(segments(disk)) == 2
    wal.write(HardState(2, 7, 10), entries(21, 22))
    wal.write(HardState(3, 0, 25), entries(15, 25, term=3))
    wal.write_mark(Snapshot(24, 3, VOTERS))
    wal.sync()
    wal.release(24)
    wal.purge(1)
    assert int(segments(disk)[0][17:33], 16) == 21
    _, replay = reopen(disk)
    assert replay.entries == entries(15, 25, term=3)


def test_a_local_mark_below_the_first_entry_that_is_left_voids_nothing() -> None:
    disk = new_disk()
    wal = create(disk)
    wal.write(HardState(2, 7, 20), entries(1, 20))
    wal.sync()
    wal.write(HardState(2, 7, 24), entries(21, 25))
    wal.write_mark(Snapshot(15, 2, VOTERS))  # it applies slowly
    wal.write_mark(Snapshot(24, 2, VOTERS))
    wal.sync()
    wal.release(24)
    wal.purge(1)
    _, replay = reopen(disk)
    assert replay.entries == entries(21, 25)


def test_a_log_whose_beginning_is_gone_without_a_snapshot_is_refused() -> None:
    disk = new_disk()
    wal = create(disk)
    grow(wal, 1, 60)
    wal.sync()
    disk.remove(DIRECTORY / segments(disk)[0])
    with pytest.raises(CorruptWal, match="no snapshot it mentions reaches that far"):
        reopen(disk)


class Life:
    """A member that snapshots, purges, and takes its leader's snapshots; log, base: what a crash must not take away."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.log: dict[int, Entry] = {}
        self.base = Snapshot()  # the newest one that was synced
        self.state = HardState()

    @property
    def last(self) -> int:
        return max(self.log, default=self.base.index)

    def live(self, disk: SimDisk, steps: int) -> None:
        wal, replay = reopen(disk) if Wal.exists(DIRECTORY, disk) else (create(disk), None)
        if replay is not None:
            self.check(replay)
        for _ in range(steps):
            self.step(wal)

    def check(self, replay: Replay) -> None:
        """All that was synced is there, and it goes on from what it finds."""
        assert replay.snapshot.index >= self.base.index, (replay.snapshot, self.base)
        assert replay.hard_state.commit >= self.base.index
        found = {entry.index: entry for entry in replay.entries}
        if replay.snapshot.index not in found:
            assert min(found, default=replay.snapshot.index + 1) == replay.snapshot.index + 1
        for index, entry in self.log.items():
            if index > replay.snapshot.index:
                assert found.get(index) == entry, (index, replay.snapshot, self.base)
        self.log, self.base, self.state = found, replay.snapshot, replay.hard_state

    def step(self, wal: Wal) -> None:
        random, state = self.random, self.state
        choice = random.random()
        if choice < 0.6 or not self.last:
            first = self.last + 1
            batch = entries(first, first + random.randint(0, 6), term=max(1, state.term))
            commit = random.randint(state.commit, batch[-1].index)
            new = HardState(max(1, state.term), 7, commit)
            wal.write(new, batch)
            wal.sync()
            self.log |= {entry.index: entry for entry in batch}
            self.state = new
        elif choice < 0.85 and state.commit > self.base.index:
            index = random.randint(self.base.index + 1, state.commit)
            mark = Snapshot(index, self.log[index].term if index in self.log else self.base.term, VOTERS)
            wal.write_mark(mark)
            wal.sync()
            self.base = mark
            wal.release(index)
            wal.purge(random.randint(1, 3))
        elif choice >= 0.85:
            term = max(1, state.term) + 1
            mark = Snapshot(state.commit + random.randint(1, 15), term, VOTERS)
            wal.write(HardState(term, 0, state.commit), [])
            self.state = HardState(term, 0, state.commit)
            self.log = {}  # from here on either may be found: what was before, or what comes
            wal.write_received(mark)
            wal.sync()
            self.base, self.state = mark, HardState(term, 0, mark.index)


@pytest.mark.parametrize("block", range(2))
def test_marks_received_snapshots_and_purges_survive_crashes(block: int) -> None:
    deaths = 0
    for seed in range(block * 100, block * 100 + 100):
        random = Random(seed)
        disk, life = new_disk(), Life(random)
        try:
            for _ in range(6):
                disk.stop_after = random.randint(5, 40)
                try:
                    life.live(disk, random.randint(0, 12))
                except PowerCut:
                    deaths += 1
                disk.cut(random)
            life.live(disk, 0)
        except (AssertionError, CorruptWal) as error:
            raise AssertionError(f"seed {seed}") from error
    assert deaths > 100, deaths
