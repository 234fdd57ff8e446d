"""A run that failed becomes a list of actions that fails alike, and a shorter one."""

from tests.sim.plant import BUGS, hunt, planted
from tests.sim.run import WORLD_STEPS, Failed, explain
from tests.sim.trace import describe, failure_kind, minimise, play, record
from tests.sim.world import Parts

BUG = next(bug for bug in BUGS if bug.name == "acknowledgement before fsync")


def test_a_recorded_run_fails_again_without_the_schedule_and_none_of_what_is_left_can_be_left_out() -> None:
    found = hunt(BUG)
    assert found is not None
    with planted(BUG) as parts:
        trace, kind = record(found.seed, WORLD_STEPS, parts)
        again = play(found.seed, parts, trace)
        assert again is not None
        assert kind == failure_kind(again) == found.kind
        smaller = minimise(found.seed, parts, trace, kind, seconds=20.0)
        assert len(smaller) < len(trace)
        assert failure_kind(play(found.seed, parts, smaller) or AssertionError()) == kind
        for at in range(len(smaller)):
            error = play(found.seed, parts, smaller[:at] + smaller[at + 1 :])
            assert error is None or failure_kind(error) != kind, smaller[at]
    assert play(found.seed, Parts(), smaller) is None, "it was the bug"
    assert len(describe(smaller)) == len(smaller)


def test_a_failure_that_cannot_be_recorded_again_still_names_the_command() -> None:
    text = explain(Failed(7, 250, "not well", "why"), 300)
    assert "make sim SEED=7 STEPS=300" in text
    assert "trace" not in text


def test_a_run_that_does_not_fail_leaves_no_trace() -> None:
    assert record(7, 300, Parts()) == ([], "")
