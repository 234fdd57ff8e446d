"""bbolt files read: those of a real etcd give its rows and hashes, and no damage gives anything but CorruptDb."""

import random
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from kvorum.state.dict_store import DictStore
from kvorum.state.hash_kv import KeySpaceHash
from kvorum.state.machine import Machine
from kvorum.state.store import TABLES
from kvorum.storage.bbolt_reader import META_BODY, PAGE_HEADER, BboltFile, fnv64a
from kvorum.storage.bbolt_writer import write_bbolt
from kvorum.storage.fault import CorruptDb

from tests.unit.kvorum.state.driver import captured_table, hash_of, new_machine

TESTDATA = Path(__file__).parent / "testdata"
LIFE, SNAPSHOT = TESTDATA / "member-life" / "db", TESTDATA / "member-snapshot" / "db"
PAGE_BYTES = 4096


def rows_of(path: Path) -> dict[bytes, dict[bytes, bytes]]:
    with BboltFile.open(path) as file:
        return {name: dict(file.rows(name)) for name in file.bucket_names()}


@pytest.mark.parametrize(("path", "decoded"), [(LIFE, "life-db.json"), (SNAPSHOT, "snapshot-db.json")])
def test_the_rows_of_a_real_etcd_are_those_decoded_beside_them(path: Path, decoded: str) -> None:
    found = rows_of(path)
    assert set(found) == {table.encode() for table in TABLES}
    for table in TABLES:
        assert found[table.encode()] == captured_table(decoded, table), table
        assert list(found[table.encode()]) == sorted(found[table.encode()])


@pytest.mark.parametrize(
    ("path", "hashes"),
    [
        (LIFE, {6: 1796864218, 7: 409507257, 10: 1254815076, 11: 3417416886, 12: 3643176747, 0: 3643176747}),
        (SNAPSHOT, {10: 754725784, 40: 217602, 64: 3547499420, 0: 3547499420}),
    ],
)
def test_the_hashes_of_what_is_read_are_those_that_etcd_told(path: Path, hashes: dict[int, int]) -> None:
    store = DictStore({name.decode(): rows for name, rows in rows_of(path).items() if not name.startswith(b"auth")})
    machine: Machine = new_machine(store)
    for revision, told in hashes.items():
        found = hash_of(machine, revision)
        assert isinstance(found, KeySpaceHash)
        assert found.hash == told, revision


def test_a_bucket_may_be_read_again_and_several_at_once() -> None:
    with BboltFile.open(SNAPSHOT) as file:
        once = list(file.rows(b"key"))
        pairs = list(zip(file.rows(b"key"), file.rows(b"key"), strict=True))
        assert pairs == [(row, row) for row in once]
        with pytest.raises(KeyError):
            file.rows(b"absent")


# --- damage ----------------------------------------------------------------------------------------------------------


def pages(content: bytearray, flags: int) -> list[int]:
    """Offsets of the pages of a kind."""
    return [
        at
        for at in range(2 * PAGE_BYTES, len(content), PAGE_BYTES)
        if PAGE_HEADER.unpack_from(content, at)[:2] == (at // PAGE_BYTES, flags)
    ]


@pytest.fixture(scope="module")
def tall(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file with branches over branches, an inline bucket, and a value on several pages."""
    path = tmp_path_factory.mktemp("tall") / "db"
    rows = [(b"%0300d" % number, b"v" * 40) for number in range(400)]
    write_bbolt(path, [(b"key", rows), (b"large", [(b"a", b"x" * 9000)]), (b"meta", [(b"k", b"v")])])
    return path.read_bytes()


def read_all(path: Path, content: bytes | bytearray) -> None:
    path.write_bytes(content)
    rows_of(path)


def meta_with(content: bytearray, number: int, **fields: int) -> None:
    """Change a meta page and make its checksum right again."""
    names = ("magic", "version", "page_bytes", "flags", "root", "sequence", "freelist", "end", "txid")
    at = number * PAGE_BYTES + PAGE_HEADER.size
    values = dict(zip(names, META_BODY.unpack_from(content, at), strict=True)) | fields
    body = META_BODY.pack(*values.values())
    content[at : at + len(body) + 8] = body + fnv64a(body).to_bytes(8, "little")


def test_the_newer_meta_page_counts_and_a_torn_one_does_not(tall: bytes, tmp_path: Path) -> None:
    path = tmp_path / "db"
    content = bytearray(tall)
    meta_with(content, 0, txid=9)
    meta_with(content, 1, txid=8, root=1 << 40)
    read_all(path, content)
    content[PAGE_HEADER.size + 20] ^= 1  # the first is torn, the older one counts, whose root is nowhere
    with pytest.raises(CorruptDb, match="page 1099511627776 cannot be: 2 to"):
        read_all(path, content)
    meta_with(content, 1, root=struct.unpack_from("<Q", tall, PAGE_HEADER.size + 16)[0])
    read_all(path, content)
    content[PAGE_BYTES + PAGE_HEADER.size] ^= 1
    with pytest.raises(CorruptDb, match=r"neither meta page is good \(page 0: checksum .* page 1: "):
        read_all(path, content)


def damaged(tall: bytes) -> Iterator[tuple[bytes | bytearray, str]]:
    leaf, branch = pages(bytearray(tall), 2), pages(bytearray(tall), 1)

    def changed(at: int, layout: str, value: int) -> bytearray:
        content = bytearray(tall)
        struct.pack_into(layout, content, at, value)
        return content

    yield b"", "no bbolt file has 0 bytes"
    yield bytes(2 * PAGE_BYTES), "page 0: no bbolt file begins like this"
    yield b"SQLite format 3\0" * 512, "no bbolt file begins like this"
    content = bytearray(tall)
    for number in range(2):
        meta_with(content, number, version=3)
    yield content, "version 3, only 2 is known"
    content = bytearray(tall)
    for number in range(2):
        meta_with(content, number, page_bytes=1000)
    yield content, "pages of 1000 bytes"
    yield tall[: -2 * PAGE_BYTES], r"page \d+ is missing: the file ends after \d+ bytes"
    yield changed(leaf[3], "<Q", 1), f"page {leaf[3] // PAGE_BYTES} says that it is page 1"
    yield changed(leaf[3] + 8, "<H", 16), f"page {leaf[3] // PAGE_BYTES} is neither leaf nor branch"
    yield changed(leaf[3] + 10, "<H", 60_000), f"page {leaf[3] // PAGE_BYTES}: 60000 rows do not fit"
    yield changed(leaf[3] + 12, "<I", 1 << 30), f"page {leaf[3] // PAGE_BYTES} goes on for {1 << 30} pages"
    yield changed(leaf[3] + 16, "<I", 6), f"page {leaf[3] // PAGE_BYTES}: row 0 lies outside of it"
    yield changed(leaf[3] + 20, "<I", 0), f"page {leaf[3] // PAGE_BYTES}: row 0 lies outside of it"
    yield changed(leaf[3] + 28, "<I", 1 << 31), f"page {leaf[3] // PAGE_BYTES}: row 0 lies outside of it"
    yield changed(leaf[3] + 16, "<I", 1), "lies within a bucket"
    yield changed(leaf[3] + 24, "<I", 0), f"page {leaf[3] // PAGE_BYTES}: key  follows"
    yield changed(branch[0] + 10, "<H", 0), f"page {branch[0] // PAGE_BYTES}: a branch cannot have 0 children"
    child = branch[0] + 16 + 8
    yield changed(child + 16, "<Q", struct.unpack_from("<Q", tall, child)[0]), "is reached twice"
    yield changed(child, "<Q", branch[0] // PAGE_BYTES), "is reached twice"
    yield changed(child, "<Q", 0), "page 0 cannot be"
    root = pages(bytearray(tall), 2)[-1]
    yield changed(root + 16, "<I", 0), "b'key' stands among the buckets, and is none"
    inline = tall.index(b"meta", root) + 4 + 16
    yield changed(inline + 8, "<H", 1), "a page within a row of the root bucket is no leaf"
    yield changed(inline + 10, "<H", 9), "a page within a row of the root bucket: 9 rows do not fit"


def test_each_damage_is_told_with_its_page(tall: bytes, tmp_path: Path) -> None:
    path = tmp_path / "db"
    for content, why in damaged(tall):
        with pytest.raises(CorruptDb, match=why) as refusal:
            read_all(path, content)
        assert str(refusal.value).startswith(f"{path}: ")


def test_a_chain_of_branches_without_end_is_cut(tall: bytes, tmp_path: Path) -> None:
    content = bytearray(tall)
    first = len(content) // PAGE_BYTES
    for number in range(first, first + 100):
        content += PAGE_HEADER.pack(number, 1, 1, 0) + struct.pack("<IIQ", 16, 0, number + 1) + bytes(PAGE_BYTES - 32)
    for number in range(2):
        meta_with(content, number, root=first, end=first + 100)
    with pytest.raises(CorruptDb, match="lies below 64 others"):
        read_all(tmp_path / "db", content)


@pytest.mark.parametrize("source", ["life", "tall"])
def test_random_damage_is_refused_or_goes_unseen_and_never_hangs(source: str, tall: bytes, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = Random(seed)
    good = LIFE.read_bytes() if source == "life" else tall
    interesting = [at + offset for at in range(0, len(good), PAGE_BYTES) for offset in range(96)]
    path = tmp_path / "db"
    refusals: list[str] = []
    for _ in range(400):
        content = bytearray(good)
        for _ in range(rng.choice((1, 1, 2, 8))):
            at = rng.choice(interesting) if rng.random() < 0.8 else rng.randrange(len(content))
            content[at] ^= 1 << rng.randrange(8)
        if rng.random() < 0.2:
            del content[rng.randrange(len(content)) :]
        try:
            read_all(path, content)
        except CorruptDb as why:
            refusals.append(str(why))
    assert all(re.match(r"\S+/db: .", why) for why in refusals)
    assert len(refusals) > 100, "the damage hit something that is looked at"
