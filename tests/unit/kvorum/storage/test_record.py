"""Records of the log one at a time: etcd's bytes, what a torn write looks like, and what rot looks like."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvorum.etcdpb import raft_pb2
from kvorum.raft.message import ConfState, Snapshot
from kvorum.storage.entry_codec import NotRaftpb
from kvorum.storage.record import (
    CRC,
    ENTRY,
    METADATA,
    SNAPSHOT,
    CorruptRecord,
    Record,
    TornRecord,
    decode_snapshot_mark,
    encode_record,
    encode_snapshot_mark,
    extend_crc,
    read_record,
)

SECTOR = 512


def entry_record(data: bytes, crc: int = 0) -> bytes:
    return encode_record(ENTRY, extend_crc(crc, data), data)


def test_the_head_of_a_log_that_etcd_3_4_wrote_is_written_the_same() -> None:
    metadata = bytes.fromhex("08cdd2918bd2b881cf8e0110b298eaf1948386fccd01")
    head = encode_record(CRC, 0, None) + encode_record(METADATA, extend_crc(0, metadata), metadata)
    assert head.hex() == (
        "0400000000000084"
        "0804100000000000"
        "2000000000000000"
        "080110bb81c7fc051a1608cdd2918bd2b881cf8e0110b298eaf1948386fccd01"
    )
    crc = extend_crc(extend_crc(0, metadata), b"\x08\x00\x10\x00")
    mark = encode_record(SNAPSHOT, crc, encode_snapshot_mark(Snapshot()))
    assert mark.hex() == "0e0000000000008208051094bbc7ed0e1a04080010000000"


@given(st.binary(min_size=1, max_size=3000), st.integers(0, (1 << 32) - 1))
def test_a_record_is_read_back_and_is_protobuf_behind_its_length(data: bytes, crc: int) -> None:
    raw = entry_record(data, crc)
    assert len(raw) % 8 == 0
    record = read_record(raw, 0, crc)
    assert record == Record(ENTRY, extend_crc(crc, data), data, len(raw))
    size = int.from_bytes(raw[:7], "little")
    padding = raw[7] & 0x7F if raw[7] else 0
    assert 8 + size + padding == len(raw)
    theirs = raft_pb2.WalRecord.FromString(raw[8 : 8 + size])
    assert (theirs.type, theirs.crc, theirs.data) == (ENTRY, extend_crc(crc, data), data)
    assert theirs.SerializeToString() == raw[8 : 8 + size]


def test_records_end_where_the_zeros_or_the_file_do() -> None:
    raw = entry_record(b"data")
    assert read_record(raw, len(raw), 0) is None
    assert read_record(raw + bytes(8), len(raw), 0) is None
    assert read_record(raw + bytes(1000), len(raw), 0) is None
    with pytest.raises(TornRecord):
        read_record(raw + bytes(4), len(raw), 0)


def test_a_sum_of_an_earlier_record_counts() -> None:
    first, second = entry_record(b"first"), entry_record(b"second", extend_crc(0, b"first"))
    assert read_record(second, 0, extend_crc(0, b"first")) is not None
    with pytest.raises(CorruptRecord, match="checksum"):
        read_record(second, 0, 0)
    with pytest.raises(CorruptRecord, match="checksum"):
        read_record(first, 0, 1)


@given(st.integers(1, 4000), st.integers(0, 70), st.data())
def test_a_record_that_misses_a_sector_is_torn(size: int, before: int, data: st.DataObject) -> None:
    """Any set of its sectors may be missing; if its length is, the records simply end there."""
    raw = bytes(8 * before) + entry_record(b"\xa5" * size) + bytes(SECTOR)
    segment = bytearray(raw)
    start, stop = 8 * before, len(raw) - SECTOR
    sectors = range(start // SECTOR, (stop - 1) // SECTOR + 1)
    lost = data.draw(st.sets(st.sampled_from(sectors), min_size=1))
    for sector in lost:
        segment[sector * SECTOR : (sector + 1) * SECTOR] = bytes(SECTOR)
    if start // SECTOR in lost:
        assert read_record(bytes(segment), start, 0) is None
    elif not any(raw[max(lost) * SECTOR : stop]) and len(lost) == 1:
        assert read_record(bytes(segment), start, 0) is not None  # it has only padding there
    else:
        with pytest.raises(TornRecord):
            read_record(bytes(segment), start, 0)


def test_a_length_that_rotted_to_zero_is_not_the_end_of_the_log() -> None:
    raw = bytearray(entry_record(b"6bytes"))
    assert raw[0] == 16
    raw[0] = 0
    with pytest.raises(CorruptRecord, match="zeros for a record's length"):
        read_record(bytes(raw) + bytes(SECTOR), 0, 0)


@given(st.integers(1, 2000), st.data())
def test_a_record_with_a_flipped_bit_is_corrupt_and_not_torn(size: int, data: st.DataObject) -> None:
    """Torn would mean that it may be cut off: a record that was acknowledged, and rotted, must not be."""
    raw = entry_record(b"\xa5" * size)
    behind = entry_record(b"next", extend_crc(0, b"\xa5" * size))
    segment = bytearray(raw + behind + bytes(SECTOR))
    unused = (-int.from_bytes(raw[:7], "little")) % 8  # padding means nothing: nobody reads it
    kind = 9  # which the checksum does not cover: see test_wal
    at = data.draw(st.integers(0, len(raw) - 1 - unused).filter(lambda at: at != kind))
    segment[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CorruptRecord):
        read_record(bytes(segment), 0, 0)


def test_a_file_that_ends_within_a_record_tore_it() -> None:
    raw = entry_record(b"\xa5" * 2000)
    for end in range(8, len(raw), 8):
        with pytest.raises(TornRecord):
            read_record(raw[:end], 0, 0)


def test_a_length_that_rotted_does_not_pass_for_a_file_that_ended_early() -> None:
    raw = bytearray(entry_record(b"\xa5" * 200) + entry_record(b"\xa5" * 200, 1))
    raw[2] ^= 1  # 64 KiB longer, the same padding
    with pytest.raises(CorruptRecord, match="the file ends"):
        read_record(bytes(raw), 0, 0)


@pytest.mark.parametrize(
    "body",
    [
        b"\x10\x02\x08\x02",  # another order
        b"\x08\x06\x10\x00",  # a kind that does not exist
        b"\x08\x00\x10\x00",
        b"\x08\x02\x10\x00\x22\x00",  # a field that does not exist
        b"\x08\x02\x10\x00\x1a\x05a",  # data longer than the record
        b"\x08\x02\x10\x00\x1a\x00a",  # or shorter
        b"\x08\x02\x10\x80",
        b"\x08\x02",
    ],
)
def test_what_was_never_written_so_is_corrupt(body: bytes) -> None:
    pad = -len(body) % 8
    word = len(body) | ((0x80 | pad) << 56 if pad else 0)
    with pytest.raises(CorruptRecord):
        read_record(word.to_bytes(8, "little") + body + bytes(pad) + b"\x01" * 8, 0, 0)


def test_snapshot_marks_are_read_with_and_without_a_configuration() -> None:
    assert decode_snapshot_mark(encode_snapshot_mark(Snapshot(7, 3))) == Snapshot(7, 3)
    mark = bytes.fromhex("081510021a2208d79ad3b6ecd1f18c4208f8d3bba0a2b3cbd4c801089fb7f3dcf4d2c89ae6012800")
    voters = (4763056397444500823, 14459138218702858744, 16588202835693067167)
    assert decode_snapshot_mark(mark) == Snapshot(21, 2, ConfState(voters))
    for broken in (mark[:-1], b"\x20\x00"):
        with pytest.raises(NotRaftpb):
            decode_snapshot_mark(broken)


def test_kinds_have_etcds_numbers() -> None:
    kinds = (METADATA, ENTRY, 3, CRC, SNAPSHOT)
    assert kinds == (1, 2, 3, 4, 5)
    assert all(b - a == 1 for a, b in pairwise(kinds))
