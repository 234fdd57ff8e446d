"""Runs one simulated world: python -m tests.sim.run [--seed N] [--steps N].

Ends with 1 and the reason when a promise was broken. Without a seed a new one is drawn, and printed.
"""

import argparse
import secrets
import sys
import time
from collections import Counter

from tests.sim.world import World


def run(seed: int, steps: int) -> Counter[str]:
    """One world, faults first and then healed. Raises RuntimeError that names the command to replay it."""
    world = World(seed)
    try:
        world.run(steps)
        world.heal()
    except AssertionError as broken:
        raise RuntimeError(
            f"after {world.steps} steps: {broken}\n  replay: make sim SEED={seed} STEPS={steps}\n  {world.describe()}"
        ) from broken
    return world.counts + world.oracle.counts


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.run", description="one simulated world")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--steps", type=int, default=50_000)
    options = parser.parse_args(arguments)
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    started = time.monotonic()
    try:
        counts = run(seed, options.steps)
    except RuntimeError as failed:
        print(f"FAILED {failed}", file=sys.stderr)
        return 1
    print(f"seed {seed}: all well, {time.monotonic() - started:.1f} s")
    for name, count in sorted(counts.items()):
        print(f"  {name:18} {count}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
