"""What there is to do with a local cluster beside running it, and runs that end by themselves."""

import asyncio
import json
import re
import subprocess
import urllib.request
from importlib.metadata import version
from pathlib import Path

from kvorum.client import Client

from tests.e2e.local_operator import LocalCluster, local_cluster
from tests.kit.etcd import require_etcd

FAILED, REFUSED = 1, 2


def own_version(engine: str) -> str:
    """Of the program itself: ours says it beside the version of etcd that it has to claim."""
    if engine == "kvorum":
        return version("kvorum")
    said = subprocess.run([require_etcd().etcd, "--version"], capture_output=True, text=True, check=True, timeout=20)
    return said.stdout.split()[2]


def test_cluster_is_started_used_stopped_and_deleted_by_verbs(engine: str, tmp_path: Path) -> None:
    with local_cluster(tmp_path, engine) as cluster:
        begun = cluster.call("--base-port", str(cluster.base_port), "--once")
        assert begun.returncode == 0, begun.stderr
        assert set(cluster.pids()) == {"c-0", "c-1", "c-2"}, "--once leaves members running"
        ready = cluster.call("--wait", "ready", "--timeout", "40s")
        assert ready.returncode == 0, ready.stdout
        pids = cluster.pids()
        assert set(pids) == {"c-0", "c-1", "c-2"}, "--wait leaves members running"
        assert {one["version"] for one in cluster.status()["members"]} == {own_version(engine)}

        # The line that is printed works as it stands.
        line = next(line for line in ready.stdout.splitlines() if line.strip().startswith("try "))
        command = line.split()[1:]
        assert command[0] == str(require_etcd().etcdctl)
        listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
        assert listed.stdout.count("started") == 3

        assert cluster.call("put", "a", "value of a").stdout == "OK\n"
        assert cluster.call("get", "a").stdout == "a\nvalue of a\n"
        asyncio.run(put_all(cluster, "ab", "b"))  # each run of the program costs a start of Python
        assert cluster.call("get", "a", "--prefix").stdout == "a\nvalue of a\nab\nvalue of ab\n"
        assert cluster.call("del", "a", "--prefix").stdout == "2\n"
        assert cluster.call("get", "a").returncode == FAILED
        assert cluster.call("members").stdout.count("started") == 3

        logged = cluster.call("logs", "c-1", "-n", "3").stdout.splitlines()
        assert len(logged) == 3
        assert all(json.loads(one) for one in logged)
        clusters = cluster.call("list").stdout.splitlines()
        assert clusters[1].split()[:6] == ["c", engine, "3/3", "-", "-", str(cluster.base_port)]

        assert cluster.call("stop").returncode == 0
        assert cluster.pids() == {}
        assert cluster.call("put", "a", "1").returncode == REFUSED
        assert cluster.call("--wait", "ready").returncode == 0
        assert cluster.call("get", "b").stdout == "b\nvalue of b\n"

        refused = cluster.call("delete")
        assert refused.returncode == REFUSED
        assert "--yes" in refused.stderr
        assert len(cluster.pids()) == 3, "without consent nothing is touched"
        assert cluster.call("delete", "--yes").returncode == 0
        assert cluster.pids() == {}
        assert not cluster.state.exists()


def test_stop_and_delete_end_a_running_operator_first(engine: str, tmp_path: Path) -> None:
    with local_cluster(tmp_path, engine, replicas=1) as cluster:
        cluster.start()
        cluster.wait_ready(1)
        assert cluster.operator is not None
        clusters = cluster.call("list").stdout.splitlines()
        assert clusters[1].split()[:5] == ["c", engine, "1/1", str(cluster.operator.pid), "True"]
        record = (cluster.state / "bootstrap.json").read_text()
        (cluster.state / "bootstrap.json").write_text("{")
        cluster.wait(lambda: cluster.condition("Stalled").get("reason") == "RecordDamaged", "the damage is a hold")
        cluster.file.write_text("broken: [")
        assert cluster.call("stop").returncode == 0, "however broken the document and the record are"
        assert "Traceback" not in cluster.output()
        assert cluster.wait_end() == 0
        assert cluster.pids() == {}

        (cluster.state / "bootstrap.json").write_text(record)
        cluster.write(replicas=1)
        cluster.start()
        cluster.wait_line(r"ready +1 of 1")
        (cluster.state / "bootstrap.json").write_text("{")
        assert cluster.call("delete", "--yes").returncode == 0
        assert cluster.wait_end() == 0
        assert not cluster.state.exists()


def test_settings_reach_the_members_and_an_edit_waits_while_it_is_paused(engine: str, tmp_path: Path) -> None:
    with local_cluster(tmp_path, engine) as cluster:
        cluster.write(
            replicas=1, settings={"databaseQuota": "128Mi", "compaction": {"mode": "Revision", "retention": 5}}
        )
        cluster.start()
        cluster.wait_ready(1)
        assert quota_bytes(cluster.endpoint(0)) == 128 << 20
        pids = cluster.pids()
        cluster.write(replicas=1, settings={"databaseQuota": "256Mi"}, paused=True)
        cluster.wait(
            lambda: "earlier specification" in str(cluster.status()["members"][0].get("reason")),
            "the member says that it waits",
        )
        assert cluster.pids() == pids
        cluster.write(replicas=1, settings={"databaseQuota": "256Mi"})
        cluster.wait(lambda: cluster.pids().get("c-0") not in (None, pids["c-0"]), "it is restarted")
        # The status may still be the one from before, so what counts is what the new process says.
        cluster.wait(lambda: quota_bytes(cluster.endpoint(0)) == 256 << 20, "it has the new quota")


async def put_all(cluster: LocalCluster, *keys: str) -> None:
    async with Client(cluster.endpoints(3), timeout_s=5.0) as client:
        for key in keys:
            await client.put(key.encode(), f"value of {key}".encode())


def quota_bytes(endpoint: str) -> int | None:
    """As the member's metrics have it; None while it does not serve."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{endpoint}/metrics", timeout=10) as answer:
            found = re.search(r"^etcd_server_quota_backend_bytes (\S+)$", answer.read().decode(), re.MULTILINE)
    except OSError:
        return None
    assert found is not None
    return int(float(found[1]))


def test_wait_gives_up_with_the_reason(engine: str, tmp_path: Path) -> None:
    with local_cluster(tmp_path, engine) as cluster:
        cluster.write(replicas=0)
        waited = cluster.call("--base-port", str(cluster.base_port), "--wait", "ready", "--timeout", "1s")
        assert waited.returncode == FAILED
        assert "not ready within 1 s" in waited.stdout
        assert "NeverBootstrapped" in waited.stdout
