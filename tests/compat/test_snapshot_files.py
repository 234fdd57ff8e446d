"""Files between the two programs: backups, restored directories, and snapshots with their logs, each from the other."""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from kvorum.client import Client
from kvorum.raft.message import Snapshot
from kvorum.server.snapshot_db import export_snapshot
from kvorum.state.dict_store import DictStore
from kvorum.state.hash_kv import Hashing, KeySpaceHash
from kvorum.state.machine import Machine
from kvorum.state.store import AUTH, CLUSTER, LEASE, MEMBERS, MEMBERS_REMOVED, META, TABLES
from kvorum.storage.bbolt_reader import BboltFile
from kvorum.storage.data_dir import ETCD_DB_ASIDE
from kvorum.storage.disk import Disk
from kvorum.storage.snap_file import write_snap
from kvorum.storage.wal import Wal

from tests.kit.etcd import Etcd
from tests.kit.etcdctl import Etcdctl
from tests.kit.processes import Node, Program

LEASE_ID, COMPACTED = 0x77, 25
SHA256_BYTES = 32  # behind the database in a backup
SETTLED_S = 20.0

Rows = dict[str, dict[bytes, bytes]]
Hashes = dict[int, tuple[int, int]]


async def history(node: Node) -> None:
    """The same on either program: keys with many lives, a txn, leases of which one is revoked, a compaction."""
    ctl = Etcdctl([node.endpoint])
    async with Client([node.endpoint], timeout_s=10) as client:
        await client.lease_grant(3600, LEASE_ID)
        await client.lease_grant(1800, LEASE_ID + 1)
        for number in range(40):
            lease = LEASE_ID + number % 2 if number % 5 == 0 else 0
            await client.put(b"k%02d" % (number % 13), b"v%d" % number, lease=lease)
            if number % 7 == 0:
                await client.delete(b"k%02d" % (number % 11))
        await client.put(b"large", bytes(range(256)) * 256)  # more than a page of any of the files
        assert ctl.run("txn", stdin='value("k01") = "nothing"\n\nput a 1\n\nput b 2\ndel k02\n\n').status == 0
        await client.lease_revoke(LEASE_ID + 1)
        await client.compact(COMPACTED, physical=True)
        for number in range(5):
            await client.put(b"after", b"%d" % number)


def set_up_users(etcd: Node) -> None:
    """Without turning authentication on: the rows are there, and clients need no password."""
    ctl = Etcdctl([etcd.endpoint])
    for command in (
        "user add root:secret",
        "role add reader",
        "role grant-permission reader read k l",
        "user add alice --no-password",
        "user grant-role alice reader",
    ):
        done = ctl.run(*command.split())
        assert done.status == 0, done.stderr


async def hashes_of(node: Node) -> Hashes:
    async with Client([node.endpoint], timeout_s=10) as client:
        revision = (await client.status(node.endpoint)).revision
        found = {}
        for asked in [*range(COMPACTED + 1, revision + 1, 4), revision]:
            answer = await client.hash_kv(asked, endpoint=node.endpoint)
            found[asked] = (answer.hash, answer.compact_revision)
        return found


def hashes_in(rows: Rows, asked: Hashes) -> Hashes:
    machine = Machine(DictStore(rows), lease_ttl_min_s=1, quota_bytes=-1)
    machine.load()
    found = {}
    for revision in asked:
        hashing = machine.hash_at(revision)
        if isinstance(hashing, Hashing):
            while not hashing.step(1000):
                pass
            hashing = hashing.result
        assert isinstance(hashing, KeySpaceHash), hashing
        found[revision] = (hashing.hash, hashing.compact_revision)
    return found


async def require_serving(node: Node, wanted: Hashes) -> None:
    """All keys at every revision, the lease with its keys, and writes."""
    node.wait_healthy()
    assert await hashes_of(node) == wanted
    async with Client([node.endpoint], timeout_s=10) as client:
        assert await client.leases() == (LEASE_ID,)
        life = await client.lease_time_to_live(LEASE_ID, keys=True)
        assert (life.granted_ttl_s, bool(life.keys)) == (3600, True)
        await client.put(b"written", b"after")
        written = await client.get(b"written")
        assert written is not None
        assert written.value == b"after"
        await client.delete(b"written")


def read_rows(path: Path) -> Rows:
    with BboltFile.open(path) as file:
        return {name.decode(): dict(file.rows(name)) for name in file.bucket_names()}


def utility(etcd: Etcd, *arguments: str | Path) -> str:
    done = subprocess.run([etcd.etcdutl, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def status_of(etcd: Etcd, backup: Path) -> dict[str, Any]:
    """On a copy: etcdutl opens the file for writing where it can."""
    copy = backup.with_suffix(".copy")
    shutil.copy(backup, copy)
    told: dict[str, Any] = json.loads(utility(etcd, "snapshot", "status", copy, "-w", "json"))
    return told


def restore(etcd: Etcd, backup: Path, node: Node) -> None:
    """The data directory of a node that was never started."""
    utility(
        etcd,
        *("snapshot", "restore", backup, "--data-dir", node.data_dir, "--name", node.name),
        *("--initial-cluster", f"{node.name}={node.peer_url}", "--initial-advertise-peer-urls", node.peer_url),
    )


# --- from etcd to us -------------------------------------------------------------------------------------------------


def test_a_backup_of_etcd_is_read_and_ours_serves_what_etcdutl_restored(
    reference: Program, subject: Program, real_etcd: Etcd, tmp_path: Path
) -> None:
    backup = tmp_path / "backup.db"
    with Node(reference, tmp_path, name="theirs") as theirs:
        asyncio.run(history(theirs))
        set_up_users(theirs)
        wanted = asyncio.run(hashes_of(theirs))
        assert Etcdctl([theirs.endpoint]).run("snapshot", "save", str(backup)).status == 0
    rows = read_rows(backup)
    assert set(TABLES) <= set(rows)
    assert hashes_in({table: rows[table] for table in TABLES}, wanted) == wanted
    assert status_of(real_etcd, backup)["revision"] == max(wanted)

    ours = Node(subject, tmp_path, name="ours", token="etcd-cluster")
    restore(real_etcd, backup, ours)
    restored = read_rows(ours.data_dir / "member" / "snap" / "db")
    with ours:
        asyncio.run(require_serving(ours, wanted))
        ours.restart()
        ours.wait_healthy()
        exported = tmp_path / "again.db"
        asyncio.run(export_snapshot(ours.data_dir / "member" / "store", exported))
        again = read_rows(exported)
        for table in (AUTH, "authUsers", "authRoles", LEASE):
            assert again[table] == restored[table], table
        assert len(again["authUsers"]) == 2
        members = Etcdctl([ours.endpoint]).run("member", "list").stdout
        assert "started, ours" in members
    assert ours.log().count("a data directory of etcd's was taken over") == 1
    snap = ours.data_dir / "member" / "snap"
    assert not (snap / "db").exists()

    # etcd does not begin from the tables that are old by now; it says that there are none, and ours are as before.
    etcd = Node(reference, tmp_path, name="ours", client_port=ours.client_port, peer_port=ours.peer_port)
    etcd.start()
    assert etcd.process is not None
    assert etcd.process.wait(SETTLED_S) != 0
    assert (snap / ETCD_DB_ASIDE).exists()
    assert asyncio.run(hashes_again(ours, wanted)) == wanted


async def hashes_again(node: Node, asked: Hashes) -> Hashes:
    """Of a node that ran before, at the revisions of then."""
    with node:
        async with Client([node.endpoint], timeout_s=10) as client:
            answers = {revision: await client.hash_kv(revision, endpoint=node.endpoint) for revision in asked}
            return {revision: (answer.hash, answer.compact_revision) for revision, answer in answers.items()}


def test_ours_goes_on_where_an_etcd_was_killed(reference: Program, subject: Program, tmp_path: Path) -> None:
    """Its tables lag behind the log, and its snapshot file behind the tables; and while it runs nobody else may."""
    flags = ["--strict-reconfig-check=false", "--snapshot-count=25"]
    keep_few = ["--experimental-snapshot-catchup-entries=5"]
    theirs = Node(reference, tmp_path, name="same", flags=[*flags, *keep_few])
    ours = Node(subject, tmp_path, name="same", flags=flags, client_port=theirs.client_port, peer_port=theirs.peer_port)
    with theirs:
        asyncio.run(history(theirs))
        asyncio.run(with_other_members(theirs))
        wanted = asyncio.run(hashes_of(theirs))
        members = theirs.members_by_peers()
        assert sum(path.suffix == ".snap" for path in (theirs.data_dir / "member" / "snap").iterdir()) > 1

        intruder = Node(subject, tmp_path, name="same", flags=flags)
        intruder.start()
        assert intruder.process is not None
        assert intruder.process.wait(SETTLED_S) == 1
        assert f"{theirs.data_dir}/member/snap/db is in use by another process" in intruder.log()
        assert theirs.is_healthy()
        theirs.kill()
    with ours:
        asyncio.run(require_serving(ours, wanted))
        told = ours.members_by_peers()
        assert sorted(told, key=member_id) == sorted(members, key=member_id)


def member_id(member: dict[str, Any]) -> int:
    return int(member["id"])


# --- from us to etcd -------------------------------------------------------------------------------------------------


def test_a_backup_of_ours_is_etcds_row_by_row_and_a_real_etcd_serves_it(
    reference: Program, subject: Program, real_etcd: Etcd, tmp_path: Path
) -> None:
    backup, reference_backup = tmp_path / "backup.db", tmp_path / "reference.db"
    with Node(subject, tmp_path, name="same") as ours:
        asyncio.run(history(ours))
        wanted = asyncio.run(hashes_of(ours))
        assert Etcdctl([ours.endpoint]).run("snapshot", "save", str(backup)).status == 0
    with Node(reference, tmp_path / "theirs", name="same") as theirs:
        asyncio.run(history(theirs))
        assert asyncio.run(hashes_of(theirs)) == wanted
        assert Etcdctl([theirs.endpoint]).run("snapshot", "save", str(reference_backup)).status == 0

    rows, etcds = read_rows(backup), read_rows(reference_backup)
    assert sorted(rows) == sorted(etcds)
    for table in TABLES:
        if table not in (MEMBERS, META):  # these tell of ports
            assert rows[table] == etcds[table], table
    assert set(rows[META]) == set(etcds[META])
    for key in (b"scheduledCompactRev", b"finishedCompactRev", b"term", b"consistent_index"):
        assert rows[META][key] == etcds[META][key], key
    ((_, member),), ((_, their_member),) = rows[MEMBERS].items(), etcds[MEMBERS].items()
    fields = list(json.loads(their_member))
    assert list(json.loads(member))[: len(fields)] == fields  # 3.5.16 leaves the client URLs out

    told, reference_told = status_of(real_etcd, backup), status_of(real_etcd, reference_backup)
    assert (told["revision"], told["totalSize"]) == (max(wanted), backup.stat().st_size - SHA256_BYTES)
    assert told["totalKey"] == reference_told["totalKey"]

    restored = Node(reference, tmp_path, name="restored", token="etcd-cluster")
    restore(real_etcd, backup, restored)
    with restored:
        asyncio.run(require_serving(restored, wanted))
        # bbolt deletes and moves rows in the pages that we wrote.
        asyncio.run(compacted(restored))
        assert Etcdctl([restored.endpoint]).run("defrag").status == 0
        asyncio.run(compacted(restored))


async def compacted(node: Node) -> None:
    async with Client([node.endpoint], timeout_s=10) as client:
        before = (await client.range(b"\0", b"\0")).kvs
        await client.put(b"one more", b"")
        await client.delete(b"one more")
        await client.compact((await client.status(node.endpoint)).revision, physical=True)
        assert (await client.range(b"\0", b"\0")).kvs == before


def test_a_real_etcd_starts_from_our_log_snapshot_file_and_tables(
    reference: Program, subject: Program, tmp_path: Path
) -> None:
    flags = ["--strict-reconfig-check=false"]
    with Node(subject, tmp_path, name="same", flags=flags) as ours:
        asyncio.run(history(ours))
        asyncio.run(with_other_members(ours))
        wanted = asyncio.run(hashes_of(ours))
        members = sorted(ours.members_by_peers(), key=member_id)
        assert len(members) == 2
        ours.stop()
    etcd = Node(
        reference, tmp_path / "theirs", name="same", flags=flags, client_port=ours.client_port, peer_port=ours.peer_port
    )
    snap, wal = etcd.data_dir / "member" / "snap", etcd.data_dir / "member" / "wal"
    snap.mkdir(parents=True, mode=0o700)
    etcd.data_dir.chmod(0o700)
    shutil.copytree(ours.data_dir / "member" / "wal", wal)
    exported = asyncio.run(export_snapshot(ours.data_dir / "member" / "store", snap / "db"))
    mark_snapshot(wal, snap, exported.snapshot)
    with etcd:
        asyncio.run(require_serving(etcd, wanted))
        assert sorted(etcd.members_by_peers(), key=member_id) == members
        assert not any(file.suffix == ".broken" for file in snap.iterdir())
        etcd.stop()
    assert len(read_rows(snap / "db")[MEMBERS_REMOVED]) == 1
    assert read_rows(snap / "db")[CLUSTER][b"clusterVersion"] == b"3.5.0"


async def with_other_members(node: Node) -> None:
    """One that was added and removed, one that stays a learner and never starts."""
    async with Client([node.endpoint], timeout_s=10) as client:
        await client.member_add(["http://127.0.0.1:1"], learner=True)
        gone = next(member for member in await client.members() if member.is_learner)
        await client.member_remove(gone.id)
        await client.member_add(["http://127.0.0.1:1", "http://127.0.0.1:2"], learner=True)


def mark_snapshot(wal_path: Path, snap: Path, snapshot: Snapshot) -> None:
    """What the node does every --snapshot-count entries."""
    wal, _ = Wal.open(wal_path, disk=Disk())
    write_snap(snap, snapshot)
    wal.write_mark(snapshot)
    wal.sync()
    wal.close()
