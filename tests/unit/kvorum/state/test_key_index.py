"""The key index against a list of all rows, and that it stays cheap."""

import time
from bisect import insort
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvorum.state.key_index import KeyIndex
from sortedcontainers import SortedList

KEYS = [b"a", b"b", b"ba", b"c"]
changes = st.lists(st.tuples(st.sampled_from(KEYS), st.booleans(), st.booleans()), max_size=40)
spans = st.tuples(st.sampled_from(KEYS), st.one_of(st.none(), st.sampled_from(KEYS))).filter(
    lambda span: span[1] is None or span[0] < span[1]
)


class Naive:
    """Every row of every key, in a list."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, bytes, bool]] = []

    def newest(self, key: bytes, main: int) -> tuple[int, int, bool] | None:
        found = [(row[0], row[1], row[3]) for row in self.rows if row[2] == key and row[0] <= main]
        return found[-1] if found else None

    def exists(self, key: bytes, main: int = 1 << 40) -> bool:
        found = self.newest(key, main)
        return found is not None and not found[2]


def build(script: list[tuple[bytes, bool, bool]]) -> tuple[KeyIndex, Naive, int]:
    """Puts and deletes, several under one revision where the third says so."""
    index, naive = KeyIndex(), Naive()
    main, sub = 2, 0
    for key, is_put, same_revision in script:
        main, sub = (main, sub + 1) if same_revision else (main + 1, 0)
        if is_put:
            create, version = index.put(key, main, sub, 0)
            before = [row for row in naive.rows if row[2] == key]
            lives = before[len(before) - next((i for i, row in enumerate(reversed(before)) if row[3]), len(before)) :]
            assert version == len(lives) + 1
            assert create == (lives[0][0] if lives else main)
        elif naive.exists(key):
            index.delete(key, main, sub)
        else:
            continue
        naive.rows.append((main, sub, key, not is_put))
    return index, naive, main


@given(changes, spans)
def test_every_key_is_found_as_it_was_at_every_revision(
    script: list[tuple[bytes, bool, bool]], span: tuple[bytes, bytes | None]
) -> None:
    index, naive, last = build(script)
    start, end = span
    inside = [key for key in KEYS if start <= key and (end is None or key < end)]
    for main in range(last + 2):
        for key in KEYS:
            assert index.newest(key, main) == naive.newest(key, main)
        wanted = [naive.newest(key, main) for key in inside if naive.exists(key, main)]
        rows = [row[:2] for row in wanted if row is not None]
        assert index.find_all(start, end, main) == (rows, len(rows))
        assert index.find_all(start, end, main, 1) == (rows[:1], len(rows))
    alive = [key for key in inside if naive.exists(key)]
    assert index.keys(start, end) == alive
    assert index.keys(start, end, 2) == alive[:2]
    assert index.count(start, end) == len(alive)


@given(changes, st.lists(st.integers(1, 45), max_size=3))
def test_trimming_forgets_what_a_compaction_removes_and_nothing_else(
    script: list[tuple[bytes, bool, bool]], compactions: list[int]
) -> None:
    index, naive, last = build(script)
    for compacted in sorted(compactions):
        for key in KEYS:
            index.trim(key, compacted)
        kept = {key: naive.newest(key, compacted) for key in KEYS}
        naive.rows = [
            row
            for row in naive.rows
            if row[0] > compacted or (kept[row[2]] == (row[0], row[1], row[3]) and not (row[3] and row[0] < compacted))
        ]
        for main in range(compacted, last + 2):
            for key in KEYS:
                assert index.newest(key, main) == naive.newest(key, main)
        known = {row[2] for row in naive.rows}
        assert set(index.now) | set(index.past) == known, "a key without rows is dropped"
        assert list(index.gone) == sorted(key for key in known if not naive.exists(key))
        for key in KEYS:
            rows = [row[:2] for row in naive.rows if row[2] == key]
            assert index.oldest(key) == (rows[0] if rows else None)


@given(changes)
def test_an_index_that_is_loaded_is_the_one_that_was_built(script: list[tuple[bytes, bool, bool]]) -> None:
    built, naive, _ = build(script)
    rows = []
    for main, sub, key, is_tombstone in naive.rows:
        # The last entry of each key tells create and version; earlier ones are not looked at for them.
        _, _, create, version, _ = built.now.get(key, (0, 0, 0, 0, 0))
        rows.append((key, main, sub, is_tombstone, create, version, 0))
    loaded = KeyIndex()
    loaded.load(rows)
    assert loaded.now == built.now
    assert loaded.past == built.past
    assert list(loaded.live) == list(built.live)
    assert list(loaded.gone) == list(built.gone)


@given(st.lists(st.binary(max_size=2), unique=True))
def test_keys_come_in_order_of_their_bytes(names: list[bytes]) -> None:
    index = KeyIndex()
    ordered: list[bytes] = []
    for main, name in enumerate(names, start=2):
        index.put(name, main, 0, 0)
        insort(ordered, name)
    assert index.keys(b"", None) == ordered


def test_counting_walks_over_no_key() -> None:
    class Unwalkable(SortedList):  # type: ignore[misc]  # the library has no types
        def irange(self, *_: object, **__: object) -> Iterator[bytes]:
            raise AssertionError("walked")

        __iter__ = irange

    index = KeyIndex()
    for main in range(2, 102):
        index.put(b"%03d" % main, main, 0, 0)
    index.live = Unwalkable(list(index.live))
    assert index.count(b"010", b"020") == 10
    assert index.count(b"", None) == 100
    assert index.count(b"050", b"040") == 0


def cpu_of_puts(index: KeyIndex, main: int, count: int) -> float:
    began = time.process_time()
    for n in range(count):
        index.put(b"hot", main + n, 0, 0)
    return time.process_time() - began


@pytest.mark.parametrize("versions", [200_000])
def test_a_put_of_a_key_with_many_versions_costs_no_more_than_one_with_few(versions: int) -> None:
    index = KeyIndex()
    few = min(cpu_of_puts(index, 2 + n * 1000, 1000) for n in range(5))
    cpu_of_puts(index, 10_000, versions)
    many = min(cpu_of_puts(index, 10_000 + versions + n * 1000, 1000) for n in range(5))
    # A copy of the versions would take 3 MB a put, some 300 us; a put takes about one.
    assert many < 20 * few
    assert index.find(b"hot", 10_000 + versions // 2) == (10_000 + versions // 2, 0)


def test_the_index_holds_nothing_that_the_garbage_collector_keeps_visiting() -> None:
    import gc

    index = KeyIndex()
    for main in range(2, 6):
        index.put(b"a", main, 0, 0)
    gc.collect()
    assert not gc.is_tracked(index.now[b"a"])
    assert not gc.is_tracked(index.past[b"a"])
