"""The raftpb bytes of a configuration change: of an entry's data, the only one that the core itself must understand.

As etcd's raft writes them (proto2: zero fields too, the context only where there is one), and read in any order.
"""

from collections.abc import Iterator

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
VARINT_BYTES_MAX = 10


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
    try:
        return _decode_v2(entry.data) if entry.type == EntryType.CONF_CHANGE_V2 else _decode_v1(entry.data)
    except ValueError as error:  # a number of no enum, too
        raise NotAChange(str(error)) from error


def _decode_v1(data: bytes) -> ConfChange:
    numbers, contents = _gathered(data)
    return ConfChange(
        ConfChangeType(numbers.get(2, 0)), numbers.get(3, 0), numbers.get(1, 0), contents.get(4, [b""])[-1]
    )


def _decode_v2(data: bytes) -> ConfChangeV2:
    numbers, contents = _gathered(data)
    changes: list[ConfChangeSingle] = []
    for single in contents.get(2, []):
        fields = _gathered(single)[0]
        changes.append(ConfChangeSingle(ConfChangeType(fields.get(1, 0)), fields.get(2, 0)))
    return ConfChangeV2(ConfChangeTransition(numbers.get(1, 0)), tuple(changes), contents.get(3, [b""])[-1])


def _gathered(data: bytes) -> tuple[dict[int, int], dict[int, list[bytes]]]:
    """By field: the last number, and all contents."""
    numbers: dict[int, int] = {}
    contents: dict[int, list[bytes]] = {}
    for field, value in _fields(data):
        if isinstance(value, int):
            numbers[field] = value
        else:
            contents.setdefault(field, []).append(value)
    return numbers, contents


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    offset = 0
    while offset < len(data):
        tag, offset = _read_varint(data, offset)
        value, offset = _read_varint(data, offset)
        if tag & 7 == VARINT:
            yield tag >> 3, value
        elif tag & 7 == BYTES:
            if offset + value > len(data):
                raise NotAChange(f"{value} bytes promised, {len(data) - offset} left")
            yield tag >> 3, data[offset : offset + value]
            offset += value
        else:
            raise NotAChange(f"wire type {tag & 7}")


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
