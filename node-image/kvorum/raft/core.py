"""One member of a Raft group, without I/O: RawNode takes messages and ticks, and gives a Ready of what is to be done.

The caller's loop, one Ready at a time:
    1. ready = node.ready()
    2. send ready.messages
    3. write ready.snapshot, ready.entries and ready.hard_state, in this order; sync if ready.must_sync
    4. send ready.messages_after_append
    5. apply ready.committed, and call apply_conf_change for each conf change among it, also for a refused one
    6. node.advance()
While the disk works, step, propose, read_index and tick may be called; their effects are in the next Ready. advance()
moves the entries into the log storage, and lets this member's own vote and acknowledgement count.

With asynchronous storage writes (Config) there is no advance(), and a Ready may be taken before the one before it is
done. Its messages then hold a STORAGE_APPEND to APPEND_THREAD and a STORAGE_APPLY to APPLY_THREAD: each thread does
what it is told in order, writes to the log storage by itself, and then delivers the responses, to this member's step
too.

Rules on terms are here, in step; what each role does is in follower.py, candidate.py and leader.py. Knows no clock
(ticks are the caller's), no randomness (an argument) and no protobuf (an entry's data is opaque). Behaves as etcd's
raft 3.5/3.6 does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from kvorum.raft import candidate, change_codec, follower, leader
from kvorum.raft.config_change import Configuration
from kvorum.raft.log import Log, MemoryStorage
from kvorum.raft.message import (
    APPEND_THREAD,
    APPLY_THREAD,
    CAMPAIGN_TRANSFER,
    NONE,
    ConfChange,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    ReadState,
    Snapshot,
    StorageMessage,
)
from kvorum.raft.progress import Progress
from kvorum.raft.read_index import ReadRounds
from kvorum.raft.trace import Level, Trace, silent


class Role(Enum):
    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


@dataclass(frozen=True, slots=True)
class Config:
    """How this member behaves. Ticks are the caller's unit of time; etcd's is the heartbeat interval.

    append_bytes_max:      entries in one append.
    inflight_max:          appends under way to one member; inflight_bytes_max: their payloads, None: no limit.
    apply_bytes_max:       committed entries that are given out and not applied, so that catching up does not block the
                           caller's loop.
    uncommitted_bytes_max: payloads in a leader's log that are not applied; beyond it proposals are dropped. None: none.
    async_storage_writes:  see above.
    tells_commit_at_once:  in messages of its own, at every step that raises the commit index, as etcd does. Else once a
                           Ready, and only to whom no append carries it: under load hardly ever.
    steps_down_if_removed: a leader that is no voter any more.
    checks_changes:        a proposed change against the configuration in force; without, an impossible one may get into
                           the log, and who applies it dies.
    reads_by_lease:        a leader within its lease answers reads without asking anybody. Not safe if clocks drift.
    """

    id: int
    election_ticks: int = 10
    heartbeat_ticks: int = 1
    pre_vote: bool = True
    check_quorum: bool = True
    append_bytes_max: int = 1 << 20
    inflight_max: int = 512
    inflight_bytes_max: int | None = None
    apply_bytes_max: int = 4 << 20
    uncommitted_bytes_max: int | None = None
    async_storage_writes: bool = False
    tells_commit_at_once: bool = False
    steps_down_if_removed: bool = True
    checks_changes: bool = True
    reads_by_lease: bool = False

    def __post_init__(self) -> None:
        assert self.id not in (NONE, APPEND_THREAD, APPLY_THREAD), f"no member's id: {self.id:x}"
        assert 0 < self.heartbeat_ticks < self.election_ticks, (self.heartbeat_ticks, self.election_ticks)
        assert min(self.inflight_max, self.append_bytes_max, self.apply_bytes_max) > 0, self
        assert self.inflight_bytes_max is None or self.inflight_bytes_max >= self.append_bytes_max, self
        assert self.check_quorum or not self.reads_by_lease, "without check_quorum a leader has no lease"


@dataclass(frozen=True, slots=True)
class SoftState:
    """What others like to know, and nobody has to remember."""

    leader: int
    role: Role


@dataclass(slots=True)
class Ready:
    """What is to be done now; the order is in the module's docstring.

    soft_state, hard_state: None if unchanged.
    entries:                to append to the log; they replace what is there from the first one's index on.
    must_sync:              there are entries, a snapshot, or a term or vote, on which others will rely.
    messages:               may leave at once.
    messages_after_append:  only when entries, snapshot and hard_state are durable. With asynchronous storage writes
                            these are among the responses of STORAGE_APPEND.
    committed:              to apply in order; some may be among the entries, so after those are durable.
    """

    soft_state: SoftState | None
    hard_state: HardState | None
    entries: Sequence[Entry]
    snapshot: Snapshot | None
    must_sync: bool
    messages: list[Message]
    messages_after_append: list[Message]
    committed: Sequence[Entry]
    read_states: list[ReadState]


# What promises something, or acknowledges it: nobody may see it before that is durable.
REPLIES_AFTER_APPEND = frozenset({MessageType.APPEND_REPLY, MessageType.VOTE_REPLY, MessageType.PRE_VOTE_REPLY})
# A request for votes tells a term and where our log ends. If neither survives a crash, a vote for it could count later
# for a shorter log, so it waits too. Not with asynchronous storage writes, where etcd does not wait.
AFTER_APPEND = REPLIES_AFTER_APPEND | {MessageType.VOTE, MessageType.PRE_VOTE}
# What only this member's own server says. From a peer they are noise, or an attack.
LOCAL = frozenset(
    {
        MessageType.HUP,
        MessageType.BEAT,
        MessageType.UNREACHABLE,
        MessageType.SNAPSHOT_STATUS,
        MessageType.CHECK_QUORUM,
        MessageType.STORAGE_APPEND,
        MessageType.STORAGE_APPEND_REPLY,
        MessageType.STORAGE_APPLY,
        MessageType.STORAGE_APPLY_REPLY,
        MessageType.FORGET_LEADER,
    }
)
# Sent on behalf of a client, by whoever has it: they belong to no term, and carry term 0.
TERMLESS = frozenset({MessageType.PROPOSE, MessageType.READ_INDEX})
FROM_LEADER = frozenset({MessageType.APPEND, MessageType.HEARTBEAT, MessageType.SNAPSHOT})
REPLIES = frozenset(
    {
        MessageType.APPEND_REPLY,
        MessageType.VOTE_REPLY,
        MessageType.PRE_VOTE_REPLY,
        MessageType.HEARTBEAT_REPLY,
        MessageType.READ_INDEX_REPLY,
    }
)


class Refusal(Enum):
    """Why step did nothing with a message, in etcd's words."""

    LOCAL = "raft: cannot step raft local message"
    STRANGER = "raft: cannot step as peer not found"
    DROPPED = "raft proposal dropped"


class RawNode:
    """One member's consensus. Attributes are to be read by anybody, and changed by the modules of this package alone.

    config:              the configuration in force; voters, learners. halves: config.halves, read for every commit.
    votes:               answers to the campaign that is going on.
    tracked:             each member's progress, ids ascending; meaningful for a leader.
    leader_transferee:   whom this leader has asked to take over, else NONE.
    pending_conf_index:  no conf change in the log is later; a leader proposes none before this one is applied.
    uncommitted_bytes:   payloads that a leader has appended and not applied, counted if they are limited.
    """

    def __init__(
        self,
        config: Config,
        log_storage: MemoryStorage,
        *,
        applied: int,
        random: Callable[[int], int],
        trace: Trace = silent,
    ) -> None:
        """A member that starts or restarts, as follower.

        log_storage: holds the hard state, the entries, and the configuration as of applied.
        applied:     what the state machine holds durably; entries after it are given out again.
        random(n):   an int in [0, n), for election timeouts.
        trace:       is told what happens, in etcd's words.
        """
        self.settings = config
        self.id = config.id
        self.trace = trace
        self._random = random
        self._storage = log_storage
        self._after_append = REPLIES_AFTER_APPEND if config.async_storage_writes else AFTER_APPEND
        hard_state = log_storage.hard_state
        self.log = Log(
            log_storage,
            committed=hard_state.commit,
            applied=applied,
            applies_unstable=not config.async_storage_writes,
            trace=trace,
        )
        self.log.commit(self.log.index_committed_by_rule())
        self.term, self.vote = hard_state.term, hard_state.vote
        self.leader = NONE
        self.role, self._handlers = Role.FOLLOWER, follower.HANDLERS
        self.config = self._config_applied = Configuration.of(log_storage.conf_state)
        self.halves = self.config.halves
        self.tracked: dict[int, Progress] = {}
        self.votes: dict[int, bool] = {}
        self.reads = ReadRounds()
        self.leader_transferee = NONE
        self.pending_conf_index = 0
        self.uncommitted_bytes = 0
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.election_timeout_ticks = 0
        self.read_states: list[ReadState] = []
        self.commit_unannounced = False
        self._messages: list[Message] = []
        self._messages_after_append: list[Message] = []
        self._own_replies: list[Message] = []  # to be stepped by the advance() of the next Ready
        self._own_replies_handed: list[Message] = []
        self._sent_slice: tuple[int, int, Sequence[Entry]] = (0, 0, ())
        self._outstanding: Ready | None = None
        self._conf_changes_due = 0
        self._soft_handed = SoftState(NONE, Role.FOLLOWER)
        commit = max(hard_state.commit, log_storage.first_index - 1)
        self._hard_handed = HardState(self.term, self.vote, commit)  # in a Ready, perhaps not yet durable
        self._use_configuration(self.config)
        self.become_follower(self.term, NONE)
        trace(
            Level.INFO,
            "newRaft %x [peers: [%s], term: %d, commit: %d, applied: %d, lastindex: %d, lastterm: %d]",
            self.id,
            ",".join(f"{voter:x}" for voter in sorted(self.config.all_voters)),
            self.term,
            self.log.committed,
            self.log.applied,
            self.log.last_index,
            self.log.last_term,
        )

    # -- reading

    @property
    def is_pre_candidate(self) -> bool:
        return self.role is Role.PRE_CANDIDATE

    @property
    def may_campaign(self) -> bool:
        """Whether this member is a voter, as far as it knows, and has a log to win with."""
        return self.id in self.config.all_voters and self.log.snapshot is None

    def progress(self, id: int) -> Progress | None:  # noqa: A002 - the word of the domain
        """How far a member is; meaningful while this one leads. None if it is no member."""
        return self.tracked.get(id)

    # -- what the caller's own server asks

    def tick(self) -> None:
        """One unit of time has passed."""
        self.election_elapsed += 1
        if self.role is not Role.LEADER:
            if self.election_elapsed >= self.election_timeout_ticks and self.may_campaign:
                self.election_elapsed = 0
                self.campaign()
            return
        self.heartbeat_elapsed += 1
        if self.election_elapsed >= self.settings.election_ticks:
            self.election_elapsed = 0
            if self.settings.check_quorum:
                leader.check_quorum(self)
            self.leader_transferee = NONE  # it had its time: take proposals again
        if self.role is Role.LEADER and self.heartbeat_elapsed >= self.settings.heartbeat_ticks:
            self.heartbeat_elapsed = 0
            leader.broadcast_heartbeat(self, self.reads.newest_context)

    def campaign(self) -> None:
        """Tries to become leader, with a pre-vote first if so configured."""
        if self._may_begin_campaign():
            if self.settings.pre_vote:
                candidate.ask_for_pre_votes(self)
            else:
                candidate.ask_for_votes(self, transfer=False)

    def campaign_transferred(self) -> None:
        """The same at the leader's own wish: its lease is not respected."""
        if self._may_begin_campaign():
            candidate.ask_for_votes(self, transfer=True)

    def _may_begin_campaign(self) -> bool:
        if self.role is Role.LEADER:
            self.trace(Level.DEBUG, "%x ignoring MsgHup because already leader", self.id)
        elif not self.may_campaign:
            self.trace(Level.WARN, "%x is unpromotable and can not campaign", self.id)
        elif self.log.has_unapplied_conf_change():
            # With a committed configuration not in force yet, votes would be counted by the old one.
            text = "%x cannot campaign at term %d since there are still pending configuration changes to apply"
            self.trace(Level.WARN, text, self.id, self.term)
        else:
            self.trace(Level.INFO, "%x is starting a new election at term %d", self.id, self.term)
            return True
        return False

    def propose(self, data: Sequence[bytes]) -> bool:
        """A batch of normal entries, in order. True if appended, or sent to the leader (which may still drop it)."""
        if not data:
            return True
        if self.role is Role.LEADER:
            return leader.propose(self, data)
        return self._ask(MessageType.PROPOSE, [Entry(0, 0, value) for value in data])

    def propose_conf_change(self, data: bytes) -> bool:
        """One change of the configuration, as the raftpb.ConfChange bytes that go into the log.

        True as with propose. A leader that has another change pending puts an empty normal entry in its place.
        """
        return self._ask(MessageType.PROPOSE, [Entry(0, 0, data, EntryType.CONF_CHANGE)])

    def propose_conf_change_v2(self, change: ConfChangeV2) -> bool:
        """Any number of changes at once; the change of nothing ends a joint configuration. True as above."""
        return self._ask(MessageType.PROPOSE, [Entry(0, 0, change_codec.encode(change), EntryType.CONF_CHANGE_V2)])

    def read_index(self, context: bytes) -> bool:
        """Asks up to where a linearizable read must wait; the answer comes as ReadState with the same context.

        context: never used before, by any member. False if nobody can be asked now. True promises no answer: ask again
        after a while, with another context.
        """
        return self._ask(MessageType.READ_INDEX, [Entry(0, 0, context)])

    def transfer_leader(self, to: int) -> None:
        """Hands leadership to a voter, if this member leads, or asks the leader to. Given up after election_ticks."""
        self._handle(Message(MessageType.TRANSFER_LEADER, sender=to))

    def forget_leader(self) -> None:
        """Follows nobody until a leader is heard of. For a caller who knows that the one so far is gone: others may
        then have this member's vote without waiting for its election timeout."""
        if self.role is not Role.FOLLOWER:
            return
        if self.settings.reads_by_lease:  # the leader answers reads in the belief that nobody else is voted for
            self.trace(Level.ERROR, "ignoring MsgForgetLeader due to ReadOnlyLeaseBased")
        elif self.leader != NONE:
            self.trace(Level.INFO, "%x forgetting leader %x at term %d", self.id, self.leader, self.term)
            self.leader = NONE

    def _ask(self, question: MessageType, entries: Sequence[Entry]) -> bool:
        return self._handle(Message(question, sender=self.id, entries=entries))

    def report_unreachable(self, id: int) -> None:  # noqa: A002 - the word of the domain
        """A message to this member could not be delivered."""
        if self.role is Role.LEADER:
            leader.on_unreachable(self, id)

    def report_snapshot(self, id: int, ok: bool) -> None:  # noqa: A002 - the word of the domain
        """A snapshot to this member has left completely, or has failed."""
        if self.role is Role.LEADER:
            leader.on_snapshot_status(self, id, arrived=ok)

    def apply_conf_change(self, change: ConfChange | ConfChangeV2) -> ConfState:
        """Puts a committed change into force; returns the configuration to remember with the applied index.

        To be called for every conf change entry in Ready.committed, in order and before advance() or the response of
        STORAGE_APPLY, with node_id NONE for one that the state machine refuses. Raises ImpossibleChange.
        """
        assert self._conf_changes_due > 0, f"{change} is not of this Ready"
        self._conf_changes_due -= 1
        configuration = self._config_applied.after(change)
        self._config_applied = configuration
        if self.log.snapshot is None:  # else one has come meanwhile, with a later configuration, which is in force
            for single in (change,) if isinstance(change, ConfChange) else change.changes:
                if single.type is ConfChangeType.REMOVE_NODE and single.node_id not in configuration.voters_outgoing:
                    # Also if the same change adds it again: by then it may be another one, with an empty log.
                    self.tracked.pop(single.node_id, None)
            self._use_configuration(configuration)
            self._after_configuration()
        return configuration.state()

    def _after_configuration(self) -> None:
        """What a new configuration means for who leads under it."""
        if self.role is not Role.LEADER:
            return
        if self.id not in self.config.all_voters:
            # Removed, or made a learner: somebody else must lead. Where one voter is left, it must hear of it: by the
            # old configuration it cannot win without us, and we do not vote for a log that is shorter than ours.
            if self.settings.steps_down_if_removed:
                if len(self.config.all_voters) == 1:
                    leader.broadcast_heartbeat(self, b"")
                self.become_follower(self.term, NONE)
            return
        if not leader.commit_agreed(self):  # a smaller quorum may have been reached already
            for member, progress in self.tracked.items():
                if member != self.id:
                    leader.send_append(self, member, progress, even_if_empty=False)  # probes who is new
        if self.leader_transferee not in self.config.all_voters:
            self.leader_transferee = NONE

    # -- messages

    def step(self, message: Message) -> Refusal | None:
        """A message from another member, or a response of a storage thread. What is stale changes nothing; what is
        not a peer's to say, or of a stranger, or a proposal that is dropped, does not either, and that is told."""
        kind = message.type
        if kind in REPLIES:
            if message.sender not in self.tracked:
                return Refusal.STRANGER
        elif kind in LOCAL:
            return self._on_storage_reply(message)
        elif kind in TERMLESS:
            is_taken = self._handle(message)
            return None if is_taken or kind is not MessageType.PROPOSE else Refusal.DROPPED
        if message.term != self.term or message.term == 0:
            if message.term == 0:
                return None  # no member ever speaks in term 0: not the first word of one that joins
            if message.term < self.term:
                self._answer_lower_term(message)
                return None
            if not self._accept_higher_term(message):
                return None
        if kind is MessageType.VOTE or kind is MessageType.PRE_VOTE:
            self._on_vote_request(message)
        else:
            self._handle(message)
        return None

    def _handle(self, message: Message) -> bool:
        """By role. False if a request was dropped."""
        handler = self._handlers.get(message.type)
        return handler is not None and handler(self, message) is not False

    def _accept_higher_term(self, message: Message) -> bool:
        """Moves to the message's term if it must. False if the message is to be ignored."""
        kind = message.type
        if kind is MessageType.VOTE or kind is MessageType.PRE_VOTE:
            leader_is_alive = (
                self.settings.check_quorum
                and self.leader != NONE
                and self.election_elapsed < self.settings.election_ticks
            )
            if leader_is_alive and message.context != CAMPAIGN_TRANSFER:
                # A leader heard within its lease is not to be unseated (Raft thesis, 4.2.3).
                left = self.settings.election_ticks - self.election_elapsed
                self._trace_vote("ignored", message, ": lease is not expired (remaining ticks: %d)", left)
                return False
        if kind is MessageType.PRE_VOTE or (kind is MessageType.PRE_VOTE_REPLY and not message.reject):
            return True  # a term that nobody has begun
        self.trace(
            Level.INFO,
            "%x [term: %d] received a %s message with higher term from %x [term: %d]",
            self.id,
            self.term,
            kind,
            message.sender,
            message.term,
        )
        self.become_follower(message.term, message.sender if kind in FROM_LEADER else NONE)
        return True

    def _answer_lower_term(self, message: Message) -> None:
        kind = message.type
        if (kind is MessageType.APPEND or kind is MessageType.HEARTBEAT) and (
            self.settings.check_quorum or self.settings.pre_vote
        ):
            # Our term ran ahead while we were cut off, and our vote requests may be ignored: tell the leader, or we
            # would never come together again. It steps down, and the next election takes our term over.
            self.send(Message(MessageType.APPEND_REPLY, to=message.sender))
        elif kind is MessageType.PRE_VOTE:
            self._trace_vote("rejected", message)
            self.send(Message(MessageType.PRE_VOTE_REPLY, to=message.sender, term=self.term, reject=True))
        else:
            text = "%x [term: %d] ignored a %s message with lower term from %x [term: %d]"
            self.trace(Level.INFO, text, self.id, self.term, kind, message.sender, message.term)

    def _on_vote_request(self, message: Message) -> None:
        """At most one vote a term, and only for a log that holds all that is committed (Raft paper, 5.2 and 5.4.1).

        Learners vote too: they may be voters already, in a configuration that they have not applied.
        """
        is_vote = message.type is MessageType.VOTE
        kind = MessageType.VOTE_REPLY if is_vote else MessageType.PRE_VOTE_REPLY
        may_vote = (
            self.vote == message.sender
            or (self.vote == NONE and self.leader == NONE)
            or (not is_vote and message.term > self.term)
        )
        if may_vote and self.log.is_up_to_date(message.index, message.log_term):
            self._trace_vote("cast", message)
            # The term of the request: a pre-vote is granted for a term that we are not in.
            self.send(Message(kind, to=message.sender, term=message.term))
            if is_vote:
                self.election_elapsed = 0
                self.vote = message.sender
        else:
            self._trace_vote("rejected", message)
            self.send(Message(kind, to=message.sender, term=self.term, reject=True))

    def _trace_vote(self, verdict: str, message: Message, ending: str = "", *values: int) -> None:
        whose = "for" if verdict == "cast" else "from"
        text = (
            f"%x [logterm: %d, index: %d, vote: %x] {verdict} %s {whose} %x [logterm: %d, index: %d] at term %d{ending}"
        )
        self.trace(
            Level.INFO,
            text,
            self.id,
            self.log.last_term,
            self.log.last_index,
            self.vote,
            message.type,
            message.sender,
            message.log_term,
            message.index,
            self.term,
            *values,
        )

    def _on_storage_reply(self, message: Message) -> Refusal | None:
        """A thread has done a STORAGE_APPEND or a STORAGE_APPLY (and what it was told before)."""
        if message.sender not in (APPEND_THREAD, APPLY_THREAD) or not self.settings.async_storage_writes:
            return Refusal.LOCAL
        if message.type is MessageType.STORAGE_APPLY_REPLY:
            self.log.count_applied(message.entries, self.settings.apply_bytes_max)
            self._entries_applied(message.entries)
            return None
        if message.index > 0:
            if message.term == self.term:
                self.log.became_stable(message.index, message.log_term)
            else:
                # In another term other entries may have taken their place, also under way, and these again: then there
                # would be no telling which of them are in the storage.
                text = "%x [term: %d] ignored entry appends from a %s message with lower term [term: %d]"
                self.trace(Level.INFO, text, self.id, self.term, message.type, message.term)
        if message.snapshot is not None:  # committed, whatever the term
            self.log.snapshot_became_stable(message.snapshot.index)
            self._snapshot_applied(message.snapshot)
        return None

    def reply(self, message: Message, kind: MessageType, *, index: int = 0, context: bytes = b"") -> None:
        self.send(Message(kind, to=message.sender, index=index, context=context))

    def send(self, message: Message) -> None:
        """Queues a message for the next Ready, with our id and term where they are not given."""
        if message.sender == NONE:
            message.sender = self.id
        if message.term == 0 and message.type not in TERMLESS:
            message.term = self.term
        if message.type in self._after_append:
            self._messages_after_append.append(message)
        else:
            self._messages.append(message)

    def reply_to_self(self, kind: MessageType, *, term: int, index: int = 0) -> None:
        """This member's own vote or acknowledgement: it counts like another's once all that is before it is durable."""
        message = Message(kind, self.id, self.id, term, 0, index)
        if self.settings.async_storage_writes:
            self._messages_after_append.append(message)
        else:
            self._own_replies.append(message)

    def entries_to_send(self, low: int) -> Sequence[Entry]:
        """Entries from low on for one append; kept for the next follower, as most are equally far."""
        last = self.log.last_index
        if self._sent_slice[0] != low or self._sent_slice[1] != last:
            self._sent_slice = (low, last, self.log.entries(low, last + 1, self.settings.append_bytes_max))
        return self._sent_slice[2]

    # -- changes of role

    def follow(self, member: int) -> None:
        """Heard from the leader of this term."""
        assert self.leader in (NONE, member), f"two leaders in term {self.term}: {self.leader:x} and {member:x}"
        self.election_elapsed = 0
        self.leader = member

    def become_follower(self, term: int, member: int) -> None:
        """member: who leads the term, or NONE."""
        self._reset(term)
        self.leader = member
        self.role, self._handlers = Role.FOLLOWER, follower.HANDLERS
        self._trace_role("follower")

    def become_pre_candidate(self) -> None:
        assert self.role is not Role.LEADER
        self.votes = {}
        self.leader = NONE
        self.role, self._handlers = Role.PRE_CANDIDATE, candidate.HANDLERS
        self._trace_role("pre-candidate")

    def become_candidate(self) -> None:
        assert self.role is not Role.LEADER
        self._reset(self.term + 1)
        self.vote = self.id
        self.role, self._handlers = Role.CANDIDATE, candidate.HANDLERS
        self._trace_role("candidate")

    def become_leader(self) -> None:
        """Begins with an empty entry: only with an entry of its own term can a leader commit those before it."""
        assert self.role is Role.CANDIDATE, self.role
        self._reset(self.term)
        self.leader = self.id
        self.role, self._handlers = Role.LEADER, leader.HANDLERS
        own = self.tracked[self.id]
        own.match = self.log.durable_index
        own.become_replicate()
        own.active = True
        self.pending_conf_index = self.log.last_index  # a change may be among the entries that are not committed yet
        self._trace_role("leader")
        leader.append(self, [Entry(self.term, self.log.last_index + 1)])

    def _trace_role(self, name: str) -> None:
        self.trace(Level.INFO, f"%x became {name} at term %d", self.id, self.term)

    def _reset(self, term: int) -> None:
        if term != self.term:
            assert term > self.term, (term, self.term)
            self.term, self.vote = term, NONE
        self.leader = NONE
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.election_timeout_ticks = self.settings.election_ticks + self._random(self.settings.election_ticks)
        self.leader_transferee = NONE
        self.votes = {}
        self.reads = ReadRounds()
        self.uncommitted_bytes = 0
        self.commit_unannounced = False
        self._sent_slice = (0, 0, ())  # a range of indexes names the same entries only as long as one leads
        self.tracked = {member: self._new_progress(self.log.last_index + 1) for member in self.tracked}
        self._mark_learners()

    def _use_configuration(self, configuration: Configuration) -> None:
        """Keeps progress for who stays; who is new is probed from the log's end, and not taken for silent at first."""
        self.config, self.halves = configuration, configuration.halves
        before = self.tracked
        self.tracked = {
            member: before.get(member) or self._new_progress(max(self.log.last_index, 1), active=True)
            for member in sorted(configuration.members)
        }
        self._mark_learners()
        self.trace(Level.INFO, "%x switched to configuration %s", self.id, configuration)

    def _new_progress(self, next_index: int, *, active: bool = False) -> Progress:
        return Progress(
            next_index=next_index,
            inflight_max=self.settings.inflight_max,
            inflight_bytes_max=self.settings.inflight_bytes_max,
            active=active,
        )

    def _mark_learners(self) -> None:
        for member, progress in self.tracked.items():
            progress.is_learner = member in self.config.learners

    def restore(self, snapshot: Snapshot) -> bool:
        """Takes a leader's snapshot in place of the log, if it says something new, and to this member."""
        configuration = Configuration.of(snapshot.conf_state)
        log = self.log
        if snapshot.index <= log.committed:
            return False
        if self.id not in configuration.members:
            text = "%x attempted to restore snapshot but it is not in the ConfState %s; should never happen"
            self.trace(Level.WARN, text, self.id, configuration)
            return False
        if log.term(snapshot.index) == snapshot.term:
            self._trace_snapshot("fast-forwarded commit to", snapshot)
            log.commit(snapshot.index)  # the entries are here, only the news of their commit was missing
            return False
        log.restore(snapshot)
        self._use_configuration(configuration)
        self._trace_snapshot("restored", snapshot)
        return True

    def _trace_snapshot(self, verdict: str, snapshot: Snapshot) -> None:
        log = self.log
        text = f"%x [commit: %d, lastindex: %d, lastterm: %d] {verdict} snapshot [index: %d, term: %d]"
        self.trace(
            Level.INFO, text, self.id, log.committed, log.last_index, log.last_term, snapshot.index, snapshot.term
        )

    # -- Ready

    def has_ready(self) -> bool:
        """Whether ready() would give anything. False while one is outstanding."""
        return self._outstanding is None and bool(
            self._messages
            or self._messages_after_append
            or self.read_states
            or self.commit_unannounced
            or self.log.has_unhanded()
            or self.log.has_unapplied()
            or self._hard_handed.commit != self.log.committed
            or self._hard_handed.term != self.term
            or self._hard_handed.vote != self.vote
            or self._soft_handed.leader != self.leader
            or self._soft_handed.role is not self.role
            or self._own_replies
        )

    def ready(self) -> Ready:
        """All that is to be done now. The next one only after advance(), but with asynchronous storage writes."""
        assert self._outstanding is None, "one Ready at a time: advance() is missing"
        if self.commit_unannounced:
            self.commit_unannounced = False
            leader.announce_commit(self)
        log, settings = self.log, self.settings
        entries = log.unhanded()
        snapshot = None if log.snapshot_handed else log.snapshot
        committed = log.unapplied(settings.apply_bytes_max)
        soft_state: SoftState | None = None
        if self._soft_handed.leader != self.leader or self._soft_handed.role is not self.role:
            soft_state = self._soft_handed = SoftState(self.leader, self.role)
        hard_state: HardState | None = None
        before = self._hard_handed
        is_promise = before.term != self.term or before.vote != self.vote
        if is_promise or before.commit != log.committed:
            hard_state = self._hard_handed = HardState(self.term, self.vote, log.committed)
        ready = Ready(
            soft_state=soft_state,
            hard_state=hard_state,
            entries=entries,
            snapshot=snapshot,
            must_sync=bool(entries) or snapshot is not None or is_promise,
            messages=self._messages,
            messages_after_append=self._messages_after_append,
            committed=committed,
            read_states=self.read_states,
        )
        self._messages, self._messages_after_append, self.read_states = [], [], []
        log.hand_over(committed)
        for entry in committed:
            if entry.type:  # not NORMAL, which is 0
                self._conf_changes_due += 1
        if settings.async_storage_writes:
            self._tell_threads(ready)
        else:
            self._own_replies, self._own_replies_handed = [], self._own_replies
            self._outstanding = ready
        return ready

    def _tell_threads(self, ready: Ready) -> None:
        """Makes messages to the storage threads of what is to be written and applied, and of whom to tell then."""
        responses, ready.messages_after_append = ready.messages_after_append, []
        if ready.entries or ready.snapshot is not None or ready.hard_state is not None or responses:
            write = StorageMessage(MessageType.STORAGE_APPEND, to=APPEND_THREAD, sender=self.id, responses=responses)
            write.entries, write.snapshot = ready.entries, ready.snapshot
            if ready.hard_state is not None:
                write.term, write.vote, write.commit = self.term, self.vote, self.log.committed
            # Also of a write without entries: the answer to those before may have been ignored, for its term was over.
            if self.log.has_unstable() or ready.snapshot is not None:
                done = Message(MessageType.STORAGE_APPEND_REPLY, to=self.id, sender=APPEND_THREAD, term=self.term)
                if self.log.has_unstable():
                    done.index, done.log_term = self.log.last_index, self.log.last_term
                done.snapshot = ready.snapshot
                responses.append(done)
            ready.messages.append(write)
        if ready.committed:
            self.log.count_applying(ready.committed, self.settings.apply_bytes_max)
            applied = Message(MessageType.STORAGE_APPLY_REPLY, to=self.id, sender=APPLY_THREAD, entries=ready.committed)
            ready.messages.append(
                StorageMessage(
                    MessageType.STORAGE_APPLY,
                    to=APPLY_THREAD,
                    sender=self.id,
                    entries=ready.committed,
                    responses=[applied],
                )
            )

    def advance(self) -> None:
        """The outstanding Ready is done: durable, sent and applied."""
        ready = self._outstanding
        assert ready is not None, "no Ready is outstanding"
        assert self._conf_changes_due == 0, f"{self._conf_changes_due} conf changes of the Ready were not applied"
        self._outstanding = None
        self.log.became_durable(ready.entries, ready.snapshot)
        if ready.hard_state is not None:
            self._storage.set_hard_state(ready.hard_state)
        for reply in self._own_replies_handed:
            self.step(reply)
        if ready.snapshot is not None:
            self._snapshot_applied(ready.snapshot)
        if ready.committed:
            self._entries_applied(ready.committed)

    def _snapshot_applied(self, snapshot: Snapshot) -> None:
        self.log.became_applied(max(self.log.applied, snapshot.index))
        self._config_applied = Configuration.of(snapshot.conf_state)

    def _entries_applied(self, entries: Sequence[Entry]) -> None:
        self.log.became_applied(max(self.log.applied, entries[-1].index))
        if self.config.auto_leave and self.role is Role.LEADER and self.log.applied >= self.pending_conf_index:
            leader.leave_joint(self)
        if self.settings.uncommitted_bytes_max is not None:
            self.uncommitted_bytes = max(0, self.uncommitted_bytes - leader.payload_bytes(entries))
