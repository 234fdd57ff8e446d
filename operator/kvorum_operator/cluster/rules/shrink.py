"""Shrink: members above the wanted number go, one at a time, a leader after it has handed over."""

from kvorum_operator.api.v1alpha1 import Spec
from kvorum_operator.cluster.observation import Observation
from kvorum_operator.cluster.rules.leadership import after_hand_over
from kvorum_operator.cluster.step import Hold, RemoveMember, Step


def shrink(spec: Spec, seen: Observation) -> Step | Hold | None:
    surplus = [(entry, entry.name) for entry in seen.entries or () if entry.name is not None]
    surplus = [(entry, name) for entry, name in surplus if seen.ordinal(name) >= spec.replicas]
    if not surplus or spec.replicas == 0:
        return None
    # Whoever never started goes first, as that keeps everybody else from going (I1), then whoever does not serve: that
    # adds to what the rest can lose. Then from the top, the leader last.
    entry, name = min(
        surplus,
        key=lambda one: (
            one[0].started,
            one[0].id in seen.healthy,
            one[0].id == seen.leader,
            -seen.ordinal(one[1]),
        ),
    )
    because = f"spec.replicas is {spec.replicas}: {name} is not wanted any more"
    step = RemoveMember(name=name, member_id=entry.id, because=because)
    return after_hand_over(step, entry, spec, seen)
