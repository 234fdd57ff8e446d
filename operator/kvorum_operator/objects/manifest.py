"""What every object has: kind, name, labels, and an owner, with which it goes. Pure."""

from typing import Any

from kvorum_operator.api.v1alpha1 import GROUP, KIND, VERSION, KVCluster
from kvorum_operator.objects import labels

Manifest = dict[str, Any]


def manifest(api_version: str, kind: str, name: str, cluster: KVCluster, **content: Any) -> Manifest:
    """An object that goes when its KVCluster goes."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": namespace_of(cluster),
            "labels": labels.common(cluster.metadata.name),
            "ownerReferences": [owner(cluster)],
        },
        **content,
    }


def owner(cluster: KVCluster, *, controls: bool = True) -> Manifest:
    """A reference to the KVCluster. It blocks no deletion: a cluster is gone at once, its objects follow."""
    assert cluster.metadata.uid is not None, f"{cluster.metadata.name} has no uid: it is of no API server"
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "name": cluster.metadata.name,
        "uid": cluster.metadata.uid,
        "controller": controls,
        "blockOwnerDeletion": False,
    }


def namespace_of(cluster: KVCluster) -> str:
    assert cluster.metadata.namespace is not None, f"{cluster.metadata.name} has no namespace: it is of no API server"
    return cluster.metadata.namespace
