"""Simulated groups of whole members lose nothing that was acknowledged, whatever fails. What is checked: oracle.py,
judge.py, metamorphic.py."""

import secrets
from collections import Counter

import pytest

from tests.sim.run import MINIMA, MINIMA_STEPS, WORLD_STEPS, Failed, are_too_many_ill, explain, run, too_quiet

# Always run: the first are any, the others have failed once.
FIXED_SEEDS = (
    *range(1, 15),
    99,  # a leader that slept through its replacement handed a lease's expiry on to the next one
    219,  # a snapshot whose fate was told to a paused leader
)
NEW_SEEDS_COUNT = 14


def test_members_lose_nothing_over_fixed_and_new_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    seeds = [*FIXED_SEEDS, *(secrets.randbits(32) for _ in range(NEW_SEEDS_COUNT))]
    counts: Counter[str] = Counter()
    for seed in seeds:
        try:
            counts += run(seed, WORLD_STEPS)
        except Failed as failed:
            pytest.fail(explain(failed, WORLD_STEPS), pytrace=False)
    steps = len(seeds) * WORLD_STEPS
    with capsys.disabled():
        print(f"\nsimulated: {len(seeds)} worlds, {steps} steps and the healing after them")
    counts["worlds"] = len(seeds)
    assert not are_too_many_ill(counts)
    assert too_quiet(counts, steps) == {}


def test_the_same_seed_runs_the_same_world() -> None:
    assert run(7, WORLD_STEPS) == run(7, WORLD_STEPS)


def test_a_run_in_which_nothing_happens_is_no_proof() -> None:
    assert too_quiet(Counter(), MINIMA_STEPS).keys() == MINIMA.keys()
    assert too_quiet(Counter(MINIMA), MINIMA_STEPS) == {}


def test_a_few_worlds_may_stay_ill_but_not_many() -> None:
    assert not are_too_many_ill(Counter({"worlds": 80, "not healed": 8}))
    assert are_too_many_ill(Counter({"worlds": 80, "not healed": 9}))
    assert not are_too_many_ill(Counter({"worlds": 1, "not healed": 1})), "of one nothing can be said"
