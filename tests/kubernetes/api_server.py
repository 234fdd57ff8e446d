"""The API server as tests ask it: by kubectl where a person would, else by HTTP through one `kubectl proxy`.

With a process for each look the polling of a test would take the processors from what it looks at; with the operator's
client it would judge the operator by its own code. The proxy makes any kubeconfig do: certificates, tokens, plugins.
"""

import http.client
import json
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

ANSWER_S = 30.0
BASES = {
    **dict.fromkeys(
        ("pods", "persistentvolumeclaims", "configmaps", "services", "events", "serviceaccounts", "nodes"), "/api/v1"
    ),
    **dict.fromkeys(("namespaces", "resourcequotas", "secrets"), "/api/v1"),
    "statefulsets": "/apis/apps/v1",
    "deployments": "/apis/apps/v1",
    "poddisruptionbudgets": "/apis/policy/v1",
    "networkpolicies": "/apis/networking.k8s.io/v1",
    "leases": "/apis/coordination.k8s.io/v1",
    "kvclusters": "/apis/kvorum.dev/v1alpha1",
}
MERGE = "application/merge-patch+json"

Object = dict[str, Any]


class Refused(Exception):
    """The API server said no. code: HTTP's; the text is its own."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class ApiServer:
    """environment: with KUBECONFIG, and with kubectl on PATH."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self._proxy = subprocess.Popen(
            ["kubectl", "proxy", "--port=0"], stdout=subprocess.PIPE, text=True, env=self.environment
        )
        assert self._proxy.stdout is not None
        line = self._proxy.stdout.readline()  # Starting to serve on 127.0.0.1:PORT
        assert "serve on" in line, f"kubectl proxy says {line!r}"
        self._port = int(line.rpartition(":")[2])

    def close(self) -> None:
        self._proxy.terminate()
        self._proxy.wait(10)

    def kubectl(self, *arguments: str, text: str | None = None, deadline_s: float = 120.0) -> str:
        """What it prints. text: its standard input. Raises AssertionError with what it says where it fails."""
        done = self.try_kubectl(*arguments, text=text, deadline_s=deadline_s)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done.stdout

    def try_kubectl(
        self, *arguments: str, text: str | None = None, deadline_s: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["kubectl", *arguments],
            input=text if text is not None else "",
            capture_output=True,
            text=True,
            timeout=deadline_s,
            env=self.environment,
            check=False,
        )

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        """None: there is none of that name."""
        try:
            return self._call("GET", path(resource, namespace, name))
        except Refused as refusal:
            if refusal.code == http.client.NOT_FOUND:
                return None
            raise

    def list(self, resource: str, namespace: str, labels: str = "") -> tuple[Object, ...]:
        suffix = f"?labelSelector={labels}" if labels else ""
        return tuple(self._call("GET", path(resource, namespace) + suffix)["items"])

    def create(self, resource: str, namespace: str, body: Object) -> Object:
        return self._call("POST", path(resource, namespace), body)

    def patch(self, resource: str, namespace: str, name: str, body: Object, *, part: str = "") -> Object:
        """A merge patch. part: `/status` or `/scale`."""
        return self._call("PATCH", path(resource, namespace, name) + part, body, content=MERGE)

    def delete(self, resource: str, namespace: str, name: str, *, grace_s: int | None = None) -> None:
        """Returns at once. What is not there is deleted already."""
        body = {} if grace_s is None else {"gracePeriodSeconds": grace_s}
        try:
            self._call("DELETE", path(resource, namespace, name), body)
        except Refused as refusal:
            if refusal.code != http.client.NOT_FOUND:
                raise

    def watch(self, resource: str, namespace: str, labels: str = "", *, longest_s: int = 300) -> Iterator[Object]:
        """Events, those of what is there first; ends after longest_s or with the connection. Raises OSError."""
        query = f"?watch=true&timeoutSeconds={longest_s}" + (f"&labelSelector={labels}" if labels else "")
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=longest_s + ANSWER_S)
        try:
            connection.request("GET", path(resource, namespace) + query)
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise ConnectionError(f"watch of {resource}: {response.status}")
            while line := response.readline():
                yield json.loads(line)
        except http.client.HTTPException as error:
            raise ConnectionError(f"watch of {resource}: {error!r}") from None
        finally:
            connection.close()

    def raw(self, where: str) -> str:
        """What the API server answers below any path, such as a pod's log."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_S)
        try:
            connection.request("GET", where)
            return connection.getresponse().read().decode(errors="replace")
        finally:
            connection.close()

    def _call(self, method: str, where: str, body: Object | None = None, content: str = "application/json") -> Object:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_S)
        try:
            headers = {"Content-Type": content} if body is not None else {}
            connection.request(method, where, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        try:
            answer: Object = json.loads(data)
        except ValueError:
            answer = {"message": data.decode(errors="replace")}
        if response.status >= http.client.BAD_REQUEST:
            raise Refused(response.status, str(answer.get("message", "")))
        return answer


def path(resource: str, namespace: str, name: str = "") -> str:
    inside = f"/namespaces/{namespace}" if namespace else ""
    return f"{BASES[resource]}{inside}/{resource}" + (f"/{name}" if name else "")
