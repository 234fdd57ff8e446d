"""Elections: asking whether one could win (pre-vote), then asking for votes.

A pre-candidate changes neither its term nor its vote, so a member that was cut off does not disturb the others when it
is back (Raft thesis, 9.6). The rules on terms, and who gets our vote, are in core.RawNode.step.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kvorum.raft import follower
from kvorum.raft.message import CAMPAIGN_TRANSFER, NONE, Message, MessageType
from kvorum.raft.quorum import VoteOutcome, vote_outcome
from kvorum.raft.trace import Level

if TYPE_CHECKING:
    from kvorum.raft.core import RawNode


def ask_for_pre_votes(raft: "RawNode") -> None:
    """Asks the voters whether they would vote for us in the next term."""
    raft.become_pre_candidate()
    _ask(raft, MessageType.PRE_VOTE, raft.term + 1)


def ask_for_votes(raft: "RawNode", *, transfer: bool) -> None:
    """Begins a term and asks the voters for it."""
    raft.become_candidate()
    _ask(raft, MessageType.VOTE, raft.term, CAMPAIGN_TRANSFER if transfer else b"")


def _ask(raft: "RawNode", question: MessageType, term: int, context: bytes = b"") -> None:
    """Our own vote is among the answers: it counts once it is durable."""
    index, log_term = raft.log.last_index, raft.log.last_term
    for member in sorted(raft.config.all_voters):
        if member == raft.id:
            answer = MessageType.VOTE_REPLY if question is MessageType.VOTE else MessageType.PRE_VOTE_REPLY
            raft.reply_to_self(answer, term=term)
            continue
        text = "%x [logterm: %d, index: %d] sent %s request to %x at term %d"
        raft.trace(Level.INFO, text, raft.id, log_term, index, question, member, raft.term)
        raft.send(Message(question, to=member, term=term, index=index, log_term=log_term, context=context))


def count_vote(raft: "RawNode", message: Message) -> None:
    """The first answer of a member stands; a majority either way ends the campaign."""
    kind, member = message.type, message.sender
    text = f"%x received %s{' rejection' if message.reject else ''} from %x at term %d"
    raft.trace(Level.INFO, text, raft.id, kind, member, raft.term)
    raft.votes.setdefault(member, not message.reject)
    votes = [raft.votes[voter] for voter in raft.config.all_voters if voter in raft.votes]
    text = "%x has received %d %s votes and %d vote rejections"
    raft.trace(Level.INFO, text, raft.id, votes.count(True), kind, votes.count(False))
    outcome = vote_outcome(raft.halves, raft.votes)
    if outcome is VoteOutcome.WON:
        if raft.is_pre_candidate:
            ask_for_votes(raft, transfer=False)
        else:
            raft.become_leader()
    elif outcome is VoteOutcome.LOST:
        raft.become_follower(raft.term, NONE)  # in the same term: who refused with a higher one has told it


def on_pre_vote_reply(raft: "RawNode", message: Message) -> None:
    # A grant names the term that we asked for: one for an earlier campaign, late, says nothing about this one.
    if raft.is_pre_candidate and (message.reject or message.term == raft.term + 1):
        count_vote(raft, message)


def on_vote_reply(raft: "RawNode", message: Message) -> None:
    if not raft.is_pre_candidate:
        count_vote(raft, message)


def drop_proposal(raft: "RawNode", message: Message) -> bool:
    raft.trace(Level.INFO, "%x no leader at term %d; dropping proposal", raft.id, raft.term)
    return False


def ignore_timeout_now(raft: "RawNode", message: Message) -> None:
    """We campaign already."""
    text = "%x [term %d state %s] ignored MsgTimeoutNow from %x"
    raft.trace(Level.DEBUG, text, raft.id, raft.term, raft.role, message.sender)


def yield_to_leader(raft: "RawNode", message: Message) -> None:
    """Somebody has won this term: follow, and do what a follower does with the message."""
    raft.become_follower(message.term, message.sender)
    follower.HANDLERS[message.type](raft, message)


HANDLERS: dict[MessageType, Callable[["RawNode", Message], bool | None]] = {
    MessageType.PRE_VOTE_REPLY: on_pre_vote_reply,
    MessageType.VOTE_REPLY: on_vote_reply,
    MessageType.APPEND: yield_to_leader,
    MessageType.HEARTBEAT: yield_to_leader,
    MessageType.SNAPSHOT: yield_to_leader,
    MessageType.PROPOSE: drop_proposal,
    MessageType.TIMEOUT_NOW: ignore_timeout_now,
}
