"""A Machine with a log in front of it, as a proposer on another member would fill it. For the tests beside."""

import json
from pathlib import Path
from typing import Any

from kvorum.etcdpb import raft_pb2
from kvorum.etcdpb.internal_pb2 import InternalRaftRequest, RequestHeader
from kvorum.etcdpb.rpc_pb2 import (
    DeleteRangeRequest,
    KeyValue,
    PutRequest,
    RangeRequest,
    RangeResponse,
    RequestOp,
    TxnRequest,
)
from kvorum.raft import change_codec
from kvorum.raft.message import ConfChange, ConfChangeType, Entry, EntryType
from kvorum.state.dict_store import DictStore
from kvorum.state.hash_kv import KeySpaceHash
from kvorum.state.machine import Machine, Outcome
from kvorum.state.refusal import Refusal
from kvorum.state.store import Store

TESTDATA = Path(__file__).parent / "testdata"


def new_machine(store: Store | None = None, **options: Any) -> Machine:
    settings: dict[str, Any] = {"lease_ttl_min_s": 2, "quota_bytes": -1} | options
    machine = Machine(DictStore() if store is None else store, **settings)
    machine.load()
    return machine


class Driver:
    """Applies requests as entries, one after the other."""

    def __init__(self, machine: Machine | None = None) -> None:
        self.machine = new_machine() if machine is None else machine
        self.entries: list[Entry] = []

    def apply(self, *, answering: bool = True, **request: Any) -> Outcome:
        """One InternalRaftRequest with the given field."""
        index = self.machine.applied_index + 1
        envelope = InternalRaftRequest(header=RequestHeader(ID=1000 + index), **request)
        return self.apply_data(envelope.SerializeToString(), answering=answering)

    def apply_data(self, data: bytes, *, answering: bool = True) -> Outcome:
        entry = Entry(term=2, index=self.machine.applied_index + 1, data=data)
        self.entries.append(entry)
        return self.machine.apply(entry, answering=answering)

    def change(self, change: ConfChange) -> tuple[ConfChange, Refusal | None]:
        index = self.machine.applied_index + 1
        entry = Entry(term=2, index=index, type=EntryType.CONF_CHANGE, data=change_codec.encode(change))
        self.entries.append(entry)
        return self.machine.apply_conf_change(entry, change)

    def put(self, key: bytes, value: bytes = b"", **options: Any) -> Outcome:
        return self.apply(put=PutRequest(key=key, value=value, **options))

    def delete(self, key: bytes, range_end: bytes = b"", **options: Any) -> Outcome:
        return self.apply(delete_range=DeleteRangeRequest(key=key, range_end=range_end, **options))

    def read(self, key: bytes, range_end: bytes = b"", **options: Any) -> RangeResponse | Refusal:
        body = self.machine.range(RangeRequest(key=key, range_end=range_end, **options))
        return body if isinstance(body, Refusal) else RangeResponse.FromString(body)

    def keys(self, **options: Any) -> list[bytes]:
        """All keys there are, or a Refusal's."""
        answer = self.read(b"\0", b"\0", **options)
        assert isinstance(answer, RangeResponse), answer
        return [kv.key for kv in answer.kvs]

    def value(self, key: bytes, **options: Any) -> bytes | None:
        answer = self.read(key, **options)
        assert isinstance(answer, RangeResponse), answer
        return answer.kvs[0].value if answer.kvs else None

    def compact(self, revision: int, *, rows_max: int = 1000, finish: bool = True) -> Outcome:
        outcome = self.apply(compaction={"revision": revision})
        while finish and self.machine.compact_step(rows_max):
            pass
        return outcome

    def hash(self, revision: int = 0, *, rows_max: int = 1000) -> KeySpaceHash | Refusal:
        return hash_of(self.machine, revision, rows_max=rows_max)


def hash_of(machine: Machine, revision: int = 0, *, rows_max: int = 1000) -> KeySpaceHash | Refusal:
    found = machine.hash_at(revision)
    if isinstance(found, KeySpaceHash | Refusal):
        return found
    while not found.step(rows_max):
        pass
    return found.result


def put_op(key: bytes, value: bytes = b"", **options: Any) -> RequestOp:
    return RequestOp(request_put=PutRequest(key=key, value=value, **options))


def delete_op(key: bytes, range_end: bytes = b"", **options: Any) -> RequestOp:
    return RequestOp(request_delete_range=DeleteRangeRequest(key=key, range_end=range_end, **options))


def range_op(key: bytes, range_end: bytes = b"", **options: Any) -> RequestOp:
    return RequestOp(request_range=RangeRequest(key=key, range_end=range_end, **options))


def txn_op(**lists: Any) -> RequestOp:
    return RequestOp(request_txn=TxnRequest(**lists))


def key_value(key: bytes, value: bytes, create: int, mod: int, version: int, lease: int = 0) -> KeyValue:
    return KeyValue(key=key, value=value, create_revision=create, mod_revision=mod, version=version, lease=lease)


def captured_entries(name: str) -> list[Entry]:
    """The entries of a captured WAL in order, the last of each index."""
    entries: dict[int, Entry] = {}
    for line in (TESTDATA / name).read_text().splitlines():
        record = json.loads(line)
        if record["type"] == "entry":
            found = raft_pb2.Entry.FromString(bytes.fromhex(record["data_hex"]))
            entries[found.index] = Entry(found.term, found.index, found.data, found.type)
    return [entries[index] for index in sorted(entries)]


def captured_table(name: str, table: str) -> dict[bytes, bytes]:
    """The rows of a bucket of a captured db."""
    rows = json.loads((TESTDATA / name).read_text())["buckets"][table]
    key = {"key": "key_hex"}.get(table, "key")
    value = {"key": "value_hex"}.get(table, "value")
    return {_bytes(row[key], table == "key"): _bytes(row[value], table == "key") for row in rows}


def _bytes(text: str | dict[str, str], is_hex: bool) -> bytes:
    if isinstance(text, dict):
        return bytes.fromhex(text["hex"])
    return bytes.fromhex(text) if is_hex else text.encode()


def parse_conf_change(data: bytes) -> ConfChange:
    message = raft_pb2.ConfChange.FromString(data)
    return ConfChange(ConfChangeType(message.type), message.node_id, message.id, message.context)
