"""A sync of the log fails: the process ends at once with one message, acknowledges nothing, and a new start is fine.

Whether what was not synced is there afterwards is open, here as with any answer that did not come.
"""

import asyncio
import json
import sys
from pathlib import Path

import pytest
from kvorum.client import Client, ClientError

from tests.e2e.writer import Writer, assert_nothing_lost
from tests.kit.deadline import wait_until, wait_until_async
from tests.kit.processes import Cluster, Node, Program, kvorum_program

QUICK = ("--heartbeat-interval=50", "--election-timeout=500")
ENDED_S = 20.0


def on_failing_disk(trigger: Path) -> Program:
    return Program("kvorum", (sys.executable, "-m", "tests.e2e.failing_disk_node", str(trigger)))


def require_ended_with_one_message(node: Node) -> None:
    wait_until(lambda: not node.alive, ENDED_S, "the process ends")
    assert node.process is not None
    assert node.process.returncode == 1
    assert "Traceback" not in node.log()
    lines = [json.loads(line) for line in node.log().splitlines() if line.startswith("{")]
    (said,) = [line["msg"] for line in lines if line["level"] == "fatal"]
    assert str(node.data_dir / "member" / "wal") in said
    assert "cannot sync: Input/output error" in said
    assert "then start again" in said, "the way out"


async def put(node: Node, key: bytes) -> None:
    async with Client([node.endpoint], timeout_s=10) as client:
        await client.put(key, b"v")


async def refused(node: Node, key: bytes) -> None:
    """By the node, whose process is about to end, or by nobody, as it has ended."""
    with pytest.raises(ClientError):
        await put(node, key)


async def there(node: Node, key: bytes) -> bool:
    async with Client([node.endpoint], timeout_s=10) as client:
        return await client.get(key) is not None


def test_a_sync_that_fails_ends_the_process_and_nothing_is_acknowledged(tmp_path: Path) -> None:
    trigger = tmp_path / "broken"
    with Node(on_failing_disk(trigger), tmp_path, name="a", flags=QUICK) as node:
        asyncio.run(put(node, b"before"))
        trigger.touch()
        asyncio.run(refused(node, b"during"))
        require_ended_with_one_message(node)
        trigger.unlink()
        node.start()
        node.wait_healthy()
        assert asyncio.run(there(node, b"before"))
        asyncio.run(put(node, b"after"))


def test_a_leader_whose_sync_fails_is_followed_and_comes_back(tmp_path: Path) -> None:
    cluster = Cluster(kvorum_program(), tmp_path, flags=QUICK)
    triggers = {node: tmp_path / f"{node.name}.broken" for node in cluster.nodes}
    for node, trigger in triggers.items():
        node.program = on_failing_disk(trigger)
    with cluster:
        leader = asyncio.run(leading(cluster))
        with Writer(cluster.endpoints) as writer:
            writer.wait_acknowledged(20)
            triggers[leader].touch()
            require_ended_with_one_message(leader)
            writer.wait_acknowledged(20)
            assert all(node.alive for node in cluster.nodes if node is not leader)
            triggers[leader].unlink()
            leader.start()
            leader.wait_healthy()
            writer.wait_acknowledged(20)
            writer.stop()
        assert_nothing_lost(writer, cluster.endpoints)


async def leading(cluster: Cluster) -> Node:
    async def found() -> Node | None:
        async with Client(cluster.endpoints, timeout_s=10) as client:
            for node in cluster.nodes:
                status = await client.status(node.endpoint)
                if status.leader == status.member_id:
                    return node
        return None

    node = await wait_until_async(found, ENDED_S, "one leads")
    assert node is not None
    return node
