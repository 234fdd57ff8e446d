"""One member: the real core, log, state machine and lessor, and the rules of a server around them.

Driven by the world, one action at a time. Where a rule of kvorum.server lives in a coroutine or beside a socket (when
queued proposals and reads go to the core, who may renew a lease, the order write, sync, send, apply) it is repeated
here in its plainest form; the lessor is the server's own.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from kvorum.etcdpb.internal_pb2 import InternalRaftRequest
from kvorum.etcdpb.rpc_pb2 import RangeRequest
from kvorum.raft.core import RawNode, Ready, Role
from kvorum.raft.log import MemoryStorage
from kvorum.raft.message import NONE, Entry, EntryType, Snapshot
from kvorum.server.lessor import Lessor
from kvorum.server.settings import Settings
from kvorum.state.machine import Machine

from tests.sim.disk import CrashStore, MemberDisk, Tables, snapshot_of
from tests.sim.membership import Members

if TYPE_CHECKING:
    from kvorum.server.server import Server

    from tests.sim.world import World

TICKS_A_SECOND = 10
ELECTION_TICKS = 10
LEASE_TTL_MIN_S = 1
PROPOSAL_TICKS_MAX = 70  # etcd's request timeout, by ticks: what was not sent by then is dropped
READ_RETRY_TICKS = 5
READ_TICKS_MAX = 70
LEASE_TAGS = b"\x42\x4a"  # first bytes of the entries that grant and revoke leases
CHECKPOINT_TAG = 0x5A


class Waiting:
    """A client's proposal that is not answered yet."""

    __slots__ = ("data", "tick")

    def __init__(self, data: bytes, tick: int) -> None:
        self.data = data
        self.tick = tick


class Read:
    """A client's linearizable read: floor is what anybody knew to be committed when it was asked."""

    __slots__ = ("floor", "request", "tick")

    def __init__(self, request: RangeRequest, floor: int, tick: int) -> None:
        self.request = request
        self.floor = floor
        self.tick = tick


class LessorHost:
    """What the lessor knows of its server: clock, leases, and the core, which is its way into the log."""

    def __init__(self, member: "Member", raft: RawNode) -> None:
        self._member = member
        self.raft: Any = raft
        self.loop = SimpleNamespace(time=member.seconds)
        self.settings = Settings(election_ms=1000 * ELECTION_TICKS // TICKS_A_SECOND)
        self.ids = SimpleNamespace(next=self._next_id)

    @property
    def machine(self) -> Machine:
        return self._member.machine

    @property
    def is_leader(self) -> bool:
        return self._member.is_leader

    def _next_id(self) -> int:
        """Nothing but revocations is proposed by a lessor."""
        request_id = self._member.world.next_request_id()
        self._member.world.leases.expiring(request_id)
        return request_id


class Member:
    """node is None while it is down. The disk outlives it."""

    disk_class: type[MemberDisk] = MemberDisk
    machine_class: type[Machine] = Machine
    lessor_class: type[Lessor] = Lessor
    host_class: type[LessorHost] = LessorHost

    def __init__(self, world: "World", id: int, bootstrap: Sequence[Entry] = ()) -> None:  # noqa: A002 - the word of the domain
        self.world = world
        self.id = id
        self.disk = self.disk_class(id, bootstrap)
        self.node: RawNode | None = None
        self.machine: Machine
        self.lessor: Lessor
        self.incarnation = 0
        self.ticks = 0
        self.is_paused = False
        self.is_retired = False  # removed from the group and stopped
        self.clock_rate = 1.0  # of its seconds against the true ones
        # For the oracle:
        self.seen_log: list[int] = []  # terms by position
        self.seen_committed = 0
        self.seen_term_role = (0, Role.FOLLOWER)
        self.seen_applied = -1
        self._storage: MemoryStorage
        self._ready: Ready | None = None

    @property
    def is_leader(self) -> bool:
        return self.node is not None and self.node.role is Role.LEADER

    @property
    def applied(self) -> int:
        return self.machine.applied_index

    @property
    def members(self) -> Members:
        """The configuration that follows from what is applied here, by the oracle's own rule."""
        return self.world.oracle.members_at(self.machine.applied_index)

    @property
    def is_writing(self) -> bool:
        return self._ready is not None

    @property
    def is_writing_vote(self) -> bool:
        hard_state = None if self._ready is None else self._ready.hard_state
        return hard_state is not None and hard_state.vote not in (NONE, self.disk.ledger.hard_state.vote)

    def seconds(self) -> float:
        """This member's clock."""
        return self.world.now * self.clock_rate / TICKS_A_SECOND

    # -- life and death

    def start(self) -> None:
        assert self.node is None
        self.incarnation += 1
        self._load(self.disk.open())
        storage = self._storage = self.disk.raft_log(self.machine)
        storage.conf_state = self.machine.conf_state
        hard_state = storage.hard_state
        if hard_state.commit < self.machine.applied_index:
            # A commit index alone is written without a sync; what was applied is in the log and was committed.
            hard_state = replace(hard_state, commit=self.machine.applied_index)
            storage.set_hard_state(hard_state)
            self.disk.wal.write(hard_state, ())
        self.node = RawNode(
            replace(self.world.config, id=self.id),
            storage,
            applied=self.machine.applied_index,
            random=Random(f"{self.world.seed}/{self.id}/{self.incarnation}").randrange,
        )
        self.lessor = self.lessor_class(cast("Server", self.host_class(self, self.node)))
        self.seen_log, self.seen_committed = [], self.node.log.committed
        self._ready = None
        self._queued: list[Waiting] = []
        self._waiting: dict[int, Waiting] = {}
        self._reads: list[Read] = []
        self._round: set[bytes] | None = None
        self._round_reads: list[Read] = []
        self._round_tick = 0
        self._unapplied_reads: list[tuple[int, list[Read]]] = []
        self.checkpointing: set[int] = set()  # leases of which a checkpoint is on its way
        self.world.oracle.observe(self)

    def _load(self, store: CrashStore) -> None:
        self.machine = self.machine_class(store, lease_ttl_min_s=LEASE_TTL_MIN_S, quota_bytes=-1)
        self.machine.load()
        self.machine.revisions.records_events = False
        self.seen_applied = self.machine.applied_index
        self.world.judge.check(self)

    def crash(self, seed: int, *, power: bool) -> None:
        """power: whether the machine keeps it, so that only the process dies."""
        self.node = None
        self.disk.crash(Random(seed), power=power)
        self.world.oracle.synced(self)
        self.world.oracle.are_disks_changed = True

    # -- what clients ask

    def queue(self, request_id: int, data: bytes) -> None:
        waiting = Waiting(data, self.ticks)
        self._waiting[request_id] = waiting
        self._queued.append(waiting)

    def read(self, request: RangeRequest) -> None:
        self._reads.append(Read(request, len(self.world.oracle.committed), self.ticks))

    def keep_alive(self, lease_id: int) -> int:
        """Renews a lease here, if this member is the one to ask. 0: not here, not now, or no such lease."""
        assert self.node is not None
        if not self.lessor.is_primary or self.machine.applied_index < self.node.log.committed:
            return 0
        lease = self.machine.leases.find(lease_id)
        if lease is None or lease_id in self.checkpointing:
            return 0
        if lease.checkpoint_s:
            self.checkpoint(lease_id, 0)  # what an earlier leader said remains must not outlive this renewal
            return 0
        ttl_s = self.lessor.renew(lease_id)
        if ttl_s:
            self.world.leases.renewed(self, lease_id, ttl_s)
        return ttl_s

    def checkpoint(self, lease_id: int, remaining_s: int) -> None:
        """What an etcd leader with lease checkpoints does; this version's leaders do not."""
        if not self.is_leader or not self.lessor.is_primary or lease_id in self.checkpointing:
            return
        assert self.node is not None
        request_id = self.world.next_request_id()
        request = InternalRaftRequest()
        request.header.ID = request_id
        request.lease_checkpoint.checkpoints.add(ID=lease_id, remaining_TTL=remaining_s)
        if self.node.propose([request.SerializeToString()]):
            self.checkpointing.add(lease_id)

    # -- the server's loop around a core

    def tick(self) -> None:
        assert self.node is not None
        self.ticks += 1
        self.node.tick()
        self._expire()
        self.lessor.tick()

    def _expire(self) -> None:
        oldest = self.ticks - PROPOSAL_TICKS_MAX
        if self._queued and self._queued[0].tick < oldest:
            self._queued = [waiting for waiting in self._queued if waiting.tick >= oldest]
        for request_id in [request_id for request_id, waiting in self._waiting.items() if waiting.tick < oldest]:
            del self._waiting[request_id]
        if self._round is not None and self.ticks - self._round_tick >= READ_RETRY_TICKS:
            self._round_tick = self.ticks
            self._ask_round(self._round)
        oldest = self.ticks - READ_TICKS_MAX
        self._reads = [read for read in self._reads if read.tick >= oldest]
        self._round_reads = [read for read in self._round_reads if read.tick >= oldest]
        if self._round is not None and not self._round_reads:
            self._round = None

    def _flush(self, node: RawNode) -> None:
        """Queued requests go to the core when there is a leader to take them; what it drops stays for the next."""
        if not (self._queued or self._reads) or not self._is_leader_in_reach(node):
            return
        if self._queued and node.propose([waiting.data for waiting in self._queued]):
            self._queued = []
        if self._reads and self._round is None:
            contexts: set[bytes] = set()
            if self._ask_round(contexts):
                self._round, self._round_reads, self._reads = contexts, self._reads, []
                self._round_tick = self.ticks

    def _is_leader_in_reach(self, node: RawNode) -> bool:
        return node.leader == self.id or (node.leader != NONE and self.world.is_connected(self.id, node.leader))

    def _ask_round(self, contexts: set[bytes]) -> bool:
        assert self.node is not None
        context = self.world.next_request_id().to_bytes(8, "big")
        if not self.node.read_index(context):
            return False
        contexts.add(context)
        return True

    def pump(self) -> None:
        """Takes the next Ready, if none is being written. Sends what may leave at once, the rest waits for the disk."""
        node = self.node
        if node is None:
            return
        if self._ready is None:
            self._flush(node)
        while self.node is not None and self._ready is None and node.has_ready():
            self._begin(node, node.ready())
            self._flush(node)

    def _begin(self, node: RawNode, ready: Ready) -> None:
        self._ready = ready
        self.world.oracle.observe(self)  # what is committed is known before it is applied
        if ready.soft_state is not None and ready.soft_state.role is not Role.LEADER:
            self.lessor.demote()
            self.checkpointing.clear()
        self.world.send(self, ready.messages)
        self.disk.write(ready)
        if ready.must_sync:
            self.world.write_begun(self)
        else:
            self._persisted(node, ready)

    def written(self) -> None:
        """The disk has done what the Ready asked for."""
        assert self._ready is not None
        assert self.node is not None
        self._persisted(self.node, self._ready)

    def sync(self) -> None:
        self.disk.sync()
        self.world.oracle.synced(self)

    def _persisted(self, node: RawNode, ready: Ready) -> None:
        self.world.oracle.sent_after_append(self, ready.messages_after_append)
        self.world.send(self, ready.messages_after_append)
        if ready.snapshot is not None:
            self._restore(ready.snapshot)
        for entry in ready.committed:
            self._apply(node, entry)
        if ready.committed:
            self._release_applied()
        for state in ready.read_states:
            if self._round is not None and state.context in self._round:
                self._release(state.index)
        self._ready = None
        node.advance()
        self.world.oracle.observe(self)
        if ready.must_sync:
            self.world.oracle.are_disks_changed = True

    # -- applying

    def _restore(self, snapshot: Snapshot) -> None:
        self._load(self.disk.take_into_use(snapshot.index))
        self.world.counts["snapshots restored"] += 1

    def _apply(self, node: RawNode, entry: Entry) -> None:
        self.world.oracle.applied(self, entry)
        if entry.type != EntryType.NORMAL:
            self._apply_conf_change(node, entry)
            return
        outcome = self.machine.apply(entry, answering=bool(self._waiting))
        self.world.judge.outcome(self, entry, outcome)
        if not entry.data:
            if self.is_leader and entry.term == node.term:
                self.lessor.promote()
            return
        if entry.data[0] in LEASE_TAGS:
            self.lessor.applied(entry.data)
        elif entry.data[0] == CHECKPOINT_TAG:
            request = InternalRaftRequest.FromString(entry.data)
            self.checkpointing -= {checkpoint.ID for checkpoint in request.lease_checkpoint.checkpoints}
        waiting = self._waiting.pop(outcome.request_id, None)
        if waiting is not None:
            self.world.oracle.acknowledged(entry.index, waiting.data)

    def _apply_conf_change(self, node: RawNode, entry: Entry) -> None:
        change = self.members.apply_to(self.machine, entry)
        self.machine.set_conf_state(node.apply_conf_change(change))

    # -- reads

    def _release(self, index: int) -> None:
        reads, self._round, self._round_reads = self._round_reads, None, []
        if self.machine.applied_index >= index:
            self._run(reads, index)
        else:
            self._unapplied_reads.append((index, reads))

    def _release_applied(self) -> None:
        applied = self.machine.applied_index
        due = [waiting for waiting in self._unapplied_reads if waiting[0] <= applied]
        if due:
            self._unapplied_reads = [waiting for waiting in self._unapplied_reads if waiting[0] > applied]
            for index, reads in due:
                self._run(reads, index)

    def _run(self, reads: list[Read], index: int) -> None:
        for read in reads:
            self.world.oracle.read(index, read.floor)
            self.world.judge.read(self, read.request, self.machine.range(read.request))

    # -- upkeep

    def commit_tables(self) -> None:
        """The tables become durable, with the index they are at."""
        self.machine.checkpoint()
        self.disk.commit()

    def compact_log(self, catch_up_entries: int) -> None:
        """A local snapshot: the tables are committed, the log is needed only from a little before them."""
        node, storage = self.node, self._storage
        assert node is not None
        index = self.machine.applied_index
        # Not while a Ready is written: the log's stable part must hold what was applied.
        if self._ready is not None or node.log.snapshot is not None or not 0 < index <= storage.last_index:
            return
        self.commit_tables()
        snapshot = storage.create_snapshot(index, self.machine.conf_state, b"")
        first = max(storage.first_index - 1, index - catch_up_entries)
        self.disk.compact(snapshot, first)
        storage.compact(first)
        self.world.counts["log compactions"] += 1

    def image(self) -> tuple[Snapshot, Tables]:
        """What goes to a follower that needs compacted entries: the tables as they were last committed."""
        tables = self.snapshot_tables()
        return snapshot_of(tables, b""), tables

    def snapshot_tables(self) -> Tables:
        return {table: dict(rows) for table, rows in self.disk.tables.items()}


MakeMember = Callable[["World", int, Sequence[Entry]], Member]
