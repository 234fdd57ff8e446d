"""Snapshots of running nodes: files that come and go as told, a member caught up by one, and kills at any moment."""

import asyncio
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from kvorum.client import Client, ClientError

from tests.kit.deadline import wait_until, wait_until_async
from tests.kit.processes import Cluster, Node, kvorum_program

QUICK = ("--heartbeat-interval=50", "--election-timeout=500")
OFTEN = (*QUICK, "--snapshot-count=20", "--experimental-snapshot-catchup-entries=5")
DEADLINE_S = 30.0


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Node]:
    node = Node(kvorum_program(), tmp_path, flags=QUICK)
    yield node
    node.kill()


def snapshots(node: Node) -> list[str]:
    return sorted(path.name for path in (node.data_dir / "member" / "snap").glob("*.snap"))


def segments(node: Node) -> list[str]:
    return sorted(path.name for path in (node.data_dir / "member" / "wal").glob("*.wal"))


async def puts(client: Client, count: int, size: int = 10) -> None:
    for start in range(0, count, 20):
        await asyncio.gather(*(client.put(b"k%d" % (n % 100), bytes(size)) for n in range(start, start + 20)))


def test_snapshots_and_log_files_come_and_go_as_the_flags_say(alone: Node) -> None:
    """Log files are 64 MB each: this writes four of them."""
    alone.flags = (*QUICK, "--snapshot-count=40", "--max-snapshots=2", "--max-wals=1")
    alone.start()
    alone.wait_healthy()

    async def story() -> None:
        async with Client([alone.endpoint], timeout_s=20) as client:
            await client.put(b"first", b"1")
            first = segments(alone)[0]
            await puts(client, 200, 1_300_000)
            await puts(client, 100)
            wait_until(lambda: 1 <= len(snapshots(alone)) <= 2, DEADLINE_S, "two snapshots")
            wait_until(lambda: first not in segments(alone) and len(segments(alone)) < 4, DEADLINE_S, "old ones gone")
            alone.restart()
            alone.wait_healthy()
            assert (await client.get(b"first")) is not None
            await puts(client, 20)

    asyncio.run(story())


async def hashes(client: Client, nodes: list[Node]) -> set[int]:
    try:
        revision = (await client.status(nodes[0].endpoint)).revision
        return {(await client.hash_kv(revision, endpoint=node.endpoint)).hash for node in nodes}
    except ClientError:
        return set()


async def level(client: Client, nodes: list[Node]) -> None:
    async def equal() -> bool:
        return len(await hashes(client, nodes)) == 1

    await wait_until_async(equal, DEADLINE_S, "equal hashes")


def test_a_member_behind_the_log_is_caught_up_over_the_network(tmp_path: Path) -> None:
    with Cluster(kvorum_program(), tmp_path, flags=OFTEN) as cluster:

        async def story() -> None:
            *others, late = cluster.nodes
            late.kill()
            async with Client([node.endpoint for node in others], timeout_s=10) as client:
                await puts(client, 300)
                late.start()
                wait_until(lambda: "applied snapshot" in late.log(), DEADLINE_S, "the snapshot is applied")
                late.wait_healthy()
                await puts(client, 40)
                await level(client, cluster.nodes)
                late.restart()
                late.wait_healthy()
                await puts(client, 40)
                await level(client, cluster.nodes)
            left = [path.name for node in cluster.nodes for path in (node.data_dir / "member").rglob("*.db")]
            assert not left

        asyncio.run(story())


def test_kills_at_any_moment_of_sending_and_taking_lose_nothing(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    with Cluster(kvorum_program(), tmp_path, flags=OFTEN) as cluster:

        async def story() -> None:
            async with Client(cluster.endpoints, timeout_s=10) as client:
                for _ in range(4):
                    late = dice.choice(cluster.nodes)
                    late.kill()
                    others = [node for node in cluster.nodes if node is not late]
                    async with Client([node.endpoint for node in others], timeout_s=10) as rest:
                        await wait_until_async(partial(put, rest), DEADLINE_S, "two of three take a write")
                        await puts(rest, 120)
                        late.start()
                        await asyncio.sleep(dice.random() * 1.5)  # no condition: any moment will do
                        late.kill()
                        late.start()
                        late.wait_healthy(DEADLINE_S)
                await puts(client, 20)
                await level(client, cluster.nodes)
                assert all(node.alive for node in cluster.nodes)

        asyncio.run(story())


async def put(client: Client) -> bool:
    try:
        await client.put(b"after", b"the kill")
    except ClientError:
        return False
    return True
