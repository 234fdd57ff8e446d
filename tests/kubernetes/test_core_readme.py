"""The README's commands on Kubernetes, word for word: Helm installs the operator, a sample becomes a cluster.

`KVORUM_REWRITE=1` puts what was printed into README.md. When it is compared, times, ids, ages and who leads do not
count. The operator of the README looks after all namespaces, so this runs before any other case has one of its own
(run.py), and uninstalls it as the README says.
"""

import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.kit.transcript import block, check, commands
from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.stage import CRD, REPOSITORY, Images, remove_namespace

README = REPOSITORY / "README.md"
RELEASE, NAMESPACE = "kvorum-operator", "kvorum-system"
COMMAND_S = 300.0
PARTS = ("kubernetes-install", "kubernetes-describe", "kubernetes-life", "kubernetes-end")


@pytest.fixture
def empty(api: ApiServer, names: Images) -> Iterator[ApiServer]:
    """As on a new Kubernetes; a CRD that an earlier run left behind is Helm's."""
    if api.try_kubectl("get", "-f", str(CRD)).returncode == 0:
        api.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
        owner = (f"meta.helm.sh/release-name={RELEASE}", f"meta.helm.sh/release-namespace={NAMESPACE}")
        api.kubectl("annotate", "--overwrite", "-f", str(CRD), *owner)
        api.kubectl("label", "--overwrite", "-f", str(CRD), "app.kubernetes.io/managed-by=Helm")
    api.kubectl("delete", "events", "--all", "-n", "default")
    yield api
    api.kubectl("delete", "kvc", "three", "-n", "default", "--ignore-not-found", "--wait=false")
    subprocess.run(["helm", "uninstall", RELEASE, "-n", NAMESPACE], env=api.environment, check=False)
    remove_namespace(api, NAMESPACE)
    selector = ("-l", "kvorum.dev/cluster=three", "-n", "default")
    api.kubectl("delete", "statefulsets,pods,pvc,configmaps", *selector, "--timeout=120s")


def normalised(text: str) -> list[str]:
    """What must be the same each time."""
    lines = []
    for line in text.splitlines():
        line = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|\w{3} \w{3} +\d+ \d\d:\d\d:\d\d \d{4}", "TIME", line)
        line = re.sub(r"\bthree-\d\b", "MEMBER", line.partition("; leadership was not handed over")[0])
        line = re.sub(r"\b(leader|follower)\b", "ROLE", line)
        line = re.sub(r"\b[0-9a-f]{12,16}\b|\b\d+(s|m\d*s?)\b|\b\d+\b", "N", line)
        lines.append(re.sub(r" +", " ", line).strip())
    return sorted(set(filter(None, lines)))  # members are told by name and role: their order is chance


def test_helm_installs_the_operator_and_a_sample_becomes_a_cluster(empty: ApiServer) -> None:
    for part in PARTS:
        printed = "".join(f"$ {line}\n{run(line, empty)}" for line in commands(block(README, part)))
        check(README, part, printed, normalised, rewrite="KVORUM_REWRITE" in os.environ)


def run(command: str, api: ApiServer) -> str:
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=REPOSITORY,
        env=api.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    assert done.returncode == 0, f"$ {command}\n{done.stdout}"
    return done.stdout
