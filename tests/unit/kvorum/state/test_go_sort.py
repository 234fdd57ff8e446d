"""The order of equals is the one that Go's own sort made (testdata/go-sort.jsonl: go 1.26.8, sort.Sort)."""

import json

import pytest
from kvorum.state.go_sort import go_insert

from tests.unit.kvorum.state.driver import TESTDATA

CASES = [json.loads(line) for line in (TESTDATA / "go-sort.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("case", CASES, ids=[f"{number}-of-{len(case['keys'])}" for number, case in enumerate(CASES)])
def test_one_more_goes_where_go_leaves_it(case: dict[str, list[int]]) -> None:
    keys = case["keys"]
    places = list(range(len(keys) - 1))
    go_insert(places, len(keys) - 1, key=lambda place: keys[place])
    assert places == case["order"]


def test_the_cases_tell_gos_order_from_a_stable_one() -> None:
    stable = [sorted(range(len(case["keys"])), key=case["keys"].__getitem__) for case in CASES]
    assert sum(order != case["order"] for order, case in zip(stable, CASES, strict=True)) >= 20
