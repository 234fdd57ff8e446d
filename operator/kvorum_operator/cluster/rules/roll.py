"""Roll: members whose nodes are not made from today's specification are restarted, one at a time, the leader last.

Judged by what the platform says of each node, never by the specification before. Whoever is known not to serve goes
at once: nothing is taken down by it, and so a specification that nobody can run with is left behind by the next one.
Anybody else goes once all others are caught-up voters again: a member that does not come back stops the roll. While one
fails with today's specification nobody else is given it who may recover as it is.
"""

from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import Spec
from kvorum_operator.cluster import guard
from kvorum_operator.cluster.observation import Entry, Observation
from kvorum_operator.cluster.rules.leadership import after_hand_over
from kvorum_operator.cluster.step import Hold, Restart, Step

# With the specification that it is made from, a node that is held up so never runs.
BEYOND_RECOVERY = (Reason.IMAGE_UNAVAILABLE, Reason.POD_REFUSED)


def roll(spec: Spec, seen: Observation) -> Step | Hold | None:
    outdated = [name for name in seen.outdated if name not in seen.lost]  # of those repair says more
    if spec.replicas == 0 or not outdated:
        return None
    staying = [name for name in outdated if not seen.nodes[name].stopping]
    for name in staying:
        if guard.is_known_idle(name, seen) and not may_recover(name, seen):
            because = f"{name} does not serve, and is not made from today's specification"
            return Restart(name=name, uid=seen.nodes[name].uid, because=because)
    voters = [entry for entry in seen.entries or () if entry.name in staying and entry.id in seen.voters]
    waiting = not_back(seen)
    # If all wait for one that is silent, or given to no client, and outdated itself, it is its turn.
    turn = [
        entry
        for entry in voters
        if not waiting
        or (waiting.keys() == {entry.name} and (entry.id not in seen.healthy or entry.name in seen.unready))
    ]
    if waiting and not turn:
        listed = "; ".join(f"{name} {why}" for name, why in waiting.items())
        return Hold(
            Reason.ROLLING,
            f"{listed}; still to be restarted: {', '.join(outdated)}",
            f"{next(iter(waiting))} to serve",
        )
    if not turn:
        return None
    if len(seen.voters) < guard.VOTERS_TO_CARRY_ON_MIN <= spec.replicas:
        because = f"with {len(seen.voters)} voters writes would pause for {', '.join(outdated)}"
        return Hold(Reason.ROLLING, f"{because}: it grows first", f"{guard.VOTERS_TO_CARRY_ON_MIN} voters")
    # From the top, the leader last: it hands over once, to a member that is restarted already.
    entry = min(turn, key=lambda one: (one.id == seen.leader, -seen.ordinal(one.name or "")))
    return restart(entry, spec, seen)


def may_recover(name: str, seen: Observation) -> bool:
    """Whether a node that does not serve is left as it is: about to start, or today's specification fails elsewhere."""
    held_up = seen.nodes[name].held_up
    if held_up is not None and held_up.reason in BEYOND_RECOVERY:
        return False
    return seen.is_waking(name) or bool(failing_with_it(seen))


def failing_with_it(seen: Observation) -> dict[str, str]:
    """Nodes that are made from today's specification and are known to fail. That machines are full, or that a member's
    data is gone, is not the specification's fault.
    """
    found = {}
    for name, node in seen.nodes.items():
        if node.current and node.held_up is not None:
            lost = name in seen.lost and node.held_up.reason not in BEYOND_RECOVERY
            if not lost and node.held_up.reason not in (Reason.WAKING, Reason.POD_UNSCHEDULABLE):
                found[name] = f"does not run: {node.held_up.text}"
    return found


def not_back(seen: Observation) -> dict[str, str]:
    """Those for whom the next restart waits, and why."""
    found = failing_with_it(seen)
    found |= {name: "is being stopped" for name, node in seen.nodes.items() if node.stopping}
    for voter in sorted(seen.voters):
        name = seen.name_of(voter)
        node = seen.nodes.get(name)
        if name in found:
            continue
        if voter in seen.healthy:
            if not seen.is_caught_up(voter):
                found[name] = "has not caught up"
            elif name in seen.unready:
                # Else a Service could be left without any endpoint, while each restart by itself leaves a quorum.
                found[name] = "is not given to clients yet"
        elif node is not None and node.held_up is not None:
            found[name] = f"does not run yet: {node.held_up.text}"
        else:
            found[name] = "does not serve" if seen.is_running(name) else "does not run"
    return found


def restart(entry: Entry, spec: Spec, seen: Observation) -> Step | Hold:
    assert entry.name is not None
    because = f"{entry.name} is not made from today's specification"
    if len(seen.voters) < guard.VOTERS_TO_CARRY_ON_MIN:
        because += "; writes pause until it is back"
    step = Restart(name=entry.name, uid=seen.nodes[entry.name].uid, because=because)
    # What the guard will object to is no reason for a change of leaders.
    return guard.interrupt(entry, entry.name, seen) or after_hand_over(step, entry, spec, seen)
