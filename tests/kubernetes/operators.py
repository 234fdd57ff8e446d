"""The operator under test as processes of this machine: easy to kill at any instant, and to cut off.

It acts as a service account with the rights that the manifests give it, for the namespaces of the tests alone, so that
the API server's audit log tells its requests from everybody else's. How it runs in the cluster has tests of its own.
"""

import json
import os
import signal
import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tests.kit.deadline import wait_until
from tests.kit.ports import free_port
from tests.kubernetes.api_server import ApiServer, Object

OPERATOR = Path(sysconfig.get_path("scripts")) / "kvorum-operator"
ACCOUNT = "kvorum-operator"
LEASE = "kvorum-operator"
TOKEN_FOR = "24h"
END_S = 60.0
HTTPS = 443


class OperatorProcess:
    """One replica. folder: for its log. kubeconfig: as whom it acts."""

    def __init__(
        self,
        folder: Path,
        kubeconfig: Path,
        namespaces: Sequence[str],
        arguments: Sequence[str],
        *,
        name: str = "operator",
        lease: str = LEASE,
    ) -> None:
        self._folder = folder
        self._kubeconfig = kubeconfig
        self._namespaces = tuple(namespaces)
        self._arguments = tuple(arguments)
        self._name = name
        self._lease = lease
        self._runs = 0
        self.metrics_port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log_path(self) -> Path:
        return self._folder / f"{self._name}-{self._runs}.log"

    def log(self) -> str:
        return self.log_path.read_text()

    def start(self) -> None:
        assert not self.runs(), "the operator runs already"
        self._runs += 1
        namespaces = [part for namespace in self._namespaces for part in ("--namespace", namespace)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KVORUM_OPERATOR_")}
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, str(OPERATOR), "run", *namespaces),
                    *("--lease-namespace", self._namespaces[0], "--lease-name", self._lease),
                    *("--metrics-port", str(self.metrics_port), *self._arguments),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**environment, "KUBECONFIG": str(self._kubeconfig)},
                start_new_session=True,
            )

    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """As the kernel does it: it has no moment to say goodbye."""
        self.send(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(END_S)

    def end(self) -> int:
        """Asked to end; its exit code."""
        assert self.process is not None
        self.send(signal.SIGTERM)
        return self.process.wait(END_S)

    def restart(self) -> None:
        self.kill()
        self.start()

    def health(self) -> int:
        """What /healthz answers; 0 where nothing answers at all."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/healthz", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def destroy(self) -> None:
        if self.runs():
            self.send(signal.SIGCONT)
            self.kill()


def holder_of_lease(api: ApiServer, namespace: str) -> str:
    """Who acts, as the Lease says; "" while nobody does."""
    lease = api.get("leases", namespace, LEASE)
    return str((lease or {}).get("spec", {}).get("holderIdentity") or "")


def server_of(api: ApiServer) -> str:
    """host:port of the API server."""
    parts = urlsplit(str(configuration_of(api)["clusters"][0]["cluster"]["server"]))
    return f"{parts.hostname}:{parts.port or HTTPS}"


def configuration_of(api: ApiServer) -> Object:
    found: Object = json.loads(api.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    return found


def kubeconfig_of(api: ApiServer, namespace: str, account: str, file: Path, *, port: int = 0) -> Path:
    """A kubeconfig of this Kubernetes that acts as a service account. port: of this machine, if by way of that."""
    ours = configuration_of(api)
    if port:
        ours["clusters"][0]["cluster"]["tls-server-name"] = server_of(api).partition(":")[0]
        ours["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    token = api.kubectl("create", "token", account, "-n", namespace, "--duration", TOKEN_FOR).strip()
    ours["users"] = [{"name": account, "user": {"token": token}}]
    ours["contexts"] = [{"name": account, "context": {"cluster": ours["clusters"][0]["name"], "user": account}}]
    ours["current-context"] = account
    file.write_text(json.dumps(ours))
    file.chmod(0o600)
    return file


def wait_acting(operator: OperatorProcess, api: ApiServer, namespace: str, deadline_s: float = 60.0) -> str:
    """Until somebody holds the Lease; who."""
    return wait_until(
        lambda: holder_of_lease(api, namespace), deadline_s, f"an operator acts\n{operator.log()[-2000:]}", poll_s=0.2
    )
