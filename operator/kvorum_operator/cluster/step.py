"""Steps and holds: what the operator does next, or why it does nothing.

A step is one thing done to the cluster, with the member ids it was decided for: applied late, it fits no other member.
Nothing here is executed or judged: guard judges, a platform and the members execute.
"""

from dataclasses import dataclass

from kvorum_operator.api.reasons import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    because: str
    regretted: bool = False  # what belongs before it could not be done; because says what

    @property
    def subject(self) -> str:
        raise NotImplementedError

    def __str__(self) -> str:
        return f"{type(self).__name__} {self.subject}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap(Step):
    """Write down, once, with whom the cluster begins (I4). The nodes are started from what was written."""

    members: tuple[str, ...]

    @property
    def subject(self) -> str:
        return " ".join(self.members)


@dataclass(frozen=True, slots=True, kw_only=True)
class StartNodes(Step):
    """Start nodes on the volumes they have; a volume is made only for a member that never started."""

    names: tuple[str, ...]

    @property
    def subject(self) -> str:
        return " ".join(self.names)


@dataclass(frozen=True, slots=True, kw_only=True)
class StopNodes(Step):
    """Stop nodes, in this order, and keep their volumes."""

    names: tuple[str, ...]

    @property
    def subject(self) -> str:
        return " ".join(self.names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart(Step):
    """Stop a node, so that it starts again from today's specification, on the data it has."""

    name: str
    uid: str = ""  # as it was decided for: a later node of that name is not touched

    @property
    def subject(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class AddLearner(Step):
    """MemberAdd as a learner (I5)."""

    name: str
    peer_url: str

    @property
    def subject(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class PromoteMember(Step):
    """MemberPromote: the learner becomes a voter (I5)."""

    name: str
    member_id: int

    @property
    def subject(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver(Step):
    """MoveLeader, asked of the leader (I3)."""

    leader: int
    leader_name: str
    to: int
    to_name: str

    @property
    def subject(self) -> str:
        return f"{self.leader_name} to {self.to_name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveMember(Step):
    """MemberRemove. The node and its volume go in a later pass, once the member list shows it (I6)."""

    name: str
    member_id: int

    @property
    def subject(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard(Step):
    """Stop the node of a member that is none any more, and delete its volume: it must never come back (I6)."""

    name: str
    member_id: int | None  # as the volume is labelled: another one by then is not touched

    @property
    def subject(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Hold:
    """Why nothing is done, what that waits for, and when the wait ends by itself."""

    reason: Reason
    because: str
    waits_for: str = ""
    until_s: float | None = None
