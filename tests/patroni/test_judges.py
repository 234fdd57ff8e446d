"""What judges is judged: what a writer said, and what behave printed."""

import pytest

from tests.patroni.features import all_ran
from tests.patroni.pair import parse

WHOLE = """1 feature passed, 0 failed, 0 skipped
7 scenarios passed, 0 failed, 0 skipped
111 steps passed, 0 failed, 0 skipped
"""


def test_gap_is_the_longest_time_without_a_row_and_the_ends_count() -> None:
    said = parse(["ok 1 10.0", "ok 2 10.5", "no 11.0 server closed the connection", "ok 4 13.5", "ok 5 14.0"])
    assert said.gap_s(10.0, 14.0) == 3.0
    assert said.gap_s(10.0, 20.0) == 6.0, "nothing since the last row"
    assert said.gap_s(5.0, 14.0) == 5.0, "nothing before the first"
    assert said.failures_since(10.6) == ["server closed the connection"]
    assert said.failures_since(11.1) == []
    assert [number for number, _ in said.acknowledged] == [1, 2, 4, 5]


def test_what_the_writer_does_not_say_is_its_end() -> None:
    with pytest.raises(AssertionError, match="Traceback"):
        parse(["ok 1 10.0", "Traceback (most recent call last):"])


def test_features_ran_only_if_nothing_failed_or_was_left_out() -> None:
    assert all_ran(WHOLE)
    assert not all_ran(WHOLE.replace("7 scenarios passed, 0 failed, 0", "5 scenarios passed, 0 failed, 2"))
    assert not all_ran(WHOLE.replace("111 steps passed, 0 failed", "110 steps passed, 1 failed"))
    assert not all_ran(WHOLE.replace("1 feature passed", "0 features passed"))
    assert not all_ran("")
