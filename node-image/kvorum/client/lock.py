"""A lock by name, held by one session at a time, in the way of etcd's clients, so that it is theirs, too.

Who asks puts a key `name/lease` and has the lock once no key of the name is older. Waiting watches the next older key
only. Whoever's lease ends loses its key and with it its place.

A lock is a promise among clients: a holder that hangs may go on after it lost it. Where that must do no harm, give
`revision` along: it grows from holder to holder, so that what is guarded can refuse an older one.
"""

import asyncio
from contextlib import suppress

from kvorum.client.client import Client, prefix_end
from kvorum.client.errors import ClientError, SessionExpired, WatchCancelled
from kvorum.client.session import Session
from kvorum.client.values import (
    Compare,
    CompareTarget,
    Delete,
    EventType,
    Get,
    Put,
    RangeResult,
    Relation,
    SortOrder,
    SortTarget,
    Txn,
)


class Lock:
    """`async with Lock(session, b"jobs") as lock:` waits for the lock, and gives it back at the end.

    key, revision: what the lock is held by, once it is held; Compare(key, CREATE, EQUAL, revision) in a transaction
    makes it happen only while the lock is.
    """

    def __init__(self, session: Session, name: bytes) -> None:
        self.key = b""
        self.revision = 0
        self._session = session
        self._name = name

    async def __aenter__(self) -> "Lock":
        await self.acquire()
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(ClientError):  # the key goes with the lease then
            await self.release()

    async def acquire(self) -> None:
        """Raises SessionExpired if the lease ends meanwhile, ClientError. Asked again while held it stays held."""
        self.key, self.revision = await enter(self._session, self._name, b"")
        try:
            await wait_first(self._session, self._name, self.key, self.revision)
        except (ClientError, asyncio.CancelledError):
            with suppress(ClientError):
                await asyncio.shield(self.release())
            raise

    async def release(self) -> None:
        """Raises ClientError; the key then goes with the lease."""
        await leave(self._session.client, self.key, self.revision)


async def enter(session: Session, name: bytes, value: bytes) -> tuple[bytes, int]:
    """Puts a session's key of a name, if it is not there yet. The key and the revision of its creation.

    Where the answer does not arrive the key may be there; it is withdrawn, or goes with the lease.
    """
    session.require()
    key = name + b"/%x" % session.lease_id
    txn = Txn(
        [Compare(key, CompareTarget.CREATE, Relation.EQUAL, 0)],
        [Put(key, value, lease=session.lease_id)],
        [Get(key)],
    )
    try:
        answer = await session.client.txn(txn)
    except ClientError as error:
        if error.may_have_been_applied:
            with suppress(ClientError):
                await session.client.delete(key)
        raise
    if answer.succeeded:
        return key, answer.header.revision
    (found,) = answer.responses
    assert isinstance(found, RangeResult)
    return key, found.kvs[0].create_revision


async def leave(client: Client, key: bytes, revision: int) -> bool:
    """Deletes a key if it is still the one created at revision. Whether it was."""
    txn = Txn([Compare(key, CompareTarget.CREATE, Relation.EQUAL, revision)], [Delete(key)])
    return (await client.txn(txn)).succeeded


async def wait_first(session: Session, name: bytes, key: bytes, revision: int) -> None:
    """Until no key of the name is older than the one created at revision. Raises SessionExpired, ClientError."""
    waiting = asyncio.create_task(_wait_first(session.client, name + b"/", key, revision))
    losing = asyncio.create_task(session.lost())
    try:
        await asyncio.wait((waiting, losing), return_when=asyncio.FIRST_COMPLETED)
        session.require()
        await waiting
    finally:
        for task in (waiting, losing):
            task.cancel()
            with suppress(asyncio.CancelledError, ClientError):
                await task


async def _wait_first(client: Client, prefix: bytes, key: bytes, revision: int) -> None:
    while True:
        older = await client.range(
            prefix,
            prefix_end(prefix),
            max_create_revision=revision - 1,
            sort_order=SortOrder.DESCEND,
            sort_target=SortTarget.CREATE,
            limit=1,
            keys_only=True,
        )
        if not older.kvs:
            break
        await wait_deleted(client, older.kvs[0].key, older.header.revision + 1)
    # The own key may have gone meanwhile with its lease, and somebody else may be first then.
    own = await client.get(key)
    if own is None or own.create_revision != revision:
        raise SessionExpired("the session's key is gone: its lease ended")


async def wait_deleted(client: Client, key: bytes, start_revision: int) -> None:
    """Until key, which was there before start_revision, is deleted."""
    try:
        async with client.watch(key, start_revision=start_revision) as watcher:
            async for batch in watcher:
                if any(event.type is EventType.DELETE for event in batch.events):
                    return
    except WatchCancelled as cancelled:
        if not cancelled.compact_revision:
            raise
        # Compaction took what the watch needed; the caller looks at who is there now.
