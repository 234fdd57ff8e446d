"""A simulated group: real cores, and a network, disks, clocks and clients that misbehave as one seed says.

Time is a number; a heap holds what happens next: messages, ticks, disk writes that finish, client operations, faults. A
step is one message, tick, client operation or fault; after each the oracle looks. The same seed and steps give the same
run.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kvorum.raft.core import Config, RawNode, Ready, Role
from kvorum.raft.message import Entry, EntryType, Message, MessageType

from tests.sim.disk import AppliedImage, Disk
from tests.sim.membership import Members
from tests.sim.oracle import Oracle

ELECTION_TICKS = 10
VOTERS_MAX = 5
LINK_MESSAGES_MAX = (
    400  # under way at once, before the network drops: a group that is cut apart must not fill the memory
)
AUDIT_STEPS = 500  # between looks at whole logs
HEALING_TICKS_MAX = 600  # after the faults end, all must be well again within this
WRITE_ENTRIES_MAX = 4


@dataclass(frozen=True, slots=True)
class Faults:
    """How bad this world is. Chances are per message or per event; times are in ticks."""

    loss: float
    duplicate: float
    delay_max: float  # of most messages
    is_orderly: bool  # most messages take as long as any other: links keep their order, as a connection does
    straggler: float  # chance of a delay up to 40 ticks: such a message comes from another age
    write_ticks_max: float  # how long a disk write takes
    fault_every: float  # mean time between crashes, cuts and pauses; 0 for none
    compaction: float  # chance at each disk write that the log is compacted
    client_every: float  # mean time between client operations
    change_share: float  # of client operations that change the configuration
    transfer_share: float  # of client operations that move the leader

    @classmethod
    def drawn(cls, rng: random.Random) -> "Faults":
        """Worlds differ: some lose many messages, some crash a lot, some only change their members."""
        return cls(
            loss=rng.choice((0.0, 0.01, 0.05, 0.15)),
            duplicate=rng.choice((0.0, 0.02, 0.1)),
            delay_max=rng.choice((0.2, 0.6, 2.0)),
            is_orderly=rng.random() < 0.4,
            straggler=rng.choice((0.0, 0.01, 0.03)),
            write_ticks_max=rng.choice((0.0, 0.5, 2.0)),
            fault_every=rng.choice((6.0, 12.0, 40.0)),
            compaction=rng.choice((0.0, 0.01, 0.05)),
            client_every=rng.choice((0.3, 0.6, 1.5)),
            change_share=rng.choice((0.02, 0.05, 0.3)),
            transfer_share=rng.choice((0.01, 0.04, 0.2)),
        )


class Member:
    """One member: its core while it runs, its disk for ever, and a state machine that only remembers how far it is."""

    def __init__(self, world: "World", id: int, bootstrap: Sequence[Entry] = ()) -> None:  # noqa: A002 - the word of the domain
        self.world = world
        self.id = id
        self.disk = Disk(bootstrap)
        self.node: RawNode | None = None
        self.applied = 0
        self.members = Members()
        self.incarnation = 0  # events of an earlier one are void
        self.paused_until = 0.0
        self.is_retired = False  # removed from the group and stopped
        self.seen_log: list[int] = []  # for the oracle: terms by position
        self.seen_committed = 0
        self.seen_term_role = (0, Role.FOLLOWER)
        self._storage = self.disk.storage()
        self._ready: Ready | None = None
        self._waiting: dict[bytes, None] = {}  # client entries proposed here, not answered yet
        self._reads: dict[bytes, int] = {}  # context -> what was committed when it was asked

    @property
    def is_leader(self) -> bool:
        return self.node is not None and self.node.role is Role.LEADER

    def start(self) -> None:
        assert self.node is None
        self.incarnation += 1
        image = self.disk.applied
        self.applied, self.members = image.index, self.world.oracle.members_at(image.index)
        self._storage = self.disk.storage()
        self.node = RawNode(
            replace(self.world.config, id=self.id),
            self._storage,
            applied=image.index,
            random=self.world.rng.randrange,
        )
        self.seen_log, self.seen_committed = [], self.node.log.committed
        self._ready, self._waiting, self._reads = None, {}, {}
        self.world.schedule_tick(self)
        self.world.oracle.observe(self)

    def crash(self) -> None:
        self.node = None
        self.disk.crash(self.world.rng)
        self.world.oracle.synced(self)
        self.world.disks_changed()

    # -- client operations

    def propose(self, data: list[bytes]) -> None:
        assert self.node is not None
        if self.node.propose(data):
            self._waiting.update(dict.fromkeys(data))

    def read(self, context: bytes) -> None:
        assert self.node is not None
        if self.node.read_index(context):
            self._reads[context] = len(self.world.oracle.committed)

    # -- the server's loop around a core

    def pump(self) -> None:
        """Takes the next Ready, if none is being written.

        Sends what may leave at once, and gives the rest to the disk.
        """
        node = self.node
        while node is not None and self._ready is None and node.has_ready():
            ready = self._ready = node.ready()
            self.world.send(ready.messages)
            self.disk.write(ready)
            delay = self.world.rng.random() * self.world.faults.write_ticks_max
            if delay > 0.1:
                self.world.at(delay, self._written_late, self.incarnation)
            else:
                self._written(node, ready)

    def _written_late(self, incarnation: int) -> None:
        if incarnation == self.incarnation and self.node is not None:
            assert self._ready is not None
            self._written(self.node, self._ready)
            self.pump()

    def _written(self, node: RawNode, ready: Ready) -> None:
        """The disk has done what the Ready asked for."""
        if ready.must_sync:
            self.disk.sync()
            self.world.oracle.synced(self)
        self.world.oracle.sent_after_append(self, ready.messages_after_append)
        self.world.send(ready.messages_after_append)
        if ready.snapshot is not None:
            self.applied = ready.snapshot.index
            self.members = self.world.oracle.members_at(self.applied)
        for entry in ready.committed:
            self._apply(node, entry)
        for state in ready.read_states:
            floor = self._reads.pop(state.context, None)
            if floor is not None:
                self.world.oracle.read(state.index, floor)
        self._ready = None
        node.advance()
        self._maintain(node)
        if ready.must_sync:
            self.world.disks_changed()
        self.world.oracle.observe(self)

    def _apply(self, node: RawNode, entry: Entry) -> None:
        self.world.oracle.applied(self, entry)
        self.applied = entry.index
        if entry.type != EntryType.NORMAL:
            change = self.members.conf_change(entry.data)
            self.members = self.members.after(entry.data)
            node.apply_conf_change(change)
            self.world.configuration_applied(self.members)
        elif entry.data in self._waiting:
            del self._waiting[entry.data]
            self.world.oracle.acknowledged(entry.index, entry.data)

    def _maintain(self, node: RawNode) -> None:
        """The state machine commits its tables now and then; sometimes the log is compacted behind a snapshot."""
        rng = self.world.rng
        if self.applied > self.disk.applied.index and rng.random() < 0.2:
            self.disk.save_applied(AppliedImage(self.applied, self.members.conf_state()))
        if self.applied == self.disk.applied.index > 0 and rng.random() < self.world.faults.compaction:
            storage = self._storage
            if storage.last_index < self.applied or node.log.snapshot is not None:
                return
            snapshot = storage.create_snapshot(self.applied, self.members.conf_state(), b"state at %d" % self.applied)
            index = max(storage.first_index - 1, self.applied - rng.randrange(20))
            storage.compact(index)
            self.disk.compact(snapshot, index)


class World:
    """All members and what lies between them."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = rng = random.Random(seed)
        self.faults = Faults.drawn(rng)
        safe = rng.random() < 0.7  # as etcd runs it
        self.config = Config(
            id=1,
            election_ticks=ELECTION_TICKS,
            pre_vote=safe or rng.random() < 0.5,
            check_quorum=safe or rng.random() < 0.5,
            append_bytes_max=rng.choice((1, 200, 1 << 20)),
            inflight_max=rng.choice((1, 4, 512)),
            apply_bytes_max=rng.choice((1, 500, 1 << 20)),
        )
        self.now = 0.0
        self.steps = 0
        self.counts: Counter[str] = Counter()
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._sequence = 0
        self._under_way: Counter[tuple[int, int]] = Counter()
        self._cut: set[tuple[int, int]] = set()
        self._next_value = 0
        first = range(1, rng.choice((1, 3, 3, 3, 5)) + 1)
        bootstrap = [Entry(1, number, b"add %d" % number, EntryType.CONF_CHANGE) for number in first]  # as etcd does it
        self.oracle = Oracle(bootstrap)
        self.members = {number: Member(self, number, bootstrap) for number in first}
        self._next_member = len(self.members) + 1
        self._are_disks_changed = False
        for member in self.members.values():
            member.start()
            member.pump()
        self._later(self.faults.client_every, self._client)
        self._later(self.faults.fault_every, self._fault)

    # -- time

    def at(self, delay: float, action: Callable[..., None], *arguments: object) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (self.now + delay, self._sequence, action, arguments))

    def _later(self, mean: float, action: Callable[..., None]) -> None:
        if mean > 0:
            self.at(self.rng.expovariate(1 / mean), action)

    def run(self, steps: int) -> None:
        """Raises Violation, or the core's own AssertionError, at the first step after which something is wrong."""
        last, audit_at = self.steps + steps, self.steps + AUDIT_STEPS
        while self.steps < last:
            self._run_event()
            if self.steps >= audit_at:
                self.oracle.audit(list(self.members.values()))
                audit_at += AUDIT_STEPS
        self.oracle.audit(list(self.members.values()))

    def _run_event(self) -> None:
        self.now, _, action, arguments = heapq.heappop(self._events)
        action(*arguments)
        if self._are_disks_changed:
            self._are_disks_changed = False
            self.oracle.disks_changed([member for member in self.members.values() if not member.is_retired])

    def _stepped(self, kind: str, member: Member | None = None) -> None:
        self.steps += 1
        self.counts[kind] += 1
        if member is not None:
            self.oracle.observe(member)
            member.pump()

    def disks_changed(self) -> None:
        self._are_disks_changed = True

    # -- the network

    def send(self, messages: list[Message]) -> None:
        rng, faults = self.rng, self.faults
        for message in messages:
            copies = 2 if rng.random() < faults.duplicate else 1
            if rng.random() < faults.loss:
                copies = 0
                self._lost(message)
            for _ in range(copies):
                if rng.random() < faults.straggler:
                    delay = rng.random() * 40.0
                else:
                    delay = faults.delay_max * (0.5 if faults.is_orderly else rng.random())
                self._under_way[message.sender, message.to] += 1
                # A copy: the receiver must not be able to change what others still hold.
                self.at(delay, self._deliver, replace(message))

    def _deliver(self, message: Message) -> None:
        link = (message.sender, message.to)
        self._under_way[link] -= 1
        member = self.members.get(message.to)
        if member is None or member.node is None or link in self._cut or self._under_way[link] > LINK_MESSAGES_MAX:
            self._lost(message)
            return
        if member.paused_until > self.now:
            self._under_way[link] += 1
            self.at(member.paused_until - self.now, self._deliver, message)
            return
        if message.type is MessageType.SNAPSHOT:
            self._report(message, arrived=True)
        member.node.step(message)
        self._stepped("messages", member)

    def _lost(self, message: Message) -> None:
        """The transport notices some losses, and tells the sender."""
        if message.type is MessageType.SNAPSHOT:
            self._report(message, arrived=False)
        elif self.rng.random() < 0.3:
            sender = self.members.get(message.sender)
            if sender is not None and sender.node is not None:
                sender.node.report_unreachable(message.to)

    def _report(self, message: Message, *, arrived: bool) -> None:
        sender = self.members.get(message.sender)
        if sender is not None and sender.node is not None:
            sender.node.report_snapshot(message.to, arrived)

    # -- clocks

    def schedule_tick(self, member: Member) -> None:
        self.at(self.rng.random(), self._tick, member, member.incarnation)

    def _tick(self, member: Member, incarnation: int) -> None:
        if incarnation != member.incarnation or member.node is None:
            return
        self.at(self.rng.uniform(0.9, 1.1), self._tick, member, incarnation)
        if member.paused_until <= self.now:
            member.node.tick()
            self._stepped("ticks", member)

    # -- clients

    def _running(self) -> list[Member]:
        return [member for member in self.members.values() if member.node is not None]

    def _leader(self) -> Member | None:
        """Of the newest term, if somebody leads it."""
        leaders = [member for member in self._running() if member.is_leader]
        return max(leaders, key=lambda member: member.node.term if member.node else 0, default=None)

    def _client(self) -> None:
        self._later(self.faults.client_every, self._client)
        running = self._running()
        if not running:
            return
        rng = self.rng
        leaders = [member for member in running if member.is_leader]  # one that was replaced and does not know it, too
        member = rng.choice(leaders if leaders and rng.random() < 0.5 else running)
        node = member.node
        assert node is not None
        dice = rng.random()
        if dice < self.faults.change_share:
            if not self._change(node):
                return
        elif dice < self.faults.change_share + self.faults.transfer_share:
            node.transfer_leader(rng.choice(sorted(member.members.all) or [member.id]))
            self.counts["transfers"] += 1
        elif dice > 0.75:
            member.read(self._value())
        else:
            member.propose([self._value() for _ in range(rng.randint(1, WRITE_ENTRIES_MAX))])
        self._stepped("client operations", member)

    def _value(self) -> bytes:
        self._next_value += 1
        return b"%d" % self._next_value

    def _change(self, node: RawNode) -> bool:
        """A step that somebody in charge would take: grow by a learner, promote it, or shrink."""
        members = self.oracle.newest_members
        wishes: list[bytes] = []
        if members.learners:
            wishes += [b"promote %d" % learner for learner in members.learners] * 3
            wishes += [b"remove %d" % learner for learner in members.learners]
        elif len(members.voters) < VOTERS_MAX:
            wishes.append(b"learn %d" % self._next_member)
            if self.rng.random() < 0.3:
                wishes.append(b"add %d" % self._next_member)
        if len(members.voters) > 2 or (len(members.voters) == 2 and self.rng.random() < 0.1):
            wishes += [b"remove %d" % voter for voter in sorted(members.voters)]
        if not wishes:
            return False
        node.propose_conf_change(self.rng.choice(wishes))
        if self.rng.random() < 0.2:  # somebody else is in charge too
            node.propose_conf_change(self.rng.choice(wishes))
        return True

    def configuration_applied(self, members: Members) -> None:
        """Who is new starts with an empty disk and no configuration, as a member that joins does.

        Who is removed stops, soon.
        """
        for number in sorted(members.all - self.members.keys()):
            self._next_member = max(self._next_member, number + 1)
            member = self.members[number] = Member(self, number)
            member.start()
        for number in self.members.keys() - self.oracle.newest_members.all - members.all:
            self.at(self.rng.random() * 60.0, self._retire, self.members[number])

    def _retire(self, member: Member) -> None:
        """Stops a removed member, once those who stay know of it: two that remove one of them need both for that."""
        members = self.oracle.newest_members
        if member.id in members.all or member.is_retired:
            return
        knowing = {
            voter for voter in members.voters & self.members.keys() if member.id in self.members[voter].members.removed
        }
        if not members.has_majority(knowing):
            self.at(10.0, self._retire, member)
        else:
            member.is_retired = True
            if member.node is not None:
                member.crash()
            self.counts["retired"] += 1

    # -- faults

    def _fault(self) -> None:
        self._later(self.faults.fault_every, self._fault)
        running = self._running()
        if not running:
            return
        rng = self.rng
        victim = (self._leader() if rng.random() < 0.5 else None) or rng.choice(running)
        action = rng.choice(FAULTS)
        action(self, victim)
        self._stepped("faults")

    def _crash(self, victim: Member) -> None:
        self.counts["crashes"] += 1
        victim.crash()
        self.at(self.rng.random() * self.rng.choice((1.0, 30.0)), self._restart, victim)

    def _crash_all(self, victim: Member) -> None:
        """Power is lost in the whole house; once in a while."""
        if self.rng.random() < 0.3:
            for member in self._running():
                self._crash(member)
        else:
            self._crash(victim)

    def _restart(self, member: Member) -> None:
        if member.node is None and not member.is_retired:
            member.start()
            member.pump()

    def _cut_links(self, kind: str, links: set[tuple[int, int]]) -> None:
        self.counts[kind] += 1
        self._cut |= links
        self.at(self.rng.random() * 40.0, self._cut.difference_update, links)

    def _isolate(self, victim: Member) -> None:
        others = self.members.keys() - {victim.id}
        self._cut_links("partitions", {(victim.id, o) for o in others} | {(o, victim.id) for o in others})

    def _split(self, victim: Member) -> None:
        side = {number for number in self.members if self.rng.random() < 0.5} | {victim.id}
        rest = self.members.keys() - side
        self._cut_links("partitions", {(a, b) for a in side for b in rest} | {(b, a) for a in side for b in rest})

    def _cut_one_way(self, victim: Member) -> None:
        others = self.members.keys() - {victim.id}
        if self.rng.random() < 0.5:
            links = {(victim.id, other) for other in others}
        else:
            links = {(other, victim.id) for other in others}
        self._cut_links("one-way cuts", links)

    def _pause(self, victim: Member) -> None:
        """The process stops, as under a debugger or a full disk queue, and carries on where it was."""
        self.counts["pauses"] += 1
        victim.paused_until = self.now + self.rng.random() * 25.0

    def _upheaval(self, victim: Member) -> None:
        """The leader is silent and all others time out at about the same time; one of them may die over it."""
        self.counts["upheavals"] += 1
        rng = self.rng
        leader = self._leader() or victim
        leader.paused_until = self.now + rng.random() * 25.0
        others = [member for member in self._running() if member is not leader]
        for member in others:
            self.at(rng.random() * 0.3, self._jump, member, member.incarnation)
        if others and rng.random() < 0.6:
            self.at(rng.random() * 1.5, self._die_briefly, rng.choice(others))

    def _jump(self, member: Member, incarnation: int) -> None:
        """Its clock was late, and catches up at once."""
        if incarnation == member.incarnation and member.node is not None:
            for _ in range(self.rng.randint(ELECTION_TICKS, 2 * ELECTION_TICKS)):
                member.node.tick()
                self._stepped("ticks", member)

    def _die_briefly(self, member: Member) -> None:
        if member.node is not None:
            self.counts["crashes"] += 1
            member.crash()
            self.at(self.rng.random(), self._restart, member)

    # -- the end

    def heal(self) -> None:
        """No more faults.

        All members that belong to the group must agree, and take writes, within HEALING_TICKS_MAX.
        """
        self.faults = replace(
            self.faults,
            loss=0.0,
            duplicate=0.0,
            straggler=0.0,
            delay_max=0.1,
            is_orderly=True,
            write_ticks_max=0.0,
            fault_every=0.0,
            client_every=0.0,
        )
        self._cut.clear()
        for member in list(self.members.values()):  # who restarts may apply that others were added
            member.paused_until = 0.0
            self._restart(member)
        end, next_probe = self.now + HEALING_TICKS_MAX, self.now
        probes: set[bytes] = set()
        while not self._is_well(probes):
            if self.now >= end:
                # Without pre-votes members that cannot win go on raising the term, and luck decides when it ends.
                is_promised = self.config.pre_vote and self.config.check_quorum and not self._is_stuck_by_removal()
                assert not is_promised, f"not well {HEALING_TICKS_MAX} ticks after the last fault"
                self.counts["not healed"] += 1
                return
            self._run_event()
            leader = self._leader()
            if leader is not None and self.now >= next_probe:
                next_probe = self.now + 2 * ELECTION_TICKS
                probes.add(probe := self._value())
                leader.propose([probe])
                leader.pump()
        self.oracle.audit(list(self.members.values()))

    def _is_well(self, probes: set[bytes]) -> bool:
        """One of the probes is committed, and every member of the group has applied all that is."""
        last = len(self.oracle.committed)
        return any(entry.data in probes for entry in self.oracle.committed[-3:]) and all(
            self.members[number].applied == last for number in self.oracle.newest_members.all
        )

    def _is_stuck_by_removal(self) -> bool:
        """Raft's own trap, etcd's too: of two voters the leader removed itself, and could not tell the other before it
        was cut off.

        The one that stays knows the old configuration only and needs a vote that it does not get. Nothing is lost;
        whoever takes members away must hand over first, and does (invariant I3).
        """
        members = self.oracle.newest_members
        return len(members.voters) == 1 and all(self.members[voter].members != members for voter in members.voters)

    def describe(self) -> str:
        """Who is what and how far, for the message of a failure."""
        parts: list[str] = []
        for member in self.members.values():
            node = member.node
            if node is not None:
                progress = f" {node.tracked}" if node.role is Role.LEADER else ""
                log = f"{node.log.committed}/{node.log.last_index} applied {member.applied}"
                parts.append(f"{member.id} {node.role.value} term {node.term} {log}{progress}")
        return "; ".join(parts)


FAULTS: tuple[Callable[[World, Member], None], ...] = (
    World._crash,
    World._crash,
    World._crash_all,
    World._isolate,
    World._isolate,
    World._split,
    World._cut_one_way,
    World._pause,
    World._upheaval,
    World._upheaval,
    World._upheaval,
)
