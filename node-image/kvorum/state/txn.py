"""Txn: compares, then one of two lists of operations, all under one revision. Nested txns are decided beforehand too.

Every member applies a txn the same way, with or without a client to answer: ranges at the top level never decide
anything here, because etcd's members without the client drop them before they check (etcd#18667: etcd itself
diverges when such a range fails where the client is). They are checked before the txn is proposed, by range_refusal(),
and filled into the answer when there is one to make.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from kvorum.etcdpb.rpc_pb2 import Compare, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, RequestOp, TxnRequest
from kvorum.state.key_index import Now
from kvorum.state.ranges import read_range
from kvorum.state.refusal import COMPACTED, FUTURE_REVISION, KEY_NOT_FOUND, LEASE_NOT_FOUND, TIMEOUT, Refusal
from kvorum.state.revisions import Revisions
from kvorum.state.row import field, varint

T = TypeVar("T", bytes, int)
ABSENT: Now = (0, 0, 0, 0, 0)


class BrokenTxn(Exception):
    """A txn with writes failed half way: what it did cannot be undone. Every etcd member panics on such an entry."""


def is_read_only(txn: TxnRequest) -> bool:
    """Whether it holds nothing but ranges; a nested txn counts as a write, whatever is in it (etcd's rule)."""
    return all(op.HasField("request_range") for ops in (txn.success, txn.failure) for op in ops)


def choose_path(revisions: Revisions, txn: TxnRequest) -> list[bool]:
    """Which list each txn takes, depth first: the outer one, then the txns nested in the list it takes."""
    succeeded = True
    for compare in txn.compare:
        if not compare_holds(revisions, compare):
            succeeded = False
            break
    path = [succeeded]
    for op in txn.success if succeeded else txn.failure:
        if op.HasField("request_txn"):
            path += choose_path(revisions, op.request_txn)
    return path


def compare_holds(revisions: Revisions, compare: Compare) -> bool:
    """All keys of the compare's range must satisfy it. A missing key has no value, and zeros for all else."""
    target = compare.target
    keys = revisions.keys_in(compare.key, compare.range_end)
    if target == Compare.VALUE:
        if not keys:
            return False
        return all(
            _holds(compare.result, KeyValue.FromString(row).value, compare.value)
            for row in map(revisions.current, keys)
            if row is not None
        )
    if not keys:
        return _holds_number(compare, target, ABSENT)
    now = revisions.index.now
    return all(_holds_number(compare, target, now[key]) for key in keys)


def _holds_number(compare: Compare, target: int, now: Now) -> bool:
    main, _, create, version, lease = now
    if target == Compare.MOD:
        return _holds(compare.result, main, compare.mod_revision)
    if target == Compare.CREATE:
        return _holds(compare.result, create, compare.create_revision)
    if target == Compare.VERSION:
        return _holds(compare.result, version, compare.version)
    if target == Compare.LEASE:
        return _holds(compare.result, lease, compare.lease)
    return _holds(compare.result, 0, 0)  # a target of a later version: etcd compares nothing with nothing


def _holds(result: int, found: T, wanted: T) -> bool:
    if result == Compare.EQUAL:
        return found == wanted
    if result == Compare.NOT_EQUAL:
        return found != wanted
    if result == Compare.GREATER:
        return found > wanted
    if result == Compare.LESS:
        return found < wanted
    return True


def refusals_on(
    revisions: Revisions, txn: TxnRequest, path: Sequence[bool], *, nested_only: bool
) -> tuple[Refusal | None, Refusal | None]:
    """The first put on the path that cannot be done, looking at the state before; and the first range that cannot.

    nested_only: ranges at the top level are not looked at.
    """
    refused_ranges: list[Refusal] = []
    refused_put = _refused_put(revisions, txn, iter(path), refused_ranges, nested_only)
    return refused_put, refused_ranges[0] if refused_ranges else None


def _refused_put(
    revisions: Revisions, txn: TxnRequest, path: Iterator[bool], refused_ranges: list[Refusal], nested_only: bool
) -> Refusal | None:
    for op in txn.success if next(path) else txn.failure:
        kind = op.WhichOneof("request")
        if kind == "request_put":
            put = op.request_put
            if (put.ignore_value or put.ignore_lease) and put.key not in revisions.index.now:
                return KEY_NOT_FOUND
            if put.lease and revisions.leases.find(put.lease) is None:
                return LEASE_NOT_FOUND
        elif kind == "request_range":
            main = op.request_range.revision
            if main and not nested_only:
                if main > revisions.revision:
                    refused_ranges.append(FUTURE_REVISION)
                elif main < revisions.compact_revision:
                    refused_ranges.append(COMPACTED)
        elif kind == "request_txn":
            refusal = _refused_put(revisions, op.request_txn, path, refused_ranges, False)
            if refusal is not None:
                return refusal
    return None


def range_refusal(revisions: Revisions, txn: TxnRequest) -> Refusal | None:
    """Before proposing a txn with writes: a range that could not be read, in the lists that it would take now.

    None where a put would fail: the log decides about that, alike on all members, and it comes first in the answer.
    """
    refused_put, refused_range = refusals_on(revisions, txn, choose_path(revisions, txn), nested_only=False)
    return None if refused_put is not None else refused_range


def read_txn(revisions: Revisions, txn: TxnRequest) -> bytes | Refusal:
    """A read-only txn, without the log. Gives the answer without its header."""
    path = choose_path(revisions, txn)
    _, refusal = refusals_on(revisions, txn, path, nested_only=False)
    return refusal or _run(_Run(revisions, path, answering=True), txn)


def apply_txn(revisions: Revisions, txn: TxnRequest, *, answering: bool) -> bytes | Refusal:
    """A txn out of the log; the caller seals the write. Gives the answer without its header, empty unless answering.

    TIMEOUT, though the txn was applied: a range at the top level became unreadable between the check and now, so
    there is no answer to give, and nothing may be said but that the outcome is unknown.
    """
    path = choose_path(revisions, txn)
    refused_put, refused_range = refusals_on(revisions, txn, path, nested_only=True)
    if refused_put is not None:
        return refused_put
    if refused_range is not None:
        return refused_range
    run = _Run(revisions, path, answering=answering)
    body = _run(run, txn)
    return TIMEOUT if run.lost_answer else body


def _run(run: "_Run", txn: TxnRequest) -> bytes:
    """Counted, as in etcd, if it is more than one operation."""
    revisions = run.revisions
    before = revisions.puts_count + revisions.deletes_count + revisions.ranges_count
    body = run.run(txn)
    if revisions.puts_count + revisions.deletes_count + revisions.ranges_count > before + 1:
        revisions.txns_count += 1
    return body


class _Run:
    """One execution of a txn along its path."""

    __slots__ = ("answering", "lost_answer", "path", "revisions")

    def __init__(self, revisions: Revisions, path: Sequence[bool], *, answering: bool) -> None:
        self.revisions = revisions
        self.path = iter(path)
        self.answering = answering
        self.lost_answer = False

    def run(self, txn: TxnRequest) -> bytes:
        """Gives the TxnResponse without its header."""
        succeeded = next(self.path)
        parts = [b"\x10\x01"] if succeeded else []
        for op in txn.success if succeeded else txn.failure:
            response = self.run_op(op)
            if self.answering:
                parts += (b"\x1a", varint(len(response)), response)
        return b"".join(parts)

    def run_op(self, op: RequestOp) -> bytes:
        """Gives the ResponseOp. An operation of a later version does nothing and answers with an empty one."""
        kind = op.WhichOneof("request")
        if kind == "request_put":
            return self.respond(b"\x12", put(self.revisions, op.request_put, answering=self.answering))
        if kind == "request_range":
            if self.answering:
                return self.respond(b"\x0a", self.read(op.request_range))
            self.revisions.ranges_count += 1
            return b""
        if kind == "request_delete_range":
            body = delete_range(self.revisions, op.request_delete_range, answering=self.answering)
            return self.respond(b"\x1a", body)
        if kind == "request_txn":
            return field(b"\x22", b"\x0a\x00" + self.run(op.request_txn))  # an empty header, as etcd's
        return b""

    def respond(self, tag: bytes, body: bytes | Refusal) -> bytes:
        """An operation's response with its header, which holds the revision alone."""
        if isinstance(body, Refusal):
            raise BrokenTxn(f"an operation was refused after others of its txn were applied: {body.text}")
        if not self.answering:
            return b""
        revision = varint(self.revisions.visible)
        return field(tag, field(b"\x0a", b"\x18" + revision) + body)

    def read(self, request: RangeRequest) -> bytes:
        body = read_range(self.revisions, request)
        if isinstance(body, Refusal):
            self.lost_answer = True
            return b""
        return body


def put(revisions: Revisions, request: PutRequest, *, answering: bool) -> bytes | Refusal:
    """One put, its lease known to exist. Gives a PutResponse without its header."""
    value, lease = request.value, request.lease
    body = b""
    if request.ignore_value or request.ignore_lease or request.prev_kv:
        old = revisions.current(request.key)
        if old is None:
            if request.ignore_value or request.ignore_lease:
                return KEY_NOT_FOUND
        else:
            if request.ignore_value:
                value = KeyValue.FromString(old).value
            if request.ignore_lease:
                lease = revisions.index.now[request.key][4]
            if request.prev_kv and answering:
                body = field(b"\x12", old)
    revisions.put(request.key, value, lease)
    return body


def delete_range(revisions: Revisions, request: DeleteRangeRequest, *, answering: bool) -> bytes:
    """Deletes what exists of a range, in order of keys. Gives a DeleteRangeResponse without its header."""
    revisions.deletes_count += 1
    keys = revisions.keys_in(request.key, request.range_end)
    previous: list[bytes] = []
    if request.prev_kv and answering:
        for key in keys:
            row = revisions.current(key)
            assert row is not None, key
            previous += (b"\x1a", varint(len(row)), row)
    for key in keys:
        revisions.delete(key)
    if not (answering and keys):
        return b""
    return b"\x10" + varint(len(keys)) + b"".join(previous)
