"""Rows and varints made by hand against protobuf."""

from hypothesis import given
from hypothesis import strategies as st
from kvorum.etcdpb.rpc_pb2 import KeyValue, LeaseStatus
from kvorum.state.row import (
    encode_key_value,
    encode_tombstone,
    first_key_of,
    is_tombstone,
    key_of,
    parse_revision,
    read_varint,
    revision_key,
    tombstone_key,
    varint,
)

EDGES = [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455, 268_435_456, 2**35, 2**63 - 1]
int64s = st.one_of(st.sampled_from(EDGES), st.integers(1, 2**63 - 1))
revisions = st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))


@given(st.one_of(st.sampled_from(EDGES), st.integers(-(2**63), 2**64 - 1)))
def test_a_varint_is_protobufs(number: int) -> None:
    assert number % 2**64 == LeaseStatus.FromString(b"\x08" + varint(number)).ID % 2**64


@given(int64s, st.binary(max_size=3), st.binary(max_size=3))
def test_a_varint_is_read_as_it_was_written(number: int, before: bytes, behind: bytes) -> None:
    data = before + varint(number) + behind
    assert read_varint(data, len(before)) == (number, len(data) - len(behind))


@given(
    st.binary(min_size=1, max_size=200),
    int64s,
    int64s,
    int64s,
    st.binary(max_size=400),
    st.integers(-(2**63), 2**63 - 1),
)
def test_a_row_has_the_bytes_that_protobuf_makes(
    key: bytes, create: int, mod: int, version: int, value: bytes, lease: int
) -> None:
    create, mod, version = max(create, 1), max(mod, 1), max(version, 1)
    kv = KeyValue(key=key, create_revision=create, mod_revision=mod, version=version, value=value, lease=lease)
    row = encode_key_value(key, create, mod, version, value, lease)
    assert row == kv.SerializeToString()
    assert key_of(row) == key


@given(st.binary(min_size=1, max_size=20_000))
def test_a_tombstone_holds_the_key_alone(key: bytes) -> None:
    row = encode_tombstone(key)
    assert row == KeyValue(key=key).SerializeToString()
    assert key_of(row) == key


@given(revisions, revisions)
def test_row_keys_sort_as_their_revisions(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (revision_key(*one) < revision_key(*other)) == (one < other)
    assert parse_revision(revision_key(*one)) == parse_revision(tombstone_key(*one)) == one
    assert first_key_of(one[0]) < revision_key(*one)


def test_row_keys_are_those_of_etcd() -> None:
    assert revision_key(5, 0).hex() == "00000000000000055f0000000000000000"
    assert tombstone_key(5, 1).hex() == "00000000000000055f000000000000000174"
    assert is_tombstone(tombstone_key(5, 1))
    assert not is_tombstone(revision_key(5, 1))
