"""Finish a change that was begun: start and promote the learner, or withdraw it; sweep up after a removal.

The operator may have been killed between any two steps (I10), so this is also how every change goes on: whoever added
the learner only added it.
"""

from dataclasses import replace

from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import Spec
from kvorum_operator.cluster import guard
from kvorum_operator.cluster.observation import Entry, Observation
from kvorum_operator.cluster.rules.revive import cannot_start
from kvorum_operator.cluster.step import Discard, Hold, PromoteMember, RemoveMember, Restart, StartNodes, Step

# The members' own threshold for a promotion, nine tenths of the leader's log; below it asking would be in vain.
READY_TENTHS = 9


def finish_change(spec: Spec, seen: Observation) -> Step | Hold | None:
    if seen.entries is None:
        return None
    if stale := discard_stale(seen):
        return stale
    for entry in seen.pending:
        name = entry.name
        if name is not None and not entry.is_learner and guard.met_sealed_file(name, seen):
            because = f"{name} found its file sealed when it started, and it is open by now"
            return Restart(name=name, uid=seen.nodes[name].uid, because=because)
    for entry in seen.pending:
        if entry.name is None:
            return Hold(
                Reason.CHANGE_PENDING,
                f"a member that is not ours, {entry.id:x} at {', '.join(entry.peer_urls)}, has not finished joining",
                "whoever added it to start or to remove it",
            )
        if entry.is_learner:
            return join_or_withdraw(entry, entry.name, spec, seen)
        # A voter of the bootstrap that never started is started by revive, with an open file.
        return Hold(Reason.WAKING, f"{entry.name} has not started yet", f"{entry.name} to answer")
    return None


def discard_stale(seen: Observation) -> Discard | None:
    """What a removed member left behind: its volume, or only its node."""
    if seen.entries is None:
        return None
    for volume in seen.volumes.values():
        entry = seen.entry_named(volume.name)
        if seen.is_stale(volume) and (entry is None or not entry.started):
            why = "is no member any more" if entry is None else "has data of a removed member"
            return Discard(name=volume.name, member_id=volume.member_id, because=f"{volume.name} {why}")
    for name in seen.nodes:
        if seen.is_running(name) and name not in seen.volumes and seen.entry_named(name) is None:
            return Discard(name=name, member_id=None, because=f"{name} is no member any more")
    return None


def join_or_withdraw(entry: Entry, name: str, spec: Spec, seen: Observation) -> Step | Hold | None:
    if seen.ordinal(name) >= spec.replicas:
        because = f"spec.replicas is {spec.replicas}: {name} is not wanted any more"
        return RemoveMember(name=name, member_id=entry.id, because=because)
    if why := guard.why_withdrawn(entry, spec, seen):
        return RemoveMember(name=name, member_id=entry.id, because=f"{name} {why}")
    if not seen.is_running(name):
        held = cannot_start(name, seen)
        if held is not None and not entry.started and held.until_s is None:
            return replace(held, until_s=seen.deadline_s(entry))  # then it is withdrawn
        return held or StartNodes(names=(name,), because=f"{name} was added as a learner")
    if not entry.started:
        return Hold(
            Reason.CHANGING_MEMBERS,
            f"{name} was added as a learner and starts",
            f"{name} to come up",
            seen.deadline_s(entry),
        )
    answer = seen.answers.get(entry.id)
    if answer is None or entry.id not in seen.healthy:
        return Hold(Reason.MEMBER_UNREACHABLE, f"{name} runs as a learner and does not answer", f"{name} to answer")
    if answer.raft_index * 10 < seen.head_index * READY_TENTHS:
        return Hold(Reason.LEARNER_BEHIND, f"{name} still copies the leader's log", f"{name} to catch up")
    return PromoteMember(name=name, member_id=entry.id, because=f"{name} has caught up as a learner")
