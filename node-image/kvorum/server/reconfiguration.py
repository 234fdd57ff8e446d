"""Changes of the membership that a client may ask for, and when they are too dangerous to propose (etcd's strict
checks).

Here is only what the proposing member must know beforehand; whether a change is valid is decided at apply, on every
member alike (state.membership).
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kvorum.raft.message import NONE
from kvorum.server.answer import Answer, Done
from kvorum.server.peers import PeerRefused
from kvorum.state import membership, refusal
from kvorum.state.refusal import Refusal

if TYPE_CHECKING:
    from kvorum.server.server import Server

HEALTHY_S = 5.0  # etcd's HealthInterval: a link younger than this does not count
LEARNER_READY_RATIO = 0.9  # of the leader's log, before a learner may vote (etcd's readyPercent)
TRANSFER_POLL_S = 0.01
TRANSFER_TIMED_OUT = Refusal(refusal.UNAVAILABLE, "etcdserver: request timed out, leader transfer took too long")


def add(
    server: "Server",
    peer_urls: Sequence[str],
    *,
    learner: bool,
    unix_s: int,
    done: Callable[[int, Refusal | None], None],
) -> None:
    """Proposes a new member; done(id, None) when it is one. unix_s goes into its id, so that the same URLs get a new
    one."""
    objection = may_add(server, learner=learner)
    member_id = membership.member_id(peer_urls, server.cluster_token, unix_s)
    if objection:
        done(member_id, objection)
        return
    member = membership.Member(member_id, tuple(peer_urls), is_learner=learner)
    change = membership.add_change(member, server.ids.next())
    server.propose_conf_change(change, Done(lambda refused: done(member_id, refused)))


def may_add(server: "Server", *, learner: bool) -> Refusal | None:
    """Why adding now could cost the quorum; None when it cannot."""
    if not server.settings.strict_reconfig_check:
        return None
    voting = voters(server)
    if not learner:
        started = sum(1 for voter in voting if voter.name)
        lone = started == 1 and len(voting) == 1  # a lone member can be joined by one that has not started yet
        if not lone and started < (len(voting) + 1) // 2 + 1:
            return refusal.MEMBER_NOT_ENOUGH_STARTED
    voters_after = len(voting) + (0 if learner else 1)
    lone = len(voting) == 1
    if not lone and connected_voters(server) < voters_after // 2 + 1:
        return refusal.UNHEALTHY
    return None


def voters(server: "Server") -> list[membership.Member]:
    return [member for member in server.machine.membership.members if not member.is_learner]


def connected_voters(server: "Server") -> int:
    """Voters this member has been connected to for HEALTHY_S, itself included."""
    now = server.loop.time()
    count = 0
    for voter in voters(server):
        since = server.peers.active_since(voter.id)
        if voter.id == server.member_id or (since is not None and now - since >= HEALTHY_S):
            count += 1
    return count


def foreign_voters(server: "Server") -> list[int]:
    """Those in whose place members of another cluster answer, where they are so many that the rest is no quorum. Empty
    while there is a leader: then the cluster is the right one."""
    if server.raft.leader != NONE:
        return []
    voting = voters(server)
    foreign = [voter.id for voter in voting if server.peers.is_foreign(voter.id)]
    return foreign if foreign and len(voting) - len(foreign) < len(voting) // 2 + 1 else []


def remove(server: "Server", member_id: int, done: Callable[[Refusal | None], None]) -> None:
    objection = may_remove(server, member_id)
    if objection:
        done(objection)
        return
    server.propose_conf_change(membership.remove_change(member_id, server.ids.next()), Done(done))


def may_remove(server: "Server", member_id: int) -> Refusal | None:
    """Why removing it now could cost the quorum. A learner, or a voter that is down, is always safe to remove."""
    member = server.machine.membership.find(member_id)
    if not server.settings.strict_reconfig_check or member is None or member.is_learner:
        return None
    voting = voters(server)
    started = sum(1 for voter in voting if voter.name and voter.id != member_id)
    if started < (len(voting) - 1) // 2 + 1 and len(voting) > 1:
        return refusal.MEMBER_NOT_ENOUGH_STARTED
    if len(voting) == 1:
        return refusal.MEMBER_NOT_ENOUGH_STARTED
    if member_id != server.member_id and server.peers.active_since(member_id) is None:
        return None
    if connected_voters(server) - 1 < (len(voting) - 1) // 2 + 1:
        return refusal.UNHEALTHY
    return None


def update(server: "Server", member_id: int, peer_urls: Sequence[str], done: Callable[[Refusal | None], None]) -> None:
    server.propose_conf_change(membership.update_change(member_id, peer_urls, server.ids.next()), Done(done))


async def promote(server: "Server", member_id: int, done: Callable[[Refusal | None], None]) -> None:
    """Lets a learner vote. Only the leader knows whether it has caught up; others ask the leader."""
    if server.is_leader:
        promote_here(server, member_id, done)
        return
    leader = server.machine.membership.find(server.raft.leader)
    if leader is None:
        done(refusal.NO_LEADER)
        return
    try:
        await server.peers.promote(leader.peer_urls, member_id)
    except PeerRefused as error:
        done(promote_refusal(error))
    except (OSError, TimeoutError):
        done(refusal.TIMEOUT)
    else:
        done(None)


def promote_here(server: "Server", member_id: int, done: Callable[[Refusal | None], None]) -> None:
    """On the leader."""
    member = server.machine.membership.find(member_id)
    if member is None:
        done(refusal.MEMBER_NOT_FOUND)
    elif not member.is_learner:
        done(refusal.MEMBER_NOT_LEARNER)
    elif not is_caught_up(server, member_id):
        done(refusal.LEARNER_NOT_READY)
    else:
        server.propose_conf_change(membership.promote_change(member_id, server.ids.next()), Done(done))


def is_caught_up(server: "Server", member_id: int) -> bool:
    """On the leader: whether a member holds enough of the log to vote."""
    own = server.raft.progress(server.member_id)
    its = server.raft.progress(member_id)
    return own is not None and its is not None and its.match > 0 and its.match >= LEARNER_READY_RATIO * own.match


def promote_refusal(error: PeerRefused) -> Refusal:
    """The leader's answer over HTTP as the refusal a client knows."""
    # The longer text first: it begins with the shorter one.
    for candidate in (refusal.LEARNER_NOT_READY, refusal.MEMBER_NOT_LEARNER, refusal.MEMBER_NOT_FOUND):
        if candidate.text.removeprefix("etcdserver: ") in error.text:
            return candidate
    if error.not_found or "not found" in error.text:
        return refusal.MEMBER_NOT_FOUND
    return refusal.TIMEOUT


def move_leader(server: "Server", to: int, answer: Answer) -> None:
    """Hands leadership over and answers once the other leads."""
    target = server.machine.membership.find(to)
    if not server.is_leader:
        answer.fail(refusal.NOT_LEADER.code, refusal.NOT_LEADER.text)
    elif target is None or target.is_learner:
        answer.fail(refusal.BAD_LEADER_TRANSFEREE.code, refusal.BAD_LEADER_TRANSFEREE.text)
    elif to == server.member_id:
        answer.reply(b"")  # etcd's answer has no header here
    else:
        server.transfer_leadership(to)
        deadline = server.loop.time() + 2 * server.settings.election_ms / 1000
        _await_leader(server, to, deadline, answer)


def _await_leader(server: "Server", to: int, deadline: float, answer: Answer) -> None:
    if server.raft.leader == to:
        answer.reply(b"")  # etcd's answer has no header here
    elif server.loop.time() >= deadline:
        answer.fail(TRANSFER_TIMED_OUT.code, TRANSFER_TIMED_OUT.text)
    else:
        server.loop.call_later(TRANSFER_POLL_S, _await_leader, server, to, deadline, answer)


def best_transferee(server: "Server") -> int:
    """The voter to hand leadership to when this member stops: connected, and furthest in the log; NONE if there is
    none."""
    best, best_match = NONE, -1
    for voter in voters(server):
        progress = server.raft.progress(voter.id)
        if voter.id == server.member_id or progress is None or server.peers.active_since(voter.id) is None:
            continue
        if progress.match > best_match:
            best, best_match = voter.id, progress.match
    return best
