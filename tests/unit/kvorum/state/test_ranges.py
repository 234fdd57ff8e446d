"""What is said of ranges in etcd.md 1.6 that the model does not say in so many words."""

import pytest
from kvorum.etcdpb.rpc_pb2 import RangeRequest, RangeResponse
from kvorum.state.dict_store import DictStore
from kvorum.state.refusal import COMPACTED, FUTURE_REVISION
from kvorum.state.store import KEY

from tests.unit.kvorum.state.driver import Driver, new_machine


@pytest.fixture
def driver() -> Driver:
    """Revisions: 2 a, 3 b, 4 c, 5 a again, 6 c deleted."""
    driver = Driver()
    driver.put(b"a", b"1")
    driver.put(b"b", b"2")
    driver.put(b"c", b"3")
    driver.put(b"a", b"4")
    driver.delete(b"c")
    return driver


def test_the_answer_joins_the_rows_as_they_are_stored() -> None:
    store = DictStore()
    driver = Driver(new_machine(store))
    driver.put(b"a", b"1")
    driver.put(b"b", b"2")
    rows = [row for _, row in store.scan(KEY)]
    body = driver.machine.range(RangeRequest(key=b"\0", range_end=b"\0"))
    assert body == b"".join(b"\x12" + bytes((len(row),)) + row for row in rows) + b"\x20\x02"
    assert driver.machine.range(RangeRequest(key=b"c")) == b""


@pytest.mark.parametrize(
    ("key", "range_end", "wanted"),
    [
        (b"a", b"", [b"a"]),
        (b"a", b"b", [b"a"]),
        (b"a", b"c", [b"a", b"b"]),
        (b"b", b"\0", [b"b"]),
        (b"\0", b"\0", [b"a", b"b"]),
        (b"b", b"a", []),
        (b"b", b"b", []),
        (b"c", b"", []),
    ],
)
def test_a_range_is_what_etcd_takes_it_for(driver: Driver, key: bytes, range_end: bytes, wanted: list[bytes]) -> None:
    answer = driver.read(key, range_end)
    assert isinstance(answer, RangeResponse)
    assert [kv.key for kv in answer.kvs] == wanted
    assert answer.count == len(wanted)


def test_an_older_revision_is_read_as_it_was(driver: Driver) -> None:
    assert driver.keys(revision=4) == [b"a", b"b", b"c"]
    assert driver.keys(revision=3) == [b"a", b"b"]
    assert driver.value(b"a", revision=4) == b"1"
    assert driver.value(b"c", revision=5) == b"3"
    assert driver.value(b"c", revision=6) is None
    assert driver.read(b"a", revision=7) == FUTURE_REVISION


def test_below_the_compacted_revision_nothing_is_read(driver: Driver) -> None:
    driver.compact(5, finish=False)
    assert driver.read(b"a", revision=4) == COMPACTED
    assert driver.value(b"c", revision=5) == b"3"
    assert driver.value(b"a", revision=-1) == b"4", "a revision below 1 is the current one"


def test_the_count_leaves_limit_and_filters_aside(driver: Driver) -> None:
    answer = driver.read(b"a", b"\0", limit=1)
    assert isinstance(answer, RangeResponse)
    assert (len(answer.kvs), answer.more, answer.count) == (1, True, 2)
    answer = driver.read(b"a", b"\0", min_mod_revision=5, limit=1)
    assert isinstance(answer, RangeResponse)
    assert ([kv.key for kv in answer.kvs], answer.more, answer.count) == ([b"a"], False, 2)
    answer = driver.read(b"a", b"\0", count_only=True, limit=1)
    assert isinstance(answer, RangeResponse)
    assert (len(answer.kvs), answer.more, answer.count) == (0, False, 2)


@pytest.mark.parametrize(
    ("bounds", "wanted"),
    [
        ({"min_mod_revision": 3}, [b"a", b"b"]),
        ({"min_mod_revision": 4}, [b"a"]),
        ({"max_mod_revision": 3}, [b"b"]),
        ({"max_mod_revision": 2}, []),
        ({"min_create_revision": 3}, [b"b"]),
        ({"min_create_revision": 2}, [b"a", b"b"]),
        ({"max_create_revision": 2}, [b"a"]),
        ({"max_create_revision": 3}, [b"a", b"b"]),
        ({"min_create_revision": 2, "max_create_revision": 2, "min_mod_revision": 5, "max_mod_revision": 5}, [b"a"]),
    ],
)
def test_bounds_of_revisions_include_their_ends(driver: Driver, bounds: dict[str, int], wanted: list[bytes]) -> None:
    assert driver.keys(**bounds) == wanted


def test_a_limit_cuts_before_a_sort_without_an_order_and_after_one_with(driver: Driver) -> None:
    """etcd's oddity: a target alone sorts, but only what the limit let through (limit and one more)."""
    driver.put(b"\1", b"9")  # the newest, and first in order of keys
    target = {"sort_target": RangeRequest.MOD, "limit": 1}
    assert driver.keys(**target) == [b"a"], "of \\1 and a, which came within limit and one"
    assert driver.keys(**target, sort_order=RangeRequest.ASCEND) == [b"b"]
    assert driver.keys(**target, sort_order=RangeRequest.DESCEND) == [b"\1"]


def test_equal_ones_keep_the_order_of_keys_in_both_directions(driver: Driver) -> None:
    for order in (RangeRequest.ASCEND, RangeRequest.DESCEND):
        answer = driver.keys(revision=4, sort_target=RangeRequest.VERSION, sort_order=order)
        assert answer == [b"a", b"b", b"c"]


def test_keys_only_leaves_out_the_values_and_keeps_the_rest(driver: Driver) -> None:
    driver.apply(lease_grant={"ID": 7, "TTL": 60})
    driver.put(b"a", b"5", lease=7)
    answer = driver.read(b"a", keys_only=True)
    assert isinstance(answer, RangeResponse)
    kv = answer.kvs[0]
    assert (kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease) == (b"a", b"", 2, 7, 3, 7)


def test_a_count_at_the_current_revision_reads_no_key() -> None:
    """Counting 20,000 keys takes no longer than counting 20: it bisects."""

    class Counted(DictStore):
        reads = 0

        def get(self, table: str, key: bytes) -> bytes | None:
            self.reads += table == KEY
            return super().get(table, key)

    store = Counted()
    driver = Driver(new_machine(store))
    for n in range(2000):
        driver.put(b"%05d" % n)
    answer = driver.read(b"0", b"\0", count_only=True)
    assert isinstance(answer, RangeResponse)
    assert (answer.count, store.reads) == (2000, 0)
    answer = driver.read(b"0", b"\0", limit=3)
    assert isinstance(answer, RangeResponse)
    assert (answer.count, answer.more, store.reads) == (2000, True, 4)
