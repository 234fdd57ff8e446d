"""The hand-made bytes of headers and ids, against protobuf."""

from hypothesis import given
from hypothesis import strategies as st
from kvorum.etcdpb import internal_pb2 as internal
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.server.header import RequestIds, ResponseHeader

IDS = st.integers(1, (1 << 64) - 1)


@given(IDS, IDS, st.lists(st.integers(0, (1 << 62)), min_size=1), st.integers(0, 1 << 40))
def test_header_is_field_one_of_every_response(cluster: int, member: int, revisions: list[int], term: int) -> None:
    header = ResponseHeader(cluster, member)
    header.set_term(term)
    for revision in revisions:
        expected = rpc.ResponseHeader(cluster_id=cluster, member_id=member, revision=revision, raft_term=term)
        assert rpc.PutResponse.FromString(header.encode(revision)).header == expected


def test_a_new_term_is_told_for_the_same_revision() -> None:
    header = ResponseHeader(1, 2)
    header.set_term(3)
    header.encode(9)
    header.set_term(4)
    assert rpc.PutResponse.FromString(header.encode(9)).header.raft_term == 4


@given(IDS, st.integers(0, 1 << 45), st.integers(1, 40_000))
def test_header_field_carries_the_id(member: int, unix_ms: int, count: int) -> None:
    ids = RequestIds(member, unix_ms)
    request_id = 0
    for _ in range(min(count, 300)):
        request_id = ids.next()
    assert request_id == internal.InternalRaftRequest.FromString(ids.header_field(request_id)).header.ID
    assert request_id >> 48 == member & 0xFFFF


def test_ids_follow_etcds_layout() -> None:
    # 16 bits of the member, 40 of the time, then a counter from 1 on (captured: 4081 a206197d8d 04).
    assert RequestIds(0x0102030405064081, 0xA206197D8D).next() == 0x4081A206197D8D01
