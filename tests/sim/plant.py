"""Plants bugs, and sees how many steps the simulation needs to find each; a hunt ends after STEPS_MAX.

python -m tests.sim.plant [NAME...]

A simulation that finds no planted bug proves nothing when it finds none. A bug is another Member (or disk, lessor,
state machine) for the worlds, or a change of the source text of a function while the worlds run; a text that no longer
fits the source is noticed. The product has no switches for any of this.
"""

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

from kvorum.etcdpb.internal_pb2 import InternalRaftRequest
from kvorum.raft import leader
from kvorum.raft.config_change import Configuration
from kvorum.raft.core import RawNode, Ready
from kvorum.raft.log import Log, MemoryStorage
from kvorum.server.lessor import Lessor
from kvorum.state.compaction import Compaction
from kvorum.state.leases import Leases
from kvorum.state.machine import CONSISTENT_INDEX, Machine
from kvorum.state.revisions import Revisions
from kvorum.state.store import KEY, LEASE, META

from tests.sim.disk import MemberDisk, Tables
from tests.sim.member import LessorHost, Member, Read
from tests.sim.run import WORLD_STEPS, Failed, run
from tests.sim.world import Parts

STEPS_MAX = 20_000  # of one hunt: eight worlds, one after the other
WORLDS_MAX = STEPS_MAX // WORLD_STEPS
RARE_WORLDS_MAX = 200


@dataclass(frozen=True, slots=True)
class Change:
    """In the source of function, each text is put in place of another that is there exactly once."""

    function: Callable[..., Any]
    texts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Bug:
    """name says what is wrong."""

    name: str
    changes: tuple[Change, ...] = ()
    member: type[Member] = Member
    is_rare: bool = False  # found by many worlds only; a unit test holds it down


def change(function: Callable[..., Any] | property, *texts: tuple[str, str]) -> Change:
    if isinstance(function, property):
        assert function.fget is not None
        function = function.fget
    return Change(function, texts)


# -- around the core: disks, servers, state machines ------------------------------------------------------------------


class _ForgetsVote(Member):
    class disk_class(MemberDisk):  # noqa: N801 - the attribute it stands for
        def raft_log(self, machine: Machine) -> MemoryStorage:
            raft_log = super().raft_log(machine)
            raft_log.set_hard_state(replace(raft_log.hard_state, vote=0))
            return raft_log


class _ForgetsTerm(Member):
    class disk_class(MemberDisk):  # noqa: N801 - the attribute it stands for
        def raft_log(self, machine: Machine) -> MemoryStorage:
            raft_log = super().raft_log(machine)
            raft_log.set_hard_state(replace(raft_log.hard_state, term=0, vote=0))
            return raft_log


class _AcknowledgesBeforeSync(Member):
    def _begin(self, node: RawNode, ready: Ready) -> None:
        early, ready.messages_after_append = ready.messages_after_append, []
        self.world.oracle.sent_after_append(self, early)
        self.world.send(self, early)
        super()._begin(node, ready)


class _SnapshotDropsLease(Member):
    def snapshot_tables(self) -> Tables:
        tables = super().snapshot_tables()
        if tables[LEASE]:
            tables[LEASE].popitem()
        return tables


class _AppliesTwice(Member):
    class machine_class(Machine):  # noqa: N801 - the attribute it stands for
        def checkpoint(self) -> None:
            """The rows become durable with the index of the entry before."""
            super().checkpoint()
            self._store.put(META, CONSISTENT_INDEX, max(0, self.applied_index - 1).to_bytes(8, "big"))


class _DropsLiveKey(Member):
    class machine_class(Machine):  # noqa: N801 - the attribute it stands for
        def compact_step(self, rows_max: int) -> bool:
            """Of the rows that must stay the oldest goes too."""
            was_pending = self.compaction.pending
            more = super().compact_step(rows_max)
            if was_pending and not more:
                for row_key, _ in self.revisions.slice_of_rows(b"", self.compact_revision, 1):
                    self.revisions.store.delete(KEY, row_key)
            return more


class _FollowersExpire(Member):
    """Who led once goes on counting, and asks whoever leads to revoke."""

    class lessor_class(Lessor):  # noqa: N801 - the attribute it stands for
        def demote(self) -> None:
            pass

    class host_class(LessorHost):  # noqa: N801 - the attribute it stands for
        @property
        def is_leader(self) -> bool:
            return True


class _ExpiryHandedOn(Member):
    """A revocation that the core does not take waits with the clients' proposals for whoever leads next."""

    class host_class(LessorHost):  # noqa: N801 - the attribute it stands for
        def __init__(self, member: Member, raft: RawNode) -> None:
            super().__init__(member, raft)
            self.raft = self

        @property
        def is_leader(self) -> bool:
            return True

        def propose(self, data: list[bytes]) -> bool:
            for entry in data:
                self._member.queue(InternalRaftRequest.FromString(entry).header.ID, entry)
            return True


class _ReadsJoinRound(Member):
    """A read that is asked while a round is under way is answered by it."""

    def _release(self, index: int) -> None:
        self._round_reads += self._reads
        self._reads: list[Read] = []
        super()._release(index)


class _ReadsBeforeApplied(Member):
    """The round's index is not waited for."""

    def _release(self, index: int) -> None:
        reads, self._round, self._round_reads = self._round_reads, None, []
        self.world.oracle.read(self.machine.applied_index, max((read.floor for read in reads), default=0))
        self._run(reads, index)


BUGS = (
    Bug("vote forgotten at restart", member=_ForgetsVote),
    Bug("term forgotten at restart", member=_ForgetsTerm),
    Bug("acknowledgement before fsync", member=_AcknowledgesBeforeSync),
    Bug(
        "entry of an old term committed by counting",
        (change(leader.commit_agreed, (" or log.term(index) != raft.term:", ":")),),
    ),
    Bug(
        "read without a quorum round",
        (
            change(
                leader.begin_read,
                ("if quorum.is_reached(raft.halves, raft.reads.acknowledge(context, raft.id)):", "if True:"),
            ),
        ),
    ),
    Bug(
        "read before the first commit of the term",
        (change(leader.on_read_index, ("if raft.log.term(raft.log.committed) != raft.term:", "if False:")),),
    ),
    Bug(
        "learner counted as voter",
        (change(Configuration.halves, ("else (self.voters,)", "else (self.voters | self.learners,)")),),
    ),
    Bug(
        "two changes in flight",
        (
            change(
                leader.is_change_refused,
                ("if raft.pending_conf_index > raft.log.applied:", "if False:"),
            ),
        ),
    ),
    Bug(
        "quorum of the old configuration only in a joint one",
        (change(Configuration.halves, ("(self.voters, self.voters_outgoing) if", "(self.voters_outgoing,) if")),),
    ),
    Bug(
        "quorum of the new configuration only in a joint one",
        (change(Configuration.halves, ("(self.voters, self.voters_outgoing) if", "(self.voters,) if")),),
    ),
    Bug("snapshot that drops a lease", member=_SnapshotDropsLease),
    Bug("apply twice after restart", member=_AppliesTwice),
    Bug(
        "log truncated past the commit",
        (
            change(
                Log.extend,
                ("position = self._first_difference(entries)", "position = 0"),
            ),
            change(
                Log._truncate,
                (
                    'assert last >= self.committed, f"cannot drop committed entries: {last} < {self.committed}"\n',
                    "pass\n",
                ),
            ),
        ),
    ),
    Bug(
        "append accepted without a match",
        (change(Log.extend, ("if self.term(after) != term:", "if self.term(after) is None:")),),
    ),
    Bug("compaction that drops a live key", member=_DropsLiveKey),
    Bug("lease expired by a follower", member=_FollowersExpire),
)
MORE_BUGS = (  # of which some take more steps on some seeds
    Bug(
        "compaction that drops a live key, of the judge too",
        (change(Compaction._visit, ("if not stays:", "if not stays or sub == 0:")),),
    ),
    Bug("expiry handed on to the next leader", member=_ExpiryHandedOn, is_rare=True),
    Bug(
        "vote not synced",
        (change(RawNode.ready, ("snapshot is not None or is_promise", "snapshot is not None")),),
    ),
    Bug(
        "leader counts its own entries before fsync",
        (
            change(
                RawNode.reply_to_self,
                ("else:", "elif kind is MessageType.APPEND_REPLY:\n        self.step(message)\n    else:"),
            ),
        ),
    ),
    Bug(
        "own vote counted before fsync",
        (
            change(
                RawNode.reply_to_self,
                ("else:", "elif kind is MessageType.VOTE_REPLY:\n        self.step(message)\n    else:"),
            ),
        ),
    ),
    Bug("votes twice in a term", (change(RawNode._on_vote_request, ("self.vote == message.sender\n", "is_vote\n")),)),
    Bug(
        "vote for a log that lacks entries",
        (
            change(
                RawNode._on_vote_request,
                ("if may_vote and self.log.is_up_to_date(message.index, message.log_term):", "if may_vote:"),
            ),
        ),
    ),
    Bug(
        "campaign with a change not applied",
        (
            change(
                RawNode._may_begin_campaign,
                ("elif self.log.has_unapplied_conf_change():", "elif False:"),
            ),
        ),
        is_rare=True,
    ),
    Bug(
        "conflicting entries kept",
        (
            change(
                Log._first_difference,
                ("if self.term(entry.index) != entry.term:", "if entry.index > self.last_index:"),
            ),
        ),
    ),
    Bug(
        "commit index of a heartbeat not held back",
        (
            change(
                leader.broadcast_heartbeat,
                ("commit = min(progress.match, raft.log.committed)", "commit = raft.log.committed"),
            ),
        ),
    ),
    Bug("read that joins a round under way", member=_ReadsJoinRound),
    Bug("read that does not wait for its index", member=_ReadsBeforeApplied),
    Bug(
        "key stays attached to its old lease",
        (change(Revisions.put, ("if old is not None and old[4]:", "if False:")),),
    ),
    Bug(
        "lease granted again at each load",
        (change(Leases.load, ("max(row.TTL, self._ttl_min_s)", "row.TTL + 1")),),
    ),
    Bug(
        "another leader's entries sent from the cache",
        (change(RawNode._reset, ("self._sent_slice = (0, 0, ())", "pass")),),
        is_rare=True,
    ),
    Bug(
        "torn write hides a committed change",
        (change(RawNode.__init__, ("self.log.commit(self.log.index_committed_by_rule())\n", "pass\n")),),
        is_rare=True,
    ),
)


# -- planting and hunting ---------------------------------------------------------------------------------------------


@contextmanager
def _changed(what: Change) -> Iterator[None]:
    """The function has other code as long as this lasts, wherever it is referred to."""
    function = what.function
    assert isinstance(function, FunctionType)
    source = textwrap.dedent(inspect.getsource(function))
    for old, new in what.texts:
        if source.count(old) != 1:
            raise ValueError(f"{source.count(old)} times in {function.__qualname__}: {old!r}")
        source = source.replace(old, new)
    names: dict[str, Any] = {}
    exec(compile(source.removeprefix("@property\n"), function.__qualname__, "exec"), dict(function.__globals__), names)
    before = function.__code__
    function.__code__ = names[function.__name__].__code__
    try:
        yield
    finally:
        function.__code__ = before


@contextmanager
def planted(bug: Bug) -> Iterator[Parts]:
    """What the worlds are to be made of while the bug is in. Raises ValueError if it does not fit the source."""
    with ExitStack() as stack:
        for what in bug.changes:
            stack.enter_context(_changed(what))
        yield Parts(member=bug.member)


@dataclass(frozen=True, slots=True)
class Find:
    """steps: of all worlds until then. seed: of the world that failed."""

    seed: int
    steps: int
    kind: str
    text: str


def hunt(bug: Bug, first_seed: int = 1) -> Find | None:
    """Worlds, one seed after the other, until one fails. None: not found within STEPS_MAX.

    Raises Failed if the same world fails without the bug: then something else was found.
    """
    found = _first_failure(bug, first_seed)
    if found is not None:
        run(found.seed, WORLD_STEPS)
    return found


def _first_failure(bug: Bug, first_seed: int) -> Find | None:
    steps = 0
    with planted(bug) as parts:
        for seed in range(first_seed, first_seed + (RARE_WORLDS_MAX if bug.is_rare else WORLDS_MAX)):
            try:
                run(seed, WORLD_STEPS, parts)
            except Failed as failed:
                return Find(seed, steps + failed.steps, failed.kind, failed.text)
            steps += WORLD_STEPS
    return None


def main(arguments: list[str]) -> int:
    missed = 0
    for bug in (*BUGS, *MORE_BUGS):
        if not arguments or bug.name in arguments:
            found = hunt(bug)
            missed += found is None and not bug.is_rare
            said = "NOT FOUND" if found is None else f"{found.steps:6} steps: {found.kind}"
            print(f"{bug.name:52} {said}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
