"""Simulated groups of real cores lose nothing that was acknowledged, whatever fails. What is checked: oracle.py."""

import secrets
from collections import Counter

import pytest

from tests.sim.run import run

STEPS = 2500  # of each seed
FIXED_SEEDS = range(1, 41)  # a seed that ever failed is added here, with what it found
NEW_SEEDS_COUNT = 40
# About half of what such runs do on average: fewer, and the simulation has stopped to try.
MINIMA = {
    "elections": 200,
    "crashes": 500,
    "partitions": 300,
    "changes": 250,
    "transfers": 1000,
    "commits": 6000,
    "acknowledged": 4000,
    "reads": 1000,
}


@pytest.mark.timeout(300)
def test_cores_lose_nothing_over_fixed_and_new_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    seeds = [*FIXED_SEEDS, *(secrets.randbits(32) for _ in range(NEW_SEEDS_COUNT))]
    counts: Counter[str] = Counter()
    for seed in seeds:
        counts += run(seed, STEPS)  # a failure names the seed, and the command that replays it
    with capsys.disabled():
        print(f"\nsimulated: {len(seeds)} worlds, {len(seeds) * STEPS} steps and the healing after them")
        for name, count in sorted(counts.items()):
            print(f"  {name:18} {count:8}")
    assert counts["not healed"] <= len(seeds) // 20
    assert {name: counts[name] for name, least in MINIMA.items() if counts[name] < least} == {}


def test_the_same_seed_runs_the_same_world() -> None:
    assert run(7, STEPS) == run(7, STEPS)
