"""Snapshots as etcd's db: made of our tables, and taken into tables, in a process of its own.

    python -m kvorum.server.snapshot_db      one JSON object in (stdin), one out (stdout); status 0, or 1 with an error

Knows what the rows mean that say which state the others are: index, term, configuration, members. Not who wants a
snapshot, nor where it goes. The process ends with the one that started it: it watches the other end of its stdin.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread

from kvorum.raft.message import ConfState, Snapshot
from kvorum.state.dict_store import DictStore
from kvorum.state.membership import (
    BadVersion,
    Member,
    Membership,
    decode_conf_state,
    encode_conf_state,
)
from kvorum.state.store import META
from kvorum.state.v2_store import V2Store
from kvorum.state.v2_tree import BadV2Tree, encode_v2_tree, restore_v2_store
from kvorum.storage.bbolt_reader import BboltFile
from kvorum.storage.conversion import SMALL_TABLES, export_db, import_db
from kvorum.storage.entry_codec import decode_snapshot, encode_snapshot
from kvorum.storage.fault import CorruptDb, StorageFault

LINE_BYTES_MAX = 1 << 30  # of the answer: it holds the v2 tree, two letters a byte

_CONSISTENT_INDEX, _TERM, _CONF_STATE = b"consistent_index", b"term", b"confState"  # rows of the table meta


class ConversionFailed(StorageFault):
    """The process found no way, or was ended. str() is its error: the file, the cause, the way out."""


@dataclass(frozen=True, slots=True)
class ExportedSnapshot:
    """snapshot: as a .snap file and MsgSnap hold it (index, term, configuration, v2 tree). size_bytes: of the db."""

    snapshot: Snapshot
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ImportedDb:
    """index: what is applied in the store that was made, at or above the snapshot's."""

    index: int
    rows_count: int


# --- for the node: both run the program below ------------------------------------------------------------------------


async def export_snapshot(store_path: Path, out: Path) -> ExportedSnapshot:
    """The last committed state of a store in use, as etcd's db in `out` (durable, but for its name).

    Cancelled, it ends the process and leaves `out` as far as it was. Raises ConversionFailed.
    """
    answer = await _ask({"do": "export", "store": str(store_path), "out": str(out)})
    return ExportedSnapshot(decode_snapshot(bytes.fromhex(str(answer["snapshot"]))), _integer(answer["size_bytes"]))


async def import_snapshot(db_path: Path, store_path: Path, snapshot: Snapshot) -> ImportedDb:
    """A store, whole and durable, of the db that came with a snapshot; store_path is absent before.

    The members are the v2 tree's (snapshot.data), as in etcd. An index in the db below the snapshot's is refused.
    Raises CorruptDb, and ConversionFailed for all else; there is no store then.
    """
    request = {
        "do": "import",
        "db": str(db_path),
        "store": str(store_path),
        "snapshot": encode_snapshot(snapshot).hex(),
    }
    answer = await _ask(request)
    return ImportedDb(_integer(answer["index"]), _integer(answer["rows_count"]))


async def _ask(request: Mapping[str, str]) -> dict[str, object]:
    """Raises CorruptDb, ConversionFailed."""
    about = request.get("db") or request["store"]
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            __name__,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES_MAX,
        )
    except OSError as error:
        raise ConversionFailed(f"{about}: no process could be started to read it: {error}") from error
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(json.dumps(request).encode() + b"\n")
        # Its stdin stays open: the end of it would tell the process that we are gone.
        line, complaint = await asyncio.gather(process.stdout.readline(), process.stderr.read())
        status = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if status < 0:
        raise ConversionFailed(
            f"{about}: the process that read it was ended by {signal.Signals(-status).name}\n"
            "  SIGKILL: by somebody, or for want of memory. SIGBUS, SIGSEGV: the file is shorter than its pages say."
        )
    if not line:
        last_words = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        raise ConversionFailed(
            f"{about}: the process that read it ended with status {status} and no answer: {last_words or 'no word'}\n"
            f"  It runs {sys.executable} -m {__name__}. Was the program replaced under a running member? Restart it."
        )
    answer = json.loads(line)
    if "damaged" in answer:
        raise CorruptDb(Path(answer["damaged"]), answer["why"])
    if "error" in answer:
        raise ConversionFailed(answer["error"])
    return dict(answer)


def _integer(value: object) -> int:
    assert isinstance(value, int), value
    return value


# --- the process -----------------------------------------------------------------------------------------------------


def main() -> int:
    request = json.loads(sys.stdin.buffer.readline())
    Thread(target=_end_with_parent, daemon=True).start()
    try:
        answer = _export(request) if request["do"] == "export" else _import(request)
    except CorruptDb as damage:  # of its own kind: a member with such a file stands aside, for the others it ends
        answer = {"error": str(damage), "damaged": str(damage.path), "why": damage.why}
    except StorageFault as fault:
        answer = {"error": str(fault)}
    except OSError as error:
        answer = {"error": f"{error.filename or request}: {error.strerror or error}"}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 1 if "error" in answer else 0


def _end_with_parent() -> None:
    """A half done conversion is cleared away by who finds it: the node at its next start, or the next conversion."""
    while os.read(0, 1):  # not by sys.stdin, whose lock the end of this process could then not get
        pass
    os._exit(1)


def _export(request: dict[str, str]) -> dict[str, object]:
    done = export_db(Path(request["store"]), Path(request["out"]))
    snapshot = _snapshot_of(DictStore({table: dict(rows) for table, rows in done.small.items()}))
    return {"snapshot": encode_snapshot(snapshot).hex(), "size_bytes": done.size_bytes}


def _snapshot_of(store: DictStore) -> Snapshot:
    """What the meta rows and the member list of a transaction say of it."""
    conf_state = store.get(META, _CONF_STATE)
    v2 = V2Store(store)
    if not v2.load():
        membership = Membership(store, v2)
        membership.load()
        membership.plant()
    return Snapshot(
        index=_number(store, _CONSISTENT_INDEX),
        term=_number(store, _TERM),
        conf_state=ConfState() if conf_state is None else decode_conf_state(conf_state),
        data=encode_v2_tree(v2),
    )


def _import(request: dict[str, str]) -> dict[str, object]:
    db_path = Path(request["db"])
    snapshot = decode_snapshot(bytes.fromhex(request["snapshot"]))
    with BboltFile.open(db_path) as file:
        names = {name.decode(errors="replace") for name in file.bucket_names()}
        small = {table: dict(file.rows(table.encode())) for table in SMALL_TABLES if table in names}
    store = DictStore(small)
    index = _number(store, _CONSISTENT_INDEX)
    if index < snapshot.index:
        raise CorruptDb(
            db_path,
            f"holds what was applied up to {index}, but came with a snapshot of {snapshot.index}: rows are missing",
        )
    _reconcile(store, snapshot, index, db_path)
    replacing = {table: list(store.scan(table)) for table in SMALL_TABLES}
    rows_count = import_db(db_path, Path(request["store"]), replacing)
    return {"index": index, "rows_count": rows_count}


def _reconcile(store: DictStore, snapshot: Snapshot, index: int, db_path: Path) -> None:
    """Make the db's small tables say what the snapshot says: there etcd itself looks, and old versions' rows err.

    Up to 3.5.25 a removed member may be left in the rows, up to 3.5.19 a promoted one may be a learner in them; 3.4
    writes no configuration and no term. The tree lacks the names of members that never started: those are the rows'.
    """
    try:
        tree = restore_v2_store(V2Store(store), snapshot.data)
        membership = Membership(store)
        membership.load()
        members = [_named(member, membership.find(member.id)) for member in tree.members]
        membership.restore(members, tree.removed, tree.cluster_version)
    except (BadV2Tree, BadVersion) as why:
        raise CorruptDb(db_path, f"came with a member list that is none: {why}") from None
    if store.get(META, _CONF_STATE) is None or index == snapshot.index:
        store.put(META, _CONF_STATE, encode_conf_state(snapshot.conf_state))
    if store.get(META, _TERM) is None:
        store.put(META, _TERM, snapshot.term.to_bytes(8, "big"))


def _named(member: Member, row: Member | None) -> Member:
    has_started = member.name or member.client_urls
    return member if has_started or row is None else replace(member, name=row.name)


def _number(store: DictStore, key: bytes) -> int:
    return int.from_bytes(store.get(META, key) or b"", "big")


if __name__ == "__main__":
    sys.exit(main())
