"""All objects of a cluster but its data: what is applied whenever it differs. Pure.

Not here: the volumes and the record of the bootstrap, which are created once and never applied.
"""

from kvorum_operator.api.v1alpha1 import KVCluster
from kvorum_operator.cluster.observation import Observation
from kvorum_operator.objects import names
from kvorum_operator.objects.access import network_policy, service_account
from kvorum_operator.objects.config_maps import members_config
from kvorum_operator.objects.images import Images
from kvorum_operator.objects.manifest import Manifest
from kvorum_operator.objects.pod_disruption_budget import pod_disruption_budget
from kvorum_operator.objects.pod_monitor import pod_monitor
from kvorum_operator.objects.services import client_service, headless_service
from kvorum_operator.objects.stateful_set import stateful_set


def desired_objects(cluster: KVCluster, seen: Observation, images: Images, replicas: int) -> tuple[Manifest, ...]:
    """In the order they are applied: the StatefulSet last, for its pods need the others.

    replicas: of the StatefulSet, whose pods have files too.
    """
    pods = stateful_set(cluster, images, replicas)
    found = (
        service_account(cluster),
        headless_service(cluster),
        client_service(cluster),
        network_policy(cluster, pods["spec"]["template"]),
        pod_disruption_budget(cluster, seen),
        pod_monitor(cluster),
        members_config(cluster, seen, members_with_files(cluster.metadata.name, seen, replicas)),
        pods,
    )
    return tuple(one for one in found if one is not None)


def members_with_files(cluster: str, seen: Observation, replicas: int) -> set[str]:
    """Whoever may run: a pod without its file would not even fail with a reason."""
    found = {entry.name for entry in seen.entries or () if entry.name is not None}
    found |= {volume.name for volume in seen.volumes.values() if volume.ours}
    found |= set(seen.record.members) if seen.record is not None else set()
    return found | {names.member_name(cluster, ordinal) for ordinal in range(replicas)}
