"""Bootstrap: a cluster that never was begins, once, with as many members as the specification wants (I4)."""

from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import Spec
from kvorum_operator.cluster.observation import Observation
from kvorum_operator.cluster.step import Bootstrap, Hold, Step


def bootstrap(spec: Spec, seen: Observation) -> Step | Hold | None:
    if seen.cluster_id is not None or seen.record is not None:
        return None
    members = tuple(seen.addresses)[: spec.replicas]
    for name in members:
        if why := seen.blocked.get(name):
            return Hold(Reason.NODE_BLOCKED, f"{name} cannot be started: {why}", f"that to be cleared for {name}")
    return Bootstrap(members=members, because="nothing of this cluster exists yet")
