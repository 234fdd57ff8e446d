"""The simulation finds bugs that are planted, within 20,000 steps each: so that it finds none in the product means
something."""

import pytest

from tests.sim.plant import BUGS, STEPS_MAX, Bug, hunt

FIRST_SEEDS = (1, 1001, 2001, 3001)  # a change of the product makes other worlds of the same seeds: so more draws


@pytest.mark.parametrize("bug", [bug for bug in BUGS if not bug.is_rare], ids=lambda bug: bug.name.replace(" ", "-"))
def test_planted_bug_is_found(bug: Bug, capsys: pytest.CaptureFixture[str]) -> None:
    found = next((found for seed in FIRST_SEEDS if (found := hunt(bug, seed)) is not None), None)
    assert found is not None
    with capsys.disabled():
        print(f"\n  {bug.name:52} {found.steps:6} steps: {found.kind}", end="")
    assert found.steps <= STEPS_MAX
