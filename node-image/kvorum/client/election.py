"""An election by name: one candidate at a time is elected, in the way of etcd's clients.

Candidates are keys as a lock's are (see lock), whose values are what they propose; the oldest is elected.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from kvorum.client.client import Client, prefix_end
from kvorum.client.errors import ClientError, NotElected
from kvorum.client.lock import enter, leave, wait_first
from kvorum.client.session import Session
from kvorum.client.values import (
    Compare,
    CompareTarget,
    Event,
    EventType,
    KeyValue,
    LeaderKey,
    Put,
    Relation,
    SortOrder,
    SortTarget,
    Txn,
)
from kvorum.client.watcher import Watcher


class Election:
    """leader: what the own candidacy was won by; None before and after."""

    def __init__(self, session: Session, name: bytes) -> None:
        self.leader: LeaderKey | None = None
        self._session = session
        self._name = name

    async def campaign(self, value: bytes) -> LeaderKey:
        """Waits to be elected. Raises SessionExpired if the lease ends meanwhile, ClientError."""
        key, revision = await enter(self._session, self._name, value)
        leader = LeaderKey(self._name, key, revision, self._session.lease_id)
        try:
            current = await self._session.client.get(key)
            if current is not None and current.value != value:  # a candidate already, with another proposal
                await self._put(leader, value)
            await wait_first(self._session, self._name, key, revision)
        except (ClientError, asyncio.CancelledError):
            with suppress(ClientError):
                await asyncio.shield(leave(self._session.client, key, revision))
            raise
        self.leader = leader
        return leader

    async def proclaim(self, value: bytes) -> None:
        """Another proposal, still elected. Raises NotElected if that is over, ClientError."""
        if self.leader is None:
            raise NotElected("election: not leader")
        await self._put(self.leader, value)

    async def resign(self) -> None:
        """Lets another one be elected. Nothing if not elected. Raises ClientError."""
        if self.leader is not None:
            leader, self.leader = self.leader, None
            await leave(self._session.client, leader.key, leader.revision)

    async def _put(self, leader: LeaderKey, value: bytes) -> None:
        txn = Txn(
            [Compare(leader.key, CompareTarget.CREATE, Relation.EQUAL, leader.revision)],
            [Put(leader.key, value, lease=leader.lease)],
        )
        if not (await self._session.client.txn(txn)).succeeded:
            self.leader = None
            raise NotElected("election: not leader")


async def elected(client: Client, name: bytes) -> KeyValue | None:
    """The key of who is elected now, its value the proposal."""
    prefix = name + b"/"
    answer = await client.range(
        prefix, prefix_end(prefix), sort_order=SortOrder.ASCEND, sort_target=SortTarget.CREATE, limit=1
    )
    return answer.kvs[0] if answer.kvs else None


async def observe(client: Client, name: bytes) -> AsyncIterator[KeyValue]:
    """Who is elected, now and whenever that changes, and each new proposal; some may be missed between two who won.

    Raises ClientError, WatchCancelled.
    """
    prefix = name + b"/"
    seen: KeyValue | None = None
    while True:
        answer = await client.range(prefix, prefix_end(prefix))
        leader = min(answer.kvs, key=lambda kv: kv.create_revision, default=None)
        if leader is not None and leader != seen:
            seen = leader
            yield leader
        async with client.watch(prefix, prefix_end(prefix), start_revision=answer.header.revision + 1) as watcher:
            async for event in until_over(watcher, leader):
                seen = event.kv
                yield event.kv


async def until_over(watcher: Watcher, leader: KeyValue | None) -> AsyncIterator[Event]:
    """The leader's proposals, until its key goes; without one, nothing, until there is a candidate."""
    async for batch in watcher:
        for event in batch.events:
            if leader is None and event.type is EventType.PUT:
                return
            if leader is not None and event.kv.key == leader.key:
                if event.type is EventType.DELETE:
                    return
                yield event
