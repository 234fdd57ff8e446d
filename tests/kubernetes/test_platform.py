"""The platform's own calls on a real API server: what is written, once, and never over anything of somebody else.

No member runs here: pods ask for a node that there is not, and stay Pending. What a cluster makes of these calls the
other cases show.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from kvorum_operator.api.v1alpha1 import KVCluster, parse_spec
from kvorum_operator.cluster.events import Event
from kvorum_operator.cluster.observation import Entry, Observation
from kvorum_operator.cluster.step import Bootstrap, Discard, Restart, StartNodes, StopNodes
from kvorum_operator.controller.news import News
from kvorum_operator.objects.images import Images
from kvorum_operator.platforms.kubernetes import client as kubernetes_client
from kvorum_operator.platforms.kubernetes.client import Client, Conflict
from kvorum_operator.platforms.kubernetes.platform import KubernetesPlatform
from kvorum_operator.reconcile import Fenced, ObjectRefused, StepFailed

from tests.kit.deadline import wait_until
from tests.kubernetes.api_server import ApiServer, Object
from tests.kubernetes.stage import CRD, make_namespace, remove_namespace

NAMESPACE = "kvorum-platform"
NOWHERE = {"scheduling": {"nodeSelector": {"kvorum.dev/test": "nowhere"}}}
READS = {"get", "list"}
SOON_S = 30.0
NAMES = (f"case-{count}" for count in itertools.count())


@pytest.fixture(scope="module")
def server(api: ApiServer) -> Iterator[ApiServer]:
    """With a namespace that no operator looks after."""
    api.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    api.kubectl("wait", "--for=condition=Established", "crd/kvclusters.kvorum.dev", "--timeout=30s")
    make_namespace(api, NAMESPACE)
    try:
        yield api
    finally:
        remove_namespace(api, NAMESPACE)


@pytest.fixture
def case(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> Iterator["Case"]:
    monkeypatch.setenv("KUBECONFIG", server.environment["KUBECONFIG"])
    one = Case(server, next(NAMES))
    one.make()
    try:
        yield one
    finally:
        server.delete("kvclusters", NAMESPACE, one.name)


@dataclass(slots=True)
class Case:
    """One KVCluster, and passes over it by operators that begin anew as often as a test likes."""

    api: ApiServer
    name: str
    namespace: str = NAMESPACE
    uid: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)

    def make(self) -> None:
        body = self.document(3)
        self.uid = self.api.create("kvclusters", self.namespace, body)["metadata"]["uid"]

    def document(self, replicas: int, **spec: Any) -> Object:
        about = {"name": self.name, "namespace": self.namespace, **({"uid": self.uid} if self.uid else {})}
        content = {"replicas": replicas, "pod": NOWHERE, **spec}
        return {"apiVersion": "kvorum.dev/v1alpha1", "kind": "KVCluster", "metadata": about, "spec": content}

    def cluster(self, replicas: int = 3, **spec: Any) -> KVCluster:
        return parse_spec(self.document(replicas, **spec))

    def member(self, ordinal: int) -> str:
        return f"{self.name}-{ordinal}"

    @property
    def members(self) -> tuple[str, ...]:
        return tuple(self.member(ordinal) for ordinal in range(3))

    def run(self, body: Callable[["Operator"], Awaitable[Any]], before_write: Callable[[], None] | None = None) -> Any:
        """With an operator that remembers nothing."""

        async def go() -> Any:
            async with Client(before_write or kubernetes_client.nothing, self._count) as client:
                return await body(Operator(client, self))

        return asyncio.run(go())

    def _count(self, verb: str, resource: str, status: int, seconds: float) -> None:
        self.calls.append((verb, resource))

    def start(self, cluster: KVCluster | None = None) -> None:
        """To three pods, Pending, on three claims."""

        async def go(operator: Operator) -> None:
            for _ in range(3):
                await operator.advance(cluster or self.cluster())

        self.run(go)
        self.wait_for_pods()

    def wait_for_pods(self, count: int = 3) -> dict[str, Object]:
        return wait_until(
            lambda: found if len(found := self.pods()) == count else {}, SOON_S, f"{count} pods", poll_s=0.1
        )

    def pods(self) -> dict[str, Object]:
        """Those that are not on their way out."""
        found = self.api.list("pods", self.namespace, f"kvorum.dev/cluster={self.name}")
        return {one["metadata"]["name"]: one for one in found if "deletionTimestamp" not in one["metadata"]}

    def claim(self, ordinal: int) -> Object | None:
        return self.api.get("persistentvolumeclaims", self.namespace, f"data-{self.member(ordinal)}")

    def require(self, resource: str, name: str) -> Object:
        found = self.api.get(resource, self.namespace, name)
        assert found is not None, f"{resource} {name}"
        return found

    @property
    def stateful_set(self) -> Object:
        return self.require("statefulsets", self.name)


class Operator:
    def __init__(self, client: Client, case: Case) -> None:
        self.client = client
        self.case = case
        self.platform = KubernetesPlatform(client, case.namespace, case.name, Images("kvorum:none"))

    async def look(self, cluster: KVCluster, entries: tuple[Entry, ...] | None = None) -> Observation:
        scene = await self.platform.look(cluster)
        return Observation(
            scene.now_s, scene.addresses, scene.nodes, scene.volumes, record=scene.record, entries=entries
        )

    async def put(self, cluster: KVCluster, entries: tuple[Entry, ...] | None = None) -> Observation:
        seen = await self.look(cluster, entries)
        await self.platform.put_objects(cluster, seen)
        return seen

    async def advance(self, cluster: KVCluster) -> None:
        """One pass of a cluster that begins."""
        seen = await self.put(cluster)
        if seen.record is None:
            await self.platform.bootstrap(Bootstrap(members=self.case.members, because="a test"))
        elif len(seen.nodes) < len(seen.record.members):
            await self.start(cluster, seen, *seen.record.members)

    async def start(self, cluster: KVCluster, seen: Observation, *names: str) -> None:
        await self.platform.start_nodes(StartNodes(names=names, because="a test"), cluster, seen)


# Objects.


def test_settled_cluster_is_read_five_times_a_pass_and_never_written(case: Case) -> None:
    case.start()
    cluster = case.cluster(0)

    async def go(operator: Operator) -> None:
        await operator.put(cluster)
        await operator.platform.stop_nodes(StopNodes(names=case.members, because="a test"))
        wait_until(lambda: not case.pods(), SOON_S, "nothing is missing", poll_s=0.1)
        await operator.put(cluster)
        case.calls.clear()
        await operator.put(cluster)

    case.run(go)
    # The fifth, which comes first, is the KVCluster itself.
    reads = [("get", "configmaps"), ("get", "statefulsets"), ("list", "persistentvolumeclaims"), ("list", "pods")]
    assert sorted(case.calls) == reads


def test_new_operator_writes_nothing_where_all_is_as_it_should_be(case: Case) -> None:
    case.start()
    case.calls.clear()
    case.run(lambda operator: operator.put(case.cluster()))
    assert {verb for verb, _ in case.calls} <= READS


def test_what_somebody_changed_is_put_right_and_what_they_added_stays(case: Case) -> None:
    case.start()
    changed = {"metadata": {"labels": {"theirs": "x"}}, "spec": {"publishNotReadyAddresses": False}}
    cluster = case.cluster()

    async def go(operator: Operator) -> None:
        await operator.put(cluster)
        case.api.patch("services", NAMESPACE, f"{case.name}-peers", changed)
        case.api.patch("statefulsets", NAMESPACE, case.name, {"spec": {"updateStrategy": {"type": "RollingUpdate"}}})
        operator.platform.forget_objects()
        await operator.put(cluster)

    case.run(go)
    service = case.require("services", f"{case.name}-peers")
    assert service["spec"]["publishNotReadyAddresses"]
    assert service["metadata"]["labels"]["theirs"] == "x"
    assert case.stateful_set["spec"]["updateStrategy"]["type"] == "OnDelete"


def test_what_is_not_wished_for_any_more_goes(case: Case) -> None:
    wished = case.cluster(service={"annotations": {"example.com/a": "1"}})
    case.start(wished)
    assert case.api.get("poddisruptionbudgets", NAMESPACE, case.name) is not None
    alone = case.cluster(1, pod={})
    entries = (Entry(1, case.member(0), ("http://x",), started=True),)
    case.run(lambda operator: operator.put(alone, entries))
    assert "example.com/a" not in case.require("services", case.name)["metadata"]["annotations"]
    assert "nodeSelector" not in case.stateful_set["spec"]["template"]["spec"]
    assert case.api.get("poddisruptionbudgets", NAMESPACE, case.name) is None
    assert case.stateful_set["spec"]["replicas"] == 1  # the member list names nobody above


@pytest.mark.parametrize(
    ("resource", "suffix", "content"),
    [
        ("serviceaccounts", "", {}),
        ("configmaps", "-members", {"data": {"theirs": "x"}}),
        ("services", "-peers", {"spec": {"ports": [{"port": 1}]}}),
    ],
)
def test_object_of_somebody_else_is_left_alone_and_named(
    case: Case, resource: str, suffix: str, content: Object
) -> None:
    name = case.name + suffix
    theirs = case.api.create(resource, NAMESPACE, {"metadata": {"name": name}, **content})
    with pytest.raises(ObjectRefused, match=f"{name} is there and not this cluster's: it has no label"):
        case.run(lambda operator: operator.put(case.cluster()))
    assert case.require(resource, name)["metadata"]["resourceVersion"] == theirs["metadata"]["resourceVersion"]


def test_kind_that_this_kubernetes_does_not_have_is_an_extra_and_stops_no_object_after_it(case: Case) -> None:
    if "monitoring.coreos.com" in case.api.kubectl("api-versions"):
        pytest.skip("NOT RUN: this Kubernetes has PodMonitors")
    with pytest.raises(ObjectRefused, match="this Kubernetes has no such kind") as refused:
        case.run(lambda operator: operator.put(case.cluster(monitoring={"podMonitor": True})))
    assert not refused.value.needed
    assert case.stateful_set["spec"]["replicas"] == 0


def test_claim_template_that_changes_makes_the_stateful_set_anew_and_touches_no_pod(case: Case) -> None:
    case.start()
    pods, before = case.pods(), case.stateful_set["metadata"]["uid"]
    larger = case.cluster(storage={"size": "20Gi"})
    case.run(lambda operator: operator.put(larger))
    wait_until(lambda: case.api.get("statefulsets", NAMESPACE, case.name) is None, SOON_S, "the old one is gone")
    case.run(lambda operator: operator.put(larger))
    made = case.stateful_set
    assert made["metadata"]["uid"] != before
    assert made["spec"]["replicas"] == 3
    assert made["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] == "20Gi"

    def owners() -> set[str]:
        return {owner["uid"] for pod in case.pods().values() for owner in pod["metadata"].get("ownerReferences", ())}

    wait_until(lambda: owners() == {made["metadata"]["uid"]}, SOON_S, "the new one has the pods", poll_s=0.1)
    assert {name: pod["metadata"]["uid"] for name, pod in case.pods().items()} == {
        name: pod["metadata"]["uid"] for name, pod in pods.items()
    }


# Races.


def test_late_operator_writes_over_nothing_that_it_did_not_see(case: Case) -> None:
    case.start()
    cluster = case.cluster()

    async def go(late: Operator) -> None:
        seen = await late.put(cluster)
        other = Operator(late.client, case)
        await other.put(cluster)
        await other.platform.stop_nodes(StopNodes(names=case.members, because="a test"))
        with pytest.raises(Conflict):
            await late.start(cluster, seen, case.member(3))

    case.run(go)
    assert case.stateful_set["spec"]["replicas"] == 0


def test_status_of_the_stateful_set_that_changed_meanwhile_is_no_conflict(case: Case) -> None:
    case.start()
    cluster = case.cluster()

    async def go(operator: Operator) -> None:
        await operator.put(cluster)
        case.api.patch("statefulsets", NAMESPACE, case.name, {"status": {"collisionCount": 7}}, part="/status")
        await operator.platform.stop_nodes(StopNodes(names=case.members, because="a test"))

    case.run(go)
    assert case.stateful_set["spec"]["replicas"] == 0


def test_pod_that_was_made_since_is_not_deleted_for_the_one_before(case: Case) -> None:
    case.start()
    cluster, name = case.cluster(), case.member(1)

    async def go(operator: Operator) -> str:
        seen = await operator.put(cluster)
        before = seen.nodes[name].uid
        case.api.delete("pods", NAMESPACE, name, grace_s=0)
        made = wait_until(lambda: is_another(case.pods().get(name), before), SOON_S, "another pod", poll_s=0.1)
        await operator.platform.restart(Restart(name=name, uid=before, because="a test"), seen)
        await operator.platform.discard(Discard(name=name, member_id=0xBAD, because="a test"))
        return made

    made = case.run(go)
    assert case.pods()[name]["metadata"]["uid"] == made
    assert case.claim(1) is not None  # its label names no member that was to be discarded


def is_another(pod: Object | None, uid: str) -> str:
    found: str = pod["metadata"]["uid"] if pod is not None else uid
    return found if found != uid else ""


def test_restart_takes_exactly_the_pod_it_was_decided_for(case: Case) -> None:
    case.start()
    name = case.member(1)
    before = {name: pod["metadata"]["uid"] for name, pod in case.pods().items()}

    async def go(operator: Operator) -> None:
        seen = await operator.put(case.cluster())
        await operator.platform.restart(Restart(name=name, uid="of another", because="a test"), seen)
        await operator.platform.restart(Restart(name=name, uid=before[name], because="a test"), seen)

    case.run(go)
    wait_until(lambda: is_another(case.pods().get(name), before[name]), SOON_S, "another pod", poll_s=0.1)
    others = {one: pod["metadata"]["uid"] for one, pod in case.pods().items() if one != name}
    assert others == {one: uid for one, uid in before.items() if one != name}


def test_fenced_operator_writes_nothing_at_all(case: Case) -> None:
    def fence() -> None:
        raise Fenced

    with pytest.raises(Fenced):
        case.run(lambda operator: operator.put(case.cluster()), before_write=fence)
    assert case.api.get("statefulsets", NAMESPACE, case.name) is None
    assert case.api.get("serviceaccounts", NAMESPACE, case.name) is None


def test_operators_that_die_after_each_single_write_reach_the_end_together(case: Case) -> None:
    """I10, at every write: each does one, and the next finds what it left."""
    lives = 0
    while True:
        writes = itertools.count()

        def before_write(writes: Iterator[int] = writes) -> None:
            if next(writes) == 1:
                raise Fenced  # as good as SIGKILL: nothing of this one follows

        with contextlib.suppress(Fenced, Conflict):
            case.run(lambda operator: operator.advance(case.cluster()), before_write)
        lives += 1
        assert lives < 60, "they do not come to an end"
        if len(case.pods()) == 3 and next(writes) == 0:
            break
    assert lives > 12  # seven objects, the record, its files, three claims, the StatefulSet's size
    labels = [(case.claim(ordinal) or {})["metadata"]["labels"] for ordinal in range(3)]
    assert not any("kvorum.dev/fresh" in one for one in labels)


# Bootstrap and volumes.


def test_bootstrap_is_recorded_once_and_for_good(case: Case) -> None:
    async def go(operator: Operator) -> None:
        await operator.put(case.cluster())
        await operator.platform.bootstrap(Bootstrap(members=case.members, because="a test"))
        with pytest.raises(StepFailed, match="recorded before"):
            await operator.platform.bootstrap(Bootstrap(members=case.members[:1], because="a test"))

    case.run(go)
    record = case.require("configmaps", f"{case.name}-bootstrap")
    assert record["immutable"]
    assert record["data"] == {"members": " ".join(case.members), "token": f"{NAMESPACE}/{case.name}/{case.uid}"}
    assert not record["metadata"].get("ownerReferences")


def test_claim_of_somebody_else_is_left_alone_and_no_pod_is_put_on_it(case: Case) -> None:
    """As a pod of a later member would bring about: a StatefulSet leaves nobody out, and mounts what is there."""
    body = {
        "metadata": {"name": f"data-{case.member(1)}"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    theirs = case.api.create("persistentvolumeclaims", NAMESPACE, body)["metadata"]["uid"]

    async def go(operator: Operator) -> None:
        await operator.advance(case.cluster())
        await operator.advance(case.cluster())

    with pytest.raises(ObjectRefused, match=f"data-{case.member(1)} is there and not this cluster's"):
        case.run(go)
    claim = case.claim(1)
    assert claim is not None
    assert claim["metadata"]["uid"] == theirs
    assert not claim["metadata"].get("labels")
    assert case.claim(0) is not None
    assert case.claim(2) is not None
    assert case.stateful_set["spec"]["replicas"] == 1


def test_claim_that_lost_its_labels_is_nobodys_known_and_not_gone(case: Case) -> None:
    case.start()
    case.api.patch(
        "persistentvolumeclaims",
        NAMESPACE,
        f"data-{case.member(1)}",
        {"metadata": {"labels": {"kvorum.dev/cluster": None}}},
    )
    seen = case.run(lambda operator: operator.look(case.cluster()))
    assert not seen.volumes[case.member(1)].ours


def test_claim_made_in_place_of_a_lost_one_is_no_volume_until_a_step_adopts_it(case: Case) -> None:
    case.start()
    name, cluster = case.member(1), case.cluster()
    case.api.delete("persistentvolumeclaims", NAMESPACE, f"data-{name}")
    case.api.delete("pods", NAMESPACE, name, grace_s=0)
    former = wait_until(lambda: on_fresh_claim(case), SOON_S, "a pod on a claim that the controller made", poll_s=0.1)

    async def go(operator: Operator) -> None:
        seen = await operator.put(cluster)
        assert name not in seen.volumes
        assert not seen.nodes[name].running
        assert seen.nodes[name].held_up is None  # only a step helps
        await operator.start(cluster, replace(seen, entries=(Entry(0xA1, name, ("http://x",), started=False),)), name)

    case.run(go)
    claim = case.claim(1)
    assert claim is not None
    assert "kvorum.dev/fresh" not in claim["metadata"]["labels"]
    assert claim["metadata"]["labels"]["kvorum.dev/member-id"] == "a1"
    wait_until(lambda: is_another(case.pods().get(name), former), SOON_S, "a pod of the member's own", poll_s=0.1)
    seen = case.run(lambda operator: operator.look(cluster))
    assert seen.volumes[name].member_id == 0xA1
    assert seen.nodes[name].held_up is not None


def on_fresh_claim(case: Case) -> str:
    """The UID of the pod that is on one."""
    claim, pod = case.claim(1), case.pods().get(case.member(1))
    fresh = claim is not None and "kvorum.dev/fresh" in claim["metadata"]["labels"]
    found: str = pod["metadata"]["uid"] if pod is not None and fresh else ""
    return found


def test_empty_claims_of_pods_that_nobody_wants_are_deleted(case: Case) -> None:
    case.start()
    case.api.patch("statefulsets", NAMESPACE, case.name, {"spec": {"replicas": 4}})
    case.wait_for_pods(4)
    entries = tuple(Entry(k + 1, case.member(k), (f"http://{k}",), started=True) for k in range(3))
    case.run(lambda operator: operator.put(case.cluster(), entries))
    case.wait_for_pods(3)
    wait_until(lambda: not all_pods_of(case, 3), SOON_S, "the fourth is gone", poll_s=0.1)
    case.run(lambda operator: operator.put(case.cluster(), entries))
    wait_until(lambda: case.claim(3) is None, SOON_S, "so is its claim", poll_s=0.1)
    assert case.claim(2) is not None


def all_pods_of(case: Case, ordinal: int) -> bool:
    return case.api.get("pods", NAMESPACE, case.member(ordinal)) is not None


def test_quota_that_is_too_small_for_all_starts_some_and_is_told(case: Case) -> None:
    """In a namespace of its own: a quota is for all that is in one."""
    narrow = Case(case.api, case.name, f"{NAMESPACE}-quota")
    make_namespace(case.api, narrow.namespace)
    try:
        narrow.make()
        spec = {"hard": {"persistentvolumeclaims": "2"}}
        case.api.create("resourcequotas", narrow.namespace, {"metadata": {"name": "two"}, "spec": spec})
        wait_until(
            lambda: (case.api.get("resourcequotas", narrow.namespace, "two") or {}).get("status", {}).get("hard"),
            SOON_S,
            "the quota counts",
            poll_s=0.1,
        )

        async def go(operator: Operator) -> None:
            await operator.advance(narrow.cluster())
            await operator.advance(narrow.cluster())

        with pytest.raises(ObjectRefused, match=f"PersistentVolumeClaim data-{case.member(2)} .*exceeded quota: two"):
            narrow.run(go)
        assert narrow.stateful_set["spec"]["replicas"] == 2
    finally:
        remove_namespace(case.api, narrow.namespace)


def test_policy_says_at_any_time_whether_data_goes_with_its_kvcluster(case: Case) -> None:
    case.start()
    case.run(lambda operator: operator.put(case.cluster(deletionPolicy="Delete")))
    data = [case.claim(0), case.claim(2), case.require("configmaps", f"{case.name}-bootstrap")]
    assert [[owner["uid"] for owner in (one or {})["metadata"]["ownerReferences"]] for one in data] == [[case.uid]] * 3
    case.run(lambda operator: operator.put(case.cluster()))
    data = [case.claim(0), case.claim(2), case.require("configmaps", f"{case.name}-bootstrap")]
    assert not any((one or {})["metadata"].get("ownerReferences") for one in data)


# The client.


def test_status_is_written_as_a_whole_and_only_over_what_was_read(case: Case) -> None:
    async def go(operator: Operator) -> None:
        client, kind = operator.client, kubernetes_client.KVCLUSTERS
        live = await client.get(kind, NAMESPACE, case.name)
        assert live is not None
        about = {key: live["metadata"][key] for key in ("name", "namespace", "resourceVersion")}
        first = await client.patch_status(kind, {"metadata": about, "status": {"leader": "a", "clusterID": "c1"}})
        with pytest.raises(Conflict):
            await client.patch_status(kind, {"metadata": about, "status": {"leader": "b"}})
        about["resourceVersion"] = first["metadata"]["resourceVersion"]
        second = await client.patch_status(kind, {"metadata": about, "status": {"leader": "b"}})
        assert "clusterID" not in second["status"]  # what is not said any more is gone
        assert second["metadata"]["generation"] == live["metadata"]["generation"]

    case.run(go)


def test_event_is_told_once_in_ten_minutes_however_often_it_happens(case: Case) -> None:
    now_s = [0.0]
    one, other = Event("Normal", "Waking", "it starts"), Event("Normal", "Waking", "it starts again")

    async def tell(operator: Operator) -> None:
        news = News(operator.client, "a test", lambda: now_s[0])
        live = await operator.client.get(kubernetes_client.KVCLUSTERS, NAMESPACE, case.name)
        assert live is not None
        for at_s in (0.0, 1.0, 599.0, 601.0):
            now_s[0] = at_s
            await news.tell(live, (one, one, other))

    case.run(tell)
    told = [
        (event["reason"], event["message"])
        for event in case.api.list("events", NAMESPACE)
        if event["involvedObject"].get("uid") == case.uid
    ]
    assert sorted(told) == 2 * [("Waking", "it starts")] + 2 * [("Waking", "it starts again")]


def test_namespace_on_its_way_out_is_a_refusal_in_the_servers_words(case: Case) -> None:
    going = Case(case.api, case.name, f"{NAMESPACE}-going")
    make_namespace(case.api, going.namespace)
    going.make()
    keeper = {"metadata": {"name": "keeper", "finalizers": ["kvorum.dev/test"]}}
    case.api.create("configmaps", going.namespace, keeper)
    case.api.delete("namespaces", "", going.namespace)
    try:
        with pytest.raises(ObjectRefused, match="because it is being terminated"):
            going.run(lambda operator: operator.put(going.cluster()))
    finally:
        case.api.patch("configmaps", going.namespace, "keeper", {"metadata": {"finalizers": None}})
        remove_namespace(case.api, going.namespace)
