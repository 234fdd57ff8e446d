"""The judge of histories against histories that are wrong in one thing each, made of one that is right.

A judge that lets one of these pass would let a server do it.
"""

import random
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from kvorum.client import (
    Compare,
    CompareTarget,
    Delete,
    DeleteResult,
    Event,
    EventType,
    Get,
    Header,
    KeyValue,
    Put,
    PutResult,
    RangeResult,
    Relation,
    Txn,
    TxnResult,
)

from tests.chaos.history import Call, Grant, History, Outcome, Renew, Revoke, Seen, Watch, is_in
from tests.chaos.replay import WrongHistory, check


class Store:
    """One store that does one thing after the other, each in a second of its own; written without replay.py."""

    def __init__(self) -> None:
        self.revision = 1
        self.now_s = 0.0
        self.kvs: dict[bytes, KeyValue] = {}
        self.history = History(Watch(b"\0", b"\0", 2))
        self.history.watches.append(Watch(b"a", b"c", 2))

    def call(self, request: object, outcome: Outcome = Outcome.OK, *, applied: bool = True) -> Call:
        """From now to half a second later, done in the middle of it."""
        self.now_s += 1
        call = Call(request, self.now_s, self.now_s + 0.5, outcome)  # type: ignore[arg-type]  # of the four, by the tests
        if applied and outcome is not Outcome.REFUSED:
            events: list[Event] = []
            answer = self._do(request, self.revision + 1, events, dict(self.kvs))
            if events:
                self._see(events)
            if outcome is Outcome.OK:
                call.answer = answer  # type: ignore[assignment]  # of the four
        self.history.calls.append(call)
        return call

    def lease_call(self, request: Grant | Renew | Revoke, ttl_s: int = 0) -> None:
        self.now_s += 1
        self.history.calls.append(Call(request, self.now_s, self.now_s + 0.5, Outcome.OK, ttl_s=ttl_s))

    def end_lease(self, lease: int, at_s: float) -> None:
        self.now_s = at_s - 0.25
        keys = sorted(key for key, kv in self.kvs.items() if kv.lease == lease)
        self._see([self._deletion(key, self.revision + 1) for key in keys])

    def _see(self, events: list[Event]) -> None:
        self.revision += 1
        for watch in (self.history.log, *self.history.watches):
            seen = tuple(event for event in events if is_in(event.kv.key, watch.key, watch.range_end))
            if seen:
                watch.batches.append(Seen(self.now_s + 0.25, seen))

    def _deletion(self, key: bytes, revision: int) -> Event:
        del self.kvs[key]
        return Event(EventType.DELETE, KeyValue(key, b"", 0, revision, 0, 0), None)

    def _do(self, request: object, revision: int, events: list[Event], before: dict[bytes, KeyValue]) -> object:
        inner = request
        if isinstance(inner, Put):
            old = self.kvs.get(inner.key)
            created, version = (old.create_revision, old.version + 1) if old else (revision, 1)
            self.kvs[inner.key] = KeyValue(inner.key, inner.value, created, revision, version, inner.lease)
            events.append(Event(EventType.PUT, self.kvs[inner.key], None))
            return PutResult(self._header(events), old if inner.prev_kv else None)
        if isinstance(inner, Delete):
            gone = [self.kvs[key] for key in sorted(self.kvs) if is_in(key, inner.key, inner.range_end)]
            events += [self._deletion(kv.key, revision) for kv in gone]
            return DeleteResult(self._header(events), len(gone), tuple(gone) if inner.prev_kv else ())
        if isinstance(inner, Get):
            found = tuple(self.kvs[key] for key in sorted(self.kvs) if is_in(key, inner.key, inner.range_end))
            return RangeResult(self._header(events), found, False, len(found))
        assert isinstance(inner, Txn)
        succeeded = all(before[compare.key].value == compare.operand for compare in inner.compare)
        responses = tuple(
            self._do(each, revision, events, before) for each in (inner.success if succeeded else inner.failure)
        )
        return TxnResult(self._header(events), succeeded, responses)  # type: ignore[arg-type]  # of the four

    def _header(self, events: list[Event]) -> Header:
        return Header(1, 1, self.revision + bool(events), 1)

    def finished(self) -> History:
        for watch in (self.history.log, *self.history.watches):
            watch.until = self.revision
        return self.history


def right() -> Store:
    store = Store()
    store.call(Put(b"a", b"1"))  # 2
    store.call(Put(b"b", b"2"))  # 3
    store.call(Put(b"a", b"3", prev_kv=True))  # 4
    store.call(Get(b"a"))
    store.call(Put(b"a", b"4"), Outcome.REFUSED)
    store.call(Put(b"d", b"5"), Outcome.UNKNOWN)  # 5
    store.call(Put(b"d", b"6"), Outcome.UNKNOWN, applied=False)
    store.call(Delete(b"d", b"e"), Outcome.UNKNOWN)  # 6
    store.call(Delete(b"x"))
    store.call(
        Txn(
            [Compare(b"a", CompareTarget.VALUE, Relation.EQUAL, b"3")],
            [Put(b"c", b"7"), Delete(b"b", prev_kv=True), Get(b"a", b"z")],
            [Put(b"c", b"8")],
        )
    )  # 7
    store.call(Get(b"\0", b"\0"))
    store.lease_call(Grant(9, 5), ttl_s=5)
    store.call(Put(b"l", b"9", 9))  # 8
    store.lease_call(Renew(9), ttl_s=5)
    store.end_lease(9, store.now_s + 6)  # 9
    store.call(Put(b"a", b"10"))  # 10
    return store


def number(store: Store, request_type: type, occurrence: int = 0) -> int:
    places = [place for place, call in enumerate(store.history.calls) if isinstance(call.request, request_type)]
    return places[occurrence]


def test_a_right_history_passes_and_everything_in_it_was_looked_at() -> None:
    counts = check(right().finished())
    assert counts["writes checked"] == 6
    assert counts["reads checked"] == 3
    assert counts["lost answers found"] == 2
    assert counts["leases expired"] == 1
    assert counts["events watched"] == 10 + 5
    assert counts["revisions"] == 10


def lost_write(store: Store) -> None:
    call = store.history.calls[number(store, Put)]
    for watch in (store.history.log, *store.history.watches):
        for at, batch in enumerate(watch.batches):
            kept = tuple(
                replace(event, kv=replace(event.kv, value=b"other")) if event.kv.value == b"1" else event
                for event in batch.events
            )
            watch.batches[at] = replace(batch, events=kept)
    assert call.outcome is Outcome.OK


def stale_read(store: Store) -> None:
    """At a revision that was over when it began: whole, but old."""
    call = store.history.calls[number(store, Get)]
    assert isinstance(call.answer, RangeResult)
    old = KeyValue(b"a", b"1", 2, 2, 1, 0)
    call.answer = replace(call.answer, header=replace(call.answer.header, revision=3), kvs=(old,))


def read_of_another_state(store: Store) -> None:
    call = store.history.calls[number(store, Get)]
    assert isinstance(call.answer, RangeResult)
    call.answer = replace(call.answer, kvs=(KeyValue(b"a", b"1", 2, 2, 1, 0),))


def read_that_misses_a_key(store: Store) -> None:
    call = store.history.calls[number(store, Get, 1)]
    assert isinstance(call.answer, RangeResult)
    call.answer = replace(call.answer, kvs=call.answer.kvs[1:], count=call.answer.count - 1)


def read_of_the_future(store: Store) -> None:
    call = store.history.calls[number(store, Get)]
    assert call.answer is not None
    call.answer = replace(call.answer, header=replace(call.answer.header, revision=99))


def write_before_what_was_known(store: Store) -> None:
    """The second put began after somebody had seen revision 4."""
    call = store.history.calls[number(store, Put, 1)]
    call.invoked_s, call.returned_s = 8.6, 8.9


def write_seen_before_it_began(store: Store) -> None:
    """By a watcher, who had its event a quarter of a second after it was done."""
    call = store.history.calls[number(store, Put, 1)]
    call.invoked_s += 0.3


def revision_given_out_twice(store: Store) -> None:
    call = store.history.calls[number(store, Put, 1)]
    assert call.answer is not None
    call.answer = replace(call.answer, header=replace(call.answer.header, revision=4))


def refused_write_is_there(store: Store) -> None:
    store.history.calls[number(store, Put)].outcome = Outcome.REFUSED
    store.history.calls[number(store, Put)].answer = None


def lost_answer_before_it_was_asked(store: Store) -> None:
    call = store.history.calls[number(store, Put, 4)]
    assert call.outcome is Outcome.UNKNOWN
    call.invoked_s = 40


def lost_answer_applied_twice(store: Store) -> None:
    store.call(Put(b"d", b"5"), Outcome.UNKNOWN)
    store.history.calls.pop()


def write_of_nobody(store: Store) -> None:
    del store.history.calls[number(store, Put, 1)]


def deletion_of_nobody(store: Store) -> None:
    del store.history.calls[number(store, Delete)]


def wrong_previous_value(store: Store) -> None:
    call = store.history.calls[number(store, Put, 2)]
    assert isinstance(call.answer, PutResult)
    call.answer = replace(call.answer, prev_kv=None)


def wrong_branch(store: Store) -> None:
    call = store.history.calls[number(store, Txn)]
    assert isinstance(call.request, Txn)
    call.request = replace(call.request, compare=[Compare(b"a", CompareTarget.VALUE, Relation.EQUAL, b"1")])


def transaction_that_reads_too_early(store: Store) -> None:
    call = store.history.calls[number(store, Txn)]
    assert isinstance(call.answer, TxnResult)
    put, gone, ranged = call.answer.responses
    assert isinstance(ranged, RangeResult)
    call.answer = replace(call.answer, responses=(put, gone, replace(ranged, kvs=ranged.kvs[:1], count=1)))


def lease_ended_early(store: Store) -> None:
    call = store.history.calls[number(store, Renew)]
    call.ttl_s = 8


def lease_lost_a_key(store: Store) -> None:
    """One of its keys goes with it and the other stays."""
    store.lease_call(Grant(10, 1), ttl_s=1)
    store.call(Put(b"m", b"11", 10))
    store.call(Put(b"n", b"12", 10))
    kept = store.kvs.pop(b"n")
    store.end_lease(10, store.now_s + 3)
    store.kvs[b"n"] = kept


def watch_misses_an_event(store: Store) -> None:
    del store.history.watches[0].batches[1]


def watch_sees_an_event_twice(store: Store) -> None:
    batches = store.history.watches[0].batches
    batches.insert(2, batches[1])


def watch_sees_events_out_of_order(store: Store) -> None:
    batches = store.history.watches[0].batches
    batches[1], batches[2] = batches[2], batches[1]


def watch_ends_early(store: Store) -> None:
    store.history.watches[0].batches.pop()


def watch_has_another_value(store: Store) -> None:
    batch = store.history.watches[0].batches[0]
    event = batch.events[0]
    changed = replace(event, kv=replace(event.kv, version=7))
    store.history.watches[0].batches[0] = replace(batch, events=(changed,))


def progress_too_early(store: Store) -> None:
    store.history.watches[0].batches.insert(1, Seen(2.0, (), progress=5))


def revision_left_out(store: Store) -> None:
    for watch in (store.history.log, *store.history.watches):
        watch.batches = [batch for batch in watch.batches if batch.events[0].kv.mod_revision != 5]


def watcher_gave_up(store: Store) -> None:
    store.history.watches[0].trouble = "compacted at 5"


WRONG: dict[Callable[[Store], None], str] = {
    lost_write: "and there is",
    stale_read: "4 was known before this began, which is of revision 3",
    read_of_another_state: "revision 4: .* was told",
    read_that_misses_a_key: "revision 7: .* was told",
    read_of_the_future: "has revision 99 of 10",
    write_before_what_was_known: "was known before this began, which is of revision 3",
    write_seen_before_it_began: "3 was known before this began, which is of revision 3",
    revision_given_out_twice: "revision 4 was given out 2 times",
    refused_write_is_there: "revision 2 is of a call that was refused",
    lost_answer_before_it_was_asked: "was known before this began, which is of revision 5",
    lost_answer_applied_twice: "revision 11 was written by nobody",
    write_of_nobody: "revision 3 was written by nobody",
    deletion_of_nobody: "revision 6 was written by nobody",
    wrong_previous_value: "revision 4: .* was told",
    wrong_branch: "revision 7: ",
    transaction_that_reads_too_early: "revision 7: .* was told",
    lease_ended_early: "lease 9 ended at .*, too early",
    lease_lost_a_key: "was written by nobody",
    watch_misses_an_event: "watch of b'a'-b'c' from 2: event 1 is",
    watch_sees_an_event_twice: "watch of b'a'-b'c' from 2: event 2 is",
    watch_sees_events_out_of_order: "watch of b'a'-b'c' from 2: event 1 is",
    watch_ends_early: "watch of b'a'-b'c' from 2: 4 events",
    watch_has_another_value: "watch of b'a'-b'c' from 2: event 0 is",
    progress_too_early: "came after it was told that 5 was passed",
    revision_left_out: "revision 5 has no event",
    watcher_gave_up: "compacted at 5",
}


@pytest.mark.parametrize("plant", WRONG, ids=lambda plant: plant.__name__)
def test_a_history_that_is_wrong_in_one_thing_is_refused(plant: Callable[[Store], None]) -> None:
    store = right()
    plant(store)
    with pytest.raises(WrongHistory) as refusal:
        check(store.finished())
    assert re.search(WRONG[plant], str(refusal.value)), refusal.value


def test_a_renewal_by_a_deposed_leader_is_given_its_slack() -> None:
    store = right()
    lease_ended_early(store)
    assert check(store.finished(), lease_slack_s=3)["leases expired"] == 1


def test_a_revoked_lease_may_end_before_its_time() -> None:
    store = Store()
    store.lease_call(Grant(9, 600), ttl_s=600)
    store.call(Put(b"l", b"1", 9))
    store.lease_call(Revoke(9))
    store.end_lease(9, store.now_s + 0.3)
    assert check(store.finished())["leases revoked"] == 1


def test_random_histories_of_one_store_pass() -> None:
    dice = random.Random(8)
    for _ in range(20):
        store = Store()
        keys = [b"a", b"b", b"c", b"d"]
        for value in range(60):
            key = dice.choice(keys)
            request = dice.choice(
                (
                    Put(key, b"%d" % value, prev_kv=True),
                    Get(b"a", b"z"),
                    Delete(key, prev_kv=True),
                    Delete(b"b", b"d"),
                    Txn([], [Put(b"e", b"%d" % value), Delete(key), Get(b"a", b"z")]),
                )
            )
            outcome = dice.choice((Outcome.OK, Outcome.OK, Outcome.UNKNOWN))
            store.call(request, outcome, applied=outcome is Outcome.OK or dice.random() < 0.5)
        check(store.finished())
