"""What a leader does: appends, replicates, commits, confirms reads, hands over.

Hot path: a batch of proposals is one append to the log and one message to each follower; the same list of entries
serves all followers that are equally far. Nothing here waits for the disk: messages leave while the leader's own
entries are written, and its own acknowledgement counts when RawNode.advance says that they are durable.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kvorum.raft import quorum
from kvorum.raft.message import NONE, Entry, EntryType, Message, MessageType, ReadState
from kvorum.raft.progress import Progress, ProgressState

if TYPE_CHECKING:
    from kvorum.raft.core import RawNode


# -- proposals


def on_propose(raft: "RawNode", message: Message) -> bool:
    """Entries of type and data only, from here or from a follower. False: dropped, who proposed must ask again."""
    if raft.leader_transferee != NONE or not message.entries:
        return False
    term, index = raft.term, raft.log.last_index
    entries: list[Entry] = []
    for proposed in message.entries:
        index += 1
        if proposed.type == EntryType.NORMAL:
            entries.append(Entry(term, index, proposed.data))
        elif raft.pending_conf_index > raft.log.applied or raft.config.is_joint:
            # One change at a time, and it must be applied before the next: an empty entry takes the refused one's
            # place.
            entries.append(Entry(term, index))
        else:
            raft.pending_conf_index = index
            entries.append(Entry(term, index, proposed.data, proposed.type))
    append(raft, entries)
    return True


def propose(raft: "RawNode", data: Sequence[bytes]) -> bool:
    """The same for this member's own normal proposals, with nothing in between."""
    if raft.leader_transferee != NONE:
        return False
    term = raft.term
    append(raft, [Entry(term, index, value) for index, value in enumerate(data, raft.log.last_index + 1)])
    return True


def append(raft: "RawNode", entries: list[Entry]) -> None:
    raft.log.append(entries)
    broadcast_append(raft)


# -- replication


def broadcast_append(raft: "RawNode") -> None:
    """Sends each other member what it lacks, as far as flow control allows; tells the commit index on the way."""
    for member, progress in raft.tracked.items():
        if member != raft.id:
            send_remaining(raft, member, progress)


def send_append(raft: "RawNode", member: int, progress: Progress, *, even_if_empty: bool = True) -> bool:
    """One append (or snapshot) to a member; False if nothing was sent: it is paused, or there is nothing for it."""
    if progress.is_paused:
        return False
    log = raft.log
    before = progress.next - 1
    log_term = log.term(before) if before >= log.first_index - 1 else None
    if log_term is None:
        return send_snapshot(raft, member, progress)
    entries = raft.entries_to_send(progress.next) if before < log.last_index else ()
    if not entries and not even_if_empty:
        return False
    progress.commit_sent = log.committed
    raft.send(
        Message(MessageType.APPEND, to=member, index=before, log_term=log_term, entries=entries, commit=log.committed)
    )
    progress.sent(len(entries))
    return True


def send_remaining(raft: "RawNode", member: int, progress: Progress) -> None:
    """More appends, while there are entries and the member takes them without waiting. Bounded by inflight_max."""
    while progress.next <= raft.log.last_index and send_append(raft, member, progress, even_if_empty=False):
        pass


def send_snapshot(raft: "RawNode", member: int, progress: Progress) -> bool:
    """In place of entries that are compacted. Not to a silent member: it would only be made for nothing."""
    snapshot = raft.log.snapshot_to_send() if progress.active else None
    if snapshot is None:
        return False
    progress.become_snapshot(snapshot.index)
    raft.send(Message(MessageType.SNAPSHOT, to=member, snapshot=snapshot))
    return True


def announce_commit(raft: "RawNode") -> None:
    """Tells the commit index to whom no append has carried it. Once a Ready, however many acknowledgements came."""
    for member, progress in raft.tracked.items():
        if member != raft.id and progress.commit_sent < raft.log.committed:
            send_append(raft, member, progress)


def on_append_reply(raft: "RawNode", message: Message) -> None:
    progress = raft.tracked[message.sender]  # step lets no answer of a stranger through
    progress.active = True
    if message.reject:
        on_refusal(raft, message, progress)
        return
    if message.index > raft.log.last_index:
        return  # no entry of ours: an answer that cannot be meant for this log
    advanced = progress.acknowledge(message.index)
    if not advanced and not (progress.state is ProgressState.PROBE and message.index == progress.match):
        return
    if progress.state is ProgressState.PROBE or (
        progress.state is ProgressState.SNAPSHOT and progress.match + 1 >= raft.log.first_index
    ):
        progress.become_replicate()
    commit_agreed(raft)
    if progress.commit_sent < raft.log.committed:
        raft.commit_unannounced = True  # also of what was committed while it was paused
    send_remaining(raft, message.sender, progress)
    if message.sender == raft.leader_transferee and progress.match == raft.log.last_index:
        raft.send(Message(MessageType.TIMEOUT_NOW, to=message.sender))


def on_refusal(raft: "RawNode", message: Message, progress: Progress) -> None:
    """The member lacks the entry before the append, and tells an index of its log and the term there.

    What we have of later terms at or below that index cannot be in its log, so the next probe goes below it.
    """
    hint = message.reject_hint
    if message.log_term > 0:
        hint = raft.log.last_with_term_at_most(message.log_term, hint)
    if progress.refuse(message.index, hint):
        if progress.state is ProgressState.REPLICATE:
            progress.become_probe()
        send_append(raft, message.sender, progress)


def commit_agreed(raft: "RawNode") -> bool:
    """Commits what a quorum has on disk, if it is of this term; True if that is more than before.

    Entries of earlier terms are committed with one of this term, never by counting (Raft paper, 5.4.2).
    """
    tracked = raft.tracked
    index = quorum.agreed_index([tracked[voter].match for voter in half] for half in raft.config.halves)
    if raft.log.term(index) != raft.term or not raft.log.commit(index):
        return False
    raft.commit_unannounced = True
    for request in raft.reads.take_postponed():
        begin_read(raft, request)
    return True


def on_unreachable(raft: "RawNode", member: int) -> None:
    """A message to it was lost: stop sending ahead, ask where it is."""
    progress = raft.tracked.get(member)
    if progress is not None and progress.state is ProgressState.REPLICATE:
        progress.become_probe()


def on_snapshot_status(raft: "RawNode", member: int, *, arrived: bool) -> None:
    progress = raft.tracked.get(member)
    if progress is None or progress.state is not ProgressState.SNAPSHOT:
        return
    if not arrived:
        progress.pending_snapshot = 0
    progress.become_probe()
    progress.is_waiting = True  # arrived: its own answer comes first. Failed: one heartbeat interval before another try


# -- heartbeats, the quorum, reads


def broadcast_heartbeat(raft: "RawNode", context: bytes) -> None:
    for member, progress in raft.tracked.items():
        if member != raft.id:
            # Heartbeats may overtake appends: tell no commit index that the member is not known to have.
            commit = min(progress.match, raft.log.committed)
            raft.send(Message(MessageType.HEARTBEAT, to=member, commit=commit, context=context))


def on_heartbeat_reply(raft: "RawNode", message: Message) -> None:
    progress = raft.tracked[message.sender]  # step lets no answer of a stranger through
    progress.active = True
    progress.free_one()
    if progress.match < raft.log.last_index:
        send_append(raft, message.sender, progress)  # without entries it still shows whether the last ones were lost
    acknowledged = raft.reads.acknowledge(message.context, message.sender)  # by nobody, if no round has this context
    if quorum.is_reached(raft.config.halves, acknowledged):
        release_reads(raft, message.context)


def check_quorum(raft: "RawNode") -> None:
    """Steps down if no quorum was heard from within an election timeout: others may have elected somebody else."""
    active = {member for member, progress in raft.tracked.items() if progress.active or member == raft.id}
    if not quorum.is_reached(raft.config.halves, active):
        raft.become_follower(raft.term, NONE)
        return
    for progress in raft.tracked.values():
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
    if not raft.reads.begin(context, request, raft.log.committed):
        return False
    if quorum.is_reached(raft.config.halves, raft.reads.acknowledge(context, raft.id)):
        release_reads(raft, context)  # the only voter
    else:
        broadcast_heartbeat(raft, context)
    return True


def release_reads(raft: "RawNode", context: bytes) -> None:
    for confirmed in raft.reads.release(context):
        request = confirmed.request
        if request.sender in (NONE, raft.id):
            raft.read_states.append(ReadState(confirmed.index, request.entries[0].data))
        else:
            raft.send(
                Message(MessageType.READ_INDEX_REPLY, to=request.sender, index=confirmed.index, entries=request.entries)
            )


# -- handing over


def on_transfer_leader(raft: "RawNode", message: Message) -> None:
    """The message's sender is to lead, whoever brought the wish. Proposals are dropped until that is over."""
    transferee = message.sender
    progress = raft.tracked.get(transferee)
    if progress is None or progress.is_learner or transferee in (raft.id, raft.leader_transferee):
        return
    raft.election_elapsed = 0  # it has one election timeout
    raft.leader_transferee = transferee
    if progress.match == raft.log.last_index:
        raft.send(Message(MessageType.TIMEOUT_NOW, to=transferee))
    else:
        send_append(raft, transferee, progress)


HANDLERS: dict[MessageType, Callable[["RawNode", Message], bool | None]] = {
    MessageType.PROPOSE: on_propose,
    MessageType.APPEND_REPLY: on_append_reply,
    MessageType.HEARTBEAT_REPLY: on_heartbeat_reply,
    MessageType.READ_INDEX: on_read_index,
    MessageType.TRANSFER_LEADER: on_transfer_leader,
}
