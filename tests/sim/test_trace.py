"""A run that failed becomes a list of actions that fails alike, and a shorter one."""

from tests.sim.plant import BUGS, hunt, planted
from tests.sim.run import WORLD_STEPS
from tests.sim.trace import describe, failure_kind, minimise, play, record
from tests.sim.world import Parts

BUG = next(bug for bug in BUGS if bug.name == "votes twice in a term")


def test_a_recorded_run_fails_again_without_the_schedule_and_with_few_of_its_actions() -> None:
    found = hunt(BUG)
    assert found is not None
    with planted(BUG) as parts:
        trace, kind = record(found.seed, WORLD_STEPS, parts)
        again = play(found.seed, parts, trace)
        assert again is not None
        assert kind == failure_kind(again) == found.kind
        smaller = minimise(found.seed, parts, trace, kind, seconds=20.0)
        assert len(smaller) < len(trace) / 2
        assert failure_kind(play(found.seed, parts, smaller) or AssertionError()) == kind
    assert play(found.seed, Parts(), smaller) is None, "it was the bug"
    names = [line.split()[1] for line in describe(smaller)]
    assert "deliver" in names


def test_a_run_that_does_not_fail_leaves_no_trace() -> None:
    assert record(7, 300, Parts()) == ([], "")
