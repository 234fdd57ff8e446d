"""The API server, as this operator asks it: a few verbs on plain dicts, each bounded in time.

Knows HTTP, credentials and the API's errors; not what any object means. A read is tried again while the server is
busy; a write leaves once, and what became of it the next pass observes. Right before a write `before_write` may raise:
that is how a leader that lost its Lease, without having noticed yet, does nothing stale.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import aiohttp
import kopf
import yaml

from kvorum_operator.api.v1alpha1 import GROUP, PLURAL, VERSION
from kvorum_operator.members.last_words import shortened

FIELD_MANAGER = "kvorum-operator"
CALL_TIMEOUT_S = 10.0  # an API server that takes longer for one small object is not well: the next pass asks again
CONNECT_TIMEOUT_S = 3.0  # less than a Lease's margin: a write that was allowed does not wait longer than that to leave
READ_TRIES_MAX = 3
READ_RETRY_S = 0.2  # where the server names no time of its own
READ_RETRY_S_MAX = 3.0  # a server that wants more rest than that gets it from the whole pass
CONNECTIONS_MAX = 32
LOGIN_AGE_S_MAX = 60.0  # a service account's token is replaced on disk long before it ends, about once an hour

JSON = "application/json"
MERGE = "application/merge-patch+json"
CHANGES = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"  # JSON is YAML too
BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT)

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object, and where the API server has it."""

    api_version: str
    kind: str
    plural: str


KVCLUSTERS = Resource(f"{GROUP}/{VERSION}", "KVCluster", PLURAL)
PODS = Resource("v1", "Pod", "pods")
VOLUME_CLAIMS = Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
CONFIG_MAPS = Resource("v1", "ConfigMap", "configmaps")
SERVICES = Resource("v1", "Service", "services")
SERVICE_ACCOUNTS = Resource("v1", "ServiceAccount", "serviceaccounts")
EVENTS = Resource("v1", "Event", "events")
STATEFUL_SETS = Resource("apps/v1", "StatefulSet", "statefulsets")
POD_DISRUPTION_BUDGETS = Resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICIES = Resource("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
POD_MONITORS = Resource("monitoring.coreos.com/v1", "PodMonitor", "podmonitors")
LEASES = Resource("coordination.k8s.io/v1", "Lease", "leases")

RESOURCES = {
    (resource.api_version, resource.kind): resource
    for resource in (
        KVCLUSTERS,
        PODS,
        VOLUME_CLAIMS,
        CONFIG_MAPS,
        SERVICES,
        SERVICE_ACCOUNTS,
        EVENTS,
        STATEFUL_SETS,
        POD_DISRUPTION_BUDGETS,
        NETWORK_POLICIES,
        POD_MONITORS,
        LEASES,
    )
}


class KubernetesError(Exception):
    """The API server did not do it. The text, for a person, is one line of bounded length.

    status: HTTP's, 0 without an answer. reason: the API's own word for it. causes: what is wrong with each field.
    """

    def __init__(
        self,
        what: str,
        status: int,
        reason: str,
        message: str,
        causes: tuple[str, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{what}: {shortened(message)}")
        self.status = status
        self.reason = reason
        self.message = message
        self.causes = causes
        self.retry_after_s = retry_after_s  # as the server wishes it


class NotFound(KubernetesError):
    """There is no such object, namespace or kind."""


class Conflict(KubernetesError):
    """The object is not what the caller read: another UID or resourceVersion."""


class AlreadyExists(Conflict):
    """Something of that name is there."""


class Refused(KubernetesError):
    """The object or the request is not admitted: by its schema, a policy, a quota, or for want of permission."""


class Unavailable(KubernetesError):
    """No answer in time, or the server is busy or not well. Of a write nobody knows whether it was done."""


class TimedOut(Unavailable):
    """No answer within CALL_TIMEOUT_S."""


class NotLoggedIn(KubernetesError):
    """There are no credentials, or the server does not take them."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request. verb: as RBAC and metrics name it."""

    verb: str
    method: str
    resource: Resource
    namespace: str
    name: str = ""
    subresource: str = ""
    body: object = None
    content_type: str = JSON
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        parts = ["api" if self.resource.api_version == "v1" else "apis", self.resource.api_version]
        parts += ["namespaces", self.namespace] if self.namespace else []
        # The name of what is created stands in its body alone.
        parts += [self.resource.plural, "" if self.verb == "create" else self.name, self.subresource]
        return "/" + "/".join(part for part in parts if part)

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource.kind} {self.name}".rstrip() + where


def nothing() -> None:
    """Does not stand in the way of a write."""


def uncounted(verb: str, resource: str, status: int, seconds: float) -> None:
    """Counts no call."""


class Client:
    """One login, and the connections it keeps open. close() ends them; also an asynchronous context manager.

    before_write: called right before each write leaves; what it raises reaches the caller, and nothing was written.
    on_call:      told of each request: verb, plural name of the resource, HTTP status (0: no answer), seconds.
    """

    def __init__(
        self,
        before_write: Callable[[], None] = nothing,
        on_call: Callable[[str, str, int, float], None] = uncounted,
    ) -> None:
        self.before_write = before_write
        self.on_call = on_call
        self._session: aiohttp.ClientSession | None = None
        self._login: kopf.ConnectionInfo | None = None
        self._login_s = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # Reads.

    async def get(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        """The object as it is now, None where there is none."""
        try:
            return await self._read(Call("get", "GET", resource, namespace, name))
        except NotFound:
            return None

    async def list(self, resource: Resource, namespace: str, labels: str = "", fields: str = "") -> list[Manifest]:
        """Objects as they are now. namespace: empty for all; labels, fields: selectors. Raises NotFound for a kind."""
        selectors = {"labelSelector": labels, "fieldSelector": fields}
        query = {key: selector for key, selector in selectors.items() if selector}
        found = await self._read(Call("list", "GET", resource, namespace, query=query))
        items: list[Manifest] = found["items"]
        return items

    async def _read(self, call: Call) -> Manifest:
        for _ in range(READ_TRIES_MAX - 1):
            try:
                return await self._send(call)
            except TimedOut:
                raise  # it had its time
            except Unavailable as busy:
                await asyncio.sleep(min(busy.retry_after_s or READ_RETRY_S, READ_RETRY_S_MAX))
        return await self._send(call)

    # Writes.

    async def create(self, resource: Resource, body: Manifest) -> Manifest:
        """Raises AlreadyExists."""
        return await self._send(written("create", "POST", resource, body))

    async def apply(self, resource: Resource, body: Manifest) -> Manifest:
        """Server-side apply: what body names becomes so, and what an earlier one named and this does not goes.

        Fields that others hold are taken. A resourceVersion in body must be the object's: else Conflict.
        """
        call = written("patch", "PATCH", resource, body)
        return await self._send(replace(call, content_type=APPLY, query={**call.query, "force": "true"}))

    async def patch(self, resource: Resource, body: Manifest) -> Manifest:
        """A merge patch. A uid or a resourceVersion in body's metadata must be the object's: else Conflict."""
        return await self._send(replace(written("patch", "PATCH", resource, body), content_type=MERGE))

    async def update(self, resource: Resource, body: Manifest) -> Manifest:
        """The whole object. The resourceVersion in body must be the object's: else Conflict."""
        return await self._send(written("update", "PUT", resource, body))

    async def patch_status(self, resource: Resource, body: Manifest) -> Manifest:
        """The status as a whole, and nothing else. The resourceVersion in body must be the object's: else Conflict."""
        # Not a merge: what a status does not say any more must go.
        changes = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": body["metadata"]["resourceVersion"]},
            {"op": "add", "path": "/status", "value": body["status"]},
        ]
        call = written("patch", "PATCH", resource, body)
        return await self._send(replace(call, subresource="status", body=changes, content_type=CHANGES))

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str,
        propagation: str = "Background",
        grace_s: int | None = None,
    ) -> None:
        """Raises NotFound, and Conflict when the object of that name is another one by now.

        propagation: what becomes of objects that it owns: Background, Foreground or Orphan.
        grace_s:     how long a pod may take to end; None for its own time, 0 removes it from the API at once.
        """
        options: Manifest = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": propagation,
        }
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        await self._send(Call("delete", "DELETE", resource, namespace, name, body=options))

    # HTTP.

    async def _send(self, call: Call) -> Manifest:
        """Raises KubernetesError. Refused credentials are read again once: a token may have been replaced on disk."""
        login = self._login
        if login is None or time.monotonic() - self._login_s > LOGIN_AGE_S_MAX:
            login = await self._log_in()
        try:
            return await self._exchange(call)
        except NotLoggedIn:
            renewed = await self._log_in()
            if renewed == login:
                raise
        return await self._exchange(call)

    async def _log_in(self) -> kopf.ConnectionInfo:
        found = await asyncio.to_thread(read_login)
        before, self._login, self._login_s = self._login, found, time.monotonic()
        if before is not None and replace(before, token=None) != replace(found, token=None):
            await self.close()  # a client certificate belongs to its connections; a token does not
        return found

    def _connected(self) -> aiohttp.ClientSession:
        login = self._login
        assert login is not None, "a call before the first login"
        if self._session is None:
            self._session = aiohttp.ClientSession(
                base_url=login.server,
                connector=aiohttp.TCPConnector(ssl=login.as_ssl_context(), limit=CONNECTIONS_MAX),
                timeout=aiohttp.ClientTimeout(total=CALL_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
                headers={"Accept": JSON, "User-Agent": FIELD_MANAGER},
                proxy=login.proxy_url,
                trust_env=login.trust_env,
            )
        return self._session

    def _authorization(self) -> dict[str, str]:
        return self._login.as_http_headers() if self._login is not None else {}

    async def _exchange(self, call: Call) -> Manifest:
        # Credentials are no argument of anything: a traceback with arguments would show them.
        session = self._connected()
        data = json.dumps(call.body) if call.body is not None else None
        headers = {"Content-Type": call.content_type, **self._authorization()}
        if call.method != "GET":
            self.before_write()  # nothing is awaited from here on but the request
        started_s, status = time.monotonic(), 0
        try:
            async with session.request(
                call.method, call.path, params=call.query, data=data, headers=headers
            ) as response:
                content = await response.read()
                status = response.status
        except TimeoutError:
            raise TimedOut(str(call), 0, "", f"no answer within {CALL_TIMEOUT_S:.0f}s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(str(call), 0, "", f"no answer: {error or type(error).__name__}") from None
        finally:
            self.on_call(call.verb, call.resource.plural, status, time.monotonic() - started_s)
        found = parsed(content)
        if status >= HTTPStatus.BAD_REQUEST or found is None:
            raise error_of(call, status, found, response.headers.get("Retry-After"))
        return found


def written(verb: str, method: str, resource: Resource, body: Manifest) -> Call:
    metadata = body["metadata"]
    query = {"fieldManager": FIELD_MANAGER}
    return Call(verb, method, resource, metadata.get("namespace", ""), metadata["name"], body=body, query=query)


def parsed(content: bytes) -> Manifest | None:
    """A JSON object, None for anything else: a proxy in between answers in words of its own."""
    try:
        found = json.loads(content)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def error_of(call: Call, status: int, answer: Manifest | None, retry_after: str | None) -> KubernetesError:
    said = answer if answer is not None and answer.get("kind") == "Status" else {}
    reason, message = str(said.get("reason", "")), str(said.get("message", "")) or f"HTTP {status}, and no reason given"
    kind: type[KubernetesError] = Refused
    if status == HTTPStatus.UNAUTHORIZED:
        kind = NotLoggedIn
    elif status == HTTPStatus.NOT_FOUND:
        kind = NotFound
    elif status == HTTPStatus.CONFLICT:
        kind = AlreadyExists if reason == "AlreadyExists" else Conflict
    elif status < HTTPStatus.BAD_REQUEST or status in BUSY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = Unavailable
    causes = tuple(str(cause.get("message", "")) for cause in (said.get("details") or {}).get("causes") or ())
    seconds = float(retry_after) if retry_after is not None and retry_after.isdecimal() else None
    return kind(str(call), status, reason, message, causes, seconds)


def read_login() -> kopf.ConnectionInfo:
    """The pod's service account, else KUBECONFIG. Raises NotLoggedIn."""
    settings = kopf.OperatorSettings()
    try:
        login = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError, kopf.LoginError) as error:
        raise NotLoggedIn("log in", 0, "", f"the credentials cannot be read: {error!r}") from None
    if login is None:
        raise NotLoggedIn("log in", 0, "", "there is neither a service account's token nor a file named by KUBECONFIG")
    return login
