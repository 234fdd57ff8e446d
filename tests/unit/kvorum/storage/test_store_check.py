"""Tables are read by another process first: what LMDB would die of is a message."""

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kvorum.state.store import KEY, LEASE
from kvorum.storage import store_check
from kvorum.storage.fault import CorruptStore, StoreFailed
from kvorum.storage.lmdb_store import LmdbStore

PAGE_BYTES = 4096
VALUES = random.Random(5)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a store with branch pages, and values that fill pages of their own."""
    folder = tmp_path_factory.mktemp("tables")
    store = LmdbStore.open(folder / "store")
    for number in range(3000):
        store.put(KEY, b"%017d" % number, VALUES.randbytes(5000 if number % 100 == 0 else 150))
    store.put(LEASE, b"lease", b"1")
    store.commit()
    store.close()
    return (folder / "store" / "data.mdb").read_bytes()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def pages_of(tables: bytes, flag: int) -> list[int]:
    """Numbers of the pages that are of a kind."""
    return [
        page
        for page in range(2, len(tables) // PAGE_BYTES)
        if int.from_bytes(tables[page * PAGE_BYTES + 10 : page * PAGE_BYTES + 12], "little") == flag
        and int.from_bytes(tables[page * PAGE_BYTES : page * PAGE_BYTES + 8], "little") == page
    ]


def flipped(tables: bytes, offset: int, mask: int) -> bytes:
    return tables[:offset] + bytes([tables[offset] ^ mask]) + tables[offset + 1 :]


BRANCH = 0x01


def test_whole_tables_pass_and_absent_ones_are_nothing_to_check(tables: bytes, directory: Path) -> None:
    store_check.require_whole(directory)
    (directory / "data.mdb").write_bytes(b"")  # just made by a process that was killed
    store_check.require_whole(directory)
    (directory / "data.mdb").write_bytes(tables)
    store_check.require_whole(directory)
    assert (directory / "data.mdb").read_bytes() == tables


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda tables: tables[: len(tables) // 2], "SIGBUS"),
        (lambda tables: tables[: 2 * PAGE_BYTES], "SIGBUS"),
        (lambda tables: os.urandom(len(tables)), "MDB_INVALID"),
        (lambda tables: flipped(tables, 16, 0x10), "MDB_INVALID"),  # a meta page's magic number
    ],
    ids=["half", "meta pages alone", "noise", "magic"],
)
def test_damage_is_told(tables: bytes, directory: Path, damage: Callable[[bytes], bytes], why: str) -> None:
    (directory / "data.mdb").write_bytes(damage(tables))
    with pytest.raises(CorruptStore, match=rf"(?s){directory}: the tables are damaged: .*{why}.*member remove"):
        store_check.require_whole(directory)


def test_a_branch_that_points_elsewhere_is_told(tables: bytes, directory: Path) -> None:
    (root, *_) = pages_of(tables, BRANCH)
    at = root * PAGE_BYTES
    node = at + int.from_bytes(tables[at + 16 : at + 18], "little")
    for mask, byte in ((0x01, 0), (0x40, 1), (0x7F, 2)):  # to another page, far behind the end, nowhere
        (directory / "data.mdb").write_bytes(flipped(tables, node + byte, mask))
        with pytest.raises(CorruptStore):
            store_check.require_whole(directory)


@pytest.mark.parametrize(
    ("ending", "why"),
    [
        ("kill -KILL $$", "ended by SIGKILL: by somebody, or for want of memory"),
        ("kill -TERM $$", "ended by SIGTERM"),
        ("echo no room >&2; exit 1", "no room"),
        ("exec sleep 60", "more than 0.2 s"),
    ],
)
def test_who_could_not_read_says_nothing_of_the_tables(
    ending: str, why: str, tables: bytes, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator takes `corrupt` for a reason to throw the data away."""
    (directory / "data.mdb").write_bytes(tables)
    reader = directory.parent / "python"
    reader.write_text(f"#!/bin/sh\n{ending}\n")
    reader.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(reader))
    monkeypatch.setattr(store_check, "TIMEOUT_S", 0.2 if "sleep" in ending else 60.0)
    with pytest.raises(StoreFailed, match=why) as raised:
        store_check.require_whole(directory)
    assert not isinstance(raised.value, CorruptStore)
