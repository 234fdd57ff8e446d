"""What the consensus core says and stores: entries, messages, hard state, configurations.

Plain values with raftpb's names and numbers (etcd-io/raft), and no encoding: bytes are made in storage/ and peer/.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

NONE = 0  # no member: ids are never 0
APPEND_THREAD = (1 << 64) - 1  # who writes this member's log, with asynchronous storage writes
APPLY_THREAD = (1 << 64) - 2  # who applies its committed entries then


class EntryType(IntEnum):
    NORMAL = 0
    CONF_CHANGE = 1
    CONF_CHANGE_V2 = 2


class MessageType(IntEnum):
    """raftpb.MessageType, by its numbers on the wire."""

    HUP = 0
    BEAT = 1
    PROPOSE = 2
    APPEND = 3
    APPEND_REPLY = 4
    VOTE = 5
    VOTE_REPLY = 6
    SNAPSHOT = 7
    HEARTBEAT = 8
    HEARTBEAT_REPLY = 9
    UNREACHABLE = 10
    SNAPSHOT_STATUS = 11
    CHECK_QUORUM = 12
    TRANSFER_LEADER = 13
    TIMEOUT_NOW = 14
    READ_INDEX = 15
    READ_INDEX_REPLY = 16
    PRE_VOTE = 17
    PRE_VOTE_REPLY = 18
    STORAGE_APPEND = 19
    STORAGE_APPEND_REPLY = 20
    STORAGE_APPLY = 21
    STORAGE_APPLY_REPLY = 22
    FORGET_LEADER = 23


class Entry:
    """One entry of the log. Hot path: a class with slots, because a put makes one on every member.

    encoded: its raftpb bytes, once somebody has made or received them; the WAL and the peers share them.
    """

    __slots__ = ("data", "encoded", "index", "term", "type")

    def __init__(self, term: int, index: int, data: bytes = b"", type: int = 0, encoded: bytes | None = None) -> None:  # noqa: A002 - raftpb's name
        self.term = term
        self.index = index
        self.data = data
        self.type = type
        self.encoded = encoded

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Entry):
            return NotImplemented
        return (self.term, self.index, self.type, self.data) == (other.term, other.index, other.type, other.data)

    def __hash__(self) -> int:
        return hash((self.term, self.index))

    def __repr__(self) -> str:
        return f"Entry({self.term}/{self.index} type={self.type} {self.data[:32]!r})"


@dataclass(frozen=True, slots=True)
class HardState:
    """What a member must remember before it answers anybody (Raft paper, figure 2)."""

    term: int = 0
    vote: int = NONE
    commit: int = 0


@dataclass(frozen=True, slots=True)
class ConfState:
    """A configuration as the log and snapshots carry it. Ids ascending. The two outgoing fields are joint consensus."""

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    voters_outgoing: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()
    auto_leave: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state machine's state at an index, opaque here."""

    index: int = 0
    term: int = 0
    conf_state: ConfState = ConfState()
    data: bytes = b""


@dataclass(slots=True)
class Message:
    """raftpb.Message. `to` NONE means: for whoever owns the transport to drop.

    index, log_term: of the entry before the entries (APPEND); last match or refused index (APPEND_REPLY).
    reject_hint:     where the follower suggests to continue (APPEND_REPLY with reject).
    context:         CAMPAIGN_TRANSFER for votes, the request's id for heartbeats of a ReadIndex round.
    """

    type: MessageType
    to: int = NONE
    sender: int = NONE
    term: int = 0
    log_term: int = 0
    index: int = 0
    entries: Sequence[Entry] = ()
    commit: int = 0
    snapshot: Snapshot | None = None
    reject: bool = False
    reject_hint: int = 0
    context: bytes = b""


@dataclass(slots=True)
class StorageMessage(Message):
    """What a storage thread of this member is to do (STORAGE_APPEND, STORAGE_APPLY); it never travels.

    term, vote, commit: the hard state to write; all 0: unchanged.
    responses:          to deliver when that, and all that the same thread was told before, is done: to this member too.
    """

    vote: int = NONE
    responses: list[Message] = field(default_factory=list)


CAMPAIGN_TRANSFER = b"CampaignTransfer"  # a vote asked for by the leader itself: its lease is not respected


class ConfChangeType(IntEnum):
    ADD_NODE = 0
    REMOVE_NODE = 1
    UPDATE_NODE = 2
    ADD_LEARNER = 3


@dataclass(frozen=True, slots=True)
class ConfChange:
    """One change of the configuration. node_id NONE: refused at apply, changes nothing, ends the pending change."""

    type: ConfChangeType
    node_id: int
    id: int = 0
    context: bytes = b""


class ConfChangeTransition(IntEnum):
    """How a ConfChangeV2 gets from one configuration to the next.

    AUTO: at once if it alters at most one voter, else as JOINT_IMPLICIT. JOINT_IMPLICIT: through a joint configuration,
    which the leader ends by itself. JOINT_EXPLICIT: through one that ends when somebody proposes an empty ConfChangeV2.
    """

    AUTO = 0
    JOINT_IMPLICIT = 1
    JOINT_EXPLICIT = 2


@dataclass(frozen=True, slots=True)
class ConfChangeSingle:
    """One of the changes in a ConfChangeV2."""

    type: ConfChangeType
    node_id: int


@dataclass(frozen=True, slots=True)
class ConfChangeV2:
    """Any number of changes at once. The one of nothing at all ends a joint configuration."""

    transition: ConfChangeTransition = ConfChangeTransition.AUTO
    changes: tuple[ConfChangeSingle, ...] = ()
    context: bytes = b""

    @property
    def leaves_joint(self) -> bool:
        return self.transition is ConfChangeTransition.AUTO and not self.changes

    @property
    def enters_joint(self) -> bool:
        return self.transition is not ConfChangeTransition.AUTO or len(self.changes) > 1


@dataclass(frozen=True, slots=True)
class ReadState:
    """A ReadIndex round is confirmed: what was asked under `context` may be read once `index` is applied."""

    index: int
    context: bytes
