"""Configurations: who votes, who only learns, and how a change turns one into the next.

A configuration is joint while voters_outgoing is not empty: then both halves must agree. Only single changes are made
so far, and they alter the voters by at most one member, so two configurations in a row always share a quorum (Raft
thesis, 4.1). Knows no log, no protobuf and nothing of how a change is proposed.
"""

from dataclasses import dataclass

from kvorum.raft.message import NONE, ConfChange, ConfChangeType, ConfState


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

    def after(self, change: ConfChange) -> "Configuration":
        """The configuration once the change is applied; the same one if it changes nothing.

        Raises ImpossibleChange.
        """
        member = change.node_id
        if member == NONE or change.type is ConfChangeType.UPDATE_NODE:
            return self
        if self.is_joint:
            raise ImpossibleChange(f"{change} within a joint configuration")
        voters, learners = self.voters - {member}, self.learners - {member}
        if change.type is ConfChangeType.ADD_NODE:
            voters |= {member}
        elif change.type is ConfChangeType.ADD_LEARNER:
            learners |= {member}
        if not voters:
            raise ImpossibleChange(f"{change} leaves no voters")
        return Configuration(voters=voters, learners=learners)
