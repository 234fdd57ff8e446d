"""Edits of spec.engine: members move from one engine to the other and back, one at a time, and nothing is lost.

Not run beside other tests (`make test-e2e`): how long no write was taken is measured, and compared with the promise.
"""

import signal
from pathlib import Path

import pytest

from tests.e2e.local_operator import LocalCluster, local_cluster
from tests.e2e.writer import Writer, assert_nothing_lost
from tests.kit.etcd import EtcdMissing, require_etcd

GAP_S_MAX = 2.0  # as promised
# A proposal that meets a change of leaders may be lost, in etcd too: what is measured is when the cluster takes writes
# again, not how long a client waits for an answer that will not come.
PATIENCE_S = 1.0
MOVE_S_MAX = 60.0


@pytest.fixture(autouse=True)
def _both_engines() -> None:
    try:
        require_etcd()
    except EtcdMissing as why:
        pytest.skip(f"NOT RUN: {why}")


def engines(cluster: LocalCluster) -> dict[str, str]:
    """By member; empty while it has no volume."""
    return {one["name"]: one.get("engine", "") for one in cluster.status()["members"]}


def wait_all_of(cluster: LocalCluster, engine: str, replicas: int = 3) -> None:
    def moved() -> bool:
        return set(engines(cluster).values()) == {engine} and cluster.is_ready(replicas)

    cluster.wait(moved, f"all are of {engine}", MOVE_S_MAX)
    versions = {one["version"] for one in cluster.status()["members"]}
    assert versions == {require_etcd().version if engine == "etcd" else "0.1.0"}


def assert_small_gaps(writer: Writer) -> None:
    print(f"the largest gap between two of {len(writer.acknowledged)} writes: {writer.largest_gap_s:.2f} s")
    assert writer.largest_gap_s < GAP_S_MAX


def assert_kept(cluster: LocalCluster, writer: Writer, cluster_id: str) -> None:
    assert cluster.status()["clusterID"] == cluster_id
    names = {one["name"] for one in cluster.status()["members"]}
    assert cluster.volumes() == set(cluster.pids()) == names
    assert_nothing_lost(writer, cluster.endpoints(len(names)))


def test_cluster_moves_to_the_other_engine_and_back_under_a_writer(tmp_path: Path) -> None:
    with local_cluster(tmp_path, "etcd") as cluster, Writer(cluster.endpoints(3), patience_s=PATIENCE_S) as writer:
        cluster.start()
        cluster.wait_ready(3)
        writer.wait_acknowledged(50)
        cluster_id = cluster.status()["clusterID"]
        for engine in ("kvorum", "etcd"):
            leader = cluster.status()["leader"]
            begun = len(cluster.output())
            cluster.write(replicas=3, engine=engine)
            wait_all_of(cluster, engine)
            removed = [
                line.split()[3] for line in cluster.output()[begun:].splitlines() if " step   RemoveMember" in line
            ]
            assert sorted(name.rstrip(":") for name in removed) == ["c-0", "c-1", "c-2"], "each once"
            assert removed[-1] == f"{leader}:", "the leader last"
            assert f"HandOver {leader} to " in cluster.output()[begun:]
            writer.wait_acknowledged(50)
        writer.stop()
        assert_small_gaps(writer)
        assert_kept(cluster, writer, cluster_id)


def test_move_that_is_turned_round_by_an_edit_survives_killed_operators_and_sleep(tmp_path: Path) -> None:
    with local_cluster(tmp_path, "kvorum") as cluster:
        cluster.start()
        cluster.wait_ready(3)
        with Writer(cluster.endpoints(3), patience_s=PATIENCE_S) as writer:
            writer.wait_acknowledged(50)
            cluster_id = cluster.status()["clusterID"]
            cluster.write(replicas=3, engine="etcd")
            for step in ("RemoveMember", "AddLearner"):
                cluster.wait_line(f"step   {step}", MOVE_S_MAX)
                cluster.end(signal.SIGKILL)
                cluster.start()
            cluster.wait(lambda: sorted(engines(cluster).values()) == ["etcd", "kvorum", "kvorum"], "one moved")
            writer.wait_acknowledged(50)
            writer.stop()
            assert_small_gaps(writer)
            cluster.write(replicas=0, engine="etcd")
            cluster.wait(lambda: cluster.condition("Ready").get("reason") == "Asleep", "it sleeps half way")
            cluster.write(replicas=3, engine="kvorum")
            wait_all_of(cluster, "kvorum")
        assert_kept(cluster, writer, cluster_id)


def test_single_member_moves_by_way_of_three(tmp_path: Path) -> None:
    with (
        local_cluster(tmp_path, "etcd", replicas=1) as cluster,
        Writer(cluster.endpoints(3), patience_s=PATIENCE_S) as writer,
    ):
        cluster.start()
        cluster.wait_ready(1)
        writer.wait_acknowledged(50)
        cluster_id = cluster.status()["clusterID"]
        cluster.write(replicas=1, engine="kvorum")
        line = cluster.wait_line("hold   TooFewMembers: .*")
        assert "spec.replicas to be 3 or more; it may be lowered again afterwards" in line
        assert cluster.condition("Stalled")["status"] == "True"
        cluster.write(replicas=3, engine="kvorum")
        wait_all_of(cluster, "kvorum")
        cluster.write(replicas=1, engine="kvorum")
        wait_all_of(cluster, "kvorum", 1)
        writer.wait_acknowledged(50)
        writer.stop()
        assert_small_gaps(writer)
        assert_kept(cluster, writer, cluster_id)
