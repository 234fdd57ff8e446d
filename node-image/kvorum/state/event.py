"""What watchers are told: one event for each row, in order of revision.

Knows no watcher. An event's bytes (mvccpb.Event without prev_kv) are made when somebody first wants them, and once.
"""

from kvorum.state.row import field, varint


class Event:
    """One change. row: the KeyValue's bytes as stored; a tombstone's holds nothing but the key."""

    __slots__ = ("_encoded", "is_delete", "key", "revision", "row")

    def __init__(self, revision: int, key: bytes, row: bytes, is_delete: bool) -> None:
        self.revision = revision
        self.key = key
        self.row = row
        self.is_delete = is_delete
        self._encoded: bytes | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Event):
            return NotImplemented
        return (self.revision, self.key, self.row, self.is_delete) == (
            other.revision,
            other.key,
            other.row,
            other.is_delete,
        )

    def __hash__(self) -> int:
        return hash((self.revision, self.key))

    def __repr__(self) -> str:
        return f"Event({self.revision} {'DELETE' if self.is_delete else 'PUT'} {self.key!r})"

    @property
    def encoded(self) -> bytes:
        """The fields of mvccpb.Event; prev_kv goes behind them (with_previous)."""
        if self._encoded is None:
            self._encoded = (
                b"\x08\x01" + field(b"\x12", self.row + b"\x18" + varint(self.revision))
                if self.is_delete
                else field(b"\x12", self.row)
            )
        return self._encoded


def with_previous(event: Event, previous: bytes | None) -> bytes:
    """An event's bytes with prev_kv. previous: the KeyValue before it, None where it is absent or compacted."""
    return event.encoded if previous is None else event.encoded + field(b"\x1a", previous)
