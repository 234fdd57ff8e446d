"""What the client takes and gives: plain values in etcd's words. Knows no connection and no message class.

Revisions count a cluster's writes, ids are uint64, TTLs are seconds, sizes bytes. 0 stands where etcd has "none".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum


@dataclass(frozen=True, slots=True)
class Header:
    """Who answered. revision: of the store when the answer was made; 0 from the Cluster calls, which give none."""

    cluster_id: int
    member_id: int
    revision: int
    raft_term: int


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key at a revision. version: writes since it was created, 1 for the first; lease: 0 for none."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int


class SortTarget(IntEnum):
    KEY = 0
    VERSION = 1
    CREATE = 2
    MOD = 3
    VALUE = 4


class SortOrder(IntEnum):
    NONE = 0
    ASCEND = 1
    DESCEND = 2


class AlarmType(IntEnum):
    NONE = 0
    NOSPACE = 1
    CORRUPT = 2


class EventType(IntEnum):
    PUT = 0
    DELETE = 1


class Access(IntEnum):
    READ = 0
    WRITE = 1
    READWRITE = 2


class CompareTarget(StrEnum):
    VERSION = "version"
    CREATE = "create_revision"
    MOD = "mod_revision"
    VALUE = "value"
    LEASE = "lease"


class Relation(StrEnum):
    EQUAL = "="
    NOT_EQUAL = "!="
    GREATER = ">"
    LESS = "<"


@dataclass(frozen=True, slots=True)
class PutResult:
    """prev_kv: what was there before, if asked for."""

    header: Header
    prev_kv: KeyValue | None


@dataclass(frozen=True, slots=True)
class RangeResult:
    """count: all keys in the range, whatever the limit; more: the limit cut some off."""

    header: Header
    kvs: tuple[KeyValue, ...]
    more: bool
    count: int


@dataclass(frozen=True, slots=True)
class DeleteResult:
    header: Header
    deleted: int
    prev_kvs: tuple[KeyValue, ...]


@dataclass(frozen=True, slots=True)
class Compare:
    """A condition of a transaction: `target` of the key stands in `relation` to `operand`.

    operand:   bytes for VALUE, an integer for the others (0 for a key that is not there).
    range_end: if given, every key in the range must satisfy it.
    """

    key: bytes
    target: CompareTarget
    relation: Relation
    operand: int | bytes
    range_end: bytes = b""


@dataclass(frozen=True, slots=True)
class Put:
    key: bytes
    value: bytes
    lease: int = 0
    prev_kv: bool = False


@dataclass(frozen=True, slots=True)
class Get:
    key: bytes
    range_end: bytes = b""
    limit: int = 0
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    key: bytes
    range_end: bytes = b""
    prev_kv: bool = False


@dataclass(frozen=True, slots=True)
class Txn:
    """If all compares hold then `success`, else `failure`; one revision for all its writes."""

    compare: Sequence[Compare] = ()
    success: "Sequence[Op]" = ()
    failure: "Sequence[Op]" = ()


Op = Put | Get | Delete | Txn


@dataclass(frozen=True, slots=True)
class TxnResult:
    """responses: one for each operation of the branch taken, in order."""

    header: Header
    succeeded: bool
    responses: "tuple[OpResult, ...]"


OpResult = PutResult | RangeResult | DeleteResult | TxnResult


@dataclass(frozen=True, slots=True)
class Event:
    """kv of a deletion has its key and mod_revision only. prev_kv: if asked for and not compacted yet."""

    type: EventType
    kv: KeyValue
    prev_kv: KeyValue | None


@dataclass(frozen=True, slots=True)
class WatchBatch:
    """Events in the order of their revisions; none in a progress report: then all up to header.revision were seen."""

    header: Header
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Lease:
    """ttl_s: granted, which may be more than was asked for."""

    id: int
    ttl_s: int


@dataclass(frozen=True, slots=True)
class LeaseInfo:
    """ttl_s: what remains; -1 if there is no such lease."""

    id: int
    ttl_s: int
    granted_ttl_s: int
    keys: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """An entry of the member list. No client_urls: it never started (a bootstrap entry has a name from birth)."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    is_learner: bool


@dataclass(frozen=True, slots=True)
class Status:
    """A member's own word on itself. leader: 0 if it follows none; db_size: bytes of its data file."""

    member_id: int
    cluster_id: int
    leader: int
    version: str
    raft_index: int
    raft_term: int
    applied_index: int
    db_size: int
    is_learner: bool
    errors: tuple[str, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class Alarm:
    member_id: int
    type: AlarmType


@dataclass(frozen=True, slots=True)
class HashKV:
    """The hash of the revisions up to hash_revision that compaction left. compact_revision: -1 if there was none."""

    header: Header
    hash: int
    compact_revision: int
    hash_revision: int


@dataclass(frozen=True, slots=True)
class AuthStatus:
    """revision: grows with every change of users, roles and permissions."""

    enabled: bool
    revision: int


@dataclass(frozen=True, slots=True)
class Permission:
    """range_end as in a range: b"" for the key alone, b"\\0" for all from key on."""

    access: Access
    key: bytes
    range_end: bytes = b""


@dataclass(frozen=True, slots=True)
class LeaderKey:
    """What an election was won by. revision: of its creation, which no other candidate's key has."""

    name: bytes
    key: bytes
    revision: int
    lease: int
