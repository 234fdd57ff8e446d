"""A PodMonitor where its kind exists, by a CRD of that name alone: what comes of it is the Prometheus operator's."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.kit.deadline import wait_until
from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.stage import Stage

GROUP = "monitoring.coreos.com"
CRD = f"podmonitors.{GROUP}"
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    # Names below k8s.io ask for an approval; those of others do not.
    "metadata": {"name": CRD},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {
            "kind": "PodMonitor",
            "listKind": "PodMonitorList",
            "plural": "podmonitors",
            "singular": "podmonitor",
        },
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                    }
                },
            }
        ],
    },
}


@contextmanager
def kind_made(api: ApiServer) -> Iterator[None]:
    api.kubectl("create", "-f", "-", text=json.dumps(DEFINITION))
    try:
        api.kubectl("wait", "--for=condition=Established", f"crd/{CRD}", "--timeout=30s")
        yield
    finally:
        api.kubectl("delete", "crd", CRD)
        wait_until(lambda: GROUP not in api.kubectl("api-versions"), 60, "nobody finds the kind any more", poll_s=0.5)


def monitor(cluster: Cluster) -> dict[str, Any] | None:
    done = cluster.api.try_kubectl("get", CRD, cluster.name, "-n", cluster.namespace, "-o", "json")
    return json.loads(done.stdout) if done.returncode == 0 else None


def test_pod_monitor_is_made_once_its_kind_is_there_and_goes_when_it_is_not_wanted(stage: Stage) -> None:
    stage.ensure_operator()
    if GROUP in stage.api.kubectl("api-versions"):
        pytest.skip("NOT RUN: this Kubernetes has PodMonitors, whose kind is not to be deleted")
    with stage.cluster("watched") as cluster:
        cluster.apply(replicas=1, monitoring={"podMonitor": True})
        said = cluster.wait_reason("Stalled", "ObjectRefused")
        assert "no such kind" in said
        assert cluster.condition("Available")["status"] == "True", "its member serves all the same"
        with kind_made(stage.api):
            cluster.wait_ready(1, 180)
            made = monitor(cluster)
            assert made is not None
            (pod,) = cluster.pods().values()
            assert made["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
            (endpoint,) = made["spec"]["podMetricsEndpoints"]
            assert endpoint["port"] in {one["name"] for one in pod["spec"]["containers"][0]["ports"]}
            cluster.edit(monitoring={"podMonitor": False})
            cluster.wait(lambda: monitor(cluster) is None, "it goes")
            cluster.wait_ready(1)
