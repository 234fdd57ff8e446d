"""The tables of nodes that have ended, etcd's bbolt file and our LMDB alike: what each member itself holds.

A running member says little of itself: what a lease is, it asks the leader. Knows nothing of clients.
"""

import json
from collections.abc import Sequence

from kvorum.state.store import (
    ALARM,
    AUTH,
    AUTH_ROLES,
    AUTH_USERS,
    CLUSTER,
    LEASE,
    MEMBERS,
    MEMBERS_REMOVED,
    META,
)
from kvorum.storage.bbolt_reader import BboltFile
from kvorum.storage.lmdb_store import LmdbStore

from tests.kit.processes import Node

Rows = list[tuple[bytes, bytes]]

REPLICATED = (LEASE, ALARM, AUTH, AUTH_USERS, AUTH_ROLES, CLUSTER, MEMBERS, MEMBERS_REMOVED)
SHARED = (LEASE, ALARM, AUTH, AUTH_USERS, AUTH_ROLES, CLUSTER)  # without what a removed member did not live to hear
# Of meta the rest is a member's own: the index and the term it ended at.
CONF_STATE, SCHEDULED_COMPACTION = b"confState", b"scheduledCompactRev"


def tables_of(node: Node, names: Sequence[str]) -> dict[str, Rows]:
    """Of a node that has ended in good order: its last batch is in the file."""
    assert not node.alive, f"{node.describe()} still runs"
    if node.program.engine == "etcd":
        with BboltFile.open(node.data_dir / "member" / "snap" / "db") as db:
            return {name: list(db.rows(name.encode())) for name in names}
    store = LmdbStore.open(node.data_dir / "member" / "store")
    try:
        return {name: list(store.scan(name)) for name in names}
    finally:
        store.close()


def require_same_tables(nodes: Sequence[Node], names: Sequence[str] = REPLICATED) -> dict[str, Rows]:
    """All these nodes hold the same rows, and where MEMBERS is asked for the same voters and the same compaction in
    meta. The rows. Raises AssertionError with the first table that differs."""
    read = (*names, META) if MEMBERS in names else names
    tables = {node.describe(): tables_of(node, read) for node in nodes}
    for held in tables.values():
        if META in held:
            held[META] = _shared_meta(held[META])
    for name in read:
        alike = {node: held[name] for node, held in tables.items()}
        assert len({repr(rows) for rows in alike.values()}) == 1, f"table {name} differs: {alike}"
    return next(iter(tables.values()))


def _shared_meta(rows: Rows) -> Rows:
    meta = dict(rows)
    conf_state = {key: value for key, value in json.loads(meta.get(CONF_STATE, b"{}")).items() if value}
    return [
        (CONF_STATE, json.dumps(conf_state, sort_keys=True).encode()),
        (SCHEDULED_COMPACTION, meta.get(SCHEDULED_COMPACTION, b"")),
    ]
