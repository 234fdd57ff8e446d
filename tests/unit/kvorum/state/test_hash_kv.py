"""HashKV: the figures of etcd.md, Appendix E, and the oddities around compaction."""

import pytest
from kvorum.state.hash_kv import Hashing, KeySpaceHash
from kvorum.state.refusal import COMPACTED, FUTURE_REVISION

from tests.unit.kvorum.state.driver import Driver

CRC_OF_KEY = 1084519789  # of the table's name alone: what etcd 3.5.30 answers for revision -5


@pytest.fixture
def driver() -> Driver:
    """The sequence of etcd.md, Appendix E: its hashes were asked of a real etcd."""
    driver = Driver()
    driver.put(b"a", b"1")
    driver.put(b"a", b"2")
    driver.put(b"c", b"1")
    driver.delete(b"c")
    driver.put(b"d", b"1")
    return driver


def crc(driver: Driver, revision: int = 0) -> int:
    found = driver.hash(revision, rows_max=2)
    assert isinstance(found, KeySpaceHash), found
    return found.hash


def test_a_fresh_store_hashes_the_name_of_its_table() -> None:
    driver = Driver()
    assert driver.hash() == KeySpaceHash(CRC_OF_KEY, 1, -1)


def test_a_revision_in_the_future_or_compacted_has_no_hash(driver: Driver) -> None:
    assert driver.hash(7) == FUTURE_REVISION
    driver.compact(5)
    assert driver.hash(4) == COMPACTED
    found = driver.hash(6)
    assert isinstance(found, KeySpaceHash)
    assert (found.revision, found.compact_revision) == (6, 5)


def test_zero_is_the_current_revision_and_below_it_no_rows_count(driver: Driver) -> None:
    assert driver.hash(0) == driver.hash(6)
    assert crc(driver, -5) == CRC_OF_KEY


def test_at_a_compaction_the_stored_hash_answers(driver: Driver) -> None:
    before = driver.hash(5)
    driver.compact(5)
    assert driver.hash(5) == before
    assert isinstance(driver.machine.hash_at(5), KeySpaceHash), "at once"
    assert isinstance(driver.machine.hash_at(6), Hashing)


def test_where_no_key_exists_nothing_is_skipped() -> None:
    """etcd's oddity: an empty set of kept rows skips none, so the rows that compaction left count."""
    driver = Driver()
    driver.put(b"a", b"1")
    driver.put(b"b", b"1")
    driver.compact(3)
    with_rows = crc(driver)
    driver.delete(b"a")
    one_left = crc(driver)
    driver.delete(b"b")
    none_left = crc(driver)
    assert len({with_rows, one_left, none_left}) == 3
    other = Driver()
    other.put(b"a", b"1")
    other.put(b"b", b"1")
    other.delete(b"a")
    other.delete(b"b")
    assert crc(other) == none_left, "as if nothing had been compacted"


def test_rows_that_a_compaction_will_remove_do_not_count_before_it_has_come_so_far() -> None:
    driver = Driver()
    for value in (b"1", b"2"):
        driver.put(b"a", value)
        driver.put(b"b", value)
    driver.compact(4, finish=False)
    driver.delete(b"a", b"\0")
    found = [crc(driver)]
    while driver.machine.compact_step(1):
        found.append(crc(driver))
    found.append(crc(driver))
    assert len(found) > 3
    assert len(set(found)) == 1


def test_a_hash_is_of_the_revision_asked_for_however_much_is_written_meanwhile(driver: Driver) -> None:
    wanted = driver.hash(6)
    hashing = driver.machine.hash_at(6)
    assert isinstance(hashing, Hashing)
    while not hashing.step(1):
        driver.put(b"a", b"later")
        driver.delete(b"d")
        driver.put(b"d")
    assert hashing.result == wanted


def test_a_result_that_is_not_there_yet_cannot_be_read(driver: Driver) -> None:
    hashing = driver.machine.hash_at(6)
    assert isinstance(hashing, Hashing)
    with pytest.raises(AssertionError):
        _ = hashing.result
