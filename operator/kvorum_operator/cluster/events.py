"""Events: what a person reads of a pass below `kubectl describe`, from the statuses before and after it.

Pure, and deduplicated by content: an unchanged pass gives none, whoever made the one before. Changes of conditions that
say the same are one event, and say nothing that the event of the step has said; nor do they count, so that a member
that fails again and again is told of in the same words.
"""

import re
from dataclasses import dataclass
from typing import Literal

from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import Condition, Spec, Status
from kvorum_operator.cluster.diagnosis import MemberState
from kvorum_operator.cluster.step import Hold, Step

EventType = Literal["Normal", "Warning"]

EVEN_REPLICAS = "EvenReplicas"  # the one reason of an event that no status has: nothing is wrong yet
# The status of a condition while nothing is wrong and nothing is done; False where none is named.
CALM = {"Ready": "True", "Available": "True", "Spread": "True"}
AT_FIRST = {**CALM, "Ready": "False", "Available": "False"}  # nobody expects more of what has just been written down
# The status with which a condition is bad. Ready, Reconciling and Progressing tell of plans too, and are not here.
BAD = {"Available": "False", "Degraded": "True", "Stalled": "True", "Spread": "False"}
DOING = frozenset({"Reconciling", "Progressing"})
# Members refuse a step that comes early, and take it a moment later.
NOT_YET = frozenset({Reason.CLUSTER_UNSETTLED, Reason.LEARNER_BEHIND})
# Of Available: nobody is served, as wanted or as yet.
NOBODY_YET = frozenset({Reason.BOOTSTRAPPING, Reason.FALLING_ASLEEP, Reason.ASLEEP, Reason.WAKING})
# What is another text with each start of a member that ends soon after, and no news.
COUNTED = (
    (re.compile(r": started at [0-9TZ:-]+"), ""),
    (re.compile(r"; start \d+ failed, it is started again after [^;]*"), ""),
    (re.compile(r"soon after each of \d+ starts"), "soon after each of its starts"),
)
# Whose node was stopped or started a moment ago is away, not lost.
AWAY = frozenset({MemberState.STARTING, MemberState.STOPPING})
WELL = frozenset({MemberState.SERVING, MemberState.JOINING, MemberState.LEAVING, MemberState.ASLEEP})


@dataclass(frozen=True, slots=True)
class Event:
    """reason: the name of a step, or the reason of a hold or a condition."""

    type: EventType
    reason: str
    message: str


def events_of(
    before: Status, after: Status, decision: Step | Hold | None, refused: Hold | None, spec: Spec
) -> tuple[Event, ...]:
    """Of a pass. decision and refused: what was planned, and why a step was not done after all."""
    found: list[Event] = []
    told = ""
    if isinstance(decision, Step) and refused is None:
        told = f"{decision}: {decision.because}"
        found.append(Event("Warning" if decision.regretted else "Normal", type(decision).__name__, told))
    if refused is not None and (before.plan is None or before.plan.because != refused.because):
        found.append(Event("Normal" if refused.reason in NOT_YET else "Warning", refused.reason, refused.because))
    found += changes(before, after, told)
    if spec.replicas and spec.replicas % 2 == 0 and before.observed_generation != after.observed_generation:
        found.append(Event("Warning", EVEN_REPLICAS, f"spec.replicas: {even(spec.replicas)}"))
    return tuple(found)


def even(replicas: int) -> str:
    return f"{replicas} survive no more losses than {replicas - 1}: an odd number is better"


def changes(before: Status, after: Status, told: str = "") -> list[Event]:
    """Changes of conditions' statuses and reasons; those of one reason are one event. told: what was said already.

    Why a condition is calm is no news while it stays so: its reason is then that of another one.
    """
    groups: dict[str, list[Condition]] = {}
    for one in after.conditions:
        earlier = next((other for other in before.conditions if other.type == one.type), None)
        calm = CALM.get(one.type, "False")
        if earlier is None and one.status == AT_FIRST.get(one.type, "False"):
            continue
        status, reason = (earlier.status, earlier.reason) if earlier is not None else ("", "")
        if status != one.status or (reason != one.reason and one.status != calm):
            groups.setdefault(one.reason, []).append(one)
    found = []
    for reason, changed in groups.items():
        message = max((one.message for one in changed), key=len)
        if message == told and {one.type for one in changed} <= DOING:
            continue
        kinds = ", ".join(f"{one.type} is {one.status}" for one in changed)
        worse = any(is_bad(one, after) for one in changed)
        found.append(Event("Warning" if worse else "Normal", reason, f"{kinds}: {uncounted(message)}"))
    return found


def uncounted(message: str) -> str:
    for pattern, replacement in COUNTED:
        message = pattern.sub(replacement, message)
    return message


def is_bad(condition: Condition, status: Status) -> bool:
    """Whether a person should look: not when a member only restarts, and not when nobody is to serve yet."""
    if condition.reason == Reason.MEMBER_FAILING and condition.status == "True":
        return True  # also of Reconciling: a member that fails in its restart was away, and Degraded, before
    if BAD.get(condition.type) != condition.status or condition.reason in NOBODY_YET:
        return False
    if condition.type != "Degraded":
        return True
    away = {member.state for member in status.members} - WELL
    return not away or not away <= AWAY
