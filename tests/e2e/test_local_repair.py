"""Members whose data is gone are replaced in place while a quorum holds, and never without one."""

import shutil
import signal
from pathlib import Path

from tests.e2e.local_operator import LocalCluster, local_cluster
from tests.e2e.writer import Writer, assert_nothing_lost

THREE = {"c-0", "c-1", "c-2"}


def member_ids(cluster: LocalCluster) -> dict[str, str]:
    return {one["name"]: one.get("id", "") for one in cluster.status()["members"]}


def wait_replaced(cluster: LocalCluster, name: str, before: dict[str, str]) -> None:
    """It is a voter again under another id, and the others stayed who they were."""

    def replaced() -> bool:
        now = member_ids(cluster)
        return now.keys() == THREE and now[name] != before[name] and cluster.is_ready(3)

    cluster.wait(replaced, f"{name} is replaced")
    now = member_ids(cluster)
    assert {one for one in THREE if now[one] != before[one]} == {name}
    assert cluster.volumes() == THREE
    assert cluster.pids().keys() == THREE


def test_member_whose_data_is_gone_is_replaced_in_place_and_nothing_is_lost(engine: str, tmp_path: Path) -> None:
    with local_cluster(tmp_path, engine) as cluster, Writer(cluster.endpoints(3)) as writer:
        cluster.start()
        cluster.wait_ready(3)
        writer.wait_acknowledged(50)
        cluster_id = cluster.status()["clusterID"]

        # A follower without its volume.
        ids, leader = member_ids(cluster), cluster.status()["leader"]
        first, second = sorted(THREE - {leader})
        shutil.rmtree(cluster.state / "volumes" / first)
        cluster.kill([first])
        wait_replaced(cluster, first, ids)
        assert "its volume is gone; it is replaced in place" in cluster.output()

        # The other with an empty one, whose labels are still there: its own refusal is the evidence.
        ids = member_ids(cluster)
        cluster.send(signal.SIGSTOP)  # so that nobody restarts it before its data is gone
        cluster.kill([second])
        shutil.rmtree(cluster.state / "volumes" / second / "data")
        cluster.send(signal.SIGCONT)
        wait_replaced(cluster, second, ids)
        assert f"RemoveMember {second}: the data of {second} is lost: " in cluster.output()

        # The leader's, beneath its running node: it hands over first.
        ids, leader = member_ids(cluster), cluster.status()["leader"]
        shutil.rmtree(cluster.state / "volumes" / leader)
        wait_replaced(cluster, leader, ids)
        assert f"HandOver {leader} to " in cluster.output()

        writer.wait_acknowledged(50)
        writer.stop()
        print(
            f"{engine}: the largest gap between two of {len(writer.acknowledged)} writes: {writer.largest_gap_s:.2f} s"
        )
        assert cluster.status()["clusterID"] == cluster_id
        assert_nothing_lost(writer, cluster.endpoints(3))


def test_without_a_quorum_nobody_is_replaced_and_data_that_is_put_back_brings_it_up(
    engine: str, tmp_path: Path
) -> None:
    with local_cluster(tmp_path, engine) as cluster:
        cluster.start()
        cluster.wait_ready(3)
        with Writer(cluster.endpoints(3)) as writer:
            writer.wait_acknowledged(50)
        ids = member_ids(cluster)
        for name in ("c-1", "c-2"):
            (cluster.state / "volumes" / name).rename(tmp_path / name)
        cluster.kill(["c-1", "c-2"])
        line = cluster.wait_line("hold   MemberDataLost: without a quorum nobody is replaced; .*")
        assert "c-1 (its volume is gone), c-2 (its volume is gone)" in line
        assert "the cluster to be stopped and the data of c-1 put back" in line
        assert cluster.condition("Stalled")["status"] == "True"
        assert cluster.condition("Available")["status"] == "False"
        assert not {"RemoveMember", "Discard", "AddLearner"} & set(cluster.output().split())
        assert cluster.end() == 0

        (tmp_path / "c-1").rename(cluster.state / "volumes" / "c-1")
        cluster.start()
        cluster.wait(lambda: cluster.is_ready(3), "two are enough, and the third is replaced")
        now = member_ids(cluster)
        assert {name for name in THREE if now[name] != ids[name]} == {"c-2"}
        assert_nothing_lost(writer, cluster.endpoints(3))
