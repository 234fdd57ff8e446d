"""Whether a history could be that of one store that did one thing after the other: the revisions are replayed in order.

A store with revisions says itself in which order it did things, so nothing has to be searched: each write is executed
again on the state before its revision, and its events and its answer must be what the history has; each read must be
the state at the revision it names; and what had returned before another call began must not come after it. A write
whose answer was lost stands where its events are, or nowhere. Each revision must have somebody who wrote it: a client,
or the end of a lease, which must not come early.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kvorum.client import (
    Compare,
    CompareTarget,
    Delete,
    DeleteResult,
    Event,
    EventType,
    Get,
    KeyValue,
    Put,
    PutResult,
    RangeResult,
    Relation,
    Txn,
    TxnResult,
)

from tests.chaos.history import Call, Grant, History, Outcome, Renew, Revoke, Watch, is_in

PROBLEMS_MAX = 20  # told; the first ones explain the rest
ABSENT = KeyValue(b"", b"", 0, 0, 0, 0)

State = dict[bytes, KeyValue]
Op = Put | Get | Delete | Txn


class WrongHistory(AssertionError):
    """No single store could have done this."""


def check(history: History, lease_slack_s: float = 0.0) -> Counter[str]:
    """What was checked, counted. lease_slack_s: a renewal that a leader answered which was deposed already, and did not
    know it yet, may be worth so much less. Raises WrongHistory with what is wrong."""
    judge = _Judge(history, lease_slack_s)
    judge.run()
    if judge.problems:
        more = f"\n... {len(judge.problems) - PROBLEMS_MAX} more" if len(judge.problems) > PROBLEMS_MAX else ""
        raise WrongHistory("\n".join(judge.problems[:PROBLEMS_MAX]) + more)
    return judge.counts


@dataclass(slots=True)
class _Execution:
    """What an operation does to a state, told as events and as what is said of it."""

    state: State
    revision: int
    events: list[tuple[EventType, KeyValue]] = field(default_factory=list)

    def run(self, op: Op) -> tuple[object, ...]:
        if isinstance(op, Put):
            return self._put(op)
        if isinstance(op, Delete):
            return self._delete(op)
        if isinstance(op, Get):
            return told_range(read(self.state, op))
        return self._txn(op, self.state.copy())

    def _put(self, op: Put) -> tuple[object, ...]:
        old = self.state.get(op.key)
        new = KeyValue(
            op.key,
            op.value,
            old.create_revision if old else self.revision,
            self.revision,
            old.version + 1 if old else 1,
            op.lease,
        )
        self.state[op.key] = new
        self.events.append((EventType.PUT, new))
        return ("put", old if op.prev_kv else None)

    def _delete(self, op: Delete) -> tuple[object, ...]:
        old = [self.state[key] for key in sorted(self.state) if is_in(key, op.key, op.range_end)]
        for kv in old:
            del self.state[kv.key]
            self.events.append((EventType.DELETE, KeyValue(kv.key, b"", 0, self.revision, 0, 0)))
        return ("delete", len(old), tuple(old) if op.prev_kv else ())

    def _txn(self, op: Txn, before: State) -> tuple[object, ...]:
        """before: the state that every condition is asked of, also of a transaction within another."""
        succeeded = all(holds(before, compare) for compare in op.compare)
        return (
            "txn",
            succeeded,
            tuple(
                self._txn(inner, before) if isinstance(inner, Txn) else self.run(inner)
                for inner in (op.success if succeeded else op.failure)
            ),
        )


def holds(state: State, compare: Compare) -> bool:
    found = [kv for key, kv in sorted(state.items()) if is_in(key, compare.key, compare.range_end)]
    if not found:
        # Of what is absent all numbers are 0, and it has no value: not an empty one, either.
        return compare.target is not CompareTarget.VALUE and _holds_for(ABSENT, compare)
    return all(_holds_for(kv, compare) for kv in found)


def _holds_for(kv: KeyValue, compare: Compare) -> bool:
    found: int | bytes = getattr(kv, {CompareTarget.MOD: "mod_revision"}.get(compare.target, compare.target.value))
    operand = compare.operand
    if isinstance(found, bytes):
        assert isinstance(operand, bytes)
        order = (found > operand) - (found < operand)
    else:
        assert isinstance(operand, int)
        order = (found > operand) - (found < operand)
    return {
        Relation.EQUAL: order == 0,
        Relation.NOT_EQUAL: order != 0,
        Relation.GREATER: order > 0,
        Relation.LESS: order < 0,
    }[compare.relation]


def read(state: State, op: Get) -> RangeResult:
    found = [state[key] for key in sorted(state) if is_in(key, op.key, op.range_end)]
    kvs = found[: op.limit] if op.limit else found
    return RangeResult(None, tuple(kvs), len(kvs) < len(found), len(found))  # type: ignore[arg-type]  # nobody answered


def told_range(result: RangeResult) -> tuple[object, ...]:
    return ("range", result.kvs, result.count, result.more)


def told(answer: object) -> tuple[object, ...]:
    """An answer without its header, as _Execution tells it."""
    if isinstance(answer, PutResult):
        return ("put", answer.prev_kv)
    if isinstance(answer, DeleteResult):
        return ("delete", answer.deleted, answer.prev_kvs)
    if isinstance(answer, RangeResult):
        return told_range(answer)
    assert isinstance(answer, TxnResult), answer
    return ("txn", answer.succeeded, tuple(map(told, answer.responses)))


def changed(answer: object) -> bool:
    """Whether what was answered so took a revision of its own."""
    if isinstance(answer, PutResult):
        return True
    if isinstance(answer, DeleteResult):
        return answer.deleted > 0
    return isinstance(answer, TxnResult) and any(map(changed, answer.responses))


def values_of(op: object) -> Iterable[bytes]:
    """What an operation may write."""
    if isinstance(op, Put):
        yield op.value
    elif isinstance(op, Txn):
        for inner in (*op.success, *op.failure):
            yield from values_of(inner)


def may_delete(op: object) -> bool:
    return isinstance(op, Delete) or (isinstance(op, Txn) and any(map(may_delete, (*op.success, *op.failure))))


class _Judge:
    def __init__(self, history: History, lease_slack_s: float) -> None:
        self.problems: list[str] = []
        self.counts: Counter[str] = Counter()
        self._history = history
        self._slack_s = lease_slack_s
        self._writes: dict[int, list[Call]] = defaultdict(list)  # by the revision they were answered with
        self._reads: dict[int, list[Call]] = defaultdict(list)  # by the revision they show
        self._lost: dict[bytes, Call] = {}  # answers lost, by the values they would write
        self._lost_deletions: list[Call] = []
        self._refused: dict[bytes, Call] = {}
        self._leases: dict[int, list[Call]] = defaultdict(list)
        self._used: set[int] = set()  # ids of lost calls whose effect was found
        self._times: list[float] = []
        self._revisions: list[int] = []

    def run(self) -> None:
        by_revision = self._by_revision()
        for call in self._history.calls:
            self._sort(call)
        self._note_returned()
        first, last = self._history.log.start_revision, max(by_revision, default=1)
        state: State = {}
        self._show(state, first - 1)
        for revision in range(first, last + 1):
            if revision not in by_revision:
                self._wrong(f"revision {revision} has no event, and {last} is there")
                continue
            seen_s, events = by_revision[revision]
            self._write(revision, events, seen_s, state)
            replayed(state, events)
            self._show(state, revision)
        for revision in (*self._writes, *self._reads):
            if revision > last:
                self._wrong(f"{(self._writes[revision] or self._reads[revision])[0]} has revision {revision} of {last}")
        for watch in (self._history.log, *self._history.watches):
            self._check_watch(watch, by_revision)
        self.counts["revisions"] = last

    def _wrong(self, text: str) -> None:
        self.problems.append(text)

    def _by_revision(self) -> dict[int, tuple[float, list[Event]]]:
        found: dict[int, tuple[float, list[Event]]] = {}
        for at_s, event in self._history.log.events:
            found.setdefault(event.kv.mod_revision, (at_s, []))[1].append(event)
        return found

    def _sort(self, call: Call) -> None:
        request = call.request
        self.counts[f"{type(request).__name__.lower()} {call.outcome.value}"] += 1
        if isinstance(request, Grant | Renew | Revoke):
            self._leases[request.lease].append(call)
        elif call.outcome is Outcome.OK:
            assert call.answer is not None
            revision = call.answer.header.revision
            if changed(call.answer):
                self._writes[revision].append(call)
            else:
                self._reads[getattr(request, "revision", 0) or revision].append(call)
        elif call.outcome is Outcome.REFUSED:
            self._refused |= dict.fromkeys(values_of(request), call)
        else:
            self._lost |= dict.fromkeys(values_of(request), call)
            if may_delete(request):
                self._lost_deletions.append(call)

    # Real time

    def _note_returned(self) -> None:
        """Which revision was known to somebody from when on: by an answer or by a watch."""
        known = [(call.returned_s, call.answer.header.revision) for call in self._history.calls if call.answer]
        for watch in (self._history.log, *self._history.watches):
            known += [(at_s, event.kv.mod_revision) for at_s, event in watch.events]
        highest = 0
        for at_s, revision in sorted(known):
            if revision > highest:
                highest = revision
                self._times.append(at_s)
                self._revisions.append(revision)

    def _known(self, at_s: float) -> int:
        """The highest revision that somebody knew before a time."""
        place = bisect_left(self._times, at_s)
        return self._revisions[place - 1] if place else 0

    # A revision

    def _write(self, revision: int, events: Sequence[Event], seen_s: float, before: State) -> None:
        for event in events:
            refused = self._refused.get(event.kv.value) if event.type is EventType.PUT else None
            if refused is not None:
                self._wrong(f"revision {revision} is of a call that was refused: {refused}")
        calls = self._writes.get(revision, [])
        if len(calls) > 1:
            self._wrong(f"revision {revision} was given out {len(calls)} times: {calls[0]} and {calls[1]}")
        for call in calls:
            self._check_write(call, revision, events, before)
        if not calls and not self._is_of_a_lost_call(revision, events, before):
            self._check_lease_end(revision, events, seen_s, before)

    def _check_write(self, call: Call, revision: int, events: Sequence[Event], before: State) -> None:
        expected, said = executed(call.request, before, revision)
        assert call.answer is not None
        if expected != told_events(events):
            self._wrong(f"revision {revision}: {call} writes {expected}, and there is {told_events(events)}")
        if said != told(call.answer):
            self._wrong(f"revision {revision}: {call} was told {told(call.answer)}, and it is {said}")
        self._check_time(call, revision, is_write=True)
        self.counts["writes checked"] += 1

    def _check_time(self, call: Call, revision: int, *, is_write: bool) -> None:
        known = self._known(call.invoked_s)
        if revision < known or (is_write and revision == known):
            self._wrong(f"{known} was known before this began, which is of revision {revision}: {call}")

    def _is_of_a_lost_call(self, revision: int, events: Sequence[Event], before: State) -> bool:
        values = [event.kv.value for event in events if event.type is EventType.PUT]
        candidates = [self._lost[value] for value in values[:1] if value in self._lost]
        if not values:
            candidates = self._lost_deletions
        for call in candidates:
            if id(call) in self._used or executed(call.request, before, revision)[0] != told_events(events):
                continue
            if not values and self._known(call.invoked_s) >= revision:
                continue  # it began later; another deletion, or a lease, may have done this
            self._check_time(call, revision, is_write=True)
            self._used.add(id(call))
            self.counts["lost answers found"] += 1
            return True
        return False

    def _check_lease_end(self, revision: int, events: Sequence[Event], seen_s: float, before: State) -> None:
        leases = {before[event.kv.key].lease for event in events if event.kv.key in before}
        lease = leases.pop() if len(leases) == 1 else 0
        keys = sorted(key for key, kv in before.items() if kv.lease == lease)
        deleted = [(EventType.DELETE, KeyValue(key, b"", 0, revision, 0, 0)) for key in keys]
        if not lease or deleted != told_events(events):
            self._wrong(f"revision {revision} was written by nobody: {told_events(events)}")
            return
        calls = self._leases[lease]
        for call in calls:
            is_revocation = isinstance(call.request, Revoke) and call.outcome is not Outcome.REFUSED
            if is_revocation and self._known(call.invoked_s) < revision:
                self.counts["leases revoked"] += 1
                return
        for call in calls:
            if isinstance(call.request, Grant | Renew) and call.ttl_s and call.returned_s < seen_s:
                slack_s = self._slack_s if isinstance(call.request, Renew) else 0.0
                if seen_s < call.invoked_s + call.ttl_s - slack_s:
                    self._wrong(f"lease {lease} ended at {seen_s:.3f}, too early: {call}, {call.ttl_s} s")
        self.counts["leases expired"] += 1

    # Reads

    def _show(self, state: State, revision: int) -> None:
        for call in self._reads.get(revision, ()):
            assert call.answer is not None
            said = executed(call.request, state, revision)[1]
            if said != told(call.answer):
                self._wrong(f"revision {revision}: {call} was told {told(call.answer)}, and it is {said}")
            if not call.serializable:
                self._check_time(call, call.answer.header.revision, is_write=False)
            self.counts["reads checked"] += 1

    # Watches

    def _check_watch(self, watch: Watch, by_revision: dict[int, tuple[float, list[Event]]]) -> None:
        name = f"watch of {watch.key!r}-{watch.range_end!r} from {watch.start_revision}"
        if watch.trouble:
            self._wrong(f"{name}: {watch.trouble}")
        expected = [
            event
            for revision in range(watch.start_revision, watch.until + 1)
            for event in by_revision.get(revision, (0.0, []))[1]
            if is_in(event.kv.key, watch.key, watch.range_end)
        ]
        got = [event for _, event in watch.events if event.kv.mod_revision <= watch.until]
        for place, (one, other) in enumerate(zip(expected, got, strict=False)):
            if one != other:
                self._wrong(f"{name}: event {place} is {other}, and should be {one}")
                break
        else:
            if len(expected) != len(got):
                self._wrong(f"{name}: {len(got)} events up to {watch.until}, and there are {len(expected)}")
        promised = 0
        for batch in watch.batches:
            early = [event.kv.mod_revision for event in batch.events if event.kv.mod_revision <= promised]
            if early:
                self._wrong(f"{name}: revision {early[0]} came after it was told that {promised} was passed")
            promised = max(promised, batch.progress)
        self.counts["events watched"] += len(got)


def executed(
    request: object, before: State, revision: int
) -> tuple[list[tuple[EventType, KeyValue]], tuple[object, ...]]:
    """The events and the answer of a request on a state."""
    assert isinstance(request, Put | Get | Delete | Txn), request
    execution = _Execution(dict(before), revision)
    said = execution.run(request)
    return execution.events, said


def told_events(events: Sequence[Event]) -> list[tuple[EventType, KeyValue]]:
    return [(event.type, event.kv) for event in events]


def replayed(state: State, events: Sequence[Event]) -> None:
    for event in events:
        if event.type is EventType.PUT:
            state[event.kv.key] = event.kv
        else:
            state.pop(event.kv.key, None)


def state_at_end(log: Watch) -> State:
    """What must be there, by the log."""
    state: State = {}
    replayed(state, [event for _, event in log.events])
    return state
