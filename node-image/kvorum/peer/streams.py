"""The two codecs of a peer stream: frames to bytes and bytes to messages, each in the order of one stream.

Hot path: an append of 64 entries is written once for all followers and read at less than 2 us an entry.
Sans-IO: knows no connection and no HTTP. `message` carries any message behind its length; `msgapp` (etcd's msgappv2)
carries only appends, and most of them as bare entries, because both ends remember where the last append ended.
A frame that no sender of etcd's protocol writes raises StreamBroken; a real etcd that reads one of ours panics, so
nothing here is written that was not seen in its own traffic (the captures beside the tests).
"""

from collections.abc import Sequence
from enum import StrEnum
from struct import Struct
from typing import Final, Protocol

from kvorum.raft.message import Entry, Message, MessageType
from kvorum.storage.entry_codec import NotRaftpb, decode_entry, decode_message, encode_entry, encode_message

MESSAGE_BYTES_MAX: Final = 512 << 20  # etcd's limit for one message of a stream
ENTRIES_COUNT_MAX: Final = 1 << 24  # of one append; etcd's are cut at 1 MiB, so no count comes near

_UINT64: Final = Struct(">Q")


class StreamKind(StrEnum):
    """By the name in the path that opens it."""

    APPEND = "msgapp"
    MESSAGE = "message"


class StreamBroken(Exception):
    """What arrived is no frame: the rest of the stream cannot be read either."""


class Encoder(Protocol):
    heartbeat: bytes
    """A frame that says only that the link is alive."""

    def encode(self, message: Message) -> bytes: ...


class Decoder(Protocol):
    def feed(self, data: bytes, messages: list[Message]) -> None: ...


# message


class MessageEncoder:
    heartbeat: bytes = b""  # below: it is a frame of this codec itself

    def encode(self, message: Message) -> bytes:
        encoded = encode_message(message)
        return _UINT64.pack(len(encoded)) + encoded


MessageEncoder.heartbeat = MessageEncoder().encode(Message(MessageType.HEARTBEAT))


def is_link_heartbeat(message: Message) -> bool:
    """From nobody to nobody: for the link and not for raft."""
    return message.type is MessageType.HEARTBEAT and message.to == 0 and message.sender == 0


class MessageDecoder:
    def __init__(self) -> None:
        self._incomplete = _Incomplete()

    def feed(self, data: bytes, messages: list[Message]) -> None:
        """Appends what data completes to messages, but no link heartbeats. Raises StreamBroken after what was good."""
        data = self._incomplete.join(data)
        at, end = 0, len(data)
        while at < end:
            size, stop = _size(data, at, end)
            if stop > end:
                self._incomplete.keep(data[at:], stop - at)
                return
            message = _decode_message(data[stop - size : stop])
            if not is_link_heartbeat(message):
                messages.append(message)
            at = stop


# msgapp

_LINK_HEARTBEAT: Final = 0
_ENTRIES: Final = 1
_MESSAGE: Final = 2

_NO_ENTRIES: Final = b"\x01" + bytes(8)


class EntryBlocks:
    """The entries of an append as msgapp carries them, made once for the followers that get the same ones.

    Only the last block is kept: within a tick the followers that are up to date ask for it one after the other.
    """

    def __init__(self) -> None:
        self._first: Entry | None = None
        self._last: Entry | None = None
        self._count = 0
        self._block = b""

    def encode(self, entries: Sequence[Entry]) -> bytes:
        """count, then size and bytes of each. With the same first and last entry all between are the same too."""
        first, last, count = entries[0], entries[-1], len(entries)
        if first is self._first and last is self._last and count == self._count:
            return self._block
        pack = _UINT64.pack
        pieces = [pack(count)]
        for entry in entries:
            encoded = entry.encoded or encode_entry(entry)
            pieces.append(pack(len(encoded)))
            pieces.append(encoded)
        self._first, self._last, self._count = first, last, count
        self._block = b"".join(pieces)
        return self._block


class AppendEncoder:
    """One msgapp stream to one follower. blocks: shared by all the streams of this member."""

    heartbeat: bytes = b"\x00"

    def __init__(self, blocks: EntryBlocks) -> None:
        self._blocks = blocks
        self._term = 0
        self._index = 0

    def encode(self, message: Message) -> bytes:
        entries = message.entries
        if message.index == self._index and message.log_term == self._term == message.term:
            if not entries:
                return _NO_ENTRIES + _UINT64.pack(message.commit)
            self._index += len(entries)
            return b"\x01%b%b" % (self._blocks.encode(entries), _UINT64.pack(message.commit))
        encoded = encode_message(message)
        self._term = message.term
        self._index = entries[-1].index if entries else message.index
        return b"\x02%b%b" % (_UINT64.pack(len(encoded)), encoded)


class AppendDecoder:
    """One msgapp stream. sender and to are not in bare entries: they are the ends of the stream, remote and local."""

    def __init__(self, *, sender: int, to: int) -> None:
        self._incomplete = _Incomplete()
        self._sender = sender
        self._to = to
        self._term = 0
        self._index = 0
        self._entries: list[Entry] | None = None  # of the append that is being read
        self._left = 0  # entries still to come

    def feed(self, data: bytes, messages: list[Message]) -> None:
        """Appends to messages what data completes. Raises StreamBroken, after what came before."""
        data = self._incomplete.join(data)
        at, end = 0, len(data)
        while at < end:
            if self._entries is not None:
                at, needed = self._read_entries(data, at, end, messages)
            elif data[at] == _LINK_HEARTBEAT:
                at, needed = at + 1, 0
            elif data[at] == _ENTRIES:
                at, needed = self._begin_entries(data, at, end)
            elif data[at] == _MESSAGE:
                at, needed = self._read_message(data, at, end, messages)
            else:
                raise StreamBroken(f"msgapp frame of type {data[at]}")
            if needed:
                self._incomplete.keep(data[at:], needed)
                return

    # Each of these returns how far data is used, and 0 or how many bytes from there it needs to go on.

    def _begin_entries(self, data: bytes, at: int, end: int) -> tuple[int, int]:
        if end - at < 9:
            return at, 9
        count = _UINT64.unpack_from(data, at + 1)[0]
        if count > ENTRIES_COUNT_MAX:
            raise StreamBroken(f"an append of {count} entries")
        if self._term == 0:
            raise StreamBroken("bare entries before the message that they follow")
        self._entries, self._left = [], count
        # The commit index follows in any case, so there is more to read before this append is whole.
        return (at + 9, 0) if end > at + 9 else (at + 9, 8)

    def _read_entries(self, data: bytes, at: int, end: int, messages: list[Message]) -> tuple[int, int]:
        entries, left = self._entries, self._left
        assert entries is not None
        unpack_from, append = _UINT64.unpack_from, entries.append
        try:
            while left:
                start = at + 8
                if start > end:
                    self._left = left
                    return at, 8
                stop = start + unpack_from(data, at)[0]
                if stop > end:
                    self._left = left
                    _check_size(stop - start)
                    return at, stop - at
                append(decode_entry(data[start:stop]))
                at = stop
                left -= 1
        except NotRaftpb as error:
            raise StreamBroken(f"an entry that is none: {error}") from error
        self._left = 0
        if end - at < 8:
            return at, 8
        message = Message(
            MessageType.APPEND,
            self._to,
            self._sender,
            self._term,
            self._term,
            self._index,
            entries,
            unpack_from(data, at)[0],
        )
        check_entries(message)
        messages.append(message)
        self._index += len(entries)
        self._entries = None
        return at + 8, 0

    def _read_message(self, data: bytes, at: int, end: int, messages: list[Message]) -> tuple[int, int]:
        size, stop = _size(data, at + 1, end)
        if stop > end:
            return at, stop - at
        message = _decode_message(data[stop - size : stop])
        if message.type is not MessageType.APPEND:
            raise StreamBroken(f"{message.type.name} on the stream of appends")
        self._term = message.term
        self._index = message.entries[-1].index if message.entries else message.index
        messages.append(message)
        return stop, 0


def check_entries(message: Message) -> None:
    """Raises StreamBroken if an append's entries do not follow on its index: raft relies on that."""
    entries = message.entries
    if entries and (entries[0].index != message.index + 1 or entries[-1].index != message.index + len(entries)):
        raise StreamBroken(
            f"{len(entries)} entries {entries[0].index}-{entries[-1].index} in an append after {message.index}"
        )


# Common to both


class _Incomplete:
    """The beginning of a frame, joined only once as much is there as the frame needs: long ones come in many reads."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._have = 0
        self._need = 0

    def keep(self, rest: bytes, need: int) -> None:
        self._parts = [rest] if rest else []
        self._have = len(rest)
        self._need = need

    def join(self, data: bytes) -> bytes:
        """What was kept and data; empty while that is still too little."""
        if not self._parts and len(data) >= self._need:
            self._need = 0
            return data
        self._parts.append(data)
        self._have += len(data)
        if self._have < self._need:
            return b""
        data = b"".join(self._parts)
        self._parts, self._have, self._need = [], 0, 0
        return data


def _size(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The size at `at`, and where what it measures ends; with fewer than 8 bytes there, 0 and the end of the size."""
    if end - at < 8:
        return 0, at + 8
    size: int = _UINT64.unpack_from(data, at)[0]
    _check_size(size)
    return size, at + 8 + size


def _check_size(size: int) -> None:
    if size > MESSAGE_BYTES_MAX:
        raise StreamBroken(f"a frame of {size} bytes")


def _decode_message(data: bytes) -> Message:
    try:
        message = decode_message(data)
    except NotRaftpb as error:
        raise StreamBroken(f"a message that is none: {error}") from error
    if message.type is MessageType.APPEND:
        check_entries(message)
    return message
