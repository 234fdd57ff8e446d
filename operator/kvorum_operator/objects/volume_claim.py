"""A member's volume, as the operator makes it before the member's pod: labelled from the start (I4, I6). Pure."""

from kvorum_operator.api.v1alpha1 import DeletionPolicy, KVCluster, Spec
from kvorum_operator.objects import labels, names
from kvorum_operator.objects.labels import VolumeLabels
from kvorum_operator.objects.manifest import Manifest, namespace_of, owner


def volume_claim(cluster: KVCluster, member: str, known: VolumeLabels) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": names.volume_claim(member),
            "namespace": namespace_of(cluster),
            "labels": {**labels.common(cluster.metadata.name), **labels.to_labels(known)},
            "ownerReferences": owners_of_data(cluster),
        },
        "spec": claim_spec(cluster.spec),
    }


def owners_of_data(cluster: KVCluster) -> list[Manifest]:
    """Data goes with its KVCluster only where deletionPolicy says so. No controller: it is not remade either."""
    return [owner(cluster, controls=False)] if cluster.spec.deletion_policy is DeletionPolicy.DELETE else []


def claim_spec(spec: Spec) -> Manifest:
    found: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": str(spec.storage.size)}},
    }
    if spec.storage.class_name is not None:
        found["storageClassName"] = spec.storage.class_name
    return found
