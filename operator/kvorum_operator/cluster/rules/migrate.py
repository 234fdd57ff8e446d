"""Migrate: members whose data is of another engine than spec.engine change theirs, one at a time, the leader last.

What one engine wrote the other cannot read. So each is replaced in place on an empty volume, as a lost one is (I6):
only its removal is wished for here, and grow adds it anew, on the engine that the specification names by then. The next
one goes once the guard sees every other member vote and caught up (I2).
"""

from kvorum_operator.api.v1alpha1 import Spec
from kvorum_operator.cluster import guard
from kvorum_operator.cluster.observation import Observation
from kvorum_operator.cluster.rules.leadership import after_hand_over
from kvorum_operator.cluster.step import Hold, RemoveMember, Step


def migrate(spec: Spec, seen: Observation) -> Step | Hold | None:
    other = seen.of_other_engine(spec.engine)
    staying = [entry for entry in seen.entries or () if entry.name in other and not entry.is_learner]
    staying = [entry for entry in staying if entry.name is not None and seen.ordinal(entry.name) < spec.replicas]
    if not staying:
        return None
    # Whoever does not run first, then from the top, the leader last. One that runs and is silent may serve (I8).
    entry = min(
        staying,
        key=lambda one: (seen.is_running(one.name or ""), one.id == seen.leader, -seen.ordinal(one.name or "")),
    )
    assert entry.name is not None
    engine = seen.volumes[entry.name].engine
    because = f"spec.engine is {spec.engine}: {entry.name} has data of {engine} and is replaced in place"
    # What the guard will object to is no reason for a change of leaders.
    if held := guard.change_engine(entry, entry.name, spec, seen):
        return held
    step = RemoveMember(name=entry.name, member_id=entry.id, because=because)
    return after_hand_over(step, entry, spec, seen)
