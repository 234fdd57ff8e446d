"""Snapshots of running nodes: files that come and go as told, a member caught up by one, and kills at any moment."""

import asyncio
import hashlib
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from kvorum.client import Client, ClientError
from kvorum.etcdpb import rpc_pb2 as rpc

from tests.kit.deadline import wait_until, wait_until_async
from tests.kit.processes import Cluster, Node, etcd_program, kvorum_program

QUICK = ("--heartbeat-interval=50", "--election-timeout=500")
OFTEN = (*QUICK, "--snapshot-count=20", "--experimental-snapshot-catchup-entries=5")
DEADLINE_S = 60.0  # a busy machine


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Node]:
    node = Node(kvorum_program(), tmp_path, flags=QUICK)
    yield node
    node.kill()


def downloading(channel: grpc.Channel) -> Any:
    call = channel.unary_stream(
        "/etcdserverpb.Maintenance/Snapshot",
        request_serializer=rpc.SnapshotRequest.SerializeToString,
        response_deserializer=rpc.SnapshotResponse.FromString,
    )
    return call(rpc.SnapshotRequest(), timeout=30)


def channel_to(node: Node) -> grpc.Channel:
    return grpc.insecure_channel(f"127.0.0.1:{node.client_port}", options=(("grpc.enable_http_proxy", 0),))


def test_a_download_comes_in_pieces_with_its_checksum_at_the_end(engine: str, tmp_path: Path) -> None:
    node = Node(kvorum_program() if engine == "kvorum" else etcd_program(), tmp_path, flags=QUICK)
    with node, channel_to(node) as channel:

        async def fill() -> None:
            async with Client([node.endpoint], timeout_s=20) as client:
                await puts(client, 40, 20_000)

        asyncio.run(fill())
        *pieces, last = downloading(channel)
        database = b"".join(piece.blob for piece in pieces)
        assert len(database) > 40 * 20_000
        left = len(database)
        for piece in pieces:
            left -= len(piece.blob)
            assert piece.remaining_bytes == left
            assert 0 < len(piece.blob) <= 32 << 10
        assert last.blob == hashlib.sha256(database).digest()
        for piece in (pieces[0], last):
            assert not piece.HasField("header")
            assert piece.version == ""
        assert b"k39" in database


def test_a_client_that_goes_away_leaves_no_file_behind(alone: Node) -> None:
    with alone, channel_to(alone) as channel:

        async def fill() -> None:
            async with Client([alone.endpoint], timeout_s=20) as client:
                await puts(client, 60, 1_000_000)

        asyncio.run(fill())
        snap = alone.data_dir / "member" / "snap"
        for _ in range(3):
            answers = downloading(channel)
            next(answers)
            assert list(snap.glob("sent-*.db"))
            answers.cancel()
        wait_until(lambda: not list(snap.glob("sent-*.db")), DEADLINE_S, "the files are removed")
        *_, last = downloading(channel)
        assert len(last.blob) == 32


def snapshots(node: Node) -> list[str]:
    return sorted(path.name for path in (node.data_dir / "member" / "snap").glob("*.snap"))


def segments(node: Node) -> list[str]:
    return sorted(path.name for path in (node.data_dir / "member" / "wal").glob("*.wal"))


async def puts(client: Client, count: int, size: int = 10) -> None:
    for start in range(0, count, 20):
        await asyncio.gather(*(client.put(b"k%d" % (n % 100), bytes(size)) for n in range(start, start + 20)))


def test_snapshots_and_log_files_come_and_go_as_the_flags_say(alone: Node) -> None:
    """Log files are 64 MB each: this writes more than two of them."""
    alone.flags = (*QUICK, "--snapshot-count=40", "--max-snapshots=2", "--max-wals=1")
    alone.start()
    alone.wait_healthy()

    async def story() -> None:
        async with Client([alone.endpoint], timeout_s=20) as client:
            await client.put(b"first", b"1")
            first = segments(alone)[0]
            await puts(client, 120, 1_300_000)
            await puts(client, 100)
            wait_until(lambda: 1 <= len(snapshots(alone)) <= 2, DEADLINE_S, "two snapshots")
            wait_until(lambda: first not in segments(alone), DEADLINE_S, "old ones gone")
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
                await wait_until_async(partial(put, client), DEADLINE_S, "two of three take a write")  # it may have led
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
            kept: dict[bytes, bytes] = {}
            async with Client(cluster.endpoints, timeout_s=10) as client:
                for _ in range(3):
                    late = dice.choice(cluster.nodes)
                    late.kill()
                    others = [node for node in cluster.nodes if node is not late]
                    async with Client([node.endpoint for node in others], timeout_s=10) as rest:
                        await wait_until_async(partial(put, rest), DEADLINE_S, "two of three take a write")
                        kept |= await acknowledged(rest, len(kept), 120)
                        late.start()
                        await asyncio.sleep(dice.random() * 1.5)  # no condition: any moment will do
                        victim = dice.choice(cluster.nodes)  # who takes it, who sends it, or who looks on
                        victim.kill()
                        victim.start()
                        late.wait_healthy(DEADLINE_S)
                        victim.wait_healthy(DEADLINE_S)
                kept |= await acknowledged(client, len(kept), 20)
                await level(client, cluster.nodes)
                for node in cluster.nodes:
                    found = await client.range(b"kept-", b"kept.", serializable=True, endpoint=node.endpoint)
                    assert {kv.key: kv.value for kv in found.kvs} == kept, node.describe()
            taken = sum(node.log().count("applied snapshot") for node in cluster.nodes)
            print(f"{taken} snapshots taken, {len(kept)} acknowledged writes, all there")
            assert taken > 0

        asyncio.run(story())


async def acknowledged(client: Client, first: int, count: int) -> dict[bytes, bytes]:
    """Keys that nobody else writes, so that nothing covers up a loss."""
    rows = {b"kept-%03d" % number: b"value %d" % number for number in range(first, first + count)}
    waiting = list(rows.items())
    for start in range(0, count, 20):
        await asyncio.gather(*(client.put(key, value) for key, value in waiting[start : start + 20]))
    return rows


async def put(client: Client) -> bool:
    try:
        await client.put(b"after", b"the kill")
    except ClientError:
        return False
    return True
