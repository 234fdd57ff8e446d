"""The charts, by real Helms of both majors: what they make, what they refuse, and that every Kubernetes takes it."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kvorum_operator.api import crd
from kvorum_operator.api.v1alpha1 import parse

from tests.packaging import helm
from tests.packaging.helm import KVCLUSTER, MAJORS, OPERATOR, Object

MINORS = tuple(f"1.{minor}" for minor in range(29, 38))  # what is supported, to the newest
EVERYTHING: Object = {
    "image": {"repository": "registry.example.com:5000/kvorum/operator", "tag": "1.2.3", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "pull"}],
    "nodeImage": {"repository": "registry.example.com/kvorum", "tag": "1.2.4"},
    "etcdImage": {"repository": "registry.example.com/etcd"},
    "replicaCount": 3,
    "watchNamespaces": ["team-a", "team-b"],
    "logLevel": "debug",
    "fullnameOverride": "kv",
    "serviceAccount": {"name": "kv-account", "annotations": {"example.com/role": "kv"}},
    "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "control-plane", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "system-cluster-critical",
    "podAnnotations": {"example.com/a": "b"},
    "podLabels": {"team": "storage"},
    "networkPolicy": {"enabled": True},
    "metrics": {"service": {"annotations": {"example.com/scrape": "true"}}},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "grafanaDashboard": {"enabled": True},
}
LEAST: Object = {
    "replicaCount": 1,
    "serviceAccount": {"create": False},
    "rbac": {"create": False},
    "crds": {"install": False},
    "podDisruptionBudget": {"enabled": False},
    "metrics": {"service": {"enabled": False}},
}
VALUES = {"defaults": {}, "everything": EVERYTHING, "least": LEAST}
NOT_KUBERNETES_OWN = {"CustomResourceDefinition", "ServiceMonitor", "PrometheusRule", "KVCluster"}


@pytest.fixture(params=MAJORS)
def program(request: pytest.FixtureRequest) -> str:
    return helm.require(request.param)


@cache
def made(program: str, values: str) -> list[Object]:
    return helm.template(program, OPERATOR, VALUES[values])


def pod_of(objects: list[Object]) -> Object:
    template: Object = helm.one(objects, "Deployment")["spec"]["template"]
    return template


def container_of(objects: list[Object]) -> Object:
    (container,) = pod_of(objects)["spec"]["containers"]
    return dict(container)


# By Helm's habits.


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("chart", [OPERATOR, KVCLUSTER], ids=lambda path: path.name)
def test_charts_pass_helms_own_lint(program: str, chart: Path, values: str) -> None:
    given = VALUES[values] if chart == OPERATOR else {}
    helm.run(program, "lint", "--strict", str(chart), "--values", "-", text=json.dumps(given))


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("minor", MINORS)
def test_every_supported_kubernetes_takes_every_object(program: str, minor: str, values: str) -> None:
    checked = [one for one in made(program, values) if one["kind"] not in NOT_KUBERNETES_OWN]
    assert checked
    for one in checked:
        kubernetes_validate.validate(one, minor, strict=True)


def test_what_is_made_is_the_same_for_every_supported_kubernetes(program: str) -> None:
    for values, given in VALUES.items():
        assert helm.template(program, OPERATOR, given, kubernetes=f"{MINORS[0]}.0") == made(program, values)


def test_an_older_kubernetes_is_refused(program: str) -> None:
    with pytest.raises(helm.Refused, match=r"1\.28\.0"):
        helm.template(program, OPERATOR, kubernetes="1.28.0")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"replicas": 3}, "replicas"),
        ({"image": {"repo": "x"}}, "repo"),
        ({"image": {"repository": "kvorum:1.0"}}, "repository"),
        ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
        ({"watchNamespaces": "team-a"}, "watchNamespaces"),
        ({"watchNamespaces": ["team_a"]}, "watchNamespaces"),
        ({"watchNamespaces": ["a", "a"]}, "watchNamespaces"),
        ({"logLevel": "verbose"}, "logLevel"),
        ({"replicaCount": "2"}, "replicaCount"),
        ({"resources": {"request": {}}}, "request"),
        ({"crds": {"enabled": True}}, "enabled"),
        ({"podLabels": {"app.kubernetes.io/name": "other"}}, "podLabels"),
        ({"prometheusRule": {"runbookUrl": "https://example.com/runbooks/"}}, "runbookUrl"),
        ({"metrics": {"service": {"enabled": False}}, "serviceMonitor": {"enabled": True}}, "metrics.service.enabled"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_wrong_value_is_refused_by_its_name(program: str, values: Object, named: str) -> None:
    with pytest.raises(helm.Refused) as refused:
        helm.template(program, OPERATOR, values)
    assert named in str(refused.value)


@pytest.mark.parametrize("chart", [OPERATOR, KVCLUSTER], ids=lambda path: path.name)
def test_a_chart_may_be_within_another(program: str, chart: Path) -> None:
    """Helm hands `global` down to a chart within a chart."""
    helm.template(program, chart, {"global": {"imageRegistry": "registry.example.com"}}, release="kv")


def test_images_are_the_charts_version_unless_a_tag_is_given(program: str) -> None:
    version = yaml.safe_load((OPERATOR / "Chart.yaml").read_text("utf-8"))["appVersion"]
    plain, given = container_of(made(program, "defaults")), container_of(made(program, "everything"))
    assert plain["image"] == f"kvorum-operator:{version}"
    assert f"--node-image=kvorum:{version}" in plain["args"]
    assert given["image"] == "registry.example.com:5000/kvorum/operator:1.2.3"
    assert "--node-image=registry.example.com/kvorum:1.2.4" in given["args"]
    assert "--etcd-image-repository=registry.example.com/etcd" in given["args"]


def test_what_is_given_for_the_pod_is_in_the_pod(program: str) -> None:
    pod, container = pod_of(made(program, "everything")), container_of(made(program, "everything"))
    for key in ("nodeSelector", "tolerations", "affinity", "priorityClassName", "imagePullSecrets"):
        assert pod["spec"][key] == EVERYTHING[key]
    assert pod["metadata"]["labels"]["team"] == "storage"
    assert pod["metadata"]["annotations"] == EVERYTHING["podAnnotations"]
    assert container["resources"] == EVERYTHING["resources"]
    assert container["imagePullPolicy"] == "Always"
    assert "--log-level=debug" in container["args"]


# What it may, and how it runs.


def test_the_pod_is_restricted_and_its_root_is_read_only(program: str) -> None:
    pod, container = pod_of(made(program, "defaults")), container_of(made(program, "defaults"))
    assert pod["spec"]["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "volumes" not in pod["spec"]


def test_probes_ask_the_metrics_port(program: str) -> None:
    container = container_of(made(program, "defaults"))
    (port,) = container["ports"]
    assert f"--metrics-port={port['containerPort']}" in container["args"]
    paths = {name: container[f"{name}Probe"]["httpGet"] for name in ("liveness", "readiness", "startup")}
    assert {probe["port"] for probe in paths.values()} == {port["name"]}
    assert {name: probe["path"] for name, probe in paths.items()} == {
        "liveness": "/healthz",
        "readiness": "/readyz",
        "startup": "/healthz",
    }


def test_two_replicas_share_a_lease_and_prefer_different_nodes(program: str) -> None:
    objects = made(program, "defaults")
    deployment, container = helm.one(objects, "Deployment"), container_of(objects)
    assert deployment["spec"]["replicas"] == 2
    name = next(argument for argument in container["args"] if argument.startswith("--lease-name="))
    lease_roles = [one for one in objects if one["kind"] == "Role"]
    (rules,) = [one["rules"] for one in lease_roles]
    assert [rule.get("resourceNames") for rule in rules] == [None, [name.partition("=")[2]]]
    assert "--lease-namespace=$(NAMESPACE)" in container["args"]
    spread = deployment["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"]
    (term,) = spread["preferredDuringSchedulingIgnoredDuringExecution"]
    assert term["podAffinityTerm"]["labelSelector"] == deployment["spec"]["selector"]
    assert helm.one(objects, "PodDisruptionBudget")["spec"]["selector"] == deployment["spec"]["selector"]


def test_a_single_replica_has_no_budget_that_would_block_each_drain(program: str) -> None:
    objects = helm.template(program, OPERATOR, {"replicaCount": 1})
    assert [one for one in objects if one["kind"] == "PodDisruptionBudget"] == []


def rules_of(objects: list[Object]) -> Iterator[Object]:
    for one in objects:
        if one["kind"] in ("Role", "ClusterRole"):
            yield from one["rules"]


@pytest.mark.parametrize("values", VALUES)
def test_no_right_is_for_everything_and_none_is_on_secrets(program: str, values: str) -> None:
    for rule in rules_of(made(program, values)):
        assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"]
        assert not {"secrets", "nodes", "namespaces", "pods/exec"} & set(rule["resources"])
        assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])


def test_with_a_list_of_namespaces_it_has_rights_in_these_alone(program: str) -> None:
    objects = made(program, "everything")
    assert [one["metadata"]["name"] for one in objects if one["kind"] == "ClusterRoleBinding"] == []
    bound = {one["metadata"]["namespace"] for one in objects if one["kind"] == "RoleBinding"}
    assert bound == {"team-a", "team-b", "kvorum-system"}
    arguments = container_of(objects)["args"]
    assert [one for one in arguments if one.startswith("--namespace=")] == ["--namespace=team-a", "--namespace=team-b"]
    everywhere = next(one for one in made(program, "defaults") if one["kind"] == "ClusterRole")
    in_team = next(one for one in objects if one["kind"] == "Role" and one["metadata"]["namespace"] == "team-a")
    assert in_team["rules"] == everywhere["rules"]


def test_every_binding_is_to_the_account_the_pod_runs_as(program: str) -> None:
    for values in VALUES:
        objects = made(program, values)
        account = pod_of(objects)["spec"]["serviceAccountName"]
        subjects = [one["subjects"] for one in objects if one["kind"].endswith("Binding")]
        assert all(
            [(one["name"], one["namespace"]) for one in many] == [(account, "kvorum-system")] for many in subjects
        )


def test_two_releases_do_not_share_a_name_that_all_namespaces_see(program: str) -> None:
    names = [
        {
            (one["kind"], one["metadata"]["name"])
            for one in helm.template(program, OPERATOR, {"crds": {"install": False}}, namespace=namespace)
            if one["kind"].startswith("Cluster")
        }
        for namespace in ("team-a", "team-b")
    ]
    assert names[0] & names[1] == set()


# The CRD.


def test_the_crd_is_the_operators_and_stays_on_uninstall(program: str) -> None:
    template = helm.one(made(program, "defaults"), "CustomResourceDefinition")
    assert template["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert template == yaml.safe_load(crd.text())
    leaving = helm.one(
        helm.template(program, OPERATOR, {"crds": {"keep": False}}),
        "CustomResourceDefinition",
    )
    assert "annotations" not in leaving["metadata"]


# A cluster as a release.


def test_a_cluster_sets_what_its_user_set_and_nothing_else(program: str) -> None:
    (plain,) = helm.template(program, KVCLUSTER, release="orders", namespace="shop")
    assert plain["spec"] == {}
    assert (plain["metadata"]["name"], plain["metadata"]["namespace"]) == ("orders", "shop")
    values: Object = {
        "replicas": 5,
        "paused": False,
        "storage": {"size": "16Gi"},
        "settings": {"databaseQuota": "4Gi", "compaction": {"mode": "Revision", "retention": "1000000"}},
    }
    more = {"labels": {"team": "shop"}, "annotations": {"example.com/a": "b"}, "fullnameOverride": "other"}
    (given,) = helm.template(program, KVCLUSTER, {**values, **more}, release="orders", namespace="shop")
    assert given["spec"] == values
    assert given["metadata"]["name"] == "other"
    assert given["metadata"]["labels"]["team"] == "shop"
    parse(given)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"replica": 3}, "replica"),
        ({"replicas": 10}, "replicas"),
        ({"settings": {"databasequota": "4Gi"}}, "databasequota"),
        ({"settings": {"logLevel": "loud"}}, "logLevel"),
        ({"spec": {"replicas": 3}}, "spec"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_wrong_field_of_a_cluster_is_refused_by_its_name(program: str, values: Object, named: str) -> None:
    with pytest.raises(helm.Refused) as refused:
        helm.template(program, KVCLUSTER, values)
    assert named in str(refused.value)


def test_a_cluster_takes_every_field_of_the_spec() -> None:
    known = json.loads((KVCLUSTER / "values.schema.json").read_text("utf-8"))["properties"]
    schema: Any = crd.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert set(schema["properties"]["spec"]["properties"]) == set(known) - {
        "fullnameOverride",
        "labels",
        "annotations",
        "global",
    }


def test_charts_have_the_version_of_the_rest() -> None:
    from kvorum import __version__

    for chart in (OPERATOR, KVCLUSTER):
        said = yaml.safe_load((chart / "Chart.yaml").read_text("utf-8"))
        assert (said["version"], said["appVersion"]) == (__version__, __version__)
