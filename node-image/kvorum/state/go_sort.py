"""Where Go's sort.Sort leaves elements of equal keys when one is appended to a sorted list: etcd stores that order.

Below 13 and from 50 elements on, the new one comes behind its equals. In between Go takes a pattern-defeating quicksort
(Peters, 2021), which does not keep the order of equals; with its constants (from go 1.19 on) this is that order. Knows
nothing of what is sorted but the keys. The tests hold what Go itself made.
"""

from bisect import insort
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

INSERTION_MAX = 12  # up to so many are sorted by insertion
SHIFTING_MIN = 50  # from so many on a single element out of place is moved where it belongs
BALANCE = 8  # a part smaller than an eighth is a bad one
_UINT64_MASK = (1 << 64) - 1


def go_insert(items: list[T], item: T, key: Callable[[T], Any]) -> None:
    """items: in order of their keys."""
    if not INSERTION_MAX <= len(items) < SHIFTING_MIN - 1:
        insort(items, item, key=key)
        return
    items.append(item)
    _Sorting(items, [key(each) for each in items]).sort(0, len(items), len(items).bit_length())


class _Sorting:
    """Two lists that move together. All ranges are half open."""

    def __init__(self, items: list[Any], keys: list[Any]) -> None:
        self._items = items
        self._keys = keys

    def _swap(self, one: int, other: int) -> None:
        for row in (self._items, self._keys):
            row[one], row[other] = row[other], row[one]

    def sort(self, start: int, stop: int, bad_left: int) -> None:
        """bad_left: parts that may still be unbalanced. Then Go takes a heap sort; one new element is no cause."""
        keys = self._keys
        balanced = partitioned = True
        while (length := stop - start) > INSERTION_MAX:
            assert bad_left, f"{length} keys, sorted but for one, were divided badly too often"
            if not balanced:
                self._scatter(start, length)
                bad_left -= 1
            pivot, swapped = self._choose_pivot(start, length)
            if balanced and partitioned and not swapped and self._is_sorted(start, stop):
                return
            if start > 0 and not keys[start - 1] < keys[pivot]:
                start = self._gather_equal(start, stop, pivot)
                continue
            middle, partitioned = self._partition(start, stop, pivot)
            left, right = middle - start, stop - middle
            balanced = min(left, right) >= length // BALANCE
            if left < right:
                self.sort(start, middle, bad_left)
                start = middle + 1
            else:
                self.sort(middle + 1, stop, bad_left)
                stop = middle
        for end in range(start + 1, stop):
            at = end
            while at > start and keys[at] < keys[at - 1]:
                self._swap(at, at - 1)
                at -= 1

    def _is_sorted(self, start: int, stop: int) -> bool:
        return not any(self._keys[at] < self._keys[at - 1] for at in range(start + 1, stop))

    def _choose_pivot(self, start: int, length: int) -> tuple[int, bool]:
        """The median of three. And whether they were out of order."""
        places = [start + length // 4 * part for part in (1, 2, 3)]
        swapped = False
        for low in (0, 1, 0):
            if self._keys[places[low + 1]] < self._keys[places[low]]:
                places[low], places[low + 1] = places[low + 1], places[low]
                swapped = True
        return places[1], swapped

    def _partition(self, start: int, stop: int, pivot: int) -> tuple[int, bool]:
        """Smaller ones to the left of the pivot. Gives where it is then, and whether nothing had to move."""
        keys = self._keys
        self._swap(start, pivot)
        low, high = start + 1, stop - 1
        moved = False
        while True:
            while low <= high and keys[low] < keys[start]:
                low += 1
            while low <= high and not keys[high] < keys[start]:
                high -= 1
            if low > high:
                self._swap(high, start)
                return high, not moved
            self._swap(low, high)
            moved = True
            low += 1
            high -= 1

    def _gather_equal(self, start: int, stop: int, pivot: int) -> int:
        """Those equal to the pivot to the left, where none is smaller. Gives the first that is greater."""
        keys = self._keys
        self._swap(start, pivot)
        low, high = start + 1, stop - 1
        while True:
            while low <= high and not keys[start] < keys[low]:
                low += 1
            while low <= high and keys[start] < keys[high]:
                high -= 1
            if low > high:
                return low
            self._swap(low, high)
            low += 1
            high -= 1

    def _scatter(self, start: int, length: int) -> None:
        """Three elements of the middle change places with others, by a generator (xorshift) that the length seeds."""
        state = length
        mask = (1 << length.bit_length()) - 1
        middle = start + length // 4 * 2
        for at in range(middle - 1, middle + 2):
            state ^= state << 13 & _UINT64_MASK
            state ^= state >> 7
            state ^= state << 17 & _UINT64_MASK
            other = state & mask
            self._swap(at, start + (other - length if other >= length else other))
