"""raftpb by hand, against messages and logs that a real etcd 3.5.30 wrote, and against protobuf's own runtime."""

import contextlib
import json
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvorum.etcdpb import raft_pb2
from kvorum.raft import change_codec
from kvorum.raft.message import (
    ConfState,
    Entry,
    HardState,
    Message,
    MessageType,
    Snapshot,
)
from kvorum.storage.entry_codec import (
    NotRaftpb,
    decode_conf_state,
    decode_entry,
    decode_hard_state,
    decode_message,
    decode_metadata,
    decode_snapshot,
    decode_varint,
    encode_conf_state,
    encode_entry,
    encode_hard_state,
    encode_message,
    encode_metadata,
    encode_snapshot,
    encode_varint,
)

TESTDATA = Path(__file__).parent / "testdata"
UINT64 = st.one_of(
    st.integers(0, 300), st.integers(0, (1 << 64) - 1), st.integers(0, 9).map(lambda n: (1 << 7 * n) - 1)
)
IDS = st.lists(UINT64, max_size=4).map(tuple)
CONF_STATES = st.builds(ConfState, IDS, IDS, IDS, IDS, st.booleans())
ENTRIES = st.builds(Entry, UINT64, UINT64, st.binary(max_size=300), st.integers(0, 2))
SNAPSHOTS = st.builds(Snapshot, st.integers(1, (1 << 64) - 1), UINT64, CONF_STATES, st.binary(max_size=40))
MESSAGES = st.builds(
    Message,
    type=st.sampled_from(list(MessageType)[: MessageType.PRE_VOTE_REPLY + 1]),  # of those that travel
    to=UINT64,
    sender=UINT64,
    term=UINT64,
    log_term=UINT64,
    index=UINT64,
    entries=st.lists(ENTRIES, max_size=3),
    commit=UINT64,
    snapshot=st.one_of(st.none(), SNAPSHOTS),
    reject=st.booleans(),
    reject_hint=UINT64,
    context=st.binary(max_size=20),
)


def captured_messages() -> list[tuple[dict[str, Any], bytes]]:
    lines = (TESTDATA / "messages.jsonl").read_text().splitlines()
    return [(line["message"], bytes.fromhex(line["raw"])) for line in map(json.loads, lines)]


def wal_entries() -> list[dict[str, Any]]:
    lines = [
        json.loads(line)
        for member in ("member-life", "member-snapshot")
        for line in (TESTDATA / member / "wal.jsonl").read_text().splitlines()
    ]
    return [line for line in lines if line["type"] == "entry"]


def without_kept_bytes(entry: Entry) -> Entry:
    return Entry(entry.term, entry.index, entry.data, entry.type)


# --- against etcd ----------------------------------------------------------------------------------------------------


def test_each_message_etcd_sent_is_read_as_it_was_decoded_and_written_back_byte_for_byte() -> None:
    messages = captured_messages()
    assert len({seen["type"] for seen, _ in messages}) == 12
    for seen, raw in messages:
        message = decode_message(raw)
        assert message.to == int(seen["to"], 16)
        assert message.sender == int(seen["from"], 16)
        for ours, theirs in (
            (message.term, "term"),
            (message.log_term, "logTerm"),
            (message.index, "index"),
            (message.commit, "commit"),
            (message.reject, "reject"),
            (message.reject_hint, "rejectHint"),
        ):
            assert ours == seen[theirs], (theirs, seen)
        entries = [without_kept_bytes(entry) for entry in message.entries]
        assert [entry.data.hex() for entry in entries] == [entry["data_hex"] for entry in seen.get("entries", ())]
        message.entries = entries
        assert encode_message(message) == raw


def test_each_entry_etcd_stored_is_read_and_written_back_byte_for_byte() -> None:
    lines = wal_entries()
    assert len(lines) > 100
    for line in lines:
        raw = bytes.fromhex(line["data_hex"])
        entry = decode_entry(raw)
        assert (entry.term, entry.index) == (line["term"], line["index"])
        assert entry.type == (1 if line["entry_type"] == "EntryConfChange" else 0)
        assert entry.encoded == raw
        assert encode_entry(without_kept_bytes(entry)) == raw


def test_each_change_of_membership_in_the_captured_logs_is_read_and_written_back() -> None:
    changes = [line for line in wal_entries() if line["entry_type"] == "EntryConfChange"]
    assert {line["payload"]["type"] for line in changes} == {0, 1, 2, 3}
    for line in changes:
        data = decode_entry(bytes.fromhex(line["data_hex"])).data
        change = change_codec.decode_single(data)
        assert (change.id, change.type, change.node_id) == tuple(
            line["payload"][name] for name in ("id", "type", "node_id")
        )
        assert change_codec.encode(change) == data


def test_the_link_heartbeat_is_a_message_of_zeros() -> None:
    raw = bytes.fromhex("08081000180020002800300040004a0a12080a0228001000180050005800")
    assert decode_message(raw) == Message(MessageType.HEARTBEAT, entries=[])
    assert encode_message(Message(MessageType.HEARTBEAT)) == raw


def test_a_snapshot_file_of_etcd_holds_a_snapshot_that_is_written_back_byte_for_byte() -> None:
    path = TESTDATA / "member-snapshot" / "0000000000000002-000000000000002a.snap"
    file = path.read_bytes()  # snappb: 1 checksum, 2 the snapshot
    checksum, at = decode_varint(file, 1)
    size, at = decode_varint(file, at + 1)
    assert (size, google_crc32c.value(file[at:])) == (len(file) - at, checksum)
    snapshot = decode_snapshot(file[at:])
    told = json.loads(path.with_name(path.name + ".json").read_text())["metadata"]
    assert (snapshot.index, snapshot.term) == (told["index"], told["term"])
    assert snapshot.conf_state == ConfState(tuple(told["conf_state"]["voters"]))
    assert json.loads(snapshot.data)["Root"]["Path"] == "/"
    assert encode_snapshot(snapshot) == file[at:]


def test_metadata_are_written_as_in_the_captured_log() -> None:
    raw = bytes.fromhex("08e9f5cac1b986a3e855108d83d8e6a4e8c6bff101")
    assert decode_metadata(raw) == (6183596441604373225, 17401657456753770893)
    assert encode_metadata(*decode_metadata(raw)) == raw


# --- against protobuf ------------------------------------------------------------------------------------------------


@given(UINT64)
def test_a_number_is_read_back(n: int) -> None:
    data = encode_varint(n)
    assert decode_varint(b"\xff" + data + b"\xff", 1) == (n, 1 + len(data))
    message = raft_pb2.HardState.FromString(b"\x08" + data)
    assert message.term == n
    assert message.SerializeToString() == b"\x08" + data


@pytest.mark.parametrize("bits", range(7, 64, 7))
def test_numbers_at_the_bounds_of_a_byte_more_are_written_as_protobuf_does(bits: int) -> None:
    for n in ((1 << bits) - 1, 1 << bits, (1 << bits) + 1):
        assert b"\x08" + encode_varint(n) == raft_pb2.HardState(term=n).SerializeToString()


def test_a_number_has_ten_bytes_at_most() -> None:
    assert decode_varint(b"\xff" * 9 + b"\x01", 0) == ((1 << 64) - 1, 10)
    with pytest.raises(NotRaftpb, match="longer than 10 bytes"):
        decode_varint(b"\xff" * 10 + b"\x01", 0)


@pytest.mark.parametrize("n", [-1, 1 << 64])
def test_a_number_that_is_no_uint64_is_not_written(n: int) -> None:
    with pytest.raises(ValueError, match="not a uint64"):
        encode_varint(n)


@given(ENTRIES)
def test_an_entry_is_read_back_and_means_the_same_to_protobuf(entry: Entry) -> None:
    raw = encode_entry(entry)
    assert decode_entry(raw) == entry
    theirs = raft_pb2.Entry.FromString(raw)
    assert (theirs.type, theirs.term, theirs.index, theirs.data) == (entry.type, entry.term, entry.index, entry.data)
    assert theirs.SerializeToString() == raw


@given(MESSAGES)
def test_a_message_is_read_back_and_means_the_same_to_protobuf(message: Message) -> None:
    raw = encode_message(message)
    assert decode_message(raw) == message
    theirs = raft_pb2.Message.FromString(raw)
    assert theirs.SerializeToString() == raw
    assert (theirs.type, theirs.to, getattr(theirs, "from")) == (message.type, message.to, message.sender)
    assert (theirs.logTerm, theirs.rejectHint, theirs.context) == (
        message.log_term,
        message.reject_hint,
        message.context,
    )
    assert [entry.index for entry in theirs.entries] == [entry.index for entry in message.entries]


@given(MESSAGES, st.randoms(use_true_random=False))
def test_a_message_is_read_with_its_fields_in_any_order_and_strange_ones_between(message: Message, random: Any) -> None:
    theirs = raft_pb2.Message.FromString(encode_message(message))
    parts = [raft_pb2.Message(**{field.name: value}).SerializeToString() for field, value in theirs.ListFields()]
    entries = [part for part in parts if part[:1] == b"\x3a"]
    others = [part for part in parts if part[:1] != b"\x3a"]
    strange = [b"\x68\x05", b"\x72\x02\x08\x13", b"\xfa\x06\x01x", b"\xf9\x0601234567", b"\xfd\x060123"]
    others += strange
    random.shuffle(others)
    at = random.randrange(len(others) + 1)
    assert decode_message(b"".join(others[:at] + entries + others[at:])) == message


@given(CONF_STATES)
def test_a_configuration_is_read_back_and_means_the_same_to_protobuf(state: ConfState) -> None:
    raw = encode_conf_state(state)
    assert decode_conf_state(raw) == state
    assert raft_pb2.ConfState.FromString(raw).SerializeToString() == raw


def test_ids_of_a_configuration_may_come_packed() -> None:
    assert decode_conf_state(b"\x0a\x03\x05\x81\x01\x08\x07\x2a\x00") == ConfState((5, 129, 7))


@given(SNAPSHOTS)
def test_a_snapshot_is_read_back(snapshot: Snapshot) -> None:
    assert decode_snapshot(encode_snapshot(snapshot)) == snapshot
    theirs = raft_pb2.RaftSnapshot.FromString(encode_snapshot(snapshot))
    assert theirs.SerializeToString() == encode_snapshot(snapshot)


@given(st.builds(HardState, UINT64, UINT64, UINT64))
def test_a_hard_state_is_read_back(state: HardState) -> None:
    assert decode_hard_state(encode_hard_state(state)) == state


# --- leniency and its end --------------------------------------------------------------------------------------------


def test_absent_fields_are_zero() -> None:
    assert decode_message(b"") == Message(MessageType.HUP, entries=[])
    assert decode_entry(b"") == Entry(0, 0)
    assert decode_entry(b"\x18\x07") == Entry(0, 7)
    assert decode_hard_state(b"\x10\x05") == HardState(vote=5)
    assert decode_snapshot(b"") == Snapshot()


def test_an_entry_with_empty_but_present_data_keeps_its_bytes() -> None:
    raw = b"\x08\x00\x10\x02\x18\x04\x22\x00"
    entry = decode_entry(raw)
    assert entry == Entry(2, 4)
    assert encode_entry(entry) == raw


def test_an_entry_is_encoded_once() -> None:
    entry = Entry(2, 4, b"data")
    assert encode_entry(entry) is encode_entry(entry)
    assert entry.encoded is encode_entry(entry)


def test_of_a_field_that_comes_twice_the_last_counts() -> None:
    assert decode_entry(b"\x08\x00\x10\x02\x18\x04\x10\x03") == Entry(3, 4)
    assert decode_message(b"\x20\x02\x20\x03").term == 3


@pytest.mark.parametrize(
    "data",
    [
        b"\x08",  # a tag and nothing
        b"\x08\x80",  # a number that does not end
        b"\x08" + b"\xff" * 10 + b"\x01",  # or too late
        b"\x22\x05abc",  # shorter than it says
        b"\x22\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # far shorter
        b"\x0a\x00",  # type as bytes
        b"\x20\x01",  # data as a number
        b"\x00\x00",  # field 0
        b"\x2b",  # a group
        b"\x29123",  # 8 bytes that are 3
        b"\x08\x03\x10\x01\x18\x01",  # a type that does not exist
        b"\x08\x00\x10\x02\x18\x04\x22\x04abc",
        b"\x08\x00\x10\x02\x18\x04\x22",
    ],
)
def test_what_is_no_entry_is_refused(data: bytes) -> None:
    with pytest.raises(NotRaftpb):
        decode_entry(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x08\x13",  # a type that 3.5 does not send
        b"\x08",
        b"\x3a\x05\x08",  # an entry that is cut off
        b"\x3a\x02\x08\x80",  # an entry that is none
        b"\x38\x01",  # entries as a number
        b"\x62\x7fabc",
        b"\x4a\x01\x0a",  # a snapshot that is none
    ],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(NotRaftpb):
        decode_message(data)


@given(MESSAGES, st.data())
def test_a_message_with_a_flipped_bit_is_refused_or_read_but_nothing_else_is_raised(
    message: Message, data: Any
) -> None:
    raw = bytearray(encode_message(message))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(NotRaftpb):
        decode_message(bytes(raw[: data.draw(st.integers(at, len(raw)))]))


@pytest.mark.parametrize("data", [b"\x08\x80", b"\x0a\x05\x01", b"\x0d1234", b"\x0a\x01\x80"])
def test_what_is_no_configuration_is_refused(data: bytes) -> None:
    with pytest.raises(NotRaftpb):
        decode_conf_state(data)
