"""A real etcd's log goes in, its database comes out: rows, members, leases, users and hashes (captures of etcd 3.5.30).

The log `life` sets up authentication, refuses a put of the user alice, and turns authentication off again.
"""

import json
from collections.abc import Iterable

import pytest
from kvorum.raft.message import ConfState, Entry, EntryType
from kvorum.state.dict_store import DictStore
from kvorum.state.hash_kv import KeySpaceHash
from kvorum.state.machine import Machine
from kvorum.state.refusal import FUTURE_REVISION, PERMISSION_DENIED
from kvorum.state.store import TABLES

from tests.unit.kvorum.state.driver import (
    TESTDATA,
    captured_entries,
    captured_table,
    hash_of,
    new_machine,
    parse_conf_change,
)

DENIED_PUT = 38
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


@pytest.mark.parametrize("rows_max", [1, 1000])
@pytest.mark.parametrize("restarts", [False, True])
def test_the_end_of_a_life_is_that_of_etcd(rows_max: int, restarts: bool) -> None:
    store = DictStore()
    machine = new_machine(store)
    for entry in captured_entries("life-wal.jsonl"):
        follow(machine, [entry])
        machine.compact_step(rows_max)
        if restarts:
            machine = new_machine(store)
    while machine.compact_step(rows_max):
        pass
    for table in TABLES:
        assert store.rows(table) == captured_table("life-db.json", table), table
    assert hashes_like(machine, HASHES_AT_THE_END) == HASHES_AT_THE_END
    assert hash_of(machine, 13) == FUTURE_REVISION


def test_the_put_that_etcd_refused_is_refused_for_its_reason() -> None:
    machine = new_machine()
    entries = captured_entries("life-wal.jsonl")
    follow(machine, entries[: DENIED_PUT - 1])
    assert (machine.auth.enabled, machine.auth.revision, machine.revision) == (True, 7, 11)
    assert machine.apply(entries[DENIED_PUT - 1], answering=False).refusal == PERMISSION_DENIED
    assert machine.revision == 11


def test_a_life_with_snapshots_ends_as_that_of_etcd() -> None:
    store = DictStore()
    machine = new_machine(store)
    follow(machine, captured_entries("snapshot-wal.jsonl"))
    for table in TABLES:
        assert store.rows(table) == captured_table("snapshot-db.json", table), table
    wanted = captured_hashes("snapshot-hashkv.json", "hash")
    assert hashes_like(machine, wanted) == wanted


def test_a_database_of_etcd_is_loaded_as_it_is() -> None:
    tables = {table: captured_table("life-db.json", table) for table in TABLES}
    machine = new_machine(DictStore(tables))
    assert (machine.applied_index, machine.applied_term) == (45, 5)
    assert (machine.revision, machine.compact_revision) == (12, 5)
    assert [member.name for member in machine.membership.members] == ["n1", "n2", "n3"]
    assert machine.membership.removed == {0xB18ED2EFBE3A4DF9}
    assert machine.membership.cluster_version == "3.5.0"
    assert machine.conf_state.voters == tuple(member.id for member in machine.membership.members)
    assert [(lease.ttl_s, lease.sorted_keys()) for lease in machine.leases] == [(600, [b"e"])]
    assert hashes_like(machine, HASHES_AT_THE_END) == HASHES_AT_THE_END
