"""A leader whose process has ended is followed by another one at once, not after an election timeout.

The timeout is there because silence proves nothing. A connection that broke, and a port that then takes none, prove
that nobody leads from there any more: the leader is forgotten, and a pre-vote asks whether the others saw the same.
Who still hears of a leader refuses it, so a mistake costs nothing but a term of waiting (Raft thesis, 9.6).
"""

from kvorum.raft.core import Role
from kvorum.raft.message import NONE
from kvorum.server.server import Server

NOTICE_S = 0.01  # until the other members have noticed too: their pre-vote is needed


def leader_ended(server: Server, member_id: int) -> None:
    """The process of this member has ended. Two that campaign at the same moment split the votes, so each voter waits
    one heartbeat interval longer than the one before it."""
    raft = server.raft
    if raft.leader != member_id or not raft.may_campaign or not raft.settings.pre_vote:
        return
    server.forget_leader()
    rank = sorted(raft.config.all_voters - {member_id}).index(server.member_id)
    delay_s = NOTICE_S + rank * server.settings.heartbeat_ms / 1000
    server.loop.call_later(delay_s, _campaign, server)


def _campaign(server: Server) -> None:
    raft = server.raft
    if raft.leader == NONE and raft.role is Role.FOLLOWER and not (server.stopped or server.removed):
        server.lessor.expect_early_term()
        server.campaign()
