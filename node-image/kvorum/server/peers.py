"""What a member asks of its peers' side. peer.transport and peer.discovery provide it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kvorum.raft.message import Message
from kvorum.server.histogram import Histogram


class PeerRefused(Exception):
    """A peer answered, and said no. text: etcd's, for the client; not_found: it does not know what was named."""

    def __init__(self, text: str, *, not_found: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.not_found = not_found


@dataclass(frozen=True, slots=True)
class LeaseLife:
    """ttl_s -1: there is no such lease."""

    ttl_s: int
    granted_s: int
    keys: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class PeerHash:
    """A member's hash of its keys at the revision that was asked for. revision: its current one."""

    hash: int
    revision: int
    compact_revision: int


@dataclass(frozen=True, slots=True)
class PeerTraffic:
    """With one member, since it was added. sent_failures: times that messages to it were lost; received_failures: times
    that a stream from it broke."""

    sent_bytes: int
    received_bytes: int
    sent_failures: int
    received_failures: int
    round_trips: Histogram


class Peers(Protocol):
    """The other members, by id. URLs are tried in turn; OSError or TimeoutError when none answers."""

    def send(self, messages: Sequence[Message]) -> None: ...

    def add_peer(self, member_id: int, urls: Sequence[str]) -> None:
        """Also for a known one: its URLs may have changed."""
        ...

    def remove_peer(self, member_id: int) -> None: ...

    def active_since(self, member_id: int) -> float | None:
        """Since when (the loop's clock) it has been reachable without a break; None if it is not."""
        ...

    async def send_snapshot(self, message: Message, database: Path) -> None:
        """Posts a MsgSnap with the file behind it to message.to. Raises OSError, PeerRefused."""
        ...

    def is_foreign(self, member_id: int) -> bool:
        """Whether who answers at its URLs says that it belongs to another cluster."""
        ...

    async def version(self, urls: Sequence[str]) -> str | None:
        """The server version that the member at these URLs claims."""
        ...

    async def renew_lease(self, urls: Sequence[str], lease_id: int) -> int:
        """The renewed TTL in seconds. Raises PeerRefused."""
        ...

    async def lease_life(self, urls: Sequence[str], lease_id: int, *, keys: bool) -> LeaseLife:
        """What the leader knows of a lease. Raises PeerRefused."""
        ...

    async def promote(self, urls: Sequence[str], member_id: int) -> None:
        """Asks the leader to promote a learner. Raises PeerRefused."""
        ...

    async def hash_kv(self, urls: Sequence[str], revision: int) -> PeerHash:
        """Raises PeerRefused, for a revision that it does not have yet or no longer."""
        ...
