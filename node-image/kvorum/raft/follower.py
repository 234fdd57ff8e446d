"""What a follower does with each message: takes entries, answers heartbeats, hands on what only the leader can do.

A learner is a follower too. The rules on terms are in core.RawNode.step, before anything gets here.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kvorum.raft.message import NONE, Message, MessageType, ReadState, Snapshot
from kvorum.raft.trace import Level

if TYPE_CHECKING:
    from kvorum.raft.core import RawNode


def on_append(raft: "RawNode", message: Message) -> None:
    """Takes entries from the leader of this term (Raft paper, 5.3)."""
    raft.follow(message.sender)
    log = raft.log
    if message.index < log.committed:
        # A late duplicate. What is committed cannot conflict: tell how far we are, and compare nothing.
        raft.reply(message, MessageType.APPEND_REPLY, index=log.committed)
        return
    last_new = log.extend(after=message.index, term=message.log_term, entries=message.entries)
    if last_new is None:
        refuse_append(raft, message)
        return
    log.commit(min(message.commit, last_new))  # the leader may have committed more than it has sent us
    raft.reply(message, MessageType.APPEND_REPLY, index=last_new)


def refuse_append(raft: "RawNode", message: Message) -> None:
    """Says where the logs may meet: below it our terms are all higher than the leader's, so nothing there can agree."""
    log = raft.log
    text = "%x [logterm: %d, index: %d] rejected MsgApp [logterm: %d, index: %d] from %x"
    own_term = log.term(message.index) or 0
    raft.trace(Level.DEBUG, text, raft.id, own_term, message.index, message.log_term, message.index, message.sender)
    hint = log.last_with_term_at_most(message.log_term, message.index)
    hint_term = log.term(hint)
    assert hint_term is not None, f"no term at {hint}, though committed is {log.committed}"
    raft.send(
        Message(
            MessageType.APPEND_REPLY,
            to=message.sender,
            index=message.index,
            reject=True,
            reject_hint=hint,
            log_term=hint_term,
        )
    )


def on_heartbeat(raft: "RawNode", message: Message) -> None:
    """The leader is there, and tells a commit index that it knows us to have."""
    raft.follow(message.sender)
    raft.log.commit(message.commit)
    raft.reply(message, MessageType.HEARTBEAT_REPLY, context=message.context)


def on_snapshot(raft: "RawNode", message: Message) -> None:
    """Takes the state of the leader in place of the entries that it no longer has."""
    raft.follow(message.sender)
    snapshot = message.snapshot or Snapshot()
    verdict = "restored" if raft.restore(snapshot) else "ignored"
    text = f"%x [commit: %d] {verdict} snapshot [index: %d, term: %d]"
    raft.trace(Level.INFO, text, raft.id, raft.log.committed, snapshot.index, snapshot.term)
    raft.reply(message, MessageType.APPEND_REPLY, index=raft.log.committed)  # the snapshot's end, if it was taken


DROPPED = {
    MessageType.PROPOSE: "proposal",
    MessageType.READ_INDEX: "index reading msg",
    MessageType.TRANSFER_LEADER: "leader transfer msg",
}


def forward_to_leader(raft: "RawNode", message: Message) -> bool:
    """Hands on proposals, reads and transfers, still in the first sender's name. False if there is no leader to ask."""
    if raft.leader == NONE:
        raft.trace(Level.INFO, f"%x no leader at term %d; dropping {DROPPED[message.type]}", raft.id, raft.term)
        return False
    if raft.leader == message.sender and message.type is not MessageType.TRANSFER_LEADER:
        return False  # two that take each other for the leader must not play ball
    raft.send(
        Message(message.type, to=raft.leader, sender=message.sender, entries=message.entries, context=message.context)
    )
    return True


def on_timeout_now(raft: "RawNode", message: Message) -> None:
    """The leader hands over to us. It knows that we are up to date, so there is no pre-vote."""
    text = "%x [term %d] received MsgTimeoutNow from %x and starts an election to get leadership."
    raft.trace(Level.INFO, text, raft.id, raft.term, message.sender)
    raft.campaign_transferred()


def on_read_index_reply(raft: "RawNode", message: Message) -> None:
    """The leader's answer to a read that we forwarded: one entry, which holds the context. Anything else is none."""
    if len(message.entries) != 1:
        text = "%x invalid format of MsgReadIndexResp from %x, entries count: %d"
        raft.trace(Level.ERROR, text, raft.id, message.sender, len(message.entries))
    else:
        raft.read_states.append(ReadState(message.index, message.entries[0].data))


HANDLERS: dict[MessageType, Callable[["RawNode", Message], bool | None]] = {
    MessageType.APPEND: on_append,
    MessageType.HEARTBEAT: on_heartbeat,
    MessageType.SNAPSHOT: on_snapshot,
    MessageType.PROPOSE: forward_to_leader,
    MessageType.READ_INDEX: forward_to_leader,
    MessageType.TRANSFER_LEADER: forward_to_leader,
    MessageType.TIMEOUT_NOW: on_timeout_now,
    MessageType.READ_INDEX_REPLY: on_read_index_reply,
}
