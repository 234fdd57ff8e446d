"""A run that failed becomes a list of actions that fails alike, and a shorter one."""

from kvorum.state.machine import Machine
from kvorum.state.store import KEY

from tests.sim.member import Member
from tests.sim.plant import BUGS, hunt, planted
from tests.sim.run import WORLD_STEPS, Failed, explain
from tests.sim.trace import Trace, describe, failure_kind, minimise, play, record
from tests.sim.violation import NOT_WELL, WAYS_PART
from tests.sim.world import Parts

EARLY = next(bug for bug in BUGS if bug.name == "acknowledgement before fsync")
LATE = next(bug for bug in BUGS if bug.name == "apply twice after restart")
LONG_ACTIONS = 1000
SHORT_STEPS = 400
SEEDS = range(1, 40)
SLICE_ROWS = 1000  # no member compacts so many at once


class _DropsRowsInHugeSlices(Member):
    """No member ever does, so that only the same history applied in another way shows it."""

    class machine_class(Machine):  # noqa: N801 - the attribute it stands for
        def compact_step(self, rows_max: int) -> bool:
            was_pending = self.compaction.pending
            more = super().compact_step(rows_max)
            if was_pending and rows_max > SLICE_ROWS:
                for row_key, _ in self.revisions.slice_of_rows(b"", self.compact_revision, 1):
                    self.revisions.store.delete(KEY, row_key)
            return more


class _HoldsWhatNobodyMade(Member):
    """By what the oracle remembers when it looks again: that is only after AUDIT_STEPS, or at the end."""

    def commit_tables(self) -> None:
        super().commit_tables()
        self.world.oracle._born.clear()


def _first_failure(parts: Parts, steps: int, actions_min: int) -> tuple[int, Trace, str]:
    """The first world that fails, after so many actions."""
    for seed in SEEDS:
        trace, kind = record(seed, steps, parts)
        if len(trace) > actions_min:
            return seed, trace, kind
    raise AssertionError(f"no such failure in seeds {SEEDS}")


def test_a_recorded_run_fails_again_without_the_schedule_and_none_of_what_is_left_can_be_left_out() -> None:
    found = hunt(EARLY)
    assert found is not None
    with planted(EARLY) as parts:
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


def test_a_failure_after_more_than_a_thousand_actions_is_shown_by_less_than_half_of_them() -> None:
    with planted(LATE) as parts:
        seed, trace, kind = _first_failure(parts, WORLD_STEPS, LONG_ACTIONS)
        smaller = minimise(seed, parts, trace, kind, seconds=10.0)
        assert failure_kind(play(seed, parts, smaller) or AssertionError()) == kind
    assert len(smaller) < len(trace) / 2
    assert play(seed, Parts(), smaller) is None, "it was the bug"


def test_a_history_that_ends_in_another_state_when_applied_in_another_way_is_made_smaller_too() -> None:
    parts = Parts(member=_DropsRowsInHugeSlices)
    seed, trace, kind = _first_failure(parts, SHORT_STEPS, 0)
    assert kind == WAYS_PART
    assert play(seed, parts, trace) is None, "no action shows it by itself"
    smaller = minimise(seed, parts, trace, kind, seconds=4.0)
    assert len(smaller) < len(trace)
    assert failure_kind(play(seed, parts, smaller, in_other_ways=True) or AssertionError()) == WAYS_PART
    assert play(seed, Parts(), smaller, in_other_ways=True) is None, "it was the bug"


def test_whole_logs_are_looked_at_when_a_trace_was_played() -> None:
    parts = Parts(member=_HoldsWhatNobodyMade)
    trace, kind = record(1, WORLD_STEPS, parts)
    assert kind == "logs do not match"
    assert failure_kind(play(1, parts, trace) or AssertionError()) == kind
    assert len(minimise(1, parts, trace, kind, seconds=4.0)) < len(trace)


def test_what_no_action_is_to_blame_for_is_left_whole() -> None:
    trace: Trace = [(1.0, ("tick", 1)), (2.0, ("tick", 1))]
    assert minimise(7, Parts(), trace, NOT_WELL, seconds=5.0) == trace


def test_a_failure_that_cannot_be_recorded_again_still_names_the_command() -> None:
    text = explain(Failed(7, 250, "not well", "why"), 300)
    assert "make sim SEED=7 STEPS=300" in text
    assert "trace" not in text


def test_a_run_that_does_not_fail_leaves_no_trace() -> None:
    assert record(7, 300, Parts()) == ([], "")
