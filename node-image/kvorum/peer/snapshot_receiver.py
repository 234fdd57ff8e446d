"""The body of POST /raft/snapshot as it comes in: a MsgSnap behind its length, then the database.

Reads the message, refuses what etcd refuses in its words, and hands the database over piece by piece. Nothing of it is
held here. Knows no file and no table: that is the server's side (SnapshotTaker).
"""

from collections.abc import Callable
from typing import Final, Protocol

from kvorum.peer.streams import MESSAGE_BYTES_MAX
from kvorum.raft.message import Message, MessageType
from kvorum.storage.entry_codec import NotRaftpb, decode_message

BODY_BYTES_MAX: Final = 1 << 40  # etcd's limit
_LENGTH_BYTES: Final = 8


class SnapshotRefused(Exception):
    """status, str(): for the sender."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Taking(Protocol):
    """A database on its way into this member. on_drained is called when is_full ends."""

    on_drained: Callable[[], None]

    @property
    def is_full(self) -> bool: ...

    def write(self, data: bytes) -> None: ...

    async def finish(self) -> str | None:
        """All of it is here. None: raft has it; else why it cannot be used."""
        ...

    def abandon(self) -> None: ...


class SnapshotTaker(Protocol):
    def receive_snapshot(self, message: Message) -> Taking | str:
        """Of a MsgSnap whose database follows; a text if it is not wanted."""
        ...


class SnapshotBody:
    """on_room: called when there is room again after is_full."""

    def __init__(self, taker: SnapshotTaker) -> None:
        self._taker = taker
        self._head = bytearray()
        self._taking: Taking | None = None
        self.on_room: Callable[[], None] = lambda: None

    @property
    def is_full(self) -> bool:
        return self._taking is not None and self._taking.is_full

    def feed(self, data: bytes) -> None:
        """Raises SnapshotRefused, and then nothing more may come."""
        if self._taking is not None:
            self._taking.write(data)
            return
        self._head += data
        if len(self._head) < _LENGTH_BYTES:
            return
        size = int.from_bytes(self._head[:_LENGTH_BYTES], "big")
        if size > MESSAGE_BYTES_MAX:
            raise SnapshotRefused(400, "failed to decode raft message (error limit exceeded)")
        stop = _LENGTH_BYTES + size
        if len(self._head) < stop:
            return
        message = _decode(bytes(self._head[_LENGTH_BYTES:stop]))
        taking = self._taker.receive_snapshot(message)
        if isinstance(taking, str):
            raise SnapshotRefused(500, f"failed to process raft message ({taking})")
        self._taking = taking
        taking.on_drained = self.on_room
        rest = bytes(self._head[stop:])
        self._head.clear()
        if rest:
            taking.write(rest)

    async def finish(self) -> None:
        """The body is complete. Raises SnapshotRefused."""
        if self._taking is None:
            raise SnapshotRefused(400, f"failed to decode raft message ({'unexpected EOF' if self._head else 'EOF'})")
        taking = self._taking
        refused = await taking.finish()
        if refused is not None:
            raise SnapshotRefused(500, f"failed to process raft message ({refused})")

    def lost(self) -> None:
        """The sender is gone. After a refusal, or after finish(), this changes nothing."""
        if self._taking is not None:
            self._taking.abandon()


def _decode(data: bytes) -> Message:
    try:
        message = decode_message(data)
    except NotRaftpb as error:
        raise SnapshotRefused(400, f"failed to decode raft message ({error})") from None
    if message.type is not MessageType.SNAPSHOT:
        raise SnapshotRefused(400, "wrong raft message type")
    if message.snapshot is None:
        raise SnapshotRefused(400, "failed to decode raft message (no snapshot in it)")
    return message
