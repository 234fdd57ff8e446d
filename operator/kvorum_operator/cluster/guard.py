"""The guard: every invariant that a step must keep, in one place. docs/invariants.md has them in full.

Rules wish, the guard permits or objects; it has no wishes of its own. It trusts no rule: what a rule has checked is
checked again here. An objection is a Hold that quotes the invariant by its number, at its end.
"""

from collections.abc import Callable

from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import Spec
from kvorum_operator.cluster import quorum
from kvorum_operator.cluster.observation import Entry, Observation
from kvorum_operator.cluster.step import (
    AddLearner,
    Bootstrap,
    Discard,
    HandOver,
    Hold,
    PromoteMember,
    RemoveMember,
    Restart,
    StartNodes,
    Step,
    StopNodes,
)

HAND_OVER_TRIES_MAX = 3
HAND_OVER_WAIT_ELECTIONS = 2  # election timeouts to wait for a successor before the next try
VOTERS_TO_CARRY_ON_MIN = 3  # with fewer none can be away without a pause of writes
VOTERS_TO_MIGRATE_MIN = 3  # so that two carry the data while one is on its way to the other engine


def objection(wish: Step | Hold | None, spec: Spec, seen: Observation) -> Hold | None:
    """Why the wish must not be done now; None permits it. A wish to do nothing is always permitted."""
    if not isinstance(wish, Step):
        return None
    if len(seen.cluster_ids) > 1:
        return Hold(
            Reason.CLUSTER_ID_MISMATCH,
            f"{mismatch(seen)}; everything is frozen (I4)",
            "a person to say which one is right and move the other away",
        )
    return OBJECTIONS[type(wish)](wish, spec, seen)


def mismatch(seen: Observation) -> str:
    return f"two cluster ids are named: {', '.join(f'{one:x}' for one in sorted(seen.cluster_ids))}"


def bootstrap(wish: Bootstrap, spec: Spec, seen: Observation) -> Hold | None:
    """I4: a cluster is bootstrapped once."""
    if seen.record_damage:
        return Hold(Reason.RECORD_DAMAGED, f"{seen.record_damage} (I4)", "a person to put it back")
    if seen.cluster_id is not None or seen.record is not None:
        return Hold(Reason.REQUEST_REFUSED, "this cluster was bootstrapped before (I4)")
    if seen.volumes:
        found = ", ".join(sorted(seen.volumes))
        return Hold(
            Reason.FOREIGN_VOLUME,
            f"there are volumes of unknown origin: {found} (I4)",
            "them to be moved away, or for the state they belong to to come back",
        )
    if not wish.members or spec.replicas == 0:
        return Hold(Reason.NEVER_BOOTSTRAPPED, "a cluster cannot begin without a member (I5)")
    return None


def start_nodes(wish: StartNodes, spec: Spec, seen: Observation) -> Hold | None:
    """I5, I6, I7: only members start, on their own data; without data only those that never started."""
    if spec.replicas == 0:
        return Hold(Reason.ASLEEP, "the cluster is to sleep (I5)")
    for name in wish.names:
        if held := start_node(name, seen):
            return held
    return None


def start_node(name: str, seen: Observation) -> Hold | None:
    volume, entry = seen.volumes.get(name), seen.entry_named(name)
    in_record = seen.record is not None and name in seen.record.members
    if seen.is_running(name):
        return Hold(Reason.REQUEST_REFUSED, f"{name} runs already (I2)")
    if volume is not None and not volume.ours:
        return Hold(Reason.FOREIGN_VOLUME, f"the volume of {name} is of unknown origin (I4)", "it to be moved away")
    if seen.cluster_id is None:
        return None if in_record else Hold(Reason.REQUEST_REFUSED, f"the bootstrap does not name {name} (I4)")
    if seen.entries is None:
        if volume is None:
            return Hold(Reason.QUORUM_LOST, f"no volume names {name}, and no member list can be had (I5)")
        if volume.cluster_id is None and not in_record:
            return Hold(Reason.FOREIGN_VOLUME, f"the volume of {name} names no cluster, and no bootstrap names it (I5)")
        return None
    if entry is None:
        return Hold(Reason.REQUEST_REFUSED, f"{name} is not in the member list (I5)")
    if volume is not None and seen.is_stale(volume):
        if entry.started:
            return data_lost(name)
        return Hold(Reason.CHANGE_PENDING, f"the volume of {name} is of a removed member and must go first (I6)")
    if volume is None and entry.started:
        return data_lost(name)
    return None


def data_lost(name: str) -> Hold:
    return Hold(
        Reason.MEMBER_DATA_LOST,
        f"the volume of {name}, which has voted, is gone; it would come back without its votes (I7)",
        f"the volume of {name} to be put back, or the member to be replaced",
    )


def stop_nodes(wish: StopNodes, spec: Spec, seen: Observation) -> Hold | None:
    """I2: many voters go down together only to sleep."""
    if spec.replicas != 0:
        return Hold(Reason.QUORUM_AT_RISK, "members are taken down together only to sleep (I2)")
    return None


def restart(wish: Restart, spec: Spec, seen: Observation) -> Hold | None:
    """I1, I2, I3: what serves only while the rest carries on; what does not serve always, as its data is kept."""
    node, entry = seen.nodes.get(wish.name), seen.entry_named(wish.name)
    if spec.replicas == 0:
        return Hold(Reason.ASLEEP, "the cluster is to sleep (I2)")
    due = node is not None and (not node.current or met_sealed_file(wish.name, seen))
    if node is None or node.uid != wish.uid or node.stopping or not due:
        return Hold(Reason.REQUEST_REFUSED, f"{wish.name} is no node that has to be restarted (I2)")
    if is_known_idle(wish.name, seen):
        return None
    if seen.entries is not None and entry is None:
        return Hold(Reason.REQUEST_REFUSED, f"{wish.name} is not in the member list (I2)")
    return interrupt(entry, wish.name, seen) or (hand_over_first(entry, seen) if entry is not None else None)


def met_sealed_file(name: str, seen: Observation) -> bool:
    """I7: whether a node stays up without data although its member never started, and so may still begin.

    It came while nobody could say who is in the member list. An etcd ends then, and is started again anyway.
    """
    node, entry, word = seen.nodes.get(name), seen.entry_named(name), seen.own_words.get(name)
    never_started = entry is not None and not entry.started
    up = node is not None and node.running and not node.stopping
    return never_started and up and word is not None and word.state == "data-lost"


def is_known_idle(name: str, seen: Observation) -> bool:
    """Whether nobody relies on a node. Silence alone does not say so: it may serve others, unheard by us (I8).

    Evidence is: it does not run; it never voted, and is silent; or its platform, from beside it, sees it not serve, and
    others are the quorum or, where no member list can be had, nobody serves.
    """
    node, entry = seen.nodes.get(name), seen.entry_named(name)
    if node is None or not node.running:
        return True
    if entry is not None and entry.id in seen.healthy:
        return False
    if entry is not None and (entry.is_learner or not entry.started):
        return True
    if node.ready is not False:
        return False
    if seen.entries is None:
        return not seen.leader and not any(one.ready for one in seen.nodes.values())
    return entry is not None and quorum.holds(seen.voters, sound_voters(seen) - {entry.id})


def sound_voters(seen: Observation) -> set[int]:
    """Those that serve, have caught up, and would come back: not from a volume that is gone."""
    return {one for one in seen.voters_healthy if seen.is_caught_up(one) and seen.name_of(one) not in seen.lost}


def interrupt(entry: Entry | None, name: str, seen: Observation) -> Hold | None:
    """I1, I2: a voter that serves is away for a moment while the others are a quorum that has caught up.

    Of one or two voters none can be away without a pause: then all must be well before, and no change may be pending.
    """
    if held := change(seen):
        return held
    assert entry is not None, "a confirmed list without the member"
    if stopping := [other for other, node in seen.nodes.items() if node.stopping]:
        return Hold(Reason.ROLLING, f"{stopping[0]} is being stopped (I2)", f"{stopping[0]} to serve again")
    sound = sound_voters(seen)
    if len(seen.voters) < VOTERS_TO_CARRY_ON_MIN:
        carried_on = sound == seen.voters
    else:
        carried_on = quorum.holds(seen.voters, sound - {entry.id})
    if carried_on:
        return None
    missing = sorted(seen.name_of(one) for one in seen.voters - sound)
    return Hold(
        Reason.QUORUM_AT_RISK,
        f"while {name} restarts only {len(sound - {entry.id})} of {len(seen.voters)} caught-up voters would serve (I2)",
        f"{', '.join(missing)} to serve",
    )


def change(seen: Observation, *, completes: Entry | None = None) -> Hold | None:
    """I1: one membership change at a time, confirmed by a quorum. completes: the pending entry it ends or undoes."""
    if seen.entries is None:
        return Hold(Reason.QUORUM_LOST, "no quorum confirms the member list (I1)", "a quorum of voters to answer")
    if not seen.has_quorum:
        return Hold(
            Reason.QUORUM_LOST,
            f"{len(seen.voters_healthy)} of {len(seen.voters)} voters serve, "
            f"a change needs {quorum.size(len(seen.voters))} (I1)",
            "more voters to answer",
        )
    for entry in seen.pending:
        if completes is None or entry.id != completes.id:
            name = entry.name or f"{entry.id:x}"
            return Hold(Reason.CHANGE_PENDING, f"{name} has not finished joining (I1)", f"{name} to become a voter")
    return None


def add_learner(wish: AddLearner, spec: Spec, seen: Observation) -> Hold | None:
    """I1, I5, I6: one at a time, as a learner, and onto no volume that was there before."""
    if held := change(seen):
        return held
    if seen.entry_named(wish.name) is not None:
        return Hold(Reason.REQUEST_REFUSED, f"{wish.name} is a member already (I5)")
    volume = seen.volumes.get(wish.name)
    if volume is not None and volume.ours:
        return Hold(Reason.CHANGE_PENDING, f"the leftover volume of {wish.name} must go first (I6)")
    if volume is not None:
        return Hold(
            Reason.FOREIGN_VOLUME, f"the volume of {wish.name} is of unknown origin (I6)", "it to be moved away"
        )
    return None


def promote_member(wish: PromoteMember, spec: Spec, seen: Observation) -> Hold | None:
    """I1, I5: a learner that runs and answers; as a voter it then adds to a quorum of those that serve."""
    entry = next((entry for entry in seen.entries or () if entry.id == wish.member_id), None)
    if held := change(seen, completes=entry):
        return held
    if entry is None or not entry.is_learner or not entry.started:
        return Hold(Reason.REQUEST_REFUSED, f"{wish.name} is not a learner that has started (I5)")
    if entry.id not in seen.healthy:
        return Hold(Reason.MEMBER_UNREACHABLE, f"{wish.name} does not answer (I1)", f"{wish.name} to answer")
    return None


def remove_member(wish: RemoveMember, spec: Spec, seen: Observation) -> Hold | None:
    """I1, I2, I3, I8: who is not wanted, is lost, or must change its engine; and the rest carries on without it."""
    entry = next((entry for entry in seen.entries or () if entry.id == wish.member_id), None)
    if held := change(seen, completes=entry):
        return held
    if entry is None or entry.name is None:
        return Hold(Reason.REQUEST_REFUSED, f"{wish.name} with that id is not a member of ours (I8)")
    wanted = seen.ordinal(entry.name) < spec.replicas
    if entry.is_learner:
        # It never voted: nothing rests on it but the work that was done.
        if wanted and not why_withdrawn(entry, spec, seen):
            return Hold(Reason.REQUEST_REFUSED, f"{wish.name} is wanted, and nothing says that it is lost (I8)")
        return None
    if wanted and entry.name not in seen.lost and (held := change_engine(entry, entry.name, spec, seen)):
        return held
    return carries_on_without(entry, seen) or hand_over_first(entry, seen)


def why_withdrawn(entry: Entry, spec: Spec, seen: Observation) -> str:
    """I1: of a learner that never started in time, lost its data or began with an engine that is not wanted any more.

    Safe, as it never voted (I7). Empty for all others.
    """
    if not entry.is_learner:
        return ""
    if entry.name in seen.of_other_engine(spec.engine) and not seen.engine_blocked:
        return f"began with another engine, and spec.engine is {spec.engine}"
    if entry.name is not None and entry.name in seen.lost:
        return f"lost its data before it voted: {seen.lost[entry.name]}"
    if not entry.started and seen.now_s >= seen.deadline_s(entry):
        return "did not start before its deadline"
    return ""


def change_engine(entry: Entry, name: str, spec: Spec, seen: Observation) -> Hold | None:
    """I2, I6, I8: a wanted voter goes only to be of spec.engine, and while all others are there and well.

    More than a quorum of them, unlike elsewhere: nobody is in a hurry, and who does not come back stops it.
    """
    if name not in seen.of_other_engine(spec.engine):
        return Hold(Reason.REQUEST_REFUSED, f"{name} is wanted, and nothing says that it is lost (I8)")
    if seen.engine_blocked:
        because = f"{name} could not come back, {seen.engine_blocked} (I6)"
        return Hold(Reason.NODE_BLOCKED, because, "one to be there, or spec.engine to be put back")
    absent = [one for one in tuple(seen.addresses)[: spec.replicas] if seen.entry_named(one) is None]
    if absent:
        return Hold(Reason.MIGRATING, f"{', '.join(absent)} is to be a member first (I2)", f"{absent[0]} to vote")
    others = seen.voters - {entry.id}
    if silent := sorted(seen.name_of(one) for one in others if is_unwell(one, seen)):
        listed = ", ".join(silent)
        return Hold(
            Reason.MIGRATING, f"{name} keeps its engine while {listed} does not serve (I2)", f"{listed} to serve"
        )
    if behind := sorted(seen.name_of(one) for one in others if not seen.is_caught_up(one)):
        listed = ", ".join(behind)
        return Hold(Reason.MIGRATING, f"{name} keeps its engine while {listed} is behind (I2)", f"{listed} to catch up")
    if len(seen.voters) < VOTERS_TO_MIGRATE_MIN:
        return Hold(
            Reason.TOO_FEW_MEMBERS,
            f"while {name} changes its engine {few(len(others))} would hold the data (I2)",
            f"spec.replicas to be {VOTERS_TO_MIGRATE_MIN} or more; it may be lowered again afterwards",
        )
    return None


def is_unwell(voter: int, seen: Observation) -> bool:
    return voter not in seen.healthy or seen.name_of(voter) in seen.lost


def few(voters_count: int) -> str:
    return "nobody" if voters_count == 0 else "a single member"


def carries_on_without(entry: Entry, seen: Observation) -> Hold | None:
    """I1, I2: the voters that stay and serve are a quorum, and have caught up unless the node that goes is down.

    A silent one may serve: what only it and the leader have must not go with it (I8).
    """
    # Who serves from a volume that is gone will not come back: it counts as little as one that is down.
    sound = {voter for voter in seen.voters_healthy if seen.name_of(voter) not in seen.lost}
    if not quorum.holds_without(seen.voters, sound, entry.id):
        left = len(sound - {entry.id})
        return Hold(
            Reason.QUORUM_AT_RISK,
            f"without {entry.name} only {left} of {len(seen.voters) - 1} voters would serve (I1)",
            "more voters to answer",
        )
    if entry.name is None or seen.is_running(entry.name):
        caught_up = {voter for voter in sound if seen.is_caught_up(voter)}
        if not quorum.holds_without(seen.voters, caught_up, entry.id):
            behind = sorted(seen.name_of(voter) for voter in sound - caught_up)
            return Hold(
                Reason.MEMBER_BEHIND,
                f"too few voters would have caught up without {entry.name} (I2)",
                f"{', '.join(behind)} to catch up",
            )
    return None


def hand_over_first(entry: Entry, seen: Observation) -> Hold | None:
    """I3: a leader hands over first, while another caught-up voter exists, up to three tries.

    Also one that is silent for us while others follow it: it is alive. If it stays silent, the tries run out.
    """
    if entry.id != seen.leader or not successors(entry.id, seen):
        return None
    tries = seen.hand_overs.get(entry.id)
    if tries is not None and tries.tries_count >= HAND_OVER_TRIES_MAX:
        return None
    return Hold(Reason.HANDING_OVER, f"{entry.name} leads and must hand over first (I3)", "another leader")


def successors(leader: int, seen: Observation) -> list[int]:
    """The voters that could lead instead, the one with most of the log first."""
    able = [voter for voter in seen.voters_healthy if voter != leader and seen.is_caught_up(voter)]
    return sorted(able, key=lambda voter: (-seen.answers[voter].raft_index, voter))


def hand_over(wish: HandOver, spec: Spec, seen: Observation) -> Hold | None:
    """I3: to a voter that serves and has caught up."""
    if wish.leader != seen.leader:
        return Hold(Reason.REQUEST_REFUSED, f"{wish.leader_name} does not lead (I3)")
    if wish.to not in successors(wish.leader, seen):
        return Hold(Reason.MEMBER_BEHIND, f"{wish.to_name} cannot lead yet (I3)", f"{wish.to_name} to catch up")
    return None


def discard(wish: Discard, spec: Spec, seen: Observation) -> Hold | None:
    """I6, I8: only what a confirmed member list shows to be no member's."""
    if seen.entries is None:
        return Hold(Reason.QUORUM_LOST, "no quorum confirms the member list (I8)", "a quorum of voters to answer")
    volume, entry = seen.volumes.get(wish.name), seen.entry_named(wish.name)
    if volume is not None and not volume.ours:
        return Hold(Reason.FOREIGN_VOLUME, f"the volume of {wish.name} is of unknown origin (I8)")
    if (volume.member_id if volume is not None else None) != wish.member_id:
        return Hold(Reason.REQUEST_REFUSED, f"the volume of {wish.name} is another one by now (I8)")
    if wish.member_id is not None and wish.member_id in seen.member_ids:
        return Hold(Reason.REQUEST_REFUSED, f"the volume of {wish.name} belongs to a member (I8)")
    if entry is not None and (entry.started or wish.member_id is None):
        return Hold(Reason.REQUEST_REFUSED, f"{wish.name} is a member (I8)")
    return None


OBJECTIONS: dict[type[Step], Callable[..., Hold | None]] = {
    Bootstrap: bootstrap,
    StartNodes: start_nodes,
    StopNodes: stop_nodes,
    Restart: restart,
    AddLearner: add_learner,
    PromoteMember: promote_member,
    RemoveMember: remove_member,
    HandOver: hand_over,
    Discard: discard,
}
