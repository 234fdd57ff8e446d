"""etcdserverpb.Lease. Granting and revoking go through the log; how long a lease still lives only the leader knows."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from kvorum.api.permission import propose, refuses
from kvorum.api.request import fail, read
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.net.call import Call
from kvorum.server.peers import PeerRefused
from kvorum.server.server import Server
from kvorum.state import refusal
from kvorum.state.auth_checks import Check
from kvorum.state.refusal import Refusal
from kvorum.state.row import varint

LEASE_GRANT, LEASE_REVOKE = b"\x42", b"\x4a"
RENEWALS_MAX = 10_000  # of one stream, asked for and not answered yet
FORWARD_RETRY_S = 0.05  # etcd's: while a leader is being elected, or has not applied its first entry

Answered = TypeVar("Answered")


def grant(server: Server, call: Call) -> None:
    request = read(call, rpc.LeaseGrantRequest, call.body)
    if request is None:
        return
    refused = server.quota.refuses(request) or refuses(server, call, Check.named)
    if refused is not None:
        fail(call, refused)
        return
    if not request.ID:
        request.ID = server.ids.next() & (1 << 63) - 1
    body = request.SerializeToString()
    propose(server, LEASE_GRANT + varint(len(body)) + body, call)


def revoke(server: Server, call: Call) -> None:
    if read(call, rpc.LeaseRevokeRequest, call.body) is None:
        return
    refused = refuses(server, call, Check.named)
    if refused is not None:
        fail(call, refused)
    else:
        propose(server, LEASE_REVOKE + varint(len(call.body)) + call.body, call)


def leases(server: Server, call: Call) -> None:
    server.read(lambda server, answer: _answer_leases(server, call), call)


def _answer_leases(server: Server, call: Call) -> None:
    refused = refuses(server, call, lambda check: check.lease_keys_read(server.machine.leases))
    if refused is not None:
        fail(call, refused)
        return
    response = rpc.LeaseLeasesResponse(leases=[rpc.LeaseStatus(ID=lease.id) for lease in server.machine.leases])
    call.reply(server.header.encode(server.machine.revision) + response.SerializeToString())


def time_to_live(server: Server, call: Call) -> None:
    request = read(call, rpc.LeaseTimeToLiveRequest, call.body)
    if request is None:
        return
    server.tasks.spawn(_time_to_live(server, call, request), call)


def _refuses_life(server: Server, call: Call, request: rpc.LeaseTimeToLiveRequest) -> Refusal | None:
    """How long it lives anybody may know who has a name; the keys only who may read them."""
    if not request.keys:
        return refuses(server, call, Check.named)
    lease = server.machine.leases.find(request.ID)
    return refuses(server, call, lambda check: check.lease_keys_read([] if lease is None else [lease]))


async def _time_to_live(server: Server, call: Call, request: rpc.LeaseTimeToLiveRequest) -> None:
    auth_revision = server.machine.auth.revision
    refused = _refuses_life(server, call, request)
    if refused is not None:
        fail(call, refused)
        return
    response = await until_leader(server, lambda: _life(server, request))
    if response is None:
        fail(call, refusal.TIMEOUT)
    elif request.keys and server.machine.auth.enabled and server.machine.auth.revision != auth_revision:
        fail(call, refusal.AUTH_OLD_REVISION)
    else:
        call.reply(server.header.encode(server.machine.revision) + response.SerializeToString())


async def _life(server: Server, request: rpc.LeaseTimeToLiveRequest) -> rpc.LeaseTimeToLiveResponse | None:
    if server.lessor.is_primary:
        return life_here(server, request)
    leader = server.machine.membership.find(server.raft.leader)
    if leader is None or leader.id == server.member_id:
        return None
    try:
        life = await server.peers.lease_life(leader.peer_urls, request.ID, keys=request.keys)
    except PeerRefused as error:
        return rpc.LeaseTimeToLiveResponse(ID=request.ID, TTL=-1) if error.not_found else None
    return rpc.LeaseTimeToLiveResponse(ID=request.ID, TTL=life.ttl_s, grantedTTL=life.granted_s, keys=life.keys)


def life_here(server: Server, request: rpc.LeaseTimeToLiveRequest) -> rpc.LeaseTimeToLiveResponse:
    """On the leader. TTL -1: no such lease."""
    lease = server.machine.leases.find(request.ID)
    if lease is None:
        return rpc.LeaseTimeToLiveResponse(ID=request.ID, TTL=-1)
    response = rpc.LeaseTimeToLiveResponse(ID=lease.id, TTL=server.lessor.remaining_s(lease.id), grantedTTL=lease.ttl_s)
    if request.keys:
        response.keys.extend(lease.sorted_keys())
    return response


def keep_alive(server: Server, call: Call) -> None:
    """A stream: each message renews a lease and is answered with its TTL, 0 where there is none."""
    renewals: asyncio.Queue[bytes | Refusal | None] = asyncio.Queue()

    def on_message(message: bytes) -> None:
        if renewals.qsize() < RENEWALS_MAX:
            renewals.put_nowait(message)
        else:
            renewals.put_nowait(refusal.TOO_MANY_REQUESTS)
            call.on_message = lambda message: None  # the stream ends when what came before is answered

    call.on_message = on_message
    call.on_end = lambda: renewals.put_nowait(None)
    call.on_close = lambda: renewals.put_nowait(None)
    server.tasks.spawn(_keep_alive(server, call, renewals), call)


async def _keep_alive(server: Server, call: Call, renewals: "asyncio.Queue[bytes | Refusal | None]") -> None:
    while (message := await renewals.get()) is not None and not call.cancelled:
        if isinstance(message, Refusal):
            fail(call, message)
            return
        request = read(call, rpc.LeaseKeepAliveRequest, message)
        if request is None:
            return
        refused = refuses(server, call, partial(Check.lease_keys, lease_id=request.ID))
        if refused is not None:
            fail(call, refused)
            return
        ttl_s = await until_leader(server, partial(_renew, server, request.ID))
        if ttl_s is None:
            fail(call, refusal.TIMEOUT)
            return
        response = rpc.LeaseKeepAliveResponse(ID=request.ID, TTL=ttl_s)
        call.push(server.header.encode(server.machine.revision) + response.SerializeToString())
    if not call.cancelled:
        call.finish()


async def _renew(server: Server, lease_id: int) -> int | None:
    if server.lessor.is_primary:
        return server.lessor.renew(lease_id)
    leader = server.machine.membership.find(server.raft.leader)
    if leader is None or leader.id == server.member_id:
        return None
    try:
        return await server.peers.renew_lease(leader.peer_urls, lease_id)
    except PeerRefused as error:
        return 0 if error.not_found else None


async def until_leader(server: Server, ask: Callable[[], Coroutine[Any, Any, Answered | None]]) -> Answered | None:
    """Asks until there is an answer or the request timeout has passed: a leader may be on its way."""
    deadline = server.loop.time() + server.settings.request_timeout_ms / 1000
    while server.loop.time() < deadline:
        try:
            answer = await ask()
        except (OSError, TimeoutError):
            answer = None
        if answer is not None:
            return answer
        await asyncio.sleep(FORWARD_RETRY_S)
    return None
