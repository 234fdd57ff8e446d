"""The same history in other ways: other batches, slices of compaction, commits, restarts and snapshots, the same state.

What a world committed is fed to new state machines. Neither how entries arrive nor when the tables are committed,
reloaded or copied may be seen in HashKV, leases, authentication, members or alarms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from kvorum.raft.message import Entry, EntryType
from kvorum.state.machine import Machine

from tests.sim.disk import CrashStore, empty_tables
from tests.sim.judge import Judge, digest_of, new_machine
from tests.sim.membership import Members
from tests.sim.violation import WAYS_PART, Violation


@dataclass(frozen=True, slots=True)
class Way:
    """How a history is applied. Chances are after each batch."""

    name: str
    batch_max: int
    slice_rows: int  # of a compaction, at most
    commit: float = 0.3
    restart: float = 0.0  # back to the last commit
    snapshot: float = 0.0  # on another member's tables from here on


WAYS = (
    Way("one batch", batch_max=1 << 30, slice_rows=1 << 30),
    Way("single entries, slow compaction", batch_max=1, slice_rows=1),
    Way("restarts", batch_max=20, slice_rows=3, restart=0.2),
    Way("snapshots", batch_max=20, slice_rows=10, snapshot=0.2, restart=0.05),
)


def check(judge: Judge, entries: Sequence[Entry], seed: int, machine_class: type[Machine] = Machine) -> None:
    """Raises Violation if a way ends, or passes through, another state than the judge had at the same index."""
    for way in WAYS:
        _Follower(judge, way, Random(f"{seed}/{way.name}"), machine_class).follow(entries)


class _Follower:
    def __init__(self, judge: Judge, way: Way, rng: Random, machine_class: type[Machine]) -> None:
        self._judge = judge
        self._way = way
        self._rng = rng
        self._machine_class = machine_class
        self._tables = empty_tables()
        self._members = {0: Members()}  # by index, so that a restart finds the one of then
        self._load()

    def _load(self) -> None:
        self._store = CrashStore(self._tables)
        self._machine = new_machine(self._store, self._machine_class)

    def follow(self, entries: Sequence[Entry]) -> None:
        way, rng = self._way, self._rng
        while self._machine.applied_index < len(entries):
            first = self._machine.applied_index
            for entry in entries[first : first + rng.randint(1, way.batch_max)]:
                self._apply(entry)
            self._machine.compact_step(rng.randint(1, way.slice_rows))
            self._after_batch()
        self._compare()
        while self._machine.compact_step(way.slice_rows):
            pass
        self._compare()

    def _apply(self, entry: Entry) -> None:
        machine, before = self._machine, self._members[entry.index - 1]
        if entry.type == EntryType.NORMAL:
            machine.apply(entry, answering=self._rng.random() < 0.5)
            self._members[entry.index] = before
        else:
            before.apply_to(machine, entry)
            self._members[entry.index] = after = before.after(entry)
            machine.set_conf_state(after.conf_state())
        machine.take_events()

    def _after_batch(self) -> None:
        way, rng = self._way, self._rng
        if rng.random() < way.commit:
            self._commit()
        if rng.random() < way.restart:
            self._load()
            self._compare()
        if rng.random() < way.snapshot:
            self._commit()
            self._tables = {table: dict(rows) for table, rows in self._tables.items()}
            self._load()
            self._compare()

    def _commit(self) -> None:
        self._machine.checkpoint()
        self._store.commit()

    def _compare(self) -> None:
        index = self._machine.applied_index
        found, expected = digest_of(self._machine), self._judge.digest_at(index)
        if found != expected:
            raise Violation(WAYS_PART, f"{self._way.name}, at {index}: {found.difference(expected)}")
