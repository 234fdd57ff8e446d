"""The simulation finds bugs that are planted, within 20,000 steps each: so that it finds none in the product means
something. Whatever fails without the bug, too, counts for nothing."""

import pytest

from tests.sim.plant import BUGS, MORE_BUGS, Bug, hunt

FIRST_SEED = 1
MORE_FIRST_SEEDS = (1, 1001, 2001, 3001)  # a hunt each, until one finds it


def _name(bug: Bug) -> str:
    return bug.name.replace(" ", "-")


@pytest.mark.parametrize("bug", BUGS, ids=_name)
def test_a_planted_bug_is_found_in_one_hunt(bug: Bug, capsys: pytest.CaptureFixture[str]) -> None:
    found = hunt(bug, FIRST_SEED)
    assert found is not None
    with capsys.disabled():
        print(f"\n  {bug.name:52} {found.steps:6} steps: {found.kind}", end="")


@pytest.mark.parametrize("bug", [bug for bug in MORE_BUGS if not bug.is_rare], ids=_name)
def test_more_bugs_are_found_in_a_few_hunts(bug: Bug) -> None:
    assert any(hunt(bug, seed) is not None for seed in MORE_FIRST_SEEDS)
