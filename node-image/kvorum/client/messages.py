"""Between the client's values and etcd's messages."""

from collections.abc import Iterable

from kvorum.client.values import (
    Access,
    Compare,
    CompareTarget,
    Delete,
    DeleteResult,
    Event,
    EventType,
    Get,
    Header,
    KeyValue,
    Member,
    Op,
    OpResult,
    Permission,
    Put,
    PutResult,
    RangeResult,
    Relation,
    Txn,
    TxnResult,
)
from kvorum.etcdpb import rpc_pb2 as rpc

RELATIONS = {
    Relation.EQUAL: rpc.Compare.EQUAL,
    Relation.NOT_EQUAL: rpc.Compare.NOT_EQUAL,
    Relation.GREATER: rpc.Compare.GREATER,
    Relation.LESS: rpc.Compare.LESS,
}
TARGETS = {
    CompareTarget.VERSION: rpc.Compare.VERSION,
    CompareTarget.CREATE: rpc.Compare.CREATE,
    CompareTarget.MOD: rpc.Compare.MOD,
    CompareTarget.VALUE: rpc.Compare.VALUE,
    CompareTarget.LEASE: rpc.Compare.LEASE,
}


def header_of(header: rpc.ResponseHeader) -> Header:
    return Header(header.cluster_id, header.member_id, header.revision, header.raft_term)


def key_value_of(kv: rpc.KeyValue) -> KeyValue:
    return KeyValue(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)


def event_of(event: rpc.Event) -> Event:
    previous = key_value_of(event.prev_kv) if event.HasField("prev_kv") else None
    return Event(EventType(event.type), key_value_of(event.kv), previous)


def member_of(member: rpc.Member) -> Member:
    return Member(member.ID, member.name, tuple(member.peerURLs), tuple(member.clientURLs), member.isLearner)


def permission_of(permission: rpc.Permission) -> Permission:
    return Permission(Access(permission.permType), permission.key, permission.range_end)


def members_of(members: Iterable[rpc.Member]) -> tuple[Member, ...]:
    return tuple(member_of(member) for member in members)


def put_result_of(answer: rpc.PutResponse) -> PutResult:
    return PutResult(header_of(answer.header), key_value_of(answer.prev_kv) if answer.HasField("prev_kv") else None)


def range_result_of(answer: rpc.RangeResponse) -> RangeResult:
    return RangeResult(header_of(answer.header), tuple(map(key_value_of, answer.kvs)), answer.more, answer.count)


def delete_result_of(answer: rpc.DeleteRangeResponse) -> DeleteResult:
    return DeleteResult(header_of(answer.header), answer.deleted, tuple(map(key_value_of, answer.prev_kvs)))


def txn_result_of(answer: rpc.TxnResponse) -> TxnResult:
    return TxnResult(header_of(answer.header), answer.succeeded, tuple(map(op_result_of, answer.responses)))


def op_result_of(answer: rpc.ResponseOp) -> OpResult:
    match answer.WhichOneof("response"):
        case "response_put":
            return put_result_of(answer.response_put)
        case "response_range":
            return range_result_of(answer.response_range)
        case "response_delete_range":
            return delete_result_of(answer.response_delete_range)
        case _:
            return txn_result_of(answer.response_txn)


def request_of_txn(txn: Txn) -> rpc.TxnRequest:
    return rpc.TxnRequest(
        compare=[request_of_compare(compare) for compare in txn.compare],
        success=[request_of_op(op) for op in txn.success],
        failure=[request_of_op(op) for op in txn.failure],
    )


def request_of_compare(compare: Compare) -> rpc.Compare:
    request = rpc.Compare(
        result=RELATIONS[compare.relation],
        target=TARGETS[compare.target],
        key=compare.key,
        range_end=compare.range_end,
    )
    # The field of the operand must be set also where it is 0: the oneof's presence is part of the message.
    setattr(request, compare.target.value, compare.operand)
    return request


def request_of_op(op: Op) -> rpc.RequestOp:
    match op:
        case Put():
            put = rpc.PutRequest(key=op.key, value=op.value, lease=op.lease, prev_kv=op.prev_kv)
            return rpc.RequestOp(request_put=put)
        case Get():
            get = rpc.RangeRequest(key=op.key, range_end=op.range_end, limit=op.limit, revision=op.revision)
            return rpc.RequestOp(request_range=get)
        case Delete():
            delete = rpc.DeleteRangeRequest(key=op.key, range_end=op.range_end, prev_kv=op.prev_kv)
            return rpc.RequestOp(request_delete_range=delete)
        case Txn():
            return rpc.RequestOp(request_txn=request_of_txn(op))
