"""The machine: entries told apart, what is fatal, what is stored, and the quota."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kvorum.etcdpb.internal_pb2 import InternalRaftRequest, RequestHeader
from kvorum.etcdpb.rpc_pb2 import LeaseGrantRequest, PutRequest, TxnRequest
from kvorum.raft.message import ConfState, Entry
from kvorum.state.dict_store import DictStore
from kvorum.state.machine import LEASE_BYTES, PUT_OVERHEAD_BYTES, Outcome, UnknownEntry, space_of
from kvorum.state.refusal import NO_SPACE
from kvorum.state.store import META
from kvorum.state.txn import put

from tests.unit.kvorum.state.driver import Driver, new_machine, put_op, txn_op


def apply_one(data: bytes) -> tuple[Outcome, list[tuple[str, bytes, bytes]]]:
    """What a fresh machine makes of one entry: the outcome, and all its rows."""
    store = DictStore()
    outcome = new_machine(store).apply(Entry(2, 1, data), answering=True)
    return outcome, [(table, *row) for table in ("key", "lease") for row in store.scan(table)]


sizes = st.sampled_from([0, 1, 126, 127, 128, 129, 300, 16_383, 16_384, 20_000])


@given(
    sizes.filter(bool),
    sizes,
    st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 127, 128])),
    st.sampled_from([{}, {"prev_kv": True}, {"lease": 5}, {"ignore_value": True}]),
    st.sampled_from([{}, {"username": b"u"}, {"auth_revision": 3}]),
)
@example(1, 1, 0x4081A206197D8D04, {}, {})
def test_a_put_parsed_by_hand_is_the_put_that_protobuf_parses(
    key_bytes: int, value_bytes: int, request_id: int, options: dict[str, int], header: dict[str, int]
) -> None:
    request = PutRequest(key=b"k" * key_bytes, value=b"v" * value_bytes, **options)  # type: ignore[arg-type]  # flags
    envelope = InternalRaftRequest(put=request, header=RequestHeader(ID=request_id, **header))  # type: ignore[arg-type]  # and its fields
    outcome, rows = apply_one(envelope.SerializeToString())

    store = DictStore()
    other = new_machine(store)
    lacks_lease = bool(request.lease)
    body = b"" if lacks_lease else put(other.revisions, request, answering=True)
    assert outcome.request_id == request_id
    assert outcome.revision == other.revisions.seal()
    assert outcome.refusal is None if isinstance(body, bytes) and not lacks_lease else outcome.refusal is not None
    assert rows == [("key", *row) for row in store.scan("key")]


@given(st.binary(max_size=12), st.integers(0, 40))
def test_no_cut_or_longer_frame_is_taken_for_a_put(tail: bytes, cut: int) -> None:
    """Whatever is not exactly the frame of a put is left to protobuf, which refuses it or knows better."""
    good = InternalRaftRequest(put=PutRequest(key=b"key", value=b"value"), header=RequestHeader(ID=300))
    data = good.SerializeToString()[: cut or None] + tail
    machine = new_machine()
    outcome = machine._apply_plain_put(data)
    if outcome is not None:
        envelope = InternalRaftRequest.FromString(data)
        assert outcome.request_id == envelope.header.ID
        assert machine.revisions.current(envelope.put.key) is not None
        assert set(envelope.DESCRIPTOR.fields_by_name) > {"put"}
        assert [field.name for field, _ in envelope.ListFields()] == ["put", "header"]


@pytest.mark.parametrize(
    "data",
    [
        b"\x12\xff",
        b"nonsense",
        b"\xa2\x06\x02\x08\x01",
        b"\x22",
        b"\xf2\x7f\x01x",
        b"\x08\x05",
        b"\x22\x06\x0a\x01k\x12\x01v\xa2\x06\x01\x08",  # a put whose id is missing
        b"\x22\x06\x0a\x01k\x12\x01v\xa2\x06\x02\x08\x80",  # ... or cut off
        b"\x08\x05\x12\x05WRITE",
    ],
)
def test_an_entry_that_no_member_knows_is_fatal(data: bytes) -> None:
    with pytest.raises(UnknownEntry, match="entry 1 "):
        new_machine().apply(Entry(2, 1, data), answering=False)


def test_an_entry_without_data_moves_the_index_alone() -> None:
    driver = Driver()
    assert driver.apply_data(b"") == Outcome(0, 1, b"", None)
    assert (driver.machine.applied_index, driver.machine.applied_term) == (1, 2)


@pytest.mark.parametrize("index", [0, 1, 3])
def test_entries_are_applied_in_order_and_once(index: int) -> None:
    driver = Driver()
    driver.put(b"a")
    with pytest.raises(AssertionError, match=f"entry {index} after 1"):
        driver.machine.apply(Entry(2, index, b""), answering=False)


def test_the_older_place_of_an_id_counts_where_it_is_set() -> None:
    driver = Driver()
    envelope = InternalRaftRequest(ID=5, put=PutRequest(key=b"a"), header=RequestHeader(ID=6))
    assert driver.apply_data(envelope.SerializeToString()).request_id == 5


def test_what_was_applied_is_stored_with_the_rows() -> None:
    store = DictStore()
    driver = Driver(new_machine(store))
    driver.put(b"a", b"1")
    driver.machine.set_conf_state(ConfState(voters=(1, 2), learners=(3,)))
    driver.machine.checkpoint()
    assert store.rows(META) == {
        b"consistent_index": (1).to_bytes(8, "big"),
        b"term": (2).to_bytes(8, "big"),
        b"confState": b'{"voters":[1,2],"learners":[3],"auto_leave":false}',
    }
    machine = new_machine(store)
    assert (machine.applied_index, machine.applied_term, machine.revision) == (1, 2, 2)
    assert machine.conf_state == ConfState(voters=(1, 2), learners=(3,))


def test_a_write_beyond_the_quota_is_applied_and_refused_and_wants_an_alarm() -> None:
    """To refuse it would part this member from those that have more space."""
    store = DictStore()
    driver = Driver(new_machine(store, quota_bytes=2000))
    outcomes = [driver.put(b"%d" % n, b"x" * 100) for n in range(20)]
    refused = [outcome.refusal for outcome in outcomes].index(NO_SPACE)
    assert 5 < refused < 15
    assert all(outcome.refusal == NO_SPACE for outcome in outcomes[refused:])
    assert len(driver.keys()) == 20
    assert outcomes[-1].revision == 21
    assert driver.machine.wants_no_space_alarm
    assert driver.apply(txn=TxnRequest(success=[put_op(b"x")])).refusal == NO_SPACE
    assert driver.apply(lease_grant=LeaseGrantRequest(ID=1, TTL=5)).refusal == NO_SPACE
    assert driver.machine.leases.find(1) is not None
    assert driver.delete(b"1").refusal is None
    driver.machine.wants_no_space_alarm = False
    driver.apply(alarm={"action": "ACTIVATE", "memberID": 1, "alarm": "NOSPACE"})
    assert driver.put(b"y").refusal == NO_SPACE
    assert driver.value(b"y") is None, "with the alarm on, puts are refused on all members alike"
    assert not driver.machine.wants_no_space_alarm


def test_the_quota_is_asked_of_the_store_rarely_and_still_kept() -> None:
    class Asked(DictStore):
        asked = 0

        @property
        def size_bytes(self) -> int:
            Asked.asked += 1
            return super().size_bytes

    store = Asked()
    driver = Driver(new_machine(store, quota_bytes=2_000_000))
    refused = 0
    while driver.put(b"%d" % driver.machine.revision, b"x" * 1000).refusal is None:
        refused += 1
    assert 1_990_000 < refused * 1050 < 2_010_000
    assert Asked.asked < 60, "a quarter of what is left goes unchecked"


def test_before_proposing_the_quota_is_asked_too() -> None:
    store = DictStore()
    new_machine(store)  # a new store is not empty: it tells the revision of authentication
    machine = new_machine(store, quota_bytes=store.size_bytes + PUT_OVERHEAD_BYTES + 10)
    assert machine.refuses_for_space(PutRequest(key=b"a", value=b"x" * 8)) is None
    assert machine.refuses_for_space(PutRequest(key=b"a", value=b"x" * 9)) == NO_SPACE
    assert machine.refuses_for_space(TxnRequest()) is None
    assert new_machine(quota_bytes=-1).refuses_for_space(PutRequest(key=b"a")) is None


def test_requests_are_charged_as_etcd_charges_them() -> None:
    one, two = put_op(b"a", b"12"), put_op(b"ab", b"1234")
    assert space_of(PutRequest(key=b"a", value=b"12")) == PUT_OVERHEAD_BYTES + 3
    assert space_of(TxnRequest(success=[one, two], failure=[two])) == 2 * PUT_OVERHEAD_BYTES + 9
    assert space_of(TxnRequest(success=[one], failure=[two, txn_op(success=[one])])) == PUT_OVERHEAD_BYTES + 6
    assert space_of(LeaseGrantRequest()) == LEASE_BYTES
