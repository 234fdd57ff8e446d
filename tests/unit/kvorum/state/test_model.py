"""Machine against the definition (model.py), and against itself under other circumstances."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from kvorum.etcdpb.internal_pb2 import InternalRaftRequest, RequestHeader
from kvorum.etcdpb.rpc_pb2 import (
    CompactionRequest,
    DeleteRangeResponse,
    Event,
    LeaseGrantRequest,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    TxnRequest,
    TxnResponse,
)
from kvorum.raft.message import Entry
from kvorum.state import checks, txn
from kvorum.state.dict_store import DictStore
from kvorum.state.hash_kv import KeySpaceHash
from kvorum.state.machine import Machine
from kvorum.state.refusal import Refusal
from kvorum.state.store import KEY, LEASE

from tests.unit.kvorum.state.driver import Driver, hash_of, new_machine
from tests.unit.kvorum.state.model import Model, Refused
from tests.unit.kvorum.state.requests import requests

scripts = st.lists(requests, min_size=12, max_size=30)
MANY = settings(max_examples=250)
SOME = settings(max_examples=100)
KINDS: dict[str, Any] = {
    "range": RangeResponse,
    "put": PutResponse,
    "delete_range": DeleteRangeResponse,
    "txn": TxnResponse,
}


def passes_checks(name: str, request: Any) -> bool:
    """Whether the request would be proposed at all."""
    if name == "put":
        return checks.put(request) is None
    if name == "txn":
        return checks.txn(request) is None
    return True


def proposable(script: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """What would be proposed of a script, with revisions to compact at in the place of distances to them."""
    driver = Driver()
    proposed = []
    for name, request in script:
        if passes_checks(name, request):
            if name == "compaction":
                request = CompactionRequest(revision=driver.machine.revision - request.revision)
            ask_machine(driver, name, request)
            proposed.append((name, request))
    return proposed


def ask_machine(driver: Driver, name: str, request: Any) -> Any:
    """The answer of the machine, by the way a server takes: parsed, or the text of the refusal."""
    machine = driver.machine
    kind = KINDS.get(name)
    answer: bytes | Refusal | None
    if name == "range":
        answer = machine.range(request)
    elif name == "txn":
        if txn.is_read_only(request):
            answer = machine.read_txn(request)
        else:
            answer = machine.refuses_txn_ranges(request)
            if answer is None:
                outcome = driver.apply(txn=request)
                answer = outcome.refusal or outcome.body
    else:
        outcome = driver.apply(**{name: request})
        answer = outcome.refusal or outcome.body
    if isinstance(answer, Refusal):
        return answer.text
    return None if kind is None else kind.FromString(answer)


def ask_model(model: Model, name: str, request: Any) -> Any:
    """The answer of the definition; of a refusal, all texts that may come first."""
    try:
        if name == "lease_grant":
            if request.ID in model.leases:
                raise Refused("etcdserver: lease already exists")
            model.leases.add(request.ID)
            return None
        if name == "lease_revoke":
            return model.revoke(request.ID)
        if name == "compaction":
            return model.compact(request.revision)
        if name == "put" and request.lease and request.lease not in model.leases:
            raise Refused("etcdserver: requested lease not found")
        return getattr(model, name)(request)
    except Refused as refused:
        return refused
    finally:
        model.seal()


@MANY
@given(scripts, st.sampled_from([1, 2, 1000]), st.integers(0, 3))
def test_every_answer_is_that_of_the_definition(script: list[tuple[str, Any]], rows_max: int, steps: int) -> None:
    driver, model = Driver(), Model()
    for name, request in proposable(script):
        wanted = ask_model(model, name, request)
        found = ask_machine(driver, name, request)
        if isinstance(wanted, Refused):
            assert found in wanted.args, (name, request)
        else:
            assert found == wanted, (name, request)
        assert (driver.machine.revision, driver.machine.compact_revision) == (model.revision, model.compacted)
        for _ in range(steps):
            driver.machine.compact_step(rows_max)
    for key in sorted({row.key for row in model.rows}):
        for main in range(max(model.compacted, 1), model.revision + 1):
            kv = model.at(main).get(key)
            assert driver.value(key, revision=main) == (kv.value if kv else None)
    assert {lease.id for lease in driver.machine.leases} == model.leases
    for lease in driver.machine.leases:
        assert lease.sorted_keys() == [key for key, kv in model.at(model.revision).items() if kv.lease == lease.id]


@MANY
@given(scripts, st.sampled_from([1, 3, 1000]), st.booleans())
def test_hashes_rows_and_history_are_those_of_the_definition(
    script: list[tuple[str, Any]], rows_max: int, finishes: bool
) -> None:
    store = DictStore()
    driver, model = Driver(new_machine(store)), Model()
    told: list[bytes] = []
    for name, request in proposable(script):
        ask_model(model, name, request)
        ask_machine(driver, name, request)
        told += [event.encoded for event in driver.machine.take_events()]
        while finishes and driver.machine.compact_step(rows_max):
            pass
    machine = driver.machine
    for main in range(max(machine.compact_revision, 0), machine.revision + 1):
        if main in machine_pending(machine):
            continue  # the stored hash of a compaction is there when it has finished
        found = hash_of(machine, main, rows_max=rows_max)
        assert isinstance(found, KeySpaceHash)
        wanted = model.hash_kv(main) if main else model.hash_kv(machine.revision)
        assert (found.hash, found.compact_revision) == wanted or (main == 0 and 0 in model.compactions), main
    while machine.compact_step(rows_max):
        pass
    assert [key + row for key, row in store.scan(KEY)] == [row.data() for row in model.stored_rows()]
    everything = Model(model.revision, -1, model.rows).events(0, model.revision)
    assert [Event.FromString(event) for event in told] == everything
    first = max(machine.compact_revision, 1)
    wanted_events = model.events(first, machine.revision)
    found_events = []
    while first <= machine.revision:
        events, first = machine.revisions.events_between(first, machine.revision, rows_max)
        found_events += [Event.FromString(event.encoded) for event in events]
    assert found_events == wanted_events


def machine_pending(machine: Machine) -> set[int]:
    return set(range(machine.compaction.finished_revision + 1, machine.compact_revision + 1))


def entries_of(script: list[tuple[str, Any]]) -> list[Entry]:
    entries = []
    for index, (name, request) in enumerate(script, start=1):
        envelope = InternalRaftRequest(header=RequestHeader(ID=index), **{name: request})
        entries.append(Entry(term=2, index=index, data=envelope.SerializeToString()))
    return entries


@SOME
@given(scripts, st.data())
def test_restarts_pace_and_waiting_clients_make_no_difference(
    script: list[tuple[str, Any]], data: st.DataObject
) -> None:
    """The same log, once in one go, once with compaction steps, restarts and answers strewn in."""
    entries = entries_of(proposable(script))
    plain_store, store = DictStore(), DictStore()
    plain, machine = new_machine(plain_store), new_machine(store)
    for entry in entries:
        plain.apply(entry, answering=False)
    while plain.compact_step(1000):
        pass
    for entry in entries:
        outcome = machine.apply(entry, answering=data.draw(st.booleans()))
        assert outcome.request_id == entry.index
        for _ in range(data.draw(st.integers(0, 4))):
            machine.compact_step(data.draw(st.integers(1, 4)))
        if data.draw(st.sampled_from([False, False, True])):
            machine.checkpoint()
            machine = new_machine(store)
            assert machine.applied_index == entry.index
    while machine.compact_step(2):
        pass
    assert store.rows(KEY) == plain_store.rows(KEY)
    assert store.rows(LEASE) == plain_store.rows(LEASE)
    assert machine.revision == plain.revision
    assert machine.revisions.index.now == plain.revisions.index.now
    assert machine.revisions.index.past == plain.revisions.index.past
    assert [(lease.id, lease.keys) for lease in machine.leases] == [(lease.id, lease.keys) for lease in plain.leases]
    for main in range(plain.compact_revision + 1, plain.revision + 1):
        assert hash_of(machine, main) == hash_of(plain, main)


@SOME
@given(scripts)
def test_what_the_log_holds_is_applied_whoever_waits(script: list[tuple[str, Any]]) -> None:
    waiting, silent = new_machine(), new_machine()
    for entry in entries_of(proposable(script)):
        one, other = waiting.apply(entry, answering=True), silent.apply(entry, answering=False)
        assert (one.request_id, one.revision) == (other.request_id, other.revision)
        assert other.body == b""
    assert hash_of(waiting) == hash_of(silent)


def test_the_model_and_the_machine_can_disagree() -> None:
    """The comparison above compares: a model that lost a row is found out."""
    driver, model = Driver(), Model()
    driver.put(b"a", b"1")
    assert ask_model(model, "put", PutRequest(key=b"a", value=b"2")) == PutResponse()
    assert ask_machine(driver, "range", RangeRequest(key=b"a")) != ask_model(model, "range", RangeRequest(key=b"a"))
    assert ask_model(model, "lease_grant", LeaseGrantRequest(ID=1, TTL=5)) is None
    assert isinstance(ask_model(model, "lease_grant", LeaseGrantRequest(ID=1, TTL=5)), Refused)
    assert ask_model(model, "txn", TxnRequest()) == TxnResponse(succeeded=True)
