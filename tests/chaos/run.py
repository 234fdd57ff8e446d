"""One run of the nemesis: python -m tests.chaos.run [--seed N] [--duration SECONDS].

Half of the time on three of our nodes, half on five. Clients call all the time, faults come one or two at once and
heal, and each time writes must go on. At the end all must be equal, in what they say and in the tables they leave, and
the history that of one store. Ends with 1 and the reason otherwise, and if too little happened for the run to mean
anything.
"""

import argparse
import asyncio
import os
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from kvorum.client import Client
from kvorum.state.store import ALARM, LEASE

from tests.chaos.load import EVERYTHING, STANDING, Load
from tests.chaos.replay import check, state_at_end
from tests.chaos.world import ELECTION_S, RECOVERY_S, World, answered
from tests.kit.deadline import wait_until_async
from tests.kit.etcd import CACHE
from tests.kit.processes import kvorum_program

PROGRESS = 20  # calls answered after a fault is over: the cluster serves again
KINDS = (
    "killed",
    "killed_leader",
    "killed_quorum",
    "power_cut",
    "power_cut",
    "stopped",
    "paused",
    "woken_alone",
    "one_way",
    "both_ways",
    "split",
    "leader_unheard",
    "slow_lines",
    "slow_disk",
    "transferred",
    "replaced",
)
# Of each thing at least so many in a run of a deck of faults or more.
LEAST = {
    "SIGKILL": 4,
    "SIGSTOP": 1,
    "leaders woken alone": 1,
    "SIGTERM": 1,
    "logs cut": 2,
    "partitions one way": 2,
    "partitions both ways": 2,
    "slow lines": 1,
    "slow disks": 1,
    "snapshots taken": 3,
    "transfers": 1,
    "ours replaced": 1,
    "alarms raised": 2,
    "agreements": 2,
    "tables compared": 1,
    "lease rows compared": 6,
    "alarm rows compared": 1,
    "writes checked": 200,
    "reads checked": 100,
    "events watched": 1000,
    "put ok": 100,
    "get ok": 50,
    "delete ok": 10,
    "txn ok": 50,
    "grant ok": 3,
}
# What takes longer than a deck to be sure of: the end of a lease that nobody renews, a cut that finds a sync under way,
# a replacement when the log no longer goes back to the beginning.
LEAST_OF_LONG = {"leases expired": 1, "bytes lost that were not synced": 1, "snapshots received": 1}
LONG_S = 240.0
FLAGS: dict[str, Sequence[str]] = {
    "kvorum": (
        "--snapshot-count=200",
        "--experimental-snapshot-catchup-entries=50",
        "--max-wals=3",
        "--max-snapshots=3",
    )
}


async def afflicted(world: World, load: Load, until_s: float, hold_s: tuple[float, float]) -> None:
    """Decks of all kinds of faults, shuffled, until the time is up; the first deck is played to its end."""
    decks = 0
    while not decks or time.monotonic() < until_s:
        deck = list(KINDS)
        world.dice.shuffle(deck)
        while deck and (not decks or time.monotonic() < until_s):
            faults = [deck.pop()]
            if deck and may_meet(faults[0], deck[-1]) and world.dice.random() < 0.4:
                faults.append(deck.pop())
            before = load.acknowledged
            holds_s = [world.dice.uniform(*hold_s) * (1 + number / 2) for number in range(len(faults))]
            await inflict(world, load, faults, holds_s)
            world.counts["calls answered during faults"] += load.acknowledged - before
        decks += 1


async def inflict(world: World, load: Load, faults: Sequence[str], holds_s: Sequence[float]) -> None:
    """Faults at once, each for its time; afterwards all live and calls are answered again."""
    try:
        async with asyncio.TaskGroup() as group:
            for fault, held_s in zip(faults, holds_s, strict=True):
                group.create_task(getattr(world, fault)(held_s))
    except* AssertionError as failures:
        raise AssertionError(f"during {faults}: {failures.exceptions[0]}") from failures
    world.require_alive()
    await recovered(load, load.acknowledged, f"calls are answered after {faults}", world)
    world.counts["rounds"] += 1


def may_meet(one: str, other: str) -> bool:
    """Whether two faults may be at once: not if both begin or end the same processes, and a replacement waits for the
    others to agree, so nothing else may be broken."""
    processes = {"killed", "killed_leader", "killed_quorum", "power_cut", "stopped", "paused", "woken_alone"}
    return "replaced" not in (one, other) and not processes.issuperset((one, other))


async def recovered(load: Load, before: int, what: str, world: World) -> None:
    async def enough() -> bool:
        return load.acknowledged >= before + PROGRESS

    try:
        await wait_until_async(enough, RECOVERY_S, what)
    except AssertionError as missed:
        tails = "\n".join(f"{node.describe()}\n{node.log_tail(8)}" for node in world.nodes)
        raise AssertionError(f"{missed}\n{tails}") from None


async def story(
    world: World, dice: random.Random, duration_s: float, hold_s: tuple[float, float], clients: int
) -> Counter[str]:
    load = Load(world.endpoints, random.Random(dice.random()), clients)
    await load.prepare()
    load.start()
    await afflicted(world, load, time.monotonic() + duration_s, hold_s)
    await asyncio.to_thread(world.network.heal)
    await world.healthy()
    await load.stop()
    await load.finish(RECOVERY_S)
    await world.alarmed()
    await world.agree()
    world.require_alive()
    # A renewal that a deposed leader answered is worth what it had of its leadership: an election timeout.
    counts = check(load.history, lease_slack_s=2 * ELECTION_S)
    await held_by_all(world, load)
    await world.stand_still(STANDING[0])
    counts["compactions"] = load.compactions
    for node in world.nodes:
        counts["snapshots taken"] += node.log().count('"msg": "saved snapshot"')
        counts["snapshots received"] += node.log().count('"msg": "applied snapshot"')
    return counts + world.counts


async def held_by_all(world: World, load: Load) -> None:
    """What the log of events comes to is what every member says it has."""
    expected = state_at_end(load.history.log)
    for node in world.nodes:
        async with Client([node.endpoint], timeout_s=10) as client:
            found = await answered(lambda client=client: client.range(*EVERYTHING), node.describe())  # type: ignore[misc]  # bound
        assert {kv.key: kv for kv in found.kvs} == expected, f"{node.describe()} does not hold what was acknowledged"


def run(
    seed: int, members: int, duration_s: float, hold_s: tuple[float, float] = (0.5, 4.0), clients: int = 6
) -> Counter[str]:
    """Raises AssertionError with the evidence. What is left of a run that failed stays below .cache/."""
    dice = random.Random(seed)
    CACHE.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir=CACHE))  # on a disk: a temporary directory may be memory
    try:
        with World([kvorum_program()] * members, folder, dice, FLAGS) as world:
            counts = asyncio.run(story(world, dice, duration_s, hold_s, clients)) + tables_compared(world)
    except AssertionError as broken:
        raise AssertionError(f"seed {seed}, {members} members, see {folder}: {broken}") from broken
    shutil.rmtree(folder, ignore_errors=True)
    require_enough(counts, least_of(LEAST, LEAST_OF_LONG, duration_s))
    return counts


def tables_compared(world: World) -> Counter[str]:
    """Ends the members and compares what each has stored."""
    tables = world.end_alike()
    return Counter(
        {
            "tables compared": len(tables),
            "lease rows compared": len(tables[LEASE]),
            "alarm rows compared": len(tables[ALARM]),
        }
    )


def least_of(always: dict[str, int], long: dict[str, int], duration_s: float) -> dict[str, int]:
    return always | long if duration_s >= LONG_S else always


def require_enough(counts: Counter[str], least: dict[str, int]) -> None:
    """A run in which nothing happened shows nothing."""
    few = {name: counts[name] for name, wanted in least.items() if counts[name] < wanted}
    assert not few, f"too little happened: {few} of {least}"


def told(counts: Counter[str]) -> str:
    return "\n".join(f"  {name:34} {count}" for name, count in sorted(counts.items()))


def asked_for(target: str, description: str, duration_s: float, arguments: list[str]) -> tuple[int, float]:
    """Seed and seconds of `make TARGET`, told to whoever looks on. duration_s: the default."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.{target}.run", description=description)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--duration", type=float, default=duration_s, help="seconds")
    options = parser.parse_args(arguments)
    seed: int = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    duration_s = options.duration
    print(f"seed {seed}: make {target} SEED={seed} DURATION={duration_s:g} draws the same faults", flush=True)
    return seed, duration_s


def end(status: int) -> NoReturn:
    sys.stdout.flush()
    os._exit(status)  # gRPC's threads need not be waited for


def main(arguments: list[str]) -> int:
    seed, duration_s = asked_for("chaos", "one run of the nemesis", 600.0, arguments)
    for members in (3, 5):
        started = time.monotonic()
        try:
            counts = run(seed + members, members, duration_s / 2)
        except AssertionError as failed:
            print(f"FAILED {failed}", file=sys.stderr)
            return 1
        print(f"{members} members: all well, {time.monotonic() - started:.0f} s\n{told(counts)}", flush=True)
    return 0


if __name__ == "__main__":
    end(main(sys.argv[1:]))
