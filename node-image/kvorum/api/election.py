"""v3electionpb.Election: elections by name, in which the member stands for its client (etcd.md 1.16).

A candidate is a key as a lock's (api.lock), with what it proposes as its value; the oldest is elected. A leader's later
words are taken only while its key is still that of the revision it was elected with.
"""

import asyncio
from contextlib import aclosing

from kvorum.api.inner_call import Refused, Services, serve
from kvorum.api.lock import SESSION_TTL_S, all_of, created, enter, first_of, is_created, key_of, wait_first
from kvorum.api.request import read
from kvorum.etcdpb import election_pb2
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.net.call import Call
from kvorum.server.server import Server
from kvorum.state import refusal
from kvorum.wire import grpc

NO_LEADER_NAMED = '"leader" field must be provided'
NOT_LEADER = "election: not leader"
NO_LEADER = "election: no leader"
CLOSED_EARLY = "election: observe closed early"
UNREAD_BYTES_MAX = 64 << 10  # of one who observes; with more, it is told on when it has read


def campaign(server: Server, call: Call) -> None:
    serve(server, call, election_pb2.CampaignRequest, _campaign)


async def _campaign(services: Services, request: election_pb2.CampaignRequest) -> bytes:
    lease = request.lease or await services.grant(SESSION_TTL_S)
    key = key_of(request.name, lease)
    entered = await enter(services, request.name, key, request.value, lease)
    leader = election_pb2.LeaderKey(name=request.name, key=key, rev=created(entered), lease=lease)
    try:
        if not entered.succeeded and entered.responses[0].response_range.kvs[0].value != request.value:
            await _propose_again(services, leader, request.value)
        await wait_first(services, request.name, leader.rev)
    except asyncio.CancelledError:
        services.txn_unheard(_resignation(leader))
        raise
    return election_pb2.CampaignResponse(header=entered.header, leader=leader).SerializeToString()


async def _propose_again(services: Services, leader: election_pb2.LeaderKey, value: bytes) -> None:
    """A candidate already, with another proposal. If it is not taken, nor is the candidacy."""
    try:
        await _put(services, leader, value)
    except Refused:
        services.txn_unheard(_resignation(leader))
        raise


def proclaim(server: Server, call: Call) -> None:
    serve(server, call, election_pb2.ProclaimRequest, _proclaim)


async def _proclaim(services: Services, request: election_pb2.ProclaimRequest) -> bytes:
    if not request.HasField("leader"):
        raise Refused(NO_LEADER_NAMED)
    if not request.leader.lease:
        request.leader.lease = await services.grant(SESSION_TTL_S)
    header = await _put(services, request.leader, request.value)
    return election_pb2.ProclaimResponse(header=header).SerializeToString()


async def _put(services: Services, leader: election_pb2.LeaderKey, value: bytes) -> rpc.ResponseHeader:
    put = rpc.RequestOp(request_put=rpc.PutRequest(key=leader.key, value=value, lease=leader.lease))
    done = await services.txn(rpc.TxnRequest(compare=[is_created(leader.key, leader.rev)], success=[put]))
    if not done.succeeded:
        raise Refused(NOT_LEADER)
    return done.header


def resign(server: Server, call: Call) -> None:
    serve(server, call, election_pb2.ResignRequest, _resign)


async def _resign(services: Services, request: election_pb2.ResignRequest) -> bytes:
    """Whoever is not the leader any more has resigned, too."""
    if not request.HasField("leader"):
        raise Refused(NO_LEADER_NAMED)
    done = await services.txn(_resignation(request.leader))
    return election_pb2.ResignResponse(header=done.header).SerializeToString()


def _resignation(leader: election_pb2.LeaderKey) -> rpc.TxnRequest:
    gone = rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=leader.key))
    return rpc.TxnRequest(compare=[is_created(leader.key, leader.rev)], success=[gone])


def leader(server: Server, call: Call) -> None:
    serve(server, call, election_pb2.LeaderRequest, _leader)


async def _leader(services: Services, request: election_pb2.LeaderRequest) -> bytes:
    found = await services.range(first_of(request.name))
    if not found.kvs:
        raise Refused(NO_LEADER)
    return _told(found.header, found.kvs[0])


def _told(header: rpc.ResponseHeader, kv: rpc.KeyValue) -> bytes:
    return election_pb2.LeaderResponse(header=header, kv=kv).SerializeToString()


# ---- observing -------------------------------------------------------------------------------------------------------


def observe(server: Server, call: Call) -> None:
    """A stream: the leader there is, then each proposal of it and each new leader."""

    def asked(message: bytes) -> None:
        call.on_message = call.on_end = None
        request = read(call, election_pb2.LeaderRequest, message)
        if request is not None:
            Observer(server, call, request.name)

    call.on_message = asked
    call.on_end = lambda: call.fail(grpc.NO_MESSAGE.code, grpc.NO_MESSAGE.message)


class Observer:
    """One client that observes."""

    def __init__(self, server: Server, call: Call, name: bytes) -> None:
        self._server = server
        self._call = call
        self._services = Services(server, call)
        self._name = name
        self._read = asyncio.Event()
        call.on_writable = self._read.set
        call.on_close = self._leave
        if call.metadata("hasleader") == "true":
            server.leader_bound.add(self)
        self._task = server.tasks.spawn(self._observe(), call)

    def refuse_leaderless(self) -> None:
        self._call.fail(refusal.NO_LEADER.code, refusal.NO_LEADER.text)
        self._leave()

    def _leave(self) -> None:
        self._server.leader_bound.discard(self)
        self._task.cancel()

    async def _observe(self) -> None:
        try:
            while True:
                await self._tell_of_one_leader()
        except Refused:
            self._server.leader_bound.discard(self)
            self._call.fail(refusal.UNKNOWN, CLOSED_EARLY)

    async def _tell_of_one_leader(self) -> None:
        """From when it is there until its key is gone. Raises Refused."""
        found = await self._services.range(first_of(self._name))
        if found.kvs:
            header, kv = found.header, found.kvs[0]
        else:
            header, kv = await self._first_put(found.header.revision + 1)
        await self._push(header, kv)
        own = rpc.WatchCreateRequest(key=kv.key, start_revision=header.revision + 1)
        async with aclosing(self._services.watch(own)) as watch:
            async for told in watch:
                for event in told.events:
                    if event.type == rpc.Event.DELETE:
                        return
                    await self._push(told.header, event.kv)

    async def _first_put(self, revision: int) -> tuple[rpc.ResponseHeader, rpc.KeyValue]:
        everybody = all_of(self._name)
        puts = rpc.WatchCreateRequest(
            key=everybody.key,
            range_end=everybody.range_end,
            start_revision=revision,
            filters=[rpc.WatchCreateRequest.NODELETE],
        )
        async with aclosing(self._services.watch(puts)) as watch:
            async for told in watch:
                kv = told.events[0].kv
                told.header.revision = kv.mod_revision  # others may have come in the same batch
                return told.header, kv
        raise Refused(CLOSED_EARLY)

    async def _push(self, header: rpc.ResponseHeader, kv: rpc.KeyValue) -> None:
        self._call.push(_told(header, kv))
        while self._call.buffered_bytes > UNREAD_BYTES_MAX:
            self._read.clear()
            await self._read.wait()
