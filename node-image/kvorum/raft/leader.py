"""What a leader does: appends, replicates, commits, confirms reads, hands over.

Hot path: a batch of proposals is one append to the log and one message to each follower; the same list of entries
serves all followers that are equally far. Nothing here waits for the disk: messages leave while the leader's own
entries are written, and its own acknowledgement is a message to itself that counts when they are durable.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kvorum.raft import change_codec, quorum
from kvorum.raft.message import NONE, ConfChangeV2, Entry, EntryType, Message, MessageType, ReadState
from kvorum.raft.progress import Progress, ProgressState
from kvorum.raft.trace import Level

if TYPE_CHECKING:
    from kvorum.raft.core import RawNode


# -- proposals


def on_propose(raft: "RawNode", message: Message) -> bool:
    """Entries of type and data only, from here or from a follower. False: dropped, who proposed must ask again."""
    if not message.entries or not takes_proposals(raft):
        return False
    term, index = raft.term, raft.log.last_index
    entries: list[Entry] = []
    for proposed in message.entries:
        index += 1
        if proposed.type == EntryType.NORMAL:
            entries.append(Entry(term, index, proposed.data))
        elif is_change_refused(raft, proposed):
            entries.append(Entry(term, index))  # takes the place of the change: who proposed may count
        else:
            raft.pending_conf_index = index
            entries.append(Entry(term, index, proposed.data, proposed.type))
    return append(raft, entries)


def propose(raft: "RawNode", data: Sequence[bytes]) -> bool:
    """The same for this member's own normal proposals, with nothing in between."""
    if not takes_proposals(raft):
        return False
    term = raft.term
    return append(raft, [Entry(term, index, value) for index, value in enumerate(data, raft.log.last_index + 1)])


def takes_proposals(raft: "RawNode") -> bool:
    """Not while it hands over, and not for a group that it was removed from."""
    if raft.id not in raft.tracked:
        return False
    if raft.leader_transferee != NONE:
        text = "%x [term %d] transfer leadership to %x is in progress; dropping proposal"
        raft.trace(Level.DEBUG, text, raft.id, raft.term, raft.leader_transferee)
        return False
    return True


def is_change_refused(raft: "RawNode", entry: Entry) -> bool:
    """One change at a time, applied before the next is proposed; out of a joint configuration before another change.

    Seen from the configuration in force here, which may be behind the log: the last word is who applies it.
    """
    try:
        change = change_codec.decode(entry) if entry.type == EntryType.CONF_CHANGE_V2 else None
    except change_codec.NotAChange:
        return True  # nobody could apply it
    ends_joint = isinstance(change, ConfChangeV2) and not change.changes
    if raft.pending_conf_index > raft.log.applied:
        why = f"possible unapplied conf change at index {raft.pending_conf_index} (applied to {raft.log.applied})"
    elif raft.config.is_joint and not ends_joint:
        why = "must transition out of joint config first"
    elif ends_joint and not raft.config.is_joint:
        why = "not in joint state; refusing empty conf change"
    else:
        return False
    if raft.settings.checks_changes:
        raft.trace(Level.INFO, "%x ignoring conf change %s at config %s: %s", raft.id, entry, raft.config, why)
    return raft.settings.checks_changes


def leave_joint(raft: "RawNode") -> None:
    """The configuration in force is one that the leader itself ends. A change without data says so.

    Asked at every applied entry until it is in the log: while a handover is under way it is not taken.
    """
    configuration = raft.config
    change = Message(MessageType.PROPOSE, entries=[Entry(0, 0, b"", EntryType.CONF_CHANGE_V2)])
    if on_propose(raft, change):
        raft.trace(Level.INFO, "initiating automatic transition out of joint configuration %s", configuration)
    else:
        text = "not initiating automatic transition out of joint configuration %s: raft proposal dropped"
        raft.trace(Level.DEBUG, text, configuration)


def append(raft: "RawNode", entries: list[Entry]) -> bool:
    """Adds to the log and sends it. False: too much in it is not applied yet."""
    if raft.settings.uncommitted_bytes_max is not None and not count_uncommitted(raft, entries):
        return False
    raft.log.append(entries)
    raft.reply_to_self(MessageType.APPEND_REPLY, term=raft.term, index=entries[-1].index)
    broadcast_append(raft)
    return True


def count_uncommitted(raft: "RawNode", entries: Sequence[Entry]) -> bool:
    """False if the limit would be exceeded. An empty entry never does: a new leader's, and the end of a joint
    configuration, must get in; nor do the first ones, however large."""
    added = payload_bytes(entries)
    limit = raft.settings.uncommitted_bytes_max
    assert limit is not None
    if raft.uncommitted_bytes > 0 and added > 0 and raft.uncommitted_bytes + added > limit:
        text = "%x appending new entries to log would exceed uncommitted entry size limit; dropping proposal"
        raft.trace(Level.WARN, text, raft.id)
        return False
    raft.uncommitted_bytes += added
    return True


def payload_bytes(entries: Sequence[Entry]) -> int:
    return sum(len(entry.data) for entry in entries)


# -- replication


def broadcast_append(raft: "RawNode") -> None:
    """Sends each other member what it lacks, as far as flow control allows; tells the commit index on the way."""
    for member, progress in raft.tracked.items():
        if member != raft.id:
            send_append(raft, member, progress)
            if progress.next <= raft.log.last_index:
                send_remaining(raft, member, progress)


def send_append(raft: "RawNode", member: int, progress: Progress, *, even_if_empty: bool = True) -> bool:
    """One append (or snapshot) to a member; False if nothing was sent: it is paused, or there is nothing for it."""
    if progress.is_paused:
        return False
    log = raft.log
    before = progress.next - 1
    log_term = log.term(before)
    if log_term is None:  # compacted
        return send_snapshot(raft, member, progress)
    # Full, and yet not paused: it has answered a heartbeat. An append without entries shows whether all was lost.
    entries = raft.entries_to_send(progress.next) if before < log.last_index and not progress.is_full else ()
    if not entries and not even_if_empty:
        return False
    progress.commit_sent = log.committed
    raft.send(
        Message(MessageType.APPEND, to=member, index=before, log_term=log_term, entries=entries, commit=log.committed)
    )
    progress.sent(len(entries), 0 if progress.inflight_bytes_max is None else payload_bytes(entries))
    return True


def send_remaining(raft: "RawNode", member: int, progress: Progress) -> None:
    """More appends, while there are entries and the member takes them without waiting. Bounded by inflight_max."""
    while progress.next <= raft.log.last_index and send_append(raft, member, progress, even_if_empty=False):
        pass


def send_snapshot(raft: "RawNode", member: int, progress: Progress) -> bool:
    """In place of entries that are compacted. Not to a silent member: it would only be made for nothing."""
    if not progress.active:
        raft.trace(Level.DEBUG, "ignore sending snapshot to %x since it is not recently active", member)
        return False
    log = raft.log
    snapshot = log.snapshot_to_send()
    if snapshot is None:
        text = "%x failed to send snapshot to %x because snapshot is temporarily unavailable"
        raft.trace(Level.DEBUG, text, raft.id, member)
        return False
    text = "%x [firstindex: %d, commit: %d] sent snapshot[index: %d, term: %d] to %x [%s]"
    at = (log.first_index, log.committed, snapshot.index, snapshot.term)
    raft.trace(Level.DEBUG, text, raft.id, *at, member, progress)
    progress.become_snapshot(snapshot.index)
    raft.trace(Level.DEBUG, "%x paused sending replication messages to %x [%s]", raft.id, member, progress)
    raft.send(Message(MessageType.SNAPSHOT, to=member, snapshot=snapshot))
    return True


def commit_rose(raft: "RawNode") -> None:
    """All are to hear of it: at once, or with the next Ready if nothing else tells them until then."""
    if raft.settings.tells_commit_at_once:
        broadcast_append(raft)
    else:
        raft.commit_unannounced = True


def announce_commit(raft: "RawNode") -> None:
    """Tells the commit index to whom no append has carried it. Once a Ready, however many acknowledgements came."""
    committed = raft.log.committed
    for member, progress in raft.tracked.items():
        if member != raft.id and progress.may_raise_commit(committed):
            send_append(raft, member, progress)


def on_append_reply(raft: "RawNode", message: Message) -> None:
    sender = message.sender
    progress = raft.tracked[sender]  # step lets no answer of a stranger through
    progress.active = True
    if message.reject:
        on_refusal(raft, message, progress)
        return
    if message.index > raft.log.last_index:
        return  # no entry of ours: an answer that cannot be meant for this log
    advanced = progress.acknowledge(message.index)
    if not advanced and not (progress.state is ProgressState.PROBE and message.index == progress.match):
        return
    if progress.state is not ProgressState.REPLICATE:
        end_probe_or_snapshot(raft, sender, progress)
    is_own = sender == raft.id
    # What is committed already cannot be agreed on anew.
    has_risen = progress.match > raft.log.committed and commit_agreed(raft)
    if is_own:
        return
    if not has_risen and progress.may_raise_commit(raft.log.committed):
        if raft.settings.tells_commit_at_once:
            send_append(raft, sender, progress)
        else:
            raft.commit_unannounced = True  # also of what was committed while it was paused
    send_remaining(raft, sender, progress)
    if sender == raft.leader_transferee and progress.match == raft.log.last_index:
        raft.trace(Level.INFO, "%x sent MsgTimeoutNow to %x after received MsgAppResp", raft.id, sender)
        raft.send(Message(MessageType.TIMEOUT_NOW, to=sender))


def end_probe_or_snapshot(raft: "RawNode", member: int, progress: Progress) -> None:
    """The member's log ends at a known index: it can be sent entries ahead, if we have those that follow."""
    if progress.state is ProgressState.SNAPSHOT:
        if progress.match + 1 < raft.log.first_index:
            return
        text = "%x recovered from needing snapshot, resumed sending replication messages to %x [%s]"
        raft.trace(Level.DEBUG, text, raft.id, member, progress)
    progress.become_replicate()


def on_refusal(raft: "RawNode", message: Message, progress: Progress) -> None:
    """The member lacks the entry before the append, and tells an index of its log and the term there.

    What we have of later terms at or below that index cannot be in its log, so the next probe goes below it.
    """
    text = "%x received MsgAppResp(rejected, hint: (index %d, term %d)) from %x for index %d"
    hint, hint_term = message.reject_hint, message.log_term
    raft.trace(Level.DEBUG, text, raft.id, hint, hint_term, message.sender, message.index)
    if hint_term > 0:
        hint = raft.log.last_with_term_at_most(hint_term, hint)
    if progress.refuse(message.index, hint):
        raft.trace(Level.DEBUG, "%x decreased progress of %x to [%s]", raft.id, message.sender, progress)
        if progress.state is ProgressState.REPLICATE:
            progress.become_probe()
        send_append(raft, message.sender, progress)


def commit_agreed(raft: "RawNode") -> bool:
    """Commits what a quorum has on disk, if it is of this term; True if that is more than before.

    Entries of earlier terms are committed with one of this term, never by counting (Raft paper, 5.4.2).
    """
    tracked, log = raft.tracked, raft.log
    index = quorum.agreed_index([[tracked[voter].match for voter in half] for half in raft.halves])
    if index <= log.committed or log.term(index) != raft.term:
        return False
    log.commit(index)
    for request in raft.reads.take_postponed():
        begin_read(raft, request)
    commit_rose(raft)
    return True


def on_unreachable(raft: "RawNode", member: int) -> None:
    """A message to it was lost: stop sending ahead, ask where it is."""
    progress = tracked_progress(raft, member)
    if progress is None:
        return
    if progress.state is ProgressState.REPLICATE:
        progress.become_probe()
    text = "%x failed to send message to %x because it is unreachable [%s]"
    raft.trace(Level.DEBUG, text, raft.id, member, progress)


def tracked_progress(raft: "RawNode", member: int) -> Progress | None:
    progress = raft.tracked.get(member)
    if progress is None:
        raft.trace(Level.DEBUG, "%x no progress available for %x", raft.id, member)
    return progress


def on_snapshot_status(raft: "RawNode", member: int, *, arrived: bool) -> None:
    progress = tracked_progress(raft, member)
    if progress is None or progress.state is not ProgressState.SNAPSHOT:
        return
    if not arrived:
        progress.pending_snapshot = 0
    progress.become_probe()
    text = f"%x snapshot {'succeeded' if arrived else 'failed'}, resumed sending replication messages to %x [%s]"
    raft.trace(Level.DEBUG, text, raft.id, member, progress)
    progress.is_waiting = True  # arrived: its own answer comes first. Failed: one heartbeat interval before another try


# -- heartbeats, the quorum, reads


def broadcast_heartbeat(raft: "RawNode", context: bytes) -> None:
    for member, progress in raft.tracked.items():
        if member != raft.id:
            # Heartbeats may overtake appends: tell no commit index that the member is not known to have.
            commit = min(progress.match, raft.log.committed)
            raft.send(Message(MessageType.HEARTBEAT, to=member, commit=commit, context=context))
            progress.commit_sent = commit


def on_heartbeat_reply(raft: "RawNode", message: Message) -> None:
    progress = raft.tracked[message.sender]  # step lets no answer of a stranger through
    progress.active = True
    progress.is_waiting = False
    # Without entries it still shows whether the last ones were lost, and ends a probe.
    if progress.match < raft.log.last_index or progress.state is ProgressState.PROBE:
        send_append(raft, message.sender, progress)
    acknowledged = raft.reads.acknowledge(message.context, message.sender)  # by nobody, if no round has this context
    if quorum.is_reached(raft.halves, acknowledged):
        release_reads(raft, message.context)


def check_quorum(raft: "RawNode") -> None:
    """Steps down if no quorum was heard from within an election timeout: others may have elected somebody else."""
    active = {member for member, progress in raft.tracked.items() if progress.active}
    if not quorum.is_reached(raft.halves, active):
        raft.trace(Level.WARN, "%x stepped down to follower since quorum is not active", raft.id)
        raft.become_follower(raft.term, NONE)
        return
    for member, progress in raft.tracked.items():
        if member != raft.id:
            progress.active = False


def on_read_index(raft: "RawNode", message: Message) -> bool:
    """A read, from here or forwarded: one entry whose data is the context."""
    if len(message.entries) != 1:
        return False
    if raft.log.term(raft.log.committed) != raft.term:
        # Its predecessor may have committed, and acknowledged, more than this leader knows to be committed.
        return raft.reads.postpone(message)
    return begin_read(raft, message)


def begin_read(raft: "RawNode", request: Message) -> bool:
    context = request.entries[0].data
    if raft.settings.reads_by_lease:
        answer_read(raft, request, raft.log.committed)
        return True
    if not raft.reads.begin(context, request, raft.log.committed):
        return False
    if quorum.is_reached(raft.halves, raft.reads.acknowledge(context, raft.id)):
        release_reads(raft, context)  # the only voter
    else:
        broadcast_heartbeat(raft, context)
    return True


def release_reads(raft: "RawNode", context: bytes) -> None:
    for confirmed in raft.reads.release(context):
        answer_read(raft, confirmed.request, confirmed.index)


def answer_read(raft: "RawNode", request: Message, index: int) -> None:
    if request.sender in (NONE, raft.id):
        raft.read_states.append(ReadState(index, request.entries[0].data))
    else:
        raft.send(Message(MessageType.READ_INDEX_REPLY, to=request.sender, index=index, entries=request.entries))


# -- handing over


def on_transfer_leader(raft: "RawNode", message: Message) -> None:
    """The message's sender is to lead, whoever brought the wish. Proposals are dropped until that is over."""
    transferee, before = message.sender, raft.leader_transferee
    progress = tracked_progress(raft, transferee)
    if progress is None:
        return
    if progress.is_learner:
        raft.trace(Level.DEBUG, "%x is learner. Ignored transferring leadership", raft.id)
        return
    if transferee == before:
        text = "%x [term %d] transfer leadership to %x is in progress, ignores request to same node %x"
        raft.trace(Level.INFO, text, raft.id, raft.term, transferee, transferee)
        return
    if before != NONE:
        raft.leader_transferee = NONE
        text = "%x [term %d] abort previous transferring leadership to %x"
        raft.trace(Level.INFO, text, raft.id, raft.term, before)
    if transferee == raft.id:
        raft.trace(Level.DEBUG, "%x is already leader. Ignored transferring leadership to self", raft.id)
        return
    raft.trace(Level.INFO, "%x [term %d] starts to transfer leadership to %x", raft.id, raft.term, transferee)
    raft.election_elapsed = 0  # it has one election timeout
    raft.leader_transferee = transferee
    if progress.match == raft.log.last_index:
        raft.send(Message(MessageType.TIMEOUT_NOW, to=transferee))
        text = "%x sends MsgTimeoutNow to %x immediately as %x already has up-to-date log"
        raft.trace(Level.INFO, text, raft.id, transferee, transferee)
    else:
        send_append(raft, transferee, progress)


HANDLERS: dict[MessageType, Callable[["RawNode", Message], bool | None]] = {
    MessageType.PROPOSE: on_propose,
    MessageType.APPEND_REPLY: on_append_reply,
    MessageType.HEARTBEAT_REPLY: on_heartbeat_reply,
    MessageType.READ_INDEX: on_read_index,
    MessageType.TRANSFER_LEADER: on_transfer_leader,
}
