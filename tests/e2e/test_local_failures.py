"""Members and operators that are killed, and members that hang."""

import asyncio
import contextlib
import random
import signal
from pathlib import Path

import psutil
from kvorum.client import Client

from tests.e2e.local_operator import OPERATOR, LocalCluster, local_cluster
from tests.e2e.writer import Writer, assert_nothing_lost, read_all
from tests.kit.deadline import DeadlineMissed, wait_until

OPERATOR_KILLS = 8


def member_ids(cluster: LocalCluster) -> dict[str, str]:
    return {one["name"]: one["id"] for one in cluster.status()["members"]}


def assert_no_membership_change(cluster: LocalCluster, before: dict[str, str]) -> None:
    assert member_ids(cluster) == before
    assert not {"AddLearner", "RemoveMember", "Discard"} & set(cluster.output().split())


def wait_all_restarted(cluster: LocalCluster, before: dict[str, int], killed: set[str]) -> None:
    def restarted() -> bool:
        now = cluster.pids()
        return now.keys() == before.keys() and all((now[name] != before[name]) == (name in killed) for name in now)

    cluster.wait(restarted, f"just {sorted(killed)} run anew")
    cluster.wait_ready(len(before))


def test_killed_members_are_back_without_a_membership_change(engine: str, tmp_path: Path) -> None:
    with local_cluster(tmp_path, engine) as cluster:
        cluster.start()
        cluster.wait_ready(3)
        ids = member_ids(cluster)
        leader = cluster.status()["leader"]
        followers = sorted(set(ids) - {leader})
        with Writer(cluster.endpoints(3)) as writer:
            for killed in ({followers[0]}, {leader}, set(followers), set(ids)):
                writer.wait_acknowledged(20)
                pids = cluster.pids()
                cluster.kill(sorted(killed))
                wait_all_restarted(cluster, pids, killed)
                assert_no_membership_change(cluster, ids)
            writer.wait_acknowledged(20)
        assert_nothing_lost(writer, cluster.endpoints(3))


def test_members_outlive_a_killed_operator_and_the_next_takes_over_without_touching_them(
    engine: str, tmp_path: Path
) -> None:
    with local_cluster(tmp_path, engine) as cluster:
        cluster.start()
        cluster.wait_ready(3)
        pids, ids = cluster.pids(), member_ids(cluster)
        with Writer(cluster.endpoints(3), patience_s=10.0) as writer:  # slow is no failure
            cluster.end(signal.SIGKILL)
            writer.wait_acknowledged(50)
            assert cluster.pids() == pids
            cluster.start()
            cluster.wait_line(r"ready +3 of 3 voters serve")
            assert cluster.pids() == pids
            assert " step " not in cluster.output()
            assert_no_membership_change(cluster, ids)
            assert cluster.end(signal.SIGHUP) == 0
            assert cluster.pids() == pids, "SIGHUP leaves members running"
            assert writer.failures_count == 0
        assert_nothing_lost(writer, cluster.endpoints(3))


def test_interrupted_operator_stops_members_cleanly_and_keeps_their_data(engine: str, tmp_path: Path) -> None:
    with local_cluster(tmp_path, engine) as cluster:
        cluster.start()
        cluster.wait_ready(3)
        ids = member_ids(cluster)
        with Writer(cluster.endpoints(3)) as writer:
            writer.wait_acknowledged(50)
        for number in (signal.SIGINT, signal.SIGTERM):
            assert cluster.end(number) == 0
            assert cluster.pids() == {}
            assert cluster.condition("Ready")["reason"] == "Stopped"
            assert "SIGKILL" not in cluster.output()
            cluster.start()
            cluster.wait_line(r"ready +3 of 3 voters serve")
            assert_no_membership_change(cluster, ids)
        assert_nothing_lost(writer, cluster.endpoints(3))


def test_second_interrupt_leaves_members_as_they_are(engine: str, tmp_path: Path) -> None:
    """A member hangs and does not end: nobody has to wait for it."""
    with local_cluster(tmp_path, engine, replicas=1) as cluster:
        cluster.start()
        cluster.wait_ready(1)
        member = psutil.Process(cluster.pids()["c-0"])
        member.suspend()
        cluster.send(signal.SIGINT)
        cluster.wait_line("Ctrl-C again leaves those that still run running")
        assert cluster.end(signal.SIGINT) == 0
        assert f"start again with: {OPERATOR} local -f {cluster.file}" in cluster.output()
        assert cluster.pids() == {"c-0": member.pid}


def test_terminal_shows_a_live_table_and_its_end_leaves_members_running(engine: str, tmp_path: Path) -> None:
    with local_cluster(tmp_path, engine) as cluster:
        with cluster.terminal() as screen:
            screen.wait_text("MEMBER")
            screen.wait_text("Ready=True")
            for text in ("c-0", "leader", "follower", "Serving", "--endpoints="):
                screen.wait_text(text)
            pids = cluster.pids()
            cluster.kill(["c-1"])
            screen.wait_text("StartNodes c-1")
        assert cluster.wait_end() == 0
        assert cluster.pids().keys() == pids.keys()
        assert cluster.pids()["c-0"] == pids["c-0"]


def test_operator_killed_at_random_instants_of_a_change_carries_on(engine: str, tmp_path: Path) -> None:
    instants = random.Random(7)
    with local_cluster(tmp_path, engine, replicas=1) as cluster:
        cluster.start()
        cluster.wait_ready(1)
        with Writer(cluster.endpoints(3)) as writer:
            for wanted in (3, 1):
                writer.wait_acknowledged(20)
                cluster.write(replicas=wanted)
                for _ in range(OPERATOR_KILLS):
                    # In the middle of what follows a step, or of a wait where none is taken for a while.
                    wait_steps(cluster, instants.randrange(1, 3), instants.uniform(0.2, 2.0))
                    cluster.end(signal.SIGKILL)
                    cluster.start()
                cluster.wait_ready(wanted)
                names = {f"c-{ordinal}" for ordinal in range(wanted)}
                wait_running(cluster, names)
                assert cluster.volumes() == names
                assert set(member_ids(cluster)) == names
                writer.wait_acknowledged(20)
        assert_nothing_lost(writer, cluster.endpoints(1))


def wait_steps(cluster: LocalCluster, count: int, longest_s: float) -> None:
    with contextlib.suppress(DeadlineMissed):
        wait_until(lambda: cluster.output().count(" step ") >= count, longest_s, "steps")


def wait_running(cluster: LocalCluster, names: set[str]) -> None:
    cluster.wait(lambda: set(cluster.pids()) == names, f"just {sorted(names)} run")


def state_of(cluster: LocalCluster, name: str) -> str:
    return next(str(one["state"]) for one in cluster.status()["members"] if one["name"] == name)


def test_hung_member_is_reported_and_not_touched(engine: str, tmp_path: Path) -> None:
    with local_cluster(tmp_path, engine) as cluster:
        cluster.start()
        cluster.wait_ready(3)
        victim = next(name for name in ("c-2", "c-1") if name != cluster.status()["leader"])
        pids = cluster.pids()
        process = psutil.Process(pids[victim])
        process.suspend()
        try:
            cluster.wait(lambda: state_of(cluster, victim) == "Unreachable", "its silence is seen")
            assert cluster.pids() == pids
        finally:
            process.resume()
        cluster.wait_ready(3)
        assert cluster.pids() == pids


def test_status_and_labels_are_enough_to_wake_the_same_cluster(engine: str, tmp_path: Path) -> None:
    """The latch of I4: with the status lost the volumes' labels keep a new cluster from being bootstrapped."""

    async def put() -> None:
        async with Client(cluster.endpoints(1), timeout_s=5.0) as client:
            await client.put(b"written/sentinel", b"1")

    with local_cluster(tmp_path, engine, replicas=1) as cluster:
        cluster.start()
        cluster.wait_ready(1)
        asyncio.run(put())
        cluster_id = cluster.status()["clusterID"]
        cluster.end()
        (cluster.state / "status.yaml").unlink()
        cluster.write(replicas=3)
        cluster.start()
        cluster.wait_ready(3)
        assert cluster.status()["clusterID"] == cluster_id
        assert asyncio.run(read_all(cluster.endpoints(3))) == {b"written/sentinel": b"1"}
