"""Leases as the log makes them: ids, granted TTLs, and which keys hang on each.

Knows no clock: when a lease expires is the leader's affair (server/), which asks here for ids and TTLs and proposes
the revocation. Which keys are attached is not stored; it follows from the rows of the keys.
"""

# ruff: noqa: A002 - `id` is the protocol's own name

from collections.abc import Iterator

from kvorum.etcdpb.internal_pb2 import LeaseRow
from kvorum.state.refusal import LEASE_EXISTS, LEASE_NOT_FOUND, LEASE_TTL_TOO_LARGE, Refusal
from kvorum.state.store import LEASE, Store

TTL_MAX_S = 9_000_000_000
NO_LEASE = 0


class Lease:
    """One lease. ttl_s: as granted. checkpoint_s: what the leader last said remains of it, 0 when it never did."""

    __slots__ = ("checkpoint_s", "id", "keys", "ttl_s")

    def __init__(self, id: int, ttl_s: int) -> None:
        self.id = id
        self.ttl_s = ttl_s
        self.checkpoint_s = 0
        self.keys: set[bytes] = set()

    @property
    def remaining_s(self) -> int:
        """From what a new leader counts down: the last checkpoint, else the whole TTL."""
        return self.checkpoint_s if self.checkpoint_s > 0 else self.ttl_s

    def sorted_keys(self) -> list[bytes]:
        return sorted(self.keys)


class Leases:
    """All leases, by id. Ids are int64, and never 0.

    revoked_count, ttls_count: since this object was made, for /metrics. ttls_count[n]: of leases granted for up to 2**n
    seconds, and more than 2**(n-1); granted_ttl_s: their sum.
    """

    def __init__(self, store: Store, *, ttl_min_s: int, persists_checkpoints: bool = False) -> None:
        """ttl_min_s: lower TTLs are raised to it. persists_checkpoints: a restart knows them, too."""
        self._store = store
        self._persists_checkpoints = persists_checkpoints
        self._ttl_min_s = ttl_min_s
        self._by_id: dict[int, Lease] = {}
        self.revoked_count = 0
        self.ttls_count = [0] * (TTL_MAX_S.bit_length() + 1)
        self.granted_ttl_s = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Lease]:
        """In order of ids."""
        return iter([self._by_id[lease] for lease in sorted(self._by_id)])

    def find(self, id: int) -> Lease | None:
        return self._by_id.get(id)

    def refuses_grant(self, id: int, ttl_s: int) -> Refusal | None:
        """Why a lease cannot be granted. The proposer has replaced id 0 by one of its own."""
        if id == NO_LEASE:
            return LEASE_NOT_FOUND  # etcd's answer: it reaches apply only from a proposer that chose none
        if ttl_s > TTL_MAX_S:
            return LEASE_TTL_TOO_LARGE
        return LEASE_EXISTS if id in self._by_id else None

    def grant(self, id: int, ttl_s: int) -> Lease:
        """A new lease. Its TTL is raised to the minimum here, at apply, so members need equal tick settings."""
        assert id != NO_LEASE, "0 is no lease"
        assert id not in self._by_id, id
        lease = self._by_id[id] = Lease(id, max(ttl_s, self._ttl_min_s))
        self._store.put(LEASE, row_key(id), LeaseRow(ID=id, TTL=lease.ttl_s).SerializeToString())
        self.ttls_count[(lease.ttl_s - 1).bit_length()] += 1
        self.granted_ttl_s += lease.ttl_s
        return lease

    def forget(self, id: int) -> None:
        """A lease that was revoked. Its keys are deleted by the caller, before or after, in the same write."""
        del self._by_id[id]
        self.revoked_count += 1
        self._store.delete(LEASE, row_key(id))

    def checkpoint(self, id: int, remaining_s: int) -> None:
        """The leader tells how much is left; 0: all of it again. Of an unknown lease: nothing.

        In memory only where it is not to be persisted, as in etcd 3.5: members may differ in that.
        """
        lease = self._by_id.get(id)
        if lease is None:
            return
        lease.checkpoint_s = remaining_s
        if self._persists_checkpoints:
            row = LeaseRow(ID=id, TTL=lease.ttl_s, RemainingTTL=remaining_s)
            self._store.put(LEASE, row_key(id), row.SerializeToString())

    def attach(self, id: int, key: bytes) -> None:
        """Of an unknown lease nothing: a store restored from a snapshot may hold keys that outlived theirs."""
        lease = self._by_id.get(id)
        if lease is not None:
            lease.keys.add(key)

    def detach(self, id: int, key: bytes) -> None:
        lease = self._by_id.get(id)
        if lease is not None:
            lease.keys.discard(key)

    def load(self) -> None:
        """From the table `lease`; the keys follow when the revisions are loaded."""
        self._by_id.clear()
        for _, data in self._store.scan(LEASE):
            row = LeaseRow.FromString(data)
            lease = self._by_id[row.ID] = Lease(row.ID, max(row.TTL, self._ttl_min_s))
            lease.checkpoint_s = row.RemainingTTL


def row_key(id: int) -> bytes:
    return id.to_bytes(8, "big", signed=True)
