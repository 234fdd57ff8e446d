"""What the Prometheus operator is told, where it is installed and spec.monitoring asks for it. Pure."""

from kvorum_operator.api.v1alpha1 import KVCluster
from kvorum_operator.objects import labels
from kvorum_operator.objects.manifest import Manifest, manifest


def pod_monitor(cluster: KVCluster) -> Manifest | None:
    if not cluster.spec.monitoring.pod_monitor:
        return None
    name = cluster.metadata.name
    return manifest(
        "monitoring.coreos.com/v1",
        "PodMonitor",
        name,
        cluster,
        spec={
            "selector": {"matchLabels": labels.members_of(name)},
            "podTargetLabels": [labels.CLUSTER],  # rules and dashboard tell clusters by it
            "podMetricsEndpoints": [{"port": "metrics", "path": "/metrics"}],
        },
    )
