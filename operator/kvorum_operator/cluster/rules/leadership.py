"""Leadership: who is to be taken down while it leads hands over first (I3), for every rule that wishes such a step."""

from dataclasses import replace

from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import Spec
from kvorum_operator.cluster import guard
from kvorum_operator.cluster.observation import Entry, HandOvers, Observation
from kvorum_operator.cluster.step import HandOver, Hold, RemoveMember, Restart, Step


def after_hand_over(step: RemoveMember | Restart, entry: Entry, spec: Spec, seen: Observation) -> Step | Hold:
    """The step, once the member does not lead any more, or has been asked often enough. entry: of the member."""
    if entry.id != seen.leader:
        return step
    if guard.hand_over_first(entry, seen):
        return hand_over(entry, step.name, step.because, spec, seen)
    if entry.id in seen.hand_overs:
        because = f"{step.because}; leadership was not handed over in {guard.HAND_OVER_TRIES_MAX} tries"
        return replace(step, because=because, regretted=True)
    return step


def hand_over(entry: Entry, name: str, because: str, spec: Spec, seen: Observation) -> Step | Hold:
    to = guard.successors(entry.id, seen)[0]  # who stays: members that go went before the leader
    tried = seen.hand_overs.get(entry.id, HandOvers())
    wait_s = guard.HAND_OVER_WAIT_ELECTIONS * spec.settings.election_timeout.seconds
    if tried.tries_count and tried.last_s <= seen.now_s < tried.last_s + wait_s:  # a clock may have been set back
        return Hold(Reason.HANDING_OVER, f"{name} was asked to hand over", "another leader", tried.last_s + wait_s)
    return HandOver(leader=entry.id, leader_name=name, to=to, to_name=seen.name_of(to), because=because)
