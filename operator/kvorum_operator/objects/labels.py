"""Labels of a volume: whose cluster it belongs to, which member's data it holds, and of which engine (I4). Pure.

And, on Kubernetes, the labels of every object.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from kvorum_operator.api.v1alpha1 import GROUP, Engine
from kvorum_operator.cluster.observation import Observation

CLUSTER = f"{GROUP}/cluster"
CLUSTER_ID, MEMBER_ID, ENGINE = f"{GROUP}/cluster-id", f"{GROUP}/member-id", f"{GROUP}/engine"
FRESH = f"{GROUP}/fresh"  # in the StatefulSet's claim template only, so that what its controller makes can be told


@dataclass(frozen=True, slots=True)
class VolumeLabels:
    """kvorum.dev/cluster-id, /member-id and /engine; None while nobody has named them."""

    cluster_id: int | None
    member_id: int | None
    engine: Engine | None


def at_creation(name: str, engine: Engine, seen: Observation) -> VolumeLabels:
    """A member that is added carries its id from the start: whatever else is found there later is stale (I6)."""
    entry = seen.entry_named(name)
    return VolumeLabels(seen.cluster_id, entry.id if entry is not None else None, engine)


def missing(seen: Observation) -> dict[str, VolumeLabels]:
    """Labels for volumes that were made at the bootstrap, by what the node that runs on each says of itself."""
    if seen.cluster_id is None or len(seen.cluster_ids) != 1:
        return {}
    owners = {entry.id: entry.name for entry in seen.entries or ()}  # an address may be another member's by now
    return {
        name: VolumeLabels(answer.cluster_id, answer.member_id, volume.engine)
        for name, answer in seen.answered.items()
        if (volume := seen.volumes.get(name)) is not None and volume.ours and volume.member_id is None
        if owners.get(answer.member_id, name) == name
    }


# On Kubernetes.


def members_of(cluster: str) -> dict[str, str]:
    """Selects what is of the members of one cluster. Nothing else is in selectors: they cannot be changed later."""
    return {CLUSTER: cluster}


def common(cluster: str) -> dict[str, str]:
    """On every object."""
    return {
        "app.kubernetes.io/name": "kvorum",
        "app.kubernetes.io/instance": cluster,
        "app.kubernetes.io/component": "member",
        "app.kubernetes.io/managed-by": "kvorum-operator",
        **members_of(cluster),
    }


def to_labels(labels: VolumeLabels) -> dict[str, str]:
    """What is known, as labels of a claim."""
    found: dict[str, str] = {}
    if labels.cluster_id is not None:
        found[CLUSTER_ID] = f"{labels.cluster_id:x}"
    if labels.member_id is not None:
        found[MEMBER_ID] = f"{labels.member_id:x}"
    if labels.engine is not None:
        found[ENGINE] = labels.engine.value
    return found


def from_labels(found: Mapping[str, str], cluster: str) -> VolumeLabels | None:
    """What a claim's labels say; None when they do not say that it is this cluster's, or say what cannot be read.

    What cannot be read may be anybody's data, so it is as good as foreign: nothing is done to it.
    """
    if found.get(CLUSTER) != cluster or is_fresh(found):
        return None
    try:
        cluster_id, member_id, engine = found.get(CLUSTER_ID), found.get(MEMBER_ID), found.get(ENGINE)
        return VolumeLabels(
            int(cluster_id, 16) if cluster_id is not None else None,
            int(member_id, 16) if member_id is not None else None,
            Engine(engine) if engine is not None else None,
        )
    except ValueError:
        return None


def is_fresh(found: Mapping[str, str]) -> bool:
    """Whether the StatefulSet controller made the claim, in place of one that is gone: there is no data on it."""
    return FRESH in found
