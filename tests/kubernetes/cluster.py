"""A KVCluster on a real Kubernetes as a person has it: applied, edited, waited for; its pods and volumes looked at."""

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kvorum.client import Client, ClientError

from tests.e2e.writer import PREFIX, hashes, read_all
from tests.kit.deadline import DeadlineMissed, wait_until
from tests.kubernetes import figures
from tests.kubernetes.api_server import ApiServer, Object
from tests.kubernetes.checking_writer import CheckingWriter
from tests.kubernetes.chronicle import Chronicle, is_ready, is_stopping

STATUSES = os.environ.get("KVORUM_E2E_STATUSES")  # each case's KVCluster is kept there, for tests of what reads them
READY_S = 120.0
POLL_S = 0.1  # the API server's processors are the tested cluster's too
SENTINELS = 50


class Cluster:
    """One KVCluster. chronicle: what happens to it, from its creation on."""

    def __init__(self, api: ApiServer, namespace: str, name: str) -> None:
        self.api = api
        self.namespace = namespace
        self.name = name
        self.chronicle = Chronicle(api, namespace, name)
        self.labels = f"kvorum.dev/cluster={name}"
        self.applied_s = 0.0  # when it was last applied or edited

    # What a person does.

    def apply(self, **spec: Any) -> None:
        """By kubectl apply, the whole spec anew."""
        document = {
            "apiVersion": "kvorum.dev/v1alpha1",
            "kind": "KVCluster",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": spec,
        }
        self.applied_s = time.monotonic()
        self.api.kubectl("apply", "-f", "-", text=json.dumps(document))

    def edit(self, **spec: Any) -> None:
        """A merge patch of the spec."""
        self.applied_s = time.monotonic()
        self.api.patch("kvclusters", self.namespace, self.name, {"spec": spec})

    def delete(self) -> None:
        self.api.delete("kvclusters", self.namespace, self.name)
        self.wait(lambda: self.seen() is None, "the KVCluster is gone", 60)
        self.wait(lambda: not self.pods(), "its pods are gone", 120)

    def delete_pod(self, name: str, *, grace_s: int | None = None) -> None:
        self.api.delete("pods", self.namespace, name, grace_s=grace_s)

    def delete_volume(self, name: str) -> None:
        self.api.delete("persistentvolumeclaims", self.namespace, f"data-{name}")

    # What there is to see.

    def seen(self) -> Object | None:
        return self.api.get("kvclusters", self.namespace, self.name)

    def status(self) -> Object:
        status: Object = (self.seen() or {}).get("status") or {}
        return status

    def condition(self, kind: str) -> Object:
        return condition_of(self.status(), kind)

    def members(self) -> dict[str, Object]:
        return {one["name"]: one for one in self.status().get("members", ())}

    def member_ids(self) -> dict[str, str]:
        return {name: one["id"] for name, one in self.members().items() if one.get("id")}

    def pods(self) -> dict[str, Object]:
        found = self.api.list("pods", self.namespace, self.labels)
        return {str(pod["metadata"]["name"]): pod for pod in found}

    def volumes(self) -> dict[str, Object]:
        found = self.api.list("persistentvolumeclaims", self.namespace, self.labels)
        return {str(claim["metadata"]["name"]).removeprefix("data-"): claim for claim in found}

    def stateful_set(self) -> Object:
        found = self.api.get("statefulsets", self.namespace, self.name)
        assert found is not None, f"there is no StatefulSet {self.name}"
        return found

    def endpoint(self, name: str) -> str:
        return f"http://{self.pods()[name]['status']['podIP']}:2379"

    def endpoints(self) -> list[str]:
        """Of the pods that are ready, in order."""
        return [
            f"http://{pod['status']['podIP']}:2379"
            for _, pod in sorted(self.pods().items())
            if is_ready(pod) and not is_stopping(pod)
        ]

    def service_endpoint(self) -> str:
        service = self.api.get("services", self.namespace, self.name)
        assert service is not None, f"there is no Service {self.name}"
        return f"http://{service['spec']['clusterIP']}:2379"

    def events(self) -> list[Object]:
        """Of the KVCluster, the oldest first."""
        found = self.api.list("events", self.namespace)
        ours = [
            one
            for one in found
            if one["involvedObject"]["kind"] == "KVCluster" and one["involvedObject"]["name"] == self.name
        ]
        return sorted(ours, key=lambda one: str(one.get("lastTimestamp") or one.get("eventTime") or ""))

    def is_ready(self, replicas: int) -> bool:
        """As the status says it of the spec as it is now."""
        cluster = self.seen()
        if cluster is None or not (status := cluster.get("status")):
            return False
        return (
            status.get("observedGeneration") == cluster["metadata"]["generation"]
            and condition_of(status, "Ready").get("status") == "True"
            and status.get("replicas") == replicas
        )

    def nodes(self) -> dict[str, str]:
        """On which node each pod is."""
        return {name: str(pod["spec"].get("nodeName", "")) for name, pod in self.pods().items()}

    def uids(self) -> dict[str, str]:
        return {name: str(pod["metadata"]["uid"]) for name, pod in self.pods().items()}

    # Waiting.

    def wait(self, condition: Callable[[], Any], what: str, deadline_s: float = READY_S) -> Any:
        """The first true value. What is missed is told with all that explains it."""
        try:
            return wait_until(condition, deadline_s, what, poll_s=POLL_S)
        except DeadlineMissed as missed:
            missed.add_note(self.explained())
            raise

    def wait_ready(self, replicas: int, deadline_s: float = READY_S) -> None:
        self.wait(lambda: self.is_ready(replicas), f"{replicas} members are ready", deadline_s)

    def wait_step(self, step: str, deadline_s: float = READY_S) -> None:
        """Until a status since the last edit named a step of that kind."""

        def named() -> bool:
            since = [status for at_s, status in self.chronicle.statuses if at_s >= self.applied_s]
            return any(str((status.get("plan") or {}).get("next", "")).startswith(step) for status in since)

        self.wait(named, f"a status names the step {step}", deadline_s)

    def wait_reason(self, kind: str, reason: str, deadline_s: float = READY_S) -> str:
        """The message of a condition, once it has that reason."""
        self.wait(lambda: self.condition(kind).get("reason") == reason, f"{kind} says {reason}", deadline_s)
        return str(self.condition(kind).get("message"))

    def explained(self) -> str:
        """All there is to see, for whoever reads why a test failed."""
        status = self.status()
        conditions = [
            f"{one['type']}={one['status']} {one['reason']}: {one['message']}" for one in status.get("conditions", ())
        ]
        pods = [
            f"pod {name}{' ready' if is_ready(pod) else ''}{' stopping' if is_stopping(pod) else ''} "
            f"{pod['status'].get('phase')} {json.dumps([one['state'] for one in containers_of(pod)])}"
            for name, pod in self.pods().items()
        ]
        volumes = [
            f"volume {name} {json.dumps(claim['metadata'].get('labels'))}" for name, claim in self.volumes().items()
        ]
        members = [f"member {json.dumps(one)}" for one in status.get("members", ())]
        events = [f"event {one['type']} {one['reason']}: {one['message']}" for one in self.events()[-20:]]
        plan = f"plan {json.dumps(status.get('plan'))}"
        return "\n".join((f"-- {self.name}", *conditions, plan, *members, *pods, *volumes, *events))

    def keep(self, case: str) -> None:
        """Writes the KVCluster where tests of what reads statuses find it."""
        if STATUSES:
            folder = Path(STATUSES)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{case}.json").write_text(json.dumps(self.seen(), indent=1))


class Sentinel:
    """Keys that are there before a case and must be there after it, and the hash of all there was."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._values = {f"sentinel/{number:03d}".encode(): os.urandom(64) for number in range(SENTINELS)}
        self._revision, self._hash = asyncio.run(self._put())
        self._cluster_id = cluster.status()["clusterID"]

    async def _put(self) -> tuple[int, int]:
        async with Client(self._cluster.endpoints(), timeout_s=5.0) as client:
            for key, value in self._values.items():
                await client.put(key, value)
            revision = (await client.range(PREFIX)).header.revision
            return revision, (await client.hash_kv(revision)).hash

    def check(self) -> None:
        """Every member holds what there was, by hash, and it is the same cluster."""
        assert self._cluster.status()["clusterID"] == self._cluster_id
        asyncio.run(self._check(self._cluster.endpoints()))

    async def _check(self, endpoints: Sequence[str]) -> None:
        assert endpoints, "no member is ready"
        for endpoint in endpoints:
            async with Client([endpoint], timeout_s=10.0) as member:
                found = await member.range(b"sentinel/", b"sentinel0")
                same = {one.key: one.value for one in found.kvs} == self._values
                figures.require_kept(same, f"{self._cluster.name}: {endpoint} holds other sentinels")
                then = await member.hash_kv(self._revision, endpoint=endpoint)
                what = f"{self._cluster.name}: {endpoint} has another hash of revision {self._revision}"
                figures.require_kept(then.hash == self._hash, what)


def assert_nothing_lost(writer: CheckingWriter, cluster: Cluster) -> None:
    """What was acknowledged is there, and all members hold the same at one revision."""
    figures.require_kept(not writer.problem, f"{cluster.name}: {writer.problem}")
    endpoints = cluster.endpoints()
    found = asyncio.run(read_all(endpoints))
    lost = [key for key, value in writer.acknowledged.items() if found.get(key) != value]
    what = f"{cluster.name}: {len(lost)} of {len(writer.acknowledged)} acknowledged writes are lost: {lost[:1]}"
    figures.require_kept(not lost, what)
    found_hashes = asyncio.run(hashes(endpoints))
    figures.require_kept(len(found_hashes) == 1, f"{cluster.name}: members differ: {found_hashes}")
    print(
        f"{cluster.name}: {len(writer.acknowledged)} writes acknowledged, none lost; "
        f"longest gap {writer.largest_gap_s:.2f} s, {writer.retries_count} retries, {len(writer.failed)} failed"
        f"{', the first ' + writer.failed[0] if writer.failed else ''}"
    )


def move_leader(cluster: Cluster, name: str) -> None:
    """As etcdctl does, and waits until the status names it."""

    async def move() -> None:
        async with Client(cluster.endpoints(), timeout_s=5.0) as client:
            await client.move_leader(int(cluster.member_ids()[name], 16))

    if cluster.status()["leader"] != name:
        asyncio.run(move())
    cluster.wait(lambda: cluster.status().get("leader") == name, f"{name} leads")


def put_get(endpoint: str, key: bytes = b"written/one", value: bytes = b"1") -> bytes | None:
    async def both() -> bytes | None:
        async with Client([endpoint], timeout_s=5.0) as client:
            await client.put(key, value)
            found = await client.get(key)
            return found.value if found is not None else None

    return asyncio.run(both())


def takes_writes(endpoint: str) -> bool:
    try:
        return put_get(endpoint) is not None
    except ClientError:
        return False


def containers_of(pod: Object) -> Sequence[Object]:
    found: Sequence[Object] = pod["status"].get("containerStatuses", ())
    return found


def condition_of(status: Mapping[str, Any], kind: str) -> Object:
    return next((one for one in status.get("conditions", ()) if one["type"] == kind), {})


@contextmanager
def kvcluster(api: ApiServer, namespace: str, name: str) -> Iterator[Cluster]:
    """A cluster of that name that is not there yet; nothing of it is left afterwards."""
    cluster = Cluster(api, namespace, name)
    try:
        with cluster.chronicle:
            yield cluster
    finally:
        remove(cluster)


def remove(cluster: Cluster) -> None:
    """Also where no operator runs."""
    api, namespace = cluster.api, cluster.namespace
    api.delete("kvclusters", namespace, cluster.name)
    wait_until(lambda: not cluster.pods(), 120, f"the pods of {cluster.name} are gone", poll_s=POLL_S)
    for name in cluster.volumes():
        cluster.delete_volume(name)
    for record in api.list("configmaps", namespace, cluster.labels):
        api.delete("configmaps", namespace, record["metadata"]["name"])
