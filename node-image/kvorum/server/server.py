"""A member at work: requests become entries, entries become durable, committed ones are applied and answered.

Hot path: budget 20 us a put; `make bench`. Everything that arrives within one turn of the event loop is gathered: one
proposal to the core, one write to the log, one frame to each follower, one ReadIndex round for all waiting reads.

The order that keeps promises (Raft paper 5; etcd's issue 14370): a leader's appends may leave before its own disk is
done, every vote, acknowledgement and answer only after. One Ready is in work at a time; what arrives meanwhile waits
for the next.
"""

import asyncio
import gc
import logging
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

from kvorum.etcdpb.rpc_pb2 import AlarmType, LeaseGrantRequest, PutRequest, TxnRequest
from kvorum.raft.core import RawNode, Ready, Role
from kvorum.raft.log import MemoryStorage
from kvorum.raft.message import NONE, ConfChange, Entry, EntryType, Message, Snapshot
from kvorum.server.answer import Answer, Done
from kvorum.server.auto_compaction import AutoCompaction
from kvorum.server.full_disk import FullDisk
from kvorum.server.header import RequestIds, ResponseHeader
from kvorum.server.histogram import Histogram
from kvorum.server.lessor import Lessor
from kvorum.server.peers import Peers
from kvorum.server.settings import Settings
from kvorum.server.snapshots import Snapshots, insist
from kvorum.server.watch_hub import WatchHub
from kvorum.state import refusal
from kvorum.state.hash_kv import Hashing, KeySpaceHash
from kvorum.state.machine import Machine, space_of
from kvorum.state.refusal import Refusal
from kvorum.state.row import varint
from kvorum.storage.entry_codec import decode_conf_change, encode_conf_change
from kvorum.storage.fault import CorruptStore, NoSpace, StorageFault
from kvorum.storage.lmdb_store import LmdbStore
from kvorum.storage.snapshot_files import SnapshotFiles
from kvorum.storage.wal import Wal

log = logging.getLogger(__name__)

WAITING_MAX = 50_000  # proposals without an answer, and as many reads (etcd: 5,000 entries committed, not applied)
PENDING_ROWS_MAX = 20_000  # that find no space in the tables: each try to write them holds up the loop, for 100 ms here
SYNC_INLINE_S = 0.002  # a faster disk is waited for on the loop: a thread and back costs 90 us, on a busy machine 300
READ_RETRY_MS = 500  # etcd's: a ReadIndex round whose messages were lost is asked again
STARTING_ELECTIONS = 3  # timeouts without a leader after which a member that starts says that there is no quorum
SPACE_RETRY_S = 0.5  # until a commit that found no space is tried again
COMPACT_ROWS_A_SLICE = 500  # about 2 ms of the loop
HASH_ROWS_A_SLICE = 1000  # the same
COMMIT_RETRY_S = 0.1

LEASE_TAGS = b"\x42\x4a"  # first bytes of the entries that grant and revoke leases
NORMAL = int(EntryType.NORMAL)

Read = tuple[Callable[["Server", Answer], None], Answer, int]


class LeaderBound(Protocol):
    """A stream whose client asked (metadata `hasleader`) to be told when there is no leader."""

    def refuse_leaderless(self) -> None: ...


class Server:
    """One member. Owned by one event loop; two threads do nothing but wait for disks."""

    def __init__(
        self,
        *,
        member_id: int,
        cluster_id: int,
        cluster_token: str,
        settings: Settings,
        raft: RawNode,
        raft_log: MemoryStorage,
        wal: Wal,
        store: LmdbStore,
        machine: Machine,
        files: SnapshotFiles,
        peers: Peers,
        loop: AbstractEventLoop,
        on_fatal: Callable[[BaseException], None],
        on_answered: Callable[[], None] = lambda: None,
        on_retired: Callable[[], None] = lambda: None,
        free_bytes: Callable[[], int] = lambda: 1 << 40,
    ) -> None:
        """on_fatal: a disk failed. on_answered: many calls may have been answered, so what they wrote can leave now.

        on_retired: this member is none any more. free_bytes: see FullDisk.
        """
        self.member_id = member_id
        self.cluster_id = cluster_id
        self.cluster_token = cluster_token
        self.settings = settings
        self.raft = raft
        self.machine = machine
        self.store = store
        self.peers = peers
        self.loop = loop
        self.header = ResponseHeader(cluster_id, member_id)
        self.header.set_term(raft.term)
        self.ids = RequestIds(member_id, time.time_ns() // 1_000_000)
        self.watches = WatchHub(self)
        self.lessor = Lessor(self)
        self.snapshots = Snapshots(self, raft_log, files)
        self.auto_compaction = AutoCompaction(self)
        self.full_disk = FullDisk(self, free_bytes)
        self.on_role_change: list[Callable[[], None]] = []
        self.leader_changes = 0
        self.proposals_failed = 0
        self.slow_reads = 0
        self.slow_applies = 0
        self.removed = False
        self.ready = False  # the cluster knows this member's name and URLs; set by who tells it
        self.stopping = False
        self.ticks = 0
        self.leader_lost_tick = 0
        self.sync_seconds = Histogram()
        self.commit_seconds = Histogram()

        self._wal = wal
        wal.write(raft_log.hard_state, ())  # what is applied is committed, which a crash can make a log forget
        self._on_fatal = on_fatal
        self._on_answered = on_answered
        self._on_retired = on_retired
        self._held: Ready | None = None  # found no space in the log; nothing else goes on before it
        self._held_tick = 0
        self._commit_failed = False  # for want of space: its rows are pending again
        self._waiting: dict[int, tuple[Answer, int]] = {}
        self._proposed: list[bytes] = []
        self._proposed_ids: list[int] = []
        self._reads: list[Read] = []
        self._round: set[bytes] | None = None  # contexts of the ReadIndex round on its way
        self._round_reads: list[Read] = []
        self._round_tick = 0
        self._unapplied_reads: list[tuple[int, list[Read]]] = []
        self._flush_scheduled = False
        self._syncing = False
        self._log_wanted = 0  # who waits to write to the log between two Readys
        self._sync_ended = asyncio.Event()  # of one in the other thread
        self._sync_average_s = 0.0
        self._disk = ThreadPoolExecutor(1, "wal")
        self._committer = ThreadPoolExecutor(1, "store")
        self._commit_ended = asyncio.Event()
        self._commit_ended.set()
        self._commit_due = 0.0
        self._committed_index = machine.applied_index  # by the last commit, be it still under way
        self._durable_index = machine.applied_index
        self._compacting = False
        self._when_compacted: list[Callable[[], None]] = []
        self._raising_alarm = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._leader_bound: set[LeaderBound] = set()
        self._refuses_users = False  # authentication was on when last looked
        self._next_tick = 0.0
        self._stopped = False
        self._timeout_ticks = settings.request_timeout_ms // settings.heartbeat_ms
        self._read_retry_ticks = max(1, READ_RETRY_MS // settings.heartbeat_ms)

    # -- requests ------------------------------------------------------------------------------------------------

    def propose(self, payload: bytes, answer: Answer) -> None:
        """Takes a request through the log; answers it once this member has applied it.

        payload: an encoded InternalRaftRequest without its header. The answer may be a timeout, and the request may
        then still be applied: nobody can know.
        """
        request_id = self.ids.next()
        data = payload + self.ids.header_field(request_id)
        if len(data) > self.settings.request_bytes_max:
            answer.fail(refusal.REQUEST_TOO_LARGE.code, refusal.REQUEST_TOO_LARGE.text)
        elif len(self._waiting) >= WAITING_MAX:
            answer.fail(refusal.TOO_MANY_REQUESTS.code, refusal.TOO_MANY_REQUESTS.text)
        else:
            self.propose_entry(request_id, data, answer)

    def propose_entry(self, request_id: int, data: bytes, answer: Answer) -> None:
        """The same for an entry that carries its id itself (a v2 Request)."""
        self._waiting[request_id] = (answer, self.ticks)
        self._proposed.append(data)
        self._proposed_ids.append(request_id)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self.loop.call_soon(self._flush)

    def propose_conf_change(self, change: ConfChange, answer: Answer) -> None:
        """change.id comes from `ids`. Answered when this member has applied it."""
        self._waiting[change.id] = (answer, self.ticks)
        if not self.raft.propose_conf_change(encode_conf_change(change)):
            del self._waiting[change.id]
            answer.fail(refusal.NO_LEADER.code, refusal.NO_LEADER.text)
        self._schedule_flush()

    def read(self, run: Callable[["Server", Answer], None], answer: Answer) -> None:
        """Calls run(server, answer) once everything that was acknowledged anywhere before now is applied here."""
        if len(self._reads) >= WAITING_MAX:
            answer.fail(refusal.TOO_MANY_REQUESTS.code, refusal.TOO_MANY_REQUESTS.text)
            return
        self._reads.append((run, answer, self.ticks))
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self.loop.call_soon(self._flush)

    def step(self, messages: Sequence[Message]) -> None:
        """Messages from other members."""
        if self._stopped or self.removed:
            return
        step = self.raft.step
        for message in messages:
            step(message)
        # At once and not with the tick's proposals: it needs no sync, so it splits no batch, and an acknowledgement
        # that waits costs a client a turn of the loop (100 us of CPU a put over three members, 1 stream).
        self._pump()

    def transfer_leadership(self, to: int) -> None:
        self.raft.transfer_leader(to)
        self._schedule_flush()

    def forget_leader(self) -> None:
        """Follows nobody until a leader is heard of: the one so far is known to be gone."""
        self.raft.forget_leader()
        self._schedule_flush()

    def campaign(self) -> None:
        """Tries to become leader now."""
        self.raft.campaign()
        self._schedule_flush()

    def retire(self) -> None:
        """This member was removed from the cluster: it votes, answers and proposes no more, and says so when asked."""
        if self.removed:
            return
        self.removed = True
        log.error("this member was removed from the cluster; delete its data directory before it is added again")
        self.lessor.demote()
        self._fail_all(refusal.STOPPED)
        for member in self.machine.membership.members:
            self.peers.remove_peer(member.id)
        self._on_retired()

    def _fail_all(self, why: Refusal) -> None:
        """Nobody may be left waiting for an answer that cannot come."""
        unapplied = [read for _, reads in self._unapplied_reads for read in reads]
        answers = [answer for answer, _ in self._waiting.values()]
        answers += [answer for _, answer, _ in (*self._reads, *self._round_reads, *unapplied)]
        self._waiting.clear()
        self._proposed, self._proposed_ids = [], []
        self._reads, self._round_reads, self._round, self._unapplied_reads = [], [], None, []
        for answer in answers:
            answer.fail(why.code, why.text)

    def when_compacted(self, done: Callable[[], None]) -> None:
        """Calls done when no removed revision is left on disk."""
        if self.machine.compaction.pending:
            self._when_compacted.append(done)
        else:
            done()

    def refuses_for_space(self, request: PutRequest | TxnRequest | LeaseGrantRequest) -> Refusal | None:
        """NO_SPACE when the store has outgrown its quota, which asks the cluster to raise the alarm; or the disk is
        full, which is this member's own business."""
        if self.full_disk.is_full:
            return refusal.NO_SPACE if space_of(request) else None
        refused = self.machine.refuses_for_space(request)
        if refused is not None:
            self.raise_alarm_nospace()
        return refused

    def raise_alarm_nospace(self) -> None:
        """Once for each time the quota is crossed: every member must hear of it, and an operator must clear it."""
        if self._raising_alarm or self.machine.alarms.is_active(AlarmType.NOSPACE):
            return
        self._raising_alarm = True

        def raised(refused: Refusal | None) -> None:
            self._raising_alarm = False

        body = b"\x08\x01\x10" + varint(self.member_id) + b"\x18\x01"
        self.propose(b"\x52" + varint(len(body)) + body, Done(raised))

    def spawn(self, work: Coroutine[Any, Any, None], answer: Answer) -> "asyncio.Task[None]":
        """Runs what must wait for another member or for the disk, for a call that is answered there."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._task_done(task, answer))
        return task

    def _task_done(self, task: "asyncio.Task[None]", answer: Answer) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            if isinstance(error, CorruptStore):
                self._stopped = True
                self._on_fatal(error)
            log.error("a request failed", exc_info=error)
            answer.fail(13, "kvorum: internal error, see the member's log")

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs what belongs to no request. Whatever goes wrong in it ends the process."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._work_done)

    def _work_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._stopped = True
            self._on_fatal(error)

    def stream_opened(self, stream: LeaderBound) -> None:
        """A stream whose client wants to hear of it when there is no leader."""
        self._leader_bound.add(stream)

    def stream_closed(self, stream: LeaderBound) -> None:
        self._leader_bound.discard(stream)

    def _end_leaderless(self) -> None:
        if self.raft.leader == NONE and self.ticks - self.leader_lost_tick > 3 * self.settings.election_ticks:
            for stream in list(self._leader_bound):
                stream.refuse_leaderless()

    @property
    def stopped(self) -> bool:
        """Nothing is to be asked of the machine or the store any more."""
        return self._stopped

    @property
    def waiting_count(self) -> int:
        """Proposals without an answer."""
        return len(self._waiting)

    @property
    def is_learner(self) -> bool:
        member = self.machine.membership.find(self.member_id)
        return member is not None and member.is_learner

    @property
    def is_starting(self) -> bool:
        """It has not been ready yet, nor has there been the time for an election or two."""
        return not self.ready and self.ticks <= STARTING_ELECTIONS * self.settings.election_ticks

    @property
    def is_leader(self) -> bool:
        return self.raft.role is Role.LEADER

    # -- one turn of the loop ------------------------------------------------------------------------------------

    def _schedule_flush(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self.removed:
            self._fail_all(refusal.STOPPED)  # asked for since it retired
        if self._stopped or self.removed:
            return
        if (self._proposed or self._reads) and self._leader_in_reach():
            # While leadership moves the core drops proposals: they stay for the next leader.
            if self._proposed and self.raft.propose(self._proposed):
                self._proposed = []
                self._proposed_ids = []
            if self._reads and self._round is None:
                self._start_round()
        self._pump()

    def _leader_in_reach(self) -> bool:
        """Whether it makes sense to ask the leader now. What is sent to one that just died would be lost, and nobody
        may send it twice; kept here it goes to the next one."""
        leader = self.raft.leader
        return leader == self.member_id or (leader != NONE and self.peers.active_since(leader) is not None)

    def _start_round(self) -> None:
        context = self.ids.next().to_bytes(8, "big")
        if self.raft.read_index(context):
            self._round = {context}
            self._round_reads = self._reads
            self._round_tick = self.ticks
            self._reads = []

    def _pump(self, durable: Ready | None = None) -> None:
        """Works off what the core has ready. durable: a Ready whose sync in the other thread has just ended.

        Whatever goes wrong here ends the process: a disk that failed, an entry that cannot be applied, a broken
        invariant. Half done, this member must not speak to anybody again.
        """
        try:
            self._work(durable)
        except Exception as error:  # noqa: BLE001 - the outermost edge, wherever the turn of the loop began
            self._stopped = True
            self._on_fatal(error)

    def _work(self, durable: Ready | None) -> None:
        if durable is not None:
            self._persisted(durable)
        if self._held is not None and not self._syncing and self.ticks > self._held_tick:
            held, self._held = self._held, None
            self._make_durable(held)
        raft = self.raft
        while not (self._syncing or self._log_wanted or self._held is not None or self._stopped or self._is_crammed):
            if not raft.has_ready():
                break
            ready = raft.ready()
            if ready.soft_state is not None:
                self._role_changed()
            if ready.hard_state is not None:
                self.header.set_term(raft.term)
            if ready.messages:
                self.peers.send(ready.messages)
            if ready.snapshot is not None:
                self._syncing = True
                self.run(self._install(ready))
                return
            self._make_durable(ready)

    @property
    def _is_crammed(self) -> bool:
        """The tables find no space, though the log does: what is applied is held in memory, and not without end."""
        return self._commit_failed and self.store.pending_count >= PENDING_ROWS_MAX

    def _make_durable(self, ready: Ready) -> None:
        try:
            self._wal.write(ready.hard_state, ready.entries)
        except NoSpace as full:
            # Nothing of it was promised to anybody yet: once a tick it is tried again.
            self._held, self._held_tick = ready, self.ticks
            self.full_disk.note(full)
            return
        if not ready.must_sync:
            self._persisted(ready)
        elif self._sync_average_s < SYNC_INLINE_S:
            self._sync()
            self._persisted(ready)
        else:
            self._syncing = True
            self._disk.submit(self._sync).add_done_callback(partial(self._call_threadsafe, self._synced, ready))

    @property
    def wants_space(self) -> bool:
        """Whether something could not be written for want of it, and waits."""
        return self._held is not None or self._commit_failed or self._wal.is_short_of_space

    def find_log_space(self) -> bool:
        """Tries to begin the segment of the log that found no space. Whether the log has all it needs."""
        if self._wal.is_short_of_space and not self._syncing:
            self._wal.find_space()
        return not self._wal.is_short_of_space

    def _call_threadsafe(self, callback: Callable[..., None], *args: object) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(callback, *args)

    def _sync(self) -> None:
        started = time.perf_counter()
        self._wal.sync()
        took = time.perf_counter() - started
        self.sync_seconds.observe(took)
        self._sync_average_s += (took - self._sync_average_s) / 16

    def _synced(self, ready: Ready, future: "Future[None]") -> None:
        self._end_sync()
        error = future.exception()
        if error is not None:
            self._stopped = True
            self._on_fatal(error)
        elif not self._stopped:
            self._pump(ready)

    def _persisted(self, ready: Ready) -> None:
        if ready.messages_after_append:
            self.peers.send(ready.messages_after_append)
        if ready.committed:
            self._apply(ready.committed)
        for state in ready.read_states:
            if self._round is not None and state.context in self._round:
                self._release(state.index)
        self.raft.advance()
        if self.machine.applied_index > self.snapshots.due_index:
            self.snapshots.begin()

    # -- applying ------------------------------------------------------------------------------------------------

    def _apply(self, entries: Sequence[Entry]) -> None:
        machine, waiting, encode_header = self.machine, self._waiting, self.header.encode
        started = time.perf_counter()
        for entry in entries:
            if entry.type != NORMAL:
                self._apply_conf_change(entry)
                continue
            outcome = machine.apply(entry, answering=bool(waiting))
            # 500 bytes of the log in memory for a put of 300, not 830. Made anew for a follower that is late.
            entry.encoded = None
            if not entry.data:
                self._term_begun(entry)
                continue
            if entry.data[0] in LEASE_TAGS:
                self.lessor.applied(entry.data)
            waiter = waiting.pop(outcome.request_id, None)
            if waiter is not None:
                if outcome.refusal is None:
                    waiter[0].reply(encode_header(outcome.revision) + outcome.body)
                else:
                    waiter[0].fail(outcome.refusal.code, outcome.refusal.text)
        if machine.auth.enabled is not self._refuses_users:
            self._auth_turned()
        events = machine.take_events()
        if events:
            self.watches.publish(events)
        if machine.wants_no_space_alarm:
            machine.wants_no_space_alarm = False
            self.raise_alarm_nospace()
        if machine.compaction.pending and not self._compacting:
            self._compacting = True
            self.loop.call_soon(self._compact_slice)
        if self._unapplied_reads:
            self._release_applied()
        self._on_answered()
        took = time.perf_counter() - started
        if took > self.settings.warning_apply_s:
            self.slow_applies += 1
            log.warning("apply request took too long", extra={"took_s": round(took, 6), "entries": len(entries)})
        if self.store.pending_count >= self.settings.commit_rows_max:
            self._maybe_commit()

    def _auth_turned(self) -> None:
        """Users cannot be checked here yet: while authentication is on, clients are refused (api.routes), and what they
        opened before ends."""
        self._refuses_users = self.machine.auth.enabled
        if self._refuses_users:
            log.warning(
                "authentication is on: clients are refused here until it is disabled, which only an etcd member of the "
                "cluster can do"
            )
            self.watches.end_all(refusal.AUTH_IS_ON)
        else:
            log.info("authentication is off: clients are served again")

    def _apply_conf_change(self, entry: Entry) -> None:
        wanted = decode_conf_change(entry.data)
        change, refused = self.machine.apply_conf_change(entry, wanted)
        conf_state = self.raft.apply_conf_change(change)
        self.machine.set_conf_state(conf_state)
        if change.node_id != NONE:
            self._members_changed(change.node_id)
        waiter = self._waiting.pop(wanted.id, None)
        if waiter is None:
            return
        if refused is None:
            waiter[0].reply(self.header.encode(0))
        else:
            waiter[0].fail(refused.code, refused.text)

    def _members_changed(self, member_id: int) -> None:
        member = self.machine.membership.find(member_id)
        if member_id == self.member_id:
            if member is None:
                # Not at once: our acknowledgement of this very entry may be the one the others wait for.
                self.loop.call_later(self.settings.heartbeat_ms / 1000, self.retire)
        elif member is None:
            self.peers.remove_peer(member_id)
        else:
            self.peers.add_peer(member_id, member.peer_urls)

    def _term_begun(self, entry: Entry) -> None:
        """The first entry of a leader's term is applied: whatever it owes as leader starts here."""
        if self.is_leader and entry.term == self.raft.term:
            self.lessor.promote()

    def _release(self, index: int) -> None:
        reads = self._round_reads
        self._round = None
        self._round_reads = []
        if self.machine.applied_index >= index:
            self._run_reads(reads)
        else:
            self._unapplied_reads.append((index, reads))
        if self._reads:
            self._schedule_flush()

    def _release_applied(self) -> None:
        applied = self.machine.applied_index
        due = [reads for index, reads in self._unapplied_reads if index <= applied]
        self._unapplied_reads = [waiting for waiting in self._unapplied_reads if waiting[0] > applied]
        for reads in due:
            self._run_reads(reads)

    def _run_reads(self, reads: list[Read]) -> None:
        for run, answer, _ in reads:
            if self.machine.auth.enabled and not isinstance(answer, Done):
                answer.fail(refusal.AUTH_IS_ON.code, refusal.AUTH_IS_ON.text)  # asked before it was turned on
            else:
                run(self, answer)

    def _compact_slice(self) -> None:
        if self._stopped:
            return
        if self.machine.compact_step(COMPACT_ROWS_A_SLICE):
            self.loop.call_later(0.001, self._compact_slice)  # requests that came meanwhile go first
            return
        self._compacting = False
        done, self._when_compacted = self._when_compacted, []
        for callback in done:
            callback()

    # -- time ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to tick. The loop must be running."""
        if self.machine.auth.enabled:
            self._auth_turned()
        if self.member_id in self.machine.membership.removed:
            self.retire()
        if self.settings.election_tick_advance:
            self._advance_election()
        self._next_tick = self.loop.time() + self.settings.heartbeat_ms / 1000
        self.loop.call_at(self._next_tick, self._tick)
        self._schedule_flush()

    def _advance_election(self) -> None:
        """A lone voter need not wait for a leader that cannot exist; others leave two ticks for one to speak up."""
        ticks = self.settings.election_ticks - (1 if len(self.machine.membership.members) <= 1 else 2)
        for _ in range(max(0, ticks)):
            self.raft.tick()

    def _tick(self) -> None:
        if self._stopped:
            return
        heartbeat_s = self.settings.heartbeat_ms / 1000
        # After a pause (a stopped process, a starved machine) one tick is made, not all that were missed: a burst would
        # call an election against a leader whose messages are still unread in our buffers.
        self._next_tick = max(self._next_tick + heartbeat_s, self.loop.time() + heartbeat_s / 2)
        self.loop.call_at(self._next_tick, self._tick)
        self.ticks += 1
        if self.removed:
            self._maybe_commit()
            return
        self.raft.tick()
        self._expire_waiting()
        self._expire_reads()
        self.lessor.tick()
        self.watches.tick()
        self.auto_compaction.tick()
        if self._leader_bound:
            self._end_leaderless()
        self.full_disk.tick()
        self._maybe_commit()
        self._flush()

    def _expire_waiting(self) -> None:
        oldest = self.ticks - self._timeout_ticks
        expired = []
        for request_id, (_, tick) in self._waiting.items():  # in the order they came
            if tick > oldest:
                break
            expired.append(request_id)
        if not expired:
            return
        gone = set(expired)
        if self._proposed:
            keep = [i for i, request_id in enumerate(self._proposed_ids) if request_id not in gone]
            self._proposed = [self._proposed[i] for i in keep]
            self._proposed_ids = [self._proposed_ids[i] for i in keep]
        why = self._timeout_reason()
        self.proposals_failed += len(expired)
        for request_id in expired:
            self._waiting.pop(request_id)[0].fail(why.code, why.text)

    def _expire_reads(self) -> None:
        oldest = self.ticks - self._timeout_ticks
        if self._round is not None and self.ticks - self._round_tick >= self._read_retry_ticks:
            self.slow_reads += 1
            self._round_tick = self.ticks
            context = self.ids.next().to_bytes(8, "big")
            if self.raft.read_index(context):
                self._round.add(context)
        for reads in (self._reads, self._round_reads):
            if reads and reads[0][2] <= oldest:
                expired = [read for read in reads if read[2] <= oldest]
                reads[:] = [read for read in reads if read[2] > oldest]
                for _, answer, _ in expired:
                    answer.fail(refusal.TIMEOUT.code, refusal.TIMEOUT.text)
        if self._round is not None and not self._round_reads:
            self._round = None

    def _timeout_reason(self) -> Refusal:
        if (
            self.leader_lost_tick
            and self.ticks - self.leader_lost_tick <= self._timeout_ticks + self.settings.election_ticks
        ):
            return refusal.TIMEOUT_LEADER_FAILED
        return refusal.TIMEOUT

    def _role_changed(self) -> None:
        raft = self.raft
        if raft.leader == NONE:
            self.leader_lost_tick = self.ticks
        else:
            self.leader_changes += 1
        if not self.is_leader:
            self.lessor.demote()
        log.info(
            "raft role changed", extra={"role": raft.role.name.lower(), "leader": f"{raft.leader:x}", "term": raft.term}
        )
        for callback in self.on_role_change:
            callback()
        self._schedule_flush()

    # -- the store -----------------------------------------------------------------------------------------------

    def _maybe_commit(self) -> None:
        now = self.loop.time()
        is_crowded = self.store.pending_count >= self.settings.commit_rows_max and not self._commit_failed
        if not self._commit_ended.is_set() or (now < self._commit_due and not is_crowded):
            return
        self._commit_due = now + self.settings.commit_interval_ms / 1000
        if self.store.pending_count or self.machine.applied_index > self._committed_index:
            self._begin_commit()

    def _begin_commit(self) -> None:
        """Only what is applied is committed, and only what the own log durably holds is applied."""
        self.machine.checkpoint()
        self._committed_index = self.machine.applied_index
        self._commit_ended.clear()
        commit = self.store.begin_commit()
        index, started = self._committed_index, time.perf_counter()
        self._committer.submit(commit).add_done_callback(
            lambda future: self._call_threadsafe(self._committed, future, index, time.perf_counter() - started)
        )
        commit.wait_filled()

    def _committed(self, future: "Future[None]", index: int, took: float) -> None:
        self.commit_seconds.observe(took)
        error = future.exception()
        self._commit_failed = isinstance(error, NoSpace)
        if error is None:
            self._durable_index = max(self._durable_index, index)
        elif isinstance(error, NoSpace):
            self.store.take_back()
            self._commit_due = self.loop.time() + SPACE_RETRY_S
            self.full_disk.note(error)
        else:
            self._on_fatal(error)
        self._commit_ended.set()

    async def commit(self) -> None:
        """Everything that is applied now is durable in the store once this returns."""
        index = self.machine.applied_index
        while True:
            while not self._commit_ended.is_set():
                await self._commit_ended.wait()
            if self._durable_index >= index or self._stopped:
                return
            if self._committed_index >= index:
                await asyncio.sleep(COMMIT_RETRY_S)  # the last one failed, for want of space
            else:
                self._begin_commit()

    async def defragment(self) -> None:
        """Rewrites the store's file without its free pages. Requests go on; what they write is committed afterwards.

        Raises NoSpace, StoreFailed: the file is as it was.
        """
        await self._take_store()
        store = self.store
        try:
            self.machine.checkpoint()
            copy = self._begin_defragment()
            self._committed_index = self._durable_index = self.machine.applied_index
            try:
                await self.loop.run_in_executor(self._committer, copy)
            finally:
                if not self._stopped:  # the store is closed; what there is of a copy goes when it is opened
                    store.finish_defragment()
        finally:
            self._commit_ended.set()

    def _begin_defragment(self) -> Callable[[], None]:
        try:
            return self.store.begin_defragment()
        except NoSpace:
            raise
        except StorageFault as fault:  # of the commit before it
            self._on_fatal(fault)
            raise

    async def _take_store(self) -> None:
        """Waits for the commit that runs; the next one waits until _commit_ended is set."""
        while not self._commit_ended.is_set():
            await self._commit_ended.wait()
        self._commit_ended.clear()

    # -- snapshots -----------------------------------------------------------------------------------------------

    async def write_mark(self, snapshot: Snapshot) -> None:
        """The log durably mentions a snapshot of this member's own once this returns. Raises NoSpace."""
        await self._log_idle()
        self._wal.write_mark(snapshot)
        self._syncing = True
        await self.loop.run_in_executor(self._disk, self._sync)
        self._end_sync()
        self._pump()

    async def _log_idle(self) -> None:
        """From here to the next await nobody else writes to the log. What was held back for that is _pump's."""
        self._log_wanted += 1
        try:
            while self._syncing:
                await self._sync_ended.wait()
        finally:
            self._log_wanted -= 1

    def _end_sync(self) -> None:
        self._syncing = False
        self._sync_ended.set()
        self._sync_ended = asyncio.Event()

    async def purge_log(self, index: int, keep_count: int) -> None:
        """Gives up segments that nobody needs who starts from a snapshot at index. Raises WalFailed."""
        await self._log_idle()
        self._wal.release(index)
        self._pump()
        await self.loop.run_in_executor(self._disk, self._wal.purge, keep_count)

    def snapshot_sent(self, to: int, arrived: bool) -> None:
        self.raft.report_snapshot(to, arrived)
        if not arrived:
            self.raft.report_unreachable(to)
        self._schedule_flush()

    async def _install(self, ready: Ready) -> None:
        """A leader's snapshot takes the place of everything. _syncing holds back all other work meanwhile."""
        assert ready.snapshot is not None
        await self._take_store()
        arrived = await self.snapshots.save_arrived(ready.snapshot)
        await insist(partial(self._wal.write_received, ready.snapshot))
        await insist(partial(self._wal.write, ready.hard_state, ready.entries))
        await self.loop.run_in_executor(self._disk, self._sync)
        replaced = self.store
        self._take_over(arrived.machine, arrived.store)
        replaced.close()
        await self.snapshots.swap_in(arrived)
        self._commit_ended.set()
        self._end_sync()
        self._pump(ready)

    def _take_over(self, machine: Machine, store: LmdbStore) -> None:
        """From here on everybody reads the new state."""
        before = self.machine
        self.machine, self.store = machine, store
        self._committed_index = self._durable_index = machine.applied_index
        self.lessor.demote()
        for member in before.membership.members:
            if machine.membership.find(member.id) is None:
                self.peers.remove_peer(member.id)
        for member in machine.membership.members:
            if member.id != self.member_id:
                self.peers.add_peer(member.id, member.peer_urls)
        if machine.auth.enabled is not self._refuses_users:
            self._auth_turned()
        self.watches.restored(told_revision=before.revision)
        gc.freeze()  # as after the start: the collector need not walk all of it again
        self._release_applied()
        if machine.compaction.pending and not self._compacting:
            self._compacting = True
            self.loop.call_soon(self._compact_slice)

    async def hash_kv(self, revision: int) -> KeySpaceHash | Refusal:
        """The hash of every row up to revision (0: now), made in slices between requests."""
        found = self.machine.hash_at(revision)
        if not isinstance(found, Hashing):
            return found
        machine = self.machine
        try:
            done = False
            while not done:
                done = found.step(HASH_ROWS_A_SLICE)
                await asyncio.sleep(0)  # lets requests in between
                if self.machine is not machine:
                    return await self.hash_kv(revision)  # a snapshot came meanwhile: these rows are gone
            return found.result
        finally:
            found.close()

    def stop(self) -> None:
        """Commits and closes; nothing is answered afterwards."""
        if self._stopped:
            return
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        self._disk.shutdown(wait=True)
        self._committer.shutdown(wait=True)
        self.snapshots.stop()
        if self.store.may_commit:
            self._commit_last()
        self._fail_all(refusal.STOPPED)
        self._wal.close()
        self.store.close()

    def _commit_last(self) -> None:
        self.machine.checkpoint()
        try:
            self.store.commit()
        except NoSpace as full:
            log.warning("the last commit was left out, the log has it: %s", full)
