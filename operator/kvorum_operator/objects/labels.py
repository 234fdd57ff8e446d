"""Labels of a volume: whose cluster it belongs to and which member's data it holds (I4). Pure."""

from dataclasses import dataclass

from kvorum_operator.cluster.observation import Observation


@dataclass(frozen=True, slots=True)
class VolumeLabels:
    """kvorum.dev/cluster-id and kvorum.dev/member-id; None while nobody has named them."""

    cluster_id: int | None
    member_id: int | None


def at_creation(name: str, seen: Observation) -> VolumeLabels:
    """A member that is added carries its id from the start: whatever else is found there later is stale (I6)."""
    entry = seen.entry_named(name)
    return VolumeLabels(seen.cluster_id, entry.id if entry is not None else None)


def missing(seen: Observation) -> dict[str, VolumeLabels]:
    """Labels for volumes that were made at the bootstrap, by what the node that runs on each says of itself."""
    if seen.cluster_id is None or len(seen.cluster_ids) != 1:
        return {}
    return {
        name: VolumeLabels(answer.cluster_id, answer.member_id)
        for name, answer in seen.answered.items()
        if (volume := seen.volumes.get(name)) is not None and volume.ours and volume.member_id is None
    }
