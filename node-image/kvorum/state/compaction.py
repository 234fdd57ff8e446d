"""Compaction: a revision from which on readers are served, at once; and the rows below it, removed in slices.

Readers, HashKV and the next entries see the same whether the rows are gone or not, so the owner is free to call step()
between ticks as it can. Compactions are worked off in the order of the log, each over all rows up to its revision:
what is stored as its hash is the sum over these rows before they go (peer-protocol.md, 6.3).
"""

from collections import deque
from dataclasses import dataclass

from kvorum.state.hash_kv import START, Hashing, KeySpaceHash, StoredHashes, extend
from kvorum.state.refusal import COMPACTED, FUTURE_REVISION, Refusal
from kvorum.state.revisions import NEVER_COMPACTED, Revisions
from kvorum.state.row import is_tombstone, key_of, parse_revision, revision_key
from kvorum.state.store import KEY, META

SCHEDULED, FINISHED = b"scheduledCompactRev", b"finishedCompactRev"


@dataclass(slots=True)
class _Task:
    """One compaction. previous: the compacted revision before it. stores_hash: not when an earlier run was cut off."""

    revision: int
    previous: int
    stores_hash: bool
    next: bytes = b""
    crc: int = START


class Compaction:
    """What is compacted, what remains to be removed, and the hashes that were taken on the way."""

    def __init__(self, revisions: Revisions) -> None:
        self._revisions = revisions
        self._store = revisions.store
        self._tasks: deque[_Task] = deque()
        self._hashings: list[Hashing] = []
        self.hashes = StoredHashes()
        self.finished_revision = NEVER_COMPACTED  # the rows of compactions up to this one are gone
        self.removed_count = 0  # rows, since this object was made; for /metrics

    def schedule(self, revision: int) -> Refusal | None:
        """Compacts at a revision, in effect from now on. revision: any that exists and is above the last one."""
        previous = self._revisions.compact_revision
        if revision <= previous:
            return COMPACTED
        if revision > self._revisions.revision:
            return FUTURE_REVISION
        self._begin(revision, previous, stores_hash=True)
        return None

    def _begin(self, revision: int, previous: int, *, stores_hash: bool) -> None:
        self._revisions.compact_revision = revision
        self._store.put(META, SCHEDULED, revision_key(revision, 0))
        self._tasks.append(_Task(revision, previous, stores_hash))

    @property
    def pending(self) -> bool:
        """Whether step() has something to do, be it after a hashing that runs."""
        return bool(self._tasks)

    def step(self, rows_max: int) -> bool:
        """Looks at no more than rows_max rows and removes what may go. True while something is left to do.

        Does nothing while a hashing runs: its owner steps that first.
        """
        self._hashings = [hashing for hashing in self._hashings if not hashing.done]
        if self._tasks and not self._hashings:
            self._work(self._tasks[0], rows_max)
        return bool(self._tasks)

    def _work(self, task: _Task, rows_max: int) -> None:
        rows = self._revisions.slice_of_rows(task.next, task.revision, rows_max)
        for row_key, row in rows:
            self._visit(task, row_key, row)
        if len(rows) == rows_max:
            task.next = rows[-1][0] + b"\x00"
            return
        self._tasks.popleft()
        self.finished_revision = task.revision
        self._store.put(META, FINISHED, revision_key(task.revision, 0))
        if task.stores_hash:
            self.hashes.store(KeySpaceHash(task.crc, task.revision, task.previous))

    def _visit(self, task: _Task, row_key: bytes, row: bytes) -> None:
        main, sub = parse_revision(row_key)
        dead = is_tombstone(row_key)
        key = key_of(row)
        index = self._revisions.index
        # The newest row of a key stays; a tombstone only where it lies exactly at the compacted revision. Where a txn
        # of that revision deleted the key and put it again, the put stays: etcd 3.5 removes it and dies of reading it.
        stays = index.newest(key, task.revision) == (main, sub, dead) and not (dead and main < task.revision)
        if main > task.previous or stays:
            # No case here for nothing being kept, as in hash_kv: the last row of the compacted revision always is.
            task.crc = extend(task.crc, row_key + row)
        if not stays:
            self.removed_count += 1
            self._store.delete(KEY, row_key)
            if index.oldest(key) == (main, sub):
                index.trim(key, task.revision)  # all of the key's rows that go, so once for each key

    def hash_at(self, revision: int) -> Hashing | KeySpaceHash | Refusal:
        """HashKV at a revision, 0 for the current one: at once where it is stored, else a Hashing to step through."""
        stored = self.hashes.find(revision)
        if stored is not None:
            return stored
        compacted, current = self._revisions.compact_revision, self._revisions.revision
        if 0 < revision < compacted:
            return COMPACTED
        if revision > current:
            return FUTURE_REVISION
        hashing = Hashing(self._revisions, revision or current, compacted)
        self._hashings.append(hashing)
        return hashing

    def load(self) -> None:
        """From the table `meta`; the revisions are loaded. A compaction that was cut off goes on."""
        self._tasks.clear()
        self.hashes = StoredHashes()
        finished, scheduled = (self._revision_of(row) for row in (FINISHED, SCHEDULED))
        revisions = self._revisions
        revisions.compact_revision = self.finished_revision = finished
        # All rows up to the compacted revision may be gone, the newest of all among them.
        revisions.revision = max(revisions.revision, finished, scheduled)
        if scheduled > finished:
            self._begin(scheduled, finished, stores_hash=False)

    def _revision_of(self, row: bytes) -> int:
        value = self._store.get(META, row)
        return NEVER_COMPACTED if value is None else parse_revision(value)[0]
