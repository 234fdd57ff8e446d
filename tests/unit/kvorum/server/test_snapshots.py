"""A member's own snapshots, and those that one member sends to another, on real members with real files."""

import asyncio
import errno
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.raft import change_codec
from kvorum.raft.message import ConfState, Entry, HardState, Message, MessageType, Snapshot
from kvorum.raft.progress import ProgressState
from kvorum.server.hashing import hash_kv
from kvorum.server.server import Server
from kvorum.server.snapshots import SnapshotRefused, insist, raft_log_from
from kvorum.server.watch_hub import Watcher
from kvorum.state import membership
from kvorum.state.machine import Machine
from kvorum.state.membership import Member, add_change
from kvorum.state.row import revision_key
from kvorum.state.v2_tree import decode_v2_tree, encode_v2_tree
from kvorum.storage.bbolt_writer import write_bbolt
from kvorum.storage.entry_codec import encode_metadata
from kvorum.storage.fault import SnapFailed
from kvorum.storage.lmdb_store import LmdbStore
from kvorum.storage.replay import Replay
from kvorum.storage.snap_file import newest_snap
from kvorum.storage.wal import Wal

from tests.unit.kvorum.server.cluster import DEADLINE_S, SETTINGS, Cluster, Reply, propose, put, read
from tests.unit.kvorum.server.test_server import run, value_of
from tests.unit.kvorum.server.test_watch_hub import Client

SMALL: dict[str, object] = {"snapshot_count": 20, "snapshot_catch_up_entries": 5}


async def write(server: Server, first: int, count: int, size: int = 10) -> None:
    for start in range(first, first + count, 50):
        replies = [put(server, b"k%05d" % n, b"v" * size) for n in range(start, min(start + 50, first + count))]
        for reply in replies:
            await reply.body()


async def write_until(server: Server, done: Callable[[], bool], size: int = 10) -> None:
    """A snapshot is begun when an entry is applied, and not before the last one is done."""
    deadline = time.monotonic() + DEADLINE_S
    while not done():
        assert time.monotonic() < deadline, server.snapshots.taken_count
        await write(server, 0, 10, size)


async def hashes_equal(cluster: Cluster, *servers: Server) -> None:
    revision = max(server.machine.revision for server in servers)
    await cluster.until(lambda: all(server.machine.revision == revision for server in servers), "one revision")
    hashes = {str(await hash_kv(server, revision)) for server in servers}
    assert len(hashes) == 1, hashes
    leases = [[(lease.id, lease.ttl_s, lease.sorted_keys()) for lease in server.machine.leases] for server in servers]
    assert leases == [leases[0]] * len(servers)
    members = [server.machine.membership.members for server in servers]
    assert members == [members[0]] * len(servers)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- its own


def test_after_so_many_entries_a_snapshot_is_taken_and_the_log_is_short(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        log = server.snapshots._raft_log
        await write(server, 0, 60)
        await cluster.until(lambda: server.snapshots.taken_count > 0, "a snapshot")
        await cluster.until(lambda: log.first_index > 1, "a compacted log")
        taken = newest_snap(tmp_path / "n1" / "snap", marks(tmp_path / "n1"))
        assert taken is not None
        assert taken.index == log.first_index - 1 + 5
        never_started = [replace(member, name="") for member in server.machine.membership.members]
        assert decode_v2_tree(taken.data).members == never_started
        assert taken.conf_state == server.machine.conf_state

    run(tmp_path, 1, story, **SMALL)


def marks(folder: Path) -> list[Snapshot]:
    """Of a log that is in use: of a copy of it."""
    copy = folder.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder / "wal", copy)
    wal, replay = Wal.open(copy, segment_bytes=1 << 20)
    wal.close()
    return [replay.snapshot]


def test_memory_of_the_log_stays_bounded_under_load(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        log = server.snapshots._raft_log
        most = 0
        for start in range(0, 4000, 100):
            await write(server, start, 100)
            most = max(most, log.last_index - log.first_index + 1)
        await cluster.until(lambda: log.last_index - log.first_index < 500 + 50 + 50, "what is left is compacted")
        assert most < 2000, most

    run(tmp_path, 1, story, snapshot_count=500, snapshot_catch_up_entries=50)


def test_old_snapshots_and_segments_are_deleted(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        folder = tmp_path / "n1"
        await write_until(server, lambda: server.snapshots.taken_count >= 5, size=20_000)
        await cluster.until(lambda: len(names(folder / "snap")) <= 3, "few files")
        await cluster.until(lambda: only_needed_segments(folder), "few segments")

    run(tmp_path, 1, story, snapshot_count=50, snapshot_catch_up_entries=5, snapshots_max=3, wals_max=2)
    restarted(tmp_path, lambda server: server.machine.revision > 250)


def only_needed_segments(folder: Path) -> bool:
    """Whether two segments are left, or one alone begins at or before the oldest snapshot that is kept."""
    oldest_index = min(int(name[17:33], 16) for name in names(folder / "snap") if name.endswith(".snap"))
    first_indexes = [int(path.name[17:33], 16) for path in (folder / "wal").glob("*.wal")]
    return len(first_indexes) == 2 or sum(first_index <= oldest_index for first_index in first_indexes) == 1


def restarted(folder: Path, holds: Callable[[Server], bool]) -> None:
    """n1 alone, once more from its disk."""

    async def told() -> None:
        cluster = Cluster(folder)
        cluster.adopt(1)
        await cluster.elected()
        assert holds(cluster.leader())
        await put(cluster.leader(), b"again", b"v").body()
        cluster.stop()

    asyncio.run(told())


def test_a_restart_goes_on_from_the_snapshot(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        await write_until(cluster.leader(), lambda: cluster.leader().snapshots.taken_count >= 2)

    run(tmp_path, 1, story, **SMALL)
    restarted(tmp_path, lambda server: server.machine.revision > 40 and server.snapshots._files.marked_index > 40)


def test_a_snapshot_file_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        shutil.rmtree(tmp_path / "n1" / "snap")
        await write(server, 0, 40)
        (tmp_path / "n1" / "snap").mkdir()
        await write_until(server, lambda: server.snapshots.taken_count >= 1)

    run(tmp_path, 1, story, **SMALL)


def test_a_log_that_forgot_how_far_was_committed_is_told_by_the_tables(tmp_path: Path) -> None:
    """A commit index alone is written without a sync. The first thing such a member does may be a snapshot."""
    folder = tmp_path / "n1"
    for part in ("", "snap"):
        (folder / part).mkdir()
    members = membership.bootstrap_members([(f"n{n}", (f"http://127.0.0.1:{n}",)) for n in (1, 2, 3)], "t")
    changes = membership.bootstrap_entries(members)
    log = [*changes, *(Entry(1, index) for index in range(4, 31))]
    own = next(member for member in members if member.name == "n1")
    Wal.create(folder / "wal", encode_metadata(own.id, 1), HardState(1, 0, 3), log, segment_bytes=1 << 20).close()
    machine = machine_at(tmp_path, 0, 0, folder / "store")
    for entry in changes:
        machine.apply_conf_change(entry, change_codec.decode_single(entry.data))
    machine.set_conf_state(ConfState(tuple(sorted(member.id for member in members))))
    for entry in log[3:]:
        machine.apply(entry, answering=False)
    machine.checkpoint()
    store = machine._store
    assert isinstance(store, LmdbStore)
    store.commit()
    store.close()

    async def told() -> None:
        cluster = Cluster(tmp_path, replace(SETTINGS, **SMALL))  # type: ignore[arg-type]  # two of its settings
        cluster.adopt(1)
        await cluster.until(lambda: cluster.servers[own.id].snapshots.taken_count == 1 or bool(cluster.broken), "it")
        cluster.stop()

    asyncio.run(told())


def test_what_must_be_written_waits_for_space_and_for_nothing_else() -> None:
    tries: list[OSError | None] = [OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "broken"), None]

    def write() -> None:
        error = tries.pop(0)
        if error is not None:
            raise SnapFailed(Path("snap"), "write the snapshot", error)

    with pytest.raises(SnapFailed, match="broken"):
        asyncio.run(insist(write))
    asyncio.run(insist(write))
    assert not tries


# -- the log that a restart begins with


def machine_at(folder: Path, index: int, term: int, store: Path | None = None) -> Machine:
    machine = Machine(LmdbStore.open(store or folder / f"store{index}"), lease_ttl_min_s=1, quota_bytes=-1)
    machine.load()
    machine.applied_index, machine.applied_term = index, term
    return machine


def entries(first: int, last: int) -> list[Entry]:
    return [Entry(2, index) for index in range(first, last + 1)]


@pytest.mark.parametrize(
    ("log", "mark", "applied", "catch_up", "first", "last"),
    [
        (entries(1, 10), Snapshot(), 8, 100, 1, 10),
        (entries(1, 10), Snapshot(), 8, 3, 6, 10),
        (
            entries(5, 10),
            Snapshot(7, 2),
            8,
            100,
            6,
            10,
        ),  # 4 is purged: the log begins after 5
        (entries(8, 10), Snapshot(7, 2), 7, 100, 8, 10),
        ([], Snapshot(7, 2), 7, 100, 8, 7),
    ],
)
def test_the_log_reaches_as_far_back_as_it_is_known_and_wanted(
    tmp_path: Path, log: list[Entry], mark: Snapshot, applied: int, catch_up: int, first: int, last: int
) -> None:
    replay = Replay(b"", HardState(2, 1, applied), log, mark)
    storage = raft_log_from(replay, machine_at(tmp_path, applied, 2), catch_up)
    assert (storage.first_index, storage.last_index) == (first, last)
    assert storage.term(first - 1) == (2 if first > 1 else 0)
    snapshot = storage.snapshot()
    assert snapshot is not None
    assert first - 1 <= snapshot.index <= applied


# -- from one to another


async def joined(leader: Server, member: Member) -> None:
    reply = Reply()
    leader.propose_conf_change(add_change(member, leader.ids.next()), reply)
    await reply.body()


async def left_behind(cluster: Cluster, count: int = 60) -> Server:
    """A follower that is cut off until the log has nothing for it any more."""
    lonely = cluster.follower()
    cluster.cut_off(lonely.member_id)
    leader = cluster.leader()
    await write(leader, 0, count)
    log = leader.snapshots._raft_log
    await cluster.until(lambda: log.first_index > lonely.raft.log.last_index + 1, "the log has left it behind")
    return lonely


def test_a_follower_behind_the_log_gets_a_snapshot_and_goes_on(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        leader = cluster.leader()
        await propose(leader, b"\x42", rpc.LeaseGrantRequest(ID=7, TTL=600)).body()
        await put(leader, b"leased", b"v", lease=7).body()
        lonely = await left_behind(cluster)
        await propose(leader, b"\x3a", rpc.CompactionRequest(revision=10)).body()
        await joined(leader, Member(99, ("http://127.0.0.1:99",), is_learner=True))
        await propose(leader, b"\x52", rpc.AlarmRequest(action="ACTIVATE", memberID=99, alarm="NOSPACE")).body()
        dialed: dict[int, tuple[str, ...]] = {}
        cluster.wires[lonely.member_id].dialed = dialed
        cluster.heal()
        await cluster.until(lambda: lonely.snapshots.received_count == 1, "the snapshot")
        assert [alarm.memberID for alarm in lonely.machine.alarms.active()] == [99]
        assert set(dialed) == {member.id for member in leader.machine.membership.members} - {lonely.member_id}
        assert lonely.raft.config.learners == {99}
        await propose(leader, b"\x52", rpc.AlarmRequest(action="DEACTIVATE", memberID=99, alarm="NOSPACE")).body()
        await write(leader, 500, 30)
        await hashes_equal(cluster, *cluster.servers.values())
        assert lonely.machine.compact_revision == 10
        assert value_of(await read(lonely, b"k00529").body())
        folder = cluster.files(lonely.member_id).store_path.parent
        await cluster.until(lambda: not [name for name in names(folder) if name.startswith("store.")], "one store")
        await cluster.until(lambda: leader.snapshots.sent_count == 1, "it is told so")
        await cluster.until(
            lambda: leader.raft.tracked[lonely.member_id].state is ProgressState.REPLICATE, "it replicates again"
        )
        for server in cluster.servers.values():
            snap = server.snapshots._files.directory
            await cluster.until(lambda snap=snap: not list(snap.glob("*.db")), "no database is left")  # type: ignore[misc]  # bound now

    run(tmp_path, 3, story, **SMALL)


def test_who_got_a_snapshot_restarts_from_it(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        lonely = await left_behind(cluster)
        cluster.heal()
        await cluster.until(lambda: lonely.snapshots.received_count == 1, "the snapshot")
        cluster.stop_one(lonely.member_id)
        await write(cluster.leader(), 500, 3)
        again = cluster.restart(lonely.member_id)
        await write(cluster.leader(), 600, 3)
        await hashes_equal(cluster, again, cluster.leader())
        assert again.snapshots.received_count == 0

    run(tmp_path, 3, story, **SMALL)


def test_watchers_are_told_what_the_snapshot_brought_or_that_it_is_compacted(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        lonely = cluster.follower()
        leader = cluster.leader()
        await put(leader, b"a", b"before").body()
        await cluster.until(lambda: lonely.machine.revision == 2, "the first put")
        live, old, future = Client(), Client(), Client()
        lonely.watches.add(Watcher(live, 1, b"a", b"", start_revision=3))
        lonely.watches.add(Watcher(future, 3, b"a", b"", start_revision=64))
        await left_behind_of(cluster, lonely)
        await put(leader, b"a", b"after").body()
        cluster.heal()
        await cluster.until(lambda: lonely.snapshots.received_count == 1, "the snapshot")
        await put(leader, b"a", b"live").body()
        await cluster.until(lambda: len(live.events) == 2, "what happened meanwhile, and then")
        assert [value for _, _, value in live.events] == [b"after", b"live"]
        await cluster.until(lambda: len(future.events) >= 1, "what was asked for beforehand")
        assert all(revision >= 64 for revision, _, _ in future.events)

        cluster.cut_off(lonely.member_id)
        lonely.watches.add(Watcher(old, 2, b"a", b"", start_revision=lonely.machine.revision + 1))
        await write(leader, 200, 60)
        await propose(leader, b"\x3a", rpc.CompactionRequest(revision=leader.machine.revision - 1)).body()
        await write(leader, 300, 60)
        cluster.heal()
        await cluster.until(lambda: lonely.snapshots.received_count == 2, "the second snapshot")
        await cluster.until(lambda: old.ended == [2], "it is told that its past is gone")
        assert old.responses[-1].compact_revision == lonely.machine.compact_revision

    run(tmp_path, 3, story, **SMALL, log_kept_after_snapshot_s=0.0)


async def left_behind_of(cluster: Cluster, lonely: Server) -> None:
    cluster.cut_off(lonely.member_id)
    leader = cluster.leader()
    await write(leader, 0, 60)
    await cluster.until(
        lambda: leader.snapshots._raft_log.first_index > lonely.raft.log.last_index + 1, "the log has left it behind"
    )


def test_a_snapshot_that_does_not_arrive_is_sent_again(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        lonely = await left_behind(cluster)
        wire = cluster.wires[cluster.leader().member_id]
        tries = []

        def broken(message: Message) -> Message:
            tries.append(message)
            assert message.snapshot is not None
            if len(tries) > 1:
                return message
            return replace(message, snapshot=replace(message.snapshot, data=b"no tree"))

        wire.changed = broken
        cluster.heal()
        await cluster.until(lambda: lonely.snapshots.received_count == 1, "the second try")
        assert len(tries) == 2
        await hashes_equal(cluster, lonely, cluster.leader())

    run(tmp_path, 3, story, **SMALL)


def test_a_database_of_another_index_is_refused(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        lonely = await left_behind(cluster)
        wire = cluster.wires[cluster.leader().member_id]
        indexes = []

        def moved(message: Message) -> Message:
            assert message.snapshot is not None
            indexes.append(message.snapshot.index)
            by = {1: 3, 2: -3}.get(len(indexes), 0)
            return replace(message, snapshot=replace(message.snapshot, index=message.snapshot.index + by))

        wire.changed = moved
        cluster.heal()
        await cluster.until(lambda: lonely.snapshots.received_count == 1, "the right one")
        assert len(indexes) == 3
        folder = cluster.files(lonely.member_id).store_path.parent
        await cluster.until(lambda: not [name for name in names(folder) if name.startswith("store.")], "one store")
        await hashes_equal(cluster, lonely, cluster.leader())

    run(tmp_path, 3, story, **SMALL)


def test_a_snapshot_that_says_nothing_new_changes_nothing(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        lonely = await left_behind(cluster)
        leader = cluster.leader()
        cluster.heal()
        await cluster.until(lambda: lonely.snapshots.received_count == 1, "the snapshot")
        await write(leader, 100, 3)
        stale = Snapshot(5, 1, lonely.machine.conf_state, b"{}")
        message = Message(MessageType.SNAPSHOT, lonely.member_id, leader.member_id, leader.raft.term, snapshot=stale)
        taking = lonely.snapshots.receive(message)
        taking.write(b"anything")
        assert await taking.finish() is None
        await write(leader, 200, 3)
        await hashes_equal(cluster, lonely, leader)
        assert lonely.snapshots.received_count == 1

    run(tmp_path, 3, story, **SMALL)


@pytest.mark.parametrize(
    ("size", "why"),
    [(None, "a row of its database cannot be read"), (3 * 4096, "is missing: the file ends"), (0, "meta page")],
    ids=["rows that are none", "missing pages", "empty"],
)
def test_a_damaged_database_is_refused_and_the_member_goes_on(tmp_path: Path, size: int | None, why: str) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.follower()
        leader = cluster.leader()
        index = server.raft.log.committed + 50
        write_bbolt(
            tmp_path / "db",
            [
                (b"key", [(revision_key(2, 0), b"\xff\xff\xff")]),
                (b"meta", [(b"consistent_index", index.to_bytes(8, "big")), (b"term", (2).to_bytes(8, "big"))]),
            ],
        )
        snapshot = Snapshot(index, 2, server.machine.conf_state, encode_v2_tree(server.machine.v2))
        message = Message(MessageType.SNAPSHOT, server.member_id, leader.member_id, leader.raft.term, snapshot=snapshot)
        taking = server.snapshots.receive(message)
        taking.write((tmp_path / "db").read_bytes()[:size])
        refused = await taking.finish()
        assert refused is not None
        assert why in refused
        folder = cluster.files(server.member_id).store_path.parent
        await cluster.until(lambda: "store" in names(folder) and len(names(folder)) == 3, "nothing is left of it")
        await cluster.until(lambda: not list((folder / "snap").glob("*.db")), "no file either")
        await write(leader, 0, 3)
        await hashes_equal(cluster, server, leader)

    run(tmp_path, 3, story)


def coming(server: Server, index: int) -> Message:
    """A snapshot from the leader, which is not there yet."""
    tree = encode_v2_tree(server.machine.v2)
    snapshot = Snapshot(index, server.raft.term, server.machine.conf_state, tree)
    return Message(MessageType.SNAPSHOT, server.member_id, server.raft.leader, server.raft.term, snapshot=snapshot)


def test_one_snapshot_is_received_at_a_time_and_one_that_is_given_up_makes_room(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.follower()
        index = server.raft.log.committed + 50
        first = server.snapshots.receive(coming(server, index))
        first.write(b"x" * 100_000)
        with pytest.raises(SnapshotRefused, match="another snapshot is being received"):
            server.snapshots.receive(coming(server, index + 10))
        first.abandon()
        await cluster.until(lambda: not server.snapshots._receiving, "it is given up")
        snap = server.snapshots._files.directory
        await cluster.until(lambda: not list(snap.glob("*.db")), "its file is removed")
        server.snapshots.receive(coming(server, index + 10)).abandon()
        with pytest.raises(SnapshotRefused, match="not a member that may send it here"):
            server.snapshots.receive(replace(coming(server, index), to=server.member_id + 1))

    run(tmp_path, 3, story)


def test_one_snapshot_is_sent_to_a_member_at_a_time_and_few_in_all(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        leader = cluster.leader()
        others = [server.member_id for server in cluster.servers.values() if server is not leader]
        for to in (others[0], others[0], others[1], 98, 99):
            snapshot = Snapshot(1, 1, leader.machine.conf_state)
            leader.snapshots.send(
                Message(MessageType.SNAPSHOT, to, leader.member_id, leader.raft.term, snapshot=snapshot)
            )
        assert leader.snapshots._sending == set(others)
        assert leader.snapshots._keeping == 2
        await cluster.until(lambda: not leader.snapshots._sending, "they have left")
        assert leader.snapshots.sent_count == 2
        await write(leader, 0, 3)
        await hashes_equal(cluster, *cluster.servers.values())

    run(tmp_path, 3, story)


def test_the_tables_hold_what_a_mark_in_the_log_says(tmp_path: Path) -> None:
    """Else the log could be cut behind what a crash takes away."""

    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        await write_until(server, lambda: server.snapshots.taken_count >= 2)
        (mark,) = marks(tmp_path / "n1")
        shutil.copytree(tmp_path / "n1" / "store", tmp_path / "tables")
        store = LmdbStore.open(tmp_path / "tables")
        machine = Machine(store, lease_ttl_min_s=1, quota_bytes=-1)
        machine.load()
        assert machine.applied_index >= mark.index > 0
        store.close()

    run(tmp_path, 1, story, **SMALL, commit_interval_ms=60_000)


def test_the_log_stays_while_a_snapshot_is_under_way_and_a_while_after(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        lonely = await left_behind(cluster)
        leader = cluster.leader()
        log = leader.snapshots._raft_log
        first_index = log.first_index
        cluster.heal()
        await cluster.until(lambda: leader.snapshots._keeping == 1, "it is on its way")
        await write(leader, 100, 100)
        assert log.first_index == first_index
        await cluster.until(lambda: leader.snapshots.sent_count == 1, "it has arrived")
        assert log.first_index == first_index
        await cluster.until(lambda: log.first_index > first_index, "the log is compacted")
        await hashes_equal(cluster, lonely, leader)

    run(tmp_path, 3, story, **SMALL, log_kept_after_snapshot_s=0.3)


def test_the_loop_never_works_long_while_a_snapshot_of_100k_keys_is_made(tmp_path: Path) -> None:
    """Counted is what the loop's thread computes within one turn: the machine may be busy with other things."""
    turns_s: list[float] = []

    async def watch() -> None:
        while True:
            started = time.thread_time()
            await asyncio.sleep(0)
            turns_s.append(time.thread_time() - started)

    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        for start in range(0, 100_000, 5000):
            replies = [put(server, b"k%06d" % n, b"v" * 100) for n in range(start, start + 5000)]
            await replies[-1].body()
        watching = asyncio.get_running_loop().create_task(watch())
        puts_count = 0
        exporting = asyncio.get_running_loop().create_task(exported(server))
        while not exporting.done():
            await put(server, b"while", b"it is made").body()
            puts_count += 1
        watching.cancel()
        assert await exporting > 100_000 * 100
        assert puts_count > 20
        longest_s = max(turns_s)
        print(f"{len(turns_s)} turns, the longest {longest_s * 1000:.1f} ms; {puts_count} puts meanwhile")
        assert longest_s < 0.01

    run(tmp_path, 1, story, snapshot_count=20_000, snapshot_catch_up_entries=100)


def test_what_was_answered_is_in_a_database_that_is_asked_for_afterwards(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        for n in range(3):
            await put(server, b"key %d" % n, b"v").body()
            async with server.snapshots.exported() as path:
                assert b"key %d" % n in path.read_bytes()
            await cluster.until(lambda: not list((tmp_path / "n1" / "snap").glob("*.db")), "it is removed")

    run(tmp_path, 1, story, commit_interval_ms=60_000)


async def exported(server: Server) -> int:
    """Size of the file, in bytes."""
    async with server.snapshots.exported() as path:
        return path.stat().st_size
