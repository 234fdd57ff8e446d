"""The pass: one step at most, nothing while it is held or paused, and refusals become holds."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest
from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import KVCluster, Status, parse
from kvorum_operator.cluster.observation import Address, Answer, Entry, Node, Observation, OwnWord, Record, Volume
from kvorum_operator.cluster.step import (
    AddLearner,
    Bootstrap,
    Discard,
    HandOver,
    Hold,
    Restart,
    StartNodes,
    Step,
    StopNodes,
)
from kvorum_operator.members.asking import Asked, Members
from kvorum_operator.reconcile import Fenced, ObjectRefused, Outcome, Reconciler, Scene, StepFailed

CLUSTER_ID = 0xC1
ADDRESSES = {f"kv-{k}": Address(f"kv-{k}", f"http://kv-{k}:2379", f"http://kv-{k}:2380") for k in range(9)}


class Place:
    """A platform of dictionaries: nodes run at once, and nothing fails unless `failing` says so."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0
        self.nodes: dict[str, Node] = {}
        self.volumes: dict[str, Volume] = {}
        self.record: Record | None = None
        self.record_damage = ""
        self.done: list[str] = []
        self.failing = ""
        self.object_refusal = ""
        self.object_needed = True

    async def look(self, cluster: KVCluster) -> Scene:
        return Scene(self.now_s, ADDRESSES, dict(self.nodes), dict(self.volumes), {}, self.record, self.record_damage)

    async def put_objects(self, cluster: KVCluster, seen: Observation) -> None:
        if self.object_refusal:
            raise ObjectRefused(self.object_refusal, needed=self.object_needed)
        self.done.append("objects")

    async def bootstrap(self, step: Bootstrap) -> None:
        self.done.append(str(step))
        self.record = Record("token", step.members)

    async def start_nodes(self, step: StartNodes, cluster: KVCluster, seen: Observation) -> None:
        if self.failing:
            raise StepFailed(self.failing)
        self.done.append(str(step))
        for name in step.names:
            self.nodes[name] = Node(name, True, self.now_s)
            self.volumes.setdefault(name, Volume(name))

    async def stop_nodes(self, step: StopNodes) -> None:
        self.done.append(str(step))

    async def restart(self, step: Restart, seen: Observation) -> None:
        self.done.append(str(step))
        node = self.nodes[step.name]
        assert step.uid == node.uid
        self.nodes[step.name] = replace(node, current=True, uid=f"{node.uid}, made anew")

    async def discard(self, step: Discard) -> None:
        self.done.append(str(step))


class Talkers(Members):
    """Members of a place: all that run answer, the first leads unless told otherwise; refusals are given."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.leader = "kv-0"
        self.refusal: Hold | None = None
        self.own_words: dict[str, OwnWord] = {}
        self.asked: dict[str, str] = {}

    async def ask(self, running: Mapping[str, Address], addresses: Mapping[str, Address]) -> Asked:
        self.asked = {name: address.client_url for name, address in running.items()}
        ids = {name: 0x100 + int(name[-1]) for name in running}
        answered = {
            name: Answer(member_id, CLUSTER_ID, 0x100 + int(self.leader[-1]), 2, 10, 10, 5, 1, "3.5.30")
            for name, member_id in ids.items()
        }
        entries = tuple(
            Entry(member_id, name, (ADDRESSES[name].peer_url,), started=True) for name, member_id in ids.items()
        )
        return Asked(answered, entries or None, self.own_words)

    async def perform(self, step: Step, seen: Observation) -> Hold | None:
        self.place.done.append(str(step))
        return self.refusal


def cluster(replicas: int, *, paused: bool = False) -> KVCluster:
    return parse(
        {
            "apiVersion": "kvorum.dev/v1alpha1",
            "kind": "KVCluster",
            "metadata": {"name": "kv"},
            "spec": {"replicas": replicas, "paused": paused},
        }
    )


class Stage:
    def __init__(self) -> None:
        self.place = Place()
        self.members = Talkers(self.place)
        self.reconciler = Reconciler(self.place, self.members)

    def run_pass(self, wanted: KVCluster, held: Hold | None = None) -> Outcome:
        self.place.done.clear()
        return asyncio.run(self.reconciler.run_pass(wanted, 1, held))

    def settle(self, wanted: KVCluster) -> Outcome:
        for _ in range(20):
            outcome = self.run_pass(wanted)
            if not outcome.acted:
                return outcome
        raise AssertionError("not settled after 20 passes")


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_cluster_begins_in_steps_one_a_pass(stage: Stage) -> None:
    assert stage.run_pass(cluster(3)).acted
    assert stage.place.done == ["objects", "Bootstrap kv-0 kv-1 kv-2"]
    assert stage.run_pass(cluster(3)).acted
    assert stage.place.done == ["objects", "StartNodes kv-0 kv-1 kv-2"]
    outcome = stage.run_pass(cluster(3))
    assert outcome.ready
    assert stage.place.done == ["objects"]
    assert outcome.status.cluster_id == "c1"


def test_own_words_of_members_reach_the_status(stage: Stage) -> None:
    stage.members.own_words["kv-0"] = OwnWord("0.1.0", "leader")
    assert [one.version for one in stage.settle(cluster(2)).status.members] == ["0.1.0", "3.5.30"]


def test_held_and_paused_clusters_are_seen_and_not_touched(stage: Stage) -> None:
    stage.settle(cluster(3))
    outcome = stage.run_pass(cluster(5), Hold(Reason.SPEC_MISSING, "the file is gone", "the file"))
    assert stage.place.done == []
    assert [one.reason for one in outcome.status.conditions if one.type == "Stalled"] == ["SpecMissing"]
    assert not stage.run_pass(cluster(5, paused=True)).acted
    assert stage.place.done == []


def test_cluster_whose_record_is_damaged_is_seen_and_not_touched(stage: Stage) -> None:
    stage.place.record_damage = "bootstrap.json is damaged"
    outcome = stage.run_pass(cluster(3))
    assert stage.place.done == []
    assert isinstance(outcome.decision, Hold)
    assert outcome.decision.reason is Reason.RECORD_DAMAGED


def test_cluster_that_slept_by_its_last_status_is_waking_and_one_that_served_has_lost_its_quorum(stage: Stage) -> None:
    stage.settle(cluster(3))
    stage.place.nodes.clear()
    assert stage.run_pass(cluster(3)).diagnosis.reason is Reason.QUORUM_LOST
    stage.settle(cluster(3))
    stage.place.nodes.clear()
    assert stage.run_pass(cluster(0)).diagnosis.reason is Reason.ASLEEP
    assert stage.run_pass(cluster(3)).diagnosis.reason is Reason.WAKING


def test_refused_step_is_a_hold_and_not_done(stage: Stage) -> None:
    stage.settle(cluster(1))
    stage.members.refusal = Hold(Reason.CLUSTER_UNSETTLED, "not now", "5s")
    outcome = stage.run_pass(cluster(2))
    assert isinstance(outcome.decision, AddLearner)
    assert outcome.refused is stage.members.refusal
    assert not outcome.acted
    assert outcome.status.plan is not None
    assert outcome.status.plan.waits_for == "5s"


def test_step_that_the_platform_cannot_do_is_a_hold(stage: Stage) -> None:
    stage.run_pass(cluster(1))
    stage.place.failing = "no such program"
    outcome = stage.run_pass(cluster(1))
    assert outcome.refused is not None
    assert outcome.refused.reason is Reason.NODE_BLOCKED
    assert "no such program" in outcome.refused.because


def test_step_waits_for_objects_that_are_refused(stage: Stage) -> None:
    stage.place.object_refusal = "StatefulSet kv: spec.template: denied by a webhook"
    outcome = stage.run_pass(cluster(1))
    assert stage.place.done == []
    assert {one.type: one.reason for one in outcome.status.conditions}["Stalled"] == Reason.OBJECT_REFUSED
    stage.place.object_refusal = ""
    assert stage.run_pass(cluster(1)).acted


def test_object_that_no_step_needs_stops_none_and_is_told_once_all_else_is_well(stage: Stage) -> None:
    stage.place.object_refusal, stage.place.object_needed = "PodMonitor kv: there is no such kind", False
    outcomes = [stage.run_pass(cluster(1)) for _ in range(3)]
    assert [outcome.acted for outcome in outcomes] == [True, True, False]
    assert [outcome.refused for outcome in outcomes[:2]] == [None, None]
    assert outcomes[2].refused is not None
    assert outcomes[2].refused.reason is Reason.OBJECT_REFUSED


def test_new_specification_restarts_followers_and_then_the_leader_that_has_handed_over(stage: Stage) -> None:
    stage.settle(cluster(3))
    stage.place.nodes = {name: replace(node, current=False, uid=name) for name, node in stage.place.nodes.items()}
    taken = []
    for _ in range(12):
        outcome = stage.run_pass(cluster(3))
        if outcome.acted:
            taken.append(str(outcome.decision))
        if isinstance(outcome.decision, HandOver):
            stage.members.leader = outcome.decision.to_name
    assert taken == ["Restart kv-2", "Restart kv-1", "HandOver kv-0 to kv-1", "Restart kv-0"]
    assert outcome.ready


def test_nothing_is_written_once_another_operator_may_act(stage: Stage) -> None:
    """The fence is asked right before each write: this one holds for the objects, and no more for the step."""
    asked = 0

    def fence() -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise Fenced

    stage.reconciler.fence = fence
    with pytest.raises(Fenced):
        stage.run_pass(cluster(3))
    assert stage.place.done == ["objects"]
    assert stage.reconciler.status == Status(), "what was not done is not said"
    with pytest.raises(Fenced):
        stage.run_pass(cluster(3))
    assert stage.place.done == []


def test_members_are_asked_where_their_nodes_are(stage: Stage) -> None:
    stage.settle(cluster(2))
    stage.place.nodes["kv-1"] = replace(stage.place.nodes["kv-1"], client_url="http://10.0.0.7:2379")
    stage.run_pass(cluster(2))
    assert stage.members.asked == {"kv-0": "http://kv-0:2379", "kv-1": "http://10.0.0.7:2379"}


def test_pass_tells_what_it_did_and_the_next_one_nothing_new(stage: Stage) -> None:
    assert [event.reason for event in stage.run_pass(cluster(1)).events] == ["Bootstrap"]
    stage.settle(cluster(1))
    assert stage.run_pass(cluster(1)).events == ()


def test_hand_over_is_tried_three_times_two_election_timeouts_apart_then_the_leader_goes(stage: Stage) -> None:
    stage.settle(cluster(2))
    stage.members.leader = "kv-1"
    taken = []
    for _ in range(20):
        outcome = stage.run_pass(cluster(1))
        if isinstance(outcome.decision, Step):
            taken.append((type(outcome.decision).__name__, round(stage.place.now_s - 1_000_000.0, 1)))
            if not isinstance(outcome.decision, HandOver):
                break
        stage.place.now_s += 0.5
    assert taken == [("HandOver", 0.0), ("HandOver", 2.0), ("HandOver", 4.0), ("RemoveMember", 4.5)]


def test_tries_begin_anew_with_another_leader_and_outlast_a_moment_without_one(stage: Stage) -> None:
    stage.settle(cluster(3))
    stage.members.leader = "kv-2"
    stage.run_pass(cluster(2))
    tries = dict(asyncio.run(stage.reconciler.observe(cluster(2))).hand_overs)
    assert tries[0x102].tries_count == 1
    nodes, stage.place.nodes = stage.place.nodes, {}
    asyncio.run(stage.reconciler.observe(cluster(2)))
    stage.place.nodes = nodes
    assert asyncio.run(stage.reconciler.observe(cluster(2))).hand_overs == tries
    stage.members.leader = "kv-0"
    assert asyncio.run(stage.reconciler.observe(cluster(2))).hand_overs == {}


def test_latch_and_deadlines_come_back_from_the_status_of_another_operator(stage: Stage) -> None:
    outcome = stage.settle(cluster(1))
    joining = outcome.status.members[0].model_copy(update={"state": "Joining", "id": "abc"})
    before = outcome.status.model_copy(update={"members": (joining,)})
    next_one = Reconciler(stage.place, stage.members, before)
    stage.place.nodes.clear()
    stage.place.volumes = {name: replace(one, cluster_id=None) for name, one in stage.place.volumes.items()}
    seen = asyncio.run(next_one.observe(cluster(1)))
    assert seen.cluster_id == CLUSTER_ID
    assert seen.joining_since_s == {0xABC: 1_000_000.0}
    assert Reconciler(stage.place, stage.members).status == Status()
