"""The plan: what is done next, and what is not. The order of the rules is the policy."""

from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import Spec
from kvorum_operator.cluster import guard
from kvorum_operator.cluster.observation import Observation
from kvorum_operator.cluster.rules.bootstrap import bootstrap
from kvorum_operator.cluster.rules.finish_change import finish_change
from kvorum_operator.cluster.rules.grow import grow
from kvorum_operator.cluster.rules.migrate import migrate
from kvorum_operator.cluster.rules.repair import repair
from kvorum_operator.cluster.rules.revive import revive
from kvorum_operator.cluster.rules.roll import roll
from kvorum_operator.cluster.rules.shrink import shrink
from kvorum_operator.cluster.rules.sleep import sleep
from kvorum_operator.cluster.step import Hold, Step

RULES = (sleep, revive, finish_change, bootstrap, repair, migrate, shrink, roll, grow)


def plan(spec: Spec, seen: Observation) -> Step | Hold | None:
    """The first step the guard permits; else the first reason to hold; None when all is as it should be."""
    if len(seen.cluster_ids) > 1:
        return Hold(Reason.CLUSTER_ID_MISMATCH, f"{guard.mismatch(seen)} (I4)", "a person to move the wrong one away")
    if seen.record_damage:
        return Hold(Reason.RECORD_DAMAGED, f"{seen.record_damage} (I4)", "a person to put it back")
    if spec.paused:
        return Hold(Reason.PAUSED, "the cluster is paused", "spec.paused to be false")
    first_hold: Hold | None = None
    for rule in RULES:
        wish = rule(spec, seen)
        answer = guard.objection(wish, spec, seen) or wish  # an objection is a Hold: a later rule may still help
        if isinstance(answer, Step):
            return answer
        first_hold = first_hold or answer
    return first_hold
