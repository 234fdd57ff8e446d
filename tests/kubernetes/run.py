"""`make e2e` and `make e2e-full`: a Kubernetes, the images on its nodes, the tests; what was brought up goes again.

On $KUBECONFIG if it is set, else on ../shared/kubernetes, else on kind where docker can pull images. Where there is
none of them it says NOT RUN and ends with 2, or with 0 where $CI is set: a machine of CI cannot help it.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kit import again
from tests.kit.etcd import CACHE, REPOSITORY, EtcdMissing
from tests.kubernetes import images, shared_kubernetes, which
from tests.kubernetes.figures import LOST

FOLDER = Path(__file__).parent
PACKAGING = REPOSITORY / "tests" / "packaging"
FILES = {"core": "test_core_*.py", "full": "test_*.py"}
QUIET_S = {"core": 600, "full": 3600}  # how long a settled cluster is seen to be left alone
QUIET_IN_CI_S = 70
CASE_S = 900  # no case takes longer, that one apart
LEFT_BEHIND = CACHE / "e2e"  # statuses and figures of the last run
UP_S = 1800.0  # it builds what is not built yet
KIND_NAME = "kvorum-e2e"
KIND_NODES = (
    "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n- role: control-plane\n" + 3 * "- role: worker\n"
)
CANNOT = 2
PYTEST = (sys.executable, "-m", "pytest", "-q")
FIRST = "test_core_readme.py"  # its operator looks after all namespaces: before any other has one of its own


def main(part: str) -> int:
    try:
        with kubernetes() as found:
            builder = images.require_builder()
            began_s = time.monotonic()
            _, archives = images.build_all(builder)
            found.load(archives)
            print(f"images are on the nodes of {found.context} after {time.monotonic() - began_s:.0f} s", flush=True)
            return run_tests(found, part)
    except which.NotForTests as why:
        print(f"make: {why}", file=sys.stderr)
        return CANNOT
    except (which.NoKubernetes, images.CannotBuild, EtcdMissing) as why:
        print(f"NOT RUN: tests on a real Kubernetes ({part}): {why}", flush=True)
        return 0 if os.environ.get("CI") else CANNOT


def run_tests(found: which.Kubernetes, part: str) -> int:
    """The cases, then charts and manifests, by the Helms beside kubectl, and what Argo CD makes of the cases' statuses.

    The exit code of whichever failed first.
    """
    shutil.rmtree(LEFT_BEHIND, ignore_errors=True)
    statuses, figures = LEFT_BEHIND / "statuses", LEFT_BEHIND / "figures.txt"
    statuses.mkdir(parents=True)
    figures.touch()
    usual_s = QUIET_IN_CI_S if part == "core" and os.environ.get("CI") else QUIET_S[part]
    quiet_s = int(os.environ.get("KVORUM_E2E_QUIET_S") or usual_s)
    environment = {
        **found.environment,
        "KVORUM_E2E_STATUSES": str(statuses),
        "KVORUM_E2E_FIGURES": str(figures),
        "KVORUM_E2E_QUIET_S": str(quiet_s),
    }
    cases = [str(file) for file in sorted(FOLDER.glob(FILES[part]), key=lambda file: (file.name != FIRST, file.name))]
    code = again.run([f"--timeout={CASE_S + quiet_s}", *cases], LEFT_BEHIND / "pytest", environment)
    packaging = subprocess.run([*PYTEST, str(PACKAGING)], cwd=REPOSITORY, env=environment, check=False).returncode
    measured = figures.read_text()
    print(measured, end="")
    lost = any(line.startswith(LOST) for line in measured.splitlines())  # also where a second run of that case passed
    return code or packaging or int(lost)


@contextmanager
def kubernetes() -> Iterator[which.Kubernetes]:
    """Raises NoKubernetes and NotForTests."""
    if os.environ.get("KUBECONFIG"):
        yield which.require_kubernetes()
    elif shared_kubernetes.CLUSTER.exists():
        was_there = which.shared_is_there()
        try:
            bring_up_shared()
            yield which.require_kubernetes(which.shared_environment())
        finally:
            if not was_there:
                shared_kubernetes.command("down", deadline_s=120)
    elif shutil.which("kind") and images.docker_answers():
        kubeconfig = images.FOLDER / "kind-kubeconfig"
        kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        kind("create", "cluster", "--config", "-", "--wait", "120s", "--kubeconfig", str(kubeconfig), text=KIND_NODES)
        try:
            yield which.require_kubernetes({**os.environ, "KUBECONFIG": str(kubeconfig)})
        finally:
            kind("delete", "cluster", "--kubeconfig", str(kubeconfig))
    else:
        raise which.NoKubernetes("no $KUBECONFIG, no ../shared/kubernetes, no kind with a docker engine that answers")


def bring_up_shared() -> None:
    """Leaves one that is up as it is. Raises NoKubernetes."""
    print("../shared/kubernetes: up", flush=True)
    try:
        shared_kubernetes.command("build", "--all", deadline_s=UP_S)  # with Helm 3, for the charts
        shared_kubernetes.command("up", "--audit", deadline_s=UP_S)
    except AssertionError as why:
        raise which.NoKubernetes(f"../shared/kubernetes does not come up: {str(why)[-2000:]}") from None


def kind(*arguments: str, text: str = "") -> None:
    done = subprocess.run(
        ["kind", *arguments, "--name", KIND_NAME], input=text, capture_output=True, text=True, timeout=UP_S, check=False
    )
    if done.returncode != 0:
        raise which.NoKubernetes(f"kind {' '.join(arguments[:2])}: {done.stderr.strip()[-2000:]}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was brought up goes then, too
    sys.exit(main(sys.argv[1]))
