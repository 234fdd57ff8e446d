"""A member at work: requests become entries, entries become durable, committed ones are applied and answered.

Hot path: budget 20 us a put; `make bench`. Everything that arrives within one turn of the event loop is gathered: one
proposal to the core, one write to the log, one frame to each follower, one ReadIndex round for all waiting reads.

The order that keeps promises (Raft paper 5; etcd's issue 14370): a leader's appends may leave before its own disk is
done, every vote, acknowledgement and answer only after. One Ready is in work at a time; what arrives meanwhile waits
for the next.

Here is the order; what has a state of its own stands beside it: log_writer, commits, reads, snapshots, and the rest.
"""

import gc
import logging
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence

from kvorum.raft import change_codec
from kvorum.raft.core import RawNode, Ready, Role
from kvorum.raft.log import MemoryStorage
from kvorum.raft.message import NONE, ConfChange, Entry, EntryType, Message
from kvorum.server.answer import WAITING_MAX, Answer
from kvorum.server.auto_compaction import AutoCompaction
from kvorum.server.callers import Callers
from kvorum.server.commits import Commits
from kvorum.server.compaction import Compaction
from kvorum.server.full_disk import FullDisk
from kvorum.server.header import RequestIds, ResponseHeader
from kvorum.server.leader_bound import LeaderBoundStreams
from kvorum.server.lessor import Lessor
from kvorum.server.log_writer import LogWriter
from kvorum.server.passwords import Passwords
from kvorum.server.peers import Peers
from kvorum.server.quota import Quota
from kvorum.server.reads import Reads
from kvorum.server.settings import Settings
from kvorum.server.snapshots import Snapshots
from kvorum.server.tasks import Tasks
from kvorum.server.tokens import Tokens
from kvorum.server.tokens_simple import TTL_DEFAULT_S, SimpleTokens
from kvorum.server.v2 import V2
from kvorum.server.watch_hub import WatchHub
from kvorum.state import refusal
from kvorum.state.machine import Machine
from kvorum.state.refusal import Refusal
from kvorum.storage.lmdb_store import LmdbStore
from kvorum.storage.snapshot_files import SnapshotFiles
from kvorum.storage.wal import Wal

log = logging.getLogger(__name__)

STARTING_ELECTIONS = 3  # timeouts without a leader after which a member that starts says that there is no quorum

LEASE_TAGS = b"\x42\x4a"  # first bytes of the entries that grant and revoke leases
NORMAL = int(EntryType.NORMAL)


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
        tokens: Tokens | None = None,
    ) -> None:
        """on_fatal: a disk failed. on_answered: many calls may have been answered, so what they wrote can leave now.

        on_retired: this member is none any more. free_bytes: see FullDisk. tokens: simple ones, if not given.
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
        self.reads = Reads(self)
        self.log_writer = LogWriter(self, wal)
        self.commits = Commits(self, on_fatal)
        self.compaction = Compaction(self)
        self.snapshots = Snapshots(self, raft_log, files)
        self.auto_compaction = AutoCompaction(self)
        self.full_disk = FullDisk(self, free_bytes)
        self.quota = Quota(self)
        self.leader_bound = LeaderBoundStreams(self)
        self.tasks = Tasks(self)
        self.v2 = V2(self)
        self.callers = Callers(self, SimpleTokens(loop.time, TTL_DEFAULT_S) if tokens is None else tokens)
        self.passwords = Passwords(settings.bcrypt_cost)
        self.on_role_change: list[Callable[[], None]] = []
        self.leader_changes = 0
        self.proposals_failed = 0
        self.slow_applies = 0
        self.late_heartbeats = 0  # as leader: more than two intervals after the one before (etcd's bound)
        self.removed = False
        self.ready = False  # the cluster knows this member's name and URLs; set by who tells it
        self.stopping = False
        self.ticks = 0
        self.leader_lost_tick = 0

        wal.write(raft_log.hard_state, ())  # what is applied is committed, which a crash can make a log forget
        self._on_fatal = on_fatal
        self._on_answered = on_answered
        self._on_retired = on_retired
        self._waiting: dict[int, tuple[Answer, int]] = {}
        self._proposed: list[bytes] = []
        self._proposed_ids: list[int] = []
        self._flush_scheduled = False
        self._next_tick = 0.0
        self._stopped = False
        self._timeout_ticks = settings.request_timeout_ms // settings.heartbeat_ms

    # -- requests ------------------------------------------------------------------------------------------------

    def propose(self, payload: bytes, answer: Answer, named: bytes = b"") -> None:
        """Takes a request through the log; answers it once this member has applied it.

        payload: an encoded InternalRaftRequest without its header. named: who asks, if that counts
        (Callers.header_tail). The answer may be a timeout, and the request may then still be applied: nobody can know.
        """
        request_id = self.ids.next()
        data = payload + self.ids.header_field(request_id, named)
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
        if not self.raft.propose_conf_change(change_codec.encode(change)):
            del self._waiting[change.id]
            answer.fail(refusal.NO_LEADER.code, refusal.NO_LEADER.text)
        self.schedule_flush()

    def read(self, run: Callable[["Server", Answer], None], answer: Answer) -> None:
        """Calls run(server, answer) once everything that was acknowledged anywhere before now is applied here."""
        self.reads.add(run, answer)
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
        self.work_off()

    def transfer_leadership(self, to: int) -> None:
        self.raft.transfer_leader(to)
        self.schedule_flush()

    def forget_leader(self) -> None:
        """Follows nobody until a leader is heard of: the one so far is known to be gone."""
        self.raft.forget_leader()
        self.schedule_flush()

    def campaign(self) -> None:
        """Tries to become leader now."""
        self.raft.campaign()
        self.schedule_flush()

    def retire(self) -> None:
        """This member was removed from the cluster: it votes, answers and proposes no more, and says so when asked."""
        if self.removed:
            return
        self.removed = True
        log.error("this member was removed from the cluster; delete its data directory before it is added again")
        self.lessor.demote()
        self.callers.stop()
        self.v2.end_all()
        self._fail_all(refusal.STOPPED)
        for member in self.machine.membership.members:
            self.peers.remove_peer(member.id)
        self._on_retired()

    def _fail_all(self, why: Refusal) -> None:
        """Nobody may be left waiting for an answer that cannot come."""
        answers = [answer for answer, _ in self._waiting.values()] + self.reads.give_up()
        self._waiting.clear()
        self._proposed, self._proposed_ids = [], []
        for answer in answers:
            answer.fail(why.code, why.text)

    def die(self, error: BaseException) -> None:
        """Something is half done, and this member must not speak to anybody again: the process ends."""
        self._stopped = True
        self._on_fatal(error)

    def call_threadsafe(self, callback: Callable[..., None], *args: object) -> None:
        """From another thread: calls back on the loop, unless that is over."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(callback, *args)

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

    def schedule_flush(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self.removed:
            self._fail_all(refusal.STOPPED)  # asked for since it retired
        if self._stopped or self.removed:
            return
        if (self._proposed or self.reads.waiting) and self._leader_in_reach():
            # While leadership moves the core drops proposals: they stay for the next leader.
            if self._proposed and self.raft.propose(self._proposed):
                self._proposed = []
                self._proposed_ids = []
            if self.reads.waiting:
                self.reads.begin_round()
        self.work_off()

    def _leader_in_reach(self) -> bool:
        """Whether it makes sense to ask the leader now. What is sent to one that just died would be lost, and nobody
        may send it twice; kept here it goes to the next one."""
        leader = self.raft.leader
        return leader == self.member_id or (leader != NONE and self.peers.active_since(leader) is not None)

    def work_off(self, durable: Ready | None = None) -> None:
        """Works off what the core has ready. durable: a Ready whose sync in the other thread has just ended.

        Whatever goes wrong here ends the process: a disk that failed, an entry that cannot be applied, a broken
        invariant. Half done, this member must not speak to anybody again.
        """
        try:
            self._work(durable)
        except Exception as error:  # noqa: BLE001 - the outermost edge, wherever the turn of the loop began
            self.die(error)

    def _work(self, durable: Ready | None) -> None:
        raft, log_writer, commits = self.raft, self.log_writer, self.commits
        if durable is not None:
            self._persisted(durable)
        if log_writer.held is not None and (held := log_writer.retry_held()) is not None:
            self._persisted(held)
        while not (log_writer.taken or log_writer.wanted_count or log_writer.held is not None or self._stopped):
            if (commits.has_failed and commits.is_crammed) or not raft.has_ready():
                break
            ready = raft.ready()
            if ready.soft_state is not None:
                self._role_changed()
            if ready.hard_state is not None:
                self.header.set_term(raft.term)
            if ready.messages:
                self.peers.send(ready.messages)
            if ready.snapshot is not None:
                log_writer.take()
                self.tasks.run(self._install(ready))
                return
            if log_writer.make_durable(ready):
                self._persisted(ready)

    @property
    def wants_space(self) -> bool:
        """Whether something could not be written for want of it, and waits."""
        return self.log_writer.wants_space or self.commits.has_failed

    def _persisted(self, ready: Ready) -> None:
        if ready.messages_after_append:
            self.peers.send(ready.messages_after_append)
        if ready.committed:
            self._apply(ready.committed)
        for state in ready.read_states:
            self.reads.confirmed(state)
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
        if machine.auth.news:
            self.callers.hear(machine.auth.take_news())
        events = machine.take_events()
        if events:
            self.watches.publish(events)
        if machine.v2.changes:
            self.v2.publish(machine.v2.take_changes())
        if machine.wants_no_space_alarm:
            machine.wants_no_space_alarm = False
            self.quota.raise_alarm()
        if machine.compaction.pending:
            self.compaction.begin()
        if self.reads.unapplied:
            self.reads.run_applied()
        if self.callers.has_held:
            self.callers.applied()
        self._on_answered()
        took = time.perf_counter() - started
        if took > self.settings.warning_apply_s:
            self.slow_applies += 1
            log.warning("apply request took too long", extra={"took_s": round(took, 6), "entries": len(entries)})
        if self.store.pending_count >= self.settings.commit_rows_max:
            self.commits.begin_if_due()

    def _apply_conf_change(self, entry: Entry) -> None:
        wanted = change_codec.decode_single(entry.data)
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

    # -- time ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to tick. The loop must be running."""
        if self.member_id in self.machine.membership.removed:
            self.retire()
        if self.settings.election_tick_advance:
            self._advance_election()
        self._next_tick = self.loop.time() + self.settings.heartbeat_ms / 1000
        self.loop.call_at(self._next_tick, self._tick)
        self.schedule_flush()

    def _advance_election(self) -> None:
        """A lone voter need not wait for a leader that cannot exist; others leave two ticks for one to speak up."""
        ticks = self.settings.election_ticks - (1 if len(self.machine.membership.members) <= 1 else 2)
        for _ in range(max(0, ticks)):
            self.raft.tick()

    def _tick(self) -> None:
        if self._stopped:
            return
        heartbeat_s = self.settings.heartbeat_ms / 1000
        if self.is_leader and self.loop.time() - self._next_tick > heartbeat_s:
            self.late_heartbeats += 1
        # After a pause (a stopped process, a starved machine) one tick is made, not all that were missed: a burst would
        # call an election against a leader whose messages are still unread in our buffers.
        self._next_tick = max(self._next_tick + heartbeat_s, self.loop.time() + heartbeat_s / 2)
        self.loop.call_at(self._next_tick, self._tick)
        self.ticks += 1
        if self.removed:
            self.commits.begin_if_due()
            return
        self.raft.tick()
        self._expire_waiting()
        self.reads.expire(self.ticks - self._timeout_ticks)
        self.lessor.tick()
        self.v2.tick()
        self.watches.tick()
        self.auto_compaction.tick()
        self.leader_bound.tick()
        self.full_disk.tick()
        self.callers.tick()
        self.commits.begin_if_due()
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
        self.schedule_flush()

    # -- snapshots -----------------------------------------------------------------------------------------------

    def snapshot_sent(self, to: int, arrived: bool) -> None:
        self.raft.report_snapshot(to, arrived)
        if not arrived:
            self.raft.report_unreachable(to)
        self.schedule_flush()

    async def _install(self, ready: Ready) -> None:
        """A leader's snapshot takes the place of everything. The log is taken, which holds back all other work."""
        assert ready.snapshot is not None
        await self.commits.take()
        arrived = await self.snapshots.save_arrived(ready.snapshot)
        await self.log_writer.write_received(ready)
        replaced = self.store
        self._take_over(arrived.machine, arrived.store)
        replaced.close()
        await self.snapshots.swap_in(arrived)
        self.commits.give_back()
        self.log_writer.give_back()
        self.work_off(ready)

    def _take_over(self, machine: Machine, store: LmdbStore) -> None:
        """From here on everybody reads the new state."""
        before = self.machine
        self.machine, self.store = machine, store
        self.commits.all_durable()
        self.lessor.demote()
        for member in before.membership.members:
            if machine.membership.find(member.id) is None:
                self.peers.remove_peer(member.id)
        for member in machine.membership.members:
            if member.id != self.member_id:
                self.peers.add_peer(member.id, member.peer_urls)
        self.callers.replaced()
        self.watches.restored(told_revision=before.revision)
        self.v2.restored(told_index=before.v2.index)
        gc.freeze()  # as after the start: the collector need not walk all of it again
        self.reads.run_applied()
        if machine.compaction.pending:
            self.compaction.begin()

    def stop(self) -> None:
        """Commits and closes; nothing is answered afterwards."""
        if self._stopped:
            return
        self._stopped = True
        self.tasks.cancel()
        self.callers.stop()
        self.passwords.stop()
        self.log_writer.stop()
        self.snapshots.stop()
        self.commits.stop()
        self._fail_all(refusal.STOPPED)
        self.log_writer.close()
        self.store.close()
