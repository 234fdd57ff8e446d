"""bbolt files written: what is put in comes out, page for page as bbolt wants it, in bounded memory."""

import random
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from kvorum.storage import bbolt_writer
from kvorum.storage.bbolt_reader import BRANCH, BRANCH_ELEMENT, FREELIST, LEAF, PAGE_HEADER, BboltFile
from kvorum.storage.bbolt_writer import PAGE_BYTES, UnfitRow, write_bbolt
from kvorum.storage.fault import CorruptDb

CAPTURED = Path(__file__).parent / "testdata" / "member-life" / "db"

Tables = dict[bytes, list[tuple[bytes, bytes]]]


def written(path: Path, tables: Tables) -> int:
    return write_bbolt(path, ((name, iter(tables[name])) for name in sorted(tables)))


def read(path: Path) -> Tables:
    with BboltFile.open(path) as file:
        return {name: list(file.rows(name)) for name in file.bucket_names()}


def page_heads(path: Path) -> list[tuple[int, int, int, int]]:
    """Of all pages but those that continue another: number, flags, elements, further pages."""
    content = path.read_bytes()
    heads = []
    at = 0
    while at < len(content):
        heads.append(PAGE_HEADER.unpack_from(content, at))
        at += (1 + heads[-1][3]) * PAGE_BYTES
    return heads


def check_shape(path: Path) -> None:
    """What bbolt takes for granted: every page is used once or free, and no branch has only one child."""
    content = path.read_bytes()
    heads = page_heads(path)
    assert [head[:2] for head in heads[:3]] == [(0, 4), (1, 4), (2, FREELIST)]
    with BboltFile.open(path) as file:
        assert file.meta.end * PAGE_BYTES == len(content)
        children = [file.meta.root]
        roots = dict(file._root_rows())
    children += [struct.unpack_from("<Q", row)[0] for row in roots.values()]
    number = 3
    for stored, flags, count, more in heads[3:]:
        assert stored == number
        assert flags in (BRANCH, LEAF)
        if flags == BRANCH:
            assert count >= 2, f"page {number}: bbolt panics when rows below an only child are deleted"
            at = number * PAGE_BYTES + PAGE_HEADER.size
            children += [BRANCH_ELEMENT.unpack_from(content, at + 16 * child)[2] for child in range(count)]
        number += 1 + more
    assert sorted(page for page in children if page) == [head[0] for head in heads[3:]]


def test_a_captured_db_survives(tmp_path: Path) -> None:
    tables = read(CAPTURED)
    assert written(tmp_path / "db", tables) == (tmp_path / "db").stat().st_size
    assert read(tmp_path / "db") == tables
    check_shape(tmp_path / "db")
    assert (tmp_path / "db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("tables", [{}, {b"key": []}, {b"a": [], b"b": [], b"key": [(b"k", b"")]}])
def test_empty_files_and_buckets_survive(tables: Tables, tmp_path: Path) -> None:
    written(tmp_path / "db", tables)
    assert read(tmp_path / "db") == tables
    check_shape(tmp_path / "db")


def test_rows_of_every_size_survive(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = Random(seed)
    for _ in range(40):
        tables: Tables = {}
        for name in rng.sample([b"a", b"b", b"key", b"meta", b"z" * 3000], rng.randrange(5)):
            longest = rng.choice((8, 8, 200, 900, 5000, 32_000))
            keys = {rng.randbytes(rng.randrange(1, longest)) for _ in range(rng.choice((0, 1, 2, 30, 300)))}
            size = rng.choice((0, 10, 300, 3000, 3500, 4096, 20_000))
            tables[name] = [(key, rng.randbytes(rng.randrange(size + 1))) for key in sorted(keys)]
        written(tmp_path / "db", tables)
        assert read(tmp_path / "db") == tables
        check_shape(tmp_path / "db")


@pytest.mark.parametrize("rows_count", [*range(60, 80), *range(390, 410), 1200])
def test_no_branch_has_an_only_child_wherever_the_rows_end(rows_count: int, tmp_path: Path) -> None:
    # 3 children fit in a branch, 2 rows in a leaf: trees of 3 to 6 levels
    tables = {b"key": [(b"%01000d" % number, b"v" * 600) for number in range(rows_count)]}
    written(tmp_path / "db", tables)
    check_shape(tmp_path / "db")
    assert read(tmp_path / "db") == tables


def test_small_buckets_stand_in_the_root_and_pages_are_nine_tenths_full(tmp_path: Path) -> None:
    rows = [(b"%08d" % number, b"v" * 50) for number in range(3000)]
    written(tmp_path / "db", {b"alarm": [(b"a", b"")], b"key": rows, b"lease": [(b"a", b"v" * 1000)]})
    assert [head[1:] for head in page_heads(tmp_path / "db")[-2:]] == [(LEAF, 1, 0), (LEAF, 3, 0)]
    _, flags, rows_count, more = page_heads(tmp_path / "db")[3]
    assert (flags, more) == (LEAF, 0)
    assert 0.88 * PAGE_BYTES < 16 + rows_count * (16 + 8 + 50) <= 0.9 * PAGE_BYTES


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([(b"b", b""), (b"a", b"")], "key 61 follows 62"),
        ([(b"a", b""), (b"a", b"")], "key 61 follows 61"),
        ([(b"", b"")], "key  follows "),
        ([(b"k" * 32_769, b"")], "of 32769 bytes"),
    ],
)
def test_rows_that_bbolt_cannot_hold_are_refused(rows: list[tuple[bytes, bytes]], why: str, tmp_path: Path) -> None:
    with pytest.raises(UnfitRow, match=why):
        write_bbolt(tmp_path / "db", [(b"key", rows)])
    with pytest.raises(CorruptDb, match="no bbolt file"):
        BboltFile.open(tmp_path / "db")


def test_what_was_interrupted_opens_nowhere(tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def rows() -> Iterator[tuple[bytes, bytes]]:
        for number in range(100_000):
            yield b"%08d" % number, b"v" * 100
        raise Interrupted

    path = tmp_path / "db"
    with pytest.raises(Interrupted):
        write_bbolt(path, [(b"key", rows())])
    assert path.stat().st_size > 1 << 20
    with pytest.raises(CorruptDb, match="neither meta page is good"):
        BboltFile.open(path)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    value = bytes(1000)
    tracemalloc.start()
    try:
        size = write_bbolt(tmp_path / "db", [(b"key", ((b"%08d" % number, value) for number in range(30_000)))])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 30 << 20
    assert peak < 3 * bbolt_writer.BUFFER_BYTES
