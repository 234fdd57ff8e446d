"""kill -9 at any instant, again and again: what was acknowledged is there, and nobody's place in the cluster changed.

The processes die and the machine lives on: what a process had written but not synced survives here. What a power cut
takes away, too, is test_power_cut.py's.
"""

import asyncio
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from kvorum.client import Client, Member

from tests.e2e.writer import Writer, hashes, read_all
from tests.kit.deadline import wait_until
from tests.kit.processes import Cluster, Node, Program, etcd_program, kvorum_program

# Of our node hundreds in all; of etcd enough to see that the test asks nothing that no server does.
KILLS_ALONE = {"kvorum": 100, "etcd": 10}
KILLS_OF_THREE = {"kvorum": 150, "etcd": 15}
KILLING_S = 100.0  # a busy machine starts fewer nodes in it, and is content with them
KILLS_MIN = 10
FIRST_WRITE_S = 60.0
QUICK_FLAGS = ("--heartbeat-interval=50", "--election-timeout=500")


@pytest.fixture
def seed() -> int:
    """KVORUM_SEED=n kills by the same dice again, though the instants are never quite the same."""
    chosen = int(os.environ.get("KVORUM_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"\nKVORUM_SEED={chosen}")
    return chosen


def program_of(engine: str) -> Program:
    return etcd_program() if engine == "etcd" else kvorum_program()


def let_pass(dice: random.Random, seconds_max: float) -> None:
    """No waiting for anything: the instant of the next kill is what is drawn here."""
    time.sleep(dice.uniform(0, seconds_max))


def wait_acknowledged(writer: Writer, nodes: Sequence[Node], more: int) -> None:
    """Until so many further writes were acknowledged; a node that ends by itself meanwhile is the failure."""
    wanted = len(writer.acknowledged) + more

    def enough() -> bool:
        for node in nodes:
            assert node.alive, f"{node.name} ended by itself\n{node.log_tail()}"
        return len(writer.acknowledged) >= wanted or bool(writer.problem)

    wait_until(enough, FIRST_WRITE_S, f"{more} writes acknowledged")
    assert not writer.problem, writer.problem


def goes_on(kills: int, most: int, until_s: float) -> bool:
    return kills < KILLS_MIN or (kills < most and time.monotonic() < until_s)


async def members_of(endpoints: Sequence[str]) -> tuple[Member, ...]:
    async with Client(endpoints, timeout_s=10) as client:
        return await client.members()


def require_all(writer: Writer, nodes: Sequence[Node], members: tuple[Member, ...]) -> None:
    """After the last kill: healthy, nothing acknowledged is missing, the same everywhere, the same members."""
    for node in nodes:
        node.wait_healthy(FIRST_WRITE_S)
    wait_acknowledged(writer, nodes, 5)
    writer.stop()
    assert not writer.problem, writer.problem
    endpoints = [node.endpoint for node in nodes]
    found = asyncio.run(read_all(endpoints))
    missing = {key for key, value in writer.acknowledged.items() if found.get(key) != value}
    assert not missing, f"{len(missing)} of {len(writer.acknowledged)} acknowledged writes lost: {sorted(missing)[:5]}"
    assert len(asyncio.run(hashes(endpoints))) == 1
    assert asyncio.run(members_of(endpoints)) == members
    print(f"{len(writer.acknowledged)} writes acknowledged, {writer.failures_count} failed")


@pytest.mark.timeout(290)
def test_one_node_killed_at_random_loses_nothing_acknowledged(engine: str, seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    node = Node(program_of(engine), tmp_path, flags=QUICK_FLAGS)
    with node:
        members = asyncio.run(members_of([node.endpoint]))
        with Writer([node.endpoint]) as writer:
            kills, until_s = 0, time.monotonic() + KILLING_S
            while goes_on(kills, KILLS_ALONE[engine], until_s):
                if kills % 4 == 0:
                    let_pass(dice, 0.6)  # also while it starts
                else:
                    wait_acknowledged(writer, [node], dice.randrange(1, 40))
                    let_pass(dice, 0.02)
                assert node.alive, f"ended by itself\n{node.log_tail()}"
                node.kill()
                node.start()
                kills += 1
            require_all(writer, [node], members)


@pytest.mark.timeout(290)
def test_three_nodes_killed_at_random_lose_nothing_acknowledged(engine: str, seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    with Cluster(program_of(engine), tmp_path, flags=QUICK_FLAGS) as cluster:
        wait_until(
            lambda: all(member.client_urls for member in asyncio.run(members_of(cluster.endpoints))),
            FIRST_WRITE_S,
            "all members have told their client URLs",
        )
        members = asyncio.run(members_of(cluster.endpoints))
        with Writer(cluster.endpoints) as writer:
            kills, until_s = 0, time.monotonic() + KILLING_S
            while goes_on(kills, KILLS_OF_THREE[engine], until_s):
                # Mostly one, so that writes go on; sometimes the quorum, sometimes all.
                victims = dice.sample(cluster.nodes, dice.choice((1, 1, 1, 1, 2, 3)))
                for node in victims:
                    assert node.alive, f"{node.name} ended by itself\n{node.log_tail()}"
                    node.kill()
                kills += len(victims)
                let_pass(dice, 0.3)
                for node in victims:
                    node.start()
                if dice.random() < 0.5:
                    wait_acknowledged(writer, cluster.nodes, dice.randrange(1, 60))
                else:
                    let_pass(dice, 0.8)
            require_all(writer, cluster.nodes, members)
