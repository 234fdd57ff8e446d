"""Overlays of pods, merged by us and by a real kubectl: the same pod comes out."""

import functools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from kvorum_operator.api.overlay import MERGED_LISTS
from kvorum_operator.objects.strategic_merge import merged

CASES = yaml.safe_load((Path(__file__).parent / "testdata" / "strategic_merges.yaml").read_text("utf-8"))
KUBECTL_S = 60.0
POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "kv-0"},
    "spec": {
        "serviceAccountName": "kv",
        "terminationGracePeriodSeconds": 30,
        "securityContext": {"runAsUser": 10001, "fsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "imagePullSecrets": [{"name": "a"}],
        "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["a"]}],
        "topologySpreadConstraints": [
            {"topologyKey": "kubernetes.io/hostname", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"},
            {"topologyKey": "topology.kubernetes.io/zone", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"},
        ],
        "containers": [
            {
                "name": "member",
                "image": "kvorum:1",
                "command": ["kvorum"],
                "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "ports": [{"name": "client", "containerPort": 2379}, {"name": "peer", "containerPort": 2380}],
                "volumeMounts": [
                    {"name": "data", "mountPath": "/var/lib/kvorum"},
                    {"name": "tmp", "mountPath": "/tmp"},
                ],
            },
            {"name": "sidecar", "image": "sidecar:1"},
        ],
        "volumes": [
            {"name": "config", "configMap": {"name": "kv-members"}},
            {"name": "tmp", "emptyDir": {}},
        ],
    },
}


@functools.cache
def require_kubectl() -> str:
    """Skips, saying NOT RUN, where there is none."""
    found = shutil.which("kubectl")
    if found is None:
        pytest.skip("NOT RUN: no kubectl on PATH")
    return found


def kubectl_merged(patch: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Without an API server: --local merges by the types that kubectl knows itself."""
    pod = folder / "pod.json"
    pod.write_text(json.dumps(POD))
    done = subprocess.run(
        [
            *(require_kubectl(), "patch", "--local", "--type=strategic", "--output=json"),
            *(f"--filename={pod}", f"--patch={json.dumps(patch)}"),
        ],
        capture_output=True,
        text=True,
        timeout=KUBECTL_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["spec"]
    return found


@pytest.mark.parametrize("case", CASES, ids=[case["title"] for case in CASES])
def test_overlay_is_merged_as_kubectl_patches(case: dict[str, Any], tmp_path: Path) -> None:
    ours = merged(POD["spec"], case["patch"]["spec"], MERGED_LISTS)
    theirs = kubectl_merged(case["patch"], tmp_path)
    assert without_empty(ours) == without_empty(theirs)


def without_empty(node: Any) -> Any:
    """kubectl puts a pod into its type and out again: what is empty is left out, and required fields are added."""
    if isinstance(node, dict):
        kept = {key: without_empty(value) for key, value in node.items() if key not in ("resources",)}
        return {key: value for key, value in kept.items() if value not in ({}, [], "", None)}
    return [without_empty(one) for one in node] if isinstance(node, list) else node
