"""Quorums by hand."""

import pytest
from kvorum_operator.cluster import quorum


@pytest.mark.parametrize(("voters", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (9, 5)])
def test_more_than_half_must_agree(voters: int, needed: int) -> None:
    assert quorum.size(voters) == needed
    members = range(1, voters + 1)
    assert quorum.holds(members, range(1, needed + 1))
    assert not quorum.holds(members, range(1, needed))


def test_those_who_are_no_voters_count_for_nothing() -> None:
    assert not quorum.holds({1, 2, 3}, {1, 8, 9})
    assert not quorum.holds(set(), {1})


def test_removal_makes_the_cluster_smaller() -> None:
    assert quorum.holds_without({1, 2}, {1, 2}, removed=2)
    assert quorum.holds_without({1, 2, 3}, {1, 3}, removed=2)
    assert not quorum.holds_without({1, 2, 3, 4}, {1, 4}, removed=4)
    assert not quorum.holds_without({1}, {1}, removed=1)
