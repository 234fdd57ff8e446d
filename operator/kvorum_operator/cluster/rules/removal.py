"""Removal of a member that votes, as several rules wish it: a leader hands over first (I3)."""

from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import Spec
from kvorum_operator.cluster import guard
from kvorum_operator.cluster.observation import Entry, HandOvers, Observation
from kvorum_operator.cluster.step import HandOver, Hold, RemoveMember, Step


def remove(entry: Entry, name: str, because: str, spec: Spec, seen: Observation) -> Step | Hold:
    if entry.id == seen.leader and guard.hand_over_first(entry, seen):
        return hand_over(entry, name, because, spec, seen)
    if entry.id == seen.leader and entry.id in seen.hand_overs:
        because += f"; leadership was not handed over in {guard.HAND_OVER_TRIES_MAX} tries"
    return RemoveMember(name=name, member_id=entry.id, because=because)


def hand_over(entry: Entry, name: str, because: str, spec: Spec, seen: Observation) -> Step | Hold:
    to = guard.successors(entry.id, seen)[0]  # who stays: members that go went before the leader
    tried = seen.hand_overs.get(entry.id, HandOvers())
    wait_s = guard.HAND_OVER_WAIT_ELECTIONS * spec.settings.election_timeout.seconds
    if tried.tries_count and seen.now_s < tried.last_s + wait_s:
        return Hold(Reason.HANDING_OVER, f"{name} was asked to hand over", "another leader", tried.last_s + wait_s)
    return HandOver(leader=entry.id, leader_name=name, to=to, to_name=seen.name_of(to), because=because)
