"""The bytes of a configuration change are raftpb's, in both directions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvorum.etcdpb import raft_pb2
from kvorum.raft import change_codec
from kvorum.raft.change_codec import NotAChange
from kvorum.raft.message import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    Entry,
    EntryType,
)

IDS = st.integers(0, (1 << 64) - 1)
KINDS = st.sampled_from(ConfChangeType)
CHANGES = st.builds(ConfChange, KINDS, IDS, IDS, st.binary())
CHANGES_V2 = st.builds(
    ConfChangeV2,
    st.sampled_from(ConfChangeTransition),
    st.lists(st.builds(ConfChangeSingle, KINDS, IDS), max_size=4).map(tuple),
    st.binary(),
)


@given(CHANGES)
def test_one_change_is_written_as_protobuf_has_it(change: ConfChange) -> None:
    message = raft_pb2.ConfChange(id=change.id, type=change.type.value, node_id=change.node_id)
    if change.context:
        message.context = change.context
    data = change_codec.encode(change)
    assert data == message.SerializeToString(deterministic=True)
    assert change_codec.decode(Entry(1, 1, data, EntryType.CONF_CHANGE)) == change


@given(CHANGES_V2)
def test_several_changes_are_read_as_they_were_written(change: ConfChangeV2) -> None:
    data = change_codec.encode(change)
    assert change_codec.decode(Entry(1, 1, data, EntryType.CONF_CHANGE_V2)) == change


def test_several_changes_have_etcds_bytes() -> None:
    """raftpb.ConfChangeV2: transition 1, changes 2 (type 1, node_id 2), context 3; numbers also where they are 0."""
    singles = (ConfChangeSingle(ConfChangeType.ADD_NODE, 1), ConfChangeSingle(ConfChangeType.ADD_LEARNER, 300))
    change = ConfChangeV2(ConfChangeTransition.JOINT_EXPLICIT, singles, b"x")
    assert change_codec.encode(change).hex(" ") == "08 02 12 04 08 00 10 01 12 05 08 03 10 ac 02 1a 01 78"
    assert change_codec.encode(ConfChangeV2()).hex(" ") == "08 00"


def test_no_data_at_all_ends_a_joint_configuration() -> None:
    change = change_codec.decode(Entry(1, 1, b"", EntryType.CONF_CHANGE_V2))
    assert isinstance(change, ConfChangeV2)
    assert change.leaves_joint


def test_absent_fields_are_zero() -> None:
    assert change_codec.decode_single(b"") == ConfChange(ConfChangeType.ADD_NODE, 0)


def test_fields_that_are_not_known_are_skipped_whatever_their_type() -> None:
    change = ConfChange(ConfChangeType.REMOVE_NODE, 7, 9, b"x")
    unknown = bytes.fromhex("28 01 32 01 61 3d 00 00 00 00 41 00 00 00 00 00 00 00 00")
    assert change_codec.decode_single(unknown + change_codec.encode(change) + unknown) == change


@given(st.binary(max_size=40), st.sampled_from([EntryType.CONF_CHANGE, EntryType.CONF_CHANGE_V2]))
def test_any_other_bytes_are_refused_or_read(data: bytes, kind: EntryType) -> None:
    try:
        change_codec.decode(Entry(1, 1, data, kind))
    except NotAChange:
        return


BROKEN = {
    "no value": "08",
    "half a value": "08 ff",
    "half a context": "22 05 08",
    "no such type": "10 04",
    "a number without end": "08 " + "ff " * 11,
    "fixed32 for an id": "0d 00 00 00 00",
    "a number for a context": "20 01",
    "bytes for an id": "0a 00",
    "field 0": "00 00",
    "half a fixed32": "2d 00",
    "a group": "2b",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_broken_bytes_are_named(data: str) -> None:
    with pytest.raises(NotAChange):
        change_codec.decode(Entry(1, 1, bytes.fromhex(data), EntryType.CONF_CHANGE))
