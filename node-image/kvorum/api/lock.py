"""v3lockpb.Lock: locks by name, which the member takes for its client (etcd.md 1.16).

Who asks puts a key `name/lease`, in hexadecimal, and has the lock once no key below the name is older. The key goes
with the lease. Of a client that goes away while it waits the key is taken back.
"""

import asyncio
from contextlib import aclosing

from kvorum.api.inner_call import Refused, Services, serve
from kvorum.etcdpb import lock_pb2
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.net.call import Call
from kvorum.server.server import Server

SESSION_TTL_S = 60  # of the lease that a request without one gets; nobody renews it
EXPIRED = "mutex: session is expired"


def lock(server: Server, call: Call) -> None:
    serve(server, call, lock_pb2.LockRequest, _lock)


async def _lock(services: Services, request: lock_pb2.LockRequest) -> bytes:
    lease = request.lease or await services.grant(SESSION_TTL_S)
    key = key_of(request.name, lease)
    entered = await enter(services, request.name, key, b"", lease)
    revision = created(entered)
    (oldest,) = entered.responses[1].response_range.kvs
    header = entered.header
    if oldest.create_revision != revision:
        try:
            await wait_first(services, request.name, revision)
            own = await services.range(rpc.RangeRequest(key=key))
        except (Refused, asyncio.CancelledError):
            services.delete_unheard(key)
            raise
        if not own.kvs:  # it may have gone with its lease, and others may have the lock since
            raise Refused(EXPIRED)
        header = own.header
    return lock_pb2.LockResponse(header=header, key=key).SerializeToString()


def unlock(server: Server, call: Call) -> None:
    serve(server, call, lock_pb2.UnlockRequest, _unlock)


async def _unlock(services: Services, request: lock_pb2.UnlockRequest) -> bytes:
    gone = await services.delete(request.key)
    return lock_pb2.UnlockResponse(header=gone.header).SerializeToString()


# What elections do, too


def key_of(name: bytes, lease: int) -> bytes:
    return name + b"/%x" % lease


def all_of(name: bytes) -> rpc.RangeRequest:
    """The keys below a name."""
    return rpc.RangeRequest(key=name + b"/", range_end=name + b"0")


def first_of(name: bytes) -> rpc.RangeRequest:
    """The oldest of them."""
    request = all_of(name)
    request.sort_target, request.sort_order = rpc.RangeRequest.CREATE, rpc.RangeRequest.ASCEND
    request.limit = 1
    return request


async def enter(services: Services, name: bytes, key: bytes, value: bytes, lease: int) -> rpc.TxnResponse:
    """Puts the key unless it is there. The second answer within is the oldest key of the name."""
    oldest = rpc.RequestOp(request_range=first_of(name))
    put = rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value, lease=lease))
    get = rpc.RequestOp(request_range=rpc.RangeRequest(key=key))
    return await services.txn(
        rpc.TxnRequest(compare=[is_created(key, 0)], success=[put, oldest], failure=[get, oldest])
    )


def is_created(key: bytes, revision: int) -> rpc.Compare:
    """Whether the key is still that of the revision; 0: whether there is none."""
    return rpc.Compare(key=key, target=rpc.Compare.CREATE, result=rpc.Compare.EQUAL, create_revision=revision)


def created(entered: rpc.TxnResponse) -> int:
    """The revision that the entered key is of."""
    if entered.succeeded:
        return entered.header.revision
    return entered.responses[0].response_range.kvs[0].create_revision


async def wait_first(services: Services, name: bytes, revision: int) -> None:
    """Until no key of the name is older than revision. Raises Refused.

    Only the next older one is watched, so that one that goes wakes one who waits, and not all.
    """
    before = all_of(name)
    before.sort_target, before.sort_order = rpc.RangeRequest.CREATE, rpc.RangeRequest.DESCEND
    before.limit, before.max_create_revision = 1, revision - 1
    while (found := await services.range(before)).kvs:
        await _wait_deleted(services, found.kvs[0].key, found.header.revision)


async def _wait_deleted(services: Services, key: bytes, revision: int) -> None:
    """Until the key, which was there at revision, is deleted. Raises Refused."""
    deletions = rpc.WatchCreateRequest(key=key, start_revision=revision + 1, filters=[rpc.WatchCreateRequest.NOPUT])
    async with aclosing(services.watch(deletions)) as watch:
        async for _ in watch:
            return
