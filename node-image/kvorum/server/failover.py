"""A leader whose process has ended is followed by another one at once, not after an election timeout.

The timeout is there because silence proves nothing. A connection that broke, and a port that then takes none, prove
that nobody leads from there any more: the leader is forgotten, and a pre-vote asks whether the others saw the same.
Who still hears of a leader refuses it, so a mistake costs nothing but a moment without one (Raft thesis, 9.6).
"""

from kvorum.raft.core import Role
from kvorum.raft.message import NONE
from kvorum.server.server import Server

NOTICE_S = 0.01  # until the other members have noticed too: their pre-vote is needed


def leader_ended(server: Server, member_id: int) -> None:
    """The process of this member has ended. Two that campaign at the same moment split the votes, so the voters take
    turns, a heartbeat interval apart, until one has won or an election timeout has passed."""
    raft = server.raft
    if raft.leader != member_id or not raft.may_campaign or not raft.settings.pre_vote:
        return
    server.forget_leader()
    heartbeat_s = server.settings.heartbeat_ms / 1000
    voters = sorted(raft.config.all_voters - {member_id})
    first_s = NOTICE_S + voters.index(server.member_id) * heartbeat_s
    last_tick = server.ticks + server.settings.election_ticks

    def campaign() -> None:
        if raft.leader != NONE or server.stopped or server.removed or server.ticks >= last_tick:
            return
        if raft.role is not Role.CANDIDATE:
            server.lessor.expect_early_term()
            server.campaign()
        server.loop.call_later(len(voters) * heartbeat_s, campaign)

    server.loop.call_later(first_s, campaign)
