"""Events: what watchers are told now, and what is read from the rows for those that are behind."""

import pytest
from kvorum.etcdpb.rpc_pb2 import Event as EventMessage
from kvorum.etcdpb.rpc_pb2 import KeyValue
from kvorum.state.event import Event, with_previous

from tests.unit.kvorum.state.driver import Driver, delete_op, key_value, put_op


@pytest.fixture
def driver() -> Driver:
    """Revisions: 2 a; 3 a, b, c in one txn; 4 b deleted; 5 a."""
    driver = Driver()
    driver.put(b"a", b"1")
    driver.apply(txn={"success": [put_op(b"a", b"2"), put_op(b"b"), put_op(b"c")]})
    driver.delete(b"b")
    driver.put(b"a", b"3")
    return driver


def names(events: list[Event]) -> list[tuple[int, bytes]]:
    return [(event.revision, event.key) for event in events]


def test_an_event_is_encoded_as_protobuf_does() -> None:
    driver = Driver()
    driver.put(b"a", b"1")
    driver.delete(b"a")
    put, delete = driver.machine.take_events()
    kv = key_value(b"a", b"1", 2, 2, 1)
    assert EventMessage.FromString(put.encoded) == EventMessage(kv=kv)
    assert EventMessage.FromString(delete.encoded) == EventMessage(
        type=EventMessage.DELETE, kv=KeyValue(key=b"a", mod_revision=3)
    )
    assert put.encoded is put.encoded, "once"
    previous = driver.machine.revisions.previous(delete)
    assert EventMessage.FromString(with_previous(delete, previous)).prev_kv == kv
    assert with_previous(put, None) == put.encoded


def test_a_creation_has_nothing_before_it_though_its_own_txn_deleted_the_key() -> None:
    """Found against etcd by tests/compat/test_differential.py."""
    driver = Driver()
    driver.put(b"a", b"old")
    driver.machine.take_events()
    driver.apply(txn={"success": [delete_op(b"a", b"\0"), put_op(b"a", b"new")]})
    deletion, creation = driver.machine.take_events()
    assert driver.machine.revisions.previous(deletion) is not None
    assert driver.machine.revisions.previous(creation) is None


def test_events_are_taken_once(driver: Driver) -> None:
    assert names(driver.machine.take_events()) == [
        (2, b"a"),
        (3, b"a"),
        (3, b"b"),
        (3, b"c"),
        (4, b"b"),
        (5, b"a"),
    ]
    assert driver.machine.take_events() == []


def test_the_history_is_what_was_told(driver: Driver) -> None:
    told = driver.machine.take_events()
    assert driver.machine.revisions.events_between(1, 5, 1000) == (told, 6)
    assert driver.machine.revisions.events_between(3, 4, 1000) == (told[1:5], 5)
    assert driver.machine.revisions.events_between(6, 5, 1000) == ([], 6)


def test_history_comes_in_whole_revisions(driver: Driver) -> None:
    history = driver.machine.revisions.events_between
    events, following = history(2, 5, 1)
    assert (names(events), following) == ([(2, b"a")], 3)
    events, following = history(3, 5, 1)
    assert (names(events), following) == ([(3, b"a"), (3, b"b"), (3, b"c")], 4)
    events, following = history(3, 5, 4)
    assert (len(events), following) == (4, 5)


def test_history_is_read_for_a_range_of_keys(driver: Driver) -> None:
    history = driver.machine.revisions.events_between
    assert names(history(1, 5, 99, b"b", b"")[0]) == [(3, b"b"), (4, b"b")]
    assert names(history(1, 5, 99, b"a", b"b")[0]) == [(2, b"a"), (3, b"a"), (5, b"a")]
    assert names(history(1, 5, 99, b"b", b"\0")[0]) == [(3, b"b"), (3, b"c"), (4, b"b")]
    assert history(1, 5, 1, b"c", b"") == ([], 3), "rows that do not match count too: the work is bounded"


def test_the_key_before_an_event_is_the_one_of_the_revision_before(driver: Driver) -> None:
    previous = driver.machine.revisions.previous
    values = [previous(event) for event in driver.machine.take_events()]
    found = [None if row is None else KeyValue.FromString(row) for row in values]
    assert found == [
        None,
        key_value(b"a", b"1", 2, 2, 1),
        None,
        None,
        key_value(b"b", b"", 3, 3, 1),
        key_value(b"a", b"2", 2, 3, 2),
    ]


def test_what_was_compacted_has_no_previous_key(driver: Driver) -> None:
    events = driver.machine.take_events()
    driver.compact(4, finish=False)
    previous = driver.machine.revisions.previous
    assert previous(events[4]) is None, "of revision 3, below what is kept"
    assert previous(events[5]) is not None, "of revision 4"


def test_where_nobody_watches_nothing_is_kept(driver: Driver) -> None:
    driver.machine.take_events()
    driver.machine.revisions.records_events = False
    driver.put(b"a")
    driver.delete(b"a")
    assert driver.machine.take_events() == []
