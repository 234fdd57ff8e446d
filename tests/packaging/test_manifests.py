"""manifests/: what kustomize applies is what Helm does, kustomize takes each folder, and samples are KVClusters."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kvorum_operator.api.v1alpha1 import parse

from tests.packaging import helm, rendered
from tests.packaging.helm import MAJORS
from tests.packaging.test_charts import MINORS
from tests.tidy.sources import REPOSITORY

MANIFESTS = REPOSITORY / "manifests"
SAMPLES = sorted(path for path in (MANIFESTS / "samples").glob("*.yaml") if path.stem != "kustomization")
FOLDERS = ("install", "monitoring", "policies", "samples")
# ValidatingAdmissionPolicy is v1 since 1.30: before, the policy is not there to be had.
SINCE = {"ValidatingAdmissionPolicy": 30, "ValidatingAdmissionPolicyBinding": 30}
OF_OTHERS = {"CustomResourceDefinition", "ServiceMonitor", "PodMonitor", "PrometheusRule", "KVCluster"}


@pytest.fixture(params=MAJORS)
def program(request: pytest.FixtureRequest) -> str:
    return helm.require(request.param)


def built(folder: Path) -> list[Any]:
    """What kubectl's kustomize makes of it. Skips, saying NOT RUN, where there is no kubectl."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("NOT RUN: no kubectl on PATH")
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def test_kustomize_installs_what_helm_installs(program: str) -> None:
    drifted = [path.name for path, text in rendered.manifests(program).items() if path.read_text("utf-8") != text]
    assert drifted == [], "run `python -m tests.packaging.rendered`"


def test_nothing_in_the_manifests_says_that_helm_looks_after_it() -> None:
    for path in MANIFESTS.glob("**/*.yaml"):
        assert "helm.sh/" not in path.read_text("utf-8"), path


@pytest.mark.parametrize("folder", FOLDERS)
def test_kustomize_takes_every_folder_and_forgets_no_file(folder: str) -> None:
    objects = built(MANIFESTS / folder)
    listed = yaml.safe_load((MANIFESTS / folder / "kustomization.yaml").read_text("utf-8"))["resources"]
    there = {path.name for path in (MANIFESTS / folder).glob("*.yaml")} - {"kustomization.yaml"}
    assert set(listed) == there
    written = [one for name in listed for one in yaml.safe_load_all((MANIFESTS / folder / name).read_text("utf-8"))]
    assert len(objects) == len(written)


@pytest.mark.parametrize("minor", MINORS)
def test_every_supported_kubernetes_takes_the_manifests(minor: str) -> None:
    for path in [*(MANIFESTS / "install").glob("*.yaml"), *(MANIFESTS / "policies").glob("*.yaml")]:
        for one in yaml.safe_load_all(path.read_text("utf-8")):
            known = int(minor.partition(".")[2]) >= SINCE.get(one["kind"], 0)
            if one["kind"] not in OF_OTHERS | {"Kustomization"} and known:
                kubernetes_validate.validate(one, minor, strict=True)


def test_the_operators_namespace_enforces_the_restricted_standard() -> None:
    namespace = yaml.safe_load((MANIFESTS / "install" / "namespace.yaml").read_text("utf-8"))
    assert namespace["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_sample_is_a_cluster_that_the_operator_takes(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.startswith("# ")
    parse(yaml.safe_load(text))


def test_argo_cds_component_adds_health_and_actions_to_what_is_there(tmp_path: Path) -> None:
    """In an installation of Argo CD, whose ConfigMap has something in it already."""
    shutil.copytree(MANIFESTS / "gitops" / "argocd", tmp_path / "argocd")
    kept = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm"}, "data": {"url": "kept"}}
    (tmp_path / "argocd-cm.yaml").write_text(yaml.safe_dump(kept))
    installation = {"resources": ["argocd-cm.yaml"], "components": ["argocd"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(installation))
    (made,) = built(tmp_path)
    assert made["metadata"]["name"] == "argocd-cm"
    assert made["data"]["url"] == "kept"
    health = (MANIFESTS / "gitops" / "argocd" / "health.lua").read_text("utf-8")
    assert made["data"]["resource.customizations.health.kvorum.dev_KVCluster"] == health
    actions = yaml.safe_load(made["data"]["resource.customizations.actions.kvorum.dev_KVCluster"])
    assert set(actions) == {"discovery.lua", "definitions"}
