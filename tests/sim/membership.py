"""The simulation's own notion of a configuration: the rule for what an entry that changes it does.

Written apart from kvorum.raft.config_change and kvorum.state.membership on purpose: the oracle judges both by this one.
Of the product it uses only the bytes of a change, as a proposer makes them.
"""

import json
from dataclasses import dataclass, replace

from kvorum.raft.message import ConfChange, ConfChangeType, ConfState
from kvorum.state import membership
from kvorum.state.membership import conf_change_data
from kvorum.storage.entry_codec import decode_conf_change

LEARNERS_MAX = 1  # etcd's
REQUEST = 0  # changes are answered to nobody here


def profile(member: int, *, learner: bool = False, name: str = "") -> membership.Member:
    """What the member list holds of a member."""
    return membership.Member(member, (f"http://member-{member}",), is_learner=learner, name=name)


def change_data(verb: str, member: int) -> bytes:
    """The entry of `learn 4`, `promote 4`, `add 4` or `remove 4`."""
    if verb == "promote":
        change = membership.promote_change(member, REQUEST)
    elif verb == "remove":
        change = membership.remove_change(member, REQUEST)
    else:
        change = membership.add_change(profile(member, learner=verb == "learn"), REQUEST)
    return conf_change_data(change)


def verb_of(change: ConfChange) -> str:
    if change.type is ConfChangeType.REMOVE_NODE:
        return "remove"
    if change.type is ConfChangeType.ADD_LEARNER:
        return "learn"
    return "promote" if json.loads(change.context).get("isPromote") else "add"


@dataclass(frozen=True, slots=True)
class Members:
    """Who belongs to the group, and who never comes back to it."""

    voters: frozenset[int] = frozenset()
    learners: frozenset[int] = frozenset()
    removed: frozenset[int] = frozenset()

    def __str__(self) -> str:
        learners = f" learners {sorted(self.learners)}" if self.learners else ""
        return f"voters {sorted(self.voters)}{learners}"

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
        change = decode_conf_change(data)
        verb, member = verb_of(change), change.node_id
        is_new = member not in self.all and member not in self.removed
        if verb == "learn" and is_new and len(self.learners) < LEARNERS_MAX:
            return replace(self, learners=self.learners | {member})
        if verb == "promote" and member in self.learners:
            return replace(self, voters=self.voters | {member}, learners=self.learners - {member})
        if verb == "add" and is_new:
            return replace(self, voters=self.voters | {member})
        if verb == "remove" and member in self.all:
            gone = {member}
            return Members(self.voters - gone, self.learners - gone, self.removed | gone)
        return self
