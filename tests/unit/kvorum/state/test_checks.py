"""Requests that are refused before they are proposed, in etcd's order and with its loopholes."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvorum.etcdpb.rpc_pb2 import (
    Compare,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)
from kvorum.state import checks
from kvorum.state.refusal import (
    DUPLICATE_KEY,
    EMPTY_KEY,
    INVALID_SORT_OPTION,
    KEY_NOT_FOUND,
    LEASE_PROVIDED,
    TOO_MANY_OPS,
    VALUE_PROVIDED,
    Refusal,
)

from tests.unit.kvorum.state.driver import delete_op, put_op, range_op, txn_op


def test_a_request_names_a_key() -> None:
    assert checks.range_(RangeRequest()) == EMPTY_KEY
    assert checks.put(PutRequest(ignore_value=True, value=b"x")) == EMPTY_KEY
    assert checks.delete_range(DeleteRangeRequest(range_end=b"z")) == EMPTY_KEY
    assert checks.range_(RangeRequest(key=b"a")) is None
    assert checks.delete_range(DeleteRangeRequest(key=b"a")) is None


def test_what_is_ignored_may_not_be_given() -> None:
    assert checks.put(PutRequest(key=b"a", ignore_value=True, value=b"x", ignore_lease=True, lease=1)) == VALUE_PROVIDED
    assert checks.put(PutRequest(key=b"a", ignore_lease=True, lease=1)) == LEASE_PROVIDED
    assert checks.put(PutRequest(key=b"a", ignore_value=True, ignore_lease=True)) is None


@pytest.mark.parametrize("options", [{"sort_target": 5}, {"sort_order": 3}, {"sort_order": -1}])
def test_a_sort_option_that_is_none_is_refused(options: dict[str, int]) -> None:
    assert checks.range_(RangeRequest(key=b"a", **options)) == INVALID_SORT_OPTION  # type: ignore[arg-type]  # open enums


def test_the_longest_list_counts_and_what_is_nested_counts_on_top() -> None:
    compares = [Compare(key=b"a")] * 3
    assert checks.txn(TxnRequest(compare=compares, success=[range_op(b"a")]), ops_max=3) is None
    assert checks.txn(TxnRequest(compare=compares), ops_max=2) == TOO_MANY_OPS
    nested = TxnRequest(success=[txn_op(success=[range_op(b"a"), range_op(b"b")])])
    assert checks.txn(nested, ops_max=3) is None
    assert checks.txn(nested, ops_max=2) == TOO_MANY_OPS
    assert checks.txn(TxnRequest(failure=[range_op(b"a")] * 129)) == TOO_MANY_OPS
    assert checks.txn(TxnRequest(failure=[range_op(b"a")] * 128)) is None


@pytest.mark.parametrize(
    ("txn", "refusal"),
    [
        (TxnRequest(compare=[Compare()], success=[RequestOp()]), EMPTY_KEY),
        (TxnRequest(success=[RequestOp()], failure=[put_op(b"")]), KEY_NOT_FOUND),
        (TxnRequest(success=[put_op(b"a"), put_op(b"a"), put_op(b"")]), EMPTY_KEY),
        (TxnRequest(success=[range_op(b"")]), EMPTY_KEY),
        (TxnRequest(success=[delete_op(b"")]), EMPTY_KEY),
        (TxnRequest(success=[put_op(b"a", b"x", ignore_value=True)]), VALUE_PROVIDED),
        (TxnRequest(success=[txn_op(failure=[put_op(b"a", lease=1, ignore_lease=True)])]), LEASE_PROVIDED),
    ],
)
def test_the_first_bad_part_is_named(txn: TxnRequest, refusal: Refusal) -> None:
    assert checks.txn(txn) == refusal


PUT, DELETE = put_op(b"k"), delete_op(b"a", b"z")


@pytest.mark.parametrize(
    ("ops", "may_be"),
    [
        ([PUT, PUT], False),
        ([PUT, DELETE], False),
        ([put_op(b"z"), DELETE], True),
        ([delete_op(b"k"), PUT], False),
        ([delete_op(b"k"), put_op(b"k\0")], True),
        ([DELETE, DELETE, delete_op(b"k")], True),
        ([PUT, txn_op(success=[PUT])], False),
        ([txn_op(success=[PUT], failure=[PUT])], True),
        ([txn_op(success=[PUT]), txn_op(failure=[PUT])], False),
        ([txn_op(success=[PUT, PUT])], False),
        ([PUT, txn_op(success=[DELETE])], False),
        ([DELETE, txn_op(success=[PUT])], False),
        ([txn_op(success=[DELETE], failure=[PUT])], True),
        # Not symmetrical: what an earlier nested txn deletes, a later one may not put; the other way round it may.
        ([txn_op(success=[DELETE]), txn_op(success=[PUT])], False),
        ([txn_op(success=[PUT]), txn_op(success=[DELETE])], True),
        ([txn_op(success=[txn_op(failure=[DELETE])]), PUT], False),
        # etcd overlooks a delete of all keys from one on.
        ([delete_op(b"a", b"\0"), PUT], True),
        ([delete_op(b"z", b"a"), PUT], True),
        # ... but dies of this one: the put's key may be gone half way. Refused here.
        ([delete_op(b"a", b"\0"), put_op(b"k", ignore_value=True)], False),
        ([delete_op(b"l", b"\0"), put_op(b"k", ignore_value=True)], True),
        ([txn_op(failure=[put_op(b"k", ignore_lease=True)]), delete_op(b"k", b"\0")], False),
    ],
)
@pytest.mark.parametrize("in_failure", [False, True])
def test_keys_may_not_meet_in_one_txn(ops: list[RequestOp], may_be: bool, in_failure: bool) -> None:
    txn = TxnRequest(failure=ops) if in_failure else TxnRequest(success=ops)
    assert checks.txn(txn) == (None if may_be else DUPLICATE_KEY)


def test_the_two_lists_of_a_txn_may_touch_the_same_keys() -> None:
    assert checks.txn(TxnRequest(success=[PUT], failure=[PUT])) is None
    assert checks.txn(TxnRequest(success=[PUT], failure=[DELETE])) is None


spans = st.lists(st.tuples(st.binary(min_size=1, max_size=2), st.binary(max_size=2)), max_size=6)


@given(spans, spans)
def test_ranges_of_keys_hold_what_one_of_them_holds(
    some: list[tuple[bytes, bytes]], more: list[tuple[bytes, bytes]]
) -> None:
    one, other = checks._KeyRanges(), checks._KeyRanges()
    for span in some:
        one.add(*span)
    for span in more:
        other.add(*span)
    one.add_all(other)
    spans = [(key, end or key + b"\0") for key, end in some + more]
    names = {name for span in spans for name in span} | {b"a", b"m", b"\xff\xff"}
    for name, tail in product(names, (b"", b"\0")):
        assert (name + tail in one) == any(start <= name + tail < end for start, end in spans)
