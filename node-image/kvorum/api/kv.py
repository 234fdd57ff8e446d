"""etcdserverpb.KV. Hot path for Put and Range: budget 5 us here; `make bench`.

A request's bytes go into the log as the client sent them; only a tag and a length come before them.
"""

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from kvorum.api.permission import NESTED_BYTES_MIN, PUT, propose, refuses, refuses_read, unreadable
from kvorum.api.request import bad_request, fail, read
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.net.call import Call
from kvorum.server.answer import Answer
from kvorum.server.server import Server
from kvorum.state import checks
from kvorum.state.auth_checks import Check
from kvorum.state.refusal import Refusal
from kvorum.state.row import varint
from kvorum.state.txn import is_read_only

DELETE_RANGE, TXN, COMPACTION = b"\x2a", b"\x32", b"\x3a"  # fields of InternalRaftRequest


def put(server: Server, call: Call) -> None:
    body = call.body
    try:
        request = rpc.PutRequest.FromString(body)
    except DecodeError as error:
        bad_request(call, error)
        return
    payload = PUT + varint(len(body)) + body
    refused = server.quota.refuses(request) or checks.put(request)
    if refused is None and len(body) >= NESTED_BYTES_MIN:
        unnamed_bytes = len(body) - len(request.key) - len(request.value)
        refused = unreadable(payload) if unnamed_bytes >= NESTED_BYTES_MIN else None
    if refused is not None:
        fail(call, refused)
    else:
        propose(server, payload, call)


def range_(server: Server, call: Call) -> None:
    try:
        request = rpc.RangeRequest.FromString(call.body)
    except DecodeError as error:
        bad_request(call, error)
        return
    refused = checks.range_(request)
    if refused is not None:
        fail(call, refused)
    elif request.serializable:
        answer_range(server, call, request)
    else:
        server.read(lambda server, answer: answer_range(server, call, request), call)


def answer_range(server: Server, call: Call, request: rpc.RangeRequest) -> None:
    body: bytes | Refusal | None = None
    if server.machine.auth.enabled:
        body = server.callers.refuses_range(call, request.key, request.range_end)
    body = body or server.machine.range(request)
    if isinstance(body, Refusal):
        fail(call, body)
    else:
        call.reply(server.header.encode(server.machine.revision) + body)


def delete_range(server: Server, call: Call) -> None:
    _propose_checked(server, call, rpc.DeleteRangeRequest, checks.delete_range, DELETE_RANGE)


def txn(server: Server, call: Call) -> None:
    try:
        request = rpc.TxnRequest.FromString(call.body)
    except DecodeError as error:
        bad_request(call, error)
        return
    refused = server.quota.refuses(request) or checks.txn(request, server.settings.txn_ops_max)
    if refused is not None:
        fail(call, refused)
    elif is_read_only(request):

        def run(server: Server, answer: Answer) -> None:
            answer_txn(server, call, request)

        if is_serializable(request):
            run(server, call)
        else:
            server.read(run, call)
    else:
        payload = TXN + varint(len(call.body)) + call.body
        if _refuses_ranges(server, call, request) is None:
            propose(server, payload, call)
        else:
            # What is refused here may only not have been applied yet: asked again once this member has caught up.
            server.read(_propose_readable(call, request, payload), call)


def _refuses_ranges(server: Server, call: Call, request: rpc.TxnRequest) -> Refusal | None:
    """A range that the caller may not read, or that cannot be read, would fail the txn on this member only (etcd's
    issue 18667)."""
    return refuses(server, call, lambda check: check.txn_with_ranges(request)) or server.machine.refuses_txn_ranges(
        request
    )


def _propose_readable(call: Call, request: rpc.TxnRequest, payload: bytes) -> Callable[[Server, Answer], None]:
    def run(server: Server, answer: Answer) -> None:
        refused = _refuses_ranges(server, call, request)
        if refused is not None:
            fail(call, refused)
        else:
            propose(server, payload, call)

    return run


def is_serializable(request: rpc.TxnRequest) -> bool:
    """Whether every range in a txn of ranges may be answered from what this member has applied."""
    return all(
        op.request_range.serializable for op in (*request.success, *request.failure) if op.HasField("request_range")
    )


def answer_txn(server: Server, call: Call, request: rpc.TxnRequest) -> None:
    body = refuses_read(server, call, lambda check: check.txn_with_ranges(request)) or server.machine.read_txn(request)
    if isinstance(body, Refusal):
        fail(call, body)
    else:
        call.reply(server.header.encode(server.machine.revision) + body)


class _Compacted:
    """The answer to a physical compaction waits until the revisions are gone from this member's disk."""

    def __init__(self, server: Server, call: Call) -> None:
        self._server = server
        self._call = call

    def reply(self, body: bytes) -> None:
        self._server.compaction.when_done(lambda: self._call.reply(body))

    def fail(self, code: int, message: str) -> None:
        self._call.fail(code, message)


def compact(server: Server, call: Call) -> None:
    request = read(call, rpc.CompactionRequest, call.body)
    if request is None:
        return
    refused = refuses(server, call, Check.admin)
    if refused is not None:
        fail(call, refused)
        return
    answer: Answer = _Compacted(server, call) if request.physical else call
    propose(server, COMPACTION + varint(len(call.body)) + call.body, call, answer)


def _propose_checked(
    server: Server, call: Call, message: Any, check: Callable[[Any], Refusal | None], field: bytes
) -> None:
    request = read(call, message, call.body)
    if request is None:
        return
    refused = check(request)
    if refused is not None:
        fail(call, refused)
    else:
        propose(server, field + varint(len(call.body)) + call.body, call)
