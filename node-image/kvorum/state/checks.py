"""What is refused before it is proposed: requests that could not be applied whatever the state, in etcd's order.

Knows requests only. What depends on the state (leases, revisions, space) is refused when it is applied, or by the
machine beforehand (Machine.refuses_txn_ranges, Machine.refuses_for_space).
"""

from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence

from kvorum.etcdpb.rpc_pb2 import (
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)
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
from kvorum.state.revisions import FROM_KEY

TXN_OPS_MAX = 128  # etcd's default of --max-txn-ops


def range_(request: RangeRequest) -> Refusal | None:
    """KV.Range. A sort option of a later version is refused, as from etcd 3.6 on: 3.5 dies of it."""
    if not request.key:
        return EMPTY_KEY
    if not (0 <= request.sort_target <= RangeRequest.VALUE and 0 <= request.sort_order <= RangeRequest.DESCEND):
        return INVALID_SORT_OPTION
    return None


def put(request: PutRequest) -> Refusal | None:
    if not request.key:
        return EMPTY_KEY
    if request.ignore_value and request.value:
        return VALUE_PROVIDED
    if request.ignore_lease and request.lease:
        return LEASE_PROVIDED
    return None


def delete_range(request: DeleteRangeRequest) -> Refusal | None:
    return None if request.key else EMPTY_KEY


def txn(request: TxnRequest, ops_max: int = TXN_OPS_MAX) -> Refusal | None:
    """KV.Txn: counts and keys at every level first, then what may not meet in one txn."""
    refusal = _ops_refusal(request, ops_max)
    if refusal is not None:
        return refusal
    for ops in (request.success, request.failure):
        try:
            _Touched(ops)
        except _Overlap:
            return DUPLICATE_KEY
    return DUPLICATE_KEY if _puts_on_deleted(request) else None


def _ops_refusal(request: TxnRequest, ops_max: int) -> Refusal | None:
    """ops_max: of the longest of the three lists, and of all levels of nesting together."""
    longest = max(len(request.compare), len(request.success), len(request.failure))
    if longest > ops_max:
        return TOO_MANY_OPS
    if any(not compare.key for compare in request.compare):
        return EMPTY_KEY
    for ops in (request.success, request.failure):
        for op in ops:
            refusal = _op_refusal(op, ops_max - longest)
            if refusal is not None:
                return refusal
    return None


def _op_refusal(op: RequestOp, ops_max: int) -> Refusal | None:
    kind = op.WhichOneof("request")
    if kind == "request_range":
        return range_(op.request_range)
    if kind == "request_put":
        return put(op.request_put)
    if kind == "request_delete_range":
        return delete_range(op.request_delete_range)
    if kind == "request_txn":
        return _ops_refusal(op.request_txn, ops_max)
    return KEY_NOT_FOUND  # etcd's answer to an operation that is none


class _Overlap(Exception):
    """A key is put twice, or put and deleted."""


class _Touched:
    """What one list of operations puts and deletes, with all that is nested in it. Raises _Overlap.

    The two lists of a nested txn exclude each other, so both may put a key; everything else in one list meets.
    A put may not lie in a delete of its own level or of a txn nested beside it; a delete beside a nested put may.
    """

    def __init__(self, ops: Sequence[RequestOp]) -> None:
        self.puts: set[bytes] = set()
        self.deletes = _KeyRanges()
        for op in ops:
            if op.HasField("request_delete_range"):
                self.deletes.add(op.request_delete_range.key, op.request_delete_range.range_end)
        for op in ops:
            if op.HasField("request_txn"):
                self._join(_Touched(op.request_txn.success), _Touched(op.request_txn.failure))
        for op in ops:
            if op.HasField("request_put"):
                self._put(op.request_put.key, self.puts)

    def _join(self, success: "_Touched", failure: "_Touched") -> None:
        before = set(self.puts)
        for key in success.puts:
            self._put(key, before)
        for key in failure.puts:
            self._put(key, before)
        self.deletes.add_all(success.deletes)
        self.deletes.add_all(failure.deletes)

    def _put(self, key: bytes, others: Iterable[bytes]) -> None:
        if key in others or key in self.deletes:
            raise _Overlap
        self.puts.add(key)


class _KeyRanges:
    """A set of keys as disjoint ranges, in order."""

    def __init__(self) -> None:
        self._ranges: list[tuple[bytes, bytes]] = []

    def add(self, key: bytes, range_end: bytes) -> None:
        """A range as a request writes it. One from a key on to the end is left out: etcd's check overlooks it."""
        end = range_end or key + b"\x00"
        if end > key:
            insort(self._ranges, (key, end))
            self._merge()

    def add_all(self, others: "_KeyRanges") -> None:
        self._ranges = sorted([*self._ranges, *others._ranges])
        self._merge()

    def _merge(self) -> None:
        merged: list[tuple[bytes, bytes]] = []
        for start, end in self._ranges:
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        self._ranges = merged

    def __contains__(self, key: object) -> bool:
        assert isinstance(key, bytes)
        at = bisect_right(self._ranges, key, key=lambda span: span[0]) - 1
        return at >= 0 and key < self._ranges[at][1]


def _puts_on_deleted(request: TxnRequest) -> bool:
    """A put that needs its key (ignore_value, ignore_lease) beside a delete of all keys from one at or below it.

    etcd lets it pass and, where the delete comes first, every member panics half way. Here it is refused.
    """
    starts, keys = [], []
    pending = [request]
    while pending:
        inner = pending.pop()
        for op in (*inner.success, *inner.failure):
            if op.HasField("request_txn"):
                pending.append(op.request_txn)
            elif op.HasField("request_delete_range") and op.request_delete_range.range_end == FROM_KEY:
                starts.append(op.request_delete_range.key)
            elif op.HasField("request_put") and (op.request_put.ignore_value or op.request_put.ignore_lease):
                keys.append(op.request_put.key)
    return bool(starts and keys) and max(keys) >= min(starts)
