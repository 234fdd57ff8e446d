"""What a user may do is decided when an entry is applied, out of its header, alike on every member."""

from itertools import product
from typing import Any

import pytest
from kvorum.etcdpb.internal_pb2 import InternalRaftRequest
from kvorum.etcdpb.rpc_pb2 import AlarmRequest, PutRequest, RangeRequest
from kvorum.state.auth_checks import ADMIN
from kvorum.state.refusal import (
    AUTH_OLD_REVISION,
    LEASE_NOT_FOUND,
    NO_SPACE,
    PERMISSION_DENIED,
    USER_EMPTY,
    USER_NOT_FOUND,
    Refusal,
)

from tests.unit.kvorum.state.auth_driver import READ, READWRITE, WRITE, AuthDriver
from tests.unit.kvorum.state.driver import delete_op, hash_of, put_op, range_op, txn_op

ALLOWED = None
OWN, FOREIGN, EMPTY = 1, 2, 3  # leases: with a key of ann's, with one that is not, with none
# What ann may do: read and write a to b, read r to s, write w to x. Keys of each exist.
DECIDED: list[tuple[dict[str, Any], Refusal | None]] = [
    ({"put": {"key": b"a"}}, ALLOWED),
    ({"put": {"key": b"b"}}, PERMISSION_DENIED),
    ({"put": {"key": b"r"}}, PERMISSION_DENIED),
    ({"put": {"key": b"w"}}, ALLOWED),
    ({"put": {"key": b"w", "prev_kv": True}}, PERMISSION_DENIED),
    ({"put": {"key": b"a", "prev_kv": True}}, ALLOWED),
    ({"put": {"key": b"a", "lease": OWN}}, ALLOWED),
    ({"put": {"key": b"a", "lease": EMPTY}}, ALLOWED),
    ({"put": {"key": b"a", "lease": FOREIGN}}, PERMISSION_DENIED),
    ({"put": {"key": b"a", "lease": 99}}, LEASE_NOT_FOUND),
    ({"put": {"key": b"b", "lease": 99}}, PERMISSION_DENIED),
    ({"delete_range": {"key": b"a"}}, ALLOWED),
    ({"delete_range": {"key": b"a", "range_end": b"b"}}, ALLOWED),
    ({"delete_range": {"key": b"a", "range_end": b"b\0"}}, PERMISSION_DENIED),
    ({"delete_range": {"key": b"a", "range_end": b"\0"}}, PERMISSION_DENIED),
    ({"delete_range": {"key": b"w", "prev_kv": True}}, PERMISSION_DENIED),
    ({"range": {"key": b"r"}}, ALLOWED),
    ({"range": {"key": b"w"}}, PERMISSION_DENIED),
    ({"range": {"key": b"a", "range_end": b"s"}}, PERMISSION_DENIED),
    ({"lease_grant": {"ID": 9, "TTL": 60}}, ALLOWED),
    ({"lease_revoke": {"ID": OWN}}, ALLOWED),
    ({"lease_revoke": {"ID": EMPTY}}, ALLOWED),
    ({"lease_revoke": {"ID": FOREIGN}}, PERMISSION_DENIED),
    ({"lease_revoke": {"ID": 99}}, LEASE_NOT_FOUND),
    ({"compaction": {"revision": 2}}, ALLOWED),
    ({"txn": {"success": [put_op(b"a")]}}, ALLOWED),
    ({"txn": {"success": [put_op(b"a"), put_op(b"b")]}}, PERMISSION_DENIED),
    ({"txn": {"success": [put_op(b"a")], "failure": [put_op(b"b")]}}, PERMISSION_DENIED),
    ({"txn": {"success": [put_op(b"a", lease=FOREIGN)]}}, PERMISSION_DENIED),
    ({"txn": {"success": [put_op(b"w", prev_kv=True)]}}, PERMISSION_DENIED),
    ({"txn": {"success": [delete_op(b"w", b"x")]}}, ALLOWED),
    ({"txn": {"success": [delete_op(b"w", b"x", prev_kv=True)]}}, PERMISSION_DENIED),
    ({"txn": {"compare": [{"key": b"r"}], "success": [put_op(b"a")]}}, ALLOWED),
    ({"txn": {"compare": [{"key": b"w"}], "success": [put_op(b"a")]}}, PERMISSION_DENIED),
    ({"txn": {"compare": [{"key": b"r", "range_end": b"t"}], "success": [put_op(b"a")]}}, PERMISSION_DENIED),
    ({"txn": {"success": [txn_op(success=[put_op(b"a")])]}}, ALLOWED),
    ({"txn": {"success": [txn_op(success=[put_op(b"b")])]}}, PERMISSION_DENIED),
    ({"txn": {"success": [txn_op(failure=[delete_op(b"r")])]}}, PERMISSION_DENIED),
    ({"txn": {"success": [txn_op(compare=[{"key": b"w"}])]}}, PERMISSION_DENIED),
    # Members without the client strip ranges from the top level before they look, not from what is nested.
    ({"txn": {"success": [put_op(b"a"), range_op(b"w")]}}, ALLOWED),
    ({"txn": {"success": [txn_op(success=[range_op(b"w")])]}}, PERMISSION_DENIED),
    ({"txn": {"success": [txn_op(success=[txn_op(failure=[range_op(b"w")])])]}}, PERMISSION_DENIED),
    ({"auth_user_get": {"name": b"ann"}}, ALLOWED),
    ({"auth_user_get": {"name": b"root"}}, PERMISSION_DENIED),
    ({"auth_role_get": {"role": b"r"}}, ALLOWED),
    ({"auth_role_get": {"role": b"other"}}, PERMISSION_DENIED),
    ({"authenticate": {"name": b"root", "simple_token": b"x"}}, ALLOWED),
    *[({name: {}}, PERMISSION_DENIED) for name in sorted(ADMIN)],
]


def situation() -> AuthDriver:
    driver = AuthDriver()
    for lease in (OWN, FOREIGN, EMPTY):
        driver.done(lease_grant={"ID": lease, "TTL": 600})
    for key, lease in ((b"a", OWN), (b"b", FOREIGN), (b"r", 0), (b"w", 0)):
        driver.put(key, lease=lease)
    driver.add_role(b"r", (READWRITE, b"a", b"b"), (READ, b"r", b"s"), (WRITE, b"w", b"x"))
    driver.add_role(b"other")
    driver.add_user(b"ann", b"r")
    driver.enable()
    return driver


@pytest.mark.parametrize(("request_", "wanted"), DECIDED, ids=lambda value: str(value)[:70])
def test_a_user_may_do_what_the_roles_permit(request_: dict[str, Any], wanted: Refusal | None) -> None:
    driver = situation()
    before, hashed = driver.machine.revision, hash_of(driver.machine)
    assert driver.asks(b"ann", **request_).refusal == wanted
    if wanted is not None:
        assert (driver.machine.revision, hash_of(driver.machine)) == (before, hashed), "refused, and yet applied"


@pytest.mark.parametrize("request_", [request for request, wanted in DECIDED if wanted is PERMISSION_DENIED], ids=str)
def test_root_is_not_denied_anything(request_: dict[str, Any]) -> None:
    assert situation().asks(b"root", **request_).refusal != PERMISSION_DENIED


@pytest.mark.parametrize(
    "request_",
    [
        {"put": {"key": b"a"}},
        {"delete_range": {"key": b"a"}},
        {"range": {"key": b"a"}},
        {"txn": {"success": [put_op(b"a")]}},
        {"lease_revoke": {"ID": OWN}},
    ],
    ids=str,
)
def test_who_is_not_named_or_knows_older_rights_is_refused(request_: dict[str, Any]) -> None:
    driver = situation()
    revision = driver.machine.auth.revision
    before = driver.machine.revision
    assert driver.refused(**request_) == USER_EMPTY
    assert driver.asks(b"ann", 0, **request_).refusal == USER_EMPTY
    assert driver.asks(b"ann", revision - 1, **request_).refusal == AUTH_OLD_REVISION
    assert driver.asks(b"nobody", **request_).refusal == PERMISSION_DENIED
    assert driver.machine.revision == before
    assert driver.asks(b"ann", revision + 1, **request_).refusal is None


def test_changing_users_needs_a_name_that_exists() -> None:
    driver = situation()
    changes: list[dict[str, Any]] = [{"auth_disable": {}}, {"auth_role_add": {"name": b"x"}}]
    for request in changes:
        assert driver.refused(**request) == USER_EMPTY
        assert driver.asks(b"nobody", **request).refusal == USER_NOT_FOUND
        assert driver.asks(b"ann", **request).refusal == PERMISSION_DENIED
    assert driver.asks(b"root", 1, auth_role_add={"name": b"x"}).refusal is None, "etcd does not look at the revision"


def test_rights_are_those_of_now() -> None:
    driver = situation()

    def may(key: bytes) -> bool:
        return driver.asks(b"ann", put={"key": key}).refusal is None

    assert may(b"a")
    assert not may(b"r")
    grant = {"name": b"r", "perm": {"permType": WRITE, "key": b"r"}}
    assert driver.asks(b"root", auth_role_grant_permission=grant).refusal is None
    assert may(b"r")
    assert (
        driver.asks(b"root", auth_role_revoke_permission={"role": b"r", "key": b"a", "range_end": b"b"}).refusal is None
    )
    assert not may(b"a")
    assert driver.asks(b"root", auth_user_revoke_role={"name": b"ann", "role": b"r"}).refusal is None
    assert not may(b"r")
    assert driver.asks(b"root", auth_user_grant_role={"user": b"ann", "role": b"root"}).refusal is None
    assert may(b"anything")
    assert driver.asks(b"root", auth_user_delete={"name": b"ann"}).refusal is None
    assert not may(b"a")


def test_what_members_write_for_themselves_needs_nobodys_permission() -> None:
    driver = situation()
    driver.done(lease_checkpoint={"checkpoints": [{"ID": OWN, "remaining_TTL": 5}]})
    driver.done(compaction={"revision": 2})
    driver.done(alarm={"action": AlarmRequest.GET})
    driver.done(cluster_version_set={"ver": "3.5.0"})
    driver.done(downgrade_info_set={"enabled": False})
    assert driver.asks(b"root", 1, lease_revoke={"ID": FOREIGN}).refusal is None, "an expired lease, by its leader"
    assert driver.value(b"b") is None


def test_no_put_is_quicker_than_the_check() -> None:
    """The put with key, value and id alone has a way of its own through the machine."""
    driver = situation()
    before = driver.machine.revision
    assert driver.put(b"a", b"plain").refusal == USER_EMPTY
    assert driver.machine.revision == before
    assert driver.asks(b"root", auth_disable={}).refusal is None
    assert driver.put(b"a", b"plain").refusal is None
    assert driver.machine.revision == before + 1


def test_while_an_alarm_is_active_nobody_is_asked_who_he_is() -> None:
    """So does etcd 3.5, where raising an alarm replaces the applier that checks: to refuse would part the states."""
    driver = situation()
    driver.done(alarm={"action": AlarmRequest.ACTIVATE, "memberID": 7, "alarm": "NOSPACE"})
    assert driver.refused(put={"key": b"a"}) == NO_SPACE
    assert driver.refused(delete_range={"key": b"b"}) is None
    assert driver.refused(auth_user_add={"name": b"eve"}) is None
    driver.done(alarm={"action": AlarmRequest.DEACTIVATE, "memberID": 7, "alarm": "NOSPACE"})
    assert driver.refused(delete_range={"key": b"a"}) == USER_EMPTY


def test_reads_of_others_cost_nothing_where_nobody_waits() -> None:
    driver = situation()
    reads: list[dict[str, Any]] = [{"range": {"key": b"b"}}, {"auth_status": {}}, {"auth_user_get": {"name": b"root"}}]
    for request in reads:
        outcome = driver.asks(b"ann", answering=False, **request)
        assert (outcome.refusal, outcome.body) == (None, b"")


def test_a_member_that_starts_again_checks_as_before() -> None:
    driver = situation()
    driver.machine.checkpoint()
    again = AuthDriver(driver.store)
    assert (again.machine.auth.enabled, again.machine.auth.revision) == (True, driver.machine.auth.revision)
    assert again.put(b"a").refusal == USER_EMPTY
    assert again.asks(b"ann", put={"key": b"b"}).refusal == PERMISSION_DENIED
    assert again.asks(b"ann", put={"key": b"a"}).refusal is None


def test_reading_past_the_log_is_not_checked_here() -> None:
    """Whoever serves clients asks first (api.permission); the machine itself reads for whoever asks it."""
    assert isinstance(situation().machine.range(RangeRequest(key=b"b")), bytes)


@pytest.mark.parametrize("name", [b"", b"root", b"ann", b"nobody", b"n" * 120, b"n" * 200], ids=len)
@pytest.mark.parametrize("step", [-1, 0, 1, -1000])
def test_a_put_parsed_by_hand_asks_its_user_as_any_other_does(name: bytes, step: int) -> None:
    keys = (b"a1", b"z", b"a" * 130)
    sizes_and_ids = ((0, 0), (300, 1), (5, 300), (5, 1 << 63))
    outcomes, rows = [], []
    for by_hand in (True, False):
        driver = AuthDriver()
        driver.add_role(b"own", (WRITE, b"a", b"b"))
        driver.add_user(b"ann", b"own")
        driver.enable()
        revision = max(0, driver.machine.auth.revision + step)
        for key, (value_bytes, request_id) in product(keys, sizes_and_ids):
            put = InternalRaftRequest(put=PutRequest(key=key, value=b"v" * value_bytes)).SerializeToString()
            header = InternalRaftRequest(header={"ID": request_id, "username": name, "auth_revision": revision})
            parts = (put, header.SerializeToString())
            outcomes.append((by_hand, driver.apply_data(b"".join(parts if by_hand else reversed(parts)))))
        rows.append([*driver.store.scan("key")])
    assert [one for by_hand, one in outcomes if by_hand] == [one for by_hand, one in outcomes if not by_hand]
    assert rows[0] == rows[1]


def test_rights_that_a_put_was_permitted_by_are_not_remembered_over_a_change() -> None:
    driver = situation()
    revision = driver.machine.auth.revision
    assert driver.asks(b"ann", revision, put={"key": b"a", "value": b"v"}).refusal is None
    driver.asks(b"root", auth_role_add={"name": b"another"})
    assert driver.asks(b"ann", revision, put={"key": b"a", "value": b"v"}).refusal == AUTH_OLD_REVISION
    assert driver.asks(b"ann", put={"key": b"a", "value": b"v"}).refusal is None
    driver.asks(b"root", auth_user_delete={"name": b"ann"})
    assert driver.asks(b"ann", put={"key": b"a", "value": b"v"}).refusal == PERMISSION_DENIED
