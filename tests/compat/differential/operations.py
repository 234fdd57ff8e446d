"""Random operations on a store of few keys, so that they meet: the same seed gives the same operations.

Knows of the store what the answers told (its revision, what was compacted): enough to ask at the edges. Nothing here
knows what an answer should be.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from kvorum.etcdpb import rpc_pb2 as rpc

MIB = 1 << 20
TTLS_S = (1000, 5000, 1_000_000, 9_000_000_000)  # none of these ends within a run
LEASES = range(1, 13)
UNKNOWN_MEMBER = 12345

# How often each call is made at least, before what the generator adds (undoing an alarm, ending a short lease).
COUNTS = {
    "Range": 5200,
    "Put": 3000,
    "DeleteRange": 1500,
    "Txn": 4300,
    "Compact": 600,
    "LeaseGrant": 700,
    "LeaseRevoke": 600,
    "LeaseTimeToLive": 700,
    "LeaseLeases": 500,
    "LeaseKeepAlive": 600,
    "MemberList": 500,
    "MemberAdd": 520,
    "MemberRemove": 520,
    "MemberUpdate": 500,
    "MemberPromote": 500,
    "Alarm": 500,
    "Status": 500,
    "HashKV": 900,
    "Defragment": 500,
    "MoveLeader": 500,
    "Health": 500,
    "Watch": 700,
}
BAD_URLS = ((), ("nonsense",), ("http://127.0.0.1",), ("http://127.0.0.1:1/x",), ("ftp://127.0.0.1:1",))
SORT_TARGETS = ("KEY", "VERSION", "CREATE", "MOD", "VALUE")
SORT_ORDERS = ("NONE", "ASCEND", "DESCEND")
RESULTS = ("EQUAL", "GREATER", "LESS", "NOT_EQUAL")
TARGETS = ("VERSION", "CREATE", "MOD", "VALUE", "LEASE")
FILTERS = ("NOPUT", "NODELETE")
# etcd answers these before its raft has done with them, and then may drop a change that follows at once: its caller
# waits in vain. Another entry through the log in between settles it.
CHANGES = {"MemberAdd", "MemberRemove", "MemberUpdate", "MemberPromote"}
READS = {"Range", "LeaseTimeToLive", "LeaseLeases", "MemberList", "Status", "HashKV", "Health"}


@dataclass(frozen=True)
class Operation:
    """A call. member: an alias; each side's own id for it goes into member_field. None: the request is as it is."""

    name: str
    request: Any
    member_field: str = ""
    member: int | None = None

    @property
    def only_reads(self) -> bool:
        return self.name in READS

    def encoded(self, members: dict[int, int]) -> bytes:
        request = self.request
        if self.member is not None:
            request = type(request)()
            request.CopyFrom(self.request)
            setattr(request, self.member_field, members.get(self.member, self.member))
        return bytes(request.SerializeToString(deterministic=True))


class Generator:
    """The operations of a seed, one at a time; `saw` is told what the store answered."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.revision = 1
        self.compacted = 0
        self.unsettled = False  # the last operation was a change of the members
        self.carried_out = True  # the last compaction, physically
        self.learners: set[int] = set()  # aliases of members added and not removed
        self.peer_urls = 0  # used so far
        self.peer_url = ""  # of the learner added last; it never starts, nobody listens there
        self.next_alias = 2
        names = [name for name, count in COUNTS.items() for _ in range(count)]
        self.random.shuffle(names)
        # Before the next of names: undoing, follow-ups. First what is too large for etcd, and what for gRPC.
        self.pending = [
            Operation("Put", rpc.PutRequest(key=b"a", value=bytes(size))) for size in (8 * MIB // 5, 5 * MIB // 2)
        ]
        self.names = names

    def next(self) -> Operation | None:
        """The next operation; None at the end."""
        if self.unsettled:
            self.unsettled = False
            return Operation("Put", rpc.PutRequest(key=b"settled"))
        operation = self.pending.pop(0) if self.pending else self.make()
        self.unsettled = operation is not None and operation.name in CHANGES
        return operation

    def make(self) -> Operation | None:
        if not self.names:
            return None
        return self.make_one(self.names.pop())

    def make_one(self, name: str) -> Operation:
        make: dict[str, Callable[[], Operation]] = {
            "Range": lambda: Operation("Range", self.range_request()),
            "Put": lambda: Operation("Put", self.put_request()),
            "DeleteRange": lambda: Operation("DeleteRange", self.delete_request()),
            "Txn": lambda: Operation("Txn", self.txn_request()),
            "Compact": self.compact,
            "LeaseGrant": self.lease_grant,
            "LeaseRevoke": lambda: Operation("LeaseRevoke", rpc.LeaseRevokeRequest(ID=self.lease())),
            "LeaseTimeToLive": self.lease_time_to_live,
            "LeaseLeases": lambda: Operation("LeaseLeases", rpc.LeaseLeasesRequest()),
            "LeaseKeepAlive": lambda: Operation("LeaseKeepAlive", rpc.LeaseKeepAliveRequest(ID=self.lease())),
            "MemberList": lambda: Operation("MemberList", rpc.MemberListRequest(linearizable=self.maybe())),
            "MemberAdd": self.member_add,
            "MemberRemove": self.member_remove,
            "MemberUpdate": self.member_update,
            "MemberPromote": self.member_promote,
            "Alarm": self.alarm,
            "Status": lambda: Operation("Status", rpc.StatusRequest()),
            "HashKV": self.hash_kv,
            "Defragment": lambda: Operation("Defragment", rpc.DefragmentRequest()),
            "MoveLeader": self.move_leader,
            "Health": lambda: Operation("Health", rpc.HealthCheckRequest(service=self.random.choice(["", "", "kv"]))),
            # Made when it is sent (watch_request): the history that can be watched moves on.
            "Watch": lambda: Operation("Watch", None),
        }
        return make[name]()

    def saw(self, operation: Operation, code: int, answer: Any) -> None:
        """What the reference answered."""
        if code != 0:
            return
        self.revision = max(self.revision, answer.header.revision if operation.name != "Health" else 0)
        if operation.name == "Compact":
            self.compacted = operation.request.revision
            self.carried_out = operation.request.physical
        elif operation.name == "MemberRemove" and operation.member is not None:
            self.learners.discard(operation.member)

    def added(self) -> int:
        """The alias of the learner that was just added."""
        alias, self.next_alias = self.next_alias, self.next_alias + 1
        self.learners.add(alias)
        return alias

    # Parts

    def maybe(self, chance: float = 0.5) -> bool:
        return self.random.random() < chance

    def key(self) -> bytes:
        pick = self.random.random()
        if pick < 0.01:
            return b""
        if pick < 0.04:
            return b"\0"
        length = self.random.choice((1, 1, 2, 2, 3))
        return bytes(self.random.choice(b"abc/\xff") for _ in range(length))

    def range_end(self, key: bytes) -> bytes:
        pick = self.random.random()
        if pick < 0.4:
            return b""
        if pick < 0.5:
            return b"\0"
        if pick < 0.75 and key and key[-1] < 255:
            return key[:-1] + bytes((key[-1] + 1,))
        return self.key()

    def value(self) -> bytes:
        pick = self.random.random()
        if pick < 0.1:
            return b""
        if pick < 0.12:
            return bytes(self.random.randrange(256) for _ in range(2000))
        return str(self.random.randrange(20)).encode()

    def lease(self) -> int:
        pick = self.random.random()
        if pick < 0.05:
            return self.random.choice((0, -5, 999, 1 << 62))
        return self.random.choice(LEASES)

    def past_revision(self) -> int:
        """Mostly one that can be read; the edges of what can, too."""
        pick = self.random.random()
        if pick < 0.15:
            return 0
        if pick < 0.3:
            return self.compacted + self.random.choice((-1, 0, 1))
        if pick < 0.4:
            return self.revision + self.random.choice((0, 1, 1000))
        if pick < 0.42:
            return -1
        return self.random.randint(max(1, self.compacted), max(1, self.compacted, self.revision))

    @property
    def hashable_from(self) -> int:
        """The first revision whose hash is not a matter of time.

        At a compaction's own revision etcd's hash is another before the compaction was carried out and after it, which
        only one who asked for it physically has waited for.
        """
        return max(1, self.compacted + (0 if self.carried_out else 1))

    def hash_kv(self) -> Operation:
        revision = self.past_revision()
        if revision == self.compacted:
            revision = self.hashable_from
        return Operation("HashKV", rpc.HashKVRequest(revision=revision))

    # KV

    def range_request(self) -> rpc.RangeRequest:
        key = self.key()
        request = rpc.RangeRequest(key=key, range_end=self.range_end(key), serializable=self.maybe(0.3))
        if self.maybe(0.4):
            request.revision = self.past_revision()
        if self.maybe(0.4):
            request.limit = self.random.choice((1, 2, 3, 5, 100, -1))
        if self.maybe(0.5):
            # Only with names: etcd 3.5 ends by a panic of another target, and our node refuses it as 3.6 does.
            request.MergeFrom(
                rpc.RangeRequest(
                    sort_target=self.random.choice(SORT_TARGETS), sort_order=self.random.choice(SORT_ORDERS)
                )
            )
        request.keys_only = self.maybe(0.15)
        request.count_only = self.maybe(0.1)
        for bound in ("min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision"):
            if self.maybe(0.1):
                setattr(request, bound, self.random.randint(-1, self.revision + 2))
        return request

    def put_request(self) -> rpc.PutRequest:
        request = rpc.PutRequest(key=self.key(), value=self.value(), prev_kv=self.maybe(0.3))
        if self.maybe(0.25):
            request.lease = self.lease()
        if self.maybe(0.08):
            request.ignore_value = True
            if self.maybe(0.7):
                request.value = b""
        if self.maybe(0.08):
            request.ignore_lease = True
            if self.maybe(0.7):
                request.lease = 0
        return request

    def delete_request(self) -> rpc.DeleteRangeRequest:
        key = self.key()
        # A range as often as not would leave no key to ask for.
        range_end = self.range_end(key) if self.maybe(0.15) else b""
        return rpc.DeleteRangeRequest(key=key, range_end=range_end, prev_kv=self.maybe(0.4))

    def txn_request(self, depth: int = 0) -> rpc.TxnRequest:
        request = rpc.TxnRequest(compare=[self.compare() for _ in range(self.random.choice((0, 1, 1, 2, 3)))])
        for branch in (request.success, request.failure):
            branch.extend(self.request_op(depth) for _ in range(self.random.choice((0, 1, 1, 2, 3))))
        if depth == 0 and self.maybe(0.01):
            request.success.extend(self.request_op(2) for _ in range(self.random.choice((124, 128, 129))))
        if depth == 0:
            close_loophole(request)
        return request

    def request_op(self, depth: int) -> rpc.RequestOp:
        pick = self.random.random()
        if pick < 0.01:
            return rpc.RequestOp()
        if pick < 0.35:
            ranged = self.range_request()
            if self.maybe(0.8):  # at a revision that cannot be read the whole transaction fails
                ranged.revision = 0
            return rpc.RequestOp(request_range=ranged)
        if pick < 0.7:
            put = self.put_request()
            if self.maybe(0.8):
                put.ignore_value = put.ignore_lease = False
                put.lease = 0
            return rpc.RequestOp(request_put=put)
        if pick < 0.85 or depth >= 2:
            return rpc.RequestOp(request_delete_range=self.delete_request())
        return rpc.RequestOp(request_txn=self.txn_request(depth + 1))

    def compare(self) -> rpc.Compare:
        compare = rpc.Compare(
            key=self.key(),
            result=self.random.choice(RESULTS),
            target=self.random.choice(TARGETS),
        )
        if self.maybe(0.15):
            compare.range_end = self.range_end(compare.key)
        match compare.target:
            case rpc.Compare.VERSION:
                compare.version = self.random.choice((0, 1, 1, 2, 5, -1))
            case rpc.Compare.CREATE:
                compare.create_revision = self.random.choice(
                    (0, 0, self.revision, self.random.randint(0, self.revision))
                )
            case rpc.Compare.MOD:
                compare.mod_revision = self.random.choice((0, 0, self.revision, self.random.randint(0, self.revision)))
            case rpc.Compare.VALUE:
                compare.value = self.value()
            case rpc.Compare.LEASE:
                compare.lease = self.random.choice((0, self.lease()))
        if self.maybe(0.02):
            compare.ClearField(compare.WhichOneof("target_union") or "version")
        return compare

    def compact(self) -> Operation:
        pick = self.random.random()
        if pick < 0.1:
            revision = self.compacted - self.random.randint(0, 1)
        elif pick < 0.2:
            revision = self.revision + self.random.choice((1, 100))
        else:
            # Small steps well behind the present: there shall be a history to read and watch.
            revision = self.compacted + max(1, (self.revision - self.compacted) // self.random.choice((3, 5, 20)))
        return Operation("Compact", rpc.CompactionRequest(revision=revision, physical=self.maybe()))

    # Leases

    def lease_grant(self) -> Operation:
        pick = self.random.random()
        lease_id = self.lease() or 77  # 0: each server would choose its own
        if pick < 0.05:
            # Shorter than the least: the granted TTL is longer. Ended at once, before it ends by itself on one side.
            lease_id = 500 + self.random.randrange(100)
            self.pending.append(Operation("LeaseRevoke", rpc.LeaseRevokeRequest(ID=lease_id)))
            return Operation("LeaseGrant", rpc.LeaseGrantRequest(ID=lease_id, TTL=self.random.choice((-5, 0, 1))))
        ttl_s = 9_000_000_001 if pick < 0.1 else self.random.choice(TTLS_S)
        return Operation("LeaseGrant", rpc.LeaseGrantRequest(ID=lease_id, TTL=ttl_s))

    def lease_time_to_live(self) -> Operation:
        return Operation("LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=self.lease(), keys=self.maybe(0.7)))

    # Members. The only voter is the server itself; learners come and go without changing its quorum.

    def member(self) -> int:
        pick = self.random.random()
        if pick < 0.1:
            return UNKNOWN_MEMBER
        if pick < 0.3 or not self.learners:
            return 1
        return self.random.choice(sorted(self.learners))

    def member_add(self) -> Operation:
        """Mostly one that succeeds: a learner that is there is removed first, for there may be one at most."""
        if self.learners and self.maybe(0.1):
            return self.learner(self.peer_url)  # is there already
        # A URL of its own: the second makes part of an id, and an id that was removed in this second never comes back.
        self.peer_urls += 1
        self.peer_url = f"http://127.1.{self.peer_urls // 250}.{self.peer_urls % 250}:1"
        if self.maybe(0.1):
            return self.learner(*self.random.choice(BAD_URLS))
        addition = self.learner(self.peer_url, *((self.peer_url + "1",) if self.maybe(0.1) else ()))
        if not self.learners or self.maybe(0.3):
            return addition
        self.pending.append(addition)
        learner = self.random.choice(sorted(self.learners))
        return Operation("MemberRemove", rpc.MemberRemoveRequest(), "ID", learner)

    def learner(self, *urls: str) -> Operation:
        return Operation("MemberAdd", rpc.MemberAddRequest(peerURLs=urls, isLearner=True))

    def member_remove(self) -> Operation:
        return Operation("MemberRemove", rpc.MemberRemoveRequest(), "ID", self.member())

    def member_update(self) -> Operation:
        member = self.member()
        # The server's own URL stays, since each side has its own.
        if member == 1:
            member = UNKNOWN_MEMBER
        elif member in self.learners:
            # Until 3.5.31 an update makes etcd's list forget that a member is a learner, which our node does not copy
            # (sides.py leaves it out of this answer): gone at once, before other answers follow from it.
            self.pending.insert(0, Operation("MemberRemove", rpc.MemberRemoveRequest(), "ID", member))
        request = rpc.MemberUpdateRequest(peerURLs=[f"http://127.2.0.1:{self.random.choice((4, 5, 6))}"])
        return Operation("MemberUpdate", request, "ID", member)

    def member_promote(self) -> Operation:
        return Operation("MemberPromote", rpc.MemberPromoteRequest(), "ID", self.member())

    # Maintenance

    def alarm(self) -> Operation:
        if self.maybe(0.8):
            return Operation("Alarm", rpc.AlarmRequest(action=rpc.AlarmRequest.GET))
        kind = self.random.choice((rpc.AlarmType.NOSPACE, rpc.AlarmType.NOSPACE, rpc.AlarmType.CORRUPT))
        member = self.random.choice((1, 1, UNKNOWN_MEMBER))
        # Changes of the members are unmoved by alarms, and what belongs together there must not be torn apart.
        for name in [name for name in self.names[-20:] if name not in CHANGES and name != "Alarm"]:
            self.names.remove(name)
            self.pending.append(self.make_one(name))
        for action in (rpc.AlarmRequest.GET, rpc.AlarmRequest.DEACTIVATE, rpc.AlarmRequest.GET):
            request = rpc.AlarmRequest(action=action, alarm=kind if action else rpc.AlarmType.NONE)
            self.pending.append(Operation("Alarm", request, "memberID", member if action else 0))
        return Operation("Alarm", rpc.AlarmRequest(action=rpc.AlarmRequest.ACTIVATE, alarm=kind), "memberID", member)

    def move_leader(self) -> Operation:
        member = self.random.choice((1, UNKNOWN_MEMBER, 0, *sorted(self.learners)))
        return Operation("MoveLeader", rpc.MoveLeaderRequest(), "targetID", member)

    # Watches

    def watch_request(self) -> rpc.WatchCreateRequest:
        key = self.key()
        pick = self.random.random()
        if pick < 0.5:
            start = self.random.randint(self.compacted + 1, self.revision + 1) if self.revision > self.compacted else 0
        elif pick < 0.75:
            start = self.compacted  # the first that can be watched: what stood there may be gone, what follows not
        else:
            start = self.past_revision()
        return rpc.WatchCreateRequest(
            key=key,
            range_end=self.range_end(key) if self.maybe(0.8) else b"\0",
            start_revision=start,
            prev_kv=self.maybe(0.4),
            filters=[kind for kind in FILTERS if self.maybe(0.15)],
            fragment=self.maybe(0.3),
        )


def close_loophole(request: Any) -> None:
    """A put beside a deletion of all from a key on is not refused by etcd, though it refuses what it calls duplicates.

    It panics over such a put where it needs its key; and over a later read, as it compacts away a row of a key that was
    deleted and created in one revision. So there are either such deletions in a transaction or puts.
    """
    ops = list(all_ops(request))
    if any(op.HasField("request_put") for op in ops):
        for op in ops:
            if op.HasField("request_delete_range") and op.request_delete_range.range_end == b"\0":
                op.request_delete_range.range_end = b"\1"


def all_ops(request: Any) -> Iterator[Any]:
    """The operations of a transaction, on both branches, nested ones included."""
    for op in (*request.success, *request.failure):
        yield op
        if op.HasField("request_txn"):
            yield from all_ops(op.request_txn)
