"""Txns: one revision, decided beforehand, applied alike whoever waits."""

import pytest
from kvorum.etcdpb.rpc_pb2 import Compare, RangeRequest, TxnRequest, TxnResponse
from kvorum.state import txn
from kvorum.state.refusal import COMPACTED, FUTURE_REVISION, KEY_NOT_FOUND, LEASE_NOT_FOUND, TIMEOUT, Refusal
from kvorum.state.txn import BrokenTxn

from tests.unit.kvorum.state.driver import Driver, delete_op, put_op, range_op, txn_op

EXISTS = Compare(key=b"a", target=Compare.VERSION, result=Compare.GREATER, version=0)
ABSENT = Compare(key=b"a", target=Compare.CREATE, result=Compare.EQUAL, create_revision=0)


@pytest.fixture
def driver() -> Driver:
    driver = Driver()
    driver.put(b"a", b"1")
    return driver


def run(driver: Driver, **lists: object) -> TxnResponse:
    outcome = driver.apply(txn=TxnRequest(**lists))  # type: ignore[arg-type]  # lists of operations
    assert outcome.refusal is None
    return TxnResponse.FromString(outcome.body)


def test_all_changes_of_a_txn_have_one_revision_and_sub_revisions_in_order(driver: Driver) -> None:
    answer = run(driver, success=[put_op(b"b"), put_op(b"c"), delete_op(b"a", b"b")])
    assert answer.succeeded
    assert driver.machine.revision == 3
    events = [(event.revision, event.key) for event in driver.machine.take_events()]
    assert events == [(2, b"a"), (3, b"b"), (3, b"c"), (3, b"a")]
    assert answer.responses[1].response_put.header.revision == 3
    assert not answer.responses[1].response_put.header.member_id


def test_a_txn_that_changes_nothing_moves_no_revision(driver: Driver) -> None:
    answer = run(driver, success=[delete_op(b"x"), range_op(b"a")])
    assert driver.machine.revision == 2
    assert answer.responses[0].response_delete_range.header.revision == 2
    assert run(driver, compare=[ABSENT], success=[put_op(b"b")]) == TxnResponse()


def test_a_range_sees_what_came_before_it_in_its_txn(driver: Driver) -> None:
    answer = run(driver, success=[range_op(b"b"), put_op(b"b", b"2"), range_op(b"b"), delete_op(b"b"), range_op(b"b")])
    ranges = [answer.responses[at].response_range for at in (0, 2, 4)]
    assert [len(found.kvs) for found in ranges] == [0, 1, 0]
    assert [found.header.revision for found in ranges] == [2, 3, 3]


def test_nested_compares_are_decided_before_anything_runs(driver: Driver) -> None:
    inner = txn_op(compare=[ABSENT], success=[put_op(b"new")], failure=[put_op(b"old")])
    answer = run(driver, success=[delete_op(b"a"), inner])
    assert not answer.responses[1].response_txn.succeeded
    assert driver.value(b"old") == b""
    assert driver.value(b"new") is None
    assert answer.responses[1].response_txn.HasField("header")


def test_the_list_that_is_not_taken_decides_nothing(driver: Driver) -> None:
    answer = run(
        driver,
        compare=[EXISTS],
        success=[put_op(b"b")],
        failure=[put_op(b"c", lease=99), put_op(b"d", ignore_value=True), txn_op(success=[put_op(b"e", lease=99)])],
    )
    assert answer.succeeded


@pytest.mark.parametrize(
    ("op", "refusal"),
    [
        (put_op(b"b", lease=99), LEASE_NOT_FOUND),
        (put_op(b"b", ignore_value=True), KEY_NOT_FOUND),
        (put_op(b"b", ignore_lease=True), KEY_NOT_FOUND),
        (put_op(b"b", ignore_value=True, lease=99), KEY_NOT_FOUND),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_put_that_cannot_be_done_undoes_the_whole_txn(
    driver: Driver, op: object, refusal: Refusal, nested: bool
) -> None:
    last = txn_op(success=[op]) if nested else op
    outcome = driver.apply(txn=TxnRequest(success=[put_op(b"c"), last]))  # type: ignore[list-item]  # an operation
    assert outcome.refusal == refusal
    assert (outcome.revision, driver.machine.revision) == (2, 2)
    assert driver.keys() == [b"a"]


def test_outside_of_a_txn_the_lease_is_asked_for_first(driver: Driver) -> None:
    assert driver.put(b"b", ignore_value=True, lease=99).refusal == LEASE_NOT_FOUND


@pytest.mark.parametrize("answering", [True, False])
def test_a_range_at_the_top_never_decides_whether_a_txn_is_applied(driver: Driver, answering: bool) -> None:
    """etcd#18667: where etcd has the client it refuses such a txn, elsewhere it applies it."""
    request = TxnRequest(success=[put_op(b"b"), range_op(b"a", revision=999)])
    assert driver.machine.refuses_txn_ranges(request) == FUTURE_REVISION
    outcome = driver.apply(txn=request, answering=answering)
    assert outcome.revision == 3
    assert outcome.refusal == (TIMEOUT if answering else None), "the outcome is unknown to the client"
    assert driver.value(b"b") == b""


@pytest.mark.parametrize("answering", [True, False])
def test_a_nested_range_at_a_bad_revision_refuses_the_txn_everywhere(driver: Driver, answering: bool) -> None:
    request = TxnRequest(success=[put_op(b"b"), txn_op(success=[range_op(b"a", revision=999)])])
    outcome = driver.apply(txn=request, answering=answering)
    assert (outcome.refusal, outcome.revision) == (FUTURE_REVISION, 2)


def test_ranges_are_checked_beforehand_on_the_list_that_would_be_taken(driver: Driver) -> None:
    for _ in range(5):
        driver.put(b"a")
    driver.compact(5)
    good, old = put_op(b"b"), range_op(b"a", revision=4)
    refuses = driver.machine.refuses_txn_ranges
    assert refuses(TxnRequest(compare=[EXISTS], success=[good, old])) == COMPACTED
    assert refuses(TxnRequest(compare=[EXISTS], success=[good], failure=[old])) is None
    assert refuses(TxnRequest(success=[old, put_op(b"b", lease=99)])) is None, "the log decides about puts"
    assert refuses(TxnRequest(success=[range_op(b"a", revision=-1)])) == COMPACTED, "in a txn -1 is a revision"


def test_a_read_only_txn_holds_ranges_alone(driver: Driver) -> None:
    assert txn.is_read_only(TxnRequest(compare=[EXISTS], success=[range_op(b"a")]))
    assert not txn.is_read_only(TxnRequest(success=[range_op(b"a")], failure=[put_op(b"a")]))
    assert not txn.is_read_only(TxnRequest(success=[txn_op(success=[range_op(b"a")])]))
    body = driver.machine.read_txn(TxnRequest(compare=[EXISTS], success=[range_op(b"a")]))
    assert isinstance(body, bytes)
    assert TxnResponse.FromString(body).responses[0].response_range.kvs[0].value == b"1"
    assert driver.machine.read_txn(TxnRequest(success=[range_op(b"a", revision=9)])) == FUTURE_REVISION


@pytest.mark.parametrize(
    ("compare", "holds"),
    [
        (Compare(key=b"x", target=Compare.VALUE, result=Compare.NOT_EQUAL, value=b"1"), False),
        (Compare(key=b"x", target=Compare.VALUE, result=Compare.LESS, value=b"1"), False),
        (Compare(key=b"x", target=Compare.MOD, result=Compare.EQUAL, mod_revision=0), True),
        (Compare(key=b"x", target=Compare.LEASE, result=Compare.LESS, lease=1), True),
        (Compare(key=b"a", target=Compare.VALUE, result=Compare.EQUAL, value=b"1"), True),
        (Compare(key=b"a", range_end=b"\0", target=Compare.VERSION, result=Compare.EQUAL, version=1), False),
        (Compare(key=b"a", range_end=b"b", target=Compare.VERSION, result=Compare.EQUAL, version=1), True),
        (Compare(key=b"b", range_end=b"a", target=Compare.CREATE, result=Compare.EQUAL, create_revision=0), True),
        (Compare(key=b"a", target=Compare.VERSION, result=Compare.EQUAL, value=b"1"), False),
    ],
)
def test_compares_are_etcds(driver: Driver, compare: Compare, holds: bool) -> None:
    driver.put(b"b", b"1")
    driver.put(b"b", b"1")
    assert txn.compare_holds(driver.machine.revisions, compare) is holds


def test_a_txn_that_breaks_half_way_ends_the_process(driver: Driver) -> None:
    """The delete of all keys is not among the deletes that a check sees; every etcd member panics on this entry."""
    with pytest.raises(BrokenTxn, match="key not found"):
        driver.apply(txn=TxnRequest(success=[delete_op(b"a", b"\0"), put_op(b"a", ignore_value=True)]))


def test_a_range_through_the_log_answers_only_where_somebody_waits(driver: Driver) -> None:
    body = driver.machine.range(RangeRequest(key=b"a"))
    assert driver.apply(range=RangeRequest(key=b"a")).body == body
    assert driver.apply(range=RangeRequest(key=b"a"), answering=False).body == b""
