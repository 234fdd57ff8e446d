"""Whether the members still hold the same keys: hashes compared at start, now and then, and after compactions.

The rules are etcd 3.5's, and so is what follows from a difference: the alarm CORRUPT, which names no member (its id
is 0), because a leader that differs from a follower does not know which of them is right; the log names the two.
A member that is behind, silent, or has compacted otherwise says nothing either way: only equal things are compared, so
that load and compactions raise no false alarm.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kvorum.etcdpb.rpc_pb2 import AlarmRequest, AlarmType
from kvorum.server.answer import Done
from kvorum.server.hashing import hash_kv
from kvorum.server.peers import PeerHash, PeerRefused
from kvorum.state.hash_kv import KeySpaceHash
from kvorum.state.membership import Member, hex_id
from kvorum.state.refusal import Refusal
from kvorum.state.row import varint

if TYPE_CHECKING:
    from kvorum.server.server import Server

log = logging.getLogger(__name__)

ALARM = b"\x52"  # the field of InternalRaftRequest that holds an AlarmRequest
NOBODY = 0


class Differs(Exception):
    """This member's keys are not those of the others. The text's further lines tell the way out."""


class Askable(Protocol):
    """What of server.peers.Peers is needed here."""

    async def hash_kv(self, urls: Sequence[str], revision: int) -> PeerHash: ...


@dataclass(frozen=True, slots=True)
class Told:
    """What a member answered for its keys; hash None if it gave none."""

    member_id: int
    hash: PeerHash | None


async def ask_all(peers: Askable, members: Sequence[Member], revision: int) -> list[Told]:
    """The hashes of these members at a revision, all asked at once."""
    hashes = await asyncio.gather(*(_ask(peers, member, revision) for member in members))
    return [Told(member.id, found) for member, found in zip(members, hashes, strict=True)]


async def _ask(peers: Askable, member: Member, revision: int) -> PeerHash | None:
    try:
        return await peers.hash_kv(member.peer_urls, revision)
    except (OSError, TimeoutError, PeerRefused) as error:
        log.warning(
            "a member gave no hash of its keys",
            extra={"peer": hex_id(member.id), "revision": revision, "why": str(error) or type(error).__name__},
        )
        return None


# ---- the rules -------------------------------------------------------------------------------------------------------


def differing_at_start(own: KeySpaceHash, told: Sequence[Told]) -> list[int]:
    """Members whose keys are others than ours at the same revision, as much of it compacted."""
    return [
        one.member_id
        for one in told
        if one.hash is not None and one.hash.compact_revision == own.compact_revision and one.hash.hash != own.hash
    ]


def differing_now(before: KeySpaceHash, after: KeySpaceHash, told: Sequence[Told]) -> list[int]:
    """On the leader: members that cannot hold what they tell.

    before: the leader's hash at the revision that they were asked for; after: its hash once a read has confirmed that
    it still led, so nobody can have been ahead of it.
    """
    return [
        one.member_id
        for one in told
        if one.hash is not None
        and (
            one.hash.revision > after.revision
            or one.hash.compact_revision > after.compact_revision
            or (one.hash.compact_revision == before.compact_revision and one.hash.hash != before.hash)
        )
    ]


def compared(own: KeySpaceHash, told: Sequence[Told]) -> list[Told]:
    """Of what was told at a compacted revision, what was hashed in the same state: after the same compaction before."""
    return [one for one in told if one.hash is not None and one.hash.compact_revision == own.compact_revision]


# ---- the checks ------------------------------------------------------------------------------------------------------


async def check_at_start(own_id: int, own: KeySpaceHash, members: Sequence[Member], peers: Askable) -> None:
    """Before anything is served. Who does not answer is no objection. Raises Differs."""
    others = [member for member in members if member.id != own_id]
    differing = differing_at_start(own, await ask_all(peers, others, own.revision))
    if differing:
        raise Differs(
            f"member {hex_id(own_id)} found data inconsistency with peers: at revision {own.revision} its keys are not "
            f"those of {', '.join(map(hex_id, differing))}\n"
            "  Which of them is right cannot be seen from here, so this one does not serve.\n"
            "  If most members agree with each other, remove this one from the cluster (etcdctl member remove), empty "
            "its data directory, and add it again."
        )


async def every(server: "Server", interval_s: float, check: Callable[["Server"], Awaitable[None]]) -> None:
    """Runs a check on the leader, time and again."""
    while True:
        await asyncio.sleep(interval_s)
        if server.is_leader and server.lessor.is_primary:
            await check(server)


async def check_now(server: "Server") -> None:
    """--experimental-corrupt-check-time: all keys at the leader's revision."""
    before = await hash_kv(server, 0)
    assert not isinstance(before, Refusal), before
    told = await ask_all(server.peers, _others(server), before.revision)
    if not await _still_leads(server):
        return
    after = await hash_kv(server, 0)
    assert not isinstance(after, Refusal), after
    differing = differing_now(before, after, told)
    if after.revision == before.revision and after.compact_revision == before.compact_revision:
        differing += [server.member_id] if after.hash != before.hash else []
    for member_id in differing:
        log.error(
            "a member's keys differ from the leader's",
            extra={"peer": hex_id(member_id), "revision": before.revision, "hash": before.hash},
        )
    if differing:
        raise_alarm(server)
    log.debug("keys compared with the other members", extra={"told": sum(one.hash is not None for one in told)})


class CompactHashes:
    """--experimental-compact-hash-check-enabled: the hashes that compactions left, the newest first."""

    def __init__(self) -> None:
        self._checked_revision = 0  # all members agreed on it

    async def check(self, server: "Server") -> None:
        for own in reversed(server.machine.compaction.hashes.all):
            if own.revision <= self._checked_revision:
                return
            others = _others(server)
            told = await ask_all(server.peers, others, own.revision)
            equal = compared(own, told)
            differing = [one.member_id for one in equal if one.hash is not None and one.hash.hash != own.hash]
            for member_id in differing:
                log.error(
                    "a compaction left other keys on a member than on the leader",
                    extra={"peer": hex_id(member_id), "revision": own.revision, "hash": own.hash},
                )
            if differing:
                raise_alarm(server)
                return
            if len(equal) == len(others):
                self._checked_revision = own.revision
                return


def raise_alarm(server: "Server") -> None:
    """Through the log: every member stops serving keys until somebody has cleared it."""
    if server.machine.alarms.is_active(AlarmType.CORRUPT):
        return
    body = AlarmRequest(action=AlarmRequest.ACTIVATE, memberID=NOBODY, alarm="CORRUPT").SerializeToString()
    server.propose(ALARM + varint(len(body)) + body, Done(lambda refused: None))


def _others(server: "Server") -> list[Member]:
    return [member for member in server.machine.membership.members if member.id != server.member_id]


async def _still_leads(server: "Server") -> bool:
    confirmed: asyncio.Future[bool] = server.loop.create_future()

    def answered(refused: Refusal | None) -> None:
        if not confirmed.done():  # stopped meanwhile
            confirmed.set_result(refused is None)

    server.read(lambda server, answer: answer.reply(b""), Done(answered))
    return await confirmed and server.is_leader
