"""Leases: granted, attached to keys, revoked, stored."""

import pytest
from kvorum.etcdpb.internal_pb2 import LeaseRow
from kvorum.etcdpb.rpc_pb2 import LeaseCheckpoint, LeaseCheckpointRequest, LeaseGrantResponse
from kvorum.state.dict_store import DictStore
from kvorum.state.leases import TTL_MAX_S, Leases
from kvorum.state.refusal import LEASE_EXISTS, LEASE_NOT_FOUND, LEASE_TTL_TOO_LARGE
from kvorum.state.store import LEASE

from tests.unit.kvorum.state.driver import Driver, new_machine, put_op


@pytest.fixture
def store() -> DictStore:
    return DictStore()


@pytest.fixture
def driver(store: DictStore) -> Driver:
    driver = Driver(new_machine(store))
    grant(driver, 7, 60)
    return driver


def grant(driver: Driver, lease: int, ttl_s: int) -> LeaseGrantResponse:
    outcome = driver.apply(lease_grant={"ID": lease, "TTL": ttl_s})
    assert outcome.refusal is None, outcome.refusal
    return LeaseGrantResponse.FromString(outcome.body)


def keys_of(driver: Driver, lease: int) -> list[bytes]:
    found = driver.machine.leases.find(lease)
    assert found is not None
    return found.sorted_keys()


def test_a_ttl_is_raised_to_the_minimum_when_it_is_applied(driver: Driver, store: DictStore) -> None:
    assert (grant(driver, 8, 1).TTL, grant(driver, 9, -5).TTL, grant(driver, 10, 3).TTL) == (2, 2, 3)
    assert LeaseRow.FromString(store.rows(LEASE)[(8).to_bytes(8, "big")]) == LeaseRow(ID=8, TTL=2)


def test_the_longest_lease_is_granted(driver: Driver) -> None:
    assert grant(driver, 8, TTL_MAX_S).TTL == TTL_MAX_S


def test_a_grant_moves_no_revision(driver: Driver) -> None:
    assert driver.machine.revision == 1


def test_a_negative_id_is_one_like_others(driver: Driver, store: DictStore) -> None:
    assert grant(driver, -2, 60).ID == -2
    assert (2**64 - 2).to_bytes(8, "big") in store.rows(LEASE)
    assert new_machine(store).leases.find(-2) is not None


@pytest.mark.parametrize(
    ("lease", "ttl_s", "refusal"),
    [(7, 60, LEASE_EXISTS), (8, TTL_MAX_S + 1, LEASE_TTL_TOO_LARGE), (7, TTL_MAX_S + 1, LEASE_TTL_TOO_LARGE)],
)
def test_a_grant_is_refused_with_etcds_words(driver: Driver, lease: int, ttl_s: int, refusal: object) -> None:
    assert driver.apply(lease_grant={"ID": lease, "TTL": ttl_s}).refusal == refusal
    assert len(driver.machine.leases) == 1


def test_a_key_hangs_on_the_lease_of_its_last_put(driver: Driver) -> None:
    grant(driver, 8, 60)
    driver.put(b"a", lease=7)
    driver.put(b"b", lease=7)
    assert keys_of(driver, 7) == [b"a", b"b"]
    driver.put(b"a", lease=8)
    assert (keys_of(driver, 7), keys_of(driver, 8)) == ([b"b"], [b"a"])
    driver.put(b"a")
    assert keys_of(driver, 8) == [], "a put without a lease detaches"
    driver.delete(b"b")
    assert keys_of(driver, 7) == []
    driver.put(b"b")
    driver.put(b"b", b"x", lease=7)
    driver.put(b"b", b"y", ignore_lease=True)
    assert (keys_of(driver, 7), driver.value(b"b")) == ([b"b"], b"y")
    driver.put(b"b", ignore_value=True)
    assert (keys_of(driver, 7), driver.value(b"b")) == ([], b"y")


def test_a_put_with_an_unknown_lease_changes_nothing(driver: Driver) -> None:
    assert driver.put(b"a", lease=99).refusal == LEASE_NOT_FOUND
    assert (driver.machine.revision, driver.keys()) == (1, [])


def test_a_revoked_lease_takes_its_keys_along_sorted_and_under_one_revision(driver: Driver, store: DictStore) -> None:
    for key in (b"c", b"a", b"b"):
        driver.put(key, lease=7)
    driver.put(b"stays")
    driver.machine.take_events()
    outcome = driver.apply(lease_revoke={"ID": 7})
    assert outcome.revision == 6
    events = driver.machine.take_events()
    assert [(event.revision, event.key, event.is_delete) for event in events] == [
        (6, b"a", True),
        (6, b"b", True),
        (6, b"c", True),
    ]
    assert driver.keys() == [b"stays"]
    assert store.rows(LEASE) == {}
    assert driver.apply(lease_revoke={"ID": 7}).refusal == LEASE_NOT_FOUND


def test_revoking_a_lease_without_keys_moves_no_revision(driver: Driver) -> None:
    assert driver.apply(lease_revoke={"ID": 7}).revision == 1
    assert len(driver.machine.leases) == 0


def checkpoint(driver: Driver, lease: int, remaining_s: int) -> None:
    request = LeaseCheckpointRequest(checkpoints=[LeaseCheckpoint(ID=lease, remaining_TTL=remaining_s)])
    assert driver.apply(lease_checkpoint=request).refusal is None


def test_a_checkpoint_is_what_a_new_leader_counts_down_from() -> None:
    store = DictStore()
    driver = Driver(new_machine(store))
    grant(driver, 7, 60)
    checkpoint(driver, 7, 20)
    checkpoint(driver, 99, 20)
    lease = driver.machine.leases.find(7)
    assert lease is not None
    assert (lease.ttl_s, lease.remaining_s) == (60, 20)
    reloaded = new_machine(store).leases.find(7)
    assert reloaded is not None
    assert reloaded.remaining_s == 60, "etcd 3.5 stores it only if told to"
    checkpoint(driver, 7, 0)
    assert lease.remaining_s == 60


def test_leases_and_their_keys_survive_a_restart(store: DictStore) -> None:
    driver = Driver(new_machine(store))
    grant(driver, 7, 60)
    grant(driver, 3, 30)
    driver.put(b"a", lease=7)
    driver.put(b"b", lease=3)
    driver.put(b"b")
    driver.put(b"c", lease=3)
    driver.delete(b"c")
    leases = new_machine(store).leases
    assert [(lease.id, lease.ttl_s, lease.sorted_keys()) for lease in leases] == [(3, 30, []), (7, 60, [b"a"])]


def test_keys_put_and_deleted_in_one_txn_hang_on_nothing(driver: Driver) -> None:
    driver.apply(txn={"success": [put_op(b"a", lease=7), put_op(b"b", lease=7)]})
    assert keys_of(driver, 7) == [b"a", b"b"]
    driver.delete(b"a", b"\0")
    assert keys_of(driver, 7) == []


def test_keys_that_outlived_their_lease_load_and_can_be_put_again(store: DictStore) -> None:
    driver = Driver(new_machine(store))
    grant(driver, 7, 60)
    driver.put(b"a", lease=7)
    store.delete(LEASE, (7).to_bytes(8, "big"))
    driver = Driver(new_machine(store))
    driver.machine.applied_index = 2
    assert driver.put(b"a", b"x", ignore_lease=True).refusal is None
    assert driver.value(b"a") == b"x"


@pytest.mark.parametrize(("persists", "left_s"), [(True, 700), (False, 1000)])
def test_a_checkpoint_is_known_after_a_restart_if_it_is_persisted(
    persists: bool,
    left_s: int,
    store: DictStore,
) -> None:
    leases = Leases(store, ttl_min_s=1, persists_checkpoints=persists)
    leases.grant(7, 1000)
    leases.checkpoint(7, 700)
    leases.checkpoint(8, 700)  # of none
    restarted = Leases(store, ttl_min_s=1, persists_checkpoints=persists)
    restarted.load()
    (lease,) = restarted
    assert (lease.ttl_s, lease.remaining_s) == (1000, left_s)
