"""Compaction: in effect at once, its rows removed in slices, and the same to see at every step."""

import pytest
from kvorum.etcdpb.rpc_pb2 import CompactionRequest
from kvorum.state.dict_store import DictStore
from kvorum.state.hash_kv import Hashing, KeySpaceHash
from kvorum.state.refusal import COMPACTED, FUTURE_REVISION
from kvorum.state.row import revision_key, tombstone_key
from kvorum.state.store import KEY, META

from tests.unit.kvorum.state.driver import Driver, delete_op, hash_of, new_machine, put_op

SCHEDULED, FINISHED = b"scheduledCompactRev", b"finishedCompactRev"


@pytest.fixture
def store() -> DictStore:
    return DictStore()


@pytest.fixture
def driver(store: DictStore) -> Driver:
    """Revisions: 2, 3, 4 a; 5 b; 6 b deleted; 7 a."""
    driver = Driver(new_machine(store))
    for value in (b"1", b"2", b"3"):
        driver.put(b"a", value)
    driver.put(b"b")
    driver.delete(b"b")
    driver.put(b"a", b"4")
    return driver


def mains(store: DictStore) -> list[int]:
    return [int.from_bytes(key[:8], "big") for key in store.rows(KEY)]


def test_a_compaction_needs_a_revision_above_the_last_and_not_in_the_future(driver: Driver) -> None:
    assert driver.compact(8).refusal == FUTURE_REVISION
    outcome = driver.compact(4)
    assert (outcome.refusal, outcome.revision, outcome.body) == (None, 7, b"")
    assert driver.compact(4).refusal == COMPACTED
    assert driver.compact(3).refusal == COMPACTED
    assert driver.compact(7).refusal is None
    assert driver.machine.compact_revision == 7


def test_a_fresh_store_can_be_compacted_at_zero_as_in_etcd() -> None:
    driver = Driver()
    assert driver.compact(-1).refusal == COMPACTED
    assert driver.compact(0).refusal is None
    assert driver.machine.compact_revision == 0
    assert driver.compact(0).refusal == COMPACTED


@pytest.mark.parametrize("rows_max", [1, 2, 1000])
@pytest.mark.parametrize(
    ("revision", "left"),
    [
        (2, [2, 3, 4, 5, 6, 7]),
        (3, [3, 4, 5, 6, 7]),
        (5, [4, 5, 6, 7]),
        (6, [4, 6, 7]),  # a tombstone exactly there stays (etcd from 3.5.16 on)
        (7, [7]),
    ],
)
def test_the_newest_row_of_each_key_stays(
    driver: Driver, store: DictStore, revision: int, left: list[int], rows_max: int
) -> None:
    driver.compact(revision, rows_max=rows_max)
    assert mains(store) == left
    assert driver.value(b"a") == b"4"


def test_a_key_deleted_and_put_again_in_one_txn_survives_a_compaction_there() -> None:
    """etcd 3.5.30 removes the row of the put, and dies when the key is read (asked: three requests to a fresh one)."""
    store = DictStore()
    driver = Driver(new_machine(store))
    driver.put(b"b", b"old")
    driver.apply(txn={"success": [delete_op(b"a", b"\0"), put_op(b"b", b"new")]})
    driver.compact(3)
    assert driver.value(b"b") == b"new"
    assert list(store.rows(KEY)) == [revision_key(3, 1)]
    assert new_machine(store).revisions.index.now[b"b"] == (3, 1, 3, 1, 0)


def test_a_step_looks_at_no_more_rows_than_it_is_told(driver: Driver, store: DictStore) -> None:
    driver.compact(7, finish=False)
    removed, steps = [], 0
    while driver.machine.compact_step(2):
        steps += 1
        removed.append(6 - len(mains(store)))
    assert removed == [2, 4, 5]
    assert steps == 3
    assert not driver.machine.compaction.pending
    assert not driver.machine.compact_step(2)


def test_a_key_that_is_gone_altogether_is_dropped_from_the_index(driver: Driver, store: DictStore) -> None:
    index = driver.machine.revisions.index
    driver.compact(6)
    assert list(index.gone) == [b"b"], "its tombstone is still there"
    driver.compact(7)
    assert not index.past
    assert not index.gone
    assert set(index.now) == {b"a"}
    assert new_machine(store).revisions.index.now == index.now


def test_who_waits_for_the_rows_to_go_sees_when_they_are(driver: Driver) -> None:
    compaction = driver.machine.compaction
    driver.compact(4, finish=False)
    driver.compact(6, finish=False)
    seen = [compaction.finished_revision]
    while driver.machine.compact_step(3):
        seen.append(compaction.finished_revision)
    seen.append(compaction.finished_revision)
    assert seen == sorted(seen)
    assert seen[0] == -1
    assert 4 in seen, "they are worked off one after the other"
    assert seen[-1] == 6


def test_scheduled_and_finished_are_rows_of_meta(driver: Driver, store: DictStore) -> None:
    driver.compact(5, finish=False)
    assert store.get(META, SCHEDULED) == revision_key(5, 0)
    assert store.get(META, FINISHED) is None
    while driver.machine.compact_step(1):
        pass
    assert store.get(META, FINISHED) == revision_key(5, 0)


@pytest.mark.parametrize("steps", range(6))
def test_a_compaction_that_was_cut_off_goes_on_after_a_restart(driver: Driver, store: DictStore, steps: int) -> None:
    driver.compact(7, finish=False)
    for _ in range(steps):
        driver.machine.compact_step(1)
    machine = new_machine(store)
    assert (machine.revision, machine.compact_revision) == (7, 7)
    assert machine.compaction.pending
    while machine.compact_step(1):
        pass
    assert mains(store) == [7]
    assert store.get(META, FINISHED) == revision_key(7, 0)
    assert machine.compaction.hashes.find(7) is None, "its hash would miss the rows that were gone before"


def test_a_restart_does_not_fall_back_below_what_was_compacted() -> None:
    store = DictStore()
    driver = Driver(new_machine(store))
    driver.put(b"a")
    driver.delete(b"a")
    driver.put(b"b")
    driver.delete(b"b")
    driver.compact(5)
    store.delete(KEY, tombstone_key(5, 0))  # as etcd up to 3.5.15 leaves it: not a row
    assert store.rows(KEY) == {}
    assert (new_machine(store).revision, new_machine(store).compact_revision) == (5, 5)
    store.delete(META, FINISHED)  # and killed before it said that it had finished
    assert (new_machine(store).revision, new_machine(store).compact_revision) == (5, 5)


def test_the_hashes_of_the_last_ten_compactions_are_kept() -> None:
    driver = Driver()
    driver.put(b"old")  # kept by each of them, and counted
    for n in range(14):
        driver.put(b"a", b"%d" % n)
    wanted = {}
    for revision in range(2, 15):
        found = hash_of(driver.machine, revision)
        assert isinstance(found, KeySpaceHash)
        wanted[revision] = found
        driver.compact(revision)
    stored = driver.machine.compaction.hashes
    for revision in range(2, 15):
        assert stored.find(revision) == (wanted[revision] if revision >= 5 else None)
    assert hash_of(driver.machine, 14) == wanted[14]
    assert wanted[14].compact_revision == 13
    assert hash_of(driver.machine, 4) == COMPACTED


def test_two_compactions_in_the_queue_store_the_hashes_of_two_that_were_not(driver: Driver) -> None:
    patient = Driver()
    for entry in driver.entries:
        patient.apply_data(entry.data)
    for revision in (3, 6):
        patient.compact(revision)
        driver.compact(revision, finish=False)
    while driver.machine.compact_step(1):
        pass
    for revision in range(8):
        found = driver.machine.compaction.hashes.find(revision)
        assert found == patient.machine.compaction.hashes.find(revision)
        assert (found is not None) == (revision in (3, 6))


def test_no_row_is_removed_while_one_is_hashed(driver: Driver, store: DictStore) -> None:
    before = hash_of(driver.machine, 7)
    hashing = driver.machine.hash_at(7)
    assert isinstance(hashing, Hashing)
    hashing.step(1)
    driver.compact(6, finish=False)
    rows = mains(store)
    for _ in range(3):
        assert driver.machine.compact_step(1000), "there is work, and it waits"
        assert mains(store) == rows
        hashing.step(1)
    while not hashing.step(1):
        pass
    assert hashing.result == before
    while driver.machine.compact_step(1):
        pass
    assert mains(store) == [4, 6, 7]


def test_a_hashing_that_is_given_up_holds_nothing_up(driver: Driver, store: DictStore) -> None:
    hashing = driver.machine.hash_at(0)
    assert isinstance(hashing, Hashing)
    hashing.close()
    driver.compact(7)
    assert mains(store) == [7]


def test_readers_and_hashes_see_the_same_at_every_step(driver: Driver) -> None:
    driver.compact(4, finish=False)
    driver.compact(6, finish=False)
    seen = set()
    while True:
        found = hash_of(driver.machine, 7, rows_max=1)
        seen.add((found, driver.value(b"a", revision=6), driver.value(b"b", revision=6), len(driver.keys())))
        if not driver.machine.compact_step(1):
            break
    assert len(seen) == 1


def test_a_compaction_through_the_log_says_whether_it_is_physical_to_nobody(driver: Driver) -> None:
    """`physical` concerns only who answers; the state machine is the same."""
    assert driver.apply(compaction=CompactionRequest(revision=4, physical=True)).refusal is None
    assert driver.machine.compaction.pending
