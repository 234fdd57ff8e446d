"""An observation: everything seen of one cluster at one instant, and what follows from it without any policy.

Knows members, nodes, volumes and the record of the bootstrap, the same on every platform; not what should be done.
Absent is not false: `entries` is None when no quorum confirmed a member list, a member without an answer is unreachable
and may be alive (I8). Members are joined by member id, and an entry to a name by its peer URL, which is permanent (I9):
the entry of a learner that never started has no name, and a name proves nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import Engine
from kvorum_operator.cluster import quorum

# Two members' figures are read some milliseconds apart, and a busy cluster writes on: half a second's worth of entries
# at 10,000 puts a second is no lag. Leadership moves only once the successor holds all anyway.
LAG_ENTRIES_MAX = 5_000
LEARNER_DEADLINE_S = 300.0  # for a learner to start for the first time; then it is withdrawn (I1)
WAKING_S_MAX = 30.0  # for how long silence after a start is no sign of trouble
LOST_STATES = frozenset({"data-lost", "removed", "corrupt"})  # as nodes of ours say that their data is of no use


@dataclass(frozen=True, slots=True)
class Address:
    """Where a member of that name is, or would be, reached. Permanent: peer URLs are written into the member list."""

    name: str
    client_url: str
    peer_url: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A member as the member list has it. name is ours, by its peer URL; None is a member that is not ours to run."""

    id: int
    name: str | None
    peer_urls: tuple[str, ...]
    started: bool  # it has client URLs: it ran at least once as this member
    is_learner: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What a member says about itself."""

    member_id: int
    cluster_id: int
    leader: int  # 0: it sees none
    term: int
    raft_index: int
    applied_index: int
    revision: int
    database_bytes: int
    version: str
    is_learner: bool = False


@dataclass(frozen=True, slots=True)
class OwnWord:
    """What a node of ours says beside etcd's API: read where it is there, required by nothing (ADR 0005)."""

    version: str = ""  # its own, where etcd's API has the version of etcd that it speaks
    state: str = ""  # starting, learner, follower, leader, data-lost, removed, corrupt, disk-full, no-quorum, stopping
    reason: str = ""
    name: str = ""  # of the member that it runs as


@dataclass(frozen=True, slots=True)
class HeldUp:
    """Why a node does not run although its platform tries by itself: there is only waiting, or another specification.

    text: the platform's own words.
    """

    reason: Reason
    text: str


@dataclass(frozen=True, slots=True)
class Node:
    """A member's process or pod, as its platform sees it."""

    name: str
    running: bool  # also while it is being stopped, and when it does not serve
    since_s: float  # when it started, or ended
    ended: str = ""  # why it ended, for a person
    failures_count: int = 0  # starts in a row that ended soon
    retry_at_s: float = 0.0  # when it may be started again
    current: bool = True  # it was made from today's specification, or will be at its next start
    found_no_data: bool = False  # it ended because its file is sealed and its volume is empty (I7)
    held_up: HeldUp | None = None  # its platform starts it, nobody else has to
    stopping: bool = False  # it was told to end
    ready: bool | None = None  # whether its platform, from beside it, sees it serve; None where nobody looks
    host: str = ""  # the machine; empty where all share one
    client_url: str = ""  # where it is asked now, if not at its address
    uid: str = ""  # of this process or pod, and of no later one of that name


@dataclass(frozen=True, slots=True)
class Volume:
    """A member's volume and its labels. ours: it carries this cluster's mark, so the operator once made it."""

    name: str
    ours: bool = True
    cluster_id: int | None = None
    member_id: int | None = None
    engine: Engine | None = None  # whose data is on it: the other engine cannot read it


@dataclass(frozen=True, slots=True)
class Record:
    """The bootstrap, written once and create-only (I4)."""

    token: str
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HandOvers:
    """Attempts to make one leader hand over (I3)."""

    tries_count: int = 0
    last_s: float = 0.0


@dataclass(frozen=True)
class Observation:
    now_s: float  # seconds since 1970, read once for the whole pass
    addresses: Mapping[str, Address]  # of every member there may be
    nodes: Mapping[str, Node] = field(default_factory=dict)
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    blocked: Mapping[str, str] = field(default_factory=dict)  # why a node of that name cannot be started now
    engine_blocked: str = ""  # why no node of the wanted engine can be started now
    record: Record | None = None
    record_damage: str = ""  # why the record that is there cannot be read; nobody may take it for none (I4)
    latched_cluster_id: int | None = None  # from an earlier status
    names_before: frozenset[str] = frozenset()  # of members that had data, from an earlier status
    woken: bool = False  # by an earlier status, or without any, nobody was served that could miss it
    entries: tuple[Entry, ...] | None = None  # confirmed by a quorum during this pass
    answered: Mapping[str, Answer] = field(default_factory=dict)  # by the name of the node that was asked
    own_words: Mapping[str, OwnWord] = field(default_factory=dict)  # likewise; an etcd has none
    hand_overs: Mapping[int, HandOvers] = field(default_factory=dict)  # by the leader that was asked
    joining_since_s: Mapping[int, float] = field(default_factory=dict)  # when an unstarted entry was first seen

    @cached_property
    def answers(self) -> Mapping[int, Answer]:
        """By member id, which is what figures are joined by."""
        return {answer.member_id: answer for answer in self.answered.values()}

    # Whose cluster.

    @cached_property
    def cluster_ids(self) -> frozenset[int]:
        """Every cluster id that status, volumes and members name. More than one freezes everything."""
        ids = {self.latched_cluster_id, *(volume.cluster_id for volume in self.volumes.values() if volume.ours)}
        ids |= {answer.cluster_id for answer in self.answers.values()}
        return frozenset(one for one in ids if one is not None)

    @cached_property
    def cluster_id(self) -> int | None:
        """The latch of I4: set, the cluster never bootstraps again. Ambiguous ids show in cluster_ids.

        A member's word counts once it follows a leader: then a quorum has its data on disk. Before that, the first
        member to start would have the files of the others sealed, which could then never start.
        """
        formed = {answer.cluster_id for answer in self.answers.values() if answer.leader}
        formed |= {volume.cluster_id for volume in self.volumes.values() if volume.ours and volume.cluster_id}
        if self.latched_cluster_id is not None:
            formed.add(self.latched_cluster_id)
        return min(formed) if formed else None

    # Who is in it.

    def ordinal(self, name: str) -> int:
        """The place of a member among all there may be; members below spec.replicas are wanted."""
        return list(self.addresses).index(name)

    def entry_named(self, name: str) -> Entry | None:
        return next((entry for entry in self.entries or () if entry.name == name), None)

    @cached_property
    def member_ids(self) -> frozenset[int]:
        return frozenset(entry.id for entry in self.entries or ())

    @cached_property
    def voters(self) -> frozenset[int]:
        return frozenset(entry.id for entry in self.entries or () if not entry.is_learner)

    @cached_property
    def pending(self) -> tuple[Entry, ...]:
        """Entries whose joining is not done: learners, and those that never started (I1)."""
        return tuple(entry for entry in self.entries or () if entry.is_learner or not entry.started)

    def name_of(self, member_id: int) -> str:
        """The name of a member for a person: ours, or its id in hexadecimal."""
        for entry in self.entries or ():
            if entry.id == member_id and entry.name is not None:
                return entry.name
        for volume in self.volumes.values():
            if volume.member_id == member_id:
                return volume.name
        return f"{member_id:x}"

    # How it is.

    @cached_property
    def leader(self) -> int:
        """The leader, by the voters that answer with the highest term; 0 when none is known.

        A learner's word does not count: without elections of its own it names the last leader for ever.
        """
        voters = [answer for answer in self.answers.values() if not answer.is_learner]
        claims = [(answer.term, answer.leader) for answer in voters if answer.leader]
        return max(claims)[1] if claims else 0

    @cached_property
    def healthy(self) -> frozenset[int]:
        """Members that answer, are of this cluster and follow its leader."""
        return frozenset(
            answer.member_id
            for answer in self.answers.values()
            if answer.leader and answer.leader == self.leader and answer.cluster_id == self.cluster_id
        )

    @cached_property
    def voters_healthy(self) -> frozenset[int]:
        return self.voters & self.healthy

    @cached_property
    def unready(self) -> tuple[str, ...]:
        """Voters that serve whoever asks them, and that their platform does not give to clients (yet), by ordinal."""
        found = (self.name_of(voter) for voter in self.voters_healthy)
        return tuple(
            sorted((name for name in found if name in self.nodes and self.nodes[name].ready is False), key=self.ordinal)
        )

    @property
    def has_quorum(self) -> bool:
        return quorum.holds(self.voters, self.healthy)

    @cached_property
    def head_index(self) -> int:
        """The end of the leader's log; of the longest one seen when the leader does not answer."""
        if self.leader in self.answers:
            return self.answers[self.leader].raft_index
        return max((answer.raft_index for answer in self.answers.values()), default=0)

    def lag_entries(self, member_id: int) -> int | None:
        """How far what the member has applied is behind the leader's log; None when it does not answer."""
        answer = self.answers.get(member_id)
        return None if answer is None else max(0, self.head_index - answer.applied_index)

    def is_caught_up(self, member_id: int) -> bool:
        lag = self.lag_entries(member_id)
        return lag is not None and lag <= LAG_ENTRIES_MAX

    # What may run where.

    def is_running(self, name: str) -> bool:
        node = self.nodes.get(name)
        return node is not None and node.running

    def is_waking(self, name: str) -> bool:
        """Whether it runs, or its platform starts it, for so short a time that silence says nothing."""
        node = self.nodes.get(name)
        if node is None or abs(self.now_s - node.since_s) >= WAKING_S_MAX:  # in the future by a clock that is wrong
            return False
        return node.running or (node.held_up is not None and node.held_up.reason is Reason.WAKING)

    def client_url(self, name: str) -> str:
        """Where the operator asks a member of ours."""
        node = self.nodes.get(name)
        return (node.client_url if node is not None else "") or self.addresses[name].client_url

    @cached_property
    def outdated(self) -> tuple[str, ...]:
        """Members whose nodes are not made from today's specification, by ordinal; leftovers are none."""
        found = [name for name, node in self.nodes.items() if not node.current]
        if self.entries is not None:
            found = [name for name in found if self.entry_named(name) is not None]
        return tuple(sorted(found, key=self.ordinal))

    def is_stale(self, volume: Volume) -> bool:
        """Whether the volume belongs to a member that is none any more. Known only with a confirmed member list."""
        if self.entries is None or not volume.ours:
            return False
        entry = self.entry_named(volume.name)
        return entry is None or (volume.member_id is not None and volume.member_id != entry.id)

    def of_other_engine(self, engine: Engine) -> frozenset[str]:
        """Names of members that would have to change theirs, for all to be of this engine."""
        return frozenset(
            volume.name for volume in self.volumes.values() if volume.ours and volume.engine not in (None, engine)
        )

    @cached_property
    def lost(self) -> Mapping[str, str]:
        """Members whose data is known to be gone or of no use, and the evidence. Silence is none (I8)."""
        if self.cluster_id is None:
            return {}
        if self.entries is None:
            names = {*self.names_before, *self.volumes}
        else:
            names = {entry.name for entry in self.entries if entry.name is not None}
        return {name: why for name in sorted(names, key=self.ordinal) if (why := self._loss(name))}

    def _loss(self, name: str) -> str:
        """The evidence, empty when there is none."""
        entry, volume, node = self.entry_named(name), self.volumes.get(name), self.nodes.get(name)
        never_started = entry is not None and not entry.started
        if volume is None:  # also while its node still runs: on files that nobody will find again
            return "" if never_started else "its volume is gone"
        answer, word = self.answered.get(name), self.own_words.get(name)
        if not volume.ours or (answer is not None and answer.member_id in self.healthy):
            return ""  # nothing is known of the one, and the other serves
        if word is not None and word.state in LOST_STATES:
            # Also of one that never started: it met a sealed file, and stays up instead of starting on an open one.
            seen, _, _ = word.reason.partition(". ")  # the way out, which follows, is what a repair does
            return f"says {word.state}: {seen}" if seen else f"says {word.state}"
        if never_started:
            return ""
        if self.is_stale(volume) and (answer is None or entry is None or answer.member_id != entry.id):
            return "its volume is another member's"
        if node is not None and not node.running and node.found_no_data:
            return "its node found no data"
        return ""

    def deadline_s(self, entry: Entry) -> float:
        """Until when an entry that never started may take to start."""
        return self.joining_since_s.get(entry.id, self.now_s) + LEARNER_DEADLINE_S
