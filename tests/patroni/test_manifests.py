"""examples/patroni/kubernetes: what kustomize makes of it is valid, restricted, and agrees with the other example."""

import shutil
import subprocess
from itertools import takewhile
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kvorum_operator.api.v1alpha1 import parse

from tests.kit.etcd import REPOSITORY
from tests.packaging.test_charts import MINORS

EXAMPLE = REPOSITORY / "examples" / "patroni"
FOLDER = EXAMPLE / "kubernetes"


@pytest.fixture(scope="module")
def built() -> dict[str, Any]:
    """By kind: there is one of each."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("NOT RUN: no kubectl on PATH")
    done = subprocess.run([kubectl, "kustomize", str(FOLDER)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = list(yaml.safe_load_all(done.stdout))
    by_kind = {one["kind"]: one for one in found}
    assert len(by_kind) == len(found)
    return by_kind


def pod(built: dict[str, Any]) -> Any:
    return built["StatefulSet"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("minor", MINORS)
def test_every_supported_kubernetes_takes_it(built: dict[str, Any], minor: str) -> None:
    for kind, one in built.items():
        if kind != "KVCluster":
            kubernetes_validate.validate(one, minor, strict=True)


def test_store_is_a_cluster_that_the_operator_takes_and_patroni_asks_for_by_its_name(built: dict[str, Any]) -> None:
    cluster = parse(built["KVCluster"])
    configuration = yaml.safe_load((FOLDER / "patroni.yml").read_text())
    assert configuration["etcd3"]["host"] == f"{cluster.metadata.name}:2379"


def test_pods_are_what_the_restricted_standard_asks_for(built: dict[str, Any]) -> None:
    spec = pod(built)
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    user = str(spec["securityContext"]["runAsUser"])
    assert f"--uid {user} " in (FOLDER / "Dockerfile").read_text()


def test_pod_has_the_configuration_and_the_passwords_of_this_folder(built: dict[str, Any]) -> None:
    (container,) = pod(built)["containers"]
    config = next(volume for volume in pod(built)["volumes"] if volume["name"] == "config")
    assert config["configMap"]["name"] == built["ConfigMap"]["metadata"]["name"]
    assert container["envFrom"] == [{"secretRef": {"name": built["Secret"]["metadata"]["name"]}}]
    configuration = yaml.safe_load(built["ConfigMap"]["data"]["patroni.yml"])
    accounts = configuration["postgresql"]["authentication"]
    assert {f"PATRONI_{account.upper()}_PASSWORD" for account in accounts} == built["Secret"]["data"].keys()


def test_both_examples_promise_the_same_times() -> None:
    here, there = (yaml.safe_load((folder / "patroni.yml").read_text()) for folder in (EXAMPLE, FOLDER))
    for setting in ("ttl", "loop_wait", "retry_timeout", "synchronous_mode"):
        assert here["bootstrap"]["dcs"][setting] == there["bootstrap"]["dcs"][setting]


@pytest.mark.parametrize("folder", [EXAMPLE, FOLDER], ids=["machine", "kubernetes"])
def test_the_other_section_is_there_to_be_taken(folder: Any) -> None:
    """etcd: stands in the same file as a comment; with it in the place of etcd3: the document is still one."""
    text = (folder / "patroni.yml").read_text()
    before, _, rest = text.partition("\n# etcd:\n")
    assert rest, "the section is there"
    section = takewhile(lambda line: line.startswith("#   "), rest.splitlines())
    other = yaml.safe_load("etcd:\n" + "\n".join(line.removeprefix("# ") for line in section))
    hosts = other["etcd"].get("hosts") or other["etcd"]["host"]
    own = yaml.safe_load(before)["etcd3"]
    assert hosts == (own.get("hosts") or own["host"])
