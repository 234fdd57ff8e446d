"""Grow: the lowest missing member is added as a learner (I5). finish_change starts and promotes it."""

from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import Spec
from kvorum_operator.cluster.observation import Observation
from kvorum_operator.cluster.step import AddLearner, Hold, Step


def grow(spec: Spec, seen: Observation) -> Step | Hold | None:
    if seen.entries is None:
        return None
    for address in tuple(seen.addresses.values())[: spec.replicas]:
        if seen.entry_named(address.name) is not None:
            continue
        if why := seen.blocked.get(address.name):
            return Hold(
                Reason.NODE_BLOCKED,
                f"{address.name} cannot be started: {why}",
                f"that to be cleared for {address.name}",
            )
        because = f"spec.replicas is {spec.replicas}, the member list has {len(seen.voters)}"
        return AddLearner(name=address.name, peer_url=address.peer_url, because=because)
    return None
