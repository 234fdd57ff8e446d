"""Configurations, and single changes of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvorum.raft import quorum
from kvorum.raft.config_change import Configuration, ImpossibleChange
from kvorum.raft.message import NONE, ConfChange, ConfChangeType, ConfState

ADD, REMOVE, UPDATE, LEARN = (
    ConfChangeType.ADD_NODE,
    ConfChangeType.REMOVE_NODE,
    ConfChangeType.UPDATE_NODE,
    ConfChangeType.ADD_LEARNER,
)
THREE_AND_A_LEARNER = Configuration.of(ConfState((1, 2, 3), (4,)))


@pytest.mark.parametrize(
    ("kind", "member", "voters", "learners"),
    [
        (ADD, 5, (1, 2, 3, 5), (4,)),
        (ADD, 4, (1, 2, 3, 4), ()),  # a learner is promoted
        (ADD, 3, (1, 2, 3), (4,)),
        (LEARN, 5, (1, 2, 3), (4, 5)),
        (LEARN, 4, (1, 2, 3), (4,)),
        (LEARN, 3, (1, 2), (3, 4)),  # a voter is made a learner
        (REMOVE, 3, (1, 2), (4,)),
        (REMOVE, 4, (1, 2, 3), ()),
        (REMOVE, 9, (1, 2, 3), (4,)),
        (UPDATE, 3, (1, 2, 3), (4,)),
        (REMOVE, NONE, (1, 2, 3), (4,)),
        (ADD, NONE, (1, 2, 3), (4,)),
        (LEARN, NONE, (1, 2, 3), (4,)),
    ],
)
def test_change(kind: ConfChangeType, member: int, voters: tuple[int, ...], learners: tuple[int, ...]) -> None:
    assert THREE_AND_A_LEARNER.after(ConfChange(kind, member)).state() == ConfState(voters, learners)


@pytest.mark.parametrize("kind", [REMOVE, LEARN])
def test_the_last_voter_stays(kind: ConfChangeType) -> None:
    with pytest.raises(ImpossibleChange, match="removed all voters"):
        Configuration.of(ConfState((1,), (2,))).after(ConfChange(kind, 1))


def test_no_single_change_within_a_joint_configuration() -> None:
    joint = Configuration.of(ConfState((1, 2), (), (1, 3)))
    with pytest.raises(ImpossibleChange, match="joint"):
        joint.after(ConfChange(ADD, 4))
    assert joint.after(ConfChange(UPDATE, 1)) is joint


def test_joint_configuration_asks_both_halves() -> None:
    joint = Configuration.of(ConfState((1, 2, 3), (5,), (1, 4), (4,), True))
    assert joint.is_joint
    assert joint.halves == (frozenset({1, 2, 3}), frozenset({1, 4}))
    assert joint.all_voters == {1, 2, 3, 4}
    assert joint.members == {1, 2, 3, 4, 5}
    assert joint.state() == ConfState((1, 2, 3), (5,), (1, 4), (4,), True)


@pytest.mark.parametrize(
    "state",
    [
        ConfState((1, 2), (2,)),
        ConfState((1, 2), (3,), (3, 4)),
        ConfState((1, 2), (), (1, 3), (2,)),
        ConfState((1, 2), (), (), (), True),
    ],
)
def test_nobody_is_voter_and_learner_at_once(state: ConfState) -> None:
    with pytest.raises(AssertionError):
        Configuration.of(state)


@given(
    voters=st.frozensets(st.integers(1, 6), min_size=1, max_size=5),
    kind=st.sampled_from(ConfChangeType),
    member=st.integers(1, 6),
)
def test_quorums_before_and_after_a_change_share_a_voter(
    voters: frozenset[int], kind: ConfChangeType, member: int
) -> None:
    before = Configuration(voters=voters)
    try:
        after = before.after(ConfChange(kind, member))
    except ImpossibleChange:
        return
    sizes = quorum.size(len(before.voters)) + quorum.size(len(after.voters))
    assert len(before.voters | after.voters) < sizes
