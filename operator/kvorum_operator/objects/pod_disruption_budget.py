"""What keeps a quorum through drains (I11). Pure."""

from kvorum_operator.api.pod import DisruptionBudget
from kvorum_operator.api.v1alpha1 import KVCluster
from kvorum_operator.cluster import quorum
from kvorum_operator.cluster.observation import Observation
from kvorum_operator.objects import labels
from kvorum_operator.objects.manifest import Manifest, manifest

VOTERS_MIN = 3  # with fewer, a budget would only keep nodes from ever being drained


def pod_disruption_budget(cluster: KVCluster, seen: Observation) -> Manifest | None:
    """None where it would only block drains for ever.

    minAvailable, because maxUnavailable is counted anew as pods go, and a drain might take a healthy cluster below its
    quorum in legal steps. Until a shrink is done the larger number counts; without a member list, all that have data.
    """
    voters_count = max(cluster.spec.replicas, len(seen.voters) if seen.entries is not None else having_data(seen))
    if voters_count < VOTERS_MIN and cluster.spec.pod.disruption_budget is not DisruptionBudget.STRICT:
        return None
    return manifest(
        "policy/v1",
        "PodDisruptionBudget",
        cluster.metadata.name,
        cluster,
        spec={
            "minAvailable": quorum.size(max(1, voters_count)),
            "unhealthyPodEvictionPolicy": "AlwaysAllow",  # a broken pod must not block its own eviction
            "selector": {"matchLabels": labels.members_of(cluster.metadata.name)},
        },
    )


def having_data(seen: Observation) -> int:
    return len(seen.names_before | {volume.name for volume in seen.volumes.values() if volume.ours})
