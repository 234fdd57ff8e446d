"""etcdserverpb.Maintenance: what a member says of itself, hashes, alarms, defragmentation, handing leadership over."""

from google.protobuf.message import DecodeError

from kvorum.api.kv import bad_request, fail
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.net.call import Call
from kvorum.raft.message import NONE
from kvorum.server import reconfiguration
from kvorum.server.server import Server
from kvorum.state import refusal
from kvorum.state.refusal import Refusal
from kvorum.state.row import varint

ALARM = b"\x52"


def status(server: Server, call: Call) -> None:
    """Never waits: it is asked of members that are ill."""
    store, raft = server.store, server.raft
    response = rpc.StatusResponse(
        version=server.settings.claimed_version,
        dbSize=store.size_bytes,
        dbSizeInUse=store.size_in_use_bytes,
        leader=raft.leader,
        raftIndex=raft.log.committed,
        raftTerm=raft.term,
        raftAppliedIndex=server.machine.applied_index,
        errors=_errors(server),
        isLearner=server.is_learner,
    )
    call.reply(server.header.encode(server.machine.revision) + response.SerializeToString())


def _errors(server: Server) -> list[str]:
    """What is wrong, in etcd's words: no leader, and each active alarm."""
    errors = [refusal.NO_LEADER.text] if server.raft.leader == NONE else []
    return [*errors, *map(_alarm_text, server.machine.alarms.active())]


def _alarm_text(alarm: rpc.AlarmMember) -> str:
    """As Go prints the message, the blank at the end included."""
    member = f"memberID:{alarm.memberID} " if alarm.memberID else ""
    return f"{member}alarm:{rpc.AlarmType.Name(alarm.alarm)} "


def hash_kv(server: Server, call: Call) -> None:
    try:
        request = rpc.HashKVRequest.FromString(call.body)
    except DecodeError as error:
        bad_request(call, error)
        return
    server.spawn(_hash_kv(server, call, request.revision), call)


async def _hash_kv(server: Server, call: Call, revision: int) -> None:
    answer = await server.hash_kv(revision)
    if isinstance(answer, Refusal):
        fail(call, answer)
        return
    response = rpc.HashKVResponse(hash=answer.hash, compact_revision=answer.compact_revision)  # hash_revision is 3.6's
    call.reply(server.header.encode(server.machine.revision) + response.SerializeToString())


def alarm(server: Server, call: Call) -> None:
    server.propose(ALARM + varint(len(call.body)) + call.body, call)


def defragment(server: Server, call: Call) -> None:
    server.spawn(_defragment(server, call), call)


async def _defragment(server: Server, call: Call) -> None:
    await server.defragment()
    call.reply(b"")  # etcd's answer has no header here


def move_leader(server: Server, call: Call) -> None:
    try:
        request = rpc.MoveLeaderRequest.FromString(call.body)
    except DecodeError as error:
        bad_request(call, error)
        return
    reconfiguration.move_leader(server, request.targetID, call)
