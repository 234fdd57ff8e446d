"""Snapshots by a process of its own: what it says of them, what it refuses, and that it does not outlive who asked."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from kvorum.raft.message import ConfState, Snapshot
from kvorum.server.snapshot_db import ConversionFailed, ImportedDb, export_snapshot, import_snapshot
from kvorum.state.dict_store import DictStore
from kvorum.state.machine import CONF_STATE, CONSISTENT_INDEX, TERM
from kvorum.state.membership import Member, Membership, encode_conf_state
from kvorum.state.store import ALL_TABLES, CLUSTER, MEMBERS, MEMBERS_REMOVED, META, TABLES, V2
from kvorum.state.v2_store import V2Store
from kvorum.state.v2_tree import V2Tree, decode_v2_tree, encode_v2_tree
from kvorum.storage.bbolt_writer import write_bbolt
from kvorum.storage.entry_codec import encode_snapshot
from kvorum.storage.fault import CorruptDb, StorageFault
from kvorum.storage.lmdb_store import LmdbStore
from kvorum.storage.snap_file import read_snap

from tests.kit.deadline import wait_until_async
from tests.unit.kvorum.state.driver import captured_table

TESTDATA = Path(__file__).parents[1] / "storage" / "testdata" / "member-snapshot"
CAPTURED_DB = TESTDATA / "db"
CONF = ConfState(voters=(1, 2), learners=(9,))
TREE_MEMBERS = [Member(1, ("http://one",), name="one", client_urls=("http://c",)), Member(9, ("http://nine",), True)]


def tree(members: list[Member] = TREE_MEMBERS, removed: tuple[int, ...] = (7,)) -> bytes:
    tables = DictStore()
    v2 = V2Store(tables)
    membership = Membership(tables, v2)
    membership.restore(members, removed, "3.5.0")
    membership.plant()
    return encode_v2_tree(v2)


def make_store(path: Path, index: int = 300, *, rows_count: int = 10) -> LmdbStore:
    store = LmdbStore.open(path)
    Membership(store).restore(TREE_MEMBERS, [7], "3.5.0")
    store.put(META, CONSISTENT_INDEX, index.to_bytes(8, "big"))
    store.put(META, TERM, (4).to_bytes(8, "big"))
    store.put(META, CONF_STATE, encode_conf_state(CONF))
    for number in range(rows_count):
        store.put("key", b"%08d" % number, b"v" * 200)
    store.commit()
    return store


def rows_of(path: Path) -> dict[str, dict[bytes, bytes]]:
    store = LmdbStore.open(path)
    try:
        return {table: dict(store.scan(table)) for table in ALL_TABLES}
    finally:
        store.close()


def test_an_export_tells_of_itself_what_its_transaction_held(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    store.put(META, CONSISTENT_INDEX, (301).to_bytes(8, "big"))  # not committed: not of this snapshot
    exported = asyncio.run(export_snapshot(tmp_path / "store", tmp_path / "db"))
    assert exported.size_bytes == (tmp_path / "db").stat().st_size
    assert exported.snapshot == Snapshot(300, 4, CONF, tree())
    assert decode_v2_tree(exported.snapshot.data) == V2Tree(TREE_MEMBERS, frozenset((7,)), "3.5.0")
    store.close()

    imported = asyncio.run(import_snapshot(tmp_path / "db", tmp_path / "again", exported.snapshot))
    v2_rows = rows_of(tmp_path / "again")[V2]
    assert imported == ImportedDb(300, 10 + 3 + 2 + 1 + 1 + len(v2_rows))
    v2 = V2Store(DictStore({V2: v2_rows}))
    assert v2.load()
    assert encode_v2_tree(v2) == tree()
    before, after = rows_of(tmp_path / "store"), rows_of(tmp_path / "again")
    assert {table: after[table] for table in TABLES} == {table: before[table] for table in TABLES}


def test_a_real_etcds_snapshot_is_taken_with_its_own_rows(tmp_path: Path) -> None:
    snapshot = read_snap(TESTDATA / "0000000000000002-000000000000003f.snap")
    assert asyncio.run(import_snapshot(CAPTURED_DB, tmp_path / "store", snapshot)).index == 73
    found = rows_of(tmp_path / "store")
    for table in TABLES:
        assert found[table] == captured_table("snapshot-db.json", table), table


def db_of(path: Path, tables: dict[str, dict[bytes, bytes]]) -> Path:
    write_bbolt(path, [(table.encode(), sorted(tables[table].items())) for table in sorted(tables)])
    return path


def test_the_members_are_the_trees_whatever_the_rows_say(tmp_path: Path) -> None:
    stale = {b"5": b'{"id":5,"peerURLs":["http://zombie"]}', b"1": b'{"id":1,"peerURLs":["http://old"]}'}
    meta = {CONSISTENT_INDEX: (300).to_bytes(8, "big"), CONF_STATE: b'{"voters":[5],"auto_leave":false}'}
    db = db_of(
        tmp_path / "db", {MEMBERS: stale, MEMBERS_REMOVED: {}, META: meta, CLUSTER: {b"clusterVersion": b"3.4.0"}}
    )
    asyncio.run(import_snapshot(db, tmp_path / "store", Snapshot(300, 4, CONF, tree())))
    found = rows_of(tmp_path / "store")
    membership = Membership(DictStore(found))
    membership.load()
    assert (membership.members, membership.removed, membership.cluster_version) == (TREE_MEMBERS, {7}, "3.5.0")
    assert found[META][CONF_STATE] == encode_conf_state(CONF)
    assert found[META][TERM] == (4).to_bytes(8, "big")


def test_who_never_started_keeps_the_name_that_only_the_rows_have(tmp_path: Path) -> None:
    rows = {b"1": b'{"id":1,"peerURLs":["http://one"],"name":"old"}', b"9": b'{"id":9,"peerURLs":[],"name":"nine"}'}
    db = db_of(tmp_path / "db", {MEMBERS: rows, META: {CONSISTENT_INDEX: (300).to_bytes(8, "big")}})
    asyncio.run(import_snapshot(db, tmp_path / "store", Snapshot(300, 4, CONF, tree())))
    membership = Membership(DictStore(rows_of(tmp_path / "store")))
    membership.load()
    assert [member.name for member in membership.members] == ["one", "nine"]
    assert membership.members[1].peer_urls == ("http://nine",)


def test_a_db_that_is_ahead_keeps_its_configuration(tmp_path: Path) -> None:
    later = b'{"voters":[1,2,9],"auto_leave":false}'
    meta = {CONSISTENT_INDEX: (305).to_bytes(8, "big"), CONF_STATE: later, TERM: (5).to_bytes(8, "big")}
    db = db_of(tmp_path / "db", {META: meta})
    assert asyncio.run(import_snapshot(db, tmp_path / "store", Snapshot(300, 4, CONF, tree()))).index == 305
    assert rows_of(tmp_path / "store")[META] == meta


def refused(db: Path, store: Path, snapshot: Snapshot, kind: type[StorageFault] = CorruptDb) -> str:
    with pytest.raises(kind) as refusal:
        asyncio.run(import_snapshot(db, store, snapshot))
    assert not store.exists()
    text = str(refusal.value)
    assert "Traceback" not in text
    return text


def test_a_db_that_lacks_what_its_snapshot_covers_is_refused(tmp_path: Path) -> None:
    meta = {CONSISTENT_INDEX: (299).to_bytes(8, "big")}
    db = db_of(tmp_path / "db", {META: meta})
    text = refused(db, tmp_path / "store", Snapshot(300, 4, CONF, tree()))
    assert text.startswith(f"{db}: holds what was applied up to 299, but came with a snapshot of 300: rows are missing")
    text = refused(db_of(tmp_path / "empty", {}), tmp_path / "store", Snapshot(300, 4, CONF, tree()))
    assert "applied up to 0" in text


def test_what_is_no_db_or_no_tree_is_refused_by_name(tmp_path: Path) -> None:
    snapshot = read_snap(TESTDATA / "0000000000000002-000000000000003f.snap")
    damaged = tmp_path / "damaged"
    damaged.write_bytes(CAPTURED_DB.read_bytes()[:9000])
    assert refused(damaged, tmp_path / "store", snapshot).startswith(f"{damaged}: page 3 is missing")
    text = refused(CAPTURED_DB, tmp_path / "store", replace(snapshot, data=b"{}"))
    assert text.startswith(f"{CAPTURED_DB}: came with a member list that is none: Root is not an object")
    text = refused(tmp_path / "absent", tmp_path / "store", snapshot, ConversionFailed)
    assert text.startswith(f"{tmp_path}/absent: No such file")


def test_a_store_whose_pages_are_missing_ends_the_process_and_not_ours(tmp_path: Path) -> None:
    make_store(tmp_path / "store", rows_count=20_000).close()
    data = tmp_path / "store" / "data.mdb"
    os.truncate(data, data.stat().st_size // 2 // 4096 * 4096)
    with pytest.raises(ConversionFailed, match=f"{tmp_path}/store: ") as refusal:
        asyncio.run(export_snapshot(tmp_path / "store", tmp_path / "db"))
    assert "Traceback" not in str(refusal.value)


def hanging_db(path: Path) -> Path:
    """Whoever opens it waits for somebody to write."""
    os.mkfifo(path)
    return path


def test_cancelling_ends_the_process(tmp_path: Path) -> None:
    db = hanging_db(tmp_path / "db")

    def running() -> list[psutil.Process]:
        return [child for child in psutil.Process().children() if "kvorum.server.snapshot_db" in child.cmdline()]

    async def cancelled() -> None:
        task = asyncio.create_task(import_snapshot(db, tmp_path / "store", Snapshot(300, 4, CONF, tree())))
        await wait_until_async(_of(running), 20, "the process runs")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert running() == []

    asyncio.run(cancelled())


def _of(question: Callable[[], object]) -> Callable[[], Awaitable[object]]:
    async def ask() -> object:
        return question()

    return ask


def test_the_process_ends_when_who_asked_is_gone(tmp_path: Path) -> None:
    request = {
        "do": "import",
        "db": str(hanging_db(tmp_path / "db")),
        "store": str(tmp_path / "store"),
        "snapshot": encode_snapshot(Snapshot(300, 4, CONF, tree())).hex(),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "kvorum.server.snapshot_db"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        # The end of its stdin is what the kernel makes of a parent that was killed.
        told, _ = process.communicate(json.dumps(request).encode() + b"\n", timeout=20)
        assert (process.returncode, told) == (1, b"")
    finally:
        process.kill()
        process.wait()
