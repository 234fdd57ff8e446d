"""A simulated group of whole members, and what can happen to it: one action at a time, nothing by itself.

An action is concrete (deliver this message, tick member 2, cut these links), so a list of actions is a run, and a part
of the list is one too: what no longer makes sense, as a tick of a member that is down, does nothing. Who decides what
happens next is schedule.py, or a trace. After each action the oracle and the judge look.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from kvorum.etcdpb.rpc_pb2 import RangeRequest
from kvorum.raft.core import Config
from kvorum.raft.message import Entry, Message, MessageType
from kvorum.state.membership import bootstrap_entries

from tests.sim.disk import Tables
from tests.sim.inclination import inclination_of
from tests.sim.judge import Judge, LeasePromises
from tests.sim.member import ELECTION_TICKS, Member
from tests.sim.membership import Wish, change_data, joint_change, profile
from tests.sim.oracle import Oracle
from tests.sim.schedule import Action

OWN_IDS = 1 << 40  # request ids that the world gives, above those of the clients in a trace

Link = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Parts:
    """What members are made of. Another Member class is how a bug is planted into what lies around the core."""

    member: type[Member] = Member


class World:
    """All members and what lies between them. post: who carries messages."""

    def __init__(
        self, seed: int, parts: Parts, post: Callable[[Message], None], write_begun: Callable[[Member], None]
    ) -> None:
        self.seed = seed
        self.parts = parts
        self.post = post
        self.write_begun = write_begun
        self.now = 0.0  # in ticks
        self.counts: Counter[str] = Counter()
        self.cut: set[Link] = set()
        self.images: dict[bytes, Tables] = {}
        self._next_id = OWN_IDS
        self.inclination = inclination_of(seed)
        rng = random.Random(seed)
        safe = rng.random() < 0.7  # as etcd runs it
        # (Single entries in long pipelines spend all steps on being refused one by one.)
        append_bytes_max, inflight_max = rng.choice(((1, 2), (500, 4), (1 << 20, 1), (1 << 20, 512), (1 << 20, 512)))
        drawn = Config(
            id=1,
            election_ticks=ELECTION_TICKS,
            heartbeat_ticks=rng.choice((1, 3, 3)),
            pre_vote=safe or rng.random() < 0.5,
            check_quorum=safe or rng.random() < 0.5,
            append_bytes_max=append_bytes_max,
            inflight_max=inflight_max,
            apply_bytes_max=rng.choice((1, 1000, 1 << 20)),
        )
        self.config = replace(drawn, **self.inclination.core)
        self.clock_drift = rng.choice((0.0, 0.01, 0.1))
        first = range(1, rng.choice(self.inclination.sizes) + 1)
        bootstrap = bootstrap_entries([profile(number, name=f"member-{number}") for number in first])
        self.leases = LeasePromises(self.clock_drift)
        self.judge = Judge(self.leases)
        self.oracle = Oracle(bootstrap, self._committed)
        self.members: dict[int, Member] = {}
        for number in first:
            self._add(number, bootstrap)
        for member in self.members.values():
            member.start()
            member.pump()

    def _add(self, number: int, bootstrap: list[Entry]) -> Member:
        member = self.members[number] = self.parts.member(self, number, bootstrap)
        member.clock_rate = 1 + self.clock_drift * random.Random(f"{self.seed}/clock/{number}").uniform(-1, 1)
        return member

    def _committed(self, entry: Entry) -> None:
        self.judge.committed(entry, self.now)

    # -- what members ask of it

    def next_request_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def is_connected(self, member: int, other: int) -> bool:
        """Whether a member would notice that it cannot reach another."""
        there = self.members.get(other)
        return there is not None and there.node is not None and (member, other) not in self.cut

    def send(self, sender: Member, messages: list[Message]) -> None:
        for message in messages:
            self.post(self._with_tables(sender, message) if message.type is MessageType.SNAPSHOT else message)

    def _with_tables(self, sender: Member, message: Message) -> Message:
        """The transport makes the snapshot only now, of the tables as they are; they travel beside the message."""
        snapshot, tables = sender.image()
        assert message.snapshot is not None
        assert snapshot.index >= message.snapshot.index, (snapshot, message.snapshot)
        name = b"tables of member %d at %d" % (sender.id, snapshot.index)
        self.images[name] = tables
        self.counts["snapshots sent"] += 1
        return replace(message, snapshot=replace(snapshot, data=name))

    # -- what happens

    def perform(self, action: Action) -> bool:
        """False if there was nothing to do. Raises Violation, or what the product raises, if a promise is broken."""
        member = HAPPENINGS[action[0]](self, *action[1:])
        if member is None:
            return False
        if member.node is not None:
            self.oracle.observe(member)
            member.pump()
        self._look(member)
        return True

    def _look(self, member: Member) -> None:
        if member.node is not None and member.seen_applied != member.machine.applied_index:
            member.seen_applied = member.machine.applied_index
            self.judge.check(member)
        self.oracle.after_step(self.members.values())
        for number in self.oracle.newest_members.all - self.members.keys():
            newcomer = self._add(number, [])  # with an empty disk and no configuration, as a member that joins
            newcomer.start()

    def _running(self, number: int) -> Member | None:
        member = self.members.get(number)
        return None if member is None or member.node is None or member.is_paused else member

    def _deliver(self, message: Message) -> Member | None:
        member = self._running(message.to)
        if member is None or (message.sender, message.to) in self.cut:
            return None
        assert member.node is not None
        if message.type is MessageType.SNAPSHOT:
            assert message.snapshot is not None
            member.disk.receive(message.snapshot, self.images[message.snapshot.data])
        # A copy: the receiver must not be able to change what others still hold.
        member.node.step(replace(message))
        return member

    def _unreachable(self, sender: int, to: int) -> Member | None:
        member = self._running(sender)
        if member is not None:
            assert member.node is not None
            member.node.report_unreachable(to)
        return member

    def _snapshot_status(self, sender: int, to: int, ok: bool) -> Member | None:
        member = self._running(sender)
        if member is not None:
            assert member.node is not None
            member.node.report_snapshot(to, ok)
        return member

    def _tick(self, number: int) -> Member | None:
        member = self._running(number)
        if member is not None:
            member.tick()
        return member

    def _jump(self, number: int, ticks: int) -> Member | None:
        member = self._running(number)
        for _ in range(ticks):
            if member is None or member.node is None:
                break
            member.tick()
            self.oracle.observe(member)
            member.pump()
        return member

    def _written(self, number: int, dies: int) -> Member | None:
        """dies: above 0 the power goes when all is synced and nothing else is done yet; the seed of what is lost."""
        member = self.members.get(number)
        if member is None or member.node is None or not member.is_writing:
            return None
        member.sync()
        if dies:
            member.crash(dies, power=False)
        else:
            member.written()
        return member

    def _request(self, number: int, request_id: int, data: bytes) -> Member | None:
        member = self._running(number)
        if member is not None:
            member.queue(request_id, data)
        return member

    def _read(self, number: int, data: bytes) -> Member | None:
        member = self._running(number)
        if member is not None:
            member.read(RangeRequest.FromString(data))
        return member

    def _keep_alive(self, number: int, lease: int) -> Member | None:
        member = self._running(number)
        if member is not None:
            member.keep_alive(lease)
        return member

    def _checkpoint(self, number: int, lease: int) -> Member | None:
        member = self._running(number)
        if member is not None and member.lessor.is_primary:
            remaining_s = member.lessor.remaining_s(lease)
            if remaining_s > 0:
                member.checkpoint(lease, remaining_s)
        return member

    def _change(self, number: int, verb: str, whom: int) -> Member | None:
        member = self._running(number)
        if member is None:
            return None
        assert member.node is not None
        if verb == "remove" and not (member.is_leader and len(member.members.voters) > 1):
            return (
                None  # only who knows the newest configuration may shrink it: nobody refuses to remove the last voter
            )
        member.node.propose_conf_change(change_data(verb, whom))
        return member

    def _joint(self, number: int, wishes: tuple[Wish, ...], transition: int) -> Member | None:
        member = self._running(number)
        if member is None or not member.is_leader:
            return None
        assert member.node is not None
        going = {whom for verb, whom in wishes if verb == "remove"}
        if not member.members.voters - going:
            return None
        member.node.propose_conf_change_v2(joint_change(wishes, transition))
        return member

    def _transfer(self, number: int, to: int) -> Member | None:
        member = self._running(number)
        if member is not None:
            assert member.node is not None
            member.node.transfer_leader(to)
        return member

    def _crash(self, number: int, seed: int, power: bool) -> Member | None:
        member = self.members.get(number)
        if member is None or member.node is None:
            return None
        member.crash(seed, power=power)
        member.is_paused = False
        return member

    def _restart(self, number: int) -> Member | None:
        member = self.members.get(number)
        if member is None or member.node is not None or member.is_retired:
            return None
        member.start()
        return member

    def _retire(self, number: int) -> Member | None:
        member = self.members.get(number)
        if member is None or member.is_retired:
            return None
        member.is_retired = True
        if member.node is not None:
            member.crash(1, power=True)
        return member

    def _cut_links(self, links: tuple[Link, ...]) -> Member:
        self.cut.update(links)
        return next(iter(self.members.values()))

    def _mend_links(self, links: tuple[Link, ...]) -> Member:
        self.cut.difference_update(links)
        return next(iter(self.members.values()))

    def _pause(self, number: int) -> Member | None:
        """The process stops, as under a debugger or a full disk queue, and carries on where it was."""
        member = self._running(number)
        if member is not None:
            member.is_paused = True
        return member

    def _resume(self, number: int) -> Member | None:
        member = self.members.get(number)
        if member is None or not member.is_paused:
            return None
        member.is_paused = False
        return member

    def _commit_tables(self, number: int) -> Member | None:
        member = self._running(number)
        if member is not None:
            member.commit_tables()
        return member

    def _compact_log(self, number: int, catch_up_entries: int) -> Member | None:
        member = self._running(number)
        if member is not None:
            member.compact_log(catch_up_entries)
        return member

    def _compact_rows(self, number: int, rows: int) -> Member | None:
        member = self._running(number)
        if member is None or not member.machine.compaction.pending:
            return None
        member.machine.compact_step(rows)
        member.seen_applied = -1
        return member

    def describe(self) -> str:
        """Who is what and how far, for the message of a failure."""
        parts: list[str] = []
        for member in self.members.values():
            node = member.node
            if node is None:
                parts.append(f"{member.id} {'retired' if member.is_retired else 'down'}")
            else:
                log = f"{node.log.committed}/{node.log.last_index} applied {member.applied}"
                parts.append(f"{member.id} {node.role.value} term {node.term} {log}")
        return "; ".join(parts)


HAPPENINGS: dict[str, Callable[..., Member | None]] = {
    "deliver": World._deliver,
    "unreachable": World._unreachable,
    "snapshot status": World._snapshot_status,
    "tick": World._tick,
    "jump": World._jump,
    "written": World._written,
    "request": World._request,
    "read": World._read,
    "keep alive": World._keep_alive,
    "checkpoint": World._checkpoint,
    "change": World._change,
    "joint": World._joint,
    "transfer": World._transfer,
    "crash": World._crash,
    "restart": World._restart,
    "retire": World._retire,
    "cut": World._cut_links,
    "mend": World._mend_links,
    "pause": World._pause,
    "resume": World._resume,
    "commit tables": World._commit_tables,
    "compact log": World._compact_log,
    "compact rows": World._compact_rows,
}
