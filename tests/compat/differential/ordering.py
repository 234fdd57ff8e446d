"""Ranges sorted by something that keys may share: etcd's order among those is its sort's, which keeps none.

The order by what was asked for is asserted; equals are then put into the order of their keys. Where a limit cut through
equals, which of them were left is etcd's affair too: of the last ones only their number is compared.
"""

from typing import Any

from kvorum.etcdpb import rpc_pb2 as rpc

SORTED_BY = {
    rpc.RangeRequest.VERSION: "version",
    rpc.RangeRequest.CREATE: "create_revision",
    rpc.RangeRequest.MOD: "mod_revision",
    rpc.RangeRequest.VALUE: "value",
}


def order_equals(request: Any, answer: Any) -> None:
    """Works on the answer to a request, in place; ranges within transactions included."""
    match request:
        case rpc.RangeRequest():
            order_range(request, answer)
        case rpc.TxnRequest():
            branch = request.success if answer.succeeded else request.failure
            for op, response in zip(branch, answer.responses, strict=True):
                asked, answered = op.WhichOneof("request"), response.WhichOneof("response")
                if asked == "request_range":
                    order_range(op.request_range, response.response_range)
                elif asked == "request_txn":
                    order_equals(op.request_txn, response.response_txn)
                assert (asked or "").removeprefix("request_") == (answered or "").removeprefix("response_"), answer


def order_range(request: rpc.RangeRequest, answer: rpc.RangeResponse) -> None:
    attribute = SORTED_BY.get(request.sort_target)
    if attribute is None or not answer.kvs:
        return
    if request.keys_only and attribute == "value":
        # The values that it is sorted by are not in the answer.
        equals_from = 0
    else:
        values = [getattr(kv, attribute) for kv in answer.kvs]
        falling = request.sort_order == rpc.RangeRequest.DESCEND
        assert values == sorted(values, reverse=falling), f"not sorted: {request} {answer}"
        equals_from = values.index(values[-1]) if answer.more else len(values)
    certain = list(answer.kvs)[:equals_from]
    blank = len(answer.kvs) - len(certain)
    certain.sort(key=lambda kv: kv.key)
    del answer.kvs[:]
    answer.kvs.extend(certain)
    answer.kvs.extend(rpc.KeyValue() for _ in range(blank))
