"""How far the leader knows each member to be, and how fast it may send to it.

Three states. PROBE: where the logs part is not known, so one append at a time. REPLICATE: entries are sent without
waiting, up to a limit in flight. SNAPSHOT: the entries are gone, nothing is sent until a snapshot has arrived.
Knows no log and no message: only indexes (etcd-io/raft's design of flow control).
"""

from collections import deque
from enum import Enum


class ProgressState(Enum):
    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Progress:
    """One member as the leader sees it.

    match:         highest index known to be durable there. next: index of the first entry to send next; match < next.
    active:        heard from since the last check of the quorum.
    is_waiting:    an append is out that must be answered before the next one goes (PROBE), or as many as may be
                   (REPLICATE). An answer to a heartbeat lets one go, too: what was sent may have been lost.
    commit_sent:   highest commit index that is on its way there; lower again where that may have been lost.
    """

    __slots__ = (
        "active",
        "commit_sent",
        "inflight",
        "inflight_bytes",
        "inflight_bytes_max",
        "inflight_max",
        "is_learner",
        "is_waiting",
        "match",
        "next",
        "pending_snapshot",
        "state",
    )

    def __init__(
        self, *, next_index: int, inflight_max: int, inflight_bytes_max: int | None = None, active: bool = False
    ) -> None:
        self.match = 0
        self.next = next_index
        self.state = ProgressState.PROBE
        self.pending_snapshot = 0  # index of the snapshot that is under way (SNAPSHOT)
        self.active = active
        self.is_waiting = False
        self.is_learner = False
        self.commit_sent = 0
        self.inflight: deque[int] = deque()  # the last index of each append that is under way (REPLICATE), ascending
        self.inflight_max = inflight_max
        self.inflight_bytes: deque[int] = deque()  # their payloads, if those are limited
        self.inflight_bytes_max = inflight_bytes_max

    @property
    def is_paused(self) -> bool:
        """Whether nothing may be sent now."""
        return self.is_waiting or self.state is ProgressState.SNAPSHOT

    @property
    def is_full(self) -> bool:
        """Whether as much is in flight as may be. The append that reaches the limit of bytes may exceed it."""
        if len(self.inflight) >= self.inflight_max:
            return True
        return self.inflight_bytes_max is not None and sum(self.inflight_bytes) >= self.inflight_bytes_max

    def may_raise_commit(self, index: int) -> bool:
        """Whether the member could commit more if it were told this commit index: nothing under way tells it, and it
        has, or is sent, entries beyond what it was told."""
        return self.commit_sent < index and self.commit_sent < self.next - 1

    def _become(self, state: ProgressState) -> None:
        self.state = state
        self.is_waiting = False
        self.pending_snapshot = 0
        self.inflight.clear()
        self.inflight_bytes.clear()

    def become_probe(self) -> None:
        """Starts over from what is known, which after a snapshot is at least that snapshot if it arrived."""
        next_index = self.match + 1
        if self.state is ProgressState.SNAPSHOT:
            next_index = max(next_index, self.pending_snapshot + 1)
        self._become(ProgressState.PROBE)
        self.next = next_index
        self.commit_sent = min(self.commit_sent, next_index - 1)

    def become_replicate(self) -> None:
        self._become(ProgressState.REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        self._become(ProgressState.SNAPSHOT)
        self.pending_snapshot = index
        self.next = index + 1
        self.commit_sent = index

    def sent(self, entries_count: int, payload_bytes: int = 0) -> None:
        """An append with so many entries from `next` on has been queued. payload_bytes: theirs, if that is limited."""
        if self.state is ProgressState.REPLICATE:
            if entries_count > 0:
                self.next += entries_count  # optimistic: a refusal sets it back
                self.inflight.append(self.next - 1)
                if self.inflight_bytes_max is not None:
                    self.inflight_bytes.append(payload_bytes)
            if len(self.inflight) >= self.inflight_max or self.inflight_bytes_max is not None:
                self.is_waiting = self.is_full
        else:
            assert self.state is ProgressState.PROBE, self.state
            if entries_count > 0:
                self.is_waiting = True

    def acknowledge(self, index: int) -> bool:
        """The member has the log up to index on disk. False if that was known."""
        if index <= self.match:
            return False
        while self.inflight and self.inflight[0] <= index:
            self.inflight.popleft()
            if self.inflight_bytes_max is not None:
                self.inflight_bytes.popleft()
        self.match = index
        if index >= self.next:
            self.next = index + 1
        self.is_waiting = False
        return True

    def refuse(self, index: int, hint: int) -> bool:
        """The member refused an append after index; its log may agree at hint. False if that is out of date."""
        if self.state is ProgressState.REPLICATE:
            if index <= self.match:
                return False
            self.next = self.match + 1  # becomes PROBE next, from what is known for sure
        else:
            if self.next - 1 != index:  # an answer to an older probe
                return False
            self.next = max(min(index, hint + 1), self.match + 1)
            self.is_waiting = False
        self.commit_sent = min(self.commit_sent, self.next - 1)
        return True

    def __repr__(self) -> str:
        return f"Progress({self.state.value} match={self.match} next={self.next} inflight={len(self.inflight)})"
