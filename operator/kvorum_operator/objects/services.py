"""The two Services of a cluster: one that gives each member its name, and one for clients. Pure."""

from kvorum_operator.api.v1alpha1 import KVCluster
from kvorum_operator.objects import labels, names
from kvorum_operator.objects.manifest import Manifest, manifest

CLIENT = {"name": "client", "port": names.CLIENT_PORT, "protocol": "TCP", "targetPort": "client"}
PEER = {"name": "peer", "port": names.PEER_PORT, "protocol": "TCP", "targetPort": "peer"}
METRICS = {"name": "metrics", "port": names.METRICS_PORT, "protocol": "TCP", "targetPort": "metrics"}


def headless_service(cluster: KVCluster) -> Manifest:
    """Members find each other by it before any is ready, or none would ever be."""
    name = cluster.metadata.name
    return manifest(
        "v1",
        "Service",
        names.peers_service(name),
        cluster,
        spec={
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": labels.members_of(name),
            "ports": [dict(CLIENT), dict(PEER), dict(METRICS)],
        },
    )


def client_service(cluster: KVCluster) -> Manifest:
    """All members that serve: any of them answers any client."""
    name, wanted = cluster.metadata.name, cluster.spec.service
    found = manifest(
        "v1",
        "Service",
        name,
        cluster,
        spec={"type": wanted.type.value, "selector": labels.members_of(name), "ports": [dict(CLIENT)]},
    )
    if wanted.annotations:
        found["metadata"]["annotations"] = dict(wanted.annotations)
    return found
