"""The document and the state directory: what is wrong with them is said once, and nothing is touched."""

import re
import signal
import socket
from pathlib import Path

from tests.e2e.local_operator import LocalCluster, local_cluster

REFUSED = 2


def errors(cluster: LocalCluster) -> list[str]:
    return [line for line in cluster.output().splitlines() if " error " in line]


def test_broken_edit_is_one_message_with_the_path_of_the_field_and_touches_nothing(engine: str, tmp_path: Path) -> None:
    with local_cluster(tmp_path, engine, replicas=1) as cluster:
        cluster.start()
        cluster.wait_ready(1)
        pids, steps = cluster.pids(), cluster.output().count(" step ")
        good = cluster.file.read_text()
        broken = (
            (good.replace("replicas: 1", "replicas: many"), "spec.replicas: must be a valid integer"),
            (good.replace("replicas: 1", "replicas: 11"), "spec.replicas: must be less than or equal to 9"),
            (good + "  replica: 3\n", "spec.replica: there is no such field"),
            (good + "  settings: {databaseQuota: 8}\n", "spec.settings.databaseQuota: must be at least 64Mi"),
            (good + "  replicas: 3\n", "replicas is there twice"),
            (good.replace("spec:", "spec: ["), "line "),
            (good.replace("name: c", "name: d"), "metadata.name: is 'd'"),
            (good.replace(f"engine: {engine}", "engine: redis"), "spec.engine: must be 'kvorum' or 'etcd'"),
        )
        for count, (text, message) in enumerate(broken, 1):
            assert text != good
            cluster.write_text(text)
            cluster.wait_line(re.escape(message))
            cluster.wait(lambda: cluster.condition("Stalled").get("reason") == "SpecInvalid", "the hold is reported")
            assert len(errors(cluster)) == count, "one message each"
            cluster.write_text(good)
            cluster.wait(lambda: cluster.is_ready(1), "it goes on")
        cluster.file.unlink()
        cluster.wait(lambda: cluster.condition("Stalled").get("reason") == "SpecMissing", "a missing file is a hold")
        assert len(errors(cluster)) == len(broken) + 1
        assert cluster.pids() == pids
        assert cluster.output().count(" step ") == steps, "nothing was touched"

        cluster.write_text(good.replace("replicas: 1", "replicas: 2"))
        cluster.wait_ready(2)
        assert cluster.status()["observedGeneration"] == 2
        assert "survive no more losses" in cluster.condition("Ready")["message"]


def test_one_cluster_has_one_operator(engine: str, tmp_path: Path) -> None:
    with local_cluster(tmp_path, engine, replicas=1) as cluster:
        cluster.start()
        cluster.wait_ready(1)
        assert cluster.operator is not None
        second = cluster.call()
        assert second.returncode == REFUSED
        assert f"another operator (pid {cluster.operator.pid}) works on" in second.stderr
        assert "Traceback" not in second.stderr
        assert cluster.is_ready(1)

        pids = cluster.pids()
        cluster.end(signal.SIGKILL)
        moved = cluster.call("--base-port", str(cluster.base_port + 1), "--once")
        assert moved.returncode == REFUSED
        assert f"began with {cluster.base_port}" in moved.stderr
        cluster.write(name="other", replicas=1)
        other = cluster.call("--state-dir", str(cluster.state), "--once")
        assert other.returncode == REFUSED
        assert "metadata.name: is 'other', and the state directory" in other.stderr
        assert cluster.pids() == pids


def test_start_that_cannot_work_touches_nothing(engine: str, tmp_path: Path) -> None:
    with local_cluster(tmp_path, engine) as cluster:
        cluster.write(replicas="three")
        refused = cluster.call()
        assert refused.returncode == REFUSED
        assert f"{cluster.file}: spec.replicas: must be a valid integer (it is 'three')" in refused.stderr
        cluster.file.unlink()
        refused = cluster.call()
        assert refused.returncode == REFUSED
        assert "does not exist" in refused.stderr

        cluster.write(replicas=3)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", cluster.base_port + 10))
            taken.listen()
            refused = cluster.call("--base-port", str(cluster.base_port))
        assert refused.returncode == REFUSED
        assert f"c-1 cannot be started: port {cluster.base_port + 10} is taken by" in refused.stderr
        assert "--base-port" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert not cluster.state.exists()


def test_paused_cluster_is_reported_and_not_touched(engine: str, tmp_path: Path) -> None:
    with local_cluster(tmp_path, engine, replicas=1) as cluster:
        cluster.start()
        cluster.wait_ready(1)
        cluster.write(replicas=3, paused=True)
        cluster.wait_line("Paused: the cluster is paused")
        cluster.kill(["c-0"])
        cluster.wait(lambda: cluster.condition("Available").get("status") == "False", "the loss is reported")
        assert cluster.pids() == {}
        assert cluster.output().count(" step ") == 2
        cluster.write(replicas=3, paused=False)
        cluster.wait_ready(3)
