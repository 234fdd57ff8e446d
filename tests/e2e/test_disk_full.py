"""A file system that is really full: a tmpfs of a few MiB in a mount namespace of the node's own.

The size of it is the test's to change, so space comes back while the node runs.
"""

import asyncio
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from kvorum.client import Client, ClientError

from tests.e2e.standing_aside import member_page, wait_state
from tests.kit.deadline import wait_until
from tests.kit.processes import Cluster, Node, Program, kvorum_program

QUICK = ("--heartbeat-interval=50", "--election-timeout=500")
NO_SPACE = (8, "etcdserver: mvcc: database space exceeded")
SMALL, LARGE = "72m", "240m"  # the log's first file takes 61 MiB of it
MOUNTED_S = 20.0


def may_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    tried = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module", autouse=True)
def mounting() -> None:
    if not may_mount():
        pytest.skip("NOT RUN: a file system cannot be mounted here (unshare -m mount -t tmpfs)")


def on_small_disk(folder: Path, size: str = SMALL) -> Program:
    """The node's program, with a tmpfs over `folder` that it alone sees."""
    mounted = f'mount -t tmpfs -o size={size},mode=700 none "{folder}" && exec "$@"'
    program = kvorum_program()
    return Program("kvorum", ("unshare", "-m", "sh", "-c", mounted, "sh", *program.command))


def resize(node: Node, folder: Path, size: str) -> None:
    command = ["nsenter", "-t", str(node.pid), "-m", "mount", "-o", f"remount,size={size}", str(folder)]
    subprocess.run(command, check=True, capture_output=True)


def small_node(folder: Path, size: str = SMALL) -> Node:
    node = Node(kvorum_program(), folder, name="a", flags=QUICK)
    node.data_dir.mkdir(parents=True)
    node.program = on_small_disk(node.data_dir, size)
    return node


def fill_up(node: Node, folder: Path) -> Path:
    """Somebody else takes all that is left."""
    filler = Path(f"/proc/{node.pid}/root{folder}/filler")
    with filler.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(1 << 16))
            except OSError:
                return filler


async def put_until_refused(node: Node, value: bytes, count_max: int) -> list[int]:
    """The numbers of the keys that were acknowledged."""
    taken = await put_some(node, value, count_max)
    assert len(taken) < count_max, f"{count_max} writes found space"
    return taken


async def put_some(node: Node, value: bytes, count: int) -> list[int]:
    """Fewer, if one is refused. The numbers of the keys that were acknowledged."""
    taken: list[int] = []
    async with Client([node.endpoint], timeout_s=10) as client:
        for number in range(count):
            try:
                await client.put(b"k%d" % number, value)
            except ClientError as refused:
                if (refused.code, refused.text) != NO_SPACE:
                    raise
                return taken
            taken.append(number)
    return taken


async def read_back(node: Node, numbers: list[int], value: bytes) -> None:
    async with Client([node.endpoint], timeout_s=10) as client:
        for number in numbers:
            found = await client.get(b"k%d" % number)
            assert found is not None, number
            assert found.value == value, number


def put_once(node: Node, key: bytes) -> bool:
    async def put() -> bool:
        async with Client([node.endpoint], timeout_s=5) as client:
            try:
                await client.put(key, b"v")
            except ClientError:
                return False
            return True

    return asyncio.run(put())


def test_a_full_disk_refuses_writes_and_reads_until_there_is_space_again(tmp_path: Path) -> None:
    node = small_node(tmp_path)
    value = b"v" * 100_000
    with node:
        taken = asyncio.run(put_until_refused(node, value, 400))
        page = wait_state(node, "disk-full")
        assert "free space on the volume" in page["reason"]
        asyncio.run(read_back(node, taken[:20], value))
        assert node.is_healthy(), "reads are served, that is what /health asks"
        resize(node, node.data_dir, LARGE)
        wait_state(node, "leader")
        assert put_once(node, b"after")
        asyncio.run(read_back(node, taken, value))
        assert "Traceback" not in node.log()


def test_not_a_byte_left_is_survived_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """Commits of the tables find no space; deletes still go into the log's reserved space, and are not forgotten."""
    node = small_node(tmp_path, "100m")
    with node:
        assert put_once(node, b"k0")
        assert put_once(node, b"k1")
        filler = fill_up(node, node.data_dir)
        wait_state(node, "disk-full")
        asyncio.run(busy_deleting(node))
        wait_until(lambda: "no space left on the disk" in member_page(node)["reason"], MOUNTED_S, "a write was refused")
        assert not put_once(node, b"k2")
        filler.unlink()
        wait_state(node, "leader")
        assert put_once(node, b"k3")
        asyncio.run(read_back(node, [1, 3], b"v"))
        status = node.stop()
        assert status < 0, "it ends by the signal, in order"
        assert "Traceback" not in node.log()


async def busy_deleting(node: Node) -> None:
    async with Client([node.endpoint], timeout_s=10) as client:
        for _ in range(400):
            await client.delete(b"k0")
            lease = await client.leases()
            assert lease == ()


def test_a_log_that_cannot_begin_its_next_file_says_so_and_goes_on(tmp_path: Path) -> None:
    """On a disk of its own: 61 MiB are written, and the next 61 are not there."""
    node = Node(kvorum_program(), tmp_path, name="a")
    wal_disk = tmp_path / "wal-disk"
    wal_disk.mkdir()
    node.flags = (*QUICK, f"--wal-dir={wal_disk / 'wal'}")
    node.program = on_small_disk(wal_disk, "90m")
    value = b"v" * 1_000_000
    with node:
        taken = asyncio.run(put_some(node, value, 70))  # the end of the first file is passed
        assert len(taken) > 60
        assert "next file of the log" in wait_state(node, "disk-full")["reason"]
        assert not put_once(node, b"refused")
        asyncio.run(read_back(node, taken[-3:], value))
        resize(node, wal_disk, LARGE)
        wait_state(node, "leader")
        assert put_once(node, b"after")
        assert "Traceback" not in node.log()


def test_a_leader_without_space_hands_over_and_the_cluster_writes_on(tmp_path: Path) -> None:
    with Cluster(kvorum_program(), tmp_path, flags=QUICK) as cluster:
        leader = leading(cluster.nodes)
        others = [node for node in cluster.nodes if node is not leader]
        folder = leader.data_dir
        leader.stop()
        aside = tmp_path / "aside"
        folder.rename(aside)
        folder.mkdir()
        mounted = f'mount -t tmpfs -o size=100m,mode=700 none "{folder}" && cp -r "{aside}/." "{folder}" && exec "$@"'
        leader.program = Program("kvorum", ("unshare", "-m", "sh", "-c", mounted, "sh", *kvorum_program().command))
        leader.start()
        leader.wait_healthy()
        wait_until(lambda: led_by(leader, others), MOUNTED_S, "the one on the small disk leads")
        filler = fill_up(leader, folder)
        wait_until(lambda: leading(others) is not None, MOUNTED_S, "another leads")
        wait_state(leader, "disk-full")
        wait_until(lambda: put_once(others[0], b"k"), MOUNTED_S, "writes go on")
        assert not put_once(leader, b"k")
        filler.unlink()
        wait_state(leader, "follower")
        assert put_once(leader, b"k")


def leading(nodes: list[Node]) -> Node:
    return wait_until(
        lambda: next((node for node in nodes if member_page(node).get("state") == "leader"), None),  # type: ignore[return-value]  # wait_until gives no None
        MOUNTED_S,
        "one leads",
    )


def led_by(wanted: Node, others: list[Node]) -> bool:
    if member_page(wanted).get("state") == "leader":
        return True

    async def move() -> None:
        leader = next(node for node in others if member_page(node).get("state") == "leader")
        async with Client([leader.endpoint], timeout_s=5) as client:
            await client.move_leader(int(member_page(wanted)["memberID"], 16))

    with suppress(ClientError, StopIteration):  # none leads for a moment
        asyncio.run(move())
    return False
