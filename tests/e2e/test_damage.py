"""Data that is lost, damaged or not the cluster's: the node stays up, says so, and takes no part.

Wrong settings and foreign directories end it: test_bad_input.py.
"""

import asyncio
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from kvorum.client import Client, ClientError
from kvorum.storage.bbolt_reader import LEAF, BboltFile

from tests.e2e.standing_aside import require_aside, wait_state
from tests.e2e.test_bad_input import contents
from tests.kit.deadline import wait_until
from tests.kit.etcd import EtcdMissing
from tests.kit.processes import Cluster, Node, etcd_program, kvorum_program

PAGE_BYTES = 4096


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Node]:
    """A node with some data, stopped."""
    node = Node(kvorum_program(), tmp_path, name="a")
    with node:
        asyncio.run(fill(node, 200))
        node.stop()
        yield node


async def fill(node: Node, count: int) -> None:
    async with Client([node.endpoint], timeout_s=10) as client:
        for number in range(count):
            await client.put(b"key%d" % number, os.urandom(600))


def started(node: Node) -> Node:
    node.log_path.unlink()
    node.start()
    return node


def flip(path: Path, offset: int, mask: int = 0x10) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ mask]))


# ---- corrupt ---------------------------------------------------------------------------------------------------------


def test_a_changed_byte_of_the_log_is_corrupt(stopped: Node) -> None:
    (segment,) = stopped.data_dir.glob("member/wal/*.wal")
    flip(segment, 60)
    before = contents(stopped.data_dir)
    require_aside(started(stopped), "corrupt", str(segment), "byte", "member remove", "restore a backup")
    assert contents(stopped.data_dir) == before


def test_a_log_that_lost_a_segment_is_corrupt(stopped: Node) -> None:
    (segment,) = stopped.data_dir.glob("member/wal/*.wal")
    segment.rename(segment.with_name(f"{2:016x}-{5:016x}.wal"))
    shutil.copy(segment.with_name(f"{2:016x}-{5:016x}.wal"), segment)
    require_aside(started(stopped), "corrupt", "segment", "is missing")


def truncated_to(part: float) -> Callable[[Path], None]:
    def damage(tables: Path) -> None:
        size = tables.stat().st_size
        os.truncate(tables, max(PAGE_BYTES, int(size * part)) // PAGE_BYTES * PAGE_BYTES)

    return damage


def noise(tables: Path) -> None:
    tables.write_bytes(os.urandom(20_000))


def wrong_magic(tables: Path) -> None:
    flip(tables, 16)


def every_branch_page(tables: Path) -> None:
    """Where pages say which pages are below them."""
    data = bytearray(tables.read_bytes())
    for page in range(2, len(data) // PAGE_BYTES):
        at = page * PAGE_BYTES
        if int.from_bytes(data[at + 10 : at + 12], "little") & 0x01:  # P_BRANCH
            first_node = int.from_bytes(data[at + 16 : at + 18], "little")
            data[at + first_node + 1] ^= 0x40  # of the child's number
    tables.write_bytes(data)


def every_row(tables: Path) -> None:
    """The first bytes of values: LMDB does not look at them, a KeyValue cannot begin like that."""
    data = bytearray(tables.read_bytes())
    for at in range(2 * PAGE_BYTES, len(data) - 4):
        if data[at : at + 5] == b"\x0a\x04key" or data[at : at + 5] == b"\x0a\x06key1":
            data[at] ^= 0x07
    tables.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [truncated_to(0.5), truncated_to(0), noise, wrong_magic, every_branch_page, every_row],
    ids=["half", "one page", "noise", "wrong magic", "branch pages", "rows"],
)
def test_damaged_tables_are_corrupt(stopped: Node, damage: Callable[[Path], None]) -> None:
    (tables,) = stopped.data_dir.glob("member/store/data.mdb")
    damage(tables)
    require_aside(started(stopped), "corrupt", str(tables.parent), "member remove")


def test_tables_that_are_ahead_of_the_log_are_corrupt(stopped: Node, tmp_path: Path) -> None:
    """The log's end is lost: it was put back from an older copy, say."""
    other = Node(kvorum_program(), tmp_path / "other", name="a")
    with other:
        other.stop()
    shutil.rmtree(stopped.data_dir / "member" / "wal")
    shutil.copytree(other.data_dir / "member" / "wal", stopped.data_dir / "member" / "wal")
    require_aside(started(stopped), "corrupt", "the log ends with", "is in the tables already")


@pytest.fixture
def left_by_etcd(tmp_path: Path) -> Iterator[Node]:
    """A node of ours that is to start in the directory of an etcd, which took snapshots and was stopped."""
    try:
        etcd = etcd_program()
    except EtcdMissing as why:
        pytest.skip(f"NOT RUN: {why}")
    node = Node(etcd, tmp_path, name="a", flags=("--snapshot-count=50", "--logger=zap"))
    with node:
        asyncio.run(fill(node, 200))
        node.stop()
        node.program = kvorum_program()
        yield node


def test_a_broken_snapshot_of_an_etcd_that_ran_here_is_corrupt(left_by_etcd: Node) -> None:
    """At each start: the first one renames the file."""
    newest = max(left_by_etcd.data_dir.glob("member/snap/*.snap"))
    flip(newest, newest.stat().st_size // 2)
    for _ in range(2):
        require_aside(started(left_by_etcd), "corrupt", str(newest), f"{newest.name}.broken", "member remove")
    assert (left_by_etcd.data_dir / "member" / "snap" / "db").exists()


def every_leaf_page(tables: Path) -> None:
    """Of etcd's db: each says that it is none. What the member itself looks at stays: meta pages, the rows of meta."""
    data = bytearray(tables.read_bytes())
    with BboltFile.open(tables) as file:
        applied = dict(file.rows(b"meta"))[b"consistent_index"]
    for at in range(2 * PAGE_BYTES, len(data), PAGE_BYTES):
        page = data[at : at + PAGE_BYTES]
        if page[8] == LEAF and b"consistent_index" not in page and b"clusterVersion" not in page:
            data[at + 8] = 0xF0
    tables.write_bytes(data)
    with BboltFile.open(tables) as file:
        assert dict(file.rows(b"meta"))[b"consistent_index"] == applied


def every_meta_page(tables: Path) -> None:
    for page in (0, 1):
        flip(tables, page * PAGE_BYTES + 40)


@pytest.mark.parametrize("damage", [every_leaf_page, every_meta_page], ids=["leaf pages", "meta pages"])
def test_damaged_tables_of_an_etcd_that_ran_here_are_corrupt(
    left_by_etcd: Node, damage: Callable[[Path], None]
) -> None:
    tables = left_by_etcd.data_dir / "member" / "snap" / "db"
    damage(tables)
    before = contents(left_by_etcd.data_dir)
    for _ in range(2):
        require_aside(started(left_by_etcd), "corrupt", str(tables), "member remove")
    after = contents(left_by_etcd.data_dir)
    assert {name: after[name] for name in before} == before


def test_damage_that_a_running_member_meets_ends_it_with_a_message(stopped: Node) -> None:
    """And it says corrupt when it is started again."""
    node = started(stopped)
    node.wait_healthy()
    (tables,) = node.data_dir.glob("member/store/data.mdb")
    os.truncate(tables, 2 * PAGE_BYTES)
    wait_until(lambda: not node.alive or read_all(node), 20, "it meets the damage, and ends")
    assert node.process is not None
    assert node.process.returncode in (1, -signal.SIGBUS)
    said = node.log()
    assert "the tables are damaged" in said or "Fatal Python error: Bus error" in said
    require_aside(started(node), "corrupt", str(tables.parent))


def read_all(node: Node) -> bool:
    """False: each read is only there to meet the damage."""

    async def read() -> None:
        async with Client([node.endpoint], timeout_s=5) as client:
            await client.range(b"key", b"kez", serializable=True)

    with suppress(ClientError):
        asyncio.run(read())
    return False


# ---- data-lost -------------------------------------------------------------------------------------------------------


def test_a_lost_log_is_not_begun_anew(stopped: Node) -> None:
    shutil.rmtree(stopped.data_dir / "member" / "wal")
    before = contents(stopped.data_dir)
    require_aside(started(stopped), "data-lost", str(stopped.data_dir), "no log", "Bring the missing part back")
    assert contents(stopped.data_dir) == before


def test_an_emptied_volume_with_a_sealed_file_is_data_lost(tmp_path: Path) -> None:
    """I7: the file does not have the own name, and nobody else need be asked."""
    node = Node(kvorum_program(), tmp_path, name="demo-1", state="existing")
    node.initial_cluster = f"demo-0=http://127.0.0.1:1,sealed={node.peer_url}"
    node.start()
    require_aside(node, "data-lost", 'couldn\'t find local name "demo-1"', "member remove", str(node.data_dir))
    assert not node.data_dir.exists()


# ---- what goes on ----------------------------------------------------------------------------------------------------


def test_a_member_that_stands_aside_costs_the_others_nothing(tmp_path: Path) -> None:
    with Cluster(kvorum_program(), tmp_path, flags=("--heartbeat-interval=50", "--election-timeout=500")) as cluster:
        ill, *others = cluster.nodes
        ill.kill()
        flip(next(ill.data_dir.glob("member/wal/*.wal")), 60)
        ill.start()
        wait_state(ill, "corrupt")
        asyncio.run(fill(others[0], 20))
        assert all(node.is_healthy() for node in others)
        require_aside(ill, "corrupt")
