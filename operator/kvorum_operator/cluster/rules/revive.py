"""Revive: members whose nodes do not run are started again on the data they have.

It takes nothing down, so it is always allowed (I2), all at once: after a power cut a quorum must come up together.
Without a member list exactly those wake up that the volumes name, before the first one is known those of the bootstrap.
"""

from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import Spec
from kvorum_operator.cluster import guard, quorum
from kvorum_operator.cluster.observation import Observation
from kvorum_operator.cluster.step import Hold, StartNodes, Step


def revive(spec: Spec, seen: Observation) -> Step | Hold | None:
    if seen.entries is None and seen.leader in seen.answers:
        # Its list can be had in a moment, and tells members from leftovers; volumes are asked only when it cannot.
        return Hold(Reason.WAKING, "a leader answers, its member list is not confirmed yet", "a quorum to confirm it")
    expected = members_expected(seen)
    down = [name for name in expected if not seen.is_running(name)]
    reasons = {name: held for name in down if (held := cannot_start(name, seen))}
    if startable := tuple(name for name in down if name not in reasons):
        return StartNodes(names=startable, because=why_down(startable, seen))
    said = [held for name, held in reasons.items() if name not in seen.lost]  # of those repair says more
    # Who only takes a moment is named when nobody needs more than that; in a roll by roll, beside who waits for it.
    worst = min(said, key=lambda held: held.reason is Reason.WAKING, default=None)
    if worst is not None and worst.reason is Reason.WAKING and is_rolling(seen):
        return None
    return worst or silence(expected, seen)


def members_expected(seen: Observation) -> list[str]:
    """Names of the members that should run, by ordinal. A learner that never started is finish_change's.

    Whose data is lost is repair's, while a member list can be had; without one it may be put back meanwhile.
    """
    if seen.entries is not None:
        found = {entry.name for entry in seen.entries if entry.name and (entry.started or not entry.is_learner)}
        found -= seen.lost.keys()
    elif seen.cluster_id is not None:
        at_birth = seen.record.members if seen.record is not None else ()
        found = {
            volume.name
            for volume in seen.volumes.values()
            if volume.ours and (volume.cluster_id == seen.cluster_id or volume.name in at_birth)
        }
    else:
        found = set(seen.record.members if seen.record is not None else ())
    return sorted(found, key=seen.ordinal)


def cannot_start(name: str, seen: Observation) -> Hold | None:
    if held := guard.start_node(name, seen):
        return held
    if why := seen.blocked.get(name):
        return Hold(Reason.NODE_BLOCKED, f"{name} cannot be started: {why}", f"that to be cleared for {name}")
    node = seen.nodes.get(name)
    if node is not None and node.held_up is not None and name in seen.volumes:
        # Without a volume its platform tries in vain: only a step makes one.
        waits_for = f"{name} to run" + ("" if node.held_up.reason is Reason.WAKING else ", or another specification")
        return Hold(node.held_up.reason, f"{name} does not run yet: {node.held_up.text}", waits_for)
    if node is not None and node.retry_at_s > seen.now_s:
        ended = f": {node.ended}" if node.ended else ""
        return Hold(
            Reason.MEMBER_FAILING,
            f"{name} ended soon after each of {node.failures_count} starts{ended}",
            f"the next start of {name}",
            node.retry_at_s,
        )
    return None


def why_down(startable: tuple[str, ...], seen: Observation) -> str:
    if seen.cluster_id is None:
        return "the cluster begins with them"
    ended = [f"{name} {node.ended}" for name in startable if (node := seen.nodes.get(name)) and node.ended]
    return "; ".join(ended) if ended else "they are members, have data and do not run"


def silence(expected: list[str], seen: Observation) -> Hold | None:
    """All run: whether that is enough, and whom everybody waits for."""
    if not expected:
        return nothing_to_wake(seen)
    silent = [name for name in expected if not serves(name, seen) and name not in seen.lost]
    if not silent:
        return None
    if is_rolling(seen):
        return None  # roll says who has not come back, and who waits for it
    if is_in_vain(seen):
        return None  # repair says what is missing
    listed = ", ".join(silent)
    if seen.cluster_id is None:
        return Hold(Reason.BOOTSTRAPPING, "the first members have started", f"{listed} to answer")
    if stopping := [name for name in silent if seen.nodes[name].stopping]:
        return Hold(Reason.WAKING, f"{', '.join(stopping)} is being stopped", f"{stopping[0]} to start again")
    if any(seen.is_waking(name) for name in silent):
        return Hold(Reason.WAKING, f"no answer yet from {listed}, just started", f"{listed} to answer")
    if seen.entries is None and seen.lost:
        return None  # as above
    if seen.entries is None:
        return Hold(Reason.QUORUM_LOST, f"no quorum answers; silent: {listed}", f"{listed} to answer")
    return Hold(Reason.MEMBER_UNREACHABLE, f"no answer from {listed}, running", f"{listed} to answer")


def is_rolling(seen: Observation) -> bool:
    return seen.has_quorum and bool(seen.outdated)


def is_in_vain(seen: Observation) -> bool:
    """Whether so many have lost their data that the others, all awake, would be no quorum."""
    known = seen.names_before | seen.volumes.keys()
    return seen.entries is None and bool(seen.lost) and len(known - seen.lost.keys()) < quorum.size(len(known))


def nothing_to_wake(seen: Observation) -> Hold | None:
    if seen.cluster_id is None or seen.entries is not None:
        return None
    return Hold(
        Reason.MEMBER_DATA_LOST,
        f"cluster {seen.cluster_id:x} was bootstrapped before, and no volume of it is here (I4)",
        "its volumes to be put back, or the whole state to be deleted",
    )


def serves(name: str, seen: Observation) -> bool:
    """And will, as far as is known."""
    if seen.nodes[name].stopping:
        return False
    entry, volume = seen.entry_named(name), seen.volumes.get(name)
    member_id = entry.id if entry is not None else volume.member_id if volume is not None else None
    return member_id in seen.healthy
