"""gRPC method paths and who answers them.

Three rules stand before every handler: while authentication is on, users cannot be checked here yet and are sent to
another member; a learner answers only what cannot be wrong, and a client that asked not to wait without a leader is
told at once (these two as in etcd).
"""

from collections.abc import Callable
from functools import partial

from kvorum.api import auth, cluster, health, kv, lease, maintenance, watch
from kvorum.api.kv import fail
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
    "/etcdserverpb.Maintenance/HashKV": maintenance.hash_kv,
    "/etcdserverpb.Maintenance/Alarm": maintenance.alarm,
    "/etcdserverpb.Maintenance/Defragment": maintenance.defragment,
    "/etcdserverpb.Maintenance/MoveLeader": maintenance.move_leader,
    "/grpc.health.v1.Health/Check": health.check,
    **{f"/etcdserverpb.Auth/{method}": auth.elsewhere for method in auth.METHODS},
    "/etcdserverpb.Auth/Authenticate": auth.authenticate,
}
STREAMS: dict[str, Handler] = {
    "/etcdserverpb.Watch/Watch": watch.watch,
    "/etcdserverpb.Lease/LeaseKeepAlive": lease.keep_alive,
    SNAPSHOT: maintenance.snapshot,
    "/grpc.health.v1.Health/Watch": health.watch,
}
ANSWERED_ALWAYS = {"/etcdserverpb.Maintenance/Status", "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"}
FOREIGN = Refusal(
    refusal.UNAVAILABLE, "kvorum: foreign-cluster: this member's data is of another cluster than its peers"
)
RANGE = "/etcdserverpb.KV/Range"


def unary(server: Server) -> dict[str, Callable[[Call], None]]:
    return {path: partial(_guarded, server, handler, path) for path, handler in UNARY.items()}


def streams(server: Server) -> dict[str, Callable[[Call], None]]:
    return {path: partial(_guarded, server, handler, path) for path, handler in STREAMS.items()}


def _guarded(server: Server, handler: Handler, path: str, call: Call) -> None:
    if server.removed:
        fail(call, refusal.STOPPED)
    elif server.machine.auth.enabled and path not in ANSWERED_ALWAYS:
        fail(call, refusal.AUTH_IS_ON)
    elif server.is_learner and not _learner_may(path, call):
        fail(call, refusal.NOT_SUPPORTED_FOR_LEARNER)
    elif server.raft.leader == NONE and reconfiguration.foreign_voters(server):
        fail(call, FOREIGN)
    elif server.raft.leader == NONE and call.metadata("hasleader") == "true":
        fail(call, refusal.NO_LEADER)
    else:
        handler(server, call)


def _learner_may(path: str, call: Call) -> bool:
    return (
        path in ANSWERED_ALWAYS
        or path == SNAPSHOT
        or (path == RANGE and rpc.RangeRequest.FromString(call.body).serializable)
    )
