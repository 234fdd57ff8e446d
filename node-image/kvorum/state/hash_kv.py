"""HashKV: CRC-32C over the rows up to a revision, equal to etcd's whatever is compacted and however far that is.

O(rows): a Hashing goes over them in slices, so that its owner can serve others between two of them. While one runs,
no row is removed (compaction.py waits), so it hashes one state.

Counted are rows up to the revision asked for; of those at or below the compacted revision only the newest of each key
as of the revision asked for, if no tombstone. Where that keeps nothing at all, etcd skips nothing: then the rows that
the compaction leaves are counted (peer-protocol.md, 6.3).
"""

from dataclasses import dataclass

import google_crc32c

from kvorum.state.revisions import Revisions
from kvorum.state.row import is_tombstone, key_of, parse_revision
from kvorum.state.store import KEY

START: int = google_crc32c.value(KEY.encode())
STORED_HASHES_MAX = 10


@dataclass(frozen=True, slots=True)
class KeySpaceHash:
    """hash: CRC-32C of all rows up to `revision`, given that everything up to `compact_revision` was compacted."""

    hash: int
    revision: int
    compact_revision: int


def extend(crc: int, data: bytes) -> int:
    """The sum over what was summed before, and data."""
    extended: int = google_crc32c.extend(crc, data)
    return extended


class RowHash:
    """The running sum, in both versions until it is known whether any row is kept."""

    __slots__ = ("_all", "_kept", "keeps_something")

    def __init__(self) -> None:
        self._kept = START
        self._all = START
        self.keeps_something = False

    def add(self, row_key: bytes, row: bytes) -> None:
        """A row that counts in any case."""
        data = row_key + row
        self._kept = extend(self._kept, data)
        if not self.keeps_something:
            self._all = extend(self._all, data)

    def add_if_nothing_is_kept(self, row_key: bytes, row: bytes) -> None:
        if not self.keeps_something:
            self._all = extend(self._all, row_key + row)

    @property
    def value(self) -> int:
        return self._kept if self.keeps_something else self._all


class Hashing:
    """The hash at one revision, being computed. step() until it says that it is done; close() where it is given up."""

    def __init__(self, revisions: Revisions, revision: int, compact_revision: int) -> None:
        self._revisions = revisions
        self._revision = revision
        self._compact_revision = compact_revision
        self._next = b""
        self._sum = RowHash()
        self.done = False

    def step(self, rows_max: int) -> bool:
        """Hashes at most rows_max rows more. True when all are."""
        if not self.done:
            rows = self._revisions.slice_of_rows(self._next, self._revision, rows_max)
            for row_key, row in rows:
                self._add(row_key, row)
            if len(rows) < rows_max:
                self.done = True
            else:
                self._next = rows[-1][0] + b"\x00"
        return self.done

    def close(self) -> None:
        """Gives up, so that a compaction can go on."""
        self.done = True

    @property
    def result(self) -> KeySpaceHash:
        assert self.done, "ask when step() has said so"
        return KeySpaceHash(self._sum.value, self._revision, self._compact_revision)

    def _add(self, row_key: bytes, row: bytes) -> None:
        main, sub = parse_revision(row_key)
        dead = is_tombstone(row_key)
        total, index, compacted = self._sum, self._revisions.index, self._compact_revision
        if main > compacted:
            if not total.keeps_something and not dead and index.find(key_of(row), self._revision) == (main, sub):
                total.keeps_something = True
            total.add(row_key, row)
            return
        if dead:
            return  # one at the compacted revision is there or not by etcd's version; those below are as good as gone
        key = key_of(row)
        if index.find(key, self._revision) == (main, sub):
            total.keeps_something = True
            total.add(row_key, row)
        elif index.newest(key, compacted) == (main, sub, False):
            total.add_if_nothing_is_kept(row_key, row)


class StoredHashes:
    """The hashes of the last compactions, each over the rows before it: the answers at exactly their revisions."""

    def __init__(self) -> None:
        self._hashes: list[KeySpaceHash] = []

    def store(self, found: KeySpaceHash) -> None:
        self._hashes = sorted([*self._hashes, found], key=lambda stored: stored.revision)[-STORED_HASHES_MAX:]

    @property
    def all(self) -> list[KeySpaceHash]:
        """By ascending revision."""
        return list(self._hashes)

    def find(self, revision: int) -> KeySpaceHash | None:
        return next((stored for stored in self._hashes if stored.revision == revision), None)
