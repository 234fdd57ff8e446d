"""The nemesis once through all its faults, on three of our nodes. Longer, and on five: make chaos.

KVORUM_SEED=n draws the same faults again, though the machine's timing is never quite the same.
"""

import os
import random
from collections import Counter

import pytest

from tests.chaos.run import KINDS, LEAST, LEAST_OF_LONG, LONG_S, least_of, may_meet, require_enough, run, told


@pytest.mark.timeout(200)
def test_three_nodes_are_one_store_whatever_happens_to_them() -> None:
    seed = int(os.environ.get("KVORUM_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"\nKVORUM_SEED={seed}")
    print(told(run(seed, 3, duration_s=0.0, hold_s=(0.2, 0.8))))


def test_a_run_in_which_too_little_happened_fails() -> None:
    least = least_of(LEAST, LEAST_OF_LONG, LONG_S)
    enough = Counter(least)
    require_enough(enough, least)
    for name in least:
        fewer = enough.copy()
        fewer[name] -= 1
        with pytest.raises(AssertionError, match=name):
            require_enough(fewer, least)


def test_what_was_refused_is_not_counted_as_done() -> None:
    with pytest.raises(AssertionError, match="'transfers': 0"):
        require_enough(Counter({"transfers refused": 5}), {"transfers": 1})


def test_a_short_run_need_not_have_what_only_a_long_one_is_sure_of() -> None:
    assert least_of(LEAST, LEAST_OF_LONG, 0.0) == LEAST
    assert least_of(LEAST, LEAST_OF_LONG, LONG_S).keys() == LEAST.keys() | LEAST_OF_LONG.keys()


def test_a_node_is_never_killed_twice_at_once_nor_anything_broken_while_a_member_is_replaced() -> None:
    assert not may_meet("killed", "power_cut")
    assert not any(may_meet("replaced", kind) for kind in KINDS)
    assert may_meet("killed", "split")
