"""Clients that put, read, delete, compare and lease without a pause, and watchers that must miss nothing; all recorded.

The calls are drawn from a seed. What a cluster answers, and when, is not: the same seed makes another history.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Sequence

from kvorum.client import (
    Client,
    ClientError,
    Compare,
    CompareTarget,
    Delete,
    Get,
    KeyValue,
    Put,
    PutResult,
    RangeResult,
    Relation,
    Txn,
    TxnResult,
    WatchCancelled,
    prefix_end,
)

from tests.chaos.history import Call, Grant, History, Outcome, Renew, Request, Revoke, Seen, Watch, is_in

PREFIX = b"c/"
END = prefix_end(PREFIX)
KEYS = [PREFIX + b"%02d" % number for number in range(24)]
EVERYTHING = (b"\0", b"\0")
CALL_S = 1.5
PAUSE_S = 0.02  # about what a client takes between two calls: it is the faults that are to be many, not the calls
LEASE_TTL_S = (2, 6)
FIRST_REVISION = 2  # of the first write: a store begins with 1
STANDING = (77, 36_000)  # id and seconds
HISTORY_KEPT = 400  # revisions left by a compaction, and more where a watcher is behind
AGAIN_S = 0.1


class Load:
    """start() it, and stop() it before the end is judged. acknowledged: calls that were answered well so far."""

    def __init__(self, endpoints: Sequence[str], dice: random.Random, clients: int) -> None:
        self.history = History(Watch(*EVERYTHING, start_revision=FIRST_REVISION))
        self.acknowledged = 0
        self.compactions = 0
        self._endpoints = list(endpoints)
        self._dice = dice
        self._clients_count = clients
        self._numbers = itertools.count(1)
        self._latest: dict[bytes, KeyValue] = {}  # as some answer had it: conditions that may hold are made of this
        self._leases: list[int] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._watchers: list[asyncio.Task[None]] = []
        self._paused = asyncio.Event()
        self._paused.set()

    def start(self) -> None:
        """Within a running loop."""
        watches = [self.history.log]
        for first, end in (EVERYTHING, (PREFIX, END), (KEYS[3], KEYS[9]), (KEYS[5], b"")):
            watches.append(Watch(first, end, start_revision=FIRST_REVISION))
        self.history.watches = watches[1:]
        for number, watch in enumerate(watches):
            self._watchers.append(asyncio.create_task(self._watch(watch, self._turned(number))))
        for number in range(self._clients_count):
            self._tasks.append(asyncio.create_task(self._run(self._turned(number))))
        self._tasks.append(asyncio.create_task(self._compact(self._turned(1))))

    async def prepare(self) -> None:
        """A lease that outlives the run, with a key: who lost it, or has another time for it, ends with another row."""
        async with Client(self._endpoints, timeout_s=10) as client:
            for request in (Grant(*STANDING), Put(b"standing", self._value(), STANDING[0])):
                call = await self._call(client, request)
                assert call.outcome is Outcome.OK, call

    def pause(self) -> None:
        """No call begins until resume()."""
        self._paused.clear()

    def resume(self) -> None:
        self._paused.set()

    async def stop(self) -> None:
        """Ends the calls; the watchers go on until finish()."""
        for task in self._tasks:
            task.cancel()
        await ended(self._tasks)

    async def finish(self, deadline_s: float) -> None:
        """Writes every key once more, and waits until every watcher has seen the last. Raises TimeoutError."""
        written: dict[bytes, int] = {}
        async with Client(self._endpoints, timeout_s=10) as client, asyncio.timeout(deadline_s):
            for key in KEYS:
                while key not in written:
                    call = await self._call(client, Put(key, self._value()))
                    if call.answer:
                        written[key] = call.answer.header.revision
            for watch in (self.history.log, *self.history.watches):
                watch.until = max(written.values())
                last = max(revision for key, revision in written.items() if is_in(key, watch.key, watch.range_end))
                while not watch.trouble and newest(watch) < last:  # noqa: ASYNC110 - within the deadline above
                    await asyncio.sleep(AGAIN_S)
        for task in self._watchers:
            task.cancel()
        await ended(self._watchers)

    def _turned(self, number: int) -> list[str]:
        turn = number % len(self._endpoints)
        return self._endpoints[turn:] + self._endpoints[:turn]

    def _value(self) -> bytes:
        return b"%d" % next(self._numbers)

    # Clients

    async def _run(self, endpoints: Sequence[str]) -> None:
        dice = random.Random(self._dice.random())
        kinds: list[tuple[int, Callable[[random.Random], Request]]] = [
            (30, self._put),
            (22, self._get),
            (10, self._delete),
            (16, self._compare_and_put),
            (10, self._several),
            (6, self._lease),
        ]
        weights = [weight for weight, _ in kinds]
        async with Client(endpoints, timeout_s=CALL_S) as client:
            while True:
                await self._paused.wait()
                make = dice.choices(kinds, weights)[0][1]
                request = make(dice)
                endpoint, serializable = None, False
                if isinstance(request, Get) and dice.random() < 0.6:
                    # Of one member, also of one that does not know yet that it leads no more: the client itself would
                    # soon ask others only.
                    endpoint, serializable = dice.choice(endpoints), dice.random() < 0.4
                await self._call(client, request, serializable=serializable, endpoint=endpoint)
                await asyncio.sleep(dice.uniform(0, 2 * PAUSE_S))

    def _put(self, dice: random.Random) -> Request:
        lease = dice.choice(self._leases) if self._leases and dice.random() < 0.3 else 0
        return Put(dice.choice(KEYS), self._value(), lease, prev_kv=dice.random() < 0.5)

    def _get(self, dice: random.Random) -> Request:
        revision = 0
        if dice.random() < 0.15 and self.history.log.batches:
            revision = max(1, newest(self.history.log) - dice.randrange(50))
        if dice.random() < 0.5:
            return Get(dice.choice(KEYS), revision=revision)
        return Get(PREFIX, END, limit=dice.choice((0, 0, 5)), revision=revision)

    def _delete(self, dice: random.Random) -> Request:
        first = dice.randrange(len(KEYS) - 4)
        end = KEYS[first + dice.randrange(1, 4)] if dice.random() < 0.2 else b""
        return Delete(KEYS[first], end, prev_kv=dice.random() < 0.5)

    def _compare_and_put(self, dice: random.Random) -> Request:
        key = dice.choice(KEYS)
        kv = self._latest.get(key)
        target = dice.choice((CompareTarget.MOD, CompareTarget.VALUE, CompareTarget.VERSION, CompareTarget.CREATE))
        if kv is None:
            compare = Compare(key, CompareTarget.CREATE, Relation.EQUAL, 0)
        elif target is CompareTarget.VALUE:
            compare = Compare(key, target, dice.choice((Relation.EQUAL, Relation.NOT_EQUAL)), kv.value)
        else:
            number = {
                CompareTarget.MOD: kv.mod_revision,
                CompareTarget.VERSION: kv.version,
                CompareTarget.CREATE: kv.create_revision,
            }[target]
            compare = Compare(key, target, dice.choice(list(Relation)), number)
        return Txn([compare], [Put(key, self._value()), Get(PREFIX, END)], [Get(key)])

    def _several(self, dice: random.Random) -> Request:
        one, two, three, four = dice.sample(KEYS, 4)
        within = Txn(
            [Compare(one, CompareTarget.VERSION, Relation.GREATER, dice.randrange(4))],
            [Put(four, self._value(), prev_kv=True)],
            [Delete(four, prev_kv=True), Get(one)],
        )
        everywhere = Compare(PREFIX, CompareTarget.MOD, Relation.GREATER, 0, END)
        return Txn(
            [everywhere], [Put(one, self._value()), Delete(two), within, Get(PREFIX, END)], [Put(three, self._value())]
        )

    def _lease(self, dice: random.Random) -> Request:
        roll = dice.random()
        if not self._leases or roll < 0.4:
            return Grant(1_000_000 + next(self._numbers), dice.randint(*LEASE_TTL_S))
        lease = dice.choice(self._leases)
        if roll < 0.75:
            return Renew(lease)
        self._leases.remove(lease)
        return Revoke(lease)

    async def _call(
        self, client: Client, request: Request, *, serializable: bool = False, endpoint: str | None = None
    ) -> Call:
        call = Call(request, time.monotonic(), serializable=serializable)
        self.history.calls.append(call)
        try:
            await self._ask(client, call, endpoint)
            call.outcome = Outcome.OK
            self.acknowledged += 1
        except ClientError as failure:
            call.outcome = Outcome.UNKNOWN if failure.may_have_been_applied else Outcome.REFUSED
            call.text = str(failure)
        finally:
            call.returned_s = time.monotonic()
        return call

    async def _ask(self, client: Client, call: Call, endpoint: str | None) -> None:
        request = call.request
        if isinstance(request, Put):
            call.answer = await client.put(request.key, request.value, request.lease, request.prev_kv)
        elif isinstance(request, Delete):
            call.answer = await client.delete(request.key, request.range_end, prev_kv=request.prev_kv)
        elif isinstance(request, Get):
            call.answer = await client.range(
                request.key,
                request.range_end,
                limit=request.limit,
                revision=request.revision,
                serializable=call.serializable,
                endpoint=endpoint,
            )
            self._latest |= {kv.key: kv for kv in call.answer.kvs}
        elif isinstance(request, Txn):
            call.answer = await client.txn(request)
            self._latest |= {kv.key: kv for kv in ranged(call.answer)}
        elif isinstance(request, Grant):
            call.ttl_s = (await client.lease_grant(request.ttl_s, request.lease)).ttl_s
            if request.lease != STANDING[0]:
                self._leases = [*self._leases[-12:], request.lease]
        elif isinstance(request, Renew):
            call.ttl_s = await client.lease_keepalive(request.lease)
        else:
            await client.lease_revoke(request.lease)

    async def _compact(self, endpoints: Sequence[str]) -> None:
        """Never what a watcher has not seen: then it would have to miss something."""
        async with Client(endpoints, timeout_s=CALL_S) as client:
            while True:
                await asyncio.sleep(1.0)
                await self._paused.wait()
                seen = min(newest(watch) for watch in (self.history.log, *self.history.watches))
                if seen > HISTORY_KEPT:
                    try:
                        await client.compact(seen - HISTORY_KEPT)
                        self.compactions += 1
                    except ClientError:
                        continue  # done already, or nobody is there to do it: the next one covers it

    # Watchers

    async def _watch(self, watch: Watch, endpoints: Sequence[str]) -> None:
        """Watches on from where it was whatever becomes of the servers."""
        async with Client(endpoints, timeout_s=CALL_S) as client:
            revision = watch.start_revision
            while True:
                watcher = client.watch(watch.key, watch.range_end, start_revision=revision, progress_notify=True)
                try:
                    async for batch in watcher:
                        progress = 0 if batch.events else batch.header.revision
                        watch.batches.append(Seen(time.monotonic(), batch.events, progress))
                        self._latest |= {event.kv.key: event.kv for event in batch.events if event.kv.value}
                except WatchCancelled as cancelled:
                    if cancelled.compact_revision:
                        watch.trouble = f"compacted at {cancelled.compact_revision}, at {watcher.next_revision}"
                        return
                except ClientError:
                    pass  # nobody serves it now
                finally:
                    watcher.close()
                revision = max(revision, watcher.next_revision)
                await asyncio.sleep(AGAIN_S)


def newest(watch: Watch) -> int:
    """The last revision a watch has an event of."""
    for batch in reversed(watch.batches):
        if batch.events:
            return batch.events[-1].kv.mod_revision
    return 0


def ranged(answer: TxnResult) -> list[KeyValue]:
    found: list[KeyValue] = []
    for response in answer.responses:
        if isinstance(response, RangeResult):
            found += response.kvs
        elif isinstance(response, PutResult) and response.prev_kv:
            found.append(response.prev_kv)
    return found


async def ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
