"""The simulation finds bugs that are planted into the core: so that it finds none in the core means something."""

import pytest

from tests.sim.plant import BUGS, Bug, hunt


@pytest.mark.parametrize("bug", [bug for bug in BUGS if not bug.is_rare], ids=lambda bug: bug.name.replace(" ", "-"))
def test_planted_bug_is_found(bug: Bug) -> None:
    assert hunt(bug) is not None
