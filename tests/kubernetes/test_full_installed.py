"""The operator as Helm installs it, in the cluster: two replicas, the leading one killed, upgraded, uninstalled."""

import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.kit.deadline import wait_until
from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.changes import ENOUGH, under_writer
from tests.kubernetes.cluster import kvcluster, takes_writes
from tests.kubernetes.operators import holder_of_lease
from tests.kubernetes.stage import CHART, Images, Stage, make_namespace, remove_namespace

NAMESPACE = "e2e-installed"
TAKEOVER_S = 60.0


@pytest.fixture(scope="module")
def installed(stage: Stage) -> Iterator[ApiServer]:
    make_namespace(stage.api, NAMESPACE)
    try:
        helm(stage.api, stage.images, "install")
        yield stage.api
    finally:
        remove_namespace(stage.api, NAMESPACE)


def helm(api: ApiServer, images: Images, verb: str, *more: str) -> None:
    operator, node = images.operator.rpartition(":"), images.kvorum.rpartition(":")
    values = (
        f"image.repository={operator[0]},image.tag={operator[2]},nodeImage.repository={node[0]},nodeImage.tag={node[2]}"
    )
    done = subprocess.run(
        [
            *("helm", verb, "kvorum-operator", str(CHART), "--namespace", NAMESPACE, "--wait", "--timeout", "120s"),
            *("--set", values, "--set", f"watchNamespaces={{{NAMESPACE}}}"),
            *("--set", "crds.install=false,rbac.aggregate=false", *more),
        ],
        capture_output=True,
        text=True,
        env=api.environment,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_leading_replica_is_killed_and_the_operator_upgraded_in_the_middle_of_changes(
    installed: ApiServer, stage: Stage
) -> None:
    with kvcluster(installed, NAMESPACE, "demo") as cluster:
        cluster.apply(replicas=3)
        cluster.wait_ready(3)
        print(installed.kubectl("get", "kvc", "-o", "wide", "-n", NAMESPACE))
        with under_writer(cluster) as writer:
            leading = wait_until(lambda: holder_of_lease(installed, NAMESPACE), 60, "one leads", poll_s=0.2)
            pods = {str(pod["metadata"]["name"]) for pod in installed.list("pods", NAMESPACE)}
            leader = next(pod for pod in pods if pod in leading)
            killed_s = time.monotonic()
            installed.delete("pods", NAMESPACE, leader, grace_s=0)
            cluster.edit(replicas=5)
            cluster.wait_step("AddLearner", TAKEOVER_S)
            print(f"the other replica acted {time.monotonic() - killed_s:.1f} s after the leading one was killed")
            assert holder_of_lease(installed, NAMESPACE) != leading
            helm(installed, stage.images, "upgrade", "--set", "logLevel=debug")
            cluster.wait_ready(5, 300)
            writer.wait_acknowledged(ENOUGH)
            cluster.edit(replicas=3)
            cluster.wait_ready(3, 240)
        assert set(cluster.pods()) == set(cluster.volumes()) == {"demo-0", "demo-1", "demo-2"}
        for pod in (pod for pod in installed.list("pods", NAMESPACE) if "kvorum.dev/cluster" not in labels_of(pod)):
            assert pod["status"]["containerStatuses"][0]["restartCount"] == 0, "no replica ended by itself"
        subprocess.run(
            ["helm", "uninstall", "kvorum-operator", "--namespace", NAMESPACE, "--wait"],
            env=installed.environment,
            check=True,
        )
        assert takes_writes(cluster.service_endpoint()), "clusters stay when the operator goes"
        assert installed.get("kvclusters", NAMESPACE, "demo") is not None


def labels_of(pod: dict[str, dict[str, dict[str, str]]]) -> dict[str, str]:
    return pod["metadata"].get("labels", {})
