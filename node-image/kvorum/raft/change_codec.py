"""The raftpb bytes of a configuration change: of an entry's data, the only one that the core itself must understand.

As etcd's raft writes them (proto2: zero fields too, the context only where there is one), and read in any order,
unknown fields skipped, as its own decoder does. All of the node reads and writes them here.
"""

from collections.abc import Iterator, Set
from enum import IntEnum
from typing import TypeVar

from kvorum.raft.message import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    Entry,
    EntryType,
)

VARINT, BYTES = 0, 2  # wire types
FIXED_BYTES = {1: 8, 5: 4}  # of the others, which no field of a change has
VARINT_BYTES_MAX = 10


Kind = TypeVar("Kind", bound=IntEnum)


class NotAChange(ValueError):
    """The bytes are no configuration change, or one of a kind that is not known."""


def encode(change: ConfChange | ConfChangeV2) -> bytes:
    """The data of the entry that proposes it: of type CONF_CHANGE, or CONF_CHANGE_V2."""
    if isinstance(change, ConfChange):
        head = _number(1, change.id) + _number(2, change.type) + _number(3, change.node_id)
        return head + _content(4, change.context)
    singles = [_number(1, single.type) + _number(2, single.node_id) for single in change.changes]
    return (
        _number(1, change.transition)
        + b"".join(_content(2, single) for single in singles)
        + _content(3, change.context)
    )


def decode(entry: Entry) -> ConfChange | ConfChangeV2:
    """The change that an entry proposes, by its type. Raises NotAChange."""
    return _decode_v2(entry.data) if entry.type == EntryType.CONF_CHANGE_V2 else decode_single(entry.data)


def decode_single(data: bytes) -> ConfChange:
    """The change in the data of an entry of type CONF_CHANGE. Raises NotAChange."""
    numbers, contents = _gathered(data, {1, 2, 3}, {4})
    kind = _known(ConfChangeType, numbers.get(2, 0))
    return ConfChange(kind, numbers.get(3, 0), numbers.get(1, 0), contents.get(4, [b""])[-1])


def _decode_v2(data: bytes) -> ConfChangeV2:
    numbers, contents = _gathered(data, {1}, {2, 3})
    changes: list[ConfChangeSingle] = []
    for single in contents.get(2, []):
        fields, _ = _gathered(single, {1, 2}, set())
        changes.append(ConfChangeSingle(_known(ConfChangeType, fields.get(1, 0)), fields.get(2, 0)))
    transition = _known(ConfChangeTransition, numbers.get(1, 0))
    return ConfChangeV2(transition, tuple(changes), contents.get(3, [b""])[-1])


def _known(kinds: type[Kind], value: int) -> Kind:
    try:
        return kinds(value)
    except ValueError:
        raise NotAChange(f"configuration change with a {kinds.__name__} of {value}") from None


def _gathered(data: bytes, numbers: Set[int], contents: Set[int]) -> tuple[dict[int, int], dict[int, list[bytes]]]:
    """By field: the last number, and all contents. Of fields that are not named here nothing is kept."""
    found: tuple[dict[int, int], dict[int, list[bytes]]] = ({}, {})
    for field, wire_type, value in _fields(data):
        if wire_type != (VARINT if field in numbers else BYTES) and field in numbers | contents:
            raise NotAChange(f"field {field} has wire type {wire_type}")
        if isinstance(value, int):
            found[0][field] = value
        else:
            found[1].setdefault(field, []).append(value)
    return found


def _fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """(field, wire type, its number or its bytes)."""
    offset = 0
    while offset < len(data):
        tag, offset = _read_varint(data, offset)
        field, wire_type = tag >> 3, tag & 7
        if field == 0:
            raise NotAChange("field number 0")
        if wire_type == VARINT:
            value, offset = _read_varint(data, offset)
            yield field, wire_type, value
            continue
        if wire_type == BYTES:
            size, offset = _read_varint(data, offset)
        elif wire_type in FIXED_BYTES:
            size = FIXED_BYTES[wire_type]
        else:
            raise NotAChange(f"wire type {wire_type}")
        if size > len(data) - offset:
            raise NotAChange(f"{size} bytes promised, {len(data) - offset} left")
        yield field, wire_type, data[offset : offset + size]
        offset += size


def _read_varint(data: bytes, offset: int) -> tuple[int, int]:
    value = 0
    for position in range(VARINT_BYTES_MAX):
        if offset == len(data):
            raise NotAChange("the bytes end within a number")
        byte = data[offset]
        offset += 1
        value |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            return value & (1 << 64) - 1, offset
    raise NotAChange("a number of more than 64 bits")


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | VARINT) + _varint(value)


def _content(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | BYTES) + _varint(len(value)) + value if value or field == 2 else b""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
