"""An edit of spec.settings: members are restarted one at a time, the leader last, and nothing that was written is lost.

Not run beside other tests (`make test-e2e`): how long no write was taken is measured, and compared with the promise.
"""

import contextlib
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.e2e.local_operator import LocalCluster, local_cluster
from tests.e2e.writer import Writer, assert_nothing_lost

GAP_S_PROMISED = 1.0  # on a machine with nothing else to do
GAP_S_MAX = 4.0  # on any
PATIENCE_S = 1.0
ROLL_S_MAX = 60.0
ONE_SETTING = {"logLevel": "warn"}
ANOTHER_SETTING = {"logLevel": "error"}


def restarted(cluster: LocalCluster, since: int = 0) -> list[str]:
    """Members in the order in which they were restarted, by the operator's lines from that character on."""
    return re.findall(r" step   Restart (\S+):", cluster.output()[since:])


def wait_rolled(cluster: LocalCluster, before: dict[str, int]) -> None:
    """before: the pids of members that have to go."""

    def done() -> bool:
        now = cluster.pids()
        return now.keys() == before.keys() and not now.items() & before.items() and cluster.is_ready(len(before))

    cluster.wait(done, "all have been restarted", ROLL_S_MAX)


def noted_pids(cluster: LocalCluster) -> dict[str, int]:
    """As the operator notes them down when it starts a member: sooner known than by a look at all processes."""
    found = {}
    for file in (cluster.state / "members").glob("*/process.json"):
        found[file.parent.name] = int(json.loads(file.read_text())["pid"])
    return found


def log_level(cluster: LocalCluster, name: str) -> str:
    content = yaml.safe_load((cluster.state / "members" / name / "config.yaml").read_text())
    return str(content["log-level"])


def print_gap(writer: Writer, what: str) -> None:
    print(f"{what}: the largest gap between two of {len(writer.acknowledged)} writes: {writer.largest_gap_s:.2f} s")


@contextlib.contextmanager
def standing_still(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_new_settings_reach_each_member_in_turn_and_the_leader_last(engine: str, tmp_path: Path) -> None:
    with local_cluster(tmp_path, engine) as cluster, Writer(cluster.endpoints(3), patience_s=PATIENCE_S) as writer:
        cluster.start()
        cluster.wait_ready(3)
        writer.wait_acknowledged(100)
        before, leader = cluster.pids(), cluster.status()["leader"]
        cluster.write(replicas=3, settings=ONE_SETTING)
        wait_rolled(cluster, before)
        assert sorted(restarted(cluster)) == ["c-0", "c-1", "c-2"], "each once"
        assert restarted(cluster)[-1] == leader
        assert f"HandOver {leader} to " in cluster.output()
        assert {log_level(cluster, name) for name in before} == {"warn"}
        writer.wait_acknowledged(100)
        writer.stop()
        print_gap(writer, f"{engine} (promised: below {GAP_S_PROMISED:g} s)")
        assert writer.largest_gap_s < GAP_S_MAX
        assert_nothing_lost(writer, cluster.endpoints(3))


def test_member_that_does_not_come_back_stops_the_roll_until_it_does(engine: str, tmp_path: Path) -> None:
    with local_cluster(tmp_path, engine) as cluster, Writer(cluster.endpoints(3), patience_s=PATIENCE_S) as writer:
        cluster.start()
        cluster.wait_ready(3)
        before = cluster.pids()
        cluster.write(replicas=3, settings=ONE_SETTING)

        def first_one_anew() -> tuple[str, int] | None:
            return next(((name, pid) for name, pid in noted_pids(cluster).items() if pid != before[name]), None)

        name, pid = cluster.wait(first_one_anew, "the first one is started again")
        with standing_still(pid):
            line = cluster.wait_line(rf"hold   Rolling: {name} does not serve; still to be restarted: .*")
            assert line.endswith(f"waits for {name} to serve")
            assert cluster.condition("Reconciling")["reason"] == "Rolling"
            writer.wait_acknowledged(100)
            others = {other: pid for other, pid in before.items() if other != name}
            assert others.items() <= cluster.pids().items(), "nobody else was taken down"
            assert restarted(cluster) == [name]
        wait_rolled(cluster, before)
        writer.stop()
        assert_nothing_lost(writer, cluster.endpoints(3))


def test_operator_that_is_killed_in_the_middle_of_a_roll_is_followed_by_one_that_ends_it(tmp_path: Path) -> None:
    with (
        local_cluster(tmp_path, "kvorum") as cluster,
        Writer(cluster.endpoints(3), patience_s=PATIENCE_S) as writer,
    ):
        cluster.start()
        cluster.wait_ready(3)
        before = cluster.pids()
        cluster.write(replicas=3, settings=ONE_SETTING)
        cluster.wait_line(" step   Restart ")
        cluster.end(signal.SIGKILL)
        cluster.write(replicas=3, settings=ANOTHER_SETTING)
        cluster.start()
        wait_rolled(cluster, before)
        assert {log_level(cluster, name) for name in before} == {"error"}
        writer.stop()
        assert_nothing_lost(writer, cluster.endpoints(3))


def test_single_member_is_restarted_once_and_keeps_its_data(engine: str, tmp_path: Path) -> None:
    with (
        local_cluster(tmp_path, engine, replicas=1) as cluster,
        Writer(cluster.endpoints(1), patience_s=PATIENCE_S) as writer,
    ):
        cluster.start()
        cluster.wait_ready(1)
        assert "restart" in cluster.condition("Ready")["message"], "that writes will pause is said beforehand"
        writer.wait_acknowledged(100)
        before = cluster.pids()
        cluster.write(replicas=1, settings=ONE_SETTING)
        wait_rolled(cluster, before)
        writer.wait_acknowledged(100)
        assert "writes pause until it is back" in cluster.output()
        assert restarted(cluster) == ["c-0"]
        writer.stop()
        print_gap(writer, f"{engine}, a single member (writes pause)")
        assert_nothing_lost(writer, cluster.endpoints(1))
