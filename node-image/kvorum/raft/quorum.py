"""Quorums: how many voters must agree, and what they have agreed on.

Knows only member ids, votes and log indexes. Not who leads, not how a log looks.
A configuration has one half, or two while it is joint; then each question is asked of both and the stricter answer
counts (Raft thesis, 4.3). A half is never empty: who has no voters asks nothing.
"""

from collections.abc import Collection, Iterable, Mapping
from enum import Enum


class VoteOutcome(Enum):
    PENDING = "pending"
    WON = "won"
    LOST = "lost"


def size(voters_count: int) -> int:
    """The smallest number of voters that is a majority of voters_count."""
    return voters_count // 2 + 1


def agreed_index(match_by_half: Iterable[list[int]]) -> int:
    """The highest index that a majority of each half has stored, given the match index of each voter by half."""
    lowest = -1
    for matches in match_by_half:
        matches.sort()
        index = matches[(len(matches) - 1) // 2]  # so many voters are behind it at most; the others are a majority
        if lowest < 0 or index < lowest:
            lowest = index
    assert lowest >= 0, "a configuration without voters agrees on nothing"
    return lowest


def vote_outcome(halves: Iterable[Collection[int]], votes: Mapping[int, bool]) -> VoteOutcome:
    """What the votes cast so far decide. Those of learners or strangers are there, and do not count."""
    outcome = VoteOutcome.WON
    for voters in halves:
        granted = refused = 0
        for member in voters:
            vote = votes.get(member)
            if vote is True:
                granted += 1
            elif vote is False:
                refused += 1
        needed = size(len(voters))
        if len(voters) - refused < needed:
            return VoteOutcome.LOST
        if granted < needed:
            outcome = VoteOutcome.PENDING
    return outcome


def is_reached(halves: Iterable[Collection[int]], members: Collection[int]) -> bool:
    """Whether members contain a majority of each half."""
    return all(sum(voter in members for voter in voters) >= size(len(voters)) for voters in halves)
