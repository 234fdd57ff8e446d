"""Two ConfigMaps: members' files, renewed as the cluster changes (I7), and the bootstrap, written once (I4). Pure."""

from collections.abc import Iterable

from kvorum_operator.api.v1alpha1 import KVCluster
from kvorum_operator.cluster.observation import Observation, Record
from kvorum_operator.cluster.step import Bootstrap
from kvorum_operator.objects import labels, names
from kvorum_operator.objects.manifest import Manifest, manifest, namespace_of
from kvorum_operator.objects.member_file import member_file
from kvorum_operator.objects.stateful_set import PLACE
from kvorum_operator.objects.volume_claim import owners_of_data


def members_config(cluster: KVCluster, seen: Observation, members: Iterable[str]) -> Manifest:
    """A file for each of the members, by the name of its pod. Empty before the bootstrap, when none can be made."""
    formed = seen.cluster_id is not None or seen.record is not None
    files = {
        f"{member}.yaml": member_file(member, cluster.spec.settings, PLACE, seen)
        for member in sorted(members, key=names.ordinal)
        if formed
    }
    return manifest("v1", "ConfigMap", names.members_config(cluster.metadata.name), cluster, data=files)


def bootstrap_record(cluster: KVCluster, step: Bootstrap, token: str) -> Manifest:
    """Create-only and immutable. It is data, as volumes are: it outlives the KVCluster if those do."""
    name = cluster.metadata.name
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": names.bootstrap_record(name),
            "namespace": namespace_of(cluster),
            "labels": labels.common(name),
            "ownerReferences": owners_of_data(cluster),
        },
        "immutable": True,
        "data": {"token": token, "members": " ".join(step.members)},
    }


def read_record(data: object, cluster: str) -> Record:
    """What bootstrap_record wrote. Raises ValueError, for a person, when it cannot be that (I4)."""
    if not isinstance(data, dict):
        raise ValueError("it has no data")
    token, members = data.get("token"), data.get("members")
    if not isinstance(token, str) or not token:
        raise ValueError("it has no token")
    found = tuple(members.split()) if isinstance(members, str) else ()
    if not found:
        raise ValueError("it names no members")
    known = set(names.all_members(cluster))
    if strangers := [one for one in found if one not in known]:
        raise ValueError(f"it names {', '.join(strangers)}, which {cluster} has no member of that name for")
    return Record(token, found)
