"""Sleep: with no replicas wanted, no node runs and every volume is kept."""

from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import Spec
from kvorum_operator.cluster.observation import Observation
from kvorum_operator.cluster.rules.finish_change import discard_stale
from kvorum_operator.cluster.step import Hold, Step, StopNodes


def sleep(spec: Spec, seen: Observation) -> Step | Hold | None:
    if spec.replicas != 0:
        return None
    if seen.cluster_id is None and seen.record is None:
        return Hold(Reason.NEVER_BOOTSTRAPPED, "there is no data to keep asleep", "spec.replicas to be 1 or more")
    if stale := discard_stale(seen):
        return stale  # while a member list can be had: asleep, nobody knows which volumes are leftovers
    if running := stop_order(seen):
        return StopNodes(names=running, because="spec.replicas is 0; the data is kept")
    return Hold(Reason.ASLEEP, "spec.replicas is 0; the data is kept", "spec.replicas to be 1 or more")


def stop_order(seen: Observation) -> tuple[str, ...]:
    """Running nodes, the leader last: whoever goes earlier is no reason for an election."""
    running = [name for name, node in seen.nodes.items() if node.running]
    leader = seen.name_of(seen.leader) if seen.leader else None
    return tuple(sorted(running, key=lambda name: (name == leader, seen.ordinal(name))))
