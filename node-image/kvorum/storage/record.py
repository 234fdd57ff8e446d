"""walpb.Record behind its 8-byte length: how anything gets into a segment of the log, and out again.

Knows one record at a time: no file, no order of records. The checksum is CRC-32C over the data of all records so far,
so a record is good only behind those it was written behind. Format: etcd's wal package.
"""

import struct
from typing import NamedTuple

import google_crc32c

from kvorum.raft.message import ConfState, Snapshot
from kvorum.storage.entry_codec import (
    NotRaftpb,
    decode_conf_state,
    decode_varint,
    encode_conf_state,
    encode_varint,
)

METADATA, ENTRY, STATE, CRC, SNAPSHOT = range(1, 6)

FRAME_BYTES = 8
SECTOR_BYTES = 512  # what a disk writes whole or not at all: the unit in which a write is torn

_LENGTH = struct.Struct("<Q")
_HEADS = tuple(b"\x08%c\x10" % kind for kind in range(6))
_PADS = tuple(b"\0" * pad for pad in range(8))
_PAD_WORDS = (0, *((0x80 | pad) << 56 for pad in range(1, 8)))
_SIZE_MASK = (1 << 56) - 1
_HEAD_BYTES_MAX = 2 + 1 + 5 + 1 + 8  # kind, checksum, length of the data

extend_crc = google_crc32c.extend  # (crc, bytes) -> crc; 0.16 us for 320 bytes


class TornRecord(Exception):
    """The record's last sectors never reached the disk, so it was never acknowledged: the log may be cut off here."""


class CorruptRecord(Exception):
    """The record is not as it was written, and may have been acknowledged."""


class Record(NamedTuple):
    kind: int
    crc: int
    data: bytes
    end: int  # offset of the next one


def encode_record(kind: int, crc: int, data: bytes | None) -> bytes:
    """Hot path: 0.9 us. crc: the sum with this data already in it. data None: the field is left out (CRC records)."""
    if data is None:
        body, size = b"", 0
    else:
        size = len(data)
        body = b"\x1a%b%b" % (encode_varint(size), data)
    head = _HEADS[kind] + encode_varint(crc)
    size = len(head) + len(body)
    pad = -size & 7
    return b"%b%b%b%b" % (_LENGTH.pack(size | _PAD_WORDS[pad]), head, body, _PADS[pad])


def read_record(segment: bytes, offset: int, crc: int) -> Record | None:
    """The record at offset, None where the records end.

    segment: the whole file as preallocated: zeros follow the last record.
    offset:  bytes from its start, a multiple of 8 (every record is padded to that).
    crc:     the sum up to here. A record of kind CRC has no data: its sum is the caller's to compare.

    Raises TornRecord if a sector of it was never written, or the file ends within it: both only happen to the last
    write before a crash, which was not acknowledged. Raises CorruptRecord if it is wrong in any other way. Stricter
    than etcd, which takes some rotted lengths for torn records or for the end of the log.
    """
    if offset == len(segment):
        return None
    if offset + FRAME_BYTES > len(segment):
        raise TornRecord(f"{len(segment) - offset} bytes are left, a record begins with {FRAME_BYTES}")
    (word,) = _LENGTH.unpack_from(segment, offset)
    if word == 0:
        # Nothing was written here, or its sector was lost: either way the rest of that sector is empty too.
        if any(segment[offset : offset - offset % SECTOR_BYTES + SECTOR_BYTES]):
            raise CorruptRecord("zeros for a record's length, but data behind them in the same sector")
        return None
    size, padding = word & _SIZE_MASK, word >> 56
    # 8 bytes never cross a sector, so a length word was written whole or not at all.
    if word & ~_SIZE_MASK != _PAD_WORDS[-size & 7]:
        raise CorruptRecord(f"impossible length word {word:016x} (padding {padding:#x} for {size} bytes)")
    start = offset + FRAME_BYTES
    stop = start + size + (-size & 7)
    try:
        if stop > len(segment):
            raise CorruptRecord(f"record of {size} bytes, but the file ends after {len(segment) - start}")
        kind, stored_crc, data = _decode_body(segment[start : start + size])
        if kind == CRC:
            if data:
                raise CorruptRecord("a checksum record with data")
        else:
            crc = extend_crc(crc, data)
            if stored_crc != crc:
                raise CorruptRecord(f"checksum {stored_crc:08x} is stored, but the data give {crc:08x}")
    except (CorruptRecord, NotRaftpb) as why:
        if _is_torn(segment, offset, size, stop):
            raise TornRecord(str(why)) from None
        raise CorruptRecord(str(why)) from None
    return Record(kind, stored_crc, data, stop)


def _decode_body(body: bytes) -> tuple[int, int, bytes]:
    """Kind, checksum and data, in the one order in which they are ever written."""
    if len(body) < 4 or body[0] != 0x08 or not METADATA <= body[1] <= SNAPSHOT or body[2] != 0x10:
        raise CorruptRecord(f"no record begins with {body[:4].hex()}")
    kind = body[1]
    crc, at = decode_varint(body, 3)
    if at == len(body):
        return kind, crc, b""
    if body[at] != 0x1A:
        raise CorruptRecord(f"field tag {body[at]:#x} where the data should begin")
    size, at = decode_varint(body, at + 1)
    if at + size != len(body):
        raise CorruptRecord(f"data of {size} bytes in a record that has {len(body) - at} for it")
    return kind, crc, body[at:]


def _is_torn(segment: bytes, offset: int, size: int, stop: int) -> bool:
    """Whether a write that never came to its end explains what is wrong with the record at offset.

    Then a sector of it is all zeros, or the file ends early: it was growing. But its length word is there, so what
    lies in the same sector was written with it, and the record's own lengths must agree. Where they do not, the length
    rotted, and the zeros are those behind the last record; etcd would cut off acknowledged records there.
    """
    start = offset + FRAME_BYTES
    sector_end = offset - offset % SECTOR_BYTES + SECTOR_BYTES
    head = segment[start : min(sector_end, start + _HEAD_BYTES_MAX)]
    if len(head) == _HEAD_BYTES_MAX and _size_by_head(head) != size:
        return False
    if stop > len(segment):
        return True
    at = start
    while at < stop:
        sector_end = min(at - at % SECTOR_BYTES + SECTOR_BYTES, stop)
        if not any(segment[at:sector_end]):
            return True
        at = sector_end
    return False


def _size_by_head(head: bytes) -> int | None:
    """The size of a record by what its own first fields say, None if they say nothing."""
    if head[0] != 0x08 or not METADATA <= head[1] <= SNAPSHOT or head[2] != 0x10:
        return None
    try:
        _, at = decode_varint(head, 3)
        if head[at] != 0x1A:
            return at  # without data
        size, at = decode_varint(head, at + 1)
    except (NotRaftpb, IndexError):
        return None
    return at + size


def encode_snapshot_mark(snapshot: Snapshot) -> bytes:
    """walpb.Snapshot of a snapshot's index, term and ConfState; at the start of a new log there is none of the last."""
    head = b"\x08%b\x10%b" % (encode_varint(snapshot.index), encode_varint(snapshot.term))
    if snapshot.conf_state == ConfState():
        return head
    conf_state = encode_conf_state(snapshot.conf_state)
    return b"%b\x1a%b%b" % (head, encode_varint(len(conf_state)), conf_state)


def decode_snapshot_mark(data: bytes) -> Snapshot:
    """Raises NotRaftpb."""
    index = term = 0
    conf_state = ConfState()
    at, end = 0, len(data)
    while at < end:
        tag, at = decode_varint(data, at)
        value, at = decode_varint(data, at)
        if tag == 0x08:
            index = value
        elif tag == 0x10:
            term = value
        elif tag == 0x1A and value <= end - at:
            conf_state = decode_conf_state(data[at : at + value])
            at += value
        else:
            raise NotRaftpb(f"field tag {tag:#x} in a snapshot record")
    return Snapshot(index, term, conf_state)
