"""The simulation's own notion of a configuration: entry data that changes it, and the rule for what a change does.

Written apart from kvorum.raft.config_change on purpose: the oracle judges the cores by this one. Changes are text,
as `learn 4`, `promote 4`, `add 4`, `remove 4`.
"""

from dataclasses import dataclass, replace

from kvorum.raft.message import NONE, ConfChange, ConfChangeType, ConfState

TYPES = {
    "learn": ConfChangeType.ADD_LEARNER,
    "promote": ConfChangeType.ADD_NODE,
    "add": ConfChangeType.ADD_NODE,
    "remove": ConfChangeType.REMOVE_NODE,
}


@dataclass(frozen=True, slots=True)
class Members:
    """Who belongs to the group, and who never comes back to it."""

    voters: frozenset[int] = frozenset()
    learners: frozenset[int] = frozenset()
    removed: frozenset[int] = frozenset()

    @property
    def all(self) -> frozenset[int]:
        return self.voters | self.learners

    @property
    def split(self) -> tuple[frozenset[int], frozenset[int]]:
        return self.voters, self.learners

    def conf_state(self) -> ConfState:
        return ConfState(tuple(sorted(self.voters)), tuple(sorted(self.learners)))

    def has_majority(self, members: set[int]) -> bool:
        return 2 * len(self.voters & members) > len(self.voters)

    def after(self, data: bytes) -> "Members":
        """Once the change is applied; unchanged if the state machine refuses it, as every member then does."""
        verb, _, number = data.decode().partition(" ")
        member = int(number)
        is_new = member not in self.all and member not in self.removed
        if verb == "learn" and is_new and not self.learners:
            return replace(self, learners=self.learners | {member})
        if verb == "promote" and member in self.learners:
            return replace(self, voters=self.voters | {member}, learners=self.learners - {member})
        if verb == "add" and is_new:
            return replace(self, voters=self.voters | {member})
        if verb == "remove" and member in self.all and self.voters != {member}:
            gone = {member}
            return Members(self.voters - gone, self.learners - gone, self.removed | gone)
        return self

    def conf_change(self, data: bytes) -> ConfChange:
        """What the core is told about the entry, given the configuration before it."""
        verb, _, number = data.decode().partition(" ")
        refused = self.after(data) == self
        return ConfChange(TYPES[verb], NONE if refused else int(number))
