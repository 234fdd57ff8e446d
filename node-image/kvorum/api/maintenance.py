"""etcdserverpb.Maintenance: what a member says of itself, hashes, alarms, defragmentation, handing leadership over."""

import asyncio
import hashlib
import logging
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from kvorum.api.permission import propose, refuses, refuses_unmapped
from kvorum.api.request import fail, read
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.etcdpb.internal_pb2 import DowngradeInfoSetRequest, InternalRaftRequest
from kvorum.net.call import Call
from kvorum.raft.message import NONE
from kvorum.server import hashing, reconfiguration
from kvorum.server.answer import Answer, Done
from kvorum.server.downgrade import objection, parse_target
from kvorum.server.server import Server
from kvorum.server.snapshot_db import ConversionFailed
from kvorum.state import refusal
from kvorum.state.alarms import alarm_name
from kvorum.state.auth_checks import Check
from kvorum.state.refusal import Refusal
from kvorum.state.row import varint
from kvorum.storage.fault import StorageFault
from kvorum.wire import grpc
from kvorum.wire.grpc import Code

ALARM = b"\x52"
SNAPSHOT_BLOB_BYTES = 32 << 10  # etcd's
SNAPSHOT_READ_BYTES = 256 << 10  # at once; 1 ms of the loop
SNAPSHOT_BUFFERED_BYTES_MAX = 64 << 10
SNAPSHOT_STALLED_S = 60.0

InThread = Callable[..., Awaitable[Any]]

log = logging.getLogger(__name__)


def status(server: Server, call: Call) -> None:
    """Never waits: it is asked of members that are ill."""
    refused = refuses(server, call, Check.admin)
    if refused is not None:
        fail(call, refused)
        return
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
    return f"{member}alarm:{alarm_name(alarm.alarm)} "


def hash_kv(server: Server, call: Call) -> None:
    request = read(call, rpc.HashKVRequest, call.body)
    if request is None:
        return
    refused = refuses_unmapped(server, call)
    if refused is not None:
        fail(call, refused)
        return
    server.tasks.spawn(_hash_kv(server, call, request.revision), call)


def hash_(server: Server, call: Call) -> None:
    """etcd's is that of its database file, which no two need have in common; ours is that of the keys, as HashKV's."""
    if read(call, rpc.HashRequest, call.body) is None:
        return
    refused = refuses_unmapped(server, call)
    if refused is not None:
        fail(call, refused)
    else:
        server.tasks.spawn(_hash(server, call), call)


async def _hash(server: Server, call: Call) -> None:
    answer = await hashing.hash_kv(server, 0)
    if isinstance(answer, Refusal):
        fail(call, answer)
    else:
        response = rpc.HashResponse(hash=answer.hash)
        call.reply(server.header.encode(server.machine.revision) + response.SerializeToString())


async def _hash_kv(server: Server, call: Call, revision: int) -> None:
    answer = await hashing.hash_kv(server, revision)
    if isinstance(answer, Refusal):
        fail(call, answer)
        return
    response = rpc.HashKVResponse(hash=answer.hash, compact_revision=answer.compact_revision)  # hash_revision is 3.6's
    call.reply(server.header.encode(server.machine.revision) + response.SerializeToString())


def alarm(server: Server, call: Call) -> None:
    request = read(call, rpc.AlarmRequest, call.body)
    if request is None:
        return
    refused = refuses(server, call, Check.named if request.action == rpc.AlarmRequest.GET else Check.admin)
    if refused is not None:
        fail(call, refused)
    else:
        propose(server, ALARM + varint(len(call.body)) + call.body, call)


def defragment(server: Server, call: Call) -> None:
    refused = refuses_unmapped(server, call)
    if refused is not None:
        fail(call, refused)
        return
    server.tasks.spawn(_defragment(server, call), call)


async def _defragment(server: Server, call: Call) -> None:
    try:
        await server.commits.defragment()
    except StorageFault as fault:
        call.fail(Code.RESOURCE_EXHAUSTED, f"kvorum: {fault}")
        return
    call.reply(b"")  # etcd's answer has no header here


def snapshot(server: Server, call: Call) -> None:
    """The whole store as etcd's database, in pieces, and its SHA-256 behind it."""

    def asked(message: bytes) -> None:
        call.on_message = call.on_end = None
        refused = refuses_unmapped(server, call)
        if refused is not None:
            fail(call, refused)
            return
        task = server.tasks.spawn(_snapshot(server, call), call)

        def closed() -> None:
            task.cancel()

        call.on_close = closed

    call.on_message = asked
    call.on_end = lambda: call.fail(grpc.NO_MESSAGE.code, grpc.NO_MESSAGE.message)


async def _snapshot(server: Server, call: Call) -> None:
    try:
        async with server.snapshots.exported() as path:
            await _stream_file(path, call, server.snapshots.in_thread)
    except ConversionFailed as error:
        log.error("no snapshot could be made for a client: %s", error)
        call.fail(Code.INTERNAL, f"kvorum: no snapshot could be made: {error}")
    except TimeoutError:
        call.fail(Code.DEADLINE_EXCEEDED, f"kvorum: nothing of the snapshot was read for {SNAPSHOT_STALLED_S:g} s")


async def _stream_file(path: Path, call: Call, in_thread: InThread) -> None:
    """Raises TimeoutError."""
    writable = asyncio.Event()
    call.on_writable = writable.set
    digest = hashlib.sha256()
    file = await in_thread(open, path, "rb")
    with file:
        remaining_bytes = os.fstat(file.fileno()).st_size
        while piece := await in_thread(file.read, SNAPSHOT_READ_BYTES):
            await in_thread(digest.update, piece)
            for at in range(0, len(piece), SNAPSHOT_BLOB_BYTES):
                blob = piece[at : at + SNAPSHOT_BLOB_BYTES]
                remaining_bytes -= len(blob)
                call.push(rpc.SnapshotResponse(remaining_bytes=remaining_bytes, blob=blob).SerializeToString())
            while call.buffered_bytes > SNAPSHOT_BUFFERED_BYTES_MAX:
                writable.clear()
                async with asyncio.timeout(SNAPSHOT_STALLED_S):
                    await writable.wait()
    call.push(rpc.SnapshotResponse(blob=digest.digest()).SerializeToString())
    call.finish()


def move_leader(server: Server, call: Call) -> None:
    request = read(call, rpc.MoveLeaderRequest, call.body)
    if request is None:
        return
    refused = refuses(server, call, Check.admin)
    if refused is not None:
        fail(call, refused)
    else:
        reconfiguration.move_leader(server, request.targetID, call)


def downgrade(server: Server, call: Call) -> None:
    """Asks whether the cluster may go back by a minor version, lets it, or ends that.

    An etcd 3.5 answers the last two with a timeout, though it does what it is asked: nobody tells the waiting call.
    """
    request = read(call, rpc.DowngradeRequest, call.body)
    if request is None:
        return
    target = parse_target(request.version)
    if refused := refuses(server, call, Check.admin):
        fail(call, refused)
    elif request.action == rpc.DowngradeRequest.CANCEL:
        server.read(partial(_cancel_downgrade, call), call)
    elif request.action not in (rpc.DowngradeRequest.VALIDATE, rpc.DowngradeRequest.ENABLE):
        fail(call, refusal.UNKNOWN_METHOD)
    elif target is None:
        fail(call, refusal.DOWNGRADE_BAD_FORMAT)
    else:
        server.read(partial(_check_downgrade, call, target, request.action == rpc.DowngradeRequest.ENABLE), call)


def _check_downgrade(call: Call, target: tuple[int, int], enables: bool, server: Server, _: Answer) -> None:
    membership = server.machine.membership
    refused = objection(membership.cluster_version, target, membership.downgrade_target)
    if refused is not None:
        fail(call, refused)
    elif enables:
        _set_downgrade(server, call, DowngradeInfoSetRequest(enabled=True, ver=f"{target[0]}.{target[1]}.0"))
    else:
        _answer_downgrade(server, call)


def _cancel_downgrade(call: Call, server: Server, _: Answer) -> None:
    if server.machine.membership.downgrade_target is None:
        fail(call, refusal.DOWNGRADE_NOT_IN_PROGRESS)
    else:
        _set_downgrade(server, call, DowngradeInfoSetRequest(enabled=False))


def _set_downgrade(server: Server, call: Call, wanted: DowngradeInfoSetRequest) -> None:
    def done(refused: Refusal | None) -> None:
        if refused is not None:
            fail(call, refused)
        else:
            _answer_downgrade(server, call)

    propose(server, InternalRaftRequest(downgrade_info_set=wanted).SerializeToString(), call, Done(done))


def _answer_downgrade(server: Server, call: Call) -> None:
    response = rpc.DowngradeResponse(version=server.machine.membership.cluster_version or "")
    call.reply(server.header.encode(server.machine.revision) + response.SerializeToString())
