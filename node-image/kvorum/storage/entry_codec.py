"""raftpb by hand: entries, messages, hard states, configurations and snapshots, byte for byte as etcd 3.5 writes them.

Hot path: each entry and each message passes here; budget 1 us for an entry with its data, 3 us for a message.
Knows only bytes: no file, no frame, no checksum. Writing is strict (zero fields are written, in ascending order, and
a message always carries its empty snapshot); reading takes what etcd's own decoder takes (any order, absent fields,
unknown fields such as 13 and 14 of newer senders). Format: proto2 as gogoproto writes it.
"""

from collections.abc import Iterator

from kvorum.raft.message import ConfState, Entry, HardState, Message, MessageType, Snapshot

UINT64_MAX = (1 << 64) - 1


class NotRaftpb(ValueError):
    """The bytes are not the message they should be: whoever sent them speaks something else, or they rotted."""


# --- numbers ---------------------------------------------------------------------------------------------------------

_ONE = tuple(bytes((n,)) for n in range(128))


def encode_varint(n: int) -> bytes:
    """n as a protobuf varint, 1 to 10 bytes. Raises ValueError outside of uint64."""
    if 0 <= n < 0x80:
        return _ONE[n]
    if 0 <= n < 0x4000:
        return bytes((n & 127 | 128, n >> 7))
    if 0 <= n < 0x200000:
        return bytes((n & 127 | 128, n >> 7 & 127 | 128, n >> 14))
    if not 0 <= n <= UINT64_MAX:
        raise ValueError(f"{n} is not a uint64")
    out = bytearray()
    while n >= 0x80:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def decode_varint(data: bytes, at: int) -> tuple[int, int]:
    """The varint at `at`, cut to 64 bits as Go does, and the offset behind it. Raises NotRaftpb if it does not end."""
    result = shift = 0
    try:
        while True:
            byte = data[at]
            at += 1
            result |= (byte & 127) << shift
            if byte < 128:
                return result & UINT64_MAX, at
            shift += 7
            if shift > 63:
                raise NotRaftpb(f"number at byte {at - 10} is longer than 10 bytes")
    except IndexError:
        raise NotRaftpb(f"cut off within a number at byte {at}") from None


def _bytes_field(tag: bytes, data: bytes) -> bytes:
    return tag + encode_varint(len(data)) + data


def _fields(data: bytes, numbers: frozenset[int], varints: frozenset[int]) -> Iterator[tuple[int, int, bytes]]:
    """The known fields in the order of their coming: (number, value of a varint, bytes of a length-delimited field).

    numbers: the known ones; varints: those of them that are numbers, the others are bytes. A known field in another
    wire type is an error, as in etcd. Unknown fields are skipped.
    """
    at, end = 0, len(data)
    while at < end:
        tag, at = decode_varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        if number == 0:
            raise NotRaftpb(f"field number 0 before byte {at}")
        known = number in numbers
        if known and wire_type != (0 if number in varints else 2):
            raise NotRaftpb(f"field {number} has wire type {wire_type} before byte {at}")
        if wire_type == 0:
            value, at = decode_varint(data, at)
            if known:
                yield number, value, b""
        elif wire_type == 2:
            length, at = decode_varint(data, at)
            if length > end - at:
                raise NotRaftpb(f"field {number} wants {length} bytes at byte {at}, {end - at} are left")
            if known:
                yield number, 0, data[at : at + length]
            at += length
        elif wire_type in (1, 5):
            at += 8 if wire_type == 1 else 4
            if at > end:
                raise NotRaftpb(f"cut off within field {number}")
        else:
            raise NotRaftpb(f"field {number} has wire type {wire_type} before byte {at}")


# --- entries ---------------------------------------------------------------------------------------------------------


def encode_entry(entry: Entry) -> bytes:
    """The entry's raftpb bytes, made once and kept in entry.encoded, which the WAL and all peers share.

    Whoever gives an entry another term or index makes a new Entry: kept bytes are never compared with the fields again.
    """
    encoded = entry.encoded
    if encoded is None:
        data = entry.data
        head = b"\x08%b\x10%b\x18%b" % (_ONE[entry.type], encode_varint(entry.term), encode_varint(entry.index))
        # No data field for no data: etcd's own empty entries have none.
        encoded = b'%b"%b%b' % (head, encode_varint(len(data)), data) if data else head
        entry.encoded = encoded
    return encoded


def decode_entry(data: bytes) -> Entry:
    """The entry, with `encoded` set to `data`. Raises NotRaftpb."""
    # Straight through for what every etcd and we write: 08 type, 10 term, 18 index, 22 length data.
    try:
        entry_type, term = data[1], data[3]
        if data[0] == 0x08 and entry_type < 3 and data[2] == 0x10:
            at = 4
            if term >= 128:
                term, at = decode_varint(data, 3)
            if data[at] == 0x18:
                index = data[at + 1]
                at += 2
                if index >= 128:
                    index, at = decode_varint(data, at - 1)
                if at == len(data):
                    return Entry(term, index, b"", entry_type, data)
                if data[at] == 0x22:
                    length = data[at + 1]
                    at += 2
                    if length >= 128:
                        length, at = decode_varint(data, at - 1)
                    if at + length == len(data):
                        return Entry(term, index, data[at:], entry_type, data)
    except IndexError:
        pass  # shorter than the usual form: the careful way below says whether it is good
    return _decode_entry_slowly(data)


_ENTRY, _ENTRY_NUMBERS = frozenset((1, 2, 3, 4)), frozenset((1, 2, 3))


def _decode_entry_slowly(data: bytes) -> Entry:
    entry = Entry(0, 0, b"", 0, data)
    for number, value, content in _fields(data, _ENTRY, _ENTRY_NUMBERS):
        if number == 1:
            if value > 2:
                raise NotRaftpb(f"entry type {value}")
            entry.type = value
        elif number == 2:
            entry.term = value
        elif number == 3:
            entry.index = value
        else:
            entry.data = content
    return entry


# --- configurations --------------------------------------------------------------------------------------------------


def encode_conf_state(state: ConfState) -> bytes:
    parts = [b"\x08" + encode_varint(voter) for voter in state.voters]
    parts += [b"\x10" + encode_varint(learner) for learner in state.learners]
    parts += [b"\x18" + encode_varint(voter) for voter in state.voters_outgoing]
    parts += [b" " + encode_varint(learner) for learner in state.learners_next]
    parts.append(b"\x28\x01" if state.auto_leave else b"\x28\x00")
    return b"".join(parts)


def decode_conf_state(data: bytes) -> ConfState:
    """Takes repeated ids packed and unpacked, as Go does. Raises NotRaftpb."""
    lists: dict[int, list[int]] = {1: [], 2: [], 3: [], 4: []}
    auto_leave = False
    at, end = 0, len(data)
    while at < end:
        tag, at = decode_varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            value, at = decode_varint(data, at)
            if number in lists:
                lists[number].append(value)
            elif number == 5:
                auto_leave = value != 0
        elif wire_type == 2:
            length, at = decode_varint(data, at)
            stop = at + length
            if stop > end:
                raise NotRaftpb(f"field {number} wants {length} bytes at byte {at}, {end - at} are left")
            while number in lists and at < stop:
                value, at = decode_varint(data, at)
                lists[number].append(value)
            at = stop
        else:
            raise NotRaftpb(f"field {number} of a ConfState has wire type {wire_type}")
    return ConfState(tuple(lists[1]), tuple(lists[2]), tuple(lists[3]), tuple(lists[4]), auto_leave)


# --- who a log belongs to, its hard state, snapshots -----------------------------------------------------------------


def encode_metadata(node_id: int, cluster_id: int) -> bytes:
    """etcdserverpb.Metadata, the first thing in a log: whose it is."""
    return b"\x08%b\x10%b" % (encode_varint(node_id), encode_varint(cluster_id))


_METADATA = frozenset((1, 2))


def decode_metadata(data: bytes) -> tuple[int, int]:
    """(node_id, cluster_id). Raises NotRaftpb."""
    values = [0, 0, 0]
    for number, value, _ in _fields(data, _METADATA, _METADATA):
        values[number] = value
    return values[1], values[2]


def encode_hard_state(state: HardState) -> bytes:
    return b"\x08%b\x10%b\x18%b" % (encode_varint(state.term), encode_varint(state.vote), encode_varint(state.commit))


_HARD_STATE = frozenset((1, 2, 3))


def decode_hard_state(data: bytes) -> HardState:
    """Raises NotRaftpb."""
    values = [0, 0, 0, 0]
    for number, value, _ in _fields(data, _HARD_STATE, _HARD_STATE):
        values[number] = value
    return HardState(values[1], values[2], values[3])


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """raftpb.Snapshot: the data, then ConfState, index and term."""
    metadata = b"%b\x10%b\x18%b" % (
        _bytes_field(b"\n", encode_conf_state(snapshot.conf_state)),
        encode_varint(snapshot.index),
        encode_varint(snapshot.term),
    )
    tail = _bytes_field(b"\x12", metadata)
    return _bytes_field(b"\n", snapshot.data) + tail if snapshot.data else tail


_SNAPSHOT, _SNAPSHOT_METADATA, _SNAPSHOT_METADATA_NUMBERS = frozenset((1, 2)), frozenset((1, 2, 3)), frozenset((2, 3))


def decode_snapshot(data: bytes) -> Snapshot:
    """Raises NotRaftpb."""
    content = metadata = b""
    for number, _, value in _fields(data, _SNAPSHOT, frozenset()):
        if number == 1:
            content = value
        else:
            metadata = value
    index = term = 0
    conf_state = ConfState()
    for number, integer, value in _fields(metadata, _SNAPSHOT_METADATA, _SNAPSHOT_METADATA_NUMBERS):
        if number == 1:
            conf_state = decode_conf_state(value)
        elif number == 2:
            index = integer
        else:
            term = integer
    return Snapshot(index, term, conf_state, content)


# --- messages --------------------------------------------------------------------------------------------------------

_NO_SNAPSHOT = bytes.fromhex("4a0a 1208 0a022800 1000 1800")  # 3.5 writes an empty one in each message
_EMPTY_SNAPSHOT = _NO_SNAPSHOT[2:]


def encode_message(message: Message) -> bytes:
    """raftpb.Message as 3.5 writes it."""
    entries = message.entries
    return b"\x08%b\x10%b\x18%b\x20%b\x28%b\x30%b%b\x40%b%b%b\x58%b%b" % (
        _ONE[message.type],
        encode_varint(message.to),
        encode_varint(message.sender),
        encode_varint(message.term),
        encode_varint(message.log_term),
        encode_varint(message.index),
        b"".join([_bytes_field(b":", encode_entry(entry)) for entry in entries]) if entries else b"",
        encode_varint(message.commit),
        _NO_SNAPSHOT if message.snapshot is None else _bytes_field(b"J", encode_snapshot(message.snapshot)),
        b"\x50\x01" if message.reject else b"\x50\x00",
        encode_varint(message.reject_hint),
        _bytes_field(b"b", message.context) if message.context else b"",
    )


_MESSAGE_TYPES = tuple(MessageType)[: MessageType.PRE_VOTE_REPLY + 1]  # later ones never leave a process
_MESSAGE = frozenset(range(1, 13))  # 13 vote and 14 responses are a newer raft's own business within a process
_MESSAGE_NUMBERS = _MESSAGE - {7, 9, 12}
_MESSAGE_TAGS = frozenset(n << 3 for n in _MESSAGE_NUMBERS) | {0x3A, 0x4A, 0x62}


def decode_message(data: bytes) -> Message:
    """Raises NotRaftpb, also for a message type that 3.5 does not send. An empty snapshot is none."""
    numbers = [0] * 12
    entries: list[Entry] = []
    snapshot: Snapshot | None = None
    context = b""
    # One-byte tags of known fields are read in line (5.6 us a reply by _fields, 3.4 so); the rest of a message that
    # has anything else goes the careful way.
    at, end = 0, len(data)
    while at < end:
        tag = data[at]
        if tag not in _MESSAGE_TAGS or at + 1 == end:
            break
        value = data[at + 1]
        if value < 128:
            start = at + 2
        else:
            value, start = decode_varint(data, at + 1)
        if tag & 7 == 0:
            numbers[tag >> 3] = value
            at = start
            continue
        if value > end - start:
            break
        at = start + value
        if tag == 0x3A:
            entries.append(decode_entry(data[start:at]))
        elif tag == 0x4A:
            snapshot = _decode_message_snapshot(data[start:at])
        else:
            context = data[start:at]
    if at < end:
        for number, value, content in _fields(data[at:], _MESSAGE, _MESSAGE_NUMBERS):
            if number == 7:
                entries.append(decode_entry(content))
            elif number == 9:
                snapshot = _decode_message_snapshot(content)
            elif number == 12:
                context = content
            else:
                numbers[number] = value
    if numbers[1] >= len(_MESSAGE_TYPES):
        raise NotRaftpb(f"message of type {numbers[1]}")
    return Message(
        _MESSAGE_TYPES[numbers[1]],
        numbers[2],
        numbers[3],
        numbers[4],
        numbers[5],
        numbers[6],
        entries,
        numbers[8],
        snapshot,
        numbers[10] != 0,
        numbers[11],
        context,
    )


def _decode_message_snapshot(data: bytes) -> Snapshot | None:
    if data == _EMPTY_SNAPSHOT:
        return None
    snapshot = decode_snapshot(data)
    return snapshot if snapshot.index or snapshot.data else None
