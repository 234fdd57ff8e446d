"""What must be true after every step, judged by what all members' memories and disks hold together.

The five promises of Raft (paper, figure 3), and that no acknowledged entry can be lost. Each is checked against the
truth that only the simulator sees, and as early as it can be known: not when a lost entry is missed by a reader, but
when its acknowledgement counted a disk that did not have it. Knows nothing of how the cores reach their decisions.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from kvorum.raft.core import Role
from kvorum.raft.message import NONE, Entry, EntryType, Message, MessageType

from tests.sim.membership import Members
from tests.sim.violation import Violation

if TYPE_CHECKING:
    from tests.sim.member import Member


class Oracle:
    """Watches the members. `committed` is the one log that all must agree on.

    An entry is in it from when anybody knew.
    """

    def __init__(self, bootstrap: list[Entry], on_commit: Callable[[Entry], None]) -> None:
        """bootstrap: the entries that all first members begin with, committed by definition.

        on_commit: told of each entry once, when anybody knows that it is committed.
        """
        self._on_commit = on_commit
        self.newest_term = 0  # of the newest leader
        self.are_disks_changed = False  # since the last step
        self.committed: list[Entry] = []  # position 0 holds index 1
        self.acknowledged_index = 0  # the newest entry whose client was told
        self.counts: Counter[str] = Counter()
        self._leaders: dict[int, int] = {}  # by term
        self._votes: dict[int, dict[int, int]] = {}  # term -> voter -> whom, once durable
        self._terms: dict[int, int] = {}  # the highest durable term of each member
        self._promised: dict[int, tuple[int, int]] = {}  # member -> term, index: the newest append it acknowledged
        self._born: dict[tuple[int, int], tuple[int, bytes, int]] = {}  # (index, term) -> type, data, term before
        self._conf_indexes: list[int] = []
        self._conf_members: list[Members] = [Members()]
        self._commit_terms: list[int] = []  # by position: in which term the entry was committed; never falls
        for entry in bootstrap:
            self._commit(entry, entry.term)

    @property
    def newest_members(self) -> Members:
        return self._conf_members[-1]

    def members_at(self, index: int) -> Members:
        """The configuration in force once everything up to index, which is committed, is applied."""
        return self._conf_members[bisect_right(self._conf_indexes, index)]

    # -- what happened

    def synced(self, member: "Member") -> None:
        """The disk of a member has more than before: its term and vote are promises now."""
        hard_state = member.disk.ledger.hard_state
        if hard_state.term < self._terms.get(member.id, 0):
            raise Violation(
                "term forgotten",
                f"member {member.id} went back to term {hard_state.term} from {self._terms[member.id]}",
            )
        self._terms[member.id] = hard_state.term
        term, index = self._promised.get(member.id, (0, 0))
        if term == hard_state.term and term >= member.disk.ledger.last_term and member.disk.ledger.last_index < index:
            # (A torn write may have kept entries of a later leader, but not yet its term.)
            raise Violation(
                "acknowledged entry gone",
                f"member {member.id} acknowledged {index}, its disk ends at {member.disk.ledger.last_index}",
            )
        if hard_state.vote != NONE:
            self._voted(member, hard_state.term, hard_state.vote)

    def sent_after_append(self, member: "Member", messages: Sequence[Message]) -> None:
        """What a member promises to others must be on its disk, and stay there as long as the term is the same.

        An answer to the leader of an earlier term may come late, when a later one has replaced the entries: that one
        was elected by somebody who had seen them.
        """
        for message in messages:
            if message.type is MessageType.VOTE_REPLY and not message.reject:
                self._vote_sent(member, message)
            is_current = message.term == member.disk.ledger.hard_state.term
            if message.type is MessageType.APPEND_REPLY and not message.reject and is_current:
                if message.index > member.disk.ledger.last_index:
                    raise Violation(
                        "acknowledged before it was durable",
                        f"member {member.id} acknowledges {message.index}, which is not on its disk",
                    )
                promised = (message.term, message.index)
                self._promised[member.id] = max(promised, self._promised.get(member.id, promised))

    def _vote_sent(self, member: "Member", message: Message) -> None:
        """A vote that is told must not be forgotten: it, or a later term, is on the disk."""
        hard_state = member.disk.ledger.hard_state
        if (hard_state.term, hard_state.vote) != (message.term, message.to) and hard_state.term <= message.term:
            raise Violation(
                "vote told before it was durable",
                f"member {member.id} votes for {message.to} in {message.term}, its disk has {hard_state}",
            )
        self._voted(member, message.term, message.to)

    def _voted(self, member: "Member", term: int, whom: int) -> None:
        """Nobody votes for two in one term."""
        before = self._votes.setdefault(term, {}).setdefault(member.id, whom)
        if before != whom:
            raise Violation("two votes in a term", f"member {member.id} voted for {before} and {whom} in term {term}")

    def applied(self, member: "Member", entry: Entry) -> None:
        """State machine safety: all apply the same entries in the same order, and only committed ones."""
        if entry.index != member.applied + 1:
            raise Violation("applied out of order", f"member {member.id} applies {entry.index} after {member.applied}")
        if entry.index > len(self.committed) or entry != self.committed[entry.index - 1]:
            raise Violation(
                "applied another entry", f"member {member.id} applies {entry}, which is not what was committed"
            )

    def acknowledged(self, index: int, data: bytes) -> None:
        """A client was told that its entry is committed."""
        if self.committed[index - 1].data != data:
            raise Violation(
                "answered for another entry",
                f"acknowledged {data!r} at {index}, where {self.committed[index - 1]} is committed",
            )
        self.acknowledged_index = max(self.acknowledged_index, index)
        self.counts["acknowledged"] += 1

    def read(self, index: int, floor: int) -> None:
        """A read sees everything that anybody knew to be committed when it began."""
        if index < floor:
            raise Violation("stale read", f"a read waits for {index} only, but {floor} was committed when it began")
        self.counts["reads"] += 1

    # -- after every step

    def observe(self, member: "Member") -> None:
        """The step touched this member's memory."""
        node = member.node
        if node is None:
            return
        self._observe_log(member)
        if node.log.committed > member.seen_committed:
            self._observe_commit(member)
        if node.log.snapshot is None and node.config.state() != member.members.conf_state():
            # With a snapshot on its way to the disk the core knows its configuration already.
            raise Violation(
                "configurations part", f"member {member.id}: core has {node.config}, state machine {member.members}"
            )
        if node.role is not Role.FOLLOWER:
            self._observe_campaign(member)
        if node.role is Role.LEADER:
            self._observe_leader(member)
        member.seen_term_role = (node.term, node.role)

    def _observe_log(self, member: "Member") -> None:
        """Log matching: an entry's term and index determine it and the one before, so by induction all before."""
        assert member.node is not None
        log = member.node.log
        seen = member.seen_log
        last = log.last_index
        if last == len(seen) and (last == 0 or log.last_term == seen[-1]):
            return  # nothing new; that equal ends mean equal logs is what audit() makes sure of
        first = log.first_index
        index = min(last, len(seen))
        while index > member.seen_committed and index >= first and seen[index - 1] != log.term(index):
            index -= 1
        if index < len(seen) and index < member.seen_committed:
            raise Violation(
                "dropped committed entries",
                f"member {member.id} dropped committed entries: {index} < {member.seen_committed}",
            )
        del seen[index:]
        if index < first - 1:  # a snapshot took the place of what was never seen here
            seen.extend(entry.term for entry in self.committed[index : first - 1])
            index = first - 1
        term_before = log.term(index)
        assert term_before is not None
        for entry in log.entries(index + 1, last + 1):
            made = (entry.type, entry.data, term_before)
            if self._born.setdefault((entry.index, entry.term), made) != made:
                born = self._born[entry.index, entry.term]
                raise Violation(
                    "logs do not match", f"member {member.id} holds {entry} after term {term_before}; made as {born}"
                )
            if entry.type != EntryType.NORMAL:
                self._observe_conf_change(member, entry)
            term_before = entry.term
            seen.append(entry.term)

    def _observe_conf_change(self, member: "Member", entry: Entry) -> None:
        """No change enters a log before the one ahead of it is known there to be committed."""
        assert member.node is not None
        log = member.node.log
        waiting = log.entries(log.committed + 1, max(entry.index, log.committed + 1))
        if any(other.type != EntryType.NORMAL for other in waiting):
            raise Violation(
                "two changes in flight",
                f"member {member.id} holds two changes of the configuration at once, the second at {entry}",
            )

    def _observe_commit(self, member: "Member") -> None:
        node = member.node
        assert node is not None
        committed = node.log.committed
        known = min(committed, len(self.committed))
        if node.log.term(known) != (self.committed[known - 1].term if known else 0):
            raise Violation(
                "committed another entry",
                f"member {member.id} has committed another entry at {known}: {self.committed[known - 1]}",
            )
        if committed > known:
            self._observe_first_commit(member, committed)
        member.seen_committed = committed

    def _observe_first_commit(self, member: "Member", committed: int) -> None:
        """Somebody is the first to know: a majority of voters must have the entry on disk, whoever counted them."""
        node = member.node
        assert node is not None
        term = node.log.term(committed)
        assert term is not None
        if term != node.term:
            raise Violation(
                "entry of an old term committed",
                f"member {member.id} commits {committed} of term {term} by counting in term {node.term}",
            )
        holders = {
            voter
            for voter in member.members.all_voters
            if (disk := member.world.members[voter].disk.ledger).term(committed) == term
            or disk.compacted_index >= committed
        }
        if not member.members.has_majority(holders):
            raise Violation(
                "committed without a majority",
                f"member {member.id} commits {term}/{committed}; on disk only at {sorted(holders)} of {member.members}",
            )
        for entry in node.log.entries(len(self.committed) + 1, committed + 1):
            self._commit(entry, term)

    def _commit(self, entry: Entry, term: int) -> None:
        """term: of the leader that committed it, which may be later than the entry's own."""
        self.committed.append(entry)
        self._commit_terms.append(term)
        self.counts["commits"] += 1
        if entry.type != EntryType.NORMAL:
            after = self.newest_members.after(entry)
            self.counts["changes" if after != self.newest_members else "changes refused"] += 1
            self.counts["joint"] += bool(after.outgoing)
            self._conf_indexes.append(entry.index)
            self._conf_members.append(after)
        self._on_commit(entry)

    def _observe_campaign(self, member: "Member") -> None:
        """Who campaigns counts votes by all configurations that it knows to be committed."""
        node = member.node
        assert node is not None
        if node.role is Role.LEADER or member.seen_term_role == (node.term, node.role):
            return
        known, in_force = self.members_at(min(node.log.committed, len(self.committed))), member.members
        if known != in_force:
            raise Violation(
                "campaign by an old configuration", f"member {member.id} campaigns by {in_force}, but knows of {known}"
            )

    def _observe_leader(self, member: "Member") -> None:
        """Election safety and leader completeness, when a leader is seen first."""
        node = member.node
        assert node is not None
        if node.term in self._leaders:
            if self._leaders[node.term] != member.id:
                raise Violation(
                    "two leaders in a term",
                    f"members {self._leaders[node.term]} and {member.id} both lead term {node.term}",
                )
            return
        self._leaders[node.term] = member.id
        self.newest_term = max(self.newest_term, node.term)
        self.counts["elections"] += 1
        votes = self._votes.get(node.term, {})
        voted = {voter for voter, whom in votes.items() if whom == member.id}
        if not member.members.has_majority(voted):
            raise Violation(
                "leader without a majority",
                f"member {member.id} leads term {node.term} by votes of {sorted(voted)}, {member.members}",
            )
        last = bisect_left(self._commit_terms, node.term)  # what was committed in earlier terms
        if node.log.last_index < last or (last and node.log.term(last) != self.committed[last - 1].term):
            raise Violation(
                "leader lacks committed entries",
                f"member {member.id} leads term {node.term} without {self.committed[last - 1]}:"
                f" ends at {node.log.last_index}",
            )

    def after_step(self, members: Iterable["Member"]) -> None:
        """If all crashed now, nobody could win an election without the newest acknowledged entry."""
        if self.acknowledged_index == 0 or not self.are_disks_changed:
            return
        self.are_disks_changed = False
        index, term = self.acknowledged_index, self.committed[self.acknowledged_index - 1].term
        ends = {member.id: (member.disk.ledger.last_term, member.disk.ledger.last_index) for member in members}
        for member in members:
            disk = member.disk.ledger
            if disk.compacted_index >= index or disk.term(index) == term:
                continue
            voters = self.members_at(min(disk.commit, len(self.committed)))
            end = ends[member.id]
            if member.id in voters.all_voters and voters.has_majority(
                {voter for voter in voters.all_voters if voter in ends and ends[voter] <= end}
            ):
                raise Violation(
                    "acknowledged entry could be lost",
                    f"member {member.id} could be elected, but lacks acknowledged {term}/{index}",
                )

    # -- now and then

    def audit(self, members: Iterable["Member"]) -> None:
        """The same from scratch, over whole logs: that the shortcuts above have missed nothing."""
        for member in members:
            node = member.node
            if node is None:
                continue
            log = node.log
            term_before = log.term(log.first_index - 1)
            for entry in log.entries(log.first_index, log.last_index + 1):
                born = self._born.get((entry.index, entry.term))
                if born != (entry.type, entry.data, term_before):
                    raise Violation(
                        "logs do not match", f"member {member.id} holds {entry} after term {term_before}, not {born}"
                    )
                if entry.index <= log.committed and entry != self.committed[entry.index - 1]:
                    raise Violation(
                        "committed another entry",
                        f"member {member.id}: {entry} is not {self.committed[entry.index - 1]}",
                    )
                term_before = entry.term
