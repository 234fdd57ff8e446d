"""What runbooks tell a person to do, done by the very commands that stand in their pages."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kit.etcd import REPOSITORY, require_etcd
from tests.kit.ports import free_port
from tests.kubernetes.changes import lose
from tests.kubernetes.cluster import Cluster, Sentinel
from tests.kubernetes.stage import Stage

RUNBOOKS = REPOSITORY / "docs" / "runbooks"
CLASS, SIZE = "network", "8Gi"


@pytest.fixture(autouse=True)
def _operator(stage: Stage) -> None:
    stage.ensure_operator()


def told(page: str, values: Mapping[str, str]) -> tuple[list[str], str]:
    """The commands that a person is told to give, and the document for them; values: for what stands in capitals."""
    _, _, text = (RUNBOOKS / f"{page}.md").read_text("utf-8").partition("**You:**")
    for name, value in values.items():
        text = re.sub(rf"\b{name}\b", value, text)
    commands = [re.sub(r"\s+# .*", "", line[2:]) for line in text.splitlines() if line.startswith("$ ")]
    return commands, next(iter(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)), "")


def run(command: str, folder: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
    return done.stdout


@contextmanager
def forwarded(command: str, environment: Mapping[str, str]) -> Iterator[None]:
    process = subprocess.Popen(command.split(), env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert "Forwarding from" in process.stdout.readline()
        yield
    finally:
        process.terminate()
        process.wait(10)


def volume_of(cluster: Cluster, name: str) -> str:
    return str(cluster.volumes()[name]["spec"]["volumeName"])


def test_without_a_quorum_what_is_left_is_saved_and_a_volume_that_exists_is_put_back(
    stage: Stage, tmp_path: Path
) -> None:
    with stage.cluster("back") as cluster:
        cluster.apply(replicas=3, storage={"className": CLASS, "size": SIZE})
        cluster.wait_ready(3)
        sentinel, kubectl = Sentinel(cluster), cluster.api.kubectl
        kept = volume_of(cluster, "back-1")
        cluster_id = cluster.status()["clusterID"]
        kubectl("patch", "pv", kept, "--type=merge", "-p", '{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}')
        try:
            for name in ("back-1", "back-2"):
                lose(cluster, name)
            cluster.wait_reason("Stalled", "MemberDataLost")
            save(cluster, tmp_path)
            put_back(cluster, {"VOLUME": kept, "CLUSTERID": cluster_id, "CLASS": CLASS, "SIZE": SIZE}, tmp_path)
            cluster.wait_ready(3, 240)
            assert cluster.status()["clusterID"] == cluster_id
            assert volume_of(cluster, "back-1") == kept
            sentinel.check()
        finally:
            kubectl("patch", "pv", kept, "--type=merge", "-p", '{"spec":{"persistentVolumeReclaimPolicy":"Delete"}}')


def save(cluster: Cluster, folder: Path) -> None:
    commands, _ = told("QuorumLost", {"NAMESPACE": cluster.namespace, "NAME": cluster.name})
    forward, save_it, restore = commands[-3:]
    port, programs = free_port(), require_etcd().etcdctl.parent
    environment = {
        **cluster.api.environment,
        "PATH": f"{programs}{os.pathsep}{cluster.api.environment['PATH']}",
        "ETCDCTL_ENDPOINTS": f"http://127.0.0.1:{port}",
    }
    assert forward.endswith(" 2379 &")
    with forwarded(forward.removesuffix("2379 &") + f"{port}:2379", environment):
        run(save_it, folder, environment)
    run(restore, folder, environment)
    assert (folder / "restored" / "member" / "snap" / "db").stat().st_size


def put_back(cluster: Cluster, values: Mapping[str, str], folder: Path) -> None:
    commands, claim = told("MemberDataLost", {**values, "NAMESPACE": cluster.namespace, "NAME": cluster.name})
    (folder / "claim.yaml").write_text(claim)
    for command in commands:
        print(f"$ {command}\n{run(command, folder, cluster.api.environment)}")
