"""Alarms: raised and disarmed by entries, kept over restarts, and what is refused meanwhile."""

import pytest
from kvorum.etcdpb.rpc_pb2 import AlarmMember, AlarmRequest, AlarmResponse, AlarmType, TxnRequest
from kvorum.state.alarms import Mode, alarm_name
from kvorum.state.dict_store import DictStore
from kvorum.state.refusal import CORRUPT, NO_SPACE
from kvorum.state.store import ALARM

from tests.unit.kvorum.state.driver import Driver, delete_op, new_machine, put_op, txn_op

NOSPACE, CORRUPTION = AlarmType.NOSPACE, AlarmType.CORRUPT


@pytest.fixture
def driver() -> Driver:
    driver = Driver()
    driver.put(b"a", b"1")
    driver.put(b"b", b"2")
    driver.apply(lease_grant={"ID": 7, "TTL": 60})
    return driver


def alarm(driver: Driver, action: str, kind: AlarmType, member: int = 0) -> list[tuple[int, int]]:
    request = AlarmRequest(action=action, memberID=member, alarm=kind)
    outcome = driver.apply(alarm=request)
    assert outcome.refusal is None
    return [(found.alarm, found.memberID) for found in AlarmResponse.FromString(outcome.body).alarms]


def test_alarms_are_listed_raised_and_disarmed_by_entries(driver: Driver) -> None:
    assert alarm(driver, "ACTIVATE", NOSPACE, 5) == [(1, 5)]
    assert alarm(driver, "ACTIVATE", NOSPACE, 5) == [(1, 5)], "raised again it is answered alike"
    assert alarm(driver, "ACTIVATE", NOSPACE, 4) == [(1, 4)]
    assert alarm(driver, "ACTIVATE", CORRUPTION, 5) == [(2, 5)]
    assert alarm(driver, "GET", AlarmType.NONE) == [(1, 4), (1, 5), (2, 5)]
    assert alarm(driver, "GET", CORRUPTION) == [(2, 5)]
    assert alarm(driver, "DEACTIVATE", NOSPACE, 9) == []
    assert alarm(driver, "DEACTIVATE", NOSPACE, 5) == [(1, 5)]
    assert alarm(driver, "ACTIVATE", AlarmType.NONE, 5) == []
    assert alarm(driver, "GET", AlarmType.NONE) == [(1, 4), (2, 5)]
    assert driver.machine.revision == 3


def test_without_space_puts_and_grants_are_refused_and_what_frees_is_not(driver: Driver) -> None:
    alarm(driver, "ACTIVATE", NOSPACE, 5)
    assert driver.put(b"c").refusal == NO_SPACE
    assert driver.put(b"c", b"with a value").refusal == NO_SPACE
    assert driver.apply(txn={"success": [put_op(b"c")]}).refusal == NO_SPACE
    assert driver.apply(txn={"failure": [put_op(b"c")]}).refusal == NO_SPACE, "in the list not taken too"
    assert driver.apply(lease_grant={"ID": 8, "TTL": 60}).refusal == NO_SPACE
    assert driver.machine.revision == 3
    assert driver.apply(txn={"success": [txn_op(success=[put_op(b"c")])]}).refusal is None, "etcd up to 3.5.32"
    assert driver.delete(b"c").refusal is None
    assert driver.apply(txn={"success": [delete_op(b"b")]}).refusal is None
    assert driver.compact(4).refusal is None
    assert driver.apply(lease_revoke={"ID": 7}).refusal is None
    assert driver.keys() == [b"a"]
    alarm(driver, "DEACTIVATE", NOSPACE, 5)
    assert driver.put(b"c").refusal is None


def test_a_corrupt_cluster_takes_no_requests_and_still_reads(driver: Driver) -> None:
    alarm(driver, "ACTIVATE", CORRUPTION)
    for request in (
        {"put": {"key": b"c"}},
        {"put": {"key": b"c", "value": b"x"}},
        {"delete_range": {"key": b"a"}},
        {"txn": {"success": [delete_op(b"a")]}},
        {"range": {"key": b"a"}},
        {"compaction": {"revision": 2}},
        {"lease_grant": {"ID": 8, "TTL": 60}},
        {"lease_revoke": {"ID": 7}},
    ):
        assert driver.apply(**request).refusal == CORRUPT
    assert driver.keys() == [b"a", b"b"]
    assert isinstance(driver.machine.read_txn(TxnRequest()), bytes)
    assert driver.apply(cluster_version_set={"ver": "3.5.0"}).refusal is None
    assert driver.apply(lease_checkpoint={}).refusal is None


def test_the_mode_follows_etcds_and_not_reason(driver: Driver) -> None:
    """The alarm raised last decides; the last of a kind that is disarmed ends all restrictions. Seen on etcd 3.5.30."""
    modes = []
    for action, kind, member in (
        ("ACTIVATE", CORRUPTION, 1),
        ("ACTIVATE", NOSPACE, 1),
        ("ACTIVATE", CORRUPTION, 2),  # not the first of its kind
        ("DEACTIVATE", CORRUPTION, 1),
        ("DEACTIVATE", CORRUPTION, 2),
    ):
        alarm(driver, action, kind, member)
        modes.append(driver.machine.alarms.mode)
    assert modes == [Mode.CORRUPT, Mode.CAPPED, Mode.CAPPED, Mode.CAPPED, Mode.NORMAL]
    assert alarm(driver, "GET", AlarmType.NONE) == [(1, 1)]


@pytest.mark.parametrize(
    ("kinds", "mode"),
    [([], Mode.NORMAL), ([NOSPACE], Mode.CAPPED), ([CORRUPTION], Mode.CORRUPT), ([CORRUPTION, NOSPACE], Mode.CORRUPT)],
)
def test_alarms_survive_a_restart(kinds: list[AlarmType], mode: Mode) -> None:
    store = DictStore()
    driver = Driver(new_machine(store))
    for kind in kinds:
        alarm(driver, "ACTIVATE", kind, 5)
    rows = {AlarmMember(memberID=5, alarm=kind).SerializeToString(): b"" for kind in kinds}
    assert store.rows(ALARM) == rows
    machine = new_machine(store)
    assert machine.alarms.mode is mode
    assert [found.alarm for found in machine.alarms.active()] == sorted(kinds)
    for kind in kinds:
        alarm(driver, "DEACTIVATE", kind, 5)
    assert store.rows(ALARM) == {}, "disarmed for good"


def test_an_alarm_of_a_later_version_is_kept_and_restricts_nothing(driver: Driver) -> None:
    outcome = driver.apply(alarm=AlarmRequest(action=AlarmRequest.ACTIVATE, memberID=5, alarm=9))  # type: ignore[arg-type]  # an open enum
    assert outcome.refusal is None
    assert [found.alarm for found in driver.machine.alarms.active()] == [9]
    assert driver.machine.alarms.mode is Mode.NORMAL
    assert driver.apply(alarm={"action": 7}).body == b""


def test_an_alarm_without_a_name_is_told_by_its_number() -> None:
    assert [alarm_name(kind) for kind in (1, 2, 7)] == ["NOSPACE", "CORRUPT", "7"]
