"""The operator's rights are what it does, no more and no less: compared with what the code watches, builds and deletes.

That it gets by with them on a real API server is seen there (tests/kubernetes): every case runs with them.
"""

from collections import defaultdict

import pytest
from kvorum_operator.api.v1alpha1 import parse
from kvorum_operator.controller import news
from kvorum_operator.controller.handlers import WATCHED
from kvorum_operator.objects.desired import desired_objects
from kvorum_operator.objects.images import Images
from kvorum_operator.platforms.kubernetes.apply import place_of
from kvorum_operator.platforms.kubernetes.client import (
    CONFIG_MAPS,
    EVENTS,
    KVCLUSTERS,
    PODS,
    STATEFUL_SETS,
    VOLUME_CLAIMS,
    Resource,
)
from kvorum_operator.platforms.kubernetes.platform import EXTRA

from tests.packaging import helm
from tests.packaging.helm import MAJORS, OPERATOR, Object
from tests.unit.kvorum_operator.cluster.situations import read_situation
from tests.unit.kvorum_operator.cluster.test_reasons import THREE

Rights = dict[tuple[str, str], set[str]]


def built() -> set[Resource]:
    """Kinds of all objects that any cluster may have."""
    document = {
        "apiVersion": "kvorum.dev/v1alpha1",
        "kind": "KVCluster",
        "metadata": {"name": "kv", "namespace": "ns", "uid": "1"},
        "spec": {"replicas": 3, "monitoring": {"podMonitor": True}},
    }
    _, seen = read_situation(THREE)
    return {place_of(one)[0] for one in desired_objects(parse(document), seen, Images("kvorum:1"), 3)}


def done_by_the_code() -> Rights:
    rights: Rights = defaultdict(set)

    def allow(resource: Resource, *verbs: str, part: str = "") -> None:
        group = resource.api_version.rpartition("/")[0]
        rights[group, resource.plural + part] |= set(verbs)

    for resource in WATCHED:
        allow(resource, "list", "watch")
    for resource in built():
        allow(resource, "get", "create", "patch")  # an apply that makes an object needs both
    for resource in EXTRA:
        allow(resource, "delete")
    allow(KVCLUSTERS, "get")
    allow(KVCLUSTERS, "patch", part="/status")
    allow(PODS, "list", "delete")
    allow(VOLUME_CLAIMS, "get", "list", "create", "patch", "delete")
    allow(CONFIG_MAPS, "get", "create", "patch")  # the record of the bootstrap
    allow(STATEFUL_SETS, "delete")  # its pods orphaned, to be made anew with other immutable fields
    allow(EVENTS, "list")
    allow(news.EVENTS, "create")
    return dict(rights)


def rights_of(role: Object) -> Rights:
    found: Rights = defaultdict(set)
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                assert not found[group, resource], f"{resource} of {group!r} stands twice"
                found[group, resource] |= set(rule["verbs"])
    return dict(found)


@pytest.mark.parametrize("major", MAJORS)
def test_the_operator_may_do_what_it_does_and_nothing_else(major: str) -> None:
    objects = helm.template(helm.require(major), OPERATOR)
    role = next(one for one in objects if one["kind"] == "ClusterRole")
    assert rights_of(role) == done_by_the_code()


def test_every_cluster_of_objects_is_looked_at() -> None:
    """Or the test above would not know of one."""
    assert {resource.kind for resource in built()} == {
        "ConfigMap",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "PodMonitor",
        "Service",
        "ServiceAccount",
        "StatefulSet",
    }
