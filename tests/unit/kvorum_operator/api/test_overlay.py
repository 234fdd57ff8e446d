"""What of members' pods an overlay may not touch, and with which words it is told."""

from typing import Any

import pytest
from kvorum_operator.api.overlay import objection


def member(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "member", **fields}]}}


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ({"metadata": {}}, "must not have metadata: labels and annotations of the pods are spec.pod.metadata"),
        ({"containers": []}, "must have nothing but spec, as a pod has it, and containers is something else"),
        ({"spec": None}, "must not take spec away"),
        ({"spec": []}, "must have a mapping as spec, as a pod has it"),
        ({"spec": {"$patch": "replace"}}, "must not replace or delete spec as a whole"),
        ({"spec": {"hostname": None}}, "must not set spec.hostname, which the operator relies on"),
        ({"spec": {"containers": None}}, "must not set spec.containers, which the operator relies on"),
        (
            {"spec": {"containers": [{"$patch": "replace"}]}},
            "must not replace spec.containers as a whole: that would take the member away",
        ),
        (
            {"spec": {"containers": [{"name": "member", "$patch": "delete"}]}},
            "must not set spec.containers[member], which the operator relies on",
        ),
        (
            member(image="a"),
            "must not set spec.containers[member].image, for which there is spec.pod.image or spec.version",
        ),
        (
            member(command=None),
            "must not set spec.containers[member].command, which the operator relies on",
        ),
        (
            member(env=[{"name": "POD_NAME", "$patch": "delete"}]),
            "must not set spec.containers[member].env[POD_NAME], which the operator relies on",
        ),
        (member(env=None), "must not set spec.containers[member].env, which the operator relies on"),
        (
            member(env=[{"$patch": "replace"}]),
            "must not replace spec.containers[member].env as a whole: the operator has some of its own there",
        ),
        (
            member(ports=[{"containerPort": 2380, "hostPort": 2380}]),
            "must not set spec.containers[member].ports[2380], which the operator relies on",
        ),
        (
            member(volumeMounts=[{"mountPath": "/var/lib/kvorum", "name": "mine"}]),
            "must not set spec.containers[member].volumeMounts[/var/lib/kvorum], which the operator relies on",
        ),
        (
            {"spec": {"volumes": [{"name": "data", "emptyDir": {}}]}},
            "must not set spec.volumes[data], which the operator relies on",
        ),
        (
            {"spec": {"volumes": [{"$patch": "replace"}]}},
            "must not replace spec.volumes as a whole: the operator has some of its own there",
        ),
        (
            {"spec": {"initContainers": [{"name": "member"}]}},
            "must not set spec.initContainers[member], which the operator relies on",
        ),
        # What no merge could be made of.
        ({"spec": {"containers": {}}}, "must have a list as spec.containers"),
        ({"spec": {"volumes": ["data"]}}, "must have mappings in spec.volumes, and [0] is none"),
        ({"spec": {"containers": [{"image": "a"}]}}, "must say name in each item of spec.containers, and [0] does not"),
        (
            {"spec": {"affinity": {"$patch": "merge"}}},
            "must say replace or delete at spec.affinity.$patch",
        ),
        (
            {"spec": {"$setElementOrder/containers": []}},
            "must not have spec.$setElementOrder/containers: of directives only $patch is taken",
        ),
        ({"spec": {1: 2}}, "must have names of fields as keys, and spec.1 is none"),
    ],
)
def test_overlay_that_would_break_a_member_is_told_where_and_what_instead(patch: dict[str, Any], said: str) -> None:
    assert objection(patch) == said


@pytest.mark.parametrize(
    "patch",
    [
        {},
        {"spec": {}},
        {"spec": {"hostAliases": [{"ip": "192.0.2.1", "hostnames": ["a"]}], "dnsPolicy": "Default"}},
        {"spec": {"nodeSelector": {"env": "prod", "ports": "none", "volumes": "ssd"}}},
        {"spec": {"topologySpreadConstraints": None}},
        {"spec": {"tolerations": [{"$patch": "replace"}]}},
        {"spec": {"containers": [{"name": "exporter", "image": "a", "command": ["b"], "lifecycle": {}}]}},
        {"spec": {"volumes": [{"name": "mine", "emptyDir": {}}]}},
        member(env=[{"name": "TZ", "value": "UTC"}], securityContext={"runAsUser": 1000}, tty=True),
        member(volumeMounts=[{"mountPath": "/certificates", "name": "mine"}], ports=[{"containerPort": 9100}]),
    ],
)
def test_all_else_of_a_pod_may_be_changed(patch: dict[str, Any]) -> None:
    assert objection(patch) is None


@pytest.mark.parametrize(
    "field",
    [
        *("image", "imagePullPolicy", "resources", "command", "args", "workingDir", "restartPolicy", "lifecycle"),
        *("startupProbe", "livenessProbe", "readinessProbe", "terminationMessagePath", "terminationMessagePolicy"),
    ],
)
def test_none_of_what_makes_a_member_can_be_set(field: str) -> None:
    found = objection(member(**{field: "x"}))
    assert found is not None
    assert found.startswith(f"must not set spec.containers[member].{field}, ")


@pytest.mark.parametrize(
    "field",
    [
        *("restartPolicy", "hostname", "subdomain", "setHostnameAsFQDN", "serviceAccountName", "serviceAccount"),
        *("activeDeadlineSeconds", "ephemeralContainers"),
    ],
)
def test_none_of_what_makes_its_pod_can_be_set(field: str) -> None:
    assert objection({"spec": {field: "x"}}) == f"must not set spec.{field}, which the operator relies on"
