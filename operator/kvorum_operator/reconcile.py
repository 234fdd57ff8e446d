"""The pass: observe, diagnose, plan, apply, status. The same on every platform, and one step at most.

Decides nothing itself. What it remembers from pass to pass may be lost at any moment (I10): it is observed again, or
only makes a wait longer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import KVCluster, Status
from kvorum_operator.cluster import status as statuses
from kvorum_operator.cluster.diagnosis import Diagnosis, diagnose
from kvorum_operator.cluster.events import Event, events_of
from kvorum_operator.cluster.observation import Address, HandOvers, Node, Observation, Record, Volume
from kvorum_operator.cluster.plan import plan
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
from kvorum_operator.members.asking import Members


@dataclass(frozen=True, slots=True)
class Scene:
    """What a platform sees: everything of an observation that members do not say themselves."""

    now_s: float
    addresses: Mapping[str, Address]
    nodes: Mapping[str, Node]
    volumes: Mapping[str, Volume]
    blocked: Mapping[str, str]
    record: Record | None
    record_damage: str = ""
    engine_blocked: str = ""


class StepFailed(Exception):
    """A platform could not do what it was told. The text is for a person."""


class ObjectRefused(Exception):
    """The platform refuses an object as it was put. The text, for a person, says which, why, and the way out.

    needed: whether steps rely on it. Without a monitor, say, members run as well, and it is told when nothing else is.
    """

    def __init__(self, text: str, *, needed: bool = True) -> None:
        super().__init__(text)
        self.needed = needed


class Fenced(Exception):
    """This operator may not act any more: another one may by now. Ends the pass before the write."""


def unfenced() -> None:
    """For where a single operator is certain."""


class Platform(Protocol):
    """Where nodes and volumes are. Each call is idempotent and may be cut short anywhere (I10).

    Every step may raise StepFailed or ObjectRefused.
    """

    async def look(self, cluster: KVCluster) -> Scene: ...
    async def put_objects(self, cluster: KVCluster, seen: Observation) -> None:
        """As objects/ builds them, where they differ, and labels. Raises ObjectRefused: if needed, no step follows."""

    async def bootstrap(self, step: Bootstrap) -> None:
        """Writes the record, create-only."""

    async def start_nodes(self, step: StartNodes, cluster: KVCluster, seen: Observation) -> None: ...
    async def stop_nodes(self, step: StopNodes) -> None: ...
    async def restart(self, step: Restart, seen: Observation) -> None:
        """Stops this very node; that it starts again is the platform's, or revive's."""

    async def discard(self, step: Discard) -> None: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """A pass that is over. decision: what was planned; refused: why its step was not done after all."""

    seen: Observation
    diagnosis: Diagnosis
    decision: Step | Hold | None
    refused: Hold | None
    status: Status
    events: tuple[Event, ...] = ()

    @property
    def acted(self) -> bool:
        return isinstance(self.decision, Step) and self.refused is None

    @property
    def ready(self) -> bool:
        return self._is_true("Ready")

    @property
    def moving(self) -> bool:
        """Something is under way, so that a look may soon see something new."""
        return self._is_true("Reconciling")

    def _is_true(self, kind: str) -> bool:
        return any(one.type == kind and one.status == "True" for one in self.status.conditions)


@dataclass(slots=True)
class Reconciler:
    """One cluster's passes. status: the last one, from wherever it is kept.

    fence: raises Fenced when nothing may be written; asked right before each write, of platform or members.
    """

    platform: Platform
    members: Members
    status: Status = Status()  # noqa: RUF009 - frozen
    fence: Callable[[], None] = unfenced
    _hand_overs: dict[int, HandOvers] = field(default_factory=dict)

    async def observe(self, cluster: KVCluster) -> Observation:
        scene = await self.platform.look(cluster)
        running = {
            name: replace(scene.addresses[name], client_url=node.client_url or scene.addresses[name].client_url)
            for name, node in scene.nodes.items()
            if node.running
        }
        asked = await self.members.ask(running, scene.addresses)
        seen = Observation(
            now_s=scene.now_s,
            addresses=scene.addresses,
            nodes=scene.nodes,
            volumes=scene.volumes,
            blocked=scene.blocked,
            engine_blocked=scene.engine_blocked,
            record=scene.record,
            record_damage=scene.record_damage,
            latched_cluster_id=int(self.status.cluster_id, 16) if self.status.cluster_id else None,
            names_before=statuses.had_data(self.status),
            woken=statuses.served_nobody(self.status),
            entries=asked.entries,
            answered=asked.answered,
            own_words=asked.own_words,
            joining_since_s=statuses.joining_since(self.status),
        )
        # Tries count until another member is seen to lead; no leader for a moment is a hand-over under way.
        if seen.leader:
            self._hand_overs = {leader: tries for leader, tries in self._hand_overs.items() if leader == seen.leader}
        return replace(seen, hand_overs=dict(self._hand_overs))

    async def run_pass(self, cluster: KVCluster, generation: int, held: Hold | None = None) -> Outcome:
        """held: a reason from outside to touch nothing, such as a document that cannot be read."""
        seen = await self.observe(cluster)
        diagnosis = diagnose(cluster.spec, seen)
        decision = held or plan(cluster.spec, seen)
        refused = None
        if held is None and not cluster.spec.paused and not seen.record_damage:
            refused = await self._put_objects(cluster, seen, decision)
        if isinstance(decision, Step) and refused is None:
            refused = await self._perform(decision, cluster, seen)
        before = self.status
        self.status = statuses.compose(
            cluster.metadata.name, cluster.spec, seen, diagnosis, refused or decision, self.status, generation
        )
        events = events_of(before, self.status, decision, refused, cluster.spec)
        return Outcome(seen, diagnosis, decision, refused, self.status, events)

    async def _put_objects(self, cluster: KVCluster, seen: Observation, decision: Step | Hold | None) -> Hold | None:
        self.fence()
        try:
            await self.platform.put_objects(cluster, seen)
        except ObjectRefused as refusal:
            if refusal.needed or decision is None:
                return refused_object(refusal)
        return None

    async def _perform(self, step: Step, cluster: KVCluster, seen: Observation) -> Hold | None:
        self.fence()
        try:
            match step:
                case Bootstrap():
                    await self.platform.bootstrap(step)
                case StartNodes():
                    await self.platform.start_nodes(step, cluster, seen)
                case StopNodes():
                    await self.platform.stop_nodes(step)
                case Restart():
                    await self.platform.restart(step, seen)
                case Discard():
                    await self.platform.discard(step)
                case HandOver():
                    tried = self._hand_overs.get(step.leader, HandOvers()).tries_count
                    self._hand_overs[step.leader] = HandOvers(tried + 1, seen.now_s)
                    return await self.members.perform(step, seen)
                case AddLearner() | PromoteMember() | RemoveMember():
                    return await self.members.perform(step, seen)
                case _:
                    raise AssertionError(f"nobody performs {step}")
        except StepFailed as failure:
            return Hold(Reason.NODE_BLOCKED, f"{step} failed: {failure}", "that to be cleared")
        except ObjectRefused as refusal:
            return refused_object(refusal)
        return None


def refused_object(refusal: ObjectRefused) -> Hold:
    return Hold(Reason.OBJECT_REFUSED, str(refusal), "the specification, or who refuses it, to be changed")
