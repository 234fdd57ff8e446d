"""All objects together: of right shape for every supported Kubernetes, owned, labelled, and the same again."""

import copy
from typing import Any

import kubernetes_validate
import pytest
from kvorum_operator.api import crd
from kvorum_operator.api.v1alpha1 import Engine
from kvorum_operator.cluster.step import Bootstrap
from kvorum_operator.objects import names
from kvorum_operator.objects.config_maps import bootstrap_record, members_config, read_record
from kvorum_operator.objects.desired import desired_objects
from kvorum_operator.objects.labels import VolumeLabels
from kvorum_operator.objects.volume_claim import volume_claim

from tests.unit.kvorum_operator.objects.clusters import IMAGES, THREE, UID, cluster, situation

KUBERNETES = tuple(f"1.{minor}" for minor in range(29, 38))
FULL: dict[str, Any] = {
    "engine": "etcd",
    "storage": {"size": "9Gi", "className": "fast"},
    "pod": {
        "image": "mine/etcd:1",
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "registry"}],
        "resources": {"requests": {"cpu": 1}, "limits": {"memory": "1Gi"}},
        "metadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}},
        "scheduling": {
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}],
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
            "priorityClassName": "high",
        },
        "disruptionBudget": "Strict",
        "overlay": {
            "spec": {
                "containers": [{"name": "exporter", "image": "a", "ports": [{"containerPort": 9100, "name": "extra"}]}],
                "volumes": [{"name": "certificates", "secret": {"secretName": "a"}}],
            }
        },
    },
    "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
    "monitoring": {"podMonitor": True},
    "deletionPolicy": "Delete",
}


def desired(pods: int = 3, text: str = THREE, /, **spec: Any) -> tuple[dict[str, Any], ...]:
    return desired_objects(cluster(**spec), situation(text), IMAGES, pods)


def of_kind(objects: tuple[dict[str, Any], ...], kind: str) -> dict[str, Any]:
    (found,) = [one for one in objects if one["kind"] == kind]
    return found


@pytest.mark.parametrize("version", KUBERNETES)
def test_objects_are_of_right_shape_for_every_supported_kubernetes(version: str) -> None:
    full = cluster(**FULL)
    record = bootstrap_record(full, Bootstrap(members=("kv-0",), because=""), "token")
    claim = volume_claim(full, "kv-0", VolumeLabels(0xC1, 0x100, Engine.ETCD))
    plain = desired()[-1]
    for one in (*desired(**FULL), record, claim, plain, crd.definition()):
        if one["kind"] != "PodMonitor":  # not one of Kubernetes' own
            kubernetes_validate.validate(one, version, strict=True)


def test_versions_are_all_that_the_validator_knows_from_the_oldest_supported_on() -> None:
    assert KUBERNETES[-1] == ".".join(kubernetes_validate.latest_version().split(".")[:2])


def test_stateful_set_comes_last_and_every_kind_is_there_once_but_services_and_nothing_is_left_out() -> None:
    assert [(one["kind"], one["metadata"]["name"]) for one in desired(monitoring={"podMonitor": True})] == [
        ("ServiceAccount", "kv"),
        ("Service", "kv-peers"),
        ("Service", "kv"),
        ("NetworkPolicy", "kv"),
        ("PodDisruptionBudget", "kv"),
        ("PodMonitor", "kv"),
        ("ConfigMap", "kv-members"),
        ("StatefulSet", "kv"),
    ]
    assert "PodMonitor" not in {one["kind"] for one in desired()}


def test_every_object_goes_with_its_kvcluster_and_none_holds_up_its_deletion() -> None:
    for one in desired():
        assert one["metadata"]["ownerReferences"] == [
            {
                "apiVersion": "kvorum.dev/v1alpha1",
                "kind": "KVCluster",
                "name": "kv",
                "uid": UID,
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ]
        assert one["metadata"]["namespace"] == "prod"
        assert one["metadata"]["labels"]["kvorum.dev/cluster"] == "kv"
        assert one["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "kvorum-operator"


def test_unchanged_world_gives_the_same_objects_each_of_its_own() -> None:
    first = desired(**FULL)
    second = copy.deepcopy(desired(**FULL))
    first[-1]["spec"]["template"]["spec"]["containers"].clear()
    first[1]["spec"]["ports"].clear()
    assert desired(**FULL) == second


# Data.


@pytest.mark.parametrize(("policy", "owners"), [("Retain", 0), ("Delete", 1)])
def test_data_goes_with_its_kvcluster_only_where_that_is_wanted(policy: str, owners: int) -> None:
    made = cluster(deletionPolicy=policy)
    record = bootstrap_record(made, Bootstrap(members=("kv-0",), because=""), "token")
    claim = volume_claim(made, "kv-0", VolumeLabels(None, None, None))
    for one in (record, claim):
        found = one["metadata"]["ownerReferences"]
        assert len(found) == owners
        assert not any(reference["controller"] for reference in found)


def test_volume_is_labelled_as_far_as_is_known_and_is_not_fresh() -> None:
    claim = volume_claim(cluster(), "kv-1", VolumeLabels(0xC1, None, Engine.KVORUM))
    assert claim["metadata"]["name"] == "data-kv-1"
    found = claim["metadata"]["labels"]
    assert found["kvorum.dev/cluster-id"] == "c1"
    assert found["kvorum.dev/engine"] == "kvorum"
    assert not {"kvorum.dev/member-id", "kvorum.dev/fresh"} & set(found)


def test_bootstrap_is_immutable_and_read_back_as_it_was_written() -> None:
    made = bootstrap_record(cluster(), Bootstrap(members=("kv-0", "kv-1"), because=""), "prod/kv/uid")
    assert made["immutable"] is True
    record = read_record(made["data"], "kv")
    assert (record.token, record.members) == ("prod/kv/uid", ("kv-0", "kv-1"))


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"token": "", "members": "kv-0"},
        {"token": "a"},
        {"token": "a", "members": " "},
        {"token": "a", "members": "kv-9"},
        {"token": "a", "members": "other-0"},
    ],
)
def test_record_that_cannot_be_one_is_refused(data: object) -> None:
    with pytest.raises(ValueError, match=r"^it "):
        read_record(data, "kv")


# Member files.


def files(replicas: int, text: str) -> dict[str, str]:
    found: dict[str, str] = of_kind(desired(replicas, text), "ConfigMap")["data"]
    return found


def test_before_the_bootstrap_there_are_no_files() -> None:
    assert files(0, "plan replicas=3 no-id list=unknown") == {}


def test_once_the_bootstrap_is_recorded_its_members_have_files_that_begin_a_cluster() -> None:
    found = files(0, "plan replicas=3 no-id list=unknown\nrecord kv-0 kv-1 kv-2")
    assert set(found) == {"kv-0.yaml", "kv-1.yaml", "kv-2.yaml"}
    assert all("initial-cluster-state: new\n" in content for content in found.values())


def test_there_is_a_file_for_whoever_may_run() -> None:
    situation_text = "plan replicas=3\nrecord kv-0\nkv-0 leader\nkv-1 added down no-volume\nkv-4 follower"
    assert set(files(4, situation_text)) == {f"kv-{ordinal}.yaml" for ordinal in (0, 1, 2, 3, 4)}


def test_member_listens_everywhere_and_tells_its_permanent_name() -> None:
    found = files(3, THREE)["kv-1.yaml"]
    assert "listen-client-urls: http://0.0.0.0:2379\n" in found
    assert "listen-metrics-urls: http://0.0.0.0:2381\n" in found
    assert "initial-advertise-peer-urls: http://kv-1.kv-peers.prod.svc:2380\n" in found
    assert "data-dir: /var/lib/kvorum/data\n" in found
    assert "initial-cluster: sealed=" in found


def test_files_stand_in_the_order_of_members() -> None:
    found = members_config(cluster(), situation(THREE), reversed(names.all_members("kv")))
    assert list(found["data"]) == [f"kv-{ordinal}.yaml" for ordinal in range(9)]


# Budget, Services, policy.


@pytest.mark.parametrize(
    ("spec", "text", "least"),
    [
        ({"replicas": 3}, THREE, 2),
        ({"replicas": 5}, THREE, 3),
        ({"replicas": 1}, THREE, 2),
        ({"replicas": 1}, "plan replicas=1\nkv-0 leader", None),
        ({"replicas": 2}, "plan replicas=2\nkv-0 leader\nkv-1 follower", None),
        ({"replicas": 2, "pod": {"disruptionBudget": "Strict"}}, "plan replicas=2\nkv-0 leader\nkv-1 follower", 2),
        ({"replicas": 1, "pod": {"disruptionBudget": "Strict"}}, "plan replicas=1\nkv-0 leader", 1),
        # Without a member list: whoever has data may be a voter.
        (
            {"replicas": 3},
            "plan replicas=3 list=unknown\n" + "\n".join(f"kv-{ordinal} follower leaderless" for ordinal in range(5)),
            3,
        ),
        ({"replicas": 3}, "plan replicas=3\nkv-0 leader\nkv-1 learner", 2),
    ],
)
def test_budget_keeps_a_quorum_of_the_larger_of_what_is_and_what_is_wanted(
    spec: dict[str, Any], text: str, least: int | None
) -> None:
    found = [one for one in desired(3, text, **spec) if one["kind"] == "PodDisruptionBudget"]
    assert [one["spec"]["minAvailable"] for one in found] == ([] if least is None else [least])
    assert all(one["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" for one in found)
    assert all(one["spec"]["selector"] == {"matchLabels": {"kvorum.dev/cluster": "kv"}} for one in found)


def test_members_find_each_other_before_they_are_ready_and_clients_find_those_that_are() -> None:
    services = {one["metadata"]["name"]: one for one in desired() if one["kind"] == "Service"}
    assert services["kv-peers"]["spec"]["publishNotReadyAddresses"] is True
    assert services["kv-peers"]["spec"]["clusterIP"] == "None"
    assert {one["port"] for one in services["kv-peers"]["spec"]["ports"]} == {2379, 2380, 2381}
    assert "publishNotReadyAddresses" not in services["kv"]["spec"]
    assert [one["port"] for one in services["kv"]["spec"]["ports"]] == [2379]


def test_client_service_is_as_the_specification_wants_it() -> None:
    found = [one for one in desired(**FULL) if one["metadata"]["name"] == "kv" and one["kind"] == "Service"]
    assert found[0]["spec"]["type"] == "LoadBalancer"
    assert found[0]["metadata"]["annotations"] == {"a": "b"}


def test_peers_are_reached_by_their_own_only_and_all_else_by_anybody() -> None:
    peers, others = of_kind(desired(), "NetworkPolicy")["spec"]["ingress"]
    assert [one["port"] for one in peers["ports"]] == [2380]
    assert peers["from"] == [{"podSelector": {"matchLabels": {"kvorum.dev/cluster": "kv"}}}]
    assert [one["port"] for one in others["ports"]] == [2379, 2381]
    assert "from" not in others
    assert of_kind(desired(), "NetworkPolicy")["spec"]["policyTypes"] == ["Ingress"]


def test_containers_that_an_overlay_adds_are_reached_at_their_ports() -> None:
    _, others = of_kind(desired(**FULL), "NetworkPolicy")["spec"]["ingress"]
    assert [one["port"] for one in others["ports"]] == [2379, 2381, 9100]


def test_account_has_no_token() -> None:
    assert of_kind(desired(), "ServiceAccount")["automountServiceAccountToken"] is False
