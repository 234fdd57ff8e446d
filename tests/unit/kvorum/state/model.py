"""The same state kept the slow way: every revision as a whole dict, every answer from the definition in etcd.md.

What Machine is compared with. Shares nothing with it but the protobuf messages.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from kvorum.etcdpb.rpc_pb2 import (
    Compare,
    DeleteRangeRequest,
    DeleteRangeResponse,
    Event,
    KeyValue,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    RequestOp,
    ResponseOp,
    TxnRequest,
    TxnResponse,
)

KEY_NOT_FOUND = "etcdserver: key not found"
LEASE_NOT_FOUND = "etcdserver: requested lease not found"
COMPACTED = "etcdserver: mvcc: required revision has been compacted"
FUTURE = "etcdserver: mvcc: required revision is a future revision"
_CRC_TABLE = []
for _byte in range(256):
    for _ in range(8):
        _byte = (_byte >> 1) ^ (0x82F63B78 if _byte & 1 else 0)
    _CRC_TABLE.append(_byte)


class Refused(Exception):
    """An answer with etcd's text."""


@dataclass(frozen=True)
class Row:
    main: int
    sub: int
    key: bytes
    kv: KeyValue | None  # None: a tombstone

    @property
    def at(self) -> tuple[int, int]:
        return self.main, self.sub

    def data(self) -> bytes:
        row_key = self.main.to_bytes(8, "big") + b"_" + self.sub.to_bytes(8, "big") + (b"" if self.kv else b"t")
        return row_key + (self.kv or KeyValue(key=self.key)).SerializeToString()


@dataclass
class Model:
    """rows: all there ever were. Compaction removes none; what it would remove is worked out where it matters."""

    revision: int = 1
    compacted: int = -1
    rows: list[Row] = field(default_factory=list)
    leases: set[int] = field(default_factory=set)
    changes: int = 0
    compactions: list[int] = field(default_factory=list)

    # -- the definition of everything: what a key was at a revision ------------------------------------------------

    @property
    def visible(self) -> int:
        return self.revision + bool(self.changes)

    def newest(self, main: int) -> dict[bytes, Row]:
        return {row.key: row for row in self.rows if row.main <= main}

    def at(self, main: int) -> dict[bytes, KeyValue]:
        return {key: row.kv for key, row in sorted(self.newest(main).items()) if row.kv is not None}

    def matching(self, key: bytes, range_end: bytes, main: int) -> list[KeyValue]:
        def inside(name: bytes) -> bool:
            if not range_end:
                return name == key
            return key <= name and (range_end == b"\0" or name < range_end)

        return [kv for name, kv in self.at(main).items() if inside(name)]

    # -- requests --------------------------------------------------------------------------------------------------

    def range(self, request: RangeRequest) -> RangeResponse:
        if request.revision > self.visible:
            raise Refused(FUTURE)
        main = request.revision if request.revision > 0 else self.visible
        if main < self.compacted:
            raise Refused(COMPACTED)
        found = self.matching(request.key, request.range_end, main)
        response = RangeResponse(count=len(found))
        if request.count_only:
            return response
        bounds = (
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        )
        if request.limit > 0 and request.sort_order == RangeRequest.NONE and not any(bounds):
            found = found[: request.limit + 1]
        found = [
            kv
            for kv in found
            if (not bounds[0] or kv.mod_revision >= bounds[0])
            and (not bounds[1] or kv.mod_revision <= bounds[1])
            and (not bounds[2] or kv.create_revision >= bounds[2])
            and (not bounds[3] or kv.create_revision <= bounds[3])
        ]
        name = ("key", "version", "create_revision", "mod_revision", "value")[request.sort_target]
        if request.sort_order or request.sort_target:
            found.sort(key=lambda kv: getattr(kv, name), reverse=request.sort_order == RangeRequest.DESCEND)
        if request.limit > 0 and len(found) > request.limit:
            found = found[: request.limit]
            response.more = True
        for kv in found:
            copy = KeyValue()
            copy.CopyFrom(kv)
            if request.keys_only:
                copy.value = b""
            response.kvs.append(copy)
        return response

    def put(self, request: PutRequest) -> PutResponse:
        old = self.at(self.visible).get(request.key)
        if (request.ignore_value or request.ignore_lease) and old is None:
            raise Refused(KEY_NOT_FOUND)
        main = self.revision + 1
        kv = KeyValue(
            key=request.key,
            value=old.value if request.ignore_value and old else request.value,
            lease=old.lease if request.ignore_lease and old else request.lease,
            create_revision=old.create_revision if old else main,
            mod_revision=main,
            version=old.version + 1 if old else 1,
        )
        self.rows.append(Row(main, self.changes, request.key, kv))
        self.changes += 1
        return PutResponse(prev_kv=old) if request.prev_kv and old else PutResponse()

    def delete_range(self, request: DeleteRangeRequest) -> DeleteRangeResponse:
        found = self.matching(request.key, request.range_end, self.visible)
        for kv in found:
            self.rows.append(Row(self.revision + 1, self.changes, kv.key, None))
            self.changes += 1
        return DeleteRangeResponse(deleted=len(found), prev_kvs=found if request.prev_kv else [])

    def compare(self, compare: Compare) -> bool:
        names = ("version", "create_revision", "mod_revision", "value", "lease")
        found = self.matching(compare.key, compare.range_end, self.revision)
        name = names[compare.target]
        if name == "value" and not found:
            return False
        for kv in found or [KeyValue()]:
            left, right = getattr(kv, name), getattr(compare, name)
            if not (left == right, left > right, left < right, left != right)[compare.result]:
                return False
        return True

    def path(self, txn: TxnRequest) -> Iterator[tuple[TxnRequest, bool]]:
        """Each txn that runs, and whether its compares hold; all decided before anything runs."""
        succeeded = all(self.compare(compare) for compare in txn.compare)
        yield txn, succeeded
        for op in txn.success if succeeded else txn.failure:
            if op.WhichOneof("request") == "request_txn":
                yield from self.path(op.request_txn)

    def txn(self, txn: TxnRequest) -> TxnResponse:
        path = list(self.path(txn))
        ops = [op for inner, succeeded in path for op in (inner.success if succeeded else inner.failure)]
        # Depth first matters for which refusal comes first only among puts; the tests compare with either.
        refusals = []
        for op in ops:
            if op.HasField("request_put"):
                put = op.request_put
                if (put.ignore_value or put.ignore_lease) and put.key not in self.at(self.revision):
                    refusals.append(KEY_NOT_FOUND)
                elif put.lease and put.lease not in self.leases:
                    refusals.append(LEASE_NOT_FOUND)
        for op in ops:
            if op.HasField("request_range"):
                main = op.request_range.revision
                if main > self.revision:
                    refusals.append(FUTURE)
                elif main and main < self.compacted:
                    refusals.append(COMPACTED)
        if refusals:
            raise Refused(*refusals)
        return self.run(txn, iter(path))

    def run(self, txn: TxnRequest, path: Iterator[tuple[TxnRequest, bool]]) -> TxnResponse:
        _, succeeded = next(path)
        response = TxnResponse(succeeded=succeeded)
        response.responses.extend(self.op(op, path) for op in (txn.success if succeeded else txn.failure))
        return response

    def op(self, op: RequestOp, path: Iterator[tuple[TxnRequest, bool]]) -> ResponseOp:
        answer = ResponseOp()
        if op.HasField("request_put"):
            answer.response_put.CopyFrom(self.put(op.request_put))
            answer.response_put.header.revision = self.visible
        elif op.HasField("request_range"):
            answer.response_range.CopyFrom(self.range(op.request_range))
            answer.response_range.header.revision = self.visible
        elif op.HasField("request_delete_range"):
            answer.response_delete_range.CopyFrom(self.delete_range(op.request_delete_range))
            answer.response_delete_range.header.revision = self.visible
        else:
            answer.response_txn.CopyFrom(self.run(op.request_txn, path))
            answer.response_txn.header.SetInParent()
        return answer

    def seal(self) -> None:
        self.revision = self.visible
        self.changes = 0

    def compact(self, revision: int) -> None:
        if revision <= self.compacted:
            raise Refused(COMPACTED)
        if revision > self.revision:
            raise Refused(FUTURE)
        self.compacted = revision
        self.compactions.append(revision)

    def revoke(self, lease: int) -> None:
        if lease not in self.leases:
            raise Refused(LEASE_NOT_FOUND)
        for key in sorted(key for key, kv in self.at(self.revision).items() if kv.lease == lease):
            self.delete_range(DeleteRangeRequest(key=key))
        self.leases.remove(lease)

    # -- what is seen from outside ----------------------------------------------------------------------------------

    def stored_rows(self) -> list[Row]:
        """What is left when all compactions are done."""
        kept = self.newest(self.compacted)
        return [
            row
            for row in self.rows
            if row.main > self.compacted or (kept[row.key] == row and (row.kv or row.main == self.compacted))
        ]

    def hash_kv(self, main: int) -> tuple[int, int]:
        """CRC-32C of what counts, and the compacted revision it belongs to; by the rule of Appendix E and 6.3."""
        if main in self.compactions:
            index = self.compactions.index(main)
            before = Model(self.revision, self.compactions[index - 1] if index else -1, self.rows)
            keep = {row.at for row in before.newest(main).values() if row.kv or row.main == main}
            return before.hash_of_rows(main, keep), before.compacted
        keep = {row.at for row in self.newest(main).values() if row.kv}
        return self.hash_of_rows(main, keep), self.compacted

    def hash_of_rows(self, main: int, keep: set[tuple[int, int]]) -> int:
        crc = _crc(b"key", 0)
        for row in self.stored_rows():
            old = row.main <= self.compacted and bool(keep) and row.at not in keep
            if row.main <= main and not old and not (row.main == self.compacted and row.kv is None):
                crc = _crc(row.data(), crc)
        return crc

    def events(self, first: int, last: int) -> list[Event]:
        return [
            Event(type=Event.PUT, kv=row.kv)
            if row.kv
            else Event(type=Event.DELETE, kv=KeyValue(key=row.key, mod_revision=row.main))
            for row in self.stored_rows()
            if first <= row.main <= last
        ]


def _crc(data: bytes, crc: int) -> int:
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF
