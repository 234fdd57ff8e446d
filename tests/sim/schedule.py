"""Decides what happens next, as one seed says: a heap of actions in true time, in ticks.

Messages take a while, some are lost, doubled or late by ages; each member ticks at its own pace; disks take their time;
clients ask; and now and then something breaks. A step is a message, a tick, a client's operation or a fault; upkeep
(disk writes that end, tables that are committed) is not counted. The same seed gives the same run.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kvorum.raft.message import Message, MessageType

from tests.sim.clients import Clients
from tests.sim.inclination import inclination_of
from tests.sim.violation import NOT_WELL, Violation

if TYPE_CHECKING:
    from tests.sim.member import Member
    from tests.sim.world import Parts, World

Action = tuple[Any, ...]  # a name out of world.HAPPENINGS and its arguments

ELECTION_TICKS = 10
LINK_MESSAGES_MAX = 400  # under way at once, then the network drops: a group cut apart must not fill the memory
AUDIT_STEPS = 500  # between looks at whole logs
HEALING_TICKS_MAX = 600  # after the faults end, all must be well again within this
PROBE_TICKS = 20
FAVOURITE_SHARE = 0.5  # of faults, where a world has a favourite
JOINT_CHANGE_SHARE = 0.12  # at least, where joint configurations are tried


@dataclass(frozen=True, slots=True)
class Faults:
    """How bad this world is. Chances are per message or per event; times are in ticks."""

    loss: float
    duplicate: float
    delay_max: float  # of most messages
    is_orderly: bool  # most messages take as long as any other: links keep their order, as a connection does
    straggler: float  # chance of a delay up to 40 ticks: such a message comes from another age
    write_ticks_max: float  # how long a disk write takes
    dies_written: float  # chance that the power goes right after a sync
    fault_every: float  # mean time between crashes, cuts and pauses; 0 for none
    upkeep_every: float  # mean time between commits of the tables, and slices of compaction, of each member
    compaction: float  # chance at each upkeep that the log is compacted
    client_every: float  # mean time between client operations
    change_share: float  # of client operations that change the configuration
    transfer_share: float  # of client operations that move the leader
    pace_min: float  # slowest and fastest ticks of a member
    pace_max: float

    @classmethod
    def drawn(cls, rng: random.Random) -> "Faults":
        """Worlds differ: some lose many messages, some crash a lot, some only change their members."""
        pace_min, pace_max = rng.choice(((0.95, 1.05), (0.95, 1.05), (0.7, 1.4)))
        return cls(
            loss=rng.choice((0.0, 0.01, 0.03, 0.1)),
            duplicate=rng.choice((0.0, 0.02, 0.1)),
            delay_max=rng.choice((0.2, 0.6, 2.0)),
            is_orderly=rng.random() < 0.4,
            straggler=rng.choice((0.0, 0.01, 0.03)),
            write_ticks_max=rng.choice((0.0, 0.5, 2.0)),
            dies_written=rng.choice((0.0, 0.0, 0.01)),
            fault_every=rng.choice((4.0, 8.0, 25.0)),
            upkeep_every=rng.choice((1.0, 3.0, 10.0)),
            compaction=rng.choice((0.0, 0.1, 0.3)),
            client_every=rng.choice((0.2, 0.4, 1.0)),
            change_share=rng.choice((0.03, 0.06, 0.2)),
            transfer_share=rng.choice((0.01, 0.02, 0.1)),
            pace_min=pace_min,
            pace_max=pace_max,
        )


STEPS = frozenset(
    {
        "deliver",
        "tick",
        "request",
        "read",
        "keep alive",
        "checkpoint",
        "change",
        "joint",
        "transfer",
        "crash",
        "cut",
        "pause",
        "jump",
    }
)


class Schedule:
    """One run of a world."""

    def __init__(
        self,
        seed: int,
        parts: "Parts",
        make_world: "Callable[..., World]",
        *,
        recorded: list[tuple[float, Action]] | None = None,
    ) -> None:
        """recorded: where to note each action, with its time."""
        self.seed = seed
        self.rng = rng = random.Random(f"{seed}/schedule")
        self.inclination = inclination_of(seed)
        self.faults = replace(Faults.drawn(rng), **self.inclination.faults)
        self.steps = 0
        self.counts: Counter[str] = Counter()
        self._recorded = recorded
        self._events: list[tuple[float, int, str, Action]] = []
        self._sequence = 0
        self._under_way: Counter[tuple[int, int]] = Counter()
        self._paused_until: dict[int, float] = {}
        self._paces: dict[int, float] = {}
        self._known: set[int] = set()
        self._newest_term = 0
        self.world = make_world(seed, parts, self._post, self._write_begun)
        self.clients = Clients(self.world, rng)
        if self.clients.likes_joint:
            self.faults = replace(self.faults, change_share=max(self.faults.change_share, JOINT_CHANGE_SHARE))
        self._welcome()
        self._later(self.faults.client_every, "client")
        self._later(self.faults.fault_every, "fault")

    # -- time

    def at(self, delay: float, *action: Any) -> None:
        """An action, or one of OWN: what only the schedule knows how to make actions of."""
        self._sequence += 1
        heapq.heappush(self._events, (self._now + delay, self._sequence, action[0], action))

    @property
    def _now(self) -> float:
        world = getattr(self, "world", None)  # messages are sent while the world is being made
        return 0.0 if world is None else world.now

    def _later(self, mean: float, *action: Any) -> None:
        if mean > 0:
            self.at(self.rng.expovariate(1 / mean), *action)

    def run(self, steps: int) -> None:
        """Raises Violation, or what the product raises, at the first step after which something is wrong."""
        last, audit_at = self.steps + steps, self.steps + AUDIT_STEPS
        while self.steps < last:
            self._run_event()
            if self.steps >= audit_at:
                self.world.oracle.audit(self.world.members.values())
                audit_at += AUDIT_STEPS
        self.world.oracle.audit(self.world.members.values())

    def _run_event(self) -> None:
        now, _, name, action = heapq.heappop(self._events)
        self.world.now = now
        own = OWN.get(name)
        if own is not None:
            own(self, *action[1:])
        else:
            self.perform(*action)

    def perform(self, *action: Any) -> bool:
        """Now."""
        if self._recorded is not None:
            self._recorded.append((self.world.now, action))
        happened = self.world.perform(action)
        if happened:
            self.counts[action[0]] += 1
            self.steps += action[0] in STEPS
        if len(self.world.members) != len(self._known):
            self._welcome()
        if self.world.oracle.newest_term != self._newest_term:
            self._newest_term = self.world.oracle.newest_term
            self._rush()
        return happened

    def _welcome(self) -> None:
        """Clocks and upkeep of members that are new."""
        for number in self.world.members.keys() - self._known:
            self._known.add(number)
            self._paces[number] = self.rng.uniform(self.faults.pace_min, self.faults.pace_max)
            self.at(self.rng.random(), "clock", number)
            self._later(self.faults.upkeep_every, "upkeep", number)
            self.at(1.0, "publish", number)

    # -- the network and the disks

    def _post(self, message: Message) -> None:
        rng, faults = self.rng, self.faults
        copies = 2 if rng.random() < faults.duplicate else 1
        if rng.random() < faults.loss:
            copies = 0
            self.counts["messages lost"] += 1
            self._lost(message)
        self.counts["messages doubled"] += copies == 2
        for _ in range(copies):
            if rng.random() < faults.straggler:
                delay = rng.random() * 40.0
                self.counts["messages late"] += 1
            else:
                delay = faults.delay_max * (0.5 if faults.is_orderly else rng.random())
            self._under_way[message.sender, message.to] += 1
            self.at(delay, "arrive", message)

    def _arrive(self, message: Message) -> None:
        link = (message.sender, message.to)
        if self._paused_until.get(message.to, 0.0) > self.world.now:
            self.at(self._paused_until[message.to] - self.world.now, "arrive", message)
            return
        self._under_way[link] -= 1
        if self._under_way[link] > LINK_MESSAGES_MAX:
            self._lost(message)
            return
        if message.type is MessageType.SNAPSHOT and link not in self.world.cut:
            self._report(message.sender, message.to, True)
        if not self.perform("deliver", message):
            self._lost(message)

    def _lost(self, message: Message) -> None:
        """The transport notices some losses, and tells the sender."""
        if message.type is MessageType.SNAPSHOT:
            self.at(0.0, "report", message.sender, message.to, False)
        elif self.rng.random() < 0.3:
            self.at(0.0, "unreachable", message.sender, message.to)

    def _report(self, sender: int, to: int, arrived: bool) -> None:
        """A sender that is paused hears of it when it goes on."""
        if self._paused_until.get(sender, 0.0) > self.world.now:
            self.at(self._paused_until[sender] - self.world.now, "report", sender, to, arrived)
        else:
            self.perform("snapshot status", sender, to, arrived)

    def _write_begun(self, member: "Member") -> None:
        """Now and then the power goes when all is synced and nothing is sent yet; rather where that is a vote."""
        rng, takes = self.rng, self.rng.random() * self.faults.write_ticks_max
        dies = rng.random() < (self.inclination.dies_of_a_vote if member.is_writing_vote else self.faults.dies_written)
        self.at(takes, "written", member.id, rng.randrange(1, 1 << 30) if dies else 0)
        if dies:
            self.at(takes + rng.random() * rng.choice((0.5, 20.0)), "restart", member.id)

    # -- clocks and upkeep

    def _clock(self, number: int) -> None:
        self.at(self.rng.uniform(0.9, 1.1) / self._paces[number], "clock", number)
        self.perform("tick", number)

    def _upkeep(self, number: int) -> None:
        self._later(self.faults.upkeep_every, "upkeep", number)
        rng = self.rng
        self.perform("compact rows", number, rng.choice((1, 5, 50)))
        if rng.random() < self.faults.compaction:
            self.perform("compact log", number, rng.randrange(20))
        elif rng.random() < 0.5:
            self.perform("commit tables", number)

    def _publish(self, number: int) -> None:
        member = self.world.members[number]
        if member.is_retired:
            return
        self.perform("request", number, *self.clients.publish(number))

    def _client(self) -> None:
        self._later(self.faults.client_every, "client")
        dice = self.rng.random()
        members = self.clients.running()
        if not members:
            return
        if dice < self.faults.change_share:
            for action in self.clients.changes():
                self.perform(*action)
        elif dice < self.faults.change_share + self.faults.transfer_share:
            member = self.rng.choice(members)
            self.perform("transfer", member.id, self.rng.choice(sorted(member.members.all) or [member.id]))
        else:
            for action in self.clients.operations():
                self.perform(*action)

    def _farewell(self, number: int) -> None:
        """Stops a removed member, once those who stay know of it: two that remove one of them need both for that."""
        world = self.world
        members = world.oracle.newest_members
        if number in members.all or world.members[number].is_retired:
            return
        knowing = {
            voter
            for voter in members.voters & world.members.keys()
            if number in (known := world.members[voter].members).removed and number not in known.all
        }
        if members.has_majority(knowing):
            self.perform("retire", number)

    # -- faults

    def _fault(self) -> None:
        self._later(self.faults.fault_every, "fault")
        for number in self.world.members.keys() - self.world.oracle.newest_members.all:
            self._farewell(number)
        running = self.clients.running()
        if not running:
            return
        rng, leader = self.rng, self.clients.leader()
        if leader is None and rng.random() < 0.8:
            self._elect_without(None)  # nothing is as dull as a group that is kept from ever having a leader
            return
        victim = (leader if rng.random() < 0.5 else None) or rng.choice(running)
        favourite = FAVOURITES.get(self.inclination.fault)
        fault = favourite if favourite is not None and rng.random() < FAVOURITE_SHARE else rng.choice(FAULTS)
        fault(self, victim)

    def _crash(self, victim: "Member") -> None:
        self.perform("crash", victim.id, self.rng.randrange(1, 1 << 30), self.rng.random() < 0.3)
        self.at(self.rng.random() * self.rng.choice((1.0, 10.0, 30.0)), "restart", victim.id)

    def _crash_all(self, victim: "Member") -> None:
        """Power is lost in the whole house; once in a while."""
        if self.rng.random() < 0.3:
            for member in self.clients.running():
                self._crash(member)
        else:
            self._crash(victim)

    def _lasting(self) -> float:
        """How long a fault is there: some shorter than an election takes, a few much longer."""
        return self.rng.random() * self.rng.choice((5.0, 15.0, 15.0, 40.0))

    def _cut(self, kind: str, links: set[tuple[int, int]], ticks: float | None = None) -> None:
        self.counts[kind] += 1
        ordered = tuple(sorted(links))
        self.perform("cut", ordered)
        self.at(self._lasting() if ticks is None else ticks, "mend", ordered)

    def _isolate(self, victim: "Member", ticks: float | None = None) -> None:
        others = self.world.members.keys() - {victim.id}
        self._cut("partitions", {(victim.id, o) for o in others} | {(o, victim.id) for o in others}, ticks)

    def _split(self, victim: "Member") -> None:
        side = {number for number in self.world.members if self.rng.random() < 0.5} | {victim.id}
        rest = self.world.members.keys() - side
        self._cut("partitions", {(a, b) for a in side for b in rest} | {(b, a) for a in side for b in rest})

    def _cut_one_way(self, victim: "Member") -> None:
        others = self.world.members.keys() - {victim.id}
        if self.rng.random() < 0.5:
            links = {(victim.id, other) for other in others}
        else:
            links = {(other, victim.id) for other in others}
        self._cut("one-way cuts", links)

    def _pause(self, victim: "Member", ticks: float | None = None) -> None:
        duration = self._lasting() if ticks is None else ticks
        self.perform("pause", victim.id)
        self._paused_until[victim.id] = self.world.now + duration
        self.at(duration, "resume", victim.id)

    def _sleep_long(self, victim: "Member") -> None:
        """Stopped for so long that the others have elected somebody, and leases have come and gone."""
        self._pause(victim, self.rng.uniform(15.0, 50.0))

    def _upheaval(self, victim: "Member") -> None:
        """The leader is silent and all others time out at about the same time; some of them die over it."""
        self.counts["upheavals"] += 1
        rng = self.rng
        leader = self.clients.leader() or victim
        self._pause(leader)
        others = [member for member in self.clients.running() if member is not leader]
        for member in others:
            self.at(rng.random() * 0.3, "catch up", member.id)
        for member in others:
            if rng.random() < 0.5:
                self.at(0.2 + rng.random() * 2.5, "brief death", member.id)

    def _coup(self, victim: "Member") -> None:
        """The leader is cut off and does not know it, while the others elect somebody, and perhaps somebody else after
        that. Clients write and read on both sides."""
        rng, old, coup = self.rng, self.clients.leader(), self.inclination.coup
        running = {member.id for member in self.clients.running() if member is not old}
        if old is None or not self.world.oracle.newest_members.has_majority(running):
            self._upheaval(victim)
            return
        self.counts["coups"] += 1
        lasting = rng.uniform(*coup.cut)
        self._isolate(old, lasting)
        self._elect_without(old)
        for _ in range(rng.randint(*coup.asks)):
            self.at(rng.random() * 8.0, "ask", old.id)
        for _ in range(coup.looks):
            self.at(rng.random() * lasting, "look", old.id)
        if rng.random() < coup.second:
            self.at(rng.uniform(*coup.reign), "depose", old.id)

    def _rush(self) -> None:
        """Whoever waited for a leader asks the new one; who knows the old one reads there, as long as it believes."""
        leader = self.clients.leader()
        if leader is None or not self.faults.client_every:
            return
        for _ in range(2):
            self.at(self.rng.random(), "ask", leader.id)
        for member in self.clients.running():
            if member.is_leader and member is not leader:
                for _ in range(3):
                    self.at(self.rng.random() * 6.0, "look", member.id)

    def _look(self, number: int) -> None:
        for action in self.clients.read_at(number):
            self.perform(*action)

    def _ask(self, number: int) -> None:
        """A write or a read at a member, whoever leads."""
        ask = self.clients.puts if self.rng.random() < 0.6 else self.clients.read_at
        for action in ask(number):
            self.perform(*action)

    def _depose(self, old: int) -> None:
        leader = self.clients.leader()
        if leader is not None and leader.id == old and self.inclination.coup.waits:
            self.at(1.0, "depose", old)  # nobody has followed it yet
        elif leader is not None:
            if self.rng.random() < 0.5:
                self._brief_death(leader.id)
            else:
                self._isolate(leader, 10.0)
            self._elect_without(leader)

    def _elect_without(self, leader: "Member | None") -> None:
        """All others have waited long enough for the leader, and one of them is the first to act."""
        others = [member.id for member in self.clients.running() if member is not leader]
        for number in others:
            self.perform("jump", number, ELECTION_TICKS)
        if others:
            self.at(self.rng.random() * 0.3, "catch up", self.rng.choice(others))

    def _catch_up(self, number: int) -> None:
        """Its clock was late, and catches up at once."""
        self.perform("jump", number, self.rng.randint(ELECTION_TICKS, 2 * ELECTION_TICKS))

    def _brief_death(self, number: int) -> None:
        if self.perform("crash", number, self.rng.randrange(1, 1 << 30), self.rng.random() < 0.5):
            self.at(self.rng.random(), "restart", number)

    # -- the end

    def heal(self) -> None:
        """No more faults.

        All members that belong to the group must agree, and take writes, within HEALING_TICKS_MAX.
        """
        world = self.world
        self.faults = replace(
            self.faults,
            loss=0.0,
            duplicate=0.0,
            straggler=0.0,
            delay_max=0.1,
            is_orderly=True,
            write_ticks_max=0.0,
            dies_written=0.0,
            fault_every=0.0,
            client_every=0.0,
        )
        self.perform("mend", tuple(sorted(world.cut)))
        self._paused_until.clear()
        for number in list(world.members):
            self.perform("resume", number)
            self.perform("restart", number)
        end, next_probe = world.now + HEALING_TICKS_MAX, world.now
        probes: set[int] = set()
        while not self._is_well(probes):
            if world.now >= end:
                # Without pre-votes members that cannot win go on raising the term, and luck decides when it ends.
                if world.config.pre_vote and world.config.check_quorum and not self._is_stuck_by_removal():
                    raise Violation(NOT_WELL, f"{HEALING_TICKS_MAX} ticks after the last fault: {world.describe()}")
                self.counts["not healed"] += 1
                return
            self._run_event()
            leader = self.clients.leader()
            if leader is not None and world.now >= next_probe:
                next_probe = world.now + PROBE_TICKS
                self.perform("request", leader.id, *self.clients.probe())
                probes.add(len(world.oracle.committed))
        world.oracle.audit(world.members.values())
        self.counts["healed"] += 1

    def _is_well(self, probes: set[int]) -> bool:
        """Something was committed since the first probe, and every member of the group has applied all that is."""
        last = len(self.world.oracle.committed)
        return (
            bool(probes)
            and last > min(probes)
            and all(
                (member := self.world.members[number]).node is not None and member.applied == last
                for number in self.world.oracle.newest_members.all
            )
        )

    def _is_stuck_by_removal(self) -> bool:
        """Raft's own trap, etcd's too: of two voters the leader removed itself, and could not tell the other before it
        was cut off.

        The one that stays knows the old configuration only and needs a vote that it does not get. Nothing is lost;
        whoever takes members away must hand over first, and does (invariant I3).
        """
        members = self.world.oracle.newest_members
        return len(members.voters) == 1 and all(
            self.world.members[voter].members != members for voter in members.voters
        )


OWN: dict[str, Callable[..., None]] = {
    "arrive": Schedule._arrive,
    "report": Schedule._report,
    "clock": Schedule._clock,
    "upkeep": Schedule._upkeep,
    "publish": Schedule._publish,
    "client": Schedule._client,
    "fault": Schedule._fault,
    "catch up": Schedule._catch_up,
    "ask": Schedule._ask,
    "look": Schedule._look,
    "depose": Schedule._depose,
    "brief death": Schedule._brief_death,
}

FAULTS: "tuple[Callable[[Schedule, Member], None], ...]" = (
    Schedule._crash,
    Schedule._crash,
    Schedule._crash_all,
    Schedule._isolate,
    Schedule._split,
    Schedule._cut_one_way,
    Schedule._pause,
    Schedule._sleep_long,
    Schedule._upheaval,
    Schedule._upheaval,
    *(Schedule._coup,) * 6,
)

FAVOURITES: "dict[str, Callable[[Schedule, Member], None]]" = {"coup": Schedule._coup, "upheaval": Schedule._upheaval}
