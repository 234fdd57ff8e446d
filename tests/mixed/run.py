"""Real etcds and our nodes in one cluster: python -m tests.mixed.run [--seed N] [--duration SECONDS].

Half of the time two etcds and one of ours, half the reverse. Clients call all the time; leadership goes back and forth
between the engines, processes die and hang, the network between members breaks, members fall so far behind that they
need a snapshot of the other engine, are replaced, and users and roles are changed through an etcd. At checkpoints all
members must have the same keys with their history, ids of leases, members and alarms, the etcds the same users and
roles, and no etcd may have anything to complain of; at the end the tables that each member leaves on its disk must be
the same: leases, alarms, users, roles, members. Ends with 1 and the evidence otherwise, and if too little happened for
the run to mean anything.
"""

import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.load import STANDING, Load
from tests.chaos.replay import check
from tests.chaos.run import (
    asked_for,
    end,
    held_by_all,
    inflict,
    least_of,
    may_meet,
    require_enough,
    tables_compared,
    told,
)
from tests.chaos.world import ELECTION_S, RECOVERY_S
from tests.kit.etcd import CACHE, EtcdMissing
from tests.kit.processes import etcd_program, kvorum_program
from tests.mixed.world import MixedWorld

PER_ENGINE = ("led_by_etcd", "led_by_ours", "etcd_behind", "ours_behind", "etcd_killed", "ours_killed", "etcd_replaced")
SHARED = (
    "ours_replaced",
    "stopped",
    "paused",
    "woken_alone",
    "one_way",
    "both_ways",
    "split",
    "leader_unheard",
    "slow_lines",
    "slow_disk",
    "power_cut",
    "power_cut",
    "auth_changed",
    "auth_enabled",
)
KINDS = PER_ENGINE + SHARED
ALONE = {"etcd_behind", "ours_behind", "auth_enabled", "auth_changed", "led_by_etcd", "led_by_ours"}
CHECKPOINT_ROUNDS = 4  # faults between two checkpoints
LEAST = {
    "SIGKILL": 3,
    "SIGSTOP": 1,
    "leaders woken alone": 1,
    "SIGTERM": 1,
    "partitions one way": 2,
    "partitions both ways": 2,
    "slow lines": 1,
    "slow disks": 1,
    "logs cut": 2,
    "transfers": 1,
    "led by etcd": 1,
    "led by ours": 1,
    "snapshots received by etcd": 1,
    "snapshots received by ours": 1,
    "etcd replaced": 1,
    "ours replaced": 1,
    "auth changes": 5,
    "puts while auth was on": 2,
    "refused by ours while auth was on": 1,
    "alarms raised": 4,
    "agreements": 4,
    "tables compared": 1,
    "lease rows compared": 6,
    "alarm rows compared": 1,
    "writes checked": 300,
    "reads checked": 100,
    "txn ok": 50,
    "grant ok": 3,
    "compactions": 1,
}
LEAST_OF_LONG = {"leases expired": 1, "bytes lost that were not synced": 1}


async def afflicted(
    world: MixedWorld, load: Load, kinds: Sequence[str], until_s: float, hold_s: tuple[float, float]
) -> None:
    """Decks of the kinds, shuffled, until the time is up; the first deck is played to its end."""
    decks = 0
    while not decks or time.monotonic() < until_s:
        deck = list(kinds)
        world.dice.shuffle(deck)
        while deck and (not decks or time.monotonic() < until_s):
            faults = [deck.pop()]
            if deck and can_meet(faults[0], deck[-1]) and world.dice.random() < 0.25:
                faults.append(deck.pop())
            print(f"  {time.strftime('%H:%M:%S')} {' and '.join(faults)}", flush=True)
            await inflict(world, load, faults, [world.dice.uniform(*hold_s) for _ in faults])
            await world.note_leader()
            if world.counts["rounds"] % CHECKPOINT_ROUNDS == 0:
                await checkpoint(world, load)
        decks += 1


def can_meet(one: str, other: str) -> bool:
    touching = {
        "etcd_killed": "killed",
        "ours_killed": "killed",
        "etcd_replaced": "replaced",
        "ours_replaced": "replaced",
    }
    if {one, other} & ALONE:
        return False
    return may_meet(touching.get(one, one), touching.get(other, other))


async def checkpoint(world: MixedWorld, load: Load) -> None:
    load.pause()
    try:
        await world.healthy()
        await world.alarmed()
        await world.agree()
        await world.require_quiet()
    finally:
        load.resume()


async def story(
    world: MixedWorld, dice: random.Random, kinds: Sequence[str], duration_s: float, hold_s: tuple[float, float]
) -> Counter[str]:
    load = Load(world.endpoints, random.Random(dice.random()), clients=5)
    world.load = load
    await world.prepare_auth()
    await load.prepare()
    load.start()
    await afflicted(world, load, kinds, time.monotonic() + duration_s, hold_s)
    await asyncio.to_thread(world.network.heal)
    await world.healthy()
    await load.stop()
    await load.finish(RECOVERY_S)
    await world.alarmed()
    await world.agree()
    await world.require_quiet()
    counts = check(load.history, lease_slack_s=2 * ELECTION_S)
    await held_by_all(world, load)
    await world.stand_still(STANDING[0])
    counts["compactions"] = load.compactions
    return counts + world.counts


def run(
    seed: int,
    etcds: int,
    duration_s: float,
    hold_s: tuple[float, float] = (0.5, 4.0),
    kinds: Sequence[str] = KINDS,
) -> Counter[str]:
    """Three members, so many of them etcds. Raises AssertionError with the evidence, and EtcdMissing."""
    dice = random.Random(seed)
    programs = [etcd_program()] * etcds + [kvorum_program()] * (3 - etcds)
    CACHE.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="mixed-", dir=CACHE))
    try:
        with MixedWorld(programs, folder, dice) as world:
            counts = asyncio.run(story(world, dice, kinds, duration_s, hold_s)) + tables_compared(world)
    except AssertionError as broken:
        raise AssertionError(f"seed {seed}, {etcds} etcds of 3, see {folder}: {broken}") from broken
    shutil.rmtree(folder, ignore_errors=True)
    return counts


def main(arguments: list[str]) -> int:
    seed, duration_s = asked_for("mixed", "etcds and our nodes in one cluster", 1200.0, arguments)
    for etcds in (2, 1):
        started = time.monotonic()
        print(f"{etcds} of 3 members are etcds", flush=True)
        try:
            counts = run(seed + etcds, etcds, duration_s / 2)
            print(told(counts), flush=True)
            require_enough(counts, least_of(LEAST, LEAST_OF_LONG, duration_s / 2))
        except EtcdMissing as why:
            print(f"NOT RUN: {why}", file=sys.stderr)
            return 2
        except AssertionError as failed:
            print(f"FAILED {failed}", file=sys.stderr)
            return 1
        print(f"all well, {time.monotonic() - started:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    end(main(sys.argv[1:]))
