"""The tables that hold the replicated state, as the state machine sees them.

LMDB in storage/, a dict in the simulator. Table names and rows are etcd's buckets (bbolt buckets of etcd 3.5), so that
a snapshot can leave as the file etcd expects.
"""

from collections.abc import Iterator
from typing import Protocol

KEY = "key"  # 17 bytes BE64 main, `_`, BE64 sub [+ `t`] -> mvccpb.KeyValue
META = "meta"  # consistent_index, term (BE64), confState (JSON), scheduledCompactRev, finishedCompactRev
LEASE = "lease"  # BE64 id -> LeaseRow
ALARM = "alarm"  # AlarmMember -> b""
CLUSTER = "cluster"  # clusterVersion -> b"3.5.0"
MEMBERS = "members"  # hex id -> member as JSON
MEMBERS_REMOVED = "members_removed"  # hex id -> b"removed"
AUTH, AUTH_USERS, AUTH_ROLES = "auth", "authUsers", "authRoles"
TABLES = (KEY, META, LEASE, ALARM, CLUSTER, MEMBERS, MEMBERS_REMOVED, AUTH, AUTH_USERS, AUTH_ROLES)
V2 = "v2"  # the v2 store (v2_store.py), which is no bucket of etcd's: there it lies in the .snap file
ALL_TABLES = (*TABLES, V2)


class Store(Protocol):
    """Ordered tables of bytes. A write is seen by the next read at once, and is durable after the owner's next commit.

    All writes between two commits become durable together or not at all: rows and the applied index cannot part.
    """

    def get(self, table: str, key: bytes) -> bytes | None: ...

    def put(self, table: str, key: bytes, value: bytes) -> None: ...

    def delete(self, table: str, key: bytes) -> None:
        """No error if the key is absent."""
        ...

    def scan(self, table: str, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < end in order (end None: to the last), as of the call.

        For loading, hashing and compaction, not for the hot path.
        """
        ...

    @property
    def size_bytes(self) -> int:
        """What the tables occupy, as `dbSize` reports it and the quota counts it."""
        ...

    @property
    def size_in_use_bytes(self) -> int:
        """The same less free pages, as `dbSizeInUse` reports it."""
        ...
