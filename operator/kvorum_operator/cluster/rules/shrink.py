"""Shrink: members above the wanted number go, one at a time, a leader after it has handed over."""

from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import Spec
from kvorum_operator.cluster import guard
from kvorum_operator.cluster.observation import Entry, HandOvers, Observation
from kvorum_operator.cluster.step import HandOver, Hold, RemoveMember, Step


def shrink(spec: Spec, seen: Observation) -> Step | Hold | None:
    surplus = [(entry, entry.name) for entry in seen.entries or () if entry.name is not None]
    surplus = [(entry, name) for entry, name in surplus if seen.ordinal(name) >= spec.replicas]
    if not surplus or spec.replicas == 0:
        return None
    # Whoever does not serve goes first: that adds to what the rest can lose. Then from the top, the leader last.
    entry, name = min(
        surplus, key=lambda one: (one[0].id in seen.healthy, one[0].id == seen.leader, -seen.ordinal(one[1]))
    )
    because = f"spec.replicas is {spec.replicas}: {name} is not wanted any more"
    if entry.id == seen.leader and guard.hand_over_first(entry, seen):
        return hand_over(entry, name, because, spec, seen)
    if entry.id == seen.leader and entry.id in seen.hand_overs:
        because += f"; leadership was not handed over in {guard.HAND_OVER_TRIES_MAX} tries"
    return RemoveMember(name=name, member_id=entry.id, because=because)


def hand_over(entry: Entry, name: str, because: str, spec: Spec, seen: Observation) -> Step | Hold:
    to = guard.successors(entry.id, seen)[0]  # who stays: the other surplus members went before the leader
    tried = seen.hand_overs.get(entry.id, HandOvers())
    wait_s = guard.HAND_OVER_WAIT_ELECTIONS * spec.settings.election_timeout.seconds
    if tried.tries_count and seen.now_s < tried.last_s + wait_s:
        return Hold(Reason.HANDING_OVER, f"{name} was asked to hand over", "another leader", tried.last_s + wait_s)
    return HandOver(leader=entry.id, leader_name=name, to=to, to_name=seen.name_of(to), because=because)
