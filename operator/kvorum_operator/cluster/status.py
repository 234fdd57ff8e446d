"""The status: what was seen, what is done next and why, as the resource says it (kstatus conditions).

Everything is computed anew on every pass; from the status before only the instants of the last transitions are taken.
Volatile figures alone are no reason to write: see `worth_writing` (I9).
"""

from typing import Literal

from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.timestamps import from_seconds, to_seconds
from kvorum_operator.api.v1alpha1 import GROUP, Condition, MemberStatus, PlanStatus, Spec, Status
from kvorum_operator.cluster.diagnosis import Diagnosis, Health, MemberState, MemberView
from kvorum_operator.cluster.events import NOBODY_YET, even
from kvorum_operator.cluster.observation import Observation
from kvorum_operator.cluster.step import HandOver, Hold, Restart, StartNodes, Step

VOLATILE_S = 60.0  # revision, lag and size are refreshed along with another change, or that often

# Holds that end only when a person does something.
STALLED = frozenset(
    {
        Reason.SPEC_MISSING,
        Reason.SPEC_INVALID,
        Reason.NODE_BLOCKED,
        Reason.IMAGE_UNAVAILABLE,
        Reason.POD_REFUSED,
        Reason.OBJECT_REFUSED,
        Reason.TOO_FEW_MEMBERS,
        Reason.FOREIGN_VOLUME,
        Reason.RECORD_DAMAGED,
        Reason.MEMBER_DATA_LOST,
        Reason.CLUSTER_ID_MISMATCH,
        Reason.NEVER_BOOTSTRAPPED,
    }
)
SETTLED = frozenset({Reason.ASLEEP, Reason.PAUSED, Reason.STOPPED, Reason.NEVER_BOOTSTRAPPED})

Truth = Literal["True", "False", "Unknown"]


def compose(
    name: str,
    spec: Spec,
    seen: Observation,
    diagnosis: Diagnosis,
    decision: Step | Hold | None,
    before: Status,
    generation: int,
) -> Status:
    """The status of the cluster of that name, of which `before` was the last."""
    entries = seen.entries or ()
    ids = seen.cluster_ids
    serving_count = sum(member.state is MemberState.SERVING for member in diagnosis.members)
    return Status(
        observed_generation=generation,
        # With two ids the one that was latched stays: it is the evidence.
        cluster_id=f"{seen.cluster_id:x}" if seen.cluster_id is not None and len(ids) == 1 else before.cluster_id,
        leader=seen.name_of(seen.leader) if seen.leader else None,
        replicas=len(entries) if seen.entries is not None else len(diagnosis.members),
        ready_replicas=serving_count,
        serving=f"{serving_count}/{spec.replicas}",
        version=", ".join(sorted({version for one in diagnosis.members if (version := version_of(one.name, seen))}))
        or None,
        selector=f"{GROUP}/cluster={name}",
        endpoints=tuple(
            seen.addresses[one.name].client_url for one in diagnosis.members if one.state is not MemberState.LEAVING
        ),
        members=tuple(member_status(one, seen, before) for one in diagnosis.members),
        plan=plan_status(decision, diagnosis),
        conditions=conditions(spec, seen, diagnosis, decision, before, generation),
    )


def member_status(one: MemberView, seen: Observation, before: Status) -> MemberStatus:
    answer = seen.answered.get(one.name)
    volume = seen.volumes.get(one.name)
    earlier = next((member for member in before.members if member.name == one.name), None)
    member_id = f"{one.member_id:x}" if one.member_id is not None else None
    same = earlier is not None and earlier.state == one.state and earlier.id == member_id
    return MemberStatus(
        name=one.name,
        id=member_id,
        role=role(one, seen),
        engine=volume.engine if volume is not None else None,
        version=version_of(one.name, seen),
        revision=answer.revision if answer is not None else None,
        lag_entries=seen.lag_entries(answer.member_id) if answer is not None else None,
        database_bytes=answer.database_bytes if answer is not None else None,
        healthy=one.member_id in seen.healthy,
        since=earlier.since if earlier is not None and same else from_seconds(seen.now_s),
        state=one.state,
        reason=one.why or None,
    )


def version_of(name: str, seen: Observation) -> str | None:
    """Of the program that runs: by its own word, since ours has to claim a version of etcd in etcd's API."""
    word, answer = seen.own_words.get(name), seen.answered.get(name)
    if word is not None and word.version:
        return word.version
    return answer.version if answer is not None else None


def role(one: MemberView, seen: Observation) -> str | None:
    answer = seen.answered.get(one.name)
    if answer is None or answer.member_id not in seen.healthy:
        return "joining" if one.state is MemberState.JOINING else None
    if answer.is_learner:
        return "learner"
    return "leader" if answer.member_id == seen.leader else "follower"


def plan_status(decision: Step | Hold | None, diagnosis: Diagnosis) -> PlanStatus:
    if isinstance(decision, Step):
        return PlanStatus(next=str(decision), because=decision.because)
    if isinstance(decision, Hold):
        until = from_seconds(decision.until_s) if decision.until_s is not None else None
        return PlanStatus(because=decision.because, waits_for=decision.waits_for or None, until=until)
    as_specified = diagnosis.health is Health.HEALTHY and diagnosis.reason is Reason.HEALTHY
    return PlanStatus(because=f"{'all is as specified' if as_specified else 'no step is needed'}: {diagnosis.message}")


def conditions(
    spec: Spec,
    seen: Observation,
    diagnosis: Diagnosis,
    decision: Step | Hold | None,
    before: Status,
    generation: int,
) -> tuple[Condition, ...]:
    asleep = diagnosis.reason is Reason.ASLEEP
    available = diagnosis.health in (Health.HEALTHY, Health.DEGRADED, Health.AT_RISK)
    moving = isinstance(decision, Step) or (isinstance(decision, Hold) and decision.reason not in STALLED | SETTLED)
    stalled = isinstance(decision, Hold) and decision.reason in STALLED
    settled = decision is None or asleep or (isinstance(decision, Hold) and decision.reason is Reason.PAUSED)
    complete = len(seen.voters) == spec.replicas and not seen.pending
    complete = complete and not seen.of_other_engine(spec.engine) and not seen.outdated and not seen.unready
    ready = asleep or (diagnosis.health is Health.HEALTHY and complete and settled)
    change = kind_of_change(decision, diagnosis, spec, seen)
    why, message = why_moving(decision, diagnosis, change)
    ready_reason, ready_message = (
        (diagnosis.reason, diagnosis.message) if ready else not_ready(decision, diagnosis, change)
    )
    degraded = diagnosis.health in (Health.DEGRADED, Health.AT_RISK, Health.NO_QUORUM, Health.SPLIT)
    leading, complaints = "Stalled" if stalled else "Ready", complaints_of(decision, diagnosis)

    def one(kind: str, truth: bool, reason: Reason, message: str) -> Condition:
        for complaint in complaints:
            message = told(message, complaint, times_count=1 if kind == leading else 0)
        return condition(kind, "True" if truth else "False", reason, message, before, generation, seen.now_s)

    spread = spread_of(seen)
    return (
        one("Ready", ready, ready_reason, ready_message + advice(spec, ready=ready and not asleep)),
        one("Reconciling", moving, why, message),
        one("Stalled", stalled, why, message),
        one("Available", available, diagnosis.reason, diagnosis.message),
        one("Progressing", moving, why, message),
        one("Degraded", degraded, diagnosis.reason, diagnosis.message),
        *([one("Spread", *spread)] if spread is not None else ()),
    )


def complaints_of(decision: Step | Hold | None, diagnosis: Diagnosis) -> set[str]:
    """Why members do not run, in their platform's words, where everything waits for that."""
    because = decision.because if isinstance(decision, Hold) else ""
    found = {one.why for one in diagnosis.members if one.why and one.why in because}
    return {one for one in found if not any(one in other for other in found - {one})}


def told(message: str, complaint: str, *, times_count: int) -> str:
    """With so many of the complaints in it: six conditions with one long text each would hide what else they say."""
    first, *others = message.split(f": {complaint}")
    kept = [f": {complaint}" if place < times_count else "" for place in range(len(others))]
    return first + "".join(said + other for said, other in zip(kept, others, strict=True))


def condition(
    kind: str, truth: Truth, reason: Reason, message: str, before: Status, generation: int, now_s: float
) -> Condition:
    """Of the status before only since when it is so."""
    earlier = next((one for one in before.conditions if one.type == kind), None)
    same = earlier is not None and earlier.status == truth
    return Condition(
        type=kind,
        status=truth,
        reason=reason,
        message=message,
        last_transition_time=earlier.last_transition_time if earlier and same else from_seconds(now_s),
        observed_generation=generation,
    )


def unreadable(before: Status, held: Hold, generation: int, now_s: float) -> Status:
    """Of a document of which no version could be read: nothing is known but that, and what was known stays."""
    message = f"{held.because}; waits for {held.waits_for}"
    truths: tuple[tuple[str, Truth], ...] = (
        ("Ready", "False"),
        ("Reconciling", "False"),
        ("Stalled", "True"),
        ("Available", "Unknown"),
        ("Progressing", "False"),
        ("Degraded", "Unknown"),
    )
    conditions = tuple(
        condition(kind, truth, held.reason, message, before, generation, now_s) for kind, truth in truths
    )
    plan = PlanStatus(because=held.because, waits_for=held.waits_for)
    return before.model_copy(update={"observed_generation": generation, "plan": plan, "conditions": conditions})


def spread_of(seen: Observation) -> tuple[bool, Reason, str] | None:
    """Whether the loss of one machine takes one voter at most; None where machines are not known."""
    hosts: dict[str, list[str]] = {}
    for entry in seen.entries or ():
        node = seen.nodes.get(entry.name) if entry.name is not None else None
        if node is not None and node.host and not entry.is_learner:
            hosts.setdefault(node.host, []).append(node.name)
    if not hosts:
        return None
    crowded = [f"{', '.join(sorted(names))} run on {host}" for host, names in sorted(hosts.items()) if len(names) > 1]
    if crowded:
        return False, Reason.MEMBERS_SHARE_NODE, "; ".join(crowded)
    return True, Reason.SPREAD_OUT, "no two voters run on one machine"


def why_moving(decision: Step | Hold | None, diagnosis: Diagnosis, change: Reason) -> tuple[Reason, str]:
    """change: what a step is part of."""
    if isinstance(decision, Hold):
        waits = f"; waits for {decision.waits_for}" if decision.waits_for else ""
        return decision.reason, f"{decision.because}{waits}"
    if isinstance(decision, Step):
        return change, f"{decision}: {decision.because}"
    return diagnosis.reason, diagnosis.message


def kind_of_change(decision: Step | Hold | None, diagnosis: Diagnosis, spec: Spec, seen: Observation) -> Reason:
    if diagnosis.health in (Health.NEW, Health.BOOTSTRAPPING):
        return Reason.BOOTSTRAPPING
    if isinstance(decision, Restart) or (isinstance(decision, HandOver) and decision.leader_name in seen.outdated):
        return Reason.ROLLING
    if isinstance(decision, StartNodes) and not seen.pending:
        return Reason.ROLLING if seen.outdated else Reason.WAKING
    return Reason.MIGRATING if seen.of_other_engine(spec.engine) else Reason.CHANGING_MEMBERS


def not_ready(decision: Step | Hold | None, diagnosis: Diagnosis, change: Reason) -> tuple[Reason, str]:
    """What keeps it from being ready: trouble and why, else what is under way. How bad trouble is, Degraded says."""
    wanted = isinstance(decision, Hold) and decision.reason is Reason.STOPPED
    if wanted or (diagnosis.health in (Health.HEALTHY, Health.NEW, Health.BOOTSTRAPPING) and decision is not None):
        return why_moving(decision, diagnosis, change)
    reason, explains = diagnosis.reason, isinstance(decision, Hold) or change is Reason.ROLLING
    if explains and diagnosis.health in (Health.DEGRADED, Health.AT_RISK):
        reason, _ = why_moving(decision, diagnosis, change)
    return reason, diagnosis.message + doing(decision)


def doing(decision: Step | Hold | None) -> str:
    """What is done about it, in a few words: Reconciling and the plan have more."""
    if isinstance(decision, Step):
        return f"; now: {decision}"
    return f"; waits for {decision.waits_for}" if decision is not None and decision.waits_for else ""


def advice(spec: Spec, *, ready: bool) -> str:
    if not ready:
        return ""
    if spec.replicas == 1:
        return "; a single member: writes stop with its loss, a restart or a drain"
    if spec.replicas % 2 == 0:
        pause = "; writes stop with the loss, a restart or a drain of either" if spec.replicas == 2 else ""
        return f"; {even(spec.replicas)}{pause}"
    return ""


def worth_writing(new: Status, written: Status | None, written_s: float, now_s: float) -> bool:
    """Whether anything but volatile figures has changed, or those are old enough (I9)."""
    if written is None:
        return True
    if steady(new) != steady(written):
        return True
    return new != written and now_s - written_s >= VOLATILE_S


def steady(status: Status) -> Status:
    """Without the figures that change by themselves in a busy cluster."""
    members = tuple(
        member.model_copy(update={"revision": None, "lag_entries": None, "database_bytes": None})
        for member in status.members
    )
    return status.model_copy(update={"members": members})


def served_nobody(status: Status) -> bool:
    """Whether the cluster served nobody, and was to serve nobody yet: who wakes it has not lost it.

    A quorum that was lost, once said, is lost until there is one.
    """
    available = next((one for one in status.conditions if one.type == "Available"), None)
    return available is None or (available.status == "False" and available.reason in NOBODY_YET)


def had_data(status: Status) -> frozenset[str]:
    """Names of the members that had data, or should have: without a member list a lost volume is else forgotten."""
    without = (MemberState.JOINING, MemberState.LEAVING)
    return frozenset(member.name for member in status.members if member.state not in without)


def joining_since(status: Status) -> dict[int, float]:
    """When each member that has not started was first seen so: what survives a restart of the operator (I10)."""
    found = {}
    for member in status.members:
        if member.state == MemberState.JOINING and member.id is not None and member.since is not None:
            found[int(member.id, 16)] = to_seconds(member.since)
    return found
