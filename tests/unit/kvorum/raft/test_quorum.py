"""Quorums, against the plainest possible counting."""

from itertools import combinations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kvorum.raft import quorum
from kvorum.raft.quorum import VoteOutcome

HALF = st.frozensets(st.integers(1, 7), min_size=1, max_size=5)
HALVES = st.lists(HALF, min_size=1, max_size=2)


def agreed_by_counting(halves: list[frozenset[int]], match: dict[int, int]) -> int:
    """The highest index such that in each half more than half of the voters have it."""
    return max(
        index
        for index in range(max(match.values(), default=0) + 1)
        if all(2 * sum(match[voter] >= index for voter in half) > len(half) for half in halves)
    )


@pytest.mark.parametrize(("voters", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4), (8, 5), (9, 5)])
def test_quorum_is_more_than_half(voters: int, needed: int) -> None:
    assert quorum.size(voters) == needed


@example(halves=[frozenset({1}), frozenset({2})], indexes=[0, 5, 0, 0, 0, 0, 0])
@given(halves=HALVES, indexes=st.lists(st.integers(0, 9), min_size=7, max_size=7))
def test_agreed_index_is_on_a_majority_of_each_half(halves: list[frozenset[int]], indexes: list[int]) -> None:
    match = dict(enumerate(indexes, 1))
    assert quorum.agreed_index([match[voter] for voter in half] for half in halves) == agreed_by_counting(halves, match)


@given(halves=HALVES, votes=st.dictionaries(st.integers(1, 9), st.booleans()))
def test_campaign_is_over_once_no_further_vote_can_change_it(
    halves: list[frozenset[int]], votes: dict[int, bool]
) -> None:
    def won(granted: set[int]) -> bool:
        return all(2 * len(granted & half) > len(half) for half in halves)

    granted = {voter for voter, vote in votes.items() if vote}
    could_still_grant = {voter for half in halves for voter in half if votes.get(voter, True)}
    if won(granted):
        expected = VoteOutcome.WON
    elif not won(granted | could_still_grant):
        expected = VoteOutcome.LOST
    else:
        expected = VoteOutcome.PENDING
    assert quorum.vote_outcome(halves, votes) is expected


@given(halves=HALVES)
def test_two_quorums_always_share_a_voter(halves: list[frozenset[int]]) -> None:
    everybody = sorted(frozenset().union(*halves))
    reaching = [
        set(members)
        for count in range(len(everybody) + 1)
        for members in combinations(everybody, count)
        if quorum.is_reached(halves, members)
    ]
    assert reaching
    assert all(one & other for one in reaching for other in reaching)


def test_a_configuration_without_voters_agrees_on_nothing() -> None:
    with pytest.raises(AssertionError):
        quorum.agreed_index([])
