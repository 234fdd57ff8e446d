"""The planner against a world of members, nodes and volumes that fail: seeds, and numbers checked against the truth.

The planner sees observations with holes: answers and member lists go missing, the operator is killed before or after a
step and forgets, status and data get lost, somebody edits replicas, engine and settings. What it does is done to the
truth, and the invariants are checked there, by code that shares nothing with the guard. After the faults stop the
cluster must become what the specification wants.

Half of the worlds are machines, where a node runs once it is started and its settings are of its start. The others keep
nodes, as a StatefulSet does its pods: who ends is started again by the world, from the specification that its node was
made from, and only a node that is deleted is made anew; images that are not there and machines that are full hold nodes
up.
"""

import random
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import Engine, Spec, Status
from kvorum_operator.cluster import status as statuses
from kvorum_operator.cluster.diagnosis import Health, diagnose
from kvorum_operator.cluster.observation import (
    LAG_ENTRIES_MAX,
    LEARNER_DEADLINE_S,
    WAKING_S_MAX,
    Address,
    Answer,
    Entry,
    HandOvers,
    HeldUp,
    Node,
    Observation,
    OwnWord,
    Record,
    Volume,
)
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
from kvorum_operator.objects import labels
from kvorum_operator.objects.member_file import FileState, file_state

SEEDS = range(300)
SEEDS_COUNTED = range(40)
SEEDS_WIPED = range(1_000, 1_100)  # in which so much gets lost that no quorum may be left
PASSES = 150
PASSES_TO_SETTLE = 250
CLUSTER_ID = 0xC1
NAMES = [f"kv-{k}" for k in range(9)]
TRIES_MAX = 3


@dataclass(slots=True)
class Member:
    id: int
    name: str
    learner: bool = True
    started: bool = False


@dataclass(slots=True)
class Disk:
    """A volume. member: whose data is on it; None while nothing was written, or after it was lost."""

    engine: Engine
    member_label: int | None
    cluster_label: int | None
    member: int | None = None


@dataclass
class World:
    random: random.Random
    keeps_nodes: bool = False  # as a StatefulSet does; else a node that ended is started by the operator or by nobody
    kept: set[str] = field(default_factory=set)
    held: dict[str, Reason] = field(default_factory=dict)  # nodes that the world itself is about to run, or cannot
    held_since: dict[str, float] = field(default_factory=dict)
    full: bool = False  # there is no room for nodes that are made now
    edition: int = 1  # of the specification of nodes
    broken: set[int] = field(default_factory=set)  # editions that nothing can run with
    made: dict[str, int] = field(default_factory=dict)  # from which edition each node is
    uids: Counter[str] = field(default_factory=Counter)  # how often each node was made
    stopping: set[str] = field(default_factory=set)
    ready: set[str] = field(default_factory=set)  # nodes that were seen to serve, from beside them, a moment ago
    taken_down: set[int] = field(default_factory=set)  # voters that served until they were restarted, and are not back
    replicas: int = 3
    engine: Engine = Engine.KVORUM
    engine_blocked: bool = False  # there is no program of it
    wipes_all: bool = False  # whether more may get lost than a quorum can do without
    wiped_count: int = 0
    ghosts: dict[str, int] = field(default_factory=dict)  # nodes on deleted files, and the member that they serve as
    refused: set[str] = field(default_factory=set)  # nodes that ended for want of data
    saying: set[str] = field(default_factory=set)  # nodes that stay up for want of data, and say so
    named_before: frozenset[str] = frozenset()
    replaced: Counter[str] = field(default_factory=Counter)  # wanted members that were removed, by why
    now_s: float = 1_000_000.0
    members: dict[int, Member] = field(default_factory=dict)
    running: dict[str, float] = field(default_factory=dict)  # when each node started
    booted: set[str] = field(default_factory=set)  # nodes that have read their file and opened their data
    files: dict[str, FileState] = field(default_factory=dict)
    hung: set[str] = field(default_factory=set)
    disks: dict[str, Disk] = field(default_factory=dict)
    applied: dict[int, int] = field(default_factory=dict)
    head: int = 100
    leader: int = 0
    term: int = 1
    record: Record | None = None
    latch: int | None = None
    removed: set[int] = field(default_factory=set)
    hand_overs: dict[int, HandOvers] = field(default_factory=dict)  # what the operator remembers
    tries: Counter[int] = field(default_factory=Counter)  # what was really asked since another one was seen to lead
    joining_since: dict[int, float] = field(default_factory=dict)
    steps: Counter[str] = field(default_factory=Counter)
    last_id: int = 0x100

    # The truth.

    def serves(self, member: Member) -> bool:
        """Its node runs on its own data and answers."""
        name, disk = member.name, self.disks.get(member.name)
        holder = self.ghosts.get(name, disk.member if disk is not None else None)
        return name in self.booted and name not in self.hung and holder == member.id

    def has_data(self, member: Member) -> bool:
        """It has a volume with its own data: it can be started again."""
        disk = self.disks.get(member.name)
        return disk is not None and disk.member == member.id

    def is_near(self, member: Member) -> bool:
        return self.applied.get(member.id, 0) >= self.head - LAG_ENTRIES_MAX

    def voters(self) -> list[Member]:
        return [one for one in self.members.values() if not one.learner]

    def voters_serving(self) -> list[Member]:
        return [one for one in self.voters() if self.serves(one)]

    def has_quorum(self) -> bool:
        return len(self.voters_serving()) > len(self.voters()) // 2

    def named(self, name: str) -> Member | None:
        return next((one for one in self.members.values() if one.name == name), None)

    def tick(self, *, calm: bool = False) -> None:
        """Time goes by: nodes start up, followers catch up, a leader is elected."""
        self.now_s += self.random.choice((0.3, 0.3, 1.0, 5.0))
        self.ready = {one.name for one in self.members.values() if self.serves(one) and self.leader}
        for name in sorted(self.stopping):
            if self.random.random() < 0.5:
                self.stop(name, gone=True)
        for name in sorted(self.held):
            self.try_to_run(name)
        for name in sorted(self.running):
            if name not in self.booted | self.saying and self.random.random() < 0.5:
                self.boot(name)
        for member in self.members.values():
            if self.serves(member) and self.has_quorum():
                member.started = True
        if not self.has_quorum():
            self.leader = 0
            return
        if self.leader not in {one.id for one in self.voters_serving()}:
            able = [one for one in self.voters_serving() if self.applied.get(one.id, 0) >= self.head - LAG_ENTRIES_MAX]
            self.elect(self.random.choice(able or self.voters_serving()).id)
        self.head += self.random.choice((0, 10, 3_000))
        self.applied[self.leader] = self.head
        for member in self.members.values():
            if self.serves(member) and (calm or self.random.random() < 0.7):
                self.applied[member.id] = self.head
        self.taken_down &= {one.id for one in self.voters() if not (self.serves(one) and self.is_near(one))} | {
            one.id for one in self.voters() if one.name in self.stopping
        }

    def try_to_run(self, name: str) -> None:
        """The world's own attempt at a node that it keeps."""
        if self.made[name] in self.broken:
            self.hold(name, Reason.IMAGE_UNAVAILABLE)
        elif self.full:
            self.hold(name, Reason.POD_UNSCHEDULABLE)
        elif name in self.disks and self.random.random() < 0.5:
            del self.held[name]
            self.running[name] = self.now_s
        else:
            self.hold(name, Reason.WAKING)

    def boot(self, name: str) -> None:
        """A node has loaded and reads its file, as it is by now: without data it needs to find itself in there."""
        member, disk = self.named(name), self.disks.get(name)
        if disk is None:
            self.stop(name)
            return
        if disk.member is None:
            if self.files[name] is FileState.SEALED or member is None:
                if disk.engine is Engine.KVORUM and self.random.random() < 0.5:
                    self.saying.add(name)
                else:
                    self.stop(name)
                    self.refused.add(name)
                return
            assert not member.started, f"I7: {name} came back without its votes"
            disk.member = member.id
        self.booted.add(name)

    def hold(self, name: str, reason: Reason) -> None:
        if name not in self.held:
            self.held_since[name] = self.now_s
        self.held[name] = reason

    def make(self, name: str) -> None:
        self.made[name] = self.edition
        self.uids[name] += 1

    def stop(self, name: str, *, gone: bool = False) -> None:
        """Its node ends; gone: and is no more."""
        self.running.pop(name, None)
        self.stopping.discard(name)
        self.refused.discard(name)
        if self.keeps_nodes and name in self.kept:
            if gone or name not in self.made:
                self.make(name)
            self.hold(name, Reason.WAKING)
        self.booted.discard(name)
        self.hung.discard(name)
        self.ghosts.pop(name, None)
        self.saying.discard(name)

    def elect(self, member_id: int) -> None:
        self.leader = member_id
        self.term += 1

    def fault(self) -> None:
        """Something goes wrong, or somebody edits the specification."""
        roll = self.random.random()
        if roll < 0.12 and self.running:
            self.stop(self.random.choice(sorted(self.running)))
        elif roll < 0.14:
            for name in sorted(self.running):
                self.stop(name)
        elif roll < 0.20 and self.running:
            self.hung.add(self.random.choice(sorted(self.running)))
        elif roll < 0.35:
            self.hung.clear()
        elif roll < 0.45:
            self.replicas = self.random.choice((0, 1, 2, 3, 3, 4, 5, 7))
        elif roll < 0.50:
            self.hand_overs.clear()  # the operator was killed: what it remembered is gone
            self.joining_since.clear()
        elif roll < 0.52 and any(disk.cluster_label for disk in self.disks.values()):
            self.latch, self.named_before = None, frozenset()  # the status was lost; volumes still name the cluster
        elif roll < 0.53:
            self.now_s += 400.0
        elif roll < 0.58:
            self.wipe()
        elif roll < 0.68 and self.keeps_nodes:
            self.disturb_nodes()
        elif roll < 0.64:
            self.engine = Engine.ETCD if self.engine is Engine.KVORUM else Engine.KVORUM
        elif roll < 0.68:
            self.engine_blocked = not self.engine_blocked
        elif roll < 0.74:
            self.edit()

    def edit(self) -> None:
        self.edition += 1
        if self.keeps_nodes and self.random.random() < 0.4:
            self.broken.add(self.edition)

    def disturb_nodes(self) -> None:
        """A machine is drained, or none has room any more."""
        if self.running and self.random.random() < 0.5:
            self.stopping.add(self.random.choice(sorted(self.running)))
        else:
            self.full = not self.full

    def wipe(self) -> None:
        """A member's data goes, with its node or beneath it; with its volume, or without its labels' going too."""
        able = sorted(name for name, disk in self.disks.items() if disk.member is not None and disk.member_label)
        if not able:
            return
        name = self.random.choice(able)
        left = [one for one in self.voters() if one.name != name and self.has_data(one)]
        if not self.wipes_all and len(left) <= len(self.voters()) // 2:
            return
        self.wiped_count += 1
        kind = self.random.choice(("data", "volume", "beneath"))
        if not any(one.cluster_label for other, one in self.disks.items() if other != name):
            kind = "data"  # with the last label, and the status, nothing tells that the cluster ever began
        member_id = self.disks[name].member
        if kind == "beneath" and name in self.booted and member_id is not None:
            self.ghosts[name] = member_id
        else:
            self.stop(name, gone=kind == "volume")
        if kind == "data":
            self.disks[name].member = None
        else:
            del self.disks[name]

    # What the operator sees, and does.

    def observe(self, *, calm: bool) -> Observation:
        def hidden(chance: float) -> bool:
            return not calm and self.random.random() < chance

        answered = {}
        for member in self.members.values():
            if self.serves(member) and not hidden(0.1):
                answered[member.name] = Answer(
                    member_id=member.id,
                    cluster_id=CLUSTER_ID,
                    leader=self.leader,
                    term=self.term,
                    raft_index=self.applied.get(member.id, 0),
                    applied_index=self.applied.get(member.id, 0),
                    revision=1,
                    database_bytes=1,
                    version="3.5.30",
                    is_learner=member.learner,
                )
        entries = None
        if self.leader and any(answer.leader for answer in answered.values()) and not hidden(0.1):
            entries = tuple(
                Entry(one.id, one.name, (f"http://{one.name}:2380",), one.started, one.learner)
                for one in self.members.values()
            )
            self.named_before = frozenset(one.name for one in self.members.values() if one.started)
            for one in entries:
                if not one.started:
                    self.joining_since.setdefault(one.id, self.now_s)
        if self.leader:
            self.hand_overs = {one: tries for one, tries in self.hand_overs.items() if one == self.leader}
            self.tries = Counter({one: count for one, count in self.tries.items() if one == self.leader})
        return Observation(
            now_s=self.now_s,
            addresses={name: Address(name, f"http://{name}:2379", f"http://{name}:2380") for name in NAMES},
            nodes={name: self.node(name) for name in self.disks.keys() | self.running.keys() | self.held.keys()},
            volumes={
                name: Volume(name, True, disk.cluster_label, disk.member_label, disk.engine)
                for name, disk in self.disks.items()
            },
            blocked={name: "no program" for name in NAMES if name not in self.running and self.is_blocked(name)},
            engine_blocked="no program" if self.engine_blocked else "",
            names_before=self.named_before,
            own_words={name: OwnWord("0.1.0", "data-lost") for name in self.saying if not hidden(0.1)},
            record=self.record,
            latched_cluster_id=self.latch,
            entries=entries,
            answered=answered,
            hand_overs=dict(self.hand_overs),
            joining_since_s=dict(self.joining_since),
        )

    def node(self, name: str) -> Node:
        running = name in self.running
        current = self.made.get(name) == self.edition
        return Node(
            name,
            running,
            self.running.get(name, self.held_since.get(name, 0.0)),
            current=current if self.keeps_nodes and name in self.made else current or not running,
            found_no_data=name in self.refused and not running,
            held_up=HeldUp(self.held[name], "as the world says") if name in self.held else None,
            stopping=name in self.stopping,
            ready=name in self.ready if self.keeps_nodes else None,
            uid=str(self.uids[name]),
        )

    def is_blocked(self, name: str) -> bool:
        """Only the wanted engine can be without a program here."""
        disk = self.disks.get(name)
        return self.engine_blocked and (disk is None or disk.engine is self.engine)

    def put_objects(self, seen: Observation) -> None:
        """Files and labels, as a platform does in every pass."""
        if seen.cluster_id is None and seen.record is not None:
            names = set(seen.record.members)
        elif seen.entries is not None:
            names = {entry.name for entry in seen.entries if entry.name is not None}
        else:
            names = set(seen.volumes)
        if seen.cluster_id is not None:
            names |= self.kept
        self.files.update({name: file_state(name, seen) for name in names})
        for name, wanted in labels.missing(seen).items():
            self.disks[name].member_label, self.disks[name].cluster_label = wanted.member_id, wanted.cluster_id
        self.latch = seen.cluster_id

    def do(self, step: Step, seen: Observation) -> None:
        self.steps[type(step).__name__] += 1
        match step:
            case Bootstrap():
                assert self.record is None, "I4: bootstrapped twice"
                self.record = Record("token", step.members)
                for name in step.members:
                    self.last_id += 1
                    self.members[self.last_id] = Member(self.last_id, name, learner=False)
            case StartNodes():
                assert self.replicas > 0, "I5: started while it is to sleep"
                for name in step.names:
                    self.start(name)
            case StopNodes():
                assert self.replicas == 0, "I2: stopped together while it is not to sleep"
                for name in step.names:
                    self.kept.discard(name)
                    self.stop(name)
                self.kept.clear()
                self.held.clear()
            case Restart():
                self.restart(step)
            case AddLearner():
                self.add(step)
            case PromoteMember():
                self.promote(step)
            case RemoveMember():
                self.remove(step)
            case HandOver():
                assert step.leader == self.leader, "I3: somebody else was asked to hand over"
                self.hand_overs[step.leader] = HandOvers(
                    self.hand_overs.get(step.leader, HandOvers()).tries_count + 1, self.now_s
                )
                self.tries[step.leader] += 1
                target = self.members[step.to]
                if self.serves(target) and self.random.random() < 0.6:
                    self.elect(step.to)
            case Discard():
                self.discard(step)

    def start(self, name: str) -> None:
        assert name not in self.running, f"{name} runs already"
        assert name not in self.held or name not in self.disks, f"{name} is about to run by itself"
        member, disk = self.named(name), self.disks.get(name)
        if disk is None:
            assert member is not None, f"I5: {name} is no member and got a volume"
            assert not member.started, f"I7: {name} has voted and got an empty volume"
            label = member.id if self.latch is not None else None
            disk = self.disks[name] = Disk(self.engine, label, self.latch)
        assert not self.is_blocked(name), f"{name} started without a program"
        if disk.member in self.removed:
            # Only where the leader is silent too: then nobody knows, and the others turn it away.
            leader = self.members.get(self.leader)
            assert leader is None or leader.name not in self.seen_answers, (
                f"I6: {name} started on the data of a removed member"
            )
        self.refused.discard(name)
        if self.keeps_nodes:
            self.kept.add(name)
            if name not in self.held:
                self.make(name)
            self.hold(name, Reason.WAKING)
        else:
            self.make(name)
            self.running[name] = self.now_s

    def restart(self, step: Restart) -> None:
        name, member = step.name, self.named(step.name)
        assert self.replicas > 0, "I2: restarted while it is to sleep"
        assert name in self.running or name in self.held, f"{name} has no node to restart"
        if self.made[name] == self.edition:
            assert name in self.saying, f"{name} is made from today's specification"
            assert member is not None, f"{name} is no member"
            assert not member.started, f"I7: {name} has voted and would get an open file"
        assert step.uid == str(self.uids[name]), "another node was meant"
        assert name not in self.stopping, f"{name} was told to end before"
        failed = {one for one, why in self.held.items() if why is Reason.IMAGE_UNAVAILABLE}
        hopeless = name in self.saying or name in failed
        assert hopeless or not any(self.made[one] == self.edition for one in failed), "what fails is spread"
        # What served neither now nor a moment ago nobody relies on.
        if member is not None and not member.learner and self.serves(member) and name in self.ready:
            self.take_down(member)
            self.replaced["rolled"] += 1
        else:
            self.replaced["rolled at once"] += 1
        if self.keeps_nodes and name in self.running:
            self.stopping.add(name)
        else:
            self.stop(name, gone=True)

    def take_down(self, member: Member) -> None:
        """A voter that serves, for a moment."""
        if member.name in self.seen_answers:
            self.one_at_a_time()
        assert not self.taken_down, f"I2: {self.taken_down} is not back"
        self.taken_down.add(member.id)
        near = [one for one in self.voters_serving() if one is not member and self.is_near(one)]
        near = [one for one in near if one.name not in self.stopping]
        if len(self.voters()) >= 3:
            assert len(near) > len(self.voters()) // 2, "I2: no quorum that has caught up stays"
        else:
            assert len(near) == len(self.voters()) - 1, "I2: of so few all must be well"
        self.hands_over_first(member)

    def one_at_a_time(self, but: int | None = None) -> None:
        pending = [one.name for one in self.members.values() if (one.learner or not one.started) and one.id != but]
        assert not pending, f"I1: a second change while {pending} has not finished joining"

    def add(self, step: AddLearner) -> None:
        self.one_at_a_time()
        assert self.named(step.name) is None, f"I5: {step.name} is a member"
        assert step.name not in self.disks, f"I6: {step.name} would join on a leftover volume"
        assert self.has_quorum()
        self.last_id += 1
        self.members[self.last_id] = Member(self.last_id, step.name)

    def promote(self, step: PromoteMember) -> None:
        self.one_at_a_time(but=step.member_id)
        member = self.members[step.member_id]
        assert member.learner
        assert member.started
        if self.applied.get(member.id, 0) * 10 < self.head * 9:
            return  # the members refuse
        member.learner = False
        assert self.has_quorum(), "I1: the promotion left no quorum of serving voters"

    def remove(self, step: RemoveMember) -> None:
        self.one_at_a_time(but=step.member_id)
        member = self.members[step.member_id]
        assert member.name == step.name, "I9: another member has that id"
        if NAMES.index(member.name) < self.replicas:
            self.replace(member)
        if not member.learner:
            self.hands_over_first(member)
        served = self.serves(member)
        del self.members[step.member_id]
        self.removed.add(member.id)
        if not member.learner:
            assert self.voters(), "I1: the last voter was removed"
            assert self.has_quorum(), "I1: the removal left no quorum of serving voters"
            if served:
                near = [one for one in self.voters_serving() if self.is_near(one)]
                assert len(near) > len(self.voters()) // 2, "I2: the voters that stay had not caught up"
        if member.id == self.leader:
            self.leader = 0

    def hands_over_first(self, member: Member) -> None:
        if member.id != self.leader:
            return
        able = [
            one
            for one in self.voters_serving()
            if one.id != member.id and self.applied.get(one.id, 0) >= self.head - LAG_ENTRIES_MAX // 2
        ]
        fresh = all(one.name in self.seen_answers for one in able)
        assert not able or not fresh or self.tries[member.id] >= TRIES_MAX, "I3: a leader went without handing over"

    def replace(self, member: Member) -> None:
        """A wanted member goes: it must be lost, or of the wrong engine."""
        disk = self.disks.get(member.name)
        if (member.started and not self.has_data(member)) or member.name in self.saying:
            self.replaced["lost"] += 1
        elif member.learner and not member.started and self.now_s >= self.joining_since[member.id] + LEARNER_DEADLINE_S:
            self.replaced["late"] += 1
        elif disk is not None and disk.engine is not self.engine:
            assert not self.engine_blocked, f"I6: {member.name} cannot come back"
            self.replaced["withdrawn" if member.learner else "moved"] += 1
            others = [one for one in self.voters() if one is not member]
            if not member.learner:
                assert len(others) >= 2, "I2: no two disks would hold the data"
                assert all(self.serves(one) and self.is_near(one) for one in others), "I2: somebody is not well"
                names = {one.name for one in self.voters()}
                assert names >= set(NAMES[: self.replicas]), "I2: who moved before is not back"
        else:
            raise AssertionError(f"I8: {member.name} is wanted and well")

    seen_answers: set[str] = field(default_factory=set)

    def discard(self, step: Discard) -> None:
        disk, member = self.disks.get(step.name), self.named(step.name)
        if disk is not None:
            assert disk.member not in self.members, f"I8: the data of the member {step.name} was deleted"
        assert member is None or not member.started, f"I8: the node of the member {step.name} was taken away"
        self.disks.pop(step.name, None)
        if NAMES.index(step.name) >= self.replicas:
            self.kept.discard(step.name)
            self.held.pop(step.name, None)
        self.stop(step.name, gone=True)

    def run_pass(self, *, calm: bool = False) -> Step | Hold | None:
        seen = self.observe(calm=calm)
        self.seen_answers = set(seen.answered)
        self.put_objects(seen)
        decision = plan(Spec(replicas=self.replicas, engine=self.engine), seen)
        if isinstance(decision, Step) and (calm or self.random.random() < 0.9):  # else killed just before
            self.do(decision, seen)
        return decision


def run_world(seed: int) -> World:
    """Faults for some time, then none, until the planner has nothing left to do."""
    world = World(random.Random(seed), replicas=random.Random(seed).choice((1, 3, 5)), keeps_nodes=seed % 2 == 1)
    for _ in range(PASSES):
        world.tick()
        world.fault()
        world.run_pass()
    world.hung.clear()
    world.engine_blocked = world.full = False
    if world.edition in world.broken:
        world.edition += 1
    world.replicas = world.replicas or 3
    if any(disk.engine is not world.engine for disk in world.disks.values()):
        world.replicas = max(3, world.replicas)  # with fewer none can change its engine
    decision: Step | Hold | None = None
    for _ in range(PASSES_TO_SETTLE):
        world.tick(calm=True)
        decision = world.run_pass(calm=True)
        if decision is None:
            break
    assert decision is None, f"seed {seed}: not settled: {decision}"
    return world


@pytest.mark.parametrize("seed", SEEDS)
def test_cluster_keeps_its_invariants_under_faults_and_then_becomes_what_is_wanted(seed: int) -> None:
    world = run_world(seed)
    assert {one.name for one in world.voters_serving()} == set(NAMES[: world.replicas])
    assert not [one for one in world.members.values() if one.learner]
    assert set(world.disks) == set(NAMES[: world.replicas]), "leftovers"
    assert {disk.engine for disk in world.disks.values()} == {world.engine}
    assert {world.made[name] for name in world.disks} == {world.edition}


def run_wiped_world(seed: int) -> World:
    """Faults that lose more data than a quorum can do without. Such a cluster may never become what is wanted."""
    world = World(random.Random(seed), wipes_all=True, keeps_nodes=seed % 2 == 1)
    for _ in range(PASSES):
        world.tick()
        world.fault()
        world.run_pass()
    return world


@pytest.mark.parametrize("seed", SEEDS_WIPED)
def test_voter_that_lost_its_data_never_comes_back_without_its_votes(seed: int) -> None:
    run_wiped_world(seed)


@pytest.mark.parametrize("seed", SEEDS_COUNTED)
def test_cluster_that_sleeps_and_wakes_is_not_said_to_have_lost_its_quorum(seed: int) -> None:
    """Nor to be degraded, before its members have had the time that a start takes."""
    world = run_world(seed)
    wanted, status, reasons = world.replicas, Status(), Counter[str]()
    for replicas in (0, wanted):
        world.replicas, edited_s = replicas, world.now_s
        for _ in range(PASSES_TO_SETTLE):
            world.tick(calm=True)
            seen = replace(world.observe(calm=True), woken=statuses.served_nobody(status))
            spec = Spec(replicas=replicas, engine=world.engine)
            decision, diagnosis = world.run_pass(calm=True), diagnose(spec, seen)
            status = statuses.compose("kv", spec, seen, diagnosis, decision, status, generation=1)
            reasons[diagnosis.reason] += 1
            if world.now_s < edited_s + WAKING_S_MAX:
                assert diagnosis.health is not Health.NO_QUORUM, diagnosis
            if decision is None or (isinstance(decision, Hold) and decision.reason is Reason.ASLEEP):
                break
    assert diagnosis.health is Health.HEALTHY
    assert reasons[Reason.ASLEEP]
    assert reasons[Reason.WAKING]


def test_faults_reach_every_kind_of_step() -> None:
    """So that the silence of the other seeds means something."""
    taken: Counter[str] = Counter()
    for seed in SEEDS_COUNTED:
        world = run_world(seed)
        taken.update(world.steps)
        taken.update(world.replaced)
    print(dict(taken))
    minima = {
        "Bootstrap": 40,
        "StartNodes": 500,
        "StopNodes": 30,
        "AddLearner": 150,
        "PromoteMember": 100,
        "RemoveMember": 150,
        "Discard": 150,
        "HandOver": 20,
        "moved": 15,
        "withdrawn": 5,
        "lost": 40,
        "Restart": 100,
        "rolled": 50,
        "rolled at once": 50,
    }
    assert {kind: taken[kind] for kind in minima if taken[kind] < minima[kind]} == {}
    assert sum(run_wiped_world(seed).wiped_count for seed in SEEDS_WIPED[:20]) >= 40
