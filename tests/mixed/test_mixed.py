"""Etcds and ours in one cluster, a choice of its faults once through. Longer, and all of them: make mixed.

KVORUM_SEED=n draws the same faults again, though the machine's timing is never quite the same.
"""

import os
import random
from collections import Counter

import pytest

from tests.chaos.run import require_enough, told
from tests.kit.etcd import EtcdMissing
from tests.mixed.run import ALONE, KINDS, LEAST, LEAST_OF_LONG, can_meet, run

HOLD_S = (0.2, 0.8)
CHOICES = {
    2: ("led_by_ours", "auth_changed", "ours_behind", "auth_enabled", "split", "slow_lines"),
    1: ("led_by_etcd", "both_ways", "etcd_behind", "power_cut", "paused", "auth_changed"),
}
# Of what every choice does.
LEAST_OF_ALL = {
    "auth changes": 4,
    "SIGKILL": 1,
    "partitions both ways": 1,
    "alarms raised": 3,
    "agreements": 3,
    "writes checked": 200,
    "tables compared": 1,
    "lease rows compared": 6,
    "alarm rows compared": 1,
}
LEAST_OF = {
    2: {
        "snapshots received by ours": 1,
        "puts while auth was on": 2,
        "refused by ours while auth was on": 1,
        "slow lines": 1,
        "led by ours": 1,
    },
    1: {"snapshots received by etcd": 1, "SIGSTOP": 1, "logs cut": 1, "led by etcd": 1},
}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("etcds", CHOICES, ids=lambda etcds: f"{etcds}-of-3-are-etcds")
def test_etcds_and_ours_are_one_store_whatever_happens_to_them(etcds: int) -> None:
    seed = int(os.environ.get("KVORUM_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"\nKVORUM_SEED={seed}")
    try:
        counts = run(seed, etcds, 0.0, HOLD_S, CHOICES[etcds])
    except EtcdMissing as why:
        pytest.skip(f"NOT RUN: {why}")
    print(told(counts))
    require_enough(counts, LEAST_OF_ALL | LEAST_OF[etcds])


def test_a_run_in_which_too_little_happened_fails() -> None:
    least = LEAST | LEAST_OF_LONG
    for name in least:
        fewer = Counter(least)
        fewer[name] -= 1
        with pytest.raises(AssertionError, match=name):
            require_enough(fewer, least)


def test_what_needs_the_cluster_whole_meets_no_other_fault() -> None:
    assert not any(can_meet(one, other) for one in ALONE for other in KINDS)
    assert not can_meet("ours_killed", "etcd_killed")
    assert not can_meet("etcd_replaced", "split")
    assert can_meet("ours_killed", "split")
