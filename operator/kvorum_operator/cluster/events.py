"""Events: what a person reads of a pass below `kubectl describe`, from the statuses before and after it.

Pure, and deduplicated by content: an unchanged pass gives none, whoever made the one before. Changes of conditions that
say the same are one event.
"""

from dataclasses import dataclass
from typing import Literal

from kvorum_operator.api.v1alpha1 import Condition, Spec, Status
from kvorum_operator.cluster.step import Hold, Step

EventType = Literal["Normal", "Warning"]

# What a condition says before there is a status: nothing is wrong, and nothing is done.
AT_FIRST = {"Spread": "True"}
# When a condition is bad. Ready, Reconciling and Progressing tell of plans too, and are not here.
BAD = {"Available": "False", "Degraded": "True", "Stalled": "True", "Spread": "False"}


@dataclass(frozen=True, slots=True)
class Event:
    """reason: the name of a step, or the reason of a hold or a condition."""

    type: EventType
    reason: str
    message: str


def events_of(
    before: Status, after: Status, decision: Step | Hold | None, refused: Hold | None, spec: Spec
) -> tuple[Event, ...]:
    """decision and refused: as in the pass's outcome."""
    found: list[Event] = []
    if isinstance(decision, Step) and refused is None:
        found.append(Event("Normal", type(decision).__name__, f"{decision}: {decision.because}"))
    if refused is not None and (before.plan is None or before.plan.because != refused.because):
        found.append(Event("Warning", refused.reason, refused.because))
    found += changes(before, after)
    if spec.replicas and spec.replicas % 2 == 0 and before.observed_generation != after.observed_generation:
        message = f"spec.replicas is {spec.replicas}: that survives no more losses than {spec.replicas - 1}"
        found.append(Event("Warning", "EvenReplicas", message))
    return tuple(found)


def changes(before: Status, after: Status) -> list[Event]:
    """Changes of a condition's status or reason; those that give the same reason and message together."""
    groups: dict[tuple[str, str], list[Condition]] = {}
    for one in after.conditions:
        earlier = next((other for other in before.conditions if other.type == one.type), None)
        if earlier is None and one.status == AT_FIRST.get(one.type, "False"):
            continue
        if earlier is None or (earlier.status, earlier.reason) != (one.status, one.reason):
            groups.setdefault((one.reason, one.message), []).append(one)
    found = []
    for (reason, message), changed in groups.items():
        worse = any(BAD.get(one.type) == one.status for one in changed)
        told = ", ".join(f"{one.type} is {one.status}" for one in changed)
        found.append(Event("Warning" if worse else "Normal", reason, f"{told}: {message}"))
    return found
