"""The StatefulSet: what runs, and what an overlay changes of it and never can."""

import copy
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from kvorum_operator.api import overlay
from kvorum_operator.api.v1alpha1 import InvalidCluster
from kvorum_operator.objects.stateful_set import SETTINGS, stateful_set

from tests.unit.kvorum_operator.objects.clusters import IMAGES, cluster


def built(**spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = stateful_set(cluster(**spec), IMAGES, 3)["spec"]
    return found


def pod(**spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = built(**spec)["template"]["spec"]
    return found


def member(**spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in pod(**spec)["containers"] if one["name"] == "member")
    return found


def test_operator_picks_the_pods_and_the_stateful_set_keeps_all_volumes() -> None:
    found = built()
    assert found["updateStrategy"] == {"type": "OnDelete"}
    assert found["podManagementPolicy"] == "Parallel"
    assert found["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert found["serviceName"] == "kv-peers"
    assert found["selector"] == {"matchLabels": {"kvorum.dev/cluster": "kv"}}
    assert found["selector"]["matchLabels"].items() <= found["template"]["metadata"]["labels"].items()


def test_volume_that_the_stateful_set_controller_makes_can_be_told() -> None:
    (template,) = built(storage={"size": "9Gi", "className": "fast"})["volumeClaimTemplates"]
    assert template["metadata"] == {"name": "data", "labels": {"kvorum.dev/fresh": "true"}}
    assert template["spec"]["resources"]["requests"]["storage"] == "9Gi"
    assert template["spec"]["storageClassName"] == "fast"
    assert "storageClassName" not in built()["volumeClaimTemplates"][0]["spec"]


@pytest.mark.parametrize("engine", ["kvorum", "etcd"])
def test_member_reads_a_file_of_its_own_and_runs_its_engine(engine: str) -> None:
    found = member(engine=engine)
    assert found["command"] == [engine]
    assert found["args"] == ["--config-file=/etc/kvorum/$(POD_NAME).yaml"]
    assert {"name": "config", "mountPath": "/etc/kvorum", "readOnly": True} in found["volumeMounts"]
    assert {"name": "config", "configMap": {"name": "kv-members"}} in pod(engine=engine)["volumes"]


def test_pod_is_what_restricted_pod_security_wants() -> None:
    found = pod()
    assert found["securityContext"]["runAsNonRoot"] is True
    assert found["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert {found["securityContext"][key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {10001}
    assert member()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert found["automountServiceAccountToken"] is False
    assert found["enableServiceLinks"] is False


def test_pod_has_nothing_that_goes_with_it_and_would_make_drains_ask_and_autoscalers_wait() -> None:
    assert [set(one) for one in pod()["volumes"]] == [{"name", "configMap"}]


def test_member_is_asked_after_at_the_plain_port_and_has_ten_minutes_to_start() -> None:
    found = member()
    assert found["startupProbe"]["tcpSocket"] == found["livenessProbe"]["tcpSocket"] == {"port": 2381}
    assert found["startupProbe"]["periodSeconds"] * found["startupProbe"]["failureThreshold"] == 600
    assert found["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": 2381}
    assert found["livenessProbe"]["periodSeconds"] * found["livenessProbe"]["failureThreshold"] >= 60


def test_why_a_member_ended_is_in_the_status_of_its_pod() -> None:
    assert member()["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert "lifecycle" not in member()


@pytest.mark.parametrize(("election", "grace_s"), [("1s", 30), ("10s", 35), ("50s", 115)])
def test_pod_has_time_to_hand_leadership_over(election: str, grace_s: int) -> None:
    assert pod(settings={"electionTimeout": election})["terminationGracePeriodSeconds"] == grace_s


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, {"requests": {"cpu": "100m", "memory": "256Mi"}}),
        ({"requests": {"cpu": 1}}, {"requests": {"cpu": "1", "memory": "256Mi"}}),
        ({"limits": {"memory": "128Mi"}}, {"requests": {"cpu": "100m"}, "limits": {"memory": "128Mi"}}),
    ],
)
def test_resources_are_asked_for_unless_they_are_named(
    resources: dict[str, object], expected: dict[str, object]
) -> None:
    assert member(pod={"resources": resources})["resources"] == expected


def test_fields_of_the_specification_are_in_the_pod() -> None:
    found = built(
        pod={
            "imagePullPolicy": "Always",
            "imagePullSecrets": [{"name": "registry"}],
            "metadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}},
            "scheduling": {
                "nodeSelector": {"disk": "ssd"},
                "tolerations": [{"key": "database", "operator": "Exists", "tolerationSeconds": 5}],
                "affinity": {"nodeAffinity": {}},
                "priorityClassName": "high",
            },
        }
    )["template"]
    assert found["metadata"]["labels"]["team"] == "a"
    assert found["metadata"]["annotations"]["note"] == "b"
    assert found["spec"]["containers"][0]["imagePullPolicy"] == "Always"
    assert found["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert found["spec"]["nodeSelector"] == {"disk": "ssd"}
    assert found["spec"]["tolerations"] == [{"key": "database", "operator": "Exists", "tolerationSeconds": 5}]
    assert found["spec"]["affinity"] == {"nodeAffinity": {}}
    assert found["spec"]["priorityClassName"] == "high"


def test_change_of_the_settings_is_a_new_revision_and_a_change_of_membership_is_none() -> None:
    def mark(**spec: Any) -> str:
        return str(built(**spec)["template"]["metadata"]["annotations"][SETTINGS])

    assert mark(settings={"logLevel": "debug"}) != mark()
    assert mark(settings={"electionTimeout": "2s"}) != mark()
    assert built(replicas=5)["template"] == built()["template"]
    assert built(paused=True, deletionPolicy="Delete")["template"] == built()["template"]


def test_members_are_spread_as_far_as_possible_and_no_further() -> None:
    found = pod()["topologySpreadConstraints"]
    assert [one["topologyKey"] for one in found] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    assert {one["whenUnsatisfiable"] for one in found} == {"ScheduleAnyway"}


# Overlays.


def test_overlay_adds_containers_volumes_and_environment() -> None:
    patch = {
        "spec": {
            "containers": [
                {"name": "exporter", "image": "exporter:1"},
                {"name": "member", "env": [{"name": "TZ", "value": "UTC"}]},
            ],
            "volumes": [{"name": "certificates", "secret": {"secretName": "a"}}],
        }
    }
    found = pod(pod={"overlay": patch})
    assert [one["name"] for one in found["containers"]] == ["exporter", "member"]
    assert {one["name"] for one in member(pod={"overlay": patch})["env"]} == {"TZ", "POD_NAME"}
    assert {one["name"] for one in found["volumes"]} == {"certificates", "config"}


names = st.sampled_from(["member", "exporter", "data", "config", "tmp", "POD_NAME", "TZ", "a"])
leaves = st.one_of(st.none(), st.booleans(), st.integers(0, 3000), names)
paths = st.sampled_from(["/var/lib/kvorum", "/etc/kvorum", "/tmp", "/mine"])
directives = st.sampled_from(["replace", "delete"])


def items(key: str, keys: st.SearchStrategy[Any], **others: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    item = st.fixed_dictionaries({key: keys}, optional={"$patch": directives, **others})
    return st.one_of(st.none(), st.lists(st.one_of(item, st.just({"$patch": "replace"})), max_size=3))


containers = items(
    "name",
    names,
    image=names,
    command=st.lists(names, max_size=2),
    args=st.lists(names, max_size=2),
    readinessProbe=st.one_of(st.none(), st.just({})),
    tty=st.booleans(),
    securityContext=st.dictionaries(names, leaves, max_size=2),
    env=items("name", names, value=names),
    ports=items("containerPort", st.sampled_from([2379, 2380, 2381, 9100])),
    volumeMounts=items("mountPath", paths, name=names),
)
overlays = st.fixed_dictionaries(
    {},
    optional={
        "spec": st.one_of(
            st.none(),
            st.fixed_dictionaries(
                {},
                optional={
                    "containers": containers,
                    "initContainers": containers,
                    "volumes": items("name", names, emptyDir=st.just({})),
                    "restartPolicy": names,
                    "serviceAccountName": st.one_of(st.none(), names),
                    "hostname": names,
                    "nodeSelector": st.dictionaries(st.sampled_from(["env", "ports", "a"]), names, max_size=2),
                    "securityContext": st.one_of(st.none(), st.dictionaries(st.just("$patch"), directives)),
                    "$patch": directives,
                },
            ),
        )
    },
)
harmless = st.fixed_dictionaries(
    {},
    optional={
        "containers": items(
            "name",
            st.sampled_from(["exporter", "sidecar"]),
            image=names,
            command=st.lists(names, max_size=1),
            ports=st.just([{"containerPort": 9100}]),
        ).filter(lambda found: found is not None and {"$patch": "replace"} not in found),
        "initContainers": st.just([{"name": "init", "image": "a", "volumeMounts": [{"mountPath": "/tmp"}]}]),
        "volumes": st.just([{"name": "certificates", "emptyDir": {}}, {"name": "none", "$patch": "delete"}]),
        "topologySpreadConstraints": st.sampled_from([None, [], [{"$patch": "replace"}]]),
        "securityContext": st.sampled_from([None, {"$patch": "delete"}, {"fsGroup": None, "runAsUser": 1}]),
        "enableServiceLinks": st.none(),
    },
).map(lambda spec: {"spec": spec})
OF_POD = ("serviceAccountName", "hostname", "subdomain", "restartPolicy")
OF_MEMBER = tuple(overlay.OF_MEMBER)
OWN_PATHS = overlay.OWN_ITEMS_OF_MEMBER["volumeMounts"]


def relied_on(spec: dict[str, Any]) -> dict[str, Any]:
    """What of a pod the operator relies on."""
    (own,) = [one for one in spec["containers"] if one["name"] == "member"]
    return {
        **{key: spec.get(key) for key in OF_POD},
        **{f"member.{key}": own.get(key) for key in OF_MEMBER},
        "env": [one for one in own["env"] if one["name"] == "POD_NAME"],
        "ports": [one for one in own["ports"] if one["containerPort"] in overlay.PORTS],
        "mounts": [one for one in own["volumeMounts"] if one["mountPath"] in OWN_PATHS],
        "volumes": [one for one in spec["volumes"] if one["name"] in overlay.OWN_VOLUMES],
        "named member": [one for one in spec.get("initContainers", ()) if one["name"] == "member"],
    }


@settings(max_examples=100)
@given(st.one_of(harmless, overlays))
def test_no_overlay_that_is_taken_changes_what_the_operator_relies_on(patch: dict[str, Any]) -> None:
    before = copy.deepcopy(patch)
    refused = overlay.objection(patch)
    event("refused" if refused else "taken")
    if refused:
        with pytest.raises(InvalidCluster, match=r"spec\.pod\.overlay: must"):
            cluster(pod={"overlay": patch})
        return
    found = pod(pod={"overlay": patch})
    assert relied_on(found) == relied_on(pod())
    assert patch == before
    assert found == pod(pod={"overlay": patch})


@settings(max_examples=10)
@given(st.permutations(["containers", "volumes", "nodeSelector", "hostAliases"]))
def test_order_of_an_overlays_fields_does_not_matter(order: list[str]) -> None:
    patch = {
        "containers": [{"name": "exporter", "image": "a"}],
        "volumes": [{"name": "b", "emptyDir": {}}],
        "nodeSelector": {"disk": "ssd"},
        "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["a"]}],
    }
    assert pod(pod={"overlay": {"spec": {key: patch[key] for key in order}}}) == pod(pod={"overlay": {"spec": patch}})


def test_empty_overlay_changes_nothing() -> None:
    assert pod(pod={"overlay": {"spec": {}}}) == pod(pod={"overlay": {}}) == pod()
