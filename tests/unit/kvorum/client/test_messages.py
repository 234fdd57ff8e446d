"""Values to messages and back: nothing is lost or put under another field."""

import pytest
from kvorum.client import Compare, CompareTarget, Delete, Get, Put, Relation, Txn
from kvorum.client.messages import (
    delete_result_of,
    event_of,
    put_result_of,
    range_result_of,
    request_of_txn,
    txn_result_of,
)
from kvorum.client.values import DeleteResult, Event, EventType, Header, KeyValue, PutResult, RangeResult, TxnResult
from kvorum.etcdpb import rpc_pb2 as rpc

HEADER = rpc.ResponseHeader(cluster_id=1, member_id=2, revision=3, raft_term=4)
KV = rpc.KeyValue(key=b"k", value=b"v", create_revision=5, mod_revision=6, version=7, lease=8)
VALUE = KeyValue(b"k", b"v", 5, 6, 7, 8)


def test_answers_become_values() -> None:
    header = Header(1, 2, 3, 4)
    put = rpc.PutResponse(header=HEADER, prev_kv=KV)
    ranged = rpc.RangeResponse(header=HEADER, kvs=[KV], more=True, count=9)
    deleted = rpc.DeleteRangeResponse(header=HEADER, deleted=1, prev_kvs=[KV])
    assert put_result_of(put) == PutResult(header, VALUE)
    assert put_result_of(rpc.PutResponse(header=HEADER)) == PutResult(header, None)
    assert range_result_of(ranged) == RangeResult(header, (VALUE,), True, 9)
    assert delete_result_of(deleted) == DeleteResult(header, 1, (VALUE,))
    txn = rpc.TxnResponse(
        header=HEADER,
        succeeded=True,
        responses=[
            rpc.ResponseOp(response_put=put),
            rpc.ResponseOp(response_range=ranged),
            rpc.ResponseOp(response_delete_range=deleted),
            rpc.ResponseOp(response_txn=rpc.TxnResponse(header=HEADER)),
        ],
    )
    assert txn_result_of(txn) == TxnResult(
        header,
        True,
        (
            PutResult(header, VALUE),
            RangeResult(header, (VALUE,), True, 9),
            DeleteResult(header, 1, (VALUE,)),
            TxnResult(header, False, ()),
        ),
    )


def test_event_keeps_an_absent_previous_value_apart_from_an_empty_one() -> None:
    deletion = rpc.Event(type=rpc.Event.DELETE, kv=KV)
    assert event_of(deletion) == Event(EventType.DELETE, VALUE, None)
    deletion.prev_kv.SetInParent()
    assert event_of(deletion) == Event(EventType.DELETE, VALUE, KeyValue(b"", b"", 0, 0, 0, 0))


def test_transaction_becomes_its_message() -> None:
    txn = Txn(
        [Compare(b"k", CompareTarget.VALUE, Relation.NOT_EQUAL, b"v", range_end=b"l")],
        [Put(b"a", b"1", lease=2, prev_kv=True), Txn(failure=[Get(b"b", b"c", limit=3, revision=4)])],
        [Delete(b"d", b"e", prev_kv=True)],
    )
    inner = rpc.TxnRequest(
        failure=[
            rpc.RequestOp(request_range=rpc.RangeRequest(key=b"b", range_end=b"c", limit=3, revision=4)),
        ]
    )
    assert request_of_txn(txn) == rpc.TxnRequest(
        compare=[
            rpc.Compare(result="NOT_EQUAL", target="VALUE", key=b"k", value=b"v", range_end=b"l"),
        ],
        success=[
            rpc.RequestOp(request_put=rpc.PutRequest(key=b"a", value=b"1", lease=2, prev_kv=True)),
            rpc.RequestOp(request_txn=inner),
        ],
        failure=[
            rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=b"d", range_end=b"e", prev_kv=True)),
        ],
    )


@pytest.mark.parametrize("target", [target for target in CompareTarget if target is not CompareTarget.VALUE])
@pytest.mark.parametrize("relation", Relation)
def test_comparison_with_zero_is_still_a_comparison(target: CompareTarget, relation: Relation) -> None:
    """The field is set although 0 is its default: a server tells the two apart."""
    [compare] = request_of_txn(Txn([Compare(b"k", target, relation, 0)])).compare
    assert compare.WhichOneof("target_union") == target.value
    names = {"=": "EQUAL", "!=": "NOT_EQUAL", ">": "GREATER", "<": "LESS"}
    assert rpc.Compare.CompareResult.Name(compare.result) == names[relation.value]
    name = {"create_revision": "CREATE", "mod_revision": "MOD"}.get(target.value, target.value.upper())
    assert rpc.Compare.CompareTarget.Name(compare.target) == name
