"""Whatever is acknowledged survives whatever happens: thousands of crashes at any operation, with any part of what
was not synced lost.

A life is: open the log, append batches as a member would (entries, replaced ends, votes, commits), die at some
operation of the disk by a kill or a power cut, come back. After each death the log must hold all that was synced,
and behind it nothing but a beginning of the batch that was being written.
"""

from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kvorum.raft.message import Entry, HardState
from kvorum.storage.entry_codec import encode_metadata
from kvorum.storage.replay import Replay
from kvorum.storage.wal import Wal

from tests.kit.power_cut import PowerCut, SimDisk

DIRECTORY = Path("/member/wal")
SEGMENT = 8_000
METADATA = encode_metadata(7, 9)

NOBODY = HardState()

Log = tuple[Entry, ...]


@dataclass
class Member:
    """What a member believes its log to be. `possible`: logs that a crash during the batch at hand may leave."""

    log: Log = ()
    state: HardState = NOBODY
    possible: list[Log] = field(default_factory=lambda: [()])
    possible_states: list[HardState] = field(default_factory=lambda: [NOBODY])

    def begin(self, batch: Log, state: HardState | None) -> None:
        for count in range(1, len(batch) + 1):
            self.possible.append((*self.log[: batch[0].index - 1], *batch[:count]))
        if batch:
            self.log = self.possible[-1]
        if state is not None:
            self.state = state
            self.possible_states.append(state)

    def acknowledge(self) -> None:
        self.possible = [self.log]
        # Commits may be kept back, terms and votes may not.
        self.possible_states = [
            state for state in self.possible_states if (state.term, state.vote) == (self.state.term, self.state.vote)
        ]

    def check(self, replay: Replay) -> None:
        recovered = tuple(replay.entries)
        assert recovered in self.possible, f"{recovered}\nis none of {self.possible}"
        assert replay.hard_state in self.possible_states, f"{replay.hard_state} is none of {self.possible_states}"
        assert replay.metadata == METADATA
        assert replay.hard_state.commit <= replay.last_index

    def adopt(self, replay: Replay) -> None:
        """The member goes on from what it found, and tells others about it: from now on that must not be lost."""
        self.log, self.state = tuple(replay.entries), replay.hard_state
        self.possible, self.possible_states = [self.log], [self.state]


def next_batch(member: Member, random: Random) -> tuple[Log, HardState | None]:
    log, state = member.log, member.state
    term, vote, commit = state.term or 1, state.vote, state.commit
    if random.random() < 0.15:
        term, vote = term + 1, random.randint(0, 3)
    if random.random() < 0.5 and log:
        commit = random.randint(commit, len(log))
    first = len(log) + 1
    if random.random() < 0.2 and term > (log[-1].term if log else 0):
        first = random.randint(commit + 1, len(log) + 1)  # a new leader replaces what was not committed
    count = random.choice((0, 1, 1, 2, 5, 20))
    sizes = (0, 1, 50, 300, 480, 511, 512, 1500, 5000)
    batch = tuple(Entry(term, first + at, random.choice((b"\0", b"x")) * random.choice(sizes)) for at in range(count))
    new_state = HardState(term, vote, commit)
    return batch, new_state if new_state != state or random.random() < 0.1 else None


def live(disk: SimDisk, member: Member, random: Random, batches_count: int) -> None:
    """One life. Ends with PowerCut if the disk was told to stop."""
    if Wal.exists(DIRECTORY, disk):
        wal, replay = Wal.open(DIRECTORY, disk=disk, segment_bytes=SEGMENT)
        member.check(replay)
        member.adopt(replay)
    else:
        assert member.possible == [()], "the log is gone"
        wal = Wal.create(DIRECTORY, METADATA, disk=disk, segment_bytes=SEGMENT)
        member.possible = [(), ()]  # from now on it must not be gone
    for _ in range(batches_count):
        batch, state = next_batch(member, random)
        member.begin(batch, state)
        wal.write(state, batch)
        if random.random() < 0.9:
            wal.sync()
            member.acknowledge()
    if random.random() < 0.5:
        wal.close()
        member.acknowledge()


def new_disk() -> SimDisk:
    disk = SimDisk()
    disk.make_directory(DIRECTORY.parent)
    disk.sync_directory(Path("/"))
    return disk


def live_and_die(disk: SimDisk, member: Member, random: Random) -> bool:
    """Whether it died in the middle of something."""
    disk.stop_after = random.randint(0, 60)
    died = False
    try:
        live(disk, member, random, random.randint(0, 12))
    except PowerCut:
        died = True
    if random.random() < 0.3:
        disk.kill()
    else:
        disk.cut(random)
    return died


@pytest.mark.parametrize("block", range(4))
def test_what_was_synced_survives_thousands_of_crashes(block: int) -> None:
    lives = deaths = segments = repairs = 0
    for seed in range(block * 150, block * 150 + 150):
        random = Random(seed)
        disk, member = new_disk(), Member()
        try:
            for _ in range(8):
                deaths += live_and_die(disk, member, random)
                lives += 1
            live(disk, member, random, 0)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error
        names = disk.names(DIRECTORY) if Wal.exists(DIRECTORY, disk) else []
        segments += sum(name.endswith(".wal") for name in names)
        repairs += sum(name.endswith(".broken") for name in names)
    # What it is about did happen.
    assert lives == 1200
    assert deaths > 600, deaths
    assert segments > 600, segments
    assert repairs > 15, repairs


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(random=st.randoms(use_true_random=False), lives_count=st.integers(1, 5))
def test_what_was_synced_survives_crashes_that_hypothesis_thinks_of(random: Random, lives_count: int) -> None:
    disk, member = new_disk(), Member()
    for _ in range(lives_count):
        live_and_die(disk, member, random)
    live(disk, member, random, 0)


def test_a_log_survives_a_crash_at_each_operation_of_its_creation() -> None:
    bootstrap = [Entry(1, 1, b"a", 1), Entry(1, 2, b"b", 1)]
    for cut_at in range(100):
        disk = new_disk()
        disk.stop_after = cut_at
        try:
            Wal.create(DIRECTORY, METADATA, HardState(1, 0, 2), bootstrap, disk=disk, segment_bytes=SEGMENT)
        except PowerCut:
            disk.cut(Random(cut_at))
            if not Wal.exists(DIRECTORY, disk):
                Wal.create(DIRECTORY, METADATA, HardState(1, 0, 2), bootstrap, disk=disk, segment_bytes=SEGMENT).close()
            disk.kill()
            _, replay = Wal.open(DIRECTORY, disk=disk, segment_bytes=SEGMENT)
            assert (replay.entries, replay.hard_state) == (bootstrap, HardState(1, 0, 2)), cut_at
        else:
            assert cut_at > 15
            for seed in range(20):
                disk.cut(Random(seed))
                assert Wal.exists(DIRECTORY, disk)
            return
    pytest.fail("the creation never came to its end")


def test_a_crash_at_each_operation_of_a_cut_loses_nothing() -> None:
    for cut_at in range(100):
        for seed in range(5):
            disk = new_disk()
            wal = Wal.create(DIRECTORY, METADATA, disk=disk, segment_bytes=SEGMENT)
            batch = [Entry(2, index, b"x" * 500) for index in range(1, 31)]
            wal.write(HardState(2, 1, 0), batch)
            wal._tail.fdatasync()  # what sync does first: from here on it is only the cut that can fail
            disk.stop_after = cut_at
            try:
                wal.sync()
                done = True
            except PowerCut:
                done = False
            disk.cut(Random(seed))
            _, replay = Wal.open(DIRECTORY, disk=disk, segment_bytes=SEGMENT)
            assert replay.entries == batch
            assert replay.hard_state == HardState(2, 1, 0)
            if done:
                assert cut_at > 8
                return
    pytest.fail("the cut never came to its end")
