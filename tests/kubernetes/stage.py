"""Where the cases play: a namespace under Pod Security `restricted`, an account, one operator, the images."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kit.deadline import wait_until
from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.cluster import Cluster, kvcluster
from tests.kubernetes.operators import ACCOUNT, OperatorProcess, kubeconfig_of, wait_acting

REPOSITORY = Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "charts" / "kvorum-operator"
CRD = REPOSITORY / "crds" / "kvclusters.yaml"


@dataclass(frozen=True, slots=True)
class Images:
    """Names with tags, present on every node. later: the same program under another name, to roll to."""

    kvorum: str
    kvorum_later: str
    etcd_repository: str


@dataclass(slots=True)
class Stage:
    api: ApiServer
    namespace: str
    operator: OperatorProcess
    images: Images
    folder: Path
    user: str  # as whom the operator acts

    @contextmanager
    def cluster(self, name: str) -> Iterator[Cluster]:
        with kvcluster(self.api, self.namespace, name) as cluster:
            yield cluster

    def ensure_operator(self) -> None:
        """A case may have ended while it had the operator killed."""
        if not self.operator.runs():
            self.operator.start()
            wait_acting(self.operator, self.api, self.namespace)


@contextmanager
def stage_in(
    api: ApiServer, namespaces: Sequence[str], images: Images, folder: Path, *arguments: str
) -> Iterator[Stage]:
    """An operator for these namespaces, that acts. The first is where cases play unless they say otherwise."""
    api.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    api.kubectl("wait", "--for=condition=Established", "crd/kvclusters.kvorum.dev", "--timeout=30s")
    for namespace in namespaces:
        make_namespace(api, namespace)
    home = namespaces[0]
    api.kubectl("apply", "-f", "-", text=rights(api, home, namespaces))
    kubeconfig = kubeconfig_of(api, home, ACCOUNT, folder / "kubeconfig")
    operator = OperatorProcess(
        folder,
        kubeconfig,
        namespaces,
        ("--node-image", images.kvorum, "--etcd-image-repository", images.etcd_repository, *arguments),
    )
    stage = Stage(api, home, operator, images, folder, f"system:serviceaccount:{home}:{ACCOUNT}")
    try:
        stage.ensure_operator()
        yield stage
    finally:
        operator.destroy()
        for namespace in namespaces:
            remove_namespace(api, namespace)


def rights(api: ApiServer, home: str, namespaces: Sequence[str]) -> str:
    """The service account and its rights, as the chart gives them to the operator in the cluster."""
    done = subprocess.run(
        [
            *("helm", "template", ACCOUNT, str(CHART), "--namespace", home),
            *("--set", f"watchNamespaces={{{','.join(namespaces)}}}", "--set", "rbac.aggregate=false"),
            *("--show-only", "templates/rbac.yaml", "--show-only", "templates/serviceaccount.yaml"),
        ],
        capture_output=True,
        text=True,
        env=api.environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_namespace(api: ApiServer, name: str) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    api.kubectl("apply", "-f", "-", text=json.dumps(body))


def remove_namespace(api: ApiServer, name: str, deadline_s: float = 180.0) -> None:
    api.delete("namespaces", "", name)
    wait_until(lambda: api.get("namespaces", "", name) is None, deadline_s, f"namespace {name} is gone", poll_s=0.5)
