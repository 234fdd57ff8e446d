"""Which Kubernetes the tests run on, that it is one for tests, and how its nodes get images.

Taken is $KUBECONFIG if it is set, else ../shared/kubernetes, else kind where docker can pull images:
tests.kubernetes.run brings those up. A context that is not known to be for tests is refused, so that no test drains
somebody's nodes.
"""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.kubernetes.shared_kubernetes import CLUSTER, command

SHARED_CONTEXT = "kube-test"  # whatever $KUBE_TEST_NAME prefixes its processes with
ALLOWED = "KVORUM_E2E_CONTEXT"  # the name of a context that is for tests, too
KIND_PREFIX = "kind-"
LOAD_S = 600.0


class NoKubernetes(Exception):
    """There is none to run on. The text says what was looked for."""


class NotForTests(Exception):
    """The kubeconfig points to a Kubernetes that may be somebody's. The text says the way out."""


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """environment: with KUBECONFIG, and with kubectl on PATH."""

    context: str
    environment: Mapping[str, str]

    def load(self, archives: Sequence[Path]) -> None:
        """Gives images to all nodes; those of a Kubernetes that is neither kind nor ../shared have to have them."""
        names = [str(archive) for archive in archives]
        if self.context == SHARED_CONTEXT:
            command("load", *names, deadline_s=LOAD_S)
        elif self.context.startswith(KIND_PREFIX):
            for name in names:
                cluster = self.context.removeprefix(KIND_PREFIX)
                subprocess.run(
                    ["kind", "load", "image-archive", name, "--name", cluster],
                    env=self.environment,
                    check=True,
                    timeout=LOAD_S,
                )
        else:
            print(f"taken for present on the nodes of {self.context}: {', '.join(names)}")


def require_kubernetes(environment: Mapping[str, str] = os.environ) -> Kubernetes:
    """The one that $KUBECONFIG names. Raises NoKubernetes and NotForTests."""
    if not environment.get("KUBECONFIG"):
        raise NoKubernetes("KUBECONFIG is not set; `make e2e` brings a Kubernetes up")
    try:
        done = subprocess.run(
            ["kubectl", "config", "current-context"],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
            check=False,
        )
    except FileNotFoundError:
        raise NoKubernetes("there is no kubectl on PATH") from None
    context = done.stdout.strip()
    if done.returncode != 0:
        raise NoKubernetes(f"KUBECONFIG={environment['KUBECONFIG']}: {done.stderr.strip()}")
    allowed = environment.get(ALLOWED)
    if context not in (SHARED_CONTEXT, allowed) and not context.startswith(KIND_PREFIX):
        raise NotForTests(
            f"the context {context} of {environment['KUBECONFIG']} is not known to be for tests, which drain nodes and"
            f" install cluster-wide objects; if it is, say so: {ALLOWED}={context}"
        )
    return Kubernetes(context, environment)


def shared_environment() -> dict[str, str]:
    """This process' environment with what `cluster env` adds to it."""
    environment = dict(os.environ)
    for line in command("env").splitlines():
        name, value = re.fullmatch(r"export (\w+)=(.*)", line).groups()  # type: ignore[union-attr]  # its only form
        environment[name] = value.replace('"$PATH"', environment["PATH"])
    return environment


def shared_is_there() -> bool:
    """Also with programs of it stopped, or as what is left of one."""
    done = subprocess.run([CLUSTER, "status"], capture_output=True, text=True, timeout=60, check=False)
    return "KUBECONFIG=" in done.stdout
