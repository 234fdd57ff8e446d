"""How etcd's raft writes its values as text: messages, entries, states, configurations, progress."""

from collections.abc import Iterable

from kvorum.raft import change_codec
from kvorum.raft.config_change import Configuration
from kvorum.raft.core import Ready, Role, SoftState
from kvorum.raft.log import Log
from kvorum.raft.message import (
    APPEND_THREAD,
    APPLY_THREAD,
    NONE,
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Snapshot,
    StorageMessage,
)
from kvorum.raft.progress import Progress, ProgressState

MESSAGES = {
    MessageType.HUP: "MsgHup",
    MessageType.BEAT: "MsgBeat",
    MessageType.PROPOSE: "MsgProp",
    MessageType.APPEND: "MsgApp",
    MessageType.APPEND_REPLY: "MsgAppResp",
    MessageType.VOTE: "MsgVote",
    MessageType.VOTE_REPLY: "MsgVoteResp",
    MessageType.SNAPSHOT: "MsgSnap",
    MessageType.HEARTBEAT: "MsgHeartbeat",
    MessageType.HEARTBEAT_REPLY: "MsgHeartbeatResp",
    MessageType.UNREACHABLE: "MsgUnreachable",
    MessageType.SNAPSHOT_STATUS: "MsgSnapStatus",
    MessageType.CHECK_QUORUM: "MsgCheckQuorum",
    MessageType.TRANSFER_LEADER: "MsgTransferLeader",
    MessageType.TIMEOUT_NOW: "MsgTimeoutNow",
    MessageType.READ_INDEX: "MsgReadIndex",
    MessageType.READ_INDEX_REPLY: "MsgReadIndexResp",
    MessageType.PRE_VOTE: "MsgPreVote",
    MessageType.PRE_VOTE_REPLY: "MsgPreVoteResp",
    MessageType.STORAGE_APPEND: "MsgStorageAppend",
    MessageType.STORAGE_APPEND_REPLY: "MsgStorageAppendResp",
    MessageType.STORAGE_APPLY: "MsgStorageApply",
    MessageType.STORAGE_APPLY_REPLY: "MsgStorageApplyResp",
    MessageType.FORGET_LEADER: "MsgForgetLeader",
}
ENTRIES = {
    EntryType.NORMAL: "EntryNormal",
    EntryType.CONF_CHANGE: "EntryConfChange",
    EntryType.CONF_CHANGE_V2: "EntryConfChangeV2",
}
ROLES = {
    Role.FOLLOWER: "StateFollower",
    Role.PRE_CANDIDATE: "StatePreCandidate",
    Role.CANDIDATE: "StateCandidate",
    Role.LEADER: "StateLeader",
}
PROGRESS_STATES = {
    ProgressState.PROBE: "StateProbe",
    ProgressState.REPLICATE: "StateReplicate",
    ProgressState.SNAPSHOT: "StateSnapshot",
}
CHANGES = {  # the letter in an entry, and the name in a log line
    ConfChangeType.ADD_NODE: ("v", "ConfChangeAddNode"),
    ConfChangeType.REMOVE_NODE: ("r", "ConfChangeRemoveNode"),
    ConfChangeType.UPDATE_NODE: ("u", "ConfChangeUpdateNode"),
    ConfChangeType.ADD_LEARNER: ("l", "ConfChangeAddLearnerNode"),
}
TRANSITIONS = {
    ConfChangeTransition.AUTO: "ConfChangeTransitionAuto",
    ConfChangeTransition.JOINT_IMPLICIT: "ConfChangeTransitionJointImplicit",
    ConfChangeTransition.JOINT_EXPLICIT: "ConfChangeTransitionJointExplicit",
}
TARGETS = {NONE: "None", APPEND_THREAD: "AppendThread", APPLY_THREAD: "ApplyThread"}
ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
ESCAPES |= {"\\": "\\\\", '"': '\\"'}


# -- what a trace carries


def traced(template: str, values: Iterable[object]) -> str:
    """A line of the core's trace."""
    return template % tuple(_traced(value) for value in values)


def _traced(value: object) -> object:
    if isinstance(value, MessageType):
        return MESSAGES[value]
    if isinstance(value, Role):
        return ROLES[value]
    if isinstance(value, Configuration):
        return configuration(value)
    if isinstance(value, Progress):
        return progress(value)
    if isinstance(value, Log):
        return log(value)
    if isinstance(value, Entry):
        return change(value)
    return value


def change(value: Entry) -> str:
    """The change that an entry proposes, as Go prints a structure: `{ConfChangeTransitionAuto [] []}`."""
    proposed = change_codec.decode(value)
    context = f"[{' '.join(map(str, proposed.context))}]"
    if isinstance(proposed, ConfChange):
        return f"{{{CHANGES[proposed.type][1]} {proposed.node_id} {context} {proposed.id}}}"
    singles = " ".join(f"{{{CHANGES[single.type][1]} {single.node_id}}}" for single in proposed.changes)
    return f"{{{TRANSITIONS[proposed.transition]} [{singles}] {context}}}"


# -- the log, and what is in it


def log(value: Log) -> str:
    unstable_count = value.last_index + 1 - value.offset
    return (
        f"committed={value.committed}, applied={value.applied}, applying={value.applying}, "
        f"unstable.offset={value.offset}, unstable.offsetInProgress={value.handed_offset}, "
        f"len(unstable.Entries)={unstable_count}"
    )


def entry(value: Entry) -> str:
    """`1/12 EntryNormal "prop"`, `1/5 EntryConfChangeV2 v2 l3`."""
    text = f"{value.term}/{value.index} {ENTRIES[EntryType(value.type)]}"
    if value.type == EntryType.NORMAL:
        return f"{text} {quoted(value.data)}"
    proposed = change_codec.decode(value)
    if isinstance(proposed, ConfChange):
        changes: Iterable[ConfChangeSingle] = [ConfChangeSingle(proposed.type, proposed.node_id)]
    else:
        changes = proposed.changes
    return text + "".join(f" {CHANGES[single.type][0]}{single.node_id}" for single in changes)


def quoted(data: bytes) -> str:
    """As Go's %q: what is no printable character is escaped."""
    characters = data.decode(errors="surrogateescape")
    return f'"{"".join(map(_escaped, characters))}"'


def _escaped(character: str) -> str:
    if character in ESCAPES:
        return ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def hard_state(value: HardState) -> str:
    vote = f" Vote:{value.vote}" if value.vote else ""
    return f"Term:{value.term}{vote} Commit:{value.commit}"


def soft_state(value: SoftState) -> str:
    return f"Lead:{value.leader} State:{ROLES[value.role]}"


def snapshot(value: Snapshot) -> str:
    return f"Index:{value.index} Term:{value.term} ConfState:{conf_state(value.conf_state)}"


# -- messages and Readys


def message(value: Message, indent: str = "") -> str:
    """`1->2 MsgApp Term:1 Log:1/11 Commit:11 Entries:[1/12 EntryNormal "prop"]`; several entries on lines of theirs."""
    text = f"{indent}{target(value.sender)}->{target(value.to)} {MESSAGES[value.type]} Term:{value.term} "
    text += f"Log:{value.log_term}/{value.index}"
    if value.reject:
        text += f" Rejected (Hint: {value.reject_hint})"
    if value.commit:
        text += f" Commit:{value.commit}"
    if isinstance(value, StorageMessage) and value.vote:
        text += f" Vote:{value.vote}"
    if len(value.entries) == 1:
        text += f" Entries:[{entry(value.entries[0])}]"
    elif value.entries:
        text += " Entries:[" + "".join(f"\n{indent}  {entry(one)}" for one in value.entries) + f"\n{indent}]"
    if value.snapshot is not None and value.snapshot.index:
        text += f"\n{indent}  Snapshot: {snapshot(value.snapshot)}"
    if isinstance(value, StorageMessage) and value.responses:
        text += " Responses:[" + "".join("\n" + message(one, f"{indent}  ") for one in value.responses)
        text += f"\n{indent}]"
    return text


def target(member: int) -> str:
    return TARGETS.get(member, f"{member:x}")


def ready(value: Ready, messages: list[Message], *, must_sync: bool) -> str:
    """What there is, one line each, with an end of line; `<empty Ready>` without one.

    messages, must_sync: in the order that etcd has them in, and as etcd counts it.
    """
    lines: list[str] = []
    if value.soft_state is not None:
        lines.append(soft_state(value.soft_state))
    if value.hard_state is not None:
        lines.append(f"HardState {hard_state(value.hard_state)}")
    if value.read_states:
        states = (f"{{{state.index} [{' '.join(map(str, state.context))}]}}" for state in value.read_states)
        lines.append(f"ReadStates [{' '.join(states)}]")
    if value.entries:
        lines += ["Entries:", *map(entry, value.entries)]
    if value.snapshot is not None:
        lines.append(f"Snapshot {snapshot(value.snapshot)}")
    if value.committed:
        lines += ["CommittedEntries:", *map(entry, value.committed)]
    if messages:
        lines += ["Messages:", *map(message, messages)]
    if not lines:
        return "<empty Ready>"
    return "\n".join([f"Ready MustSync={str(must_sync).lower()}:", *lines]) + "\n"


# -- configurations and progress


def members(ids: Iterable[int]) -> str:
    return f"({' '.join(map(str, sorted(ids)))})"


def configuration(config: Configuration) -> str:
    """`voters=(1 2)&&(1) learners=(3) learners_next=(4) autoleave`, without what is empty."""
    text = f"voters={'&&'.join(map(members, config.halves))}"
    if config.learners:
        text += f" learners={members(config.learners)}"
    if config.learners_next:
        text += f" learners_next={members(config.learners_next)}"
    return text + " autoleave" * config.auto_leave


def conf_state(value: ConfState) -> str:
    """`Voters:[1 2] VotersOutgoing:[] Learners:[3] LearnersNext:[] AutoLeave:false`."""
    parts = (
        ("Voters", value.voters),
        ("VotersOutgoing", value.voters_outgoing),
        ("Learners", value.learners),
        ("LearnersNext", value.learners_next),
    )
    text = " ".join(f"{name}:[{' '.join(map(str, ids))}]" for name, ids in parts)
    return f"{text} AutoLeave:{str(value.auto_leave).lower()}"


def progress(value: Progress) -> str:
    """`StateReplicate match=14 next=15`, then what is remarkable: learner, paused, pendingSnap, inactive, inflight."""
    text = f"{PROGRESS_STATES[value.state]} match={value.match} next={value.next}"
    text += " learner" * value.is_learner + " paused" * value.is_paused
    if value.pending_snapshot:
        text += f" pendingSnap={value.pending_snapshot}"
    text += " inactive" * (not value.active)
    if value.inflight:
        text += f" inflight={len(value.inflight)}"
        text += "[full]" * value.is_full
    return text
