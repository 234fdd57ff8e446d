"""Repair: a member whose data is gone is replaced in place, while a quorum holds (I6, I8).

Only the removal is wished for here; discarding what is left, adding the member anew and promoting it is what the other
rules do anyway. spec.replicas is never touched. Without a quorum nothing is replaced: whoever is removed or started
empty then may have been the last to hold an acknowledged write.
"""

from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import Spec
from kvorum_operator.cluster.observation import Observation
from kvorum_operator.cluster.rules.leadership import after_hand_over
from kvorum_operator.cluster.step import Hold, RemoveMember, Step


def repair(spec: Spec, seen: Observation) -> Step | Hold | None:
    if spec.replicas == 0 or not seen.lost:
        return None
    if seen.entries is None or not seen.has_quorum:
        return beyond_repair(seen)
    # Whoever never started first: that keeps everybody else from going (I1).
    entries = {name: seen.entry_named(name) for name in seen.lost}
    for name in sorted(entries, key=lambda one: (entry := entries[one]) is not None and entry.started):
        entry, why = entries[name], seen.lost[name]
        if entry is not None and seen.voters == {entry.id}:
            return last_copy(name, why)
        if entry is not None and not entry.is_learner and seen.ordinal(name) < spec.replicas:
            because = f"the data of {name} is lost: {why}; it is replaced in place"
            step = RemoveMember(name=name, member_id=entry.id, because=because)
            return after_hand_over(step, entry, spec, seen)
    return None


def last_copy(name: str, why: str) -> Hold:
    """The only voter runs on files that are deleted: what it knows ends with its process."""
    return Hold(
        Reason.MEMBER_DATA_LOST,
        f"{name} is the only voter, and {why}: its data is gone once its node ends (I8)",
        "spec.replicas to be 3 or more, for others to copy the data while it runs",
    )


def beyond_repair(seen: Observation) -> Hold:
    listed = ", ".join(f"{name} ({why})" for name, why in seen.lost.items())
    return Hold(
        Reason.MEMBER_DATA_LOST,
        f"without a quorum nobody is replaced; without data: {listed} (I8)",
        f"other members to answer; else the cluster to be stopped and the data of {next(iter(seen.lost))} put back",
    )
