"""A data directory of etcd's becomes ours: the log stays, the tables are converted once, before the member starts.

Safe at any crash: our tables appear under their name only when they are whole, and etcd's keep theirs until then. The
members as of the tables are the snapshot file's and what the log says since, as etcd itself works them out; the rows of
older versions may be wrong (peer-protocol.md, 6.6).
"""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from kvorum.etcdpb.internal_pb2 import InternalRaftRequest, V2Request
from kvorum.raft import change_codec
from kvorum.raft.config_change import Configuration
from kvorum.raft.message import ConfChange, Entry, EntryType, Snapshot
from kvorum.server.snapshot_db import import_snapshot
from kvorum.state.dict_store import DictStore
from kvorum.state.machine import CONSISTENT_INDEX, FIRST_TAGS
from kvorum.state.membership import Membership
from kvorum.state.store import META
from kvorum.state.v2_request import apply_v2_request, is_v2_request
from kvorum.state.v2_store import V2Store
from kvorum.state.v2_tree import BadV2Tree, encode_v2_tree, restore_v2_store
from kvorum.storage.bbolt_reader import BboltFile
from kvorum.storage.data_dir import DataDir
from kvorum.storage.fault import CorruptSnap, UnusableDataDir
from kvorum.storage.replay import Replay
from kvorum.storage.snap_file import broken_path, newest_snap, snap_name

log = logging.getLogger(__name__)


async def take_over(data_dir: DataDir, replay: Replay) -> None:
    """Convert etcd's tables to ours, if that is what the directory holds. Before the tables are opened.

    replay: what the log holds, which is locked: no etcd runs here. Raises StorageFault; the directory is etcd's then.
    """
    db_path = data_dir.etcd_db
    if db_path is None:
        return
    if data_dir.store_path.exists():
        # Converted before a crash that came ahead of the renaming; or left by an etcd that was started here since.
        # Either way ours are what the log goes on from.
        happened = "etcd's tables, which kvorum's have replaced, were renamed"
    else:
        base = _newest_snapshot(data_dir, replay)
        source, applied_index = _tables(db_path, base)
        snapshot = _members_at(applied_index, base, data_dir, replay)
        done = await import_snapshot(source, data_dir.store_path, snapshot)
        log.info("etcd's tables were converted", extra={"applied-index": done.index, "rows": done.rows_count})
        happened = "a data directory of etcd's was taken over, its tables renamed so that no etcd goes on from them"
    aside = data_dir.set_etcd_db_aside()
    log.warning(happened, extra={"renamed": str(db_path), "to": str(aside)})


def _newest_snapshot(data_dir: DataDir, replay: Replay) -> Snapshot:
    """The newest one that the log mentions; an empty one if it mentions none.

    Raises CorruptSnap, at each start until the file is brought back: broken, it is renamed. UnusableDataDir if it is
    missing.
    """
    if not replay.snapshot.index:
        return Snapshot()
    snap = _snap(data_dir)
    found = newest_snap(snap, [replay.snapshot])
    if found is not None:
        return found
    broken = broken_path(snap, replay.snapshot)
    if broken.exists():
        raise CorruptSnap(
            snap / snap_name(replay.snapshot),
            f"the log mentions this snapshot, and its file is broken: it was renamed to {broken.name}",
        )
    raise UnusableDataDir(
        data_dir.root,
        f"lacks the snapshot that its log mentions (member/snap/{snap_name(replay.snapshot)})",
        "Bring the file back, or remove this member from the cluster, empty the directory, and add it again.",
    )


def _tables(db_path: Path, base: Snapshot) -> tuple[Path, int]:
    """The file that etcd would go on from, and what is applied in it: `db`, or what came with the snapshot where a
    crash kept that from taking its place."""
    applied_index = _applied_index(db_path)
    received = db_path.with_name(f"{base.index:016x}.snap.db")
    if applied_index < base.index and received.exists():
        return received, _applied_index(received)
    return db_path, applied_index


def _applied_index(db_path: Path) -> int:
    with BboltFile.open(db_path) as file:
        rows = dict(file.rows(META.encode())) if META.encode() in file.bucket_names() else {}
    return int.from_bytes(rows.get(CONSISTENT_INDEX, b""), "big")


def _members_at(applied_index: int, base: Snapshot, data_dir: DataDir, replay: Replay) -> Snapshot:
    """The snapshot, its members and configuration brought up to applied_index by the entries since.

    The configuration in the tables does not count: it may be that of the cluster that was backed up, if etcdutl
    restored them.
    """
    since = [entry for entry in replay.entries if base.index < entry.index <= applied_index]
    reached = max(base.index, replay.last_index)
    if applied_index < base.index or applied_index > reached or (since and since[0].index > base.index + 1):
        raise UnusableDataDir(
            data_dir.root,
            f"has tables up to entry {applied_index}, a snapshot of {base.index}, and a log up to {reached}: what lies "
            "between is missing",
            "Start etcd there once more, or remove the member from the cluster, empty the directory, and add it again.",
        )
    tables = DictStore()
    v2 = V2Store(tables)
    membership = Membership(tables, v2)
    if base.data:
        try:
            membership.restore(*restore_v2_store(v2, base.data))
        except BadV2Tree as why:
            raise CorruptSnap(_snap(data_dir) / snap_name(base), str(why)) from None
    configuration = Configuration.of(base.conf_state)
    for change in _follow(membership, v2, since):
        configuration = configuration.after(change)
    term = since[-1].term if since else base.term
    return Snapshot(applied_index, term, configuration.state(), encode_v2_tree(v2))


def _snap(data_dir: DataDir) -> Path:
    return data_dir.root / "member" / "snap"


def _follow(membership: Membership, v2: V2Store, entries: Iterable[Entry]) -> Iterator[ConfChange]:
    """Apply of the entries what concerns the v2 store, where members and the cluster's version are. Gives the changes
    that were not refused."""
    for entry in entries:
        data = entry.data
        if entry.type == EntryType.CONF_CHANGE:
            change, refusal = membership.apply(change_codec.decode_single(data))
            if refusal is None:
                yield change
        elif is_v2_request(data):
            apply_v2_request(V2Request.FromString(data), v2, membership)
        elif data and data[0] not in FIRST_TAGS:
            request = InternalRaftRequest.FromString(data)
            if request.HasField("v2"):
                apply_v2_request(request.v2, v2, membership)
            elif request.HasField("cluster_version_set"):
                membership.set_cluster_version(request.cluster_version_set.ver)
            elif request.HasField("cluster_member_attr_set"):
                told = request.cluster_member_attr_set
                membership.publish(
                    told.member_ID, told.member_attributes.name, list(told.member_attributes.client_urls)
                )
