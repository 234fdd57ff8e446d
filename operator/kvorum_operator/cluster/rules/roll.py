"""Roll: members whose nodes are not made from today's specification are restarted, one at a time, the leader last.

Judged by what the platform says of each node, never by the specification before. Whoever does not serve goes first and
at once: nothing is taken down by it, and a specification that no member can run with is so left behind by the next one.
Whoever serves goes once all others are caught-up voters again, so a member that does not come back stops the roll.
"""

from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import Spec
from kvorum_operator.cluster import guard
from kvorum_operator.cluster.observation import Entry, Observation
from kvorum_operator.cluster.rules.leadership import after_hand_over
from kvorum_operator.cluster.step import Hold, Restart, Step


def roll(spec: Spec, seen: Observation) -> Step | Hold | None:
    outdated = [name for name in seen.outdated if not seen.nodes[name].stopping and name not in seen.lost]
    if spec.replicas == 0 or not outdated:
        return None
    for name in outdated:
        if guard.takes_nothing_down(name, seen):
            because = f"{name} does not serve, and is not made from today's specification"
            return Restart(name=name, uid=seen.nodes[name].uid, because=because)
    serving = [entry for entry in seen.entries or () if entry.name in outdated and entry.id in seen.voters]
    if not serving:
        return None
    if len(seen.voters) < guard.VOTERS_TO_CARRY_ON_MIN <= spec.replicas:
        return None  # it grows first: with more voters nothing has to pause
    if waiting := not_back(seen):
        listed = "; ".join(f"{name} {why}" for name, why in waiting.items())
        still = ", ".join(outdated)
        return Hold(
            Reason.ROLLING, f"{listed}: the roll goes on with {still} afterwards", f"{next(iter(waiting))} to serve"
        )
    return restart(next_one(serving, seen), spec, seen)


def not_back(seen: Observation) -> dict[str, str]:
    """Voters for whom the next one waits, and why."""
    found = {}
    for voter in sorted(seen.voters):
        name = seen.name_of(voter)
        node = seen.nodes.get(name)
        if node is not None and node.stopping:
            found[name] = "is being stopped"
        elif voter not in seen.healthy:
            found[name] = "does not serve"
        elif not seen.is_caught_up(voter):
            found[name] = "has not caught up"
    return found


def next_one(serving: list[Entry], seen: Observation) -> Entry:
    """From the top, the leader last: so it hands over once, to a member that stays."""
    return min(serving, key=lambda one: (one.id == seen.leader, -seen.ordinal(one.name or "")))


def restart(entry: Entry, spec: Spec, seen: Observation) -> Step | Hold:
    assert entry.name is not None
    because = f"{entry.name} is not made from today's specification"
    if len(seen.voters) < guard.VOTERS_TO_CARRY_ON_MIN:
        because += "; writes pause until it is back"
    step = Restart(name=entry.name, uid=seen.nodes[entry.name].uid, because=because)
    return after_hand_over(step, entry, spec, seen)
