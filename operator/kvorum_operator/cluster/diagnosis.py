"""The diagnosis: what state the cluster and each of its members is in, from a closed set, with evidence.

Judges nothing and wants nothing: the plan does not read it, status does.
"""

from dataclasses import dataclass
from enum import StrEnum

from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.timestamps import from_seconds
from kvorum_operator.api.v1alpha1 import Spec
from kvorum_operator.cluster import quorum
from kvorum_operator.cluster.guard import mismatch
from kvorum_operator.cluster.observation import Entry, Observation


class Health(StrEnum):
    NEW = "New"  # nothing of it exists
    BOOTSTRAPPING = "Bootstrapping"  # begun, and no member has named the cluster's id yet
    ASLEEP = "Asleep"  # wanted so: no node runs
    HEALTHY = "Healthy"  # every voter serves
    DEGRADED = "Degraded"  # a quorum serves, not every voter
    AT_RISK = "AtRisk"  # just a quorum serves of three or more: the next loss stops writes
    WAKING = "Waking"  # no writes yet: it slept, or was put on kept volumes, and its members start
    NO_QUORUM = "NoQuorum"  # no writes
    SPLIT = "Split"  # two cluster ids


class MemberState(StrEnum):
    SERVING = "Serving"  # answers and follows the leader
    JOINING = "Joining"  # a learner, started or not
    STARTING = "Starting"  # its platform makes its node, or that was started a moment ago
    STOPPING = "Stopping"  # its node was told to end
    DOWN = "Down"  # its node does not run
    FAILING = "Failing"  # its node ends soon after each start
    UNREACHABLE = "Unreachable"  # its node runs, and does not answer or sees no leader
    DATA_LOST = "DataLost"  # its data is gone or of no use
    ASLEEP = "Asleep"  # its node does not run, as wanted
    LEAVING = "Leaving"  # no member any more, its node or volume still there


@dataclass(frozen=True, slots=True)
class MemberView:
    """One member: who it is, how it is, and why, for a person."""

    name: str
    member_id: int | None
    state: MemberState
    why: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    health: Health
    reason: Reason
    message: str
    members: tuple[MemberView, ...]


def diagnose(spec: Spec, seen: Observation) -> Diagnosis:
    members = tuple(view(name, spec, seen) for name in names(seen))
    health, reason, message = judge(spec, seen, members)
    return Diagnosis(health, reason, message, members)


def names(seen: Observation) -> list[str]:
    """Every member that the member list, a volume, a running node or the bootstrap names, by ordinal.

    Without a member list those of the last status too: whose volume is gone is not forgotten.
    """
    found = {volume.name for volume in seen.volumes.values() if volume.ours}
    found |= seen.names_before if seen.entries is None else set()
    found |= {name for name, node in seen.nodes.items() if node.running}
    found |= {entry.name for entry in seen.entries or () if entry.name is not None}
    if seen.cluster_id is None and seen.record is not None:
        found |= set(seen.record.members)
    return sorted(found, key=seen.ordinal)


def view(name: str, spec: Spec, seen: Observation) -> MemberView:
    entry, volume, node = seen.entry_named(name), seen.volumes.get(name), seen.nodes.get(name)
    answer = seen.answered.get(name)
    member_id = entry.id if entry is not None else None
    if member_id is None and answer is not None:
        member_id = answer.member_id
    if member_id is None and volume is not None:
        member_id = volume.member_id
    state, why = state_of(name, entry, spec, seen)
    if not why and node is not None and not node.current and node.running:
        why = "runs as an earlier specification says"
    return MemberView(name, member_id, state, why)


def state_of(name: str, entry: Entry | None, spec: Spec, seen: Observation) -> tuple[MemberState, str]:
    node, answer = seen.nodes.get(name), seen.answered.get(name)
    if seen.entries is not None and entry is None:
        return MemberState.LEAVING, "is no member any more"
    if name in seen.lost:
        return MemberState.DATA_LOST, seen.lost[name]
    if node is None or not node.running:
        if spec.replicas == 0:
            return MemberState.ASLEEP, ""
        if entry is not None and not entry.started:
            held_up = node.held_up.text if node is not None and node.held_up is not None else ""
            return MemberState.JOINING, seen.blocked.get(name) or held_up or "was added and has not started"
        if node is not None and node.held_up is not None:
            return HELD_UP.get(node.held_up.reason, MemberState.DOWN), node.held_up.text
        if node is not None and node.failures_count > 1:
            return MemberState.FAILING, node.ended
        return MemberState.DOWN, seen.blocked.get(name) or (node.ended if node is not None else "")
    if node.stopping:
        return MemberState.STOPPING, "is being stopped"
    if entry is not None and (entry.is_learner or not entry.started):
        return MemberState.JOINING, "copies the leader's log" if entry.started else "starts for the first time"
    if answer is not None and answer.member_id in seen.healthy:
        return MemberState.SERVING, ""
    if seen.is_waking(name):
        return MemberState.STARTING, f"started at {from_seconds(node.since_s)}"
    if answer is None:
        return MemberState.UNREACHABLE, f"runs since {from_seconds(node.since_s)} and does not answer"
    return MemberState.UNREACHABLE, "sees no leader"


def judge(spec: Spec, seen: Observation, members: tuple[MemberView, ...]) -> tuple[Health, Reason, str]:
    learners = seen.member_ids - seen.voters
    calm = (MemberState.SERVING, MemberState.LEAVING)
    troubled = [one for one in members if one.state not in calm and one.member_id not in learners]
    running = any(seen.is_running(one.name) for one in members)
    if len(seen.cluster_ids) > 1:
        return Health.SPLIT, Reason.CLUSTER_ID_MISMATCH, mismatch(seen)
    if seen.cluster_id is None and seen.record_damage:
        return Health.BOOTSTRAPPING, Reason.RECORD_DAMAGED, seen.record_damage
    if seen.cluster_id is None and seen.record is None:
        reason = Reason.BOOTSTRAPPING if spec.replicas else Reason.NEVER_BOOTSTRAPPED
        return Health.NEW, reason, "no member exists yet"
    if spec.replicas == 0:
        if running:
            return (
                Health.ASLEEP,
                Reason.FALLING_ASLEEP,
                f"still running: {', '.join(one.name for one in members if seen.is_running(one.name))}",
            )
        return Health.ASLEEP, Reason.ASLEEP, f"no member runs, the data of {len(seen.volumes)} is kept"
    if seen.cluster_id is None:
        return Health.BOOTSTRAPPING, Reason.BOOTSTRAPPING, "the first members start"
    summary = f"{len(seen.voters_healthy)} of {len(seen.voters)} voters serve"
    details = "".join(f"; {describe(one)}" for one in troubled)
    if seen.entries is None or not seen.has_quorum:
        if seen.woken and all(is_just_starting(one, seen) for one in troubled):
            return Health.WAKING, Reason.WAKING, f"the members wake{details}"
        known = summary if seen.entries is not None else "no quorum answers"
        return Health.NO_QUORUM, Reason.QUORUM_LOST, f"{known}{details}"
    if len(seen.voters_healthy) == len(seen.voters):
        if seen.unready:
            return Health.HEALTHY, Reason.WAKING, f"{summary}; not given to clients yet: {', '.join(seen.unready)}"
        return Health.HEALTHY, Reason.HEALTHY, summary
    summary += details
    if len(seen.voters_healthy) == quorum.size(len(seen.voters)) and len(seen.voters) >= 3:
        return Health.AT_RISK, Reason.QUORUM_AT_RISK, f"{summary}; the next loss stops writes"
    return Health.DEGRADED, REASONS[worst(troubled)], summary


def is_just_starting(one: MemberView, seen: Observation) -> bool:
    """Whether a member that does not serve is about to be started, or was a moment ago: that is no trouble yet."""
    if one.state is MemberState.STARTING:
        return seen.is_waking(one.name)
    node = seen.nodes.get(one.name)
    untried = node is None or (node.held_up is None and not node.failures_count)
    return one.state is MemberState.DOWN and untried and one.name not in seen.blocked


def describe(one: MemberView) -> str:
    return f"{one.name} is {one.state}{f': {one.why}' if one.why else ''}"


# By how much a person is needed.
REASONS = {
    MemberState.DATA_LOST: Reason.MEMBER_DATA_LOST,
    MemberState.FAILING: Reason.MEMBER_FAILING,
    MemberState.UNREACHABLE: Reason.MEMBER_UNREACHABLE,
    MemberState.DOWN: Reason.MEMBER_DOWN,
    MemberState.JOINING: Reason.CHANGING_MEMBERS,
    MemberState.STARTING: Reason.WAKING,
    MemberState.STOPPING: Reason.WAKING,
}
# What a member is for why its platform has not started its node yet; for any other reason it is down.
HELD_UP = {Reason.WAKING: MemberState.STARTING, Reason.MEMBER_FAILING: MemberState.FAILING}


def worst(troubled: list[MemberView]) -> MemberState:
    order = list(REASONS)
    return min(
        (one.state for one in troubled if one.state in REASONS), key=order.index, default=MemberState.UNREACHABLE
    )
