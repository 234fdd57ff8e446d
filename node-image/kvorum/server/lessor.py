"""The leader's clock of leases: which expire when, and asking the log to revoke them.

Leases themselves are replicated state (state.leases); how long they still live is known only here, and only on the
leader. A new leader gives every lease its whole time again, since it cannot know when the last one was renewed
(etcd's Promote); with checkpoints, what the leader before last said is left of it.
"""

import heapq
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kvorum.etcdpb.internal_pb2 import InternalRaftRequest, RequestHeader
from kvorum.etcdpb.rpc_pb2 import LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest
from kvorum.state.auth import ROOT

if TYPE_CHECKING:
    from kvorum.server.server import Server

EXPIRE_INTERVAL_S = 0.5
REVOKES_A_SECOND_MAX = 1000
REVOKES_IN_FLIGHT_MAX = 16
CHECKPOINT_INTERVAL_S = 300.0  # etcd's; leases that have no longer to live need none
CHECKPOINTS_AT_ONCE_MAX = 1000


class Lessor:
    """Expiry times by lease, in the loop's seconds. Empty on every member but the leader."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._primary = False
        self._is_early = False
        self._expiry: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []  # may hold stale times: _expiry decides
        self._next_check = 0.0
        self._revoking: set[int] = set()  # asked for, in the own log, and not applied yet
        self._checkpoints: list[tuple[float, int]] = []  # a heap: when each lease is to be told of next
        self.expired_count = 0
        self.renewed_count = 0

    @property
    def is_primary(self) -> bool:
        """Whether this member's clock is the one that counts: it leads, and has applied an entry of its own term."""
        return self._primary

    def promote(self) -> None:
        """Called when the first entry of the own term is applied; more of its kind, which stand where a change of the
        members was refused, alter nothing. (etcd starts all clocks anew then, and so renews what it is revoking.)"""
        if self._primary:
            return
        self._primary = True
        extend_s = self._server.settings.election_ms / 1000
        if self._is_early:
            extend_s += extend_s
        self._is_early = False
        now = self._server.loop.time()
        for lease in self._server.machine.leases:
            self._set(lease.id, now + self._ttl_s(lease.id) + extend_s)
            self._schedule_checkpoint(lease.id)

    def expect_early_term(self) -> None:
        """This member campaigns before an election timeout has passed. A leader that was wrongly taken for dead may go
        on renewing leases that much longer, so if it wins all of them last that much longer."""
        self._is_early = True

    def demote(self) -> None:
        self._primary = False
        self._expiry.clear()
        self._heap.clear()
        self._revoking.clear()
        self._checkpoints.clear()

    def applied(self, data: bytes) -> None:
        """An entry that grants or revokes a lease is applied: its clock starts, or is forgotten."""
        if not self._primary:
            return
        request = InternalRaftRequest.FromString(data)
        lease_id = request.lease_grant.ID or request.lease_revoke.ID
        was_revoking = lease_id in self._revoking
        self._revoking.discard(lease_id)
        if self._server.machine.leases.find(lease_id) is None:
            self._expiry.pop(lease_id, None)
        elif lease_id not in self._expiry:  # granting an existing one is refused, and must not renew it
            self._set(lease_id, self._server.loop.time() + self._ttl_s(lease_id))
            self._schedule_checkpoint(lease_id)
        elif was_revoking:  # an alarm forbade it: asked again at the next check
            heapq.heappush(self._heap, (self._expiry[lease_id], lease_id))

    def renew(self, lease_id: int) -> int:
        """Its TTL in seconds, counted anew from now; 0 if there is no such lease or it has just expired."""
        expiry = self._expiry.get(lease_id)
        now = self._server.loop.time()
        if expiry is None or expiry <= now:
            return 0
        lease = self._server.machine.leases.find(lease_id)
        assert lease is not None, f"lease {lease_id:x} has a clock but does not exist"
        self._set(lease_id, now + lease.ttl_s)
        if lease.checkpoint_s and self._server.settings.lease_checkpoints:
            self._propose_checkpoints({lease_id: 0})  # all of its time again
            self._server.schedule_flush()
        self.renewed_count += 1
        return lease.ttl_s

    def remaining_s(self, lease_id: int) -> int:
        """Whole seconds left, as TimeToLive tells them."""
        expiry = self._expiry.get(lease_id)
        return -1 if expiry is None else int(expiry - self._server.loop.time())

    def tick(self) -> None:
        now = self._server.loop.time()
        if not self._primary or now < self._next_check:
            return
        self._next_check = now + EXPIRE_INTERVAL_S
        budget = int(REVOKES_A_SECOND_MAX * EXPIRE_INTERVAL_S)
        while self._heap and self._heap[0][0] <= now and budget and len(self._revoking) < REVOKES_IN_FLIGHT_MAX:
            expiry, lease_id = self._heap[0]
            if self._expiry.get(lease_id) == expiry and lease_id not in self._revoking:
                if not self._revoke(lease_id):
                    break
                budget -= 1
            heapq.heappop(self._heap)
        if self._checkpoints:
            self._checkpoint_due(now)

    def _schedule_checkpoint(self, lease_id: int) -> None:
        server = self._server
        if server.settings.lease_checkpoints and self._ttl_s(lease_id) > CHECKPOINT_INTERVAL_S:
            heapq.heappush(self._checkpoints, (server.loop.time() + CHECKPOINT_INTERVAL_S, lease_id))

    def _checkpoint_due(self, now: float) -> None:
        """Of leases that were renewed since there is nothing to tell: their time is whole."""
        due: dict[int, int] = {}
        while self._checkpoints and self._checkpoints[0][0] <= now and len(due) < CHECKPOINTS_AT_ONCE_MAX:
            _, lease_id = heapq.heappop(self._checkpoints)
            lease, expiry = self._server.machine.leases.find(lease_id), self._expiry.get(lease_id)
            if lease is None or expiry is None or expiry <= now:
                continue
            remaining_s = math.ceil(expiry - now)
            if remaining_s < lease.ttl_s:
                due[lease_id] = remaining_s
            heapq.heappush(self._checkpoints, (now + CHECKPOINT_INTERVAL_S, lease_id))
        if due:
            self._propose_checkpoints(due)

    def _propose_checkpoints(self, remaining_s: Mapping[int, int]) -> None:
        """Straight into the own log, or not at all: it is out of date soon."""
        server = self._server
        checkpoints = [LeaseCheckpoint(ID=lease, remaining_TTL=left) for lease, left in remaining_s.items()]
        header = RequestHeader(ID=server.ids.next())
        entry = InternalRaftRequest(lease_checkpoint=LeaseCheckpointRequest(checkpoints=checkpoints), header=header)
        if server.is_leader:
            server.raft.propose([entry.SerializeToString()])

    def _revoke(self, lease_id: int) -> bool:
        """Straight into the own log, as long as this member leads; False if that is not possible now.

        Never by way of the waiting proposals: what the core does not take they keep for the next leader, who has given
        the lease its whole time again and may have renewed it since (simulation, seed 99: a leader that slept through
        its own replacement). What is in the own log is applied before a next leader counts.
        """
        server = self._server
        header = RequestHeader(ID=server.ids.next())
        auth = server.machine.auth
        if auth.enabled:  # nobody else may delete whatever hangs on it (etcd's WithRoot)
            header.username, header.auth_revision = ROOT, auth.revision
        entry = InternalRaftRequest(lease_revoke=LeaseRevokeRequest(ID=lease_id), header=header)
        if not server.is_leader or not server.raft.propose([entry.SerializeToString()]):
            return False
        # Its clock stays expired until the log says so: a keep-alive meanwhile must not promise it a longer life.
        self._revoking.add(lease_id)
        self.expired_count += 1
        return True

    def _ttl_s(self, lease_id: int) -> int:
        lease = self._server.machine.leases.find(lease_id)
        assert lease is not None
        return lease.remaining_s

    def _set(self, lease_id: int, expiry: float) -> None:
        self._expiry[lease_id] = expiry
        heapq.heappush(self._heap, (expiry, lease_id))
        if len(self._heap) > 2 * len(self._expiry) + 1000:
            self._heap = [(expiry, lease_id) for lease_id, expiry in self._expiry.items()]
            heapq.heapify(self._heap)
