"""Line 10 of the peer protocol's test plan: a cluster of three etcds becomes one of ours, member by member, and goes
back, under clients whose history is judged. On the way it is two etcds and one of ours, and the reverse.
"""

import asyncio
import os
import random
from pathlib import Path

import pytest

from tests.chaos.load import Load
from tests.chaos.replay import check
from tests.chaos.run import held_by_all
from tests.chaos.world import RECOVERY_S, PeerNode, World
from tests.kit.processes import Program

# etcd's usual check waits until all have been connected for five seconds, which would be most of the time here.
FLAGS = ("--strict-reconfig-check=false",)
CALLS = 100  # answered between two replacements


@pytest.mark.timeout(200)
def test_three_etcds_become_ours_and_etcds_again_under_load(
    reference: Program, subject: Program, tmp_path: Path
) -> None:
    seed = int(os.environ.get("KVORUM_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"\nKVORUM_SEED={seed}")
    with World([reference] * 3, tmp_path, random.Random(seed), {"etcd": FLAGS, "kvorum": FLAGS}) as world:
        asyncio.run(rolled(world, reference, subject))


async def rolled(world: World, reference: Program, subject: Program) -> None:
    load = Load(world.endpoints, random.Random(world.dice.random()), clients=4)
    load.start()
    for program in (subject, reference):
        for node in world.nodes:
            await replaced(world, node, program, load)
            assert versions(world) <= {"3.5.0"}
        assert {node.program.engine for node in world.nodes} == {program.engine}
    await load.stop()
    await load.finish(RECOVERY_S)
    await world.agree()
    world.require_alive()
    counts = check(load.history, lease_slack_s=2.0)
    await held_by_all(world, load)
    assert counts["writes checked"] > 6 * CALLS / 4
    assert versions(world) == {"3.5.0"}


async def replaced(world: World, node: PeerNode, program: Program, load: Load) -> None:
    """The leader last would be kinder; here it goes when its turn comes."""
    before = load.acknowledged
    await world.replace(node, program, node.flags)
    await world.healthy()
    async with asyncio.timeout(RECOVERY_S):
        while load.acknowledged < before + CALLS:  # noqa: ASYNC110 - within the deadline above
            await asyncio.sleep(0.02)
    world.require_alive()


def versions(world: World) -> set[str]:
    """The cluster's version, by those who answer."""
    return {answer["etcdcluster"] for node in world.nodes if (answer := node.read_version())}
