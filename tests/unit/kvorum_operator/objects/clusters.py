"""KVClusters as the API server has them, and situations of theirs at Kubernetes' addresses, for tests of builders."""

from dataclasses import replace
from typing import Any

from kvorum_operator.api.v1alpha1 import KVCluster, parse_spec
from kvorum_operator.cluster.observation import Observation
from kvorum_operator.objects import names
from kvorum_operator.objects.images import Images

from tests.unit.kvorum_operator.cluster.situations import read_situation

NAMESPACE = "prod"
UID = "3f0c7d4e-0000-4000-8000-000000000001"
IMAGES = Images("registry.example.com:5000/kvorum:0.1.0")
THREE = "plan replicas=3\nrecord kv-0 kv-1 kv-2\nkv-0 leader\nkv-1 follower\nkv-2 follower"


def cluster(**spec: Any) -> KVCluster:
    return parse_spec(
        {
            "apiVersion": "kvorum.dev/v1alpha1",
            "kind": "KVCluster",
            "metadata": {"name": "kv", "namespace": NAMESPACE, "uid": UID, "generation": 3},
            "spec": spec,
        }
    )


def situation(text: str) -> Observation:
    _, seen = read_situation(text)
    return replace(seen, addresses=names.addresses("kv", NAMESPACE))
