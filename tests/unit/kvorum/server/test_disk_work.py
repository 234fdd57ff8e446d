"""What a member does with its disk beside the entries: defragmentation, own snapshots, and an end in their midst."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from kvorum.server import commits, log_writer
from kvorum.server.server import Server
from kvorum.server.settings import Settings
from kvorum.storage.fault import NoSpace, StoreFailed
from kvorum.storage.wal import Wal

from tests.unit.kvorum.server.cluster import SETTINGS, Cluster, Reply, put, read

QUIET = replace(SETTINGS, commit_interval_ms=60_000)  # no commit comes by itself
COMMIT_S = 10.0


def run(
    folder: Path,
    story: Callable[[Cluster, Server], Awaitable[None]],
    settings: Settings = SETTINGS,
    members: int = 1,
) -> None:
    async def told() -> None:
        cluster = await Cluster(folder, settings).start(members)
        try:
            await story(cluster, cluster.leader())
        finally:
            cluster.stop()
        assert cluster.broken == []

    asyncio.run(told())


def test_a_defragmentation_without_space_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async def story(cluster: Cluster, server: Server) -> None:
        space = cluster.space[server.member_id]
        await put(server, b"k", b"v").body()
        space.tables = True
        with pytest.raises(NoSpace):
            await server.commits.defragment()
        space.tables = False
        await asyncio.wait_for(server.commits.defragment(), COMMIT_S)
        await put(server, b"k", b"w").body()
        await asyncio.wait_for(server.commits.catch_up(), COMMIT_S)
        assert b"w" in await read(server, b"k").body()

    run(tmp_path, story, QUIET)


def test_what_a_defragmentation_committed_is_known_to_be_durable(tmp_path: Path) -> None:
    async def story(cluster: Cluster, server: Server) -> None:
        await put(server, b"k", b"v").body()
        await server.commits.defragment()
        await asyncio.wait_for(server.commits.catch_up(), COMMIT_S)  # nothing is left, and nobody waits for it

    run(tmp_path, story, QUIET)


def test_a_member_may_be_stopped_while_it_defragments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(cluster: Cluster, server: Server) -> None:
        await put(server, b"k", b"v").body()
        begun, go_on = threading.Event(), threading.Event()
        begin = server.store.begin_defragment

        def begin_slowly() -> Callable[[], None]:
            copy = begin()

            def wait_and_copy() -> None:
                begun.set()
                assert go_on.wait(COMMIT_S)
                copy()

            return wait_and_copy

        monkeypatch.setattr(server.store, "begin_defragment", begin_slowly)
        defragmenting = asyncio.ensure_future(server.commits.defragment())
        await asyncio.get_running_loop().run_in_executor(None, begun.wait, COMMIT_S)
        await put(server, b"k", b"w").body()
        go_on.set()
        server.stop()
        with contextlib.suppress(asyncio.CancelledError):
            await defragmenting
        again = cluster.restart(server.member_id)
        await cluster.elected()
        assert b"w" in await read(again, b"k").body()

    run(tmp_path, story)


def test_snapshots_get_their_turn_under_writes_that_never_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests come while the slow disk syncs, so the next sync begins as soon as one ends."""
    monkeypatch.setattr(log_writer, "SYNC_INLINE_S", -1.0)  # every sync goes to the thread
    sync = Wal.sync

    def sync_slowly(wal: Wal) -> None:
        time.sleep(0.004)
        sync(wal)

    monkeypatch.setattr(Wal, "sync", sync_slowly)

    async def story(cluster: Cluster, server: Server) -> None:
        loop = asyncio.get_running_loop()
        replies: list[Reply] = []
        writing = True

        def write() -> None:
            if writing:
                replies.append(put(server, b"k", b"v"))
                loop.call_later(0.001, write)

        write()
        await cluster.until(lambda: server.snapshots.taken_count >= 3, "three snapshots")
        writing = False
        for reply in replies:
            await reply.body()

    run(tmp_path, story, replace(SETTINGS, snapshot_count=50, snapshot_catch_up_entries=5))


def test_tables_without_space_hold_up_a_follower_and_not_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log has space of its own, so the cluster goes on, and so would it."""
    monkeypatch.setattr(commits, "PENDING_ROWS_MAX", 100)

    async def story(cluster: Cluster, server: Server) -> None:
        follower = cluster.follower()
        cluster.space[follower.member_id].tables = True
        await put(server, b"first", b"v").body()
        await cluster.until(lambda: follower.commits.has_failed, "it knows that there is no space")
        for number in range(1000):
            await put(server, b"k%d" % number, b"v").body()
        await cluster.until(lambda: follower.machine.applied_index > 0, "it began")
        assert follower.store.pending_count < 1000
        cluster.space[follower.member_id].tables = False
        await cluster.until(lambda: follower.machine.revision == server.machine.revision, "it goes on")

    run(tmp_path, story, members=3)


def test_a_commit_that_fails_ends_the_process_also_where_a_defragmentation_asked_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(cluster: Cluster, server: Server) -> None:
        def fail(*_: object) -> None:
            raise StoreFailed(tmp_path, "commit", "the disk is broken", "Replace it.")

        await put(server, b"k", b"v").body()
        with monkeypatch.context() as broken:
            broken.setattr(server.store, "_fill", fail)
            with pytest.raises(StoreFailed):
                await server.commits.defragment()
        assert [str(error) for error in cluster.broken] != []
        cluster.broken.clear()

    run(tmp_path, story, QUIET)
