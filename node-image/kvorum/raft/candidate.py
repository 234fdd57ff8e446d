"""Elections: asking whether one could win (pre-vote), then asking for votes.

A pre-candidate changes neither its term nor its vote, so a member that was cut off does not disturb the others when it
is back (Raft thesis, 9.6). The rules on terms, and who gets our vote, are in core.RawNode.step.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kvorum.raft import follower
from kvorum.raft.message import CAMPAIGN_TRANSFER, NONE, Message, MessageType
from kvorum.raft.quorum import VoteOutcome, vote_outcome

if TYPE_CHECKING:
    from kvorum.raft.core import RawNode


def ask_for_pre_votes(raft: "RawNode") -> None:
    """Asks the voters whether they would vote for us in the next term."""
    raft.become_pre_candidate()
    _ask(raft, MessageType.PRE_VOTE, raft.term + 1)
    count_vote(raft, raft.id, granted=True)  # nothing durable hangs on it


def ask_for_votes(raft: "RawNode", *, transfer: bool) -> None:
    """Begins a term and asks the voters for it. Our own vote counts once it is durable: RawNode.advance counts it."""
    raft.become_candidate()
    _ask(raft, MessageType.VOTE, raft.term, CAMPAIGN_TRANSFER if transfer else b"")


def _ask(raft: "RawNode", question: MessageType, term: int, context: bytes = b"") -> None:
    for member in sorted(raft.config.all_voters):
        if member != raft.id:
            raft.send(
                Message(
                    question,
                    to=member,
                    term=term,
                    index=raft.log.last_index,
                    log_term=raft.log.last_term,
                    context=context,
                )
            )


def count_vote(raft: "RawNode", member: int, *, granted: bool) -> None:
    """The first answer of a member stands; a majority either way ends the campaign."""
    raft.votes.setdefault(member, granted)
    outcome = vote_outcome(raft.config.halves, raft.votes)
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
        count_vote(raft, message.sender, granted=not message.reject)


def on_vote_reply(raft: "RawNode", message: Message) -> None:
    if not raft.is_pre_candidate:
        count_vote(raft, message.sender, granted=not message.reject)


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
}
