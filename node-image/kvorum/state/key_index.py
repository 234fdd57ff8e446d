"""Which revisions each key has. In memory, built from the rows at the start; knows no values and no store.

Hot path: budget 1 us for a put of a known key. Nothing here is O(keys) or O(versions of a key) on a put or a get.

Only bytes, flat tuples of ints and bytearrays, because the garbage collector visits none of them twice: nested lists
cost 460 ms for one full collection of 400k keys (performance.md).

- `now`:     key -> (main, sub, create, version, lease) of each key that exists; `live` holds these keys in order.
- `past`:    key -> its older rows that are not compacted, oldest first, packed as MARK: main, and sub * 2, plus 1 for a
             tombstone. A key that does not exist ends in a tombstone here, and is in `gone`, in order.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice
from struct import Struct

from sortedcontainers import SortedList

Now = tuple[int, int, int, int, int]
Revision = tuple[int, int]

_MARK = Struct(">qq")
_pack_mark = _MARK.pack
MARK_BYTES = _MARK.size


class KeyIndex:
    """The revisions of every key."""

    __slots__ = ("gone", "live", "now", "past")

    def __init__(self) -> None:
        self.now: dict[bytes, Now] = {}
        self.live: SortedList = SortedList()
        self.past: dict[bytes, bytearray] = {}
        self.gone: SortedList = SortedList()

    # -- changes ---------------------------------------------------------------------------------------------------

    def put(self, key: bytes, main: int, sub: int, lease: int) -> Revision:
        """A new row of key. Gives its create revision and version. lease: the lease it is attached to, 0 for none."""
        old = self.now.get(key)
        if old is None:
            self.now[key] = (main, sub, main, 1, lease)
            self.live.add(key)
            if self.gone and key in self.past:
                self.gone.remove(key)
            return main, 1
        create = old[2]
        version = old[3] + 1
        self.now[key] = (main, sub, create, version, lease)
        past = self.past.get(key)
        if past is None:
            self.past[key] = bytearray(_pack_mark(old[0], old[1] << 1))
        else:
            past += _pack_mark(old[0], old[1] << 1)
        return create, version

    def delete(self, key: bytes, main: int, sub: int) -> None:
        """A tombstone of a key that exists."""
        old = self.now.pop(key)
        self.live.remove(key)
        self.gone.add(key)
        marks = _pack_mark(old[0], old[1] << 1) + _pack_mark(main, sub << 1 | 1)
        past = self.past.get(key)
        if past is None:
            self.past[key] = bytearray(marks)
        else:
            past += marks

    def load(self, rows: Iterable[tuple[bytes, int, int, bool, int, int, int]]) -> None:
        """Fills an empty index from (key, main, sub, is tombstone, create, version, lease) in order of revision."""
        assert not self.now, len(self.now)
        now, past = self.now, self.past
        for key, main, sub, is_tombstone, create, version, lease in rows:
            old = now.pop(key, None)
            marks = b"" if old is None else _pack_mark(old[0], old[1] << 1)
            if is_tombstone:
                marks += _pack_mark(main, sub << 1 | 1)
            else:
                now[key] = (main, sub, create, version, lease)
            if marks:
                older = past.get(key)
                if older is None:
                    past[key] = bytearray(marks)
                else:
                    older += marks
        self.live.update(now)
        self.gone.update(key for key in past if key not in now)

    def trim(self, key: bytes, main: int) -> None:
        """Forgets the rows of key that a compaction at `main` removes; the key itself, if none is left."""
        past = self.past.get(key)
        if past is None:
            return
        now = self.now.get(key)
        if now is not None and now[0] <= main:
            del self.past[key]
            return
        older = self._older(past, main)
        if not older:
            return
        at = (older - 1) * MARK_BYTES
        last, mark = _MARK.unpack_from(past, at)
        # The newest row stays, a tombstone only if it lies exactly at the compacted revision (etcd from 3.5.16 on).
        dropped = at + MARK_BYTES if mark & 1 and last < main else at
        if dropped < len(past):
            del past[:dropped]
            return
        del self.past[key]
        if now is None:
            self.gone.remove(key)

    # -- questions -------------------------------------------------------------------------------------------------

    def newest(self, key: bytes, main: int) -> tuple[int, int, bool] | None:
        """The newest row of key at or before `main`: main, sub, whether it is a tombstone. None where there is none."""
        now = self.now.get(key)
        if now is not None and now[0] <= main:
            return now[0], now[1], False
        past = self.past.get(key)
        if past is None:
            return None
        older = self._older(past, main)
        if not older:
            return None
        last, mark = _MARK.unpack_from(past, (older - 1) * MARK_BYTES)
        return last, mark >> 1, bool(mark & 1)

    def find(self, key: bytes, main: int) -> Revision | None:
        """The row that a reader of key at `main` sees. None where the key did not exist then."""
        found = self.newest(key, main)
        return None if found is None or found[2] else found[:2]

    def oldest(self, key: bytes) -> Revision | None:
        """The oldest row of key that is known here."""
        past = self.past.get(key)
        if past is not None:
            main, mark = _MARK.unpack_from(past)
            return main, mark >> 1
        now = self.now.get(key)
        return None if now is None else now[:2]

    def keys(self, start: bytes, end: bytes | None, limit: int = 0) -> list[bytes]:
        """The existing keys in [start, end), in order; at most `limit` unless it is 0."""
        found: Iterator[bytes] = self.live.irange(start, end, inclusive=(True, False))
        return list(islice(found, limit)) if limit else list(found)

    def count(self, start: bytes, end: bytes | None) -> int:
        """How many keys exist in [start, end). Walks none of them."""
        live = self.live
        to: int = len(live) if end is None else live.bisect_left(end)
        since: int = live.bisect_left(start)
        return max(to - since, 0)

    def find_all(self, start: bytes, end: bytes | None, main: int, limit: int = 0) -> tuple[list[Revision], int]:
        """Rows that a reader of [start, end) at `main` sees, in order of keys, at most `limit`; and how many in all.

        Walks every key of the range that exists or that a compaction may still find: for older revisions only.
        """
        span = (start, end, (True, False))
        known: list[bytes] = list(self.live.irange(*span))
        gone: list[bytes] = list(self.gone.irange(*span))
        if gone:
            known = sorted(known + gone)
        found: list[Revision] = []
        total = 0
        for key in known:
            row = self.find(key, main)
            if row is not None:
                total += 1
                if not limit or total <= limit:
                    found.append(row)
        return found, total

    @staticmethod
    def _older(past: bytearray, main: int) -> int:
        """How many of a key's older rows lie at or before `main`."""
        rows = range(len(past) // MARK_BYTES)
        return bisect_right(rows, main, key=lambda row: _MARK.unpack_from(past, row * MARK_BYTES)[0])
