"""Configurations: who votes, who only learns, and how a change turns one into the next.

A simple change alters the voters by at most one member, so two configurations in a row always share a quorum (Raft
thesis, 4.1). Any other one goes through a joint configuration, which has voters_outgoing beside voters: both halves
must agree until the outgoing one ends (4.3). Texts and rules are those of etcd's raft (confchange/). Knows no log, no
protobuf and nothing of how a change is proposed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from kvorum.raft.message import (
    NONE,
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
)


class ImpossibleChange(ValueError):
    """The change would leave no voters, or is not allowed now. All members decide alike, so none has applied it."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """Ids by what they may do.

    voters:        the incoming half, if joint.
    learners_next: voters of the outgoing half that become learners when it ends.
    auto_leave:    the leader ends the joint configuration by itself.
    """

    voters: frozenset[int] = frozenset()
    voters_outgoing: frozenset[int] = frozenset()
    learners: frozenset[int] = frozenset()
    learners_next: frozenset[int] = frozenset()
    auto_leave: bool = False

    def __post_init__(self) -> None:
        assert not self.learners & (self.voters | self.voters_outgoing), f"voter and learner at once: {self}"
        assert self.learners_next <= self.voters_outgoing, f"only an outgoing voter waits to become a learner: {self}"
        assert self.is_joint or not (self.learners_next or self.auto_leave), f"joint leftovers: {self}"

    @classmethod
    def of(cls, state: ConfState) -> "Configuration":
        return cls(
            frozenset(state.voters),
            frozenset(state.voters_outgoing),
            frozenset(state.learners),
            frozenset(state.learners_next),
            state.auto_leave,
        )

    def state(self) -> ConfState:
        """As the log and snapshots carry it."""
        return ConfState(
            tuple(sorted(self.voters)),
            tuple(sorted(self.learners)),
            tuple(sorted(self.voters_outgoing)),
            tuple(sorted(self.learners_next)),
            self.auto_leave,
        )

    @property
    def is_joint(self) -> bool:
        return bool(self.voters_outgoing)

    @property
    def halves(self) -> tuple[frozenset[int], ...]:
        """The sets of voters that each must agree: one, or two while joint."""
        return (self.voters, self.voters_outgoing) if self.voters_outgoing else (self.voters,)

    @property
    def all_voters(self) -> frozenset[int]:
        return self.voters | self.voters_outgoing

    @property
    def members(self) -> frozenset[int]:
        return self.voters | self.voters_outgoing | self.learners

    def after(self, change: ConfChange | ConfChangeV2) -> "Configuration":
        """The configuration once the change is applied; the same one if it changes nothing.

        Raises ImpossibleChange.
        """
        if isinstance(change, ConfChange):
            refused = change.node_id == NONE or change.type is ConfChangeType.UPDATE_NODE
            return self if refused else self.simple([ConfChangeSingle(change.type, change.node_id)])
        if change.leaves_joint:
            return self.leave_joint()
        if change.enters_joint:
            auto_leave = change.transition is not ConfChangeTransition.JOINT_EXPLICIT
            return self.enter_joint(change.changes, auto_leave=auto_leave)
        return self.simple(change.changes)

    def simple(self, changes: Iterable[ConfChangeSingle]) -> "Configuration":
        """Changes that together alter the voters by at most one member. Raises ImpossibleChange."""
        if self.is_joint:
            raise ImpossibleChange("can't apply simple config change in joint config")
        after = self._changed(changes)
        if len(self.voters ^ after.voters) > 1:
            raise ImpossibleChange("more than one voter changed without entering joint config")
        return after

    def enter_joint(self, changes: Iterable[ConfChangeSingle], *, auto_leave: bool) -> "Configuration":
        """The changes made to the incoming half, while the voters so far are the outgoing one.

        Raises ImpossibleChange.
        """
        if self.is_joint:
            raise ImpossibleChange("config is already joint")
        if not self.voters:
            raise ImpossibleChange("can't make a zero-voter config joint")
        return replace(self, voters_outgoing=self.voters)._changed(changes, auto_leave=auto_leave)

    def leave_joint(self) -> "Configuration":
        """The incoming half alone, and its learners. Raises ImpossibleChange."""
        if not self.is_joint:
            raise ImpossibleChange("can't leave a non-joint config")
        return Configuration(voters=self.voters, learners=self.learners | self.learners_next)

    def _changed(self, changes: Iterable[ConfChangeSingle], *, auto_leave: bool = False) -> "Configuration":
        """One change after the other. Raises ImpossibleChange if no voter is left."""
        voters, learners, learners_next = set(self.voters), set(self.learners), set(self.learners_next)
        for change in changes:
            member, kind = change.node_id, change.type
            if member == NONE or kind is ConfChangeType.UPDATE_NODE:
                continue  # nothing of raft's
            for ids in (voters, learners, learners_next):
                ids.discard(member)
            if kind is ConfChangeType.ADD_NODE:
                voters.add(member)
            elif kind is ConfChangeType.ADD_LEARNER:
                # Who still votes in the outgoing half cannot be a learner yet.
                (learners_next if member in self.voters_outgoing else learners).add(member)
        if not voters:
            raise ImpossibleChange("removed all voters")
        return Configuration(
            frozenset(voters), self.voters_outgoing, frozenset(learners), frozenset(learners_next), auto_leave
        )
