"""Labels of a volume: whose cluster it belongs to, which member's data it holds, and of which engine (I4). Pure."""

from dataclasses import dataclass

from kvorum_operator.api.v1alpha1 import Engine
from kvorum_operator.cluster.observation import Observation


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
    return {
        name: VolumeLabels(answer.cluster_id, answer.member_id, volume.engine)
        for name, answer in seen.answered.items()
        if (volume := seen.volumes.get(name)) is not None and volume.ours and volume.member_id is None
    }
