"""Random requests for the properties: few keys, so that they meet; every option; now and then a bad revision."""

from typing import Any

from hypothesis import strategies as st
from kvorum.etcdpb.rpc_pb2 import (
    CompactionRequest,
    Compare,
    DeleteRangeRequest,
    LeaseGrantRequest,
    LeaseRevokeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)

keys = st.sampled_from([b"a", b"b", b"b\0", b"c", b"ca", b"\xff", b"k" * 130])
ends = st.one_of(st.just(b""), st.just(b"\0"), keys)
values = st.sampled_from([b"", b"x", b"y" * 127, b"z" * 300])
leases = st.sampled_from([0, 0, 0, 1, 2, 3])
revisions = st.one_of(st.just(0), st.integers(-2, 30))
flags = st.sampled_from([False, False, False, True])


def message(kind: Any, **fields: Any) -> Any:
    return st.builds(kind, **fields)


puts = message(PutRequest, key=keys, value=values, lease=leases, prev_kv=flags, ignore_value=flags, ignore_lease=flags)
plain_puts = message(PutRequest, key=keys, value=values)
deletes = message(DeleteRangeRequest, key=keys, range_end=ends, prev_kv=flags)
bounds = st.sampled_from([0, 0, 0, 0, 3, 6, 12])
ranges = message(
    RangeRequest,
    key=keys,
    range_end=ends,
    revision=revisions,
    limit=st.sampled_from([0, 0, 1, 2, 3, -1]),
    sort_order=st.sampled_from([0, 0, 1, 2]),
    sort_target=st.sampled_from([0, 0, 1, 2, 3, 4]),
    keys_only=flags,
    count_only=flags,
    min_mod_revision=bounds,
    max_mod_revision=bounds,
    min_create_revision=bounds,
    max_create_revision=bounds,
)
numbers = st.integers(0, 12)
compares = st.one_of(
    *(
        message(
            Compare,
            key=keys,
            range_end=st.one_of(st.just(b""), ends),
            result=st.integers(0, 3),
            target=st.just(target),
            **{name: operand},
        )
        for target, (name, operand) in enumerate(
            {
                "version": numbers,
                "create_revision": numbers,
                "mod_revision": numbers,
                "value": values,
                "lease": leases,
            }.items()
        )
    )
)


def ops_of(txns: Any) -> Any:
    return st.lists(
        st.one_of(
            message(RequestOp, request_put=puts),
            message(RequestOp, request_range=ranges),
            message(RequestOp, request_delete_range=deletes),
            message(RequestOp, request_txn=txns),
        ),
        max_size=3,
    )


def txns_over(inner: Any) -> Any:
    return message(TxnRequest, compare=st.lists(compares, max_size=2), success=ops_of(inner), failure=ops_of(inner))


txns = st.recursive(
    message(TxnRequest, success=st.lists(message(RequestOp, request_put=puts), max_size=2)), txns_over, max_leaves=3
)
grants = message(LeaseGrantRequest, ID=st.sampled_from([1, 2, 3]), TTL=st.integers(1, 100))
revokes = message(LeaseRevokeRequest, ID=st.sampled_from([1, 2, 3]))
# How far behind the current revision; test_model.py makes revisions of it.
compactions = message(CompactionRequest, revision=st.sampled_from([0, 0, 1, 1, 2, 3, 5, 8, -1]))

requests = st.one_of(
    st.tuples(st.just("put"), plain_puts),
    st.tuples(st.just("put"), puts),
    st.tuples(st.just("delete_range"), deletes),
    st.tuples(st.just("txn"), txns),
    st.tuples(st.just("txn"), txns),
    st.tuples(st.just("range"), ranges),
    st.tuples(st.just("lease_grant"), grants),
    st.tuples(st.just("lease_revoke"), revokes),
    st.tuples(st.just("compaction"), compactions),
)
