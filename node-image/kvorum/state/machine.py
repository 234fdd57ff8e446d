"""The replicated state machine: apply(entry) in the order of the log, and the same rows as etcd's come out.

Knows entries and requests; not who proposed them, which member leads, or what time it is. Everything here is
deterministic: batches, restarts, the pace of compaction and whether a client waits make no difference to the rows.
Two answers are this member's own, as in etcd: whether there is space, and what a lost range of a txn says.

Hot path: budget 6 us for a put (tests/bench, 8 byte key, 256 byte value): it is parsed by hand, since its bytes in the
log are a frame around the very PutRequest that the client sent.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from kvorum.etcdpb.auth_pb2 import InternalAuthenticateRequest
from kvorum.etcdpb.internal_pb2 import (
    ClusterMemberAttrSetRequest,
    ClusterVersionSetRequest,
    DowngradeInfoSetRequest,
    InternalRaftRequest,
    V2Request,
)
from kvorum.etcdpb.rpc_pb2 import (
    AlarmRequest,
    AlarmType,
    CompactionRequest,
    DeleteRangeRequest,
    LeaseCheckpointRequest,
    LeaseGrantRequest,
    LeaseRevokeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)
from kvorum.raft.message import ConfChange, ConfState, Entry
from kvorum.state import auth_changes, txn
from kvorum.state.alarms import Alarms, Mode
from kvorum.state.auth import Auth, Caller
from kvorum.state.auth_checks import Check
from kvorum.state.compaction import Compaction
from kvorum.state.event import Event
from kvorum.state.hash_kv import Hashing, KeySpaceHash
from kvorum.state.leases import Leases
from kvorum.state.membership import Membership, decode_conf_state, encode_conf_state
from kvorum.state.ranges import read_range
from kvorum.state.refusal import CORRUPT, LEASE_NOT_FOUND, NO_SPACE, Refusal
from kvorum.state.revisions import Revisions
from kvorum.state.row import varint
from kvorum.state.store import META, Store
from kvorum.state.v2_request import apply_v2_request, is_v2_request
from kvorum.state.v2_store import Applied, V2Store

CONSISTENT_INDEX, TERM, CONF_STATE = b"consistent_index", b"term", b"confState"
PUT_TAG = b"\x22"
PUT_OVERHEAD_BYTES = 256  # etcd's estimate of what a key costs beside its bytes
LEASE_BYTES = 64  # etcd's estimate of a lease
READS = frozenset({"range", "auth_status", "auth_user_get", "auth_role_get"})  # skipped where nobody waits


class UnknownEntry(Exception):
    """An entry that is no request any etcd 3.5 knows. To go on would part this member from the others."""


class Outcome(NamedTuple):
    """What came of an entry.

    request_id: of the proposer's request, 0 where the entry has none.
    revision:   for the answer's header.
    body:       the answer without its header (field 1), encoded; empty unless a client here waits.
    refusal:    instead of an answer. With NO_SPACE the write may have been applied all the same.
    """

    request_id: int
    revision: int
    body: bytes
    refusal: Refusal | None


_outcome: Callable[[type[Outcome], tuple[int, int, bytes, Refusal | None]], Outcome] = tuple.__new__


class Machine:
    """The replicated state of one member."""

    def __init__(
        self, store: Store, *, lease_ttl_min_s: int, quota_bytes: int, persists_checkpoints: bool = False
    ) -> None:
        """lease_ttl_min_s: ceil(1.5 x election timeout); quota_bytes: of store.size_bytes, below 0 for none.

        persists_checkpoints: see Leases.
        """
        self._store = store
        self.leases = Leases(store, ttl_min_s=lease_ttl_min_s, persists_checkpoints=persists_checkpoints)
        self.revisions = Revisions(store, self.leases)
        self.compaction = Compaction(self.revisions)
        self.alarms = Alarms(store)
        self.auth = Auth(store)
        self.v2 = V2Store(store)
        self.v2_applied = Applied(None, None, 0)  # what came of the last v2 request
        self.membership = Membership(store, self.v2)
        self.applied_index = 0
        self.applied_term = 0
        self.conf_state = ConfState()
        self.wants_no_space_alarm = False  # set when a write exceeded the quota; cleared by who proposes the alarm
        self._quota_bytes = quota_bytes
        self._space_checked_bytes = 0  # of further writes that fit for sure: asking the store costs more than a put

    @property
    def revision(self) -> int:
        return self.revisions.revision

    @property
    def compact_revision(self) -> int:
        """-1 where nothing was compacted yet."""
        return self.revisions.compact_revision

    # -- the log -----------------------------------------------------------------------------------------------------

    def apply(self, entry: Entry, *, answering: bool) -> Outcome:
        """Applies the next normal entry. answering: a client of this member may wait, so the answer is made.

        Raises UnknownEntry, BrokenTxn, BadV2Request, UnknownMember or BadVersion where no member can go on: the
        process must end.
        """
        self._advance(entry)
        data = entry.data
        if data[:1] == PUT_TAG and self.alarms.mode is Mode.NORMAL:
            outcome = self._apply_plain_put(data)
            if outcome is not None:
                return outcome
        return self._apply_any(data, answering=answering)

    def _advance(self, entry: Entry) -> None:
        assert entry.index == self.applied_index + 1, f"entry {entry.index} after {self.applied_index} was applied"
        self.applied_index = entry.index
        self.applied_term = entry.term

    def _apply_plain_put(self, data: bytes) -> Outcome | None:
        """The frame 22 len PutRequest a2 06 len RequestHeader, with key, value and id, and who asks while that counts.
        None for any other."""
        end = len(data)
        try:
            size = data[1]
            at = 2
            if size > 127:
                size = size & 127 | data[2] << 7
                at = 3
                if size > 16_383:
                    size = size & 16_383 | data[3] << 14
                    at = 4
            header = at + size
            key_size = data[at + 1]
            key_end = at + 2 + key_size
            value_size = data[key_end + 1]
            value_at = key_end + 2
            if value_size > 127:
                value_size = value_size & 127 | data[key_end + 2] << 7
                value_at = key_end + 3
                if value_size > 16_383:
                    value_size = value_size & 16_383 | data[key_end + 3] << 14
                    value_at = key_end + 4
            if (
                value_at + value_size != header
                or data[header : header + 2] != b"\xa2\x06"
                or data[header + 2] != end - header - 3
                or data[at] != 0x0A
                or data[key_end] != 0x12
                or not 0 < key_size < 128
                or data[header + 3] != 0x08
            ):
                return None
            request_id = shift = 0
            byte = 128
            for byte in data[header + 4 : end]:
                request_id |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
            if byte > 127 or request_id >> 64:
                return None  # cut off
            named = header + 4 + shift // 7
            if self.auth.enabled:
                rights = self.auth.rights_of(data[named:])
                if rights is None or not (rights.is_root or rights.writable.cover(data[at + 2 : key_end], b"")):
                    return None  # the long way knows why
            elif named != end:
                return None
        except IndexError:
            return None
        fits = self._has_space(PUT_OVERHEAD_BYTES + key_size + value_size)
        revisions = self.revisions
        revisions.put(data[at + 2 : key_end], data[value_at:header], 0)
        return _outcome(Outcome, (request_id, revisions.seal(), b"", None if fits else self._note_no_space()))

    def _apply_any(self, data: bytes, *, answering: bool) -> Outcome:
        if not data:
            return Outcome(0, self.revision, b"", None)  # a leader's first entry, or a refused conf change
        try:
            if is_v2_request(data):
                return self._apply_v2(V2Request.FromString(data))
            envelope = InternalRaftRequest.FromString(data)
        except DecodeError as error:
            raise UnknownEntry(f"entry {self.applied_index} is no request: {data[:64].hex()}") from error
        if envelope.HasField("v2"):
            return self._apply_v2(envelope.v2)

        request_id = envelope.ID or envelope.header.ID
        name, request = self._request_of(envelope, data)
        if name in READS and not answering:
            return Outcome(request_id, self.revision, b"", None)
        refusal = self._mode_refusal(name, request) or self._auth_refusal(envelope, name, request)
        if refusal is not None:
            return Outcome(request_id, self.revision, b"", refusal)
        applier = APPLIERS[name]
        fits = self._has_space(space_of(request))
        before = self.revision
        body = applier(self, request, answering)
        revision = self.revisions.seal()
        assert revision in (before, before + 1), (before, revision)
        if isinstance(body, Refusal):
            return Outcome(request_id, revision, b"", body)
        if not fits:
            return Outcome(request_id, revision, b"", self._note_no_space())
        return Outcome(request_id, revision, body if answering else b"", None)

    def _apply_v2(self, request: V2Request) -> Outcome:
        """No alarm, quota or user of the v3 store keeps a v2 request from being applied, as in etcd."""
        self.v2_applied = apply_v2_request(request, self.v2, self.membership)
        return Outcome(request.ID, self.revision, b"", None)

    def _request_of(self, envelope: InternalRaftRequest, data: bytes) -> tuple[str, object]:
        name = FIRST_TAGS.get(data[0])
        if name is not None:
            return name, getattr(envelope, name)
        for descriptor, request in envelope.ListFields():
            if descriptor.name not in ("ID", "header"):
                return descriptor.name, request
        raise UnknownEntry(f"entry {self.applied_index} carries no request that is known: {data[:64].hex()}")

    # -- requests ----------------------------------------------------------------------------------------------------

    def _apply_range(self, request: RangeRequest, answering: bool) -> bytes | Refusal:
        return read_range(self.revisions, request)

    def _apply_put(self, request: PutRequest, answering: bool) -> bytes | Refusal:
        if request.lease and self.leases.find(request.lease) is None:
            return LEASE_NOT_FOUND
        return txn.put(self.revisions, request, answering=answering)

    def _apply_delete_range(self, request: DeleteRangeRequest, answering: bool) -> bytes | Refusal:
        return txn.delete_range(self.revisions, request, answering=answering)

    def _apply_txn(self, request: TxnRequest, answering: bool) -> bytes | Refusal:
        return txn.apply_txn(self.revisions, request, answering=answering)

    def _apply_compaction(self, request: CompactionRequest, answering: bool) -> bytes | Refusal:
        return self.compaction.schedule(request.revision) or b""

    def _apply_lease_grant(self, request: LeaseGrantRequest, answering: bool) -> bytes | Refusal:
        refusal = self.leases.refuses_grant(request.ID, request.TTL)
        if refusal is not None:
            return refusal
        lease = self.leases.grant(request.ID, request.TTL)
        return b"\x10" + varint(lease.id) + b"\x18" + varint(lease.ttl_s)

    def _apply_lease_revoke(self, request: LeaseRevokeRequest, answering: bool) -> bytes | Refusal:
        lease = self.leases.find(request.ID)
        if lease is None:
            return LEASE_NOT_FOUND
        for key in lease.sorted_keys():
            self.revisions.delete(key)
            self.revisions.deletes_count += 1
        self.leases.forget(lease.id)
        return b""

    def _apply_lease_checkpoint(self, request: LeaseCheckpointRequest, answering: bool) -> bytes | Refusal:
        for checkpoint in request.checkpoints:
            self.leases.checkpoint(checkpoint.ID, checkpoint.remaining_TTL)
        return b""

    def _apply_alarm(self, request: AlarmRequest, answering: bool) -> bytes | Refusal:
        return self.alarms.apply(request)

    def _apply_cluster_version(self, request: ClusterVersionSetRequest, answering: bool) -> bytes | Refusal:
        self.membership.set_cluster_version(request.ver)
        return b""

    def _apply_member_attributes(self, request: ClusterMemberAttrSetRequest, answering: bool) -> bytes | Refusal:
        attributes = request.member_attributes
        self.membership.publish(request.member_ID, attributes.name, list(attributes.client_urls))
        return b""

    def _apply_downgrade(self, request: DowngradeInfoSetRequest, answering: bool) -> bytes | Refusal:
        self.membership.set_downgrade(request.ver if request.enabled else None)
        return b""

    def _apply_authenticate(self, request: InternalAuthenticateRequest, answering: bool) -> bytes | Refusal:
        return auth_changes.authenticate(self.auth, request, self.applied_index - 1)

    # -- space and alarms --------------------------------------------------------------------------------------------

    def _mode_refusal(self, name: str, request: object) -> Refusal | None:
        """What an active alarm forbids."""
        mode = self.alarms.mode
        if mode is Mode.NORMAL:
            return None
        if mode is Mode.CORRUPT:
            return CORRUPT if name in FORBIDDEN_WHEN_CORRUPT else None
        return NO_SPACE if space_of(request) else None

    def _auth_refusal(self, envelope: InternalRaftRequest, name: str, request: object) -> Refusal | None:
        """What the user in the entry's header may not do.

        While an alarm is active nobody is asked who he is: etcd 3.5 replaces all its appliers by one without checks
        when the alarm is raised, and to refuse here what its members apply would part the states. (A member of etcd
        that was started during the alarm does check; it parts from its own kind.)
        """
        if not self.auth.enabled or self.alarms.mode is not Mode.NORMAL:
            return None
        caller = Caller(envelope.header.username, envelope.header.auth_revision)
        return Check(self.auth, self.leases, caller).refuses(name, request)

    def _has_space(self, size_bytes: int) -> bool:
        """Whether a write is within the quota. It is applied all the same: to refuse it would part the states."""
        if not size_bytes or self._quota_bytes < 0:
            return True
        self._space_checked_bytes -= size_bytes
        if self._space_checked_bytes > 0:
            return True
        left = self._quota_bytes - self._store.size_bytes - size_bytes
        # A quarter of what is left goes unchecked: pages and their copies may take a few times what the rows do.
        self._space_checked_bytes = left // 4
        return left > 0

    def _note_no_space(self) -> Refusal:
        if not self.alarms.is_active(AlarmType.NOSPACE):
            self.wants_no_space_alarm = True
        return NO_SPACE

    def refuses_for_space(self, request: PutRequest | TxnRequest | LeaseGrantRequest) -> Refusal | None:
        """Before proposing: whether a write would exceed the quota; the caller then raises the alarm (etcd's order:
        before any other check of the request)."""
        size_bytes = space_of(request)
        if not size_bytes or self._quota_bytes < 0:
            return None
        return None if self._store.size_bytes + size_bytes < self._quota_bytes else NO_SPACE

    def refuses_txn_ranges(self, request: TxnRequest) -> Refusal | None:
        """Before proposing a txn with writes: a range in it that could not be read now (txn.py says why here).

        It speaks of what this member has applied. One that may lag behind must not refuse on that alone: it asks the
        leader how far the log is (a ReadIndex round), and then here again.
        """
        return self._mode_refusal("txn", request) or txn.range_refusal(self.revisions, request)

    def refuses_caller(self, payload: bytes, caller: Caller) -> Refusal | None:
        """Before proposing, while an alarm is active: what the caller may not do, since nobody asks later.

        payload: an encoded InternalRaftRequest without its header.
        """
        name, request = self._request_of(InternalRaftRequest.FromString(payload), payload)
        return Check(self.auth, self.leases, caller).refuses(name, request)

    # -- membership --------------------------------------------------------------------------------------------------

    def apply_conf_change(self, entry: Entry, change: ConfChange) -> tuple[ConfChange, Refusal | None]:
        """Applies the next entry, a conf change. Gives what raft is to apply: node_id NONE where it is refused.

        The caller then tells raft, and hands the configuration that follows to set_conf_state.
        """
        self._advance(entry)
        return self.membership.apply(change)

    def set_conf_state(self, conf_state: ConfState) -> None:
        self.conf_state = conf_state

    # -- reading -----------------------------------------------------------------------------------------------------

    def range(self, request: RangeRequest) -> bytes | Refusal:
        """A range of the applied state, without its header (whose revision is this machine's)."""
        return read_range(self.revisions, request)

    def read_txn(self, request: TxnRequest) -> bytes | Refusal:
        """A txn of ranges alone (txn.is_read_only), which goes past the log."""
        return txn.read_txn(self.revisions, request)

    def hash_at(self, revision: int) -> Hashing | KeySpaceHash | Refusal:
        """HashKV. A Hashing is to be stepped until it is done, or closed: compaction waits for it."""
        return self.compaction.hash_at(revision)

    # -- watchers ----------------------------------------------------------------------------------------------------

    def take_events(self) -> list[Event]:
        return self.revisions.take_events()

    # -- the store ---------------------------------------------------------------------------------------------------

    def compact_step(self, rows_max: int) -> bool:
        """Removes compacted rows, looking at no more than rows_max. True while there is more to do."""
        return self.compaction.step(rows_max)

    def checkpoint(self) -> None:
        """Puts what was applied into the store; the owner calls it before each commit, so that both are one."""
        self._store.put(META, CONSISTENT_INDEX, self.applied_index.to_bytes(8, "big"))
        self._store.put(META, TERM, self.applied_term.to_bytes(8, "big"))
        if self.conf_state != ConfState():
            self._store.put(META, CONF_STATE, encode_conf_state(self.conf_state))
        self.v2.checkpoint()

    def load(self) -> None:
        """Everything from the store, as of its last commit."""
        self.applied_index = int.from_bytes(self._store.get(META, CONSISTENT_INDEX) or b"", "big")
        self.applied_term = int.from_bytes(self._store.get(META, TERM) or b"", "big")
        conf_state = self._store.get(META, CONF_STATE)
        self.conf_state = ConfState() if conf_state is None else decode_conf_state(conf_state)
        self.leases.load()
        self.revisions.load()
        self.compaction.load()
        self.alarms.load()
        self.auth.load()
        self.membership.load()
        if not self.v2.load():
            self.membership.plant()  # tables of before the v2 store was kept


def _auth_applier(change: Callable[[Auth, Any], bytes | Refusal]) -> Callable[[Machine, Any, bool], bytes | Refusal]:
    return lambda machine, request, answering: change(machine.auth, request)


# By the field of an InternalRaftRequest. Not an attribute of each machine: one that a snapshot replaces must be free of
# cycles, to be gone at once and not when the collector comes to it.
APPLIERS: dict[str, Callable[[Machine, Any, bool], bytes | Refusal]] = {
    "range": Machine._apply_range,
    "put": Machine._apply_put,
    "delete_range": Machine._apply_delete_range,
    "txn": Machine._apply_txn,
    "compaction": Machine._apply_compaction,
    "lease_grant": Machine._apply_lease_grant,
    "lease_revoke": Machine._apply_lease_revoke,
    "lease_checkpoint": Machine._apply_lease_checkpoint,
    "alarm": Machine._apply_alarm,
    "cluster_version_set": Machine._apply_cluster_version,
    "cluster_member_attr_set": Machine._apply_member_attributes,
    "downgrade_info_set": Machine._apply_downgrade,
    "authenticate": Machine._apply_authenticate,
    **{name: _auth_applier(change) for name, change in auth_changes.APPLIERS.items()},
}
# The usual requests by the tag that their entries begin with: 0.1 us, listing the fields takes 1.
FIRST_TAGS = {0x22: "put", 0x2A: "delete_range", 0x32: "txn", 0x42: "lease_grant", 0x4A: "lease_revoke"}
FORBIDDEN_WHEN_CORRUPT = frozenset({"range", "put", "delete_range", "txn", "compaction", "lease_grant", "lease_revoke"})


def space_of(request: object) -> int:
    """What a request is charged against the quota, in bytes; 0 for one that only frees. Nested txns are not counted
    (etcd up to 3.5.32), and of the two lists of a txn the dearer one."""
    if isinstance(request, PutRequest):
        return PUT_OVERHEAD_BYTES + len(request.key) + len(request.value)
    if isinstance(request, TxnRequest):
        return max(_space_of_puts(request.success), _space_of_puts(request.failure))
    return LEASE_BYTES if isinstance(request, LeaseGrantRequest) else 0


def _space_of_puts(ops: Iterable[RequestOp]) -> int:
    size_bytes = 0
    for op in ops:
        if op.HasField("request_put"):
            put = op.request_put
            size_bytes += PUT_OVERHEAD_BYTES + len(put.key) + len(put.value)
    return size_bytes
