"""What must never reach the log: a request that a member could read by itself, and not within its entry."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from kvorum.api.permission import NESTED_BYTES_MIN
from kvorum.api.routes import UNARY, unary
from kvorum.etcdpb import auth_pb2
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.state.refusal import Refusal
from kvorum.state.row import varint
from kvorum.wire.grpc import Code

from tests.unit.kvorum.api.test_routes import ToyCall
from tests.unit.kvorum.server.cluster import Cluster
from tests.unit.kvorum.server.test_server import run

LEVELS_MAX = 100  # protobuf's
BEGIN, END = b"\x7b", b"\x7c"  # of a group, field 15, which none of the requests has
AS_DEEP_AS_CAN_BE = BEGIN * LEVELS_MAX + END * LEVELS_MAX
WRITES = {path.removeprefix("/etcdserverpb.") for path in UNARY if path.startswith("/etcdserverpb.")} - {
    "Maintenance/Defragment",  # whose requests are empty, and not looked at
    "Maintenance/Status",
    "Lease/LeaseLeases",
}
REQUESTS: dict[str, Any] = {
    "KV/Put": rpc.PutRequest(key=b"a", value=bytes(1000)),
    "KV/DeleteRange": rpc.DeleteRangeRequest(key=b"a"),
    "KV/Txn": rpc.TxnRequest(success=[{"request_put": {"key": b"a"}}]),
    "KV/Compact": rpc.CompactionRequest(revision=1),
    "Lease/LeaseGrant": rpc.LeaseGrantRequest(TTL=60),
    "Lease/LeaseRevoke": rpc.LeaseRevokeRequest(ID=7),
    "Maintenance/Alarm": rpc.AlarmRequest(),
    "Auth/AuthEnable": rpc.AuthEnableRequest(),
    "Auth/UserAdd": auth_pb2.UserAdd(name=b"ann", options={"no_password": True}),
    "Auth/UserGet": auth_pb2.UserGet(name=b"ann"),
    "Auth/RoleAdd": auth_pb2.RoleAdd(name=b"r"),
    "Auth/RoleGrantPermission": auth_pb2.RoleGrantPermission(name=b"r", perm={"key": b"k"}),
}


def nested_txns(count: int) -> bytes:
    body = b""
    for _ in range(count):
        op = b"\x22" + varint(len(body)) + body
        body = b"\x12" + varint(len(op)) + op
    return body


def answers_of(tmp_path: Path, bodies: Mapping[str, bytes]) -> dict[str, bytes | Refusal]:
    """By a member that applies whatever it proposes, and would not outlive what it cannot read."""
    answers: dict[str, bytes | Refusal] = {}

    async def story(cluster: Cluster) -> None:
        handlers = unary(cluster.leader())
        for method, body in bodies.items():
            call = ToyCall(f"/etcdserverpb.{method}", "", body)
            handlers[call.path](call)
            await cluster.until(partial(bool, call.answers), f"{method} is answered")
            [answers[method]] = call.answers

    run(tmp_path, 1, story)
    return answers


def refused_as_unreadable(answers: Mapping[str, bytes | Refusal]) -> set[str]:
    return {
        method for method, answer in answers.items() if isinstance(answer, Refusal) and answer.code == Code.INTERNAL
    }


def in_levels(count: int) -> dict[str, bytes]:
    """Each request with something behind it that nobody knows, but any member reads it by itself."""
    bodies = {method: one.SerializeToString() + BEGIN * count + END * count for method, one in REQUESTS.items()}
    for method, body in bodies.items():
        type(REQUESTS[method]).FromString(body)
    return bodies


def test_what_is_too_deep_for_an_entry_is_refused(tmp_path: Path) -> None:
    assert refused_as_unreadable(answers_of(tmp_path, in_levels(LEVELS_MAX))) == set(REQUESTS)


def test_what_an_entry_can_hold_is_taken_however_odd(tmp_path: Path) -> None:
    assert refused_as_unreadable(answers_of(tmp_path, in_levels(LEVELS_MAX - 1))) == set()


def test_txns_within_txns_have_an_end_too(tmp_path: Path) -> None:
    deepest = max(filter(can_be_read, map(nested_txns, range(40, 60))), key=len)
    assert len(deepest) >= NESTED_BYTES_MIN
    assert refused_as_unreadable(answers_of(tmp_path, {"KV/Txn": deepest})) == {"KV/Txn"}


def can_be_read(body: bytes) -> bool:
    try:
        rpc.TxnRequest.FromString(body)
    except DecodeError:
        return False
    return True


def test_bytes_that_are_no_request_end_no_member(tmp_path: Path) -> None:
    answers = answers_of(tmp_path, dict.fromkeys(WRITES, b"\xff"))
    assert refused_as_unreadable(answers) == WRITES


def test_nor_does_one_that_is_asked_of_a_learner(tmp_path: Path) -> None:
    call = ToyCall("/etcdserverpb.KV/Range", "", b"\xff")

    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        membership = server.machine.membership
        own = membership.find(server.member_id)
        assert own is not None
        membership._members[own.id] = replace(own, is_learner=True)
        assert server.is_learner
        unary(server)[call.path](call)

    run(tmp_path, 1, story)
    [answer] = call.answers
    assert isinstance(answer, Refusal)
    assert answer.code == Code.INTERNAL
