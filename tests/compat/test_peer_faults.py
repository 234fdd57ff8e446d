"""Line 11 of the peer protocol's test plan: the network between an etcd and two of ours is cut, delayed, deaf one way,
split at every byte and stalled for six seconds. Both sides dial again every 100 ms and no faster, nothing wrong is
applied, and no etcd ends.
"""

import asyncio
import os
import random
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from tests.chaos.load import Load
from tests.chaos.replay import check
from tests.chaos.run import held_by_all, recovered
from tests.chaos.world import RECOVERY_S, World
from tests.kit.deadline import wait_until_async
from tests.kit.processes import Program
from tests.kit.proxy import Fate

CUT_S = 2.0
STALL_S = 6.0  # longer than the five seconds after which a silent stream is given up
REDIAL_S = 0.1
DIALS = 8  # of each stream at least, before the cut is over
SEEN_S = 60.0
PAUSE_S = 1.0


@pytest.mark.timeout(200)
def test_every_fault_of_the_network_heals_and_harms_nothing(
    reference: Program, subject: Program, tmp_path: Path
) -> None:
    seed = int(os.environ.get("KVORUM_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"\nKVORUM_SEED={seed}")
    with World([reference, subject, subject], tmp_path, random.Random(seed), {}) as world:
        asyncio.run(story(world))


async def story(world: World) -> None:
    etcd, ours, _ = (node.name for node in world.nodes)
    network = world.network
    load = Load(world.endpoints, random.Random(world.dice.random()), clients=4)
    load.start()

    started_s = time.monotonic()
    await asyncio.to_thread(network.between, [etcd], [ours], Fate.CUT)
    await asyncio.sleep(CUT_S)
    for sender, to in ((etcd, ours), (ours, etcd)):
        await require_steps(world, sender, to, started_s)
    healing_s = time.monotonic()
    await asyncio.to_thread(network.heal)
    await connected(world, etcd, ours, healing_s)
    await serves(world, load, "a cut")

    for sender, to in ((etcd, ours), (ours, etcd)):
        await asyncio.to_thread(network.set, sender, to, delay_s=0.15)
        await asyncio.sleep(PAUSE_S)
        await asyncio.to_thread(network.set, sender, to, Fate.SWALLOWED)
        await asyncio.sleep(PAUSE_S)
        await asyncio.to_thread(network.heal)
        await serves(world, load, f"nothing came from {sender} to {to}")

    # Every byte of every frame and head is a piece of its own, both ways; leadership moves meanwhile.
    for sender, to in ((etcd, ours), (ours, etcd)):
        await asyncio.to_thread(network.set, sender, to, piece_bytes=1)
    network.reset(etcd, ours)
    for _ in range(3):
        await world.transferred(0)
        await serves(world, load, "bytes came one by one")
    await asyncio.to_thread(network.heal)

    for sender, to in ((etcd, ours), (ours, etcd)):
        started_s = time.monotonic()
        await asyncio.to_thread(network.set, sender, to, Fate.HELD)
        await asyncio.sleep(STALL_S)
        # Ours dials anew where it has heard nothing for five seconds; an etcd was seen to be more patient than that.
        if to == ours:
            await given_up(world, to, sender, started_s + 1.0)
        await asyncio.to_thread(network.heal)
        await serves(world, load, f"{sender} was stalled for {to}")

    await load.stop()
    await load.finish(RECOVERY_S)
    await world.agree()
    world.require_alive()
    counts = check(load.history, lease_slack_s=2.0)
    await held_by_all(world, load)
    assert counts["writes checked"] > 200


def dials(world: World, sender: str, to: str, since_s: float) -> dict[str, list[float]]:
    """When each stream was dialed."""
    found: dict[str, list[float]] = defaultdict(list)
    for dial in list(world.network.dials):
        if (dial.sender, dial.to) == (sender, to) and since_s <= dial.at_s and "/raft/stream/" in dial.what:
            found[dial.what].append(dial.at_s)
    return found


async def require_steps(world: World, sender: str, to: str, since_s: float) -> None:
    """Each of two streams is dialed again and again, at most ten times a second."""

    async def often() -> bool:
        streams = dials(world, sender, to, since_s)
        return len(streams) == 2 and all(len(times) >= DIALS for times in streams.values())

    await wait_until_async(often, SEEN_S, f"{sender} dials both streams of {to} {DIALS} times")
    for what, times in dials(world, sender, to, since_s).items():
        count_max = (times[-1] - since_s) / REDIAL_S + 2
        assert len(times) <= count_max, f"{sender} dialed {what} of {to} {len(times)} times, not {count_max:.1f}"
        steps = sorted(later - earlier for earlier, later in pairwise(times))
        assert steps[len(steps) // 2] > 0.8 * REDIAL_S, f"{sender} dials {what} of {to} every {steps} s"


async def connected(world: World, one: str, other: str, since_s: float) -> None:
    """Four streams stand again."""

    async def all_four() -> bool:
        return sum(len(dials(world, *ends, since_s)) for ends in ((one, other), (other, one))) == 4

    await wait_until_async(all_four, SEEN_S, f"{one} and {other} have dialed each other again")


async def given_up(world: World, one: str, other: str, since_s: float) -> None:
    async def dialed() -> bool:
        return bool(dials(world, one, other, since_s))

    await wait_until_async(dialed, SEEN_S, f"{one} gives {other} up")


async def serves(world: World, load: Load, after: str) -> None:
    world.require_alive()
    await recovered(load, load.acknowledged, f"calls are answered after {after}", world)
