"""The simulation's own notion of a configuration: the rule for what an entry that changes it does.

Written apart from kvorum.raft.config_change and kvorum.state.membership on purpose: the oracle judges both by this one.
Of the product it uses only the bytes of a change, as a proposer makes them. A change is told in words: `learn 4`,
`promote 4`, `add 4`, `remove 4`; several at once go through a joint configuration, in which both halves must agree.
etcd's servers propose single changes only; that several are applied to its member list is the simulation's own doing.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kvorum.raft import change_codec
from kvorum.raft.message import (
    NONE,
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
)
from kvorum.state import membership
from kvorum.state.machine import Machine

LEARNERS_MAX = 1  # etcd's
REQUEST = 0  # changes are answered to nobody here
REFUSED = ConfChange(ConfChangeType.ADD_NODE, NONE)
TYPES = {
    "learn": ConfChangeType.ADD_LEARNER,
    "promote": ConfChangeType.ADD_NODE,
    "add": ConfChangeType.ADD_NODE,
    "remove": ConfChangeType.REMOVE_NODE,
}

Wish = tuple[str, int]  # a word and a member


def profile(member: int, *, learner: bool = False, name: str = "") -> membership.Member:
    """What the member list holds of a member."""
    return membership.Member(member, (f"http://member-{member}",), is_learner=learner, name=name)


def _single(verb: str, member: int) -> ConfChange:
    if verb == "promote":
        return membership.promote_change(member, REQUEST)
    if verb == "remove":
        return membership.remove_change(member, REQUEST)
    return membership.add_change(profile(member, learner=verb == "learn"), REQUEST)


def change_data(verb: str, member: int) -> bytes:
    """The entry of one change."""
    return change_codec.encode(_single(verb, member))


def joint_change(wishes: Sequence[Wish], transition: int) -> ConfChangeV2:
    """Several changes at once; with none of them: the end of a joint configuration."""
    singles = tuple(ConfChangeSingle(TYPES[verb], member) for verb, member in wishes)
    return ConfChangeV2(ConfChangeTransition(transition), singles)


@dataclass(frozen=True, slots=True)
class Members:
    """Who belongs to the group, and who never comes back to it. outgoing: the other half of the voters, while joint."""

    voters: frozenset[int] = frozenset()
    learners: frozenset[int] = frozenset()
    removed: frozenset[int] = frozenset()
    outgoing: frozenset[int] = frozenset()
    leaves_by_itself: bool = False

    def __str__(self) -> str:
        learners = f" learners {sorted(self.learners)}" if self.learners else ""
        outgoing = f" and {sorted(self.outgoing)}" if self.outgoing else ""
        return f"voters {sorted(self.voters)}{outgoing}{learners}"

    @property
    def all_voters(self) -> frozenset[int]:
        return self.voters | self.outgoing

    @property
    def all(self) -> frozenset[int]:
        return self.voters | self.learners | self.outgoing

    def conf_state(self) -> ConfState:
        return ConfState(
            tuple(sorted(self.voters)),
            tuple(sorted(self.learners)),
            tuple(sorted(self.outgoing)),
            (),
            self.leaves_by_itself,
        )

    def has_majority(self, members: set[int]) -> bool:
        """Of each half."""
        return all(2 * len(half & members) > len(half) for half in (self.voters, self.outgoing) if half)

    def after(self, entry: Entry) -> "Members":
        """Once the change is applied; unchanged if the state machine refuses it, as every member then does."""
        if entry.type != EntryType.CONF_CHANGE_V2:
            return self if self.outgoing else self._after_one(*self._word(change_codec.decode_single(entry.data)))
        change = change_codec.decode(entry)
        assert isinstance(change, ConfChangeV2)
        if change.leaves_joint:
            return replace(self, outgoing=frozenset(), leaves_by_itself=False) if self.outgoing else self
        if self.outgoing:
            return self
        after = self
        for single in change.changes:
            before, after = after, after._after_one(*after._word(single))
            if after == before:
                return self  # all or nothing
        if len(change.changes) == 1 and change.transition is ConfChangeTransition.AUTO:
            return after
        explicit = change.transition is ConfChangeTransition.JOINT_EXPLICIT
        return replace(after, outgoing=self.voters, leaves_by_itself=not explicit)

    def _word(self, change: ConfChange | ConfChangeSingle) -> Wish:
        if change.type is ConfChangeType.REMOVE_NODE:
            return "remove", change.node_id
        if change.type is ConfChangeType.ADD_LEARNER:
            return "learn", change.node_id
        promotes = change.node_id in self.learners
        if isinstance(change, ConfChange):
            promotes = bool(json.loads(change.context).get("isPromote"))
        return "promote" if promotes else "add", change.node_id

    def _after_one(self, verb: str, member: int) -> "Members":
        is_new = member not in self.all and member not in self.removed
        if verb == "learn" and is_new and len(self.learners) < LEARNERS_MAX:
            return replace(self, learners=self.learners | {member})
        if verb == "promote" and member in self.learners:
            return replace(self, voters=self.voters | {member}, learners=self.learners - {member})
        if verb == "add" and is_new:
            return replace(self, voters=self.voters | {member})
        if verb == "remove" and member in self.voters | self.learners:
            gone = {member}
            return Members(self.voters - gone, self.learners - gone, self.removed | gone)
        return self

    def apply_to(self, machine: Machine, entry: Entry) -> ConfChange | ConfChangeV2:
        """Applies the entry to a state machine that has this configuration. Gives what the core is to be told."""
        if entry.type != EntryType.CONF_CHANGE_V2:
            return machine.apply_conf_change(entry, change_codec.decode_single(entry.data))[0]
        change = change_codec.decode(entry)
        assert isinstance(change, ConfChangeV2)
        after = self.after(entry)
        machine._advance(entry)
        if after == self:
            return REFUSED
        now = self
        for single in change.changes:
            word = now._word(single)
            _, refusal = machine.membership.apply(_single(*word))
            assert refusal is None, (word, refusal)
            now = now._after_one(*word)
        return change
