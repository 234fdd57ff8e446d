"""Which keys a user's permissions come to: ranges as requests write them, joined, and whether they cover another.

Knows keys only. An end that is empty means the key alone, FROM_KEY every key from there on.
"""

from bisect import bisect_right
from collections.abc import Sequence

from kvorum.state.interval_tree import NO_END, Bound, IntervalTree, bound
from kvorum.state.revisions import FROM_KEY


class KeyRanges:
    """Disjoint ranges in order; two that touch are one, so a request may span permissions that were given apart."""

    def __init__(self, ranges: Sequence[tuple[bytes, bytes]]) -> None:
        """ranges: key and range_end of each, none empty, in the order of the user's roles and their permissions."""
        self._given = ranges
        self._tree: IntervalTree | None = None
        self._starts: list[bytes] = []
        self._ends: list[bytes | None] = []  # None: no end
        for key, range_end in sorted(ranges):
            end = _end(key, range_end)
            if not self._ends:
                self._starts, self._ends = [key], [end]
                continue
            last = self._ends[-1]
            if last is None:
                break  # all that follow lie within
            if key > last:
                self._starts.append(key)
                self._ends.append(end)
            else:
                self._ends[-1] = None if end is None else max(last, end)

    def cover(self, key: bytes, range_end: bytes) -> bool:
        """Whether all of it lies within."""
        if range_end and range_end != FROM_KEY and key >= range_end:
            return self._covers_backwards(key, range_end)
        at = bisect_right(self._starts, key) - 1
        if at < 0:
            return False
        last = self._ends[at]
        if last is None:
            return True
        if key >= last:
            return False
        end = _end(key, range_end)
        return end is not None and end <= last

    def _covers_backwards(self, key: bytes, range_end: bytes) -> bool:
        """A range that ends before it begins. Nobody asks that in earnest, so the tree is made when somebody does."""
        if self._tree is None:
            self._tree = IntervalTree((bound(start), _bound(_end(start, end))) for start, end in self._given)
        return self._tree.covers(bound(key), bound(range_end))


def _bound(end: bytes | None) -> Bound:
    return NO_END if end is None else bound(end)


def _end(key: bytes, range_end: bytes) -> bytes | None:
    """The first key behind the range; None where it has no end."""
    return None if range_end == FROM_KEY else range_end or key + b"\x00"
