"""A request out of its bytes."""

from kvorum.api import request
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.state import refusal
from kvorum.state.refusal import Refusal

from tests.unit.kvorum.api.test_routes import ToyCall


def test_bytes_of_a_request_are_read_and_nobody_is_answered_yet() -> None:
    call = ToyCall("/etcdserverpb.KV/Compact", "")
    found = request.read(call, rpc.CompactionRequest, rpc.CompactionRequest(revision=7).SerializeToString())
    assert found is not None
    assert (found.revision, call.answers) == (7, [])


def test_bytes_that_are_none_are_answered_once_as_grpc_go_does() -> None:
    call = ToyCall("/etcdserverpb.KV/Compact", "")
    assert request.read(call, rpc.CompactionRequest, b"\xff") is None
    (answer,) = call.answers
    assert isinstance(answer, Refusal)
    assert answer.code == 13
    assert answer.text.startswith("grpc: error unmarshalling request: ")


def test_a_refusal_keeps_its_code_and_text() -> None:
    call = ToyCall("/etcdserverpb.KV/Compact", "")
    request.fail(call, refusal.NO_LEADER)
    assert call.answers == [refusal.NO_LEADER]
