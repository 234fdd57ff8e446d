"""gRPC method paths and who answers them.

Rules that stand before every handler, as in etcd: a learner answers only what cannot be wrong, a client that asked not
to wait without a leader is told at once, and a token that some other member made a moment ago is waited for.
"""

from collections.abc import Callable, Iterable
from functools import partial

from google.protobuf.message import DecodeError

from kvorum.api import auth, cluster, election, health, kv, lease, lock, maintenance, watch
from kvorum.api.request import fail
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.net.call import Call
from kvorum.raft.message import NONE
from kvorum.server import reconfiguration
from kvorum.server.server import Server
from kvorum.state import refusal
from kvorum.state.refusal import Refusal

Handler = Callable[[Server, Call], None]

SNAPSHOT = "/etcdserverpb.Maintenance/Snapshot"
UNARY: dict[str, Handler] = {
    "/etcdserverpb.KV/Range": kv.range_,
    "/etcdserverpb.KV/Put": kv.put,
    "/etcdserverpb.KV/DeleteRange": kv.delete_range,
    "/etcdserverpb.KV/Txn": kv.txn,
    "/etcdserverpb.KV/Compact": kv.compact,
    "/etcdserverpb.Lease/LeaseGrant": lease.grant,
    "/etcdserverpb.Lease/LeaseRevoke": lease.revoke,
    "/etcdserverpb.Lease/LeaseTimeToLive": lease.time_to_live,
    "/etcdserverpb.Lease/LeaseLeases": lease.leases,
    "/etcdserverpb.Cluster/MemberAdd": cluster.member_add,
    "/etcdserverpb.Cluster/MemberRemove": cluster.member_remove,
    "/etcdserverpb.Cluster/MemberUpdate": cluster.member_update,
    "/etcdserverpb.Cluster/MemberList": cluster.member_list,
    "/etcdserverpb.Cluster/MemberPromote": cluster.member_promote,
    "/etcdserverpb.Maintenance/Status": maintenance.status,
    "/etcdserverpb.Maintenance/Hash": maintenance.hash_,
    "/etcdserverpb.Maintenance/HashKV": maintenance.hash_kv,
    "/etcdserverpb.Maintenance/Alarm": maintenance.alarm,
    "/etcdserverpb.Maintenance/Defragment": maintenance.defragment,
    "/etcdserverpb.Maintenance/MoveLeader": maintenance.move_leader,
    "/etcdserverpb.Maintenance/Downgrade": maintenance.downgrade,
    "/v3lockpb.Lock/Lock": lock.lock,
    "/v3lockpb.Lock/Unlock": lock.unlock,
    "/v3electionpb.Election/Campaign": election.campaign,
    "/v3electionpb.Election/Proclaim": election.proclaim,
    "/v3electionpb.Election/Leader": election.leader,
    "/v3electionpb.Election/Resign": election.resign,
    "/grpc.health.v1.Health/Check": health.check,
    **{f"/etcdserverpb.Auth/{method}": handler for method, handler in auth.METHODS.items()},
}
STREAMS: dict[str, Handler] = {
    "/etcdserverpb.Watch/Watch": watch.watch,
    "/etcdserverpb.Lease/LeaseKeepAlive": lease.keep_alive,
    SNAPSHOT: maintenance.snapshot,
    "/v3electionpb.Election/Observe": election.observe,
    "/grpc.health.v1.Health/Watch": health.watch,
}
ANSWERED_ALWAYS = {"/etcdserverpb.Maintenance/Status", "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"}
FOREIGN = Refusal(
    refusal.UNAVAILABLE, "kvorum: foreign-cluster: this member's data is of another cluster than its peers"
)
RANGE = "/etcdserverpb.KV/Range"
NAMELESS = {"/etcdserverpb.Auth/Authenticate", "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"}
MESSAGE_BYTES = 64  # what keeping one costs beside its own bytes
HELD_STREAM_BYTES_MAX = 64 << 10  # of what the client of a stream says meanwhile


def unary(server: Server) -> dict[str, Callable[[Call], None]]:
    return {path: partial(_guarded, server, handler, path) for path, handler in UNARY.items()}


def streams(server: Server) -> dict[str, Callable[[Call], None]]:
    return {path: partial(_guarded, server, handler, path) for path, handler in STREAMS.items()}


def _guarded(server: Server, handler: Handler, path: str, call: Call) -> None:
    if server.removed:
        fail(call, refusal.STOPPED)
    elif server.is_learner and not _learner_may(path, call):
        fail(call, refusal.NOT_SUPPORTED_FOR_LEARNER)
    elif server.raft.leader == NONE and reconfiguration.foreign_voters(server):
        fail(call, FOREIGN)
    elif server.raft.leader == NONE and call.metadata("hasleader") == "true":
        fail(call, refusal.NO_LEADER)
    elif server.machine.auth.enabled and path not in NAMELESS and (index := server.callers.awaits(call)):
        hold(server, handler, path, call, index)
    else:
        handler(server, call)


def hold(server: Server, handler: Handler, path: str, call: Call, index: int) -> None:
    """Until index is applied here. What a stream's client sends meanwhile is kept for its handler."""
    messages: list[bytes] = []
    kept_bytes, ended = 0, False

    def end() -> None:
        nonlocal ended
        ended = True

    def keep(message: bytes) -> None:
        nonlocal kept_bytes
        kept_bytes += len(message) + MESSAGE_BYTES
        if kept_bytes <= HELD_STREAM_BYTES_MAX:
            messages.append(message)
        else:
            fail(call, refusal.TOO_MANY_REQUESTS)

    def go_on() -> None:
        if not call.cancelled and call.on_message is keep:
            call.on_message = call.on_end = None
            handler(server, call)
            _tell(call, messages, ended=ended)

    def give_up(why: Refusal) -> None:
        if not call.cancelled and call.on_message is keep:
            fail(call, why)

    call.on_message, call.on_end = keep, end
    size_bytes = len(call.body) if path in UNARY else HELD_STREAM_BYTES_MAX
    server.callers.hold(index, size_bytes, go_on, give_up)


def _tell(call: Call, messages: Iterable[bytes], *, ended: bool) -> None:
    for message in messages:
        if call.on_message is not None:
            call.on_message(message)
    if ended and call.on_end is not None:
        call.on_end()


def _learner_may(path: str, call: Call) -> bool:
    return path in ANSWERED_ALWAYS or path == SNAPSHOT or (path == RANGE and _is_serializable(call.body))


def _is_serializable(body: bytes) -> bool:
    try:
        return rpc.RangeRequest.FromString(body).serializable
    except DecodeError:
        return True  # the handler's to refuse
