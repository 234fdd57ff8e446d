"""Whether a data directory is whole: log, newest snapshot, tables, and that the three belong together."""

from dataclasses import dataclass, field
from pathlib import Path

from kvorum.data.directory import stopped_member
from kvorum.data.state import hash_of, state_of
from kvorum.raft.message import Snapshot
from kvorum.state.hash_kv import KeySpaceHash
from kvorum.storage.entry_codec import decode_metadata
from kvorum.storage.fault import CorruptDb, CorruptSnap, CorruptStore, CorruptWal, SnapFailed, StorageFault
from kvorum.storage.snap_file import read_snap, snap_name

DAMAGES = (CorruptWal, CorruptSnap, CorruptDb, CorruptStore, SnapFailed)


@dataclass
class Report:
    """lines: what was found, for a person. damages: what is broken, each with its way out; empty: all is whole."""

    lines: list[str] = field(default_factory=list)
    damages: list[StorageFault] = field(default_factory=list)


def check(root: Path, wal: Path | None = None) -> Report:
    """Raises Locked, UnusableDataDir, and StorageFault for what could not be looked at."""
    report = Report()
    try:
        with stopped_member(root, wal) as member:
            log = member.log
            replay = log.replay
            member_id, cluster_id = decode_metadata(replay.metadata)
            report.lines.append(
                f"member {member_id:x} of cluster {cluster_id:x}, {'kvorum' if member.db is None else 'etcd'}'s tables"
            )
            entries = f"entries {replay.entries[0].index} to {replay.last_index}" if replay.entries else "no entries"
            report.lines.append(
                f"log: {log.segments_count} segments, {entries}, term {replay.hard_state.term}, "
                f"committed {replay.hard_state.commit}"
            )
            if log.torn:
                report.lines.append(
                    f"log: its last record was torn by a crash ({log.torn}); it was promised to nobody, and the "
                    "member's start cuts it off"
                )
            found = checked_snapshot(member.snap, replay.snapshot, report)
            if found:
                report.lines.append(f"snapshot: {found}")
            with state_of(member) as machine:
                hashed = hash_of(machine, 0)
                assert isinstance(hashed, KeySpaceHash), hashed
                report.lines.append(
                    f"tables: applied {machine.applied_index}, revision {machine.revision}, "
                    f"compacted {machine.compact_revision}, {len(machine.membership.members)} members, "
                    f"hash {hashed.hash}"
                )
    except DAMAGES as damage:
        report.damages.append(damage)
    return report


def checked_snapshot(folder: Path, mark: Snapshot, report: Report) -> str:
    """What the file of the newest snapshot is that the log mentions; empty if it mentions none, or ours needs none."""
    if not mark.index:
        return ""
    path = folder / snap_name(mark)
    if not path.exists():
        return f"of entry {mark.index}, no file: the tables are it"
    try:
        read_snap(path)
    except (CorruptSnap, SnapFailed) as damage:
        report.damages.append(damage)
        return ""
    return f"{path.name}, whole"
