"""What the replicated state must be: a state machine of the judge's own, fed with each entry once it is committed.

Members apply the same entries in other batches, with crashes, snapshots and compactions between; at equal index their
states must be equal, down to HashKV. Reads are compared with a history kept apart from the rows, so that a row
that is lost everywhere alike is missed too. Lease promises are counted in true time: LeasePromises.
"""

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kvorum.etcdpb.internal_pb2 import InternalRaftRequest
from kvorum.etcdpb.rpc_pb2 import RangeRequest, RangeResponse
from kvorum.raft.message import ConfState, Entry, EntryType
from kvorum.state.alarms import Mode
from kvorum.state.dict_store import DictStore
from kvorum.state.hash_kv import Hashing, KeySpaceHash
from kvorum.state.machine import Machine, Outcome
from kvorum.state.membership import Member as MemberRow
from kvorum.state.refusal import COMPACTED, Refusal
from kvorum.state.store import AUTH, AUTH_ROLES, AUTH_USERS

from tests.sim.member import LEASE_TAGS, LEASE_TTL_MIN_S, TICKS_A_SECOND
from tests.sim.membership import Members
from tests.sim.violation import Violation

if TYPE_CHECKING:
    from tests.sim.member import Member

HASH_ROWS = 1 << 30  # in one slice: nobody waits here
FROM_KEY = b"\x00"


@dataclass(frozen=True, slots=True)
class Digest:
    """All of a state that members must agree on. Not in it: what a restart forgets in etcd too (lease checkpoints)."""

    revision: int
    compact_revision: int
    key_space: KeySpaceHash
    leases: tuple[tuple[int, int, tuple[bytes, ...]], ...]
    alarms: tuple[bytes, ...]
    mode: Mode
    members: tuple[MemberRow, ...]
    removed: frozenset[int]
    cluster_version: str | None
    conf_state: ConfState
    auth: tuple[tuple[bytes, bytes], ...]
    v2: tuple[int, int, int]  # its index, and the ends of its history

    def difference(self, other: "Digest") -> str:
        return "; ".join(
            f"{name} {getattr(self, name)} is not {getattr(other, name)}"
            for name in self.__slots__
            if getattr(self, name) != getattr(other, name)
        )


def digest_of(machine: Machine) -> Digest:
    hashing = Hashing(machine.revisions, machine.revision, machine.compact_revision)
    while not hashing.step(HASH_ROWS):
        pass
    store = machine.revisions.store
    return Digest(
        revision=machine.revision,
        compact_revision=machine.compact_revision,
        key_space=hashing.result,
        leases=tuple((lease.id, lease.ttl_s, tuple(lease.sorted_keys())) for lease in machine.leases),
        alarms=tuple(alarm.SerializeToString() for alarm in machine.alarms.active()),
        mode=machine.alarms.mode,
        members=tuple(machine.membership.members),
        removed=frozenset(machine.membership.removed),
        cluster_version=machine.membership.cluster_version,
        conf_state=machine.conf_state,
        auth=tuple(row for table in (AUTH, AUTH_USERS, AUTH_ROLES) for row in store.scan(table)),
        v2=(machine.v2.index, machine.v2.history.start_index, machine.v2.history.last_index),
    )


def new_machine(store: DictStore, machine_class: type[Machine] = Machine) -> Machine:
    machine = machine_class(store, lease_ttl_min_s=LEASE_TTL_MIN_S, quota_bytes=-1)
    machine.load()
    return machine


class Judge:
    """States, outcomes and reads. machine is never restarted, and compacts at once."""

    def __init__(self, leases: "LeasePromises") -> None:
        self._machine = new_machine(DictStore())
        self._leases = leases
        self.counts: Counter[str] = Counter()
        self._members = Members()
        self._outcomes: list[Outcome | None] = [None]  # by index; None for conf changes
        self._digests: list[Digest] = [digest_of(self._machine)]
        self._rows: dict[bytes, list[tuple[int, bytes | None]]] = {}  # key -> revision, KeyValue or None: deleted

    @property
    def machine(self) -> Machine:
        return self._machine

    def committed(self, entry: Entry, now: float) -> None:
        """Each entry once, in order."""
        machine = self._machine
        if entry.type == EntryType.NORMAL:
            outcome = machine.apply(entry, answering=True)
            self._outcomes.append(outcome)
            self.counts["refused"] += outcome.refusal is not None
            self.counts["under authentication"] += machine.auth.enabled
            if outcome.refusal is None and entry.data and entry.data[0] in LEASE_TAGS:
                self._leases.committed(entry, machine, now)
        else:
            self._members.apply_to(machine, entry)
            self._members = self._members.after(entry)
            machine.set_conf_state(self._members.conf_state())
            self._outcomes.append(None)
            listed = Members(
                frozenset(member.id for member in machine.membership.members if not member.is_learner),
                frozenset(member.id for member in machine.membership.members if member.is_learner),
                frozenset(machine.membership.removed),
            )
            if listed != replace(self._members, outgoing=frozenset(), leaves_by_itself=False):
                raise Violation("configurations part", f"the member list is {listed}, it should be {self._members}")
        for event in machine.take_events():
            row = None if event.is_delete else event.row
            self._rows.setdefault(event.key, []).append((event.revision, row))
        while machine.compact_step(HASH_ROWS):
            pass
        self._digests.append(digest_of(machine))

    def digest_at(self, index: int) -> Digest:
        return self._digests[index]

    # -- what members do

    def check(self, member: "Member") -> None:
        """The state of a member, wherever it is."""
        found, expected = digest_of(member.machine), self._digests[member.applied]
        if found != expected:
            raise Violation("states part", f"member {member.id} at {member.applied}: {found.difference(expected)}")

    def outcome(self, member: "Member", entry: Entry, outcome: Outcome) -> None:
        """What came of an entry at a member. The answer is only made where somebody waits."""
        expected = self._outcomes[entry.index]
        assert expected is not None
        is_equal = outcome[:2] == expected[:2] and outcome.refusal == expected.refusal
        if not is_equal or (outcome.body and outcome.body != expected.body):
            raise Violation("outcomes part", f"member {member.id} at {entry.index}: {outcome} is not {expected}")

    def read(self, member: "Member", request: RangeRequest, answer: bytes | Refusal) -> None:
        """What a member answered from its applied state, against the history up to the revision it speaks of."""
        machine = member.machine
        revision = request.revision or machine.revision
        if revision < machine.compact_revision:
            if answer != COMPACTED:
                raise Violation("wrong read", f"member {member.id} reads {revision}, which is compacted: {answer!r}")
            return
        if isinstance(answer, Refusal):
            raise Violation("wrong read", f"member {member.id} refuses to read {request}: {answer}")
        found = [kv.SerializeToString() for kv in RangeResponse.FromString(answer).kvs]
        expected = self._expected(request.key, request.range_end, revision)
        if found != expected:
            raise Violation("wrong read", f"member {member.id} at revision {revision}: {found}, expected {expected}")

    def _expected(self, key: bytes, range_end: bytes, revision: int) -> list[bytes]:
        keys = (
            [key]
            if not range_end
            else [k for k in sorted(self._rows) if k >= key and (range_end == FROM_KEY or k < range_end)]
        )
        rows = []
        for found in keys:
            changes = self._rows.get(found, [])
            at = bisect_right(changes, revision, key=lambda change: change[0])
            row = changes[at - 1][1] if at else None
            if row is not None:
                rows.append(row)
        return rows


class LeasePromises:
    """Until when each lease was promised to live, in true time.

    A grant promises its TTL from when it is committed; a renewal from when the leader answered, unless that leader was
    already replaced: etcd's leader answers renewals without asking a quorum, and nothing here can mend that.
    """

    def __init__(self, clock_drift: float) -> None:
        """clock_drift: by how much the seconds of any member may differ from the true ones, as a share."""
        self._ticks_a_second = TICKS_A_SECOND / (1 + clock_drift)  # by the fastest clock
        self._alive_until: dict[int, float] = {}
        self._expiring: set[int] = set()
        self.counts: Counter[str] = Counter()

    def expiring(self, request_id: int) -> None:
        """A lessor asks for a lease to be revoked, under this id."""
        self._expiring.add(request_id)

    def committed(self, entry: Entry, machine: Machine, now: float) -> None:
        request = InternalRaftRequest.FromString(entry.data)
        if request.HasField("lease_grant"):
            lease = machine.leases.find(request.lease_grant.ID)
            assert lease is not None
            self.counts["leases granted"] += 1
            self._promise(lease.id, lease.ttl_s, now)
        elif request.HasField("lease_revoke"):
            lease_id = request.lease_revoke.ID
            alive_until = self._alive_until.pop(lease_id)
            if request.header.ID not in self._expiring:
                return  # a client's wish
            self.counts["leases expired"] += 1
            if now < alive_until:
                raise Violation(
                    "lease expired early",
                    f"lease {lease_id} at {now:.2f}, it was promised to live until {alive_until:.2f}",
                )

    def renewed(self, member: "Member", lease_id: int, ttl_s: int) -> None:
        node = member.node
        assert node is not None
        if node.term < member.world.oracle.newest_term:
            return
        if lease_id not in self._alive_until:
            raise Violation("renewed a dead lease", f"member {member.id} renews lease {lease_id}, which was revoked")
        self.counts["leases renewed"] += 1
        self._promise(lease_id, ttl_s, member.world.now)

    def _promise(self, lease_id: int, ttl_s: int, now: float) -> None:
        until = now + ttl_s * self._ticks_a_second
        self._alive_until[lease_id] = max(until, self._alive_until.get(lease_id, 0.0))
