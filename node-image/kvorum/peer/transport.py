"""Raft's messages to and from all other members.

Hot path: one send for all that a turn of the loop produced, one write for each stream; `make bench`.
Decides only where a message goes (etcd's rafthttp, its routing and its drops); members come and go as the log says.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from kvorum.net.tls_connection import Policy
from kvorum.peer.identity import Identity
from kvorum.peer.outbound import Carrier, Outbound
from kvorum.peer.peer import Peer
from kvorum.peer.pipeline import Pipeline
from kvorum.peer.streams import StreamKind
from kvorum.peer.urls import Urls
from kvorum.peer.wiring import TIMINGS, Activity, Timings, Wiring
from kvorum.raft.message import NONE, Message, MessageType
from kvorum.server.peers import PeerTraffic
from kvorum.state.membership import hex_id

STRANGERS_COUNT_MAX: Final = 16

# Raft's own business within one member: from a peer they mean nothing, and etcd drops them too.
_LOCAL: Final = frozenset(
    {
        MessageType.HUP,
        MessageType.BEAT,
        MessageType.UNREACHABLE,
        MessageType.SNAPSHOT_STATUS,
        MessageType.CHECK_QUORUM,
    }
)
_NOT_RECEIVED: Final = _LOCAL | {MessageType.SNAPSHOT}  # a snapshot comes with its database, at /raft/snapshot


class Transport:
    """Made within the running loop, and ended by close().

    election_timeout_s: part of how long a dial may take.
    on_messages:        for raft, in the order of their stream, from members that may since have been removed.
    on_unreachable:     messages to this member were lost: raft should probe it. Never called from within send.
    on_removed:         another member says that this one is no longer in the cluster; may be called more than once.
    on_ended:           this member's process has ended, while all members that we know to run are of our own kind. May
                        be called more than once.
    on_snapshot:        raft wants a member to have a snapshot: one is to be made, and sent by send_snapshot.
    tls:                how members with https URLs are dialed.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        election_timeout_s: float,
        on_messages: Callable[[list[Message]], None],
        on_unreachable: Callable[[int], None],
        on_removed: Callable[[], None],
        on_ended: Callable[[int], None],
        on_snapshot: Callable[[Message], None],
        tls: Policy | None = None,
        timings: Timings = TIMINGS,
    ) -> None:
        self.identity = identity
        self._on_messages = on_messages
        self._on_ended = on_ended
        self._on_snapshot = on_snapshot
        self._wiring = Wiring(
            identity=identity,
            dial_timeout_s=1.0 + election_timeout_s,
            deliver=self._deliver,
            on_unreachable=on_unreachable,
            on_removed=on_removed,
            on_ended=self._process_ended,
            tls=tls,
            timings=timings,
        )
        self._peers: dict[int, Peer] = {}
        self._strangers: dict[int, Pipeline] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False
        self._loop = asyncio.get_running_loop()

    # Sending

    def send(self, messages: Sequence[Message]) -> None:
        """Sends what can be sent, drops the rest: raft repeats. Messages to one member keep their order on a stream."""
        by_member: dict[int, list[Message]] = {}
        for message in messages:
            if message.to in by_member:
                by_member[message.to].append(message)
            else:
                by_member[message.to] = [message]
        for to, theirs in by_member.items():
            peer = self._peers.get(to)
            if peer is not None:
                if any(message.type is MessageType.SNAPSHOT for message in theirs):
                    theirs = self._without_snapshots(theirs)
                peer.send(theirs)
            elif to != NONE and to in self._strangers:
                # Only answers: raft does not lead members that the log does not name.
                self._strangers[to].send([m for m in theirs if m.type is not MessageType.SNAPSHOT])

    def _without_snapshots(self, messages: list[Message]) -> list[Message]:
        rest = []
        for message in messages:
            if message.type is MessageType.SNAPSHOT:
                self._on_snapshot(message)
            else:
                rest.append(message)
        return rest

    async def send_snapshot(self, message: Message, database: Path) -> None:
        """Posts a MsgSnap with the database behind it. Raises OSError, PeerRefused."""
        peer = self._peers.get(message.to)
        if peer is None:
            raise ConnectionError(f"{hex_id(message.to)} is no peer any more")
        await peer.send_snapshot(message, database)

    # Members

    def add_peer(self, member_id: int, urls: Sequence[str]) -> None:
        """Also for a known one: its URLs may have changed. This member itself is not a peer."""
        if self._closed or member_id == self.identity.member_id:
            return
        stranger = self._strangers.pop(member_id, None)
        if stranger is not None:
            self._close_later(stranger)
        peer = self._peers.get(member_id)
        if peer is None:
            self._peers[member_id] = Peer(member_id, urls, self._wiring)
        else:
            peer.update(urls)

    def remove_peer(self, member_id: int) -> None:
        """Ends all that stands between us. Its next dial is refused, by what the members then say of it."""
        for part in (self._peers.pop(member_id, None), self._strangers.pop(member_id, None)):
            if part is not None:
                self._close_later(part)

    def add_stranger(self, member_id: int, urls: Sequence[str]) -> None:
        """A member that the log has not told us of yet (etcd's "remote"): it can be answered, by POST only."""
        if self._closed or not urls or member_id in self._peers or member_id in self._strangers:
            return
        if member_id == self.identity.member_id or len(self._strangers) >= STRANGERS_COUNT_MAX:
            return
        activity = Activity(hex_id(member_id))
        self._strangers[member_id] = Pipeline(member_id, Urls(urls), self._wiring, activity)

    def knows(self, member_id: int) -> bool:
        return member_id in self._peers

    def active_since(self, member_id: int) -> float | None:
        """Since when (the loop's clock) it has been reachable without a break; None if it is not."""
        peer = self._peers.get(member_id)
        return None if peer is None else peer.active_since

    def is_foreign(self, member_id: int) -> bool:
        """Whether who answers at its URLs says that it belongs to another cluster."""
        peer = self._peers.get(member_id)
        return peer is not None and peer.is_foreign

    def traffic(self) -> dict[int, PeerTraffic]:
        """By member."""
        return {member_id: peer.traffic for member_id, peer in self._peers.items()}

    # What the listener hands over

    def attach(self, member_id: int, kind: StreamKind, carrier: Carrier) -> Outbound:
        """Raises KeyError for a member that is not known."""
        return self._peers[member_id].attach(kind, carrier)

    def receive(self, message: Message) -> None:
        """A message that came by POST."""
        self._deliver([message])

    def _deliver(self, messages: list[Message]) -> None:
        own_id = self.identity.member_id
        taken = [m for m in messages if m.to == own_id and m.type not in _NOT_RECEIVED]
        if taken and not self._closed:
            self._on_messages(taken)

    def _process_ended(self, member_id: int) -> None:
        # An etcd goes by its leader's lease alone, so beside one there is nothing to gain from being early.
        if all(peer.is_kvorum is not False for peer in self._peers.values()):
            self._on_ended(member_id)

    # The end

    async def close(self) -> None:
        """Ends the streams in good order and waits until no task and no connection of ours is left."""
        self._closed = True
        pending: list[Peer | Pipeline] = [*self._peers.values(), *self._strangers.values()]
        self._peers.clear()
        self._strangers.clear()
        await asyncio.gather(*[each.close() for each in pending], *self._closing)

    def _close_later(self, part: Peer | Pipeline) -> None:
        task = self._loop.create_task(part.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
