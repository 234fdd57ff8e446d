"""What the API server takes and refuses, by the CRD alone: no operator is asked, and no webhook has to be kept alive.

Each wrong document is shown to the operator's own parser as well: the rules stand twice, and must not drift.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from kvorum_operator.api.v1alpha1 import InvalidCluster, parse_spec
from kvorum_operator.cluster.observation import Observation, Record
from kvorum_operator.objects import names
from kvorum_operator.objects.desired import desired_objects
from kvorum_operator.objects.images import Images
from kvorum_operator.objects.labels import VolumeLabels
from kvorum_operator.objects.volume_claim import volume_claim

from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.stage import CRD

NAMESPACE = "kvorum-admission"
IMAGES = Images("registry.example.com/kvorum:0.1.0")


@pytest.fixture(scope="module")
def namespace(api: ApiServer) -> Iterator[str]:
    """No operator's: what stands here stays as it is. Pods are held to Pod Security's `restricted`."""
    labels = {f"pod-security.kubernetes.io/{what}": "restricted" for what in ("enforce", "warn")}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    api.kubectl("apply", "-f", str(CRD))
    api.kubectl("apply", "-f", "-", text=json.dumps(body))
    try:
        yield NAMESPACE
    finally:
        api.kubectl("delete", "namespace", NAMESPACE)


def document(spec: Mapping[str, Any], name: str = "demo") -> dict[str, Any]:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "kvorum.dev/v1alpha1", "kind": "KVCluster", "metadata": metadata, "spec": spec}


def refusal(api: ApiServer, *arguments: str, text: str | None = None) -> str:
    done = api.try_kubectl(*arguments, "--dry-run=server", text=text)
    assert done.returncode != 0, f"it was taken: {done.stdout}"
    return done.stderr


def member(**fields: Any) -> dict[str, Any]:
    return {"pod": {"overlay": {"spec": {"containers": [{"name": "member", **fields}]}}}}


# What is written, the field that is named, and what is said of it.
WRONG: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"replicas": 10}, "spec.replicas", "should be less than or equal to 9"),
    ({"replicas": -1}, "spec.replicas", "should be greater than or equal to 0"),
    ({"replicas": 2.5}, "spec.replicas", "must be of type integer"),
    ({"engine": "redis"}, "spec.engine", 'supported values: "kvorum", "etcd"'),
    ({"version": "0.1 beta"}, "spec.version", "should match"),
    ({"storage": {"size": "8GB"}}, "spec.storage.size", "must be a size, like 512Mi or 2Gi"),
    ({"storage": {"size": -1}}, "spec.storage.size", "must be a size, like 512Mi or 2Gi"),
    ({"engine": "etcd", "version": "v3.6.5"}, "spec.version", "must be 3.5.16 or a later 3.5 with engine etcd"),
    ({"engine": "etcd", "version": "3.5.15"}, "spec.version", "must be 3.5.16 or a later 3.5 with engine etcd"),
    ({"storage": {"size": "6Gi"}}, "spec.storage.size", "must be at least 3 times settings.databaseQuota and 1Gi"),
    ({"storage": {"size": "7167Mi"}}, "spec.storage.size", "as 7Gi for 2Gi, 13Gi for 4Gi or 25Gi for 8Gi"),
    ({"settings": {"databaseQuota": "4Gi"}}, "spec.storage.size", "or settings.databaseQuota to be less"),
    ({"storage": {"className": "Fast"}}, "spec.storage.className", "should match"),
    ({"settings": {"databaseQuota": 8}}, "spec.settings.databaseQuota", "must be at least 64Mi"),
    ({"settings": {"databaseQuota": "big"}}, "spec.settings.databaseQuota", "must be a size, like 512Mi or 2Gi"),
    ({"settings": {"heartbeatInterval": "100"}}, "spec.settings.heartbeatInterval", "must be a duration with its unit"),
    ({"settings": {"heartbeatInterval": "1ms"}}, "spec.settings.heartbeatInterval", "must be between 10ms and 10s"),
    ({"settings": {"heartbeatInterval": "11s"}}, "spec.settings.heartbeatInterval", "must be between 10ms and 10s"),
    (
        {"settings": {"heartbeatInterval": "500ms"}},
        "spec.settings.electionTimeout",
        "must be at least 5 heartbeat intervals of 500ms",
    ),
    (
        {"settings": {"electionTimeout": "499ms"}},
        "spec.settings.electionTimeout",
        "must be at least 5 heartbeat intervals of 100ms",
    ),
    ({"settings": {"electionTimeout": "51s"}}, "spec.settings.electionTimeout", "must be between 100ms and 50s"),
    (
        {"settings": {"compaction": {"mode": "Revision"}}},
        "spec.settings.compaction.retention",
        "must be a number of revisions of at least 1 with mode Revision, like 1000",
    ),
    (
        {"settings": {"compaction": {"mode": "Revision", "retention": 0}}},
        "spec.settings.compaction.retention",
        "must be a number of revisions of at least 1 with mode Revision, like 1000",
    ),
    (
        {"settings": {"compaction": {"retention": 1000}}},
        "spec.settings.compaction.retention",
        "must be a duration with its unit with mode Periodic, like 1h",
    ),
    ({"settings": {"compaction": {"retention": "59s"}}}, "spec.settings.compaction.retention", "must be at least 1m"),
    ({"pod": {"image": "my image"}}, "spec.pod.image", "should match"),
    ({"pod": {"imagePullPolicy": "Sometimes"}}, "spec.pod.imagePullPolicy", '"IfNotPresent"'),
    ({"pod": {"disruptionBudget": "None"}}, "spec.pod.disruptionBudget", 'supported values: "Quorum", "Strict"'),
    (
        {"pod": {"resources": {"requests": {"cpu": "lots"}}}},
        "spec.pod.resources.requests.cpu",
        "must be an amount, like 100m, 2 or 512Mi",
    ),
    (
        {"pod": {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}}},
        "spec.pod.resources.limits",
        "what requests asks for",
    ),
    ({"pod": {"metadata": {"labels": {"kvorum.dev/cluster": "x"}}}}, "spec.pod.metadata.labels", "sets itself"),
    (
        {"pod": {"metadata": {"labels": {"app.kubernetes.io/instance": "x"}}}},
        "spec.pod.metadata.labels",
        "sets itself",
    ),
    ({"pod": {"metadata": {"annotations": {"kvorum.dev/x": ""}}}}, "spec.pod.metadata.annotations", "sets itself"),
    ({"pod": {"metadata": {"labels": {"a b": "x"}}}}, "spec.pod.metadata.labels", "must have keys like name"),
    ({"pod": {"metadata": {"labels": {"a": "b c"}}}}, "spec.pod.metadata.labels.a", "should match"),
    ({"service": {"type": "ExternalName"}}, "spec.service.type", '"LoadBalancer"'),
    ({"deletionPolicy": "Snapshot"}, "spec.deletionPolicy", 'supported values: "Retain", "Delete"'),
    ({"paused": "no"}, "spec.paused", "must be of type boolean"),
    # What the operator relies on.
    ({"pod": {"overlay": {"metadata": {"labels": {}}}}}, "spec.pod.overlay.metadata", "spec.pod.metadata"),
    ({"pod": {"overlay": {"spec": {"hostname": "a"}}}}, "spec.pod.overlay.spec.hostname", "must not be set"),
    (
        {"pod": {"overlay": {"spec": {"serviceAccountName": "a"}}}},
        "spec.pod.overlay.spec.serviceAccountName",
        "which the operator relies on",
    ),
    ({"pod": {"overlay": {"spec": {"restartPolicy": "Never"}}}}, "spec.pod.overlay.spec.restartPolicy", "not be set"),
    ({"pod": {"overlay": {"spec": {"volumes": [{"name": "data"}]}}}}, "spec.pod.overlay.spec.volumes", "relies on"),
    (
        {"pod": {"overlay": {"spec": {"initContainers": [{"name": "member"}]}}}},
        "spec.pod.overlay.spec.initContainers",
        "must have none named member",
    ),
    (member(image="a"), "spec.pod.overlay.spec.containers[0].image", "spec.pod.image or spec.version"),
    (member(command=["sh"]), "spec.pod.overlay.spec.containers[0].command", "container member"),
    (member(args=["--name=a"]), "spec.pod.overlay.spec.containers[0].args", "container member"),
    (member(livenessProbe={}), "spec.pod.overlay.spec.containers[0].livenessProbe", "container member"),
    (member(lifecycle={}), "spec.pod.overlay.spec.containers[0].lifecycle", "container member"),
    (member(ports=[{"containerPort": 2380}]), "spec.pod.overlay.spec.containers[0].ports", "2379, 2380, 2381"),
    (member(env=[{"name": "POD_NAME"}]), "spec.pod.overlay.spec.containers[0].env", "POD_NAME"),
    (
        member(volumeMounts=[{"mountPath": "/etc/kvorum", "name": "mine"}]),
        "spec.pod.overlay.spec.containers[0].volumeMounts",
        "/etc/kvorum",
    ),
)


@pytest.mark.parametrize(("spec", "path", "message"), WRONG, ids=[f"{path} {spec}" for spec, path, _ in WRONG])
def test_wrong_document_is_refused_with_its_path_and_what_to_write(
    api: ApiServer, namespace: str, spec: dict[str, Any], path: str, message: str
) -> None:
    said = refusal(api, "create", "-f", "-", text=json.dumps(document(spec)))
    assert f"{path}:" in said, said
    assert message in said, said
    assert "evaluating rule" not in said, said
    with pytest.raises(InvalidCluster) as caught:
        parse_spec(document(spec))
    assert any(one.startswith(path.partition("overlay")[0].rstrip(".")) for one in caught.value.problems), caught.value


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a" * 53, "metadata.name must have at most 52 characters"),
        ("a.b", "metadata.name must be lower case letters, digits and -"),
        ("1st", "metadata.name must be lower case letters, digits and -"),
        ("demo-peers", "metadata.name must not end in -peers"),
    ],
)
def test_name_that_members_cannot_be_named_after_is_refused(
    api: ApiServer, namespace: str, name: str, message: str
) -> None:
    assert message in refusal(api, "create", "-f", "-", text=json.dumps(document({}, name)))
    with pytest.raises(InvalidCluster):
        parse_spec(document({}, name))


def test_field_that_is_not_there_is_refused_and_not_ignored(api: ApiServer, namespace: str) -> None:
    assert 'unknown field "spec.replica"' in refusal(
        api, "create", "--validate=strict", "-f", "-", text=json.dumps(document({"replica": 3}))
    )


RIGHT: tuple[dict[str, Any], ...] = (
    {},
    {"replicas": 0},
    {"engine": "etcd", "version": "3.5.30", "replicas": 9},
    {"engine": "etcd", "version": "v3.5.16-arm64"},
    {"version": "0.1.0"},
    {"storage": {"size": "7Gi", "className": "fast.ssd"}},
    {"storage": {"size": 7516192768}},
    {"storage": {"size": "7516192768"}},
    {"storage": {"size": "1.5Ti"}, "settings": {"databaseQuota": "100G"}},
    {"storage": {"size": "1216Mi"}, "settings": {"databaseQuota": "64Mi"}},
    {"settings": {"heartbeatInterval": "1s", "electionTimeout": "5s"}},
    {"settings": {"heartbeatInterval": "0.5s", "electionTimeout": "1m"} | {"electionTimeout": "50s"}},
    {"settings": {"compaction": {"mode": "Revision", "retention": 1000}}},
    {"settings": {"compaction": {"mode": "Revision", "retention": "1000"}}},
    {"settings": {"compaction": {"retention": "1h30m"}}},
    {
        "pod": {
            "image": "registry.example.com:5000/kvorum@sha256:" + "0" * 64,
            "imagePullSecrets": [{"name": "registry"}],
            "resources": {"requests": {"cpu": 1, "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
            "metadata": {
                "labels": {"team": "a", "example.com/cost": ""},
                "annotations": {"example.com/note": "any text"},
            },
            "scheduling": {
                "nodeSelector": {"disk": "ssd"},
                "tolerations": [{"key": "database", "operator": "Exists"}],
                "affinity": {"nodeAffinity": {"anything": "goes"}},
                "priorityClassName": "system-cluster-critical",
            },
            "disruptionBudget": "Strict",
        }
    },
    {
        "pod": {
            "overlay": {
                "spec": {
                    "containers": [
                        {"name": "exporter", "image": "a", "command": ["b"], "ports": [{"containerPort": 9100}]},
                        {"name": "member", "env": [{"name": "TZ", "value": "UTC"}]},
                    ],
                    "volumes": [{"name": "certificates", "secret": {"secretName": "a"}}],
                    "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["a"]}],
                }
            }
        }
    },
    {"service": {"type": "LoadBalancer", "annotations": {"a": "b"}}, "monitoring": {"podMonitor": True}},
    {"deletionPolicy": "Delete", "paused": True},
)


@pytest.mark.parametrize("spec", RIGHT, ids=map(str, RIGHT))
def test_right_document_is_taken_by_both_and_given_its_defaults(
    api: ApiServer, namespace: str, spec: dict[str, Any]
) -> None:
    stored = json.loads(
        api.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", text=json.dumps(document(spec)))
    )
    assert parse_spec(stored).spec == parse_spec(document(spec)).spec
    assert stored["spec"]["storage"]["size"] is not None


def test_document_without_a_specification_is_three_members(api: ApiServer, namespace: str) -> None:
    bare = {key: value for key, value in document({}).items() if key != "spec"}
    stored = json.loads(api.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", text=json.dumps(bare)))
    assert stored["spec"]["replicas"] == 3
    assert stored["spec"]["settings"]["databaseQuota"] == "2Gi"


@pytest.fixture
def standing(api: ApiServer, namespace: str) -> Iterator[str]:
    """A KVCluster that is there and can be edited."""
    spec = {"replicas": 3, "storage": {"size": "8Gi", "className": "standard"}}
    api.create("kvclusters", namespace, document(spec, "standing"))
    try:
        yield "standing"
    finally:
        api.delete("kvclusters", namespace, "standing")


@pytest.mark.parametrize(
    ("spec", "path", "message"),
    [
        ({"engine": "etcd"}, "spec.engine", "cannot be changed on Kubernetes (locally members can move"),
        ({"storage": {"size": "16Gi"}}, "spec.storage.size", "cannot be changed yet: make a new cluster"),
        ({"storage": {"className": "fast"}}, "spec.storage.className", "cannot be changed: make a new cluster"),
        ({"storage": {"className": None}}, "spec.storage.className", "cannot be changed: make a new cluster"),
    ],
)
def test_what_cannot_be_changed_is_refused_with_the_way_out(
    api: ApiServer, namespace: str, standing: str, spec: dict[str, Any], path: str, message: str
) -> None:
    patch = json.dumps({"spec": spec})
    said = refusal(api, "-n", namespace, "patch", "kvc", standing, "--type=merge", "-p", patch)
    assert f"{path}:" in said, said
    assert message in said, said


def test_same_size_written_otherwise_is_no_change(api: ApiServer, namespace: str, standing: str) -> None:
    patch = json.dumps({"spec": {"storage": {"size": "8192Mi"}}})
    api.kubectl("-n", namespace, "patch", "kvc", standing, "--type=merge", "--dry-run=server", "-p", patch)


def test_kubectl_scale_and_autoscalers_find_replicas_and_selector(
    api: ApiServer, namespace: str, standing: str
) -> None:
    api.kubectl("-n", namespace, "scale", "kvc", standing, "--replicas=5")
    api.patch(
        "kvclusters",
        namespace,
        standing,
        {"status": {"replicas": 4, "selector": "kvorum.dev/cluster=standing"}},
        part="/status",
    )
    scale = json.loads(api.kubectl("-n", namespace, "get", "kvc", standing, "--subresource=scale", "-o", "json"))
    assert scale["spec"]["replicas"] == 5
    assert scale["status"] == {"replicas": 4, "selector": "kvorum.dev/cluster=standing"}


def test_columns_tell_whether_it_is_well_and_what_it_is_doing(api: ApiServer, namespace: str, standing: str) -> None:
    ready = {
        "type": "Ready",
        "status": "False",
        "reason": "Rolling",
        "message": "",
        "lastTransitionTime": "2026-11-25T20:00:00Z",
    }
    status = {
        "conditions": [ready],
        "serving": "2/3",
        "leader": "standing-1",
        "version": "0.1.0",
        "plan": {"next": "Restart standing-0", "because": "its image is another now"},
    }
    api.patch("kvclusters", namespace, standing, {"status": status}, part="/status")
    narrow = api.kubectl("-n", namespace, "get", "kvc", standing).splitlines()
    assert narrow[0].split() == ["NAME", "READY", "REASON", "MEMBERS", "LEADER", "AGE"]
    assert narrow[1].split()[:5] == ["standing", "False", "Rolling", "2/3", "standing-1"]
    wide = api.kubectl("-n", namespace, "get", "kvc", standing, "-o", "wide")
    assert "Restart standing-0   its image is another now" in wide


def test_null_that_takes_a_field_of_the_pod_away_is_kept(api: ApiServer, namespace: str) -> None:
    spec = {"pod": {"overlay": {"spec": {"topologySpreadConstraints": None}}}}
    stored = json.loads(
        api.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", text=json.dumps(document(spec)))
    )
    assert stored["spec"]["pod"]["overlay"] == spec["pod"]["overlay"]


@pytest.mark.parametrize("path", ["spec.replicas", "spec.pod", "spec.pod.overlay", "spec.settings.databaseQuota"])
def test_fields_are_explained(api: ApiServer, namespace: str, path: str) -> None:
    said = api.kubectl("explain", f"kvc.{path}")
    assert "<empty>" not in said


def test_every_object_of_a_cluster_is_taken_where_pods_are_restricted(api: ApiServer, namespace: str) -> None:
    owner = api.create("kvclusters", namespace, document({"replicas": 0}, "built"))
    try:
        cluster = parse_spec(owner)
        members = names.addresses("built", namespace)
        seen = Observation(now_s=0.0, addresses=members, record=Record("token", ("built-0", "built-1", "built-2")))
        objects = desired_objects(cluster, seen, IMAGES, 3)
        for one in (*objects, volume_claim(cluster, "built-0", VolumeLabels(1, 2, cluster.spec.engine))):
            done = api.try_kubectl(
                *("apply", "--server-side", "--field-manager=kvorum-operator", "--dry-run=server", "-f", "-"),
                text=json.dumps(one),
            )
            assert done.returncode == 0, done.stderr
            assert "arning" not in done.stderr, done.stderr
        template = next(one for one in objects if one["kind"] == "StatefulSet")["spec"]["template"]
        data = {"name": "data", "persistentVolumeClaim": {"claimName": "data-built-0"}}
        pod: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**template["metadata"], "name": "built-0", "namespace": namespace},
            # The account of the cluster is not there: nothing is, but for the KVCluster.
            "spec": {
                **{key: value for key, value in template["spec"].items() if key != "serviceAccountName"},
                "volumes": [*template["spec"]["volumes"], data],
            },
        }
        api.kubectl("create", "--dry-run=server", "-f", "-", text=json.dumps(pod))
        pod["spec"]["containers"] = [{**one, "securityContext": {}} for one in pod["spec"]["containers"]]
        assert "violates PodSecurity" in refusal(api, "create", "-f", "-", text=json.dumps(pod))
    finally:
        api.delete("kvclusters", namespace, "built")
