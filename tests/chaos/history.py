"""What clients asked and were told, and what watchers saw, with the times: all that a judge may know of a cluster.

Times are seconds of one monotonic clock. Values written are unique, so that a write whose answer was lost is found
again by its value. Knows no server and judges nothing: that is replay.py's.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from kvorum.client import Delete, DeleteResult, Event, Get, Put, PutResult, RangeResult, Txn, TxnResult


class Outcome(Enum):
    OK = "ok"
    REFUSED = "refused"  # and nothing was changed
    UNKNOWN = "unknown"  # applied or not, now or later


@dataclass(frozen=True, slots=True)
class Grant:
    lease: int
    ttl_s: int


@dataclass(frozen=True, slots=True)
class Renew:
    lease: int


@dataclass(frozen=True, slots=True)
class Revoke:
    lease: int


Request = Put | Get | Delete | Txn | Grant | Renew | Revoke
Answer = PutResult | RangeResult | DeleteResult | TxnResult


@dataclass(slots=True)
class Call:
    """One call of a client. answer: of the four kinds about keys, where the outcome is OK.

    serializable: a read that one member answers from what it has; it may be old, and must be whole.
    ttl_s:        of a lease that was granted or renewed, as the server told it.
    """

    request: Request
    invoked_s: float
    returned_s: float = float("inf")
    outcome: Outcome = Outcome.UNKNOWN
    answer: Answer | None = None
    serializable: bool = False
    ttl_s: int = 0
    text: str = ""

    def __str__(self) -> str:
        return f"{self.request} at {self.invoked_s:.3f}-{self.returned_s:.3f} {self.outcome.value} {self.text}"


@dataclass(frozen=True, slots=True)
class Seen:
    """A batch as it came. progress: of a report without events, all up to which was seen; else 0."""

    at_s: float
    events: tuple[Event, ...] = ()
    progress: int = 0


@dataclass(slots=True)
class Watch:
    """From start_revision on, which is above 0. until: the last revision it must have seen, once told."""

    key: bytes
    range_end: bytes
    start_revision: int
    batches: list[Seen] = field(default_factory=list)
    until: int = 0
    trouble: str = ""

    @property
    def events(self) -> Iterator[tuple[float, Event]]:
        for batch in self.batches:
            for event in batch.events:
                yield batch.at_s, event


@dataclass(slots=True)
class History:
    """log: a watch of every key from the first revision on, which is the order everything else is judged by."""

    log: Watch
    calls: list[Call] = field(default_factory=list)
    watches: list[Watch] = field(default_factory=list)


def is_in(key: bytes, first: bytes, range_end: bytes) -> bool:
    if not range_end:
        return key == first
    return key >= first and (range_end == b"\0" or key < range_end)
