"""Runs one simulated world: python -m tests.sim.run SEED STEPS.

Ends with 1 and the reason when a promise was broken.
"""

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
    if len(arguments) != 2 or not all(argument.isdigit() for argument in arguments):
        print("usage: python -m tests.sim.run SEED STEPS", file=sys.stderr)
        return 2
    started = time.monotonic()
    try:
        counts = run(int(arguments[0]), int(arguments[1]))
    except RuntimeError as failed:
        print(f"FAILED {failed}", file=sys.stderr)
        return 1
    print(f"seed {arguments[0]}: all well, {time.monotonic() - started:.1f} s")
    for name, count in sorted(counts.items()):
        print(f"  {name:18} {count}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
