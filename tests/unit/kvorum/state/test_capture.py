"""A real etcd's log goes in, its database comes out: rows, members, leases and hashes (captures of etcd 3.5.30).

The log `life` sets up authentication from entry 28 on, which is not applied yet. It is compared up to there, and once
more to its end with the entries about authentication left out, and the one put that it refused.
"""

import json
from collections.abc import Iterable

import pytest
from kvorum.etcdpb.internal_pb2 import InternalRaftRequest
from kvorum.raft.message import ConfState, Entry, EntryType
from kvorum.state.dict_store import DictStore
from kvorum.state.hash_kv import KeySpaceHash
from kvorum.state.machine import Machine, UnsupportedEntry
from kvorum.state.refusal import FUTURE_REVISION
from kvorum.state.store import ALARM, CLUSTER, KEY, LEASE, MEMBERS, MEMBERS_REMOVED, META
from kvorum.state.v2_request import is_v2_request

from tests.unit.kvorum.state.driver import (
    TESTDATA,
    captured_entries,
    captured_table,
    hash_of,
    new_machine,
    parse_conf_change,
)

FIRST_OF_AUTH, DENIED_PUT = 28, 38
COMPACTION = 19
# Asked of an etcd that was started on this database: revision -> hash, compact revision.
HASHES_AT_THE_END = {
    revision: (crc, 5)
    for revision, crc in {
        6: 1796864218,
        7: 409507257,
        10: 1254815076,
        11: 3417416886,
        12: 3643176747,
        0: 3643176747,
    }.items()
}


def follow(machine: Machine, entries: Iterable[Entry]) -> None:
    """Applies as a member without clients does, with the configuration that raft would keep."""
    voters: set[int] = set(machine.conf_state.voters)
    learners: set[int] = set(machine.conf_state.learners)
    for entry in entries:
        if entry.type == EntryType.NORMAL:
            machine.apply(entry, answering=False)
            continue
        change, refusal = machine.apply_conf_change(entry, parse_conf_change(entry.data))
        assert refusal is None
        voters -= {change.node_id}
        learners -= {change.node_id}
        if change.type == 0:
            voters.add(change.node_id)
        elif change.type == 3:
            learners.add(change.node_id)
        machine.set_conf_state(ConfState(tuple(sorted(voters)), tuple(sorted(learners))))
    machine.checkpoint()


def without_auth(entries: Iterable[Entry]) -> list[Entry]:
    """The same log with empty entries in the place of what concerns authentication."""
    kept = []
    for entry in entries:
        data = entry.data
        if entry.type == EntryType.NORMAL and data and not is_v2_request(data):
            fields = [descriptor.name for descriptor, _ in InternalRaftRequest.FromString(data).ListFields()]
            if entry.index == DENIED_PUT or any(name.startswith("auth") for name in fields):
                data = b""
        kept.append(Entry(entry.term, entry.index, data, entry.type))
    return kept


def captured_hashes(name: str, part: str) -> dict[int, tuple[int, int]]:
    answers = json.loads((TESTDATA / name).read_text())[part]
    return {
        int(revision): (members[0]["hash"], members[0]["compact_revision"])
        for revision, members in answers.items()
        if isinstance(members[0], dict)
    }


def hashes_like(machine: Machine, wanted: Iterable[int]) -> dict[int, tuple[int, int]]:
    found = {}
    for revision in wanted:
        answer = hash_of(machine, revision, rows_max=3)
        assert isinstance(answer, KeySpaceHash), answer
        found[revision] = (answer.hash, answer.compact_revision)
    return found


@pytest.mark.parametrize("rows_max", [1, 2, 1000])
def test_hashes_before_and_after_a_compaction_are_those_of_etcd(rows_max: int) -> None:
    entries = captured_entries("life-wal.jsonl")
    machine = new_machine()
    follow(machine, entries[: COMPACTION - 1])
    before = captured_hashes("life-hashkv.json", "hash_before_compact")
    assert hashes_like(machine, before) == before

    machine.apply(entries[COMPACTION - 1], answering=False)
    after = captured_hashes("life-hashkv.json", "hash_after_compact")
    unstored = {revision: found for revision, found in after.items() if revision != machine.compact_revision}
    assert hashes_like(machine, unstored) == unstored, "the rows are still there"
    while machine.compact_step(rows_max):
        assert hashes_like(machine, unstored) == unstored
    assert hashes_like(machine, after) == after


def test_the_state_before_authentication_is_that_of_etcd() -> None:
    entries = captured_entries("life-wal.jsonl")[: FIRST_OF_AUTH - 1]
    store = DictStore()
    machine = new_machine(store)
    follow(machine, entries)
    while machine.compact_step(1):
        pass
    for table in (LEASE, MEMBERS, MEMBERS_REMOVED, CLUSTER, ALARM):
        assert store.rows(table) == captured_table("life-db.json", table), table
    meta = captured_table("life-db.json", META)
    assert store.rows(META) | {b"consistent_index": meta[b"consistent_index"], b"term": meta[b"term"]} == meta


def test_an_entry_about_authentication_is_fatal_and_named() -> None:
    entries = captured_entries("life-wal.jsonl")
    machine = new_machine()
    follow(machine, entries[: FIRST_OF_AUTH - 1])
    with pytest.raises(UnsupportedEntry, match="entry 28 is auth_user_add"):
        machine.apply(entries[FIRST_OF_AUTH - 1], answering=False)


@pytest.mark.parametrize("rows_max", [1, 1000])
@pytest.mark.parametrize("restarts", [False, True])
def test_the_end_of_a_life_without_authentication_is_that_of_etcd(rows_max: int, restarts: bool) -> None:
    store = DictStore()
    machine = new_machine(store)
    for entry in without_auth(captured_entries("life-wal.jsonl")):
        follow(machine, [entry])
        machine.compact_step(rows_max)
        if restarts:
            machine = new_machine(store)
    while machine.compact_step(rows_max):
        pass
    for table in (KEY, LEASE, MEMBERS, MEMBERS_REMOVED, CLUSTER, ALARM, META):
        assert store.rows(table) == captured_table("life-db.json", table), table
    assert hashes_like(machine, HASHES_AT_THE_END) == HASHES_AT_THE_END
    assert hash_of(machine, 13) == FUTURE_REVISION


def test_a_life_with_snapshots_ends_as_that_of_etcd() -> None:
    store = DictStore()
    machine = new_machine(store)
    follow(machine, captured_entries("snapshot-wal.jsonl"))
    for table in (KEY, LEASE, MEMBERS, MEMBERS_REMOVED, CLUSTER, ALARM, META):
        assert store.rows(table) == captured_table("snapshot-db.json", table), table
    wanted = captured_hashes("snapshot-hashkv.json", "hash")
    assert hashes_like(machine, wanted) == wanted


def test_a_database_of_etcd_is_loaded_as_it_is() -> None:
    tables = {
        table: captured_table("life-db.json", table)
        for table in (KEY, LEASE, MEMBERS, MEMBERS_REMOVED, CLUSTER, ALARM, META)
    }
    machine = new_machine(DictStore(tables))
    assert (machine.applied_index, machine.applied_term) == (45, 5)
    assert (machine.revision, machine.compact_revision) == (12, 5)
    assert [member.name for member in machine.membership.members] == ["n1", "n2", "n3"]
    assert machine.membership.removed == {0xB18ED2EFBE3A4DF9}
    assert machine.membership.cluster_version == "3.5.0"
    assert machine.conf_state.voters == tuple(member.id for member in machine.membership.members)
    assert [(lease.ttl_s, lease.sorted_keys()) for lease in machine.leases] == [(600, [b"e"])]
    assert hashes_like(machine, HASHES_AT_THE_END) == HASHES_AT_THE_END
