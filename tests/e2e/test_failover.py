"""A leader is killed: who follows it, and how soon. The timeout is long, so that waiting for it would be seen."""

import asyncio
import time
from pathlib import Path

import pytest
from kvorum.client import Client, ClientError

from tests.kit.deadline import wait_until, wait_until_async
from tests.kit.etcd import EtcdMissing
from tests.kit.processes import Cluster, Node, etcd_program, kvorum_program

HEARTBEAT_S, ELECTION_S = 0.1, 5.0
FLAGS = ("--heartbeat-interval=100", "--election-timeout=5000")
# Members try in turns, a heartbeat apart, and a busy machine is slower than that; a timeout takes 50 to 100 heartbeats.
AT_ONCE_S = 40 * HEARTBEAT_S
FIRST_ELECTION_S = 60.0


def leader_of(nodes: list[Node]) -> Node:
    def lead() -> Node | None:
        return next((node for node in nodes if leads(node)), None)

    found = wait_until(lead, FIRST_ELECTION_S, "one of them leads")
    assert found is not None
    return found


def leads(node: Node) -> bool:
    async def ask() -> bool:
        async with Client([node.endpoint], timeout_s=5) as client:
            status = await client.status(node.endpoint)
            return status.leader == status.member_id

    return asyncio.run(ask())


async def hand_over(leader: Node, to: Node) -> None:
    if leader is not to:
        async with Client([leader.endpoint], timeout_s=5) as client:
            member = (await client.status(to.endpoint)).member_id
            await client.move_leader(member)


async def seconds_until_written(endpoint: str) -> float:
    started = time.monotonic()
    async with Client([endpoint], timeout_s=0.5) as client:

        async def written() -> bool:
            try:
                await client.put(b"k", b"after")
            except ClientError:
                return False
            return True

        await wait_until_async(written, FIRST_ELECTION_S, "a write succeeds")
    return time.monotonic() - started


def test_a_killed_leader_is_followed_at_once(tmp_path: Path) -> None:
    """Each time another one is killed: 5 members, then 4, of whom 3 are a quorum."""
    with Cluster(kvorum_program(), tmp_path, members=5, flags=FLAGS) as cluster:
        nodes = list(cluster.nodes)
        for _ in range(2):
            killed = leader_of(nodes)
            nodes.remove(killed)
            killed.kill()
            took_s = asyncio.run(seconds_until_written(nodes[0].endpoint))
            print(f"a write succeeded {took_s:.2f} s after kill -9 of the leader")
            assert took_s < AT_ONCE_S, f"{took_s:.2f} s: an election timeout of {ELECTION_S:g} s was waited for"


def test_a_stopped_process_is_not_taken_for_a_dead_one(tmp_path: Path) -> None:
    """SIGSTOP keeps the connections: silence proves nothing, so the timeout counts, and the leader's lease holds."""
    with Cluster(kvorum_program(), tmp_path, flags=FLAGS) as cluster:
        leader = leader_of(cluster.nodes)
        others = [node for node in cluster.nodes if node is not leader]
        leader.pause()
        took_s = asyncio.run(seconds_until_written(others[0].endpoint))
        leader.resume()
        assert took_s > ELECTION_S / 2, f"another one led after {took_s:.2f} s"


def test_beside_an_etcd_the_timeout_counts(tmp_path: Path) -> None:
    """An etcd refuses a pre-vote within its leader's lease, so nobody of ours begins one there."""
    try:
        etcd = etcd_program()
    except EtcdMissing as why:
        pytest.skip(f"NOT RUN: {why}")
    with Cluster([kvorum_program(), kvorum_program(), etcd], tmp_path, flags=FLAGS) as cluster:
        ours, other, _ = cluster.nodes
        asyncio.run(hand_over(leader_of(cluster.nodes), ours))
        wait_until(lambda: leads(ours), FIRST_ELECTION_S, "one of ours leads")
        ours.kill()
        took_s = asyncio.run(seconds_until_written(other.endpoint))
        assert took_s > ELECTION_S / 2, f"another one led after {took_s:.2f} s"
