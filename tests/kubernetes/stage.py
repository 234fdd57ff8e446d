"""Where the cases play: a namespace under Pod Security `restricted`, an account, one operator, the images."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.kit.deadline import wait_until
from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.cluster import Cluster, kvcluster
from tests.kubernetes.operators import ACCOUNT, LEASE, OperatorProcess, kubeconfig_of, wait_acting

REPOSITORY = Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "charts" / "kvorum-operator"
CRD = REPOSITORY / "crds" / "kvclusters.yaml"


@dataclass(frozen=True, slots=True)
class Images:
    """Names with tags, present on every node.

    kvorum_later: the same program under another name, to roll to. broken: an image in which there is no such program.
    """

    operator: str
    kvorum: str
    kvorum_later: str
    broken: str
    etcd_repository: str
    etcd_version: str


@dataclass(slots=True)
class Stage:
    """namespaces: the operator looks after them. The first is where cases play; `narrow` is for what harms others."""

    api: ApiServer
    namespaces: tuple[str, ...]
    images: Images
    folder: Path
    operator: OperatorProcess = field(init=False)

    def __post_init__(self) -> None:
        self.operator = self.replica("operator")

    @property
    def namespace(self) -> str:
        return self.namespaces[0]

    @property
    def narrow(self) -> str:
        return self.namespaces[1]

    @property
    def user(self) -> str:
        """As whom the operator acts."""
        return f"system:serviceaccount:{self.namespace}:{ACCOUNT}"

    def replica(self, name: str, *, port: int = 0, lease: str = LEASE) -> OperatorProcess:
        """One more, not started yet. port: of a way to the API server, if by that."""
        return OperatorProcess(
            self.folder,
            kubeconfig_of(self.api, self.namespace, ACCOUNT, self.folder / f"kubeconfig-{name}", port=port),
            self.namespaces,
            ("--node-image", self.images.kvorum, "--etcd-image-repository", self.images.etcd_repository),
            name=name,
            lease=lease,
        )

    def ensure_operator(self) -> None:
        """One acts: a case may have ended while it had the operator killed."""
        if not self.operator.runs():
            self.operator.start()
        wait_acting(self.operator, self.api, self.namespace)

    @contextmanager
    def cluster(self, name: str, namespace: str = "") -> Iterator[Cluster]:
        with kvcluster(self.api, namespace or self.namespace, name) as cluster:
            yield cluster

    def engine(self, name: str) -> dict[str, str]:
        """The part of a spec that chooses it."""
        return {"engine": "etcd", "version": self.images.etcd_version} if name == "etcd" else {}

    @contextmanager
    def quota(self, *, pods: int) -> Iterator[None]:
        """No more pods than that can be made in the narrow namespace."""
        spec = {"hard": {"pods": str(pods)}}
        body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "narrow"}, "spec": spec}
        self.api.create("resourcequotas", self.narrow, body)
        try:
            wait_until(
                lambda: (self.api.get("resourcequotas", self.narrow, "narrow") or {}).get("status", {}).get("hard"),
                30,
                "the quota counts",
                poll_s=0.1,
            )
            yield
        finally:
            self.api.delete("resourcequotas", self.narrow, "narrow")


def grant(api: ApiServer, namespaces: tuple[str, ...]) -> None:
    """Gives the operator's account its rights as the chart does, also in a namespace that was made anew."""
    done = subprocess.run(
        [
            *("helm", "template", ACCOUNT, str(CHART), "--namespace", namespaces[0]),
            *("--set", f"watchNamespaces={{{','.join(namespaces)}}}", "--set", "rbac.aggregate=false"),
            *("--show-only", "templates/rbac.yaml", "--show-only", "templates/serviceaccount.yaml"),
        ],
        capture_output=True,
        text=True,
        env=api.environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    api.kubectl("apply", "-f", "-", text=done.stdout)


@contextmanager
def set_stage(api: ApiServer, namespaces: Sequence[str], images: Images, folder: Path) -> Iterator[Stage]:
    """Namespaces, the CRD of this tree, an account with its rights, and an operator that acts."""
    api.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    api.kubectl("wait", "--for=condition=Established", "crd/kvclusters.kvorum.dev", "--timeout=30s")
    for namespace in namespaces:
        make_namespace(api, namespace)
    grant(api, tuple(namespaces))
    stage = Stage(api, tuple(namespaces), images, folder)
    try:
        stage.ensure_operator()
        yield stage
    finally:
        stage.operator.destroy()
        for namespace in namespaces:
            remove_namespace(api, namespace)


def make_namespace(api: ApiServer, name: str) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    api.kubectl("apply", "-f", "-", text=json.dumps(body))


def remove_namespace(api: ApiServer, name: str, deadline_s: float = 180.0) -> None:
    api.delete("namespaces", "", name)
    wait_until(lambda: api.get("namespaces", "", name) is None, deadline_s, f"namespace {name} is gone", poll_s=0.5)
