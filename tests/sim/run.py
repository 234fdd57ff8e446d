"""Runs simulated worlds: python -m tests.sim.run [--seed N] [--steps N].

Steps are divided into worlds of WORLD_STEPS, with seeds from the given one on, over all processors. Without a seed a
new one is drawn, and printed. Ends with 1, a trace made as small as time allows, and the command that runs the
failing world again, when a promise was broken; also when too many worlds did not get well again, or when they were so
quiet that nothing was tried.
"""

import argparse
import os
import secrets
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.sim import metamorphic
from tests.sim.schedule import Schedule
from tests.sim.trace import describe, failure_kind, minimise, record
from tests.sim.violation import NOT_WELL
from tests.sim.world import Parts, World

WORLD_STEPS = 2500
STEPS_DEFAULT = 200_000
MINIMISE_SECONDS_MAX = 60.0
TRACE_LINES_MAX = 150
NOT_HEALED_SHARE = 10  # one in so many
# In so many steps, about half of what they do on average, and less of what differs much from world to world: fewer, and
# the simulation has stopped to try.
MINIMA_STEPS = 100_000
MINIMA = {
    "acknowledged": 2500,
    "changes": 150,
    "checkpoint": 200,
    "commits": 3800,
    "compact rows": 450,
    "coups": 50,
    "crash": 120,
    "elections": 130,
    "joint": 200,
    "leases expired": 20,
    "leases renewed": 700,
    "log compactions": 700,
    "messages doubled": 600,
    "messages late": 150,
    "messages lost": 600,
    "one-way cuts": 4,
    "partitions": 75,
    "pause": 100,
    "reads": 800,
    "snapshots restored": 40,
    "transfer": 400,
    "under authentication": 60,
    "upheavals": 80,
}


class Failed(Exception):
    """A world in which a promise was broken. steps: how many it took; kind: which promise."""

    def __init__(self, seed: int, steps: int, kind: str, text: str) -> None:
        super().__init__(seed, steps, kind, text)
        self.seed, self.steps, self.kind, self.text = seed, steps, kind, text


def run(seed: int, steps: int, parts: Parts = Parts()) -> Counter[str]:  # noqa: B008 - frozen
    """One world, faults first, then healed, then its history in other ways. Raises Failed."""
    schedule = None
    try:
        schedule = Schedule(seed, parts, World)
        schedule.run(steps)
        schedule.heal()
        world = schedule.world
        metamorphic.check(world.judge, world.oracle.committed, seed, parts.member.machine_class)
    except Exception as error:  # whatever went wrong in a world is a finding, and told with its seed
        done = 0 if schedule is None else schedule.steps
        raise Failed(seed, done, failure_kind(error), str(error)) from error
    return schedule.counts + world.counts + world.oracle.counts + world.leases.counts + world.judge.counts


def run_all(seed: int, steps: int) -> Counter[str]:
    """Worlds until there were so many steps, over all processors. Raises the first Failed."""
    seeds = range(seed, seed + max(1, -(-steps // WORLD_STEPS)))
    each = min(steps, WORLD_STEPS)
    counts: Counter[str] = Counter()
    with ProcessPoolExecutor(min(len(seeds), os.cpu_count() or 1)) as pool:
        try:
            for done in as_completed([pool.submit(run, world, each) for world in seeds]):
                counts += done.result()
        except Failed:
            pool.shutdown(cancel_futures=True)
            raise
    counts["worlds"] = len(seeds)
    return counts


def too_quiet(counts: Counter[str], steps: int) -> dict[str, int]:
    """What happened less often than it should in so many steps. Of a few worlds nothing can be said."""
    share = steps / MINIMA_STEPS
    if share < 0.5:
        return {}
    return {name: counts[name] for name, least in MINIMA.items() if counts[name] < least * share}


def are_too_many_ill(counts: Counter[str]) -> bool:
    """Whether more worlds did not get well again than those without pre-votes account for."""
    return counts["not healed"] > max(1, counts["worlds"] // NOT_HEALED_SHARE)


def explain(failed: Failed, steps: int) -> str:
    """For whoever has to find out: the command, and the smallest trace that fails alike."""
    lines = [
        f"FAILED seed {failed.seed} after {failed.steps} steps: {failed.text}",
        f"  replay: make sim SEED={failed.seed} STEPS={min(steps, WORLD_STEPS)}",
    ]
    trace, kind = record(failed.seed, min(steps, WORLD_STEPS), Parts())
    if kind == failed.kind:
        smaller = minimise(failed.seed, Parts(), trace, kind, seconds=MINIMISE_SECONDS_MAX)
        lines.append(f"  trace: {len(smaller)} of {len(trace)} actions (time in ticks, member, what)")
        if kind == NOT_WELL:
            lines.append("  (no action is to blame for that, so all are there)")
        shown = describe(smaller)
        if len(shown) > TRACE_LINES_MAX:
            lines.append(f"  ... {len(shown) - TRACE_LINES_MAX} more before these")
        lines += shown[-TRACE_LINES_MAX:]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.run", description="simulated groups of whole members")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--steps", type=int, default=STEPS_DEFAULT)
    options = parser.parse_args(arguments)
    seed = secrets.randbelow(1_000_000_000) if options.seed is None else options.seed
    print(f"seed {seed}, {options.steps} steps", flush=True)
    started = time.monotonic()
    try:
        counts = run_all(seed, options.steps)
    except Failed as failed:
        print(explain(failed, options.steps), file=sys.stderr)
        return 1
    for name, count in sorted(counts.items()):
        print(f"  {name:20} {count:8}")
    if are_too_many_ill(counts):
        print(f"FAILED seed {seed}: of {counts['worlds']} worlds {counts['not healed']} did not heal", file=sys.stderr)
        return 1
    quiet = too_quiet(counts, options.steps)
    if quiet:
        print(f"FAILED seed {seed}: too little happened: {quiet}", file=sys.stderr)
        return 1
    print(f"seed {seed}: all well, {time.monotonic() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
