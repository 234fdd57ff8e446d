"""Snapshots that cannot be made, sent or taken in: nobody ends, no disk is filled, nothing is tried without a pause."""

import gc
import sys
import time
import weakref
from pathlib import Path

import pytest
from kvorum.server import snapshots
from kvorum.server.snapshot_db import ConversionFailed
from kvorum.state.machine import Machine

from tests.kit.deadline import wait_until
from tests.unit.kvorum.server.cluster import DEADLINE_S, Cluster
from tests.unit.kvorum.server.test_server import run
from tests.unit.kvorum.server.test_snapshots import SMALL, hashes_equal, left_behind, names, write

FREE_BYTES = 30 << 20


def test_a_helper_that_dies_without_a_word_ends_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the program was replaced under a running member."""

    async def story(cluster: Cluster) -> None:
        lonely = await left_behind(cluster)
        leader = cluster.leader()
        with monkeypatch.context() as broken:
            broken.setattr(sys, "executable", "/bin/false")
            with pytest.raises(ConversionFailed, match=r"status 1 and no answer.*\n.*/bin/false -m"):
                async with leader.snapshots.exported():
                    pass
            broken.setattr(sys, "executable", str(tmp_path / "absent"))
            with pytest.raises(ConversionFailed, match="no process could be started"):
                async with leader.snapshots.exported():
                    pass
            cluster.heal()
            await cluster.until(lambda: bool(leader.snapshots._send_pause_s), "a snapshot for the follower failed")
        await cluster.until(lambda: lonely.snapshots.received_count == 1, "the snapshot, once it can be made")
        await hashes_equal(cluster, lonely, leader)
        assert leader.snapshots._send_pause_s == {}, "the next failure pauses as the first one did"

    run(tmp_path, 3, story, **SMALL)


def test_between_tries_the_pause_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "SEND_PAUSE_S", 0.2)
    tries: list[float] = []

    async def export(*_: object) -> None:
        tries.append(time.monotonic())
        raise ConversionFailed("not now")

    monkeypatch.setattr(snapshots, "export_snapshot", export)

    async def story(cluster: Cluster) -> None:
        await left_behind(cluster)
        cluster.heal()
        await cluster.until(lambda: len(tries) == 4, "four tries")
        assert tries[3] - tries[0] >= 0.2 + 0.4 + 0.8

    run(tmp_path, 3, story, **SMALL)


def test_a_copy_that_would_fill_the_disk_is_not_begun(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        server = cluster.leader()
        await write(server, 0, 200, size=100_000)
        await server.commits.catch_up()
        await write(server, 0, 1)
        await server.commits.catch_up()  # its size is known once the next commit has begun
        cluster.space[server.member_id].free_bytes = FREE_BYTES
        with pytest.raises(ConversionFailed, match=r"no space for a copy of the database, \d+ MiB are missing"):
            async with server.snapshots.exported():
                pass
        assert not server.full_disk.is_full
        assert names(cluster.files(server.member_id).directory) == []
        cluster.space[server.member_id].free_bytes = 10 * FREE_BYTES
        async with server.snapshots.exported() as path:
            assert path.stat().st_size > 0

    run(tmp_path, 1, story)


def test_tables_of_senders_that_gave_up_are_gone_before_the_next_come(tmp_path: Path) -> None:
    """Each would take as much space as the database, and comes under another index."""

    async def story(cluster: Cluster) -> None:
        lonely = await left_behind(cluster)
        member = cluster.files(lonely.member_id).store_path.parent
        for name in ("store.incoming-0000000000000005", "store.incoming-0000000000000006.tmp"):
            (member / name).mkdir()
        cluster.heal()
        await cluster.until(lambda: lonely.snapshots.received_count == 1, "the snapshot")
        assert [name for name in names(member) if name.startswith("store.incoming")] == []

    run(tmp_path, 3, story, **SMALL)


def test_what_a_snapshot_replaces_is_free_at_once(tmp_path: Path) -> None:
    """The collector never comes to what was there at the start, and walks the rest for half a second."""

    async def story(cluster: Cluster) -> None:
        lonely = await left_behind(cluster)
        before: weakref.ref[Machine] = weakref.ref(lonely.machine)
        gc.collect()
        gc.disable()
        try:
            cluster.heal()
            await cluster.until(lambda: lonely.snapshots.received_count == 1, "the snapshot")
            await cluster.until(lambda: before() is None, "the state before it is gone")
        finally:
            gc.enable()

    run(tmp_path, 3, story, **SMALL)


def test_tables_on_the_way_to_their_place_are_nobodys_to_clear_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another snapshot arrives while the first one's tables are renamed: it has to wait."""

    async def story(cluster: Cluster) -> None:
        lonely = await left_behind(cluster)
        files = lonely.snapshots._files
        swap = files.swap_in
        busy: list[bool] = []

        def swap_in(index: int) -> None:
            busy.append(lonely.snapshots._arrived is not None)
            lonely.loop.call_soon_threadsafe(lonely.snapshots._compact)  # whatever it finds, the log is not there yet
            swap(index)

        monkeypatch.setattr(files, "swap_in", swap_in)
        cluster.heal()
        await cluster.until(lambda: lonely.snapshots.received_count == 1, "the snapshot")
        assert busy == [True]
        await hashes_equal(cluster, lonely, cluster.leader())

    run(tmp_path, 3, story, **SMALL)


def test_a_member_may_be_stopped_while_a_snapshot_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(cluster: Cluster) -> None:
        lonely = await left_behind(cluster)
        files = lonely.snapshots._files
        swap = files.swap_in

        def swap_in(index: int) -> None:
            lonely.loop.call_soon_threadsafe(lonely.stop)
            wait_until(lambda: lonely.stopped, DEADLINE_S, "it is told to stop")
            swap(index)

        monkeypatch.setattr(files, "swap_in", swap_in)
        cluster.heal()
        await cluster.until(lambda: lonely.stopped, "it stops")
        again = cluster.restart(lonely.member_id)
        await cluster.until(lambda: again.machine.revision == cluster.leader().machine.revision, "it goes on")
        await hashes_equal(cluster, again, cluster.leader())

    run(tmp_path, 3, story, **SMALL)
