"""A simulated disk under one member: what was written is lost at a crash unless it was synced, or luck kept it.

A crash keeps a prefix of the unsynced writes, as a real WAL does: an entry survives only if all before it do. Knows
nothing of Raft's rules; that the members get along with what is left here is what the simulation is about.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from kvorum.raft.core import Ready
from kvorum.raft.log import MemoryStorage
from kvorum.raft.message import NONE, ConfState, Entry, HardState, Snapshot

Write = Entry | HardState | Snapshot


@dataclass(frozen=True, slots=True)
class AppliedImage:
    """What the state machine holds durably: everything up to index, and the configuration then."""

    index: int
    conf_state: ConfState


class Disk:
    """entries begin after compacted_index. The durable part changes only by sync() and, in part, by crash()."""

    def __init__(self, bootstrap: Sequence[Entry]) -> None:
        """bootstrap: what the log of a first member begins with, committed by definition.

        Nothing for one that joins.
        """
        self.hard_state = HardState(1, NONE, len(bootstrap)) if bootstrap else HardState()
        self.compacted_index = 0
        self.compacted_term = 0
        self.entries: list[Entry] = list(bootstrap)
        self.snapshot: Snapshot | None = None
        self.applied = AppliedImage(0, ConfState())
        self._unsynced: list[Write] = []

    @property
    def last_index(self) -> int:
        return self.compacted_index + len(self.entries)

    @property
    def last_term(self) -> int:
        return self.entries[-1].term if self.entries else self.compacted_term

    @property
    def commit(self) -> int:
        """What the member will know to be committed when it starts from here."""
        return max(self.hard_state.commit, self.applied.index)

    def term(self, index: int) -> int | None:
        """Of the durable entry at index; None if it is not here. What was compacted is not asked for."""
        position = index - self.compacted_index - 1
        if position == -1:
            return self.compacted_term
        return self.entries[position].term if 0 <= position < len(self.entries) else None

    def write(self, ready: Ready) -> None:
        """In the order of a WAL: the hard state last, so that its commit index never points beyond the entries."""
        if ready.snapshot is not None:
            self._unsynced.append(ready.snapshot)
        self._unsynced.extend(ready.entries)
        if ready.hard_state is not None:
            self._unsynced.append(ready.hard_state)

    def sync(self) -> None:
        for write in self._unsynced:
            self._keep(write)
        self._unsynced.clear()

    def crash(self, rng: random.Random) -> None:
        """The power goes: some prefix of the unsynced writes has reached the platter."""
        for write in self._unsynced[: rng.randint(0, len(self._unsynced))]:
            self._keep(write)
        self._unsynced.clear()

    def _keep(self, write: Write) -> None:
        if isinstance(write, Entry):
            position = write.index - self.compacted_index - 1
            assert 0 <= position <= len(self.entries), f"gap on the disk: {write} after {self.last_index}"
            del self.entries[position:]
            self.entries.append(write)
        elif isinstance(write, HardState):
            self.hard_state = write
        else:
            self.compacted_index, self.compacted_term = write.index, write.term
            self.entries = []
            self.snapshot = write
            self.applied = AppliedImage(write.index, write.conf_state)

    def save_applied(self, image: AppliedImage) -> None:
        """The state machine commits its tables; they never run ahead of the durable log."""
        assert image.index <= self.last_index, (image.index, self.last_index)
        self.applied = image

    def compact(self, snapshot: Snapshot, index: int) -> None:
        """Keeps a snapshot and drops the entries up to index."""
        assert self.compacted_index <= index <= snapshot.index <= self.applied.index
        term = self.term(index)
        assert term is not None
        del self.entries[: index - self.compacted_index]
        self.compacted_index, self.compacted_term = index, term
        self.snapshot = snapshot

    def storage(self) -> MemoryStorage:
        """What a member that starts now finds."""
        start = self.snapshot.index if self.snapshot is not None else 0
        return MemoryStorage(
            hard_state=self.hard_state,
            conf_state=self.applied.conf_state,
            entries=[entry for entry in self.entries if entry.index > start],
            snapshot=self.snapshot,
        )
