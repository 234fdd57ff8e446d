"""Users and roles change by the log, and refuse what etcd refuses."""

from typing import Any

import pytest
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.etcdpb.auth_pb2 import Role, User
from kvorum.state import refusal
from kvorum.state.refusal import Refusal
from kvorum.state.store import AUTH, AUTH_ROLES, AUTH_USERS

from tests.unit.kvorum.state.auth_driver import HASH, READ, READWRITE, WRITE, AuthDriver
from tests.unit.kvorum.state.test_go_sort import CASES

A_ROLE = {"permType": READ, "key": b"a"}
# What is refused where the users root (role root), ann (role reads) and bob (no password, no role) exist, and the role
# reads with one permission, of the key a; with authentication off, and with it on where root asks.
REFUSED: list[tuple[dict[str, Any], Refusal]] = [
    ({"auth_user_add": {"hashedPassword": HASH}}, refusal.USER_EMPTY),
    ({"auth_user_add": {"name": b"ann", "hashedPassword": HASH}}, refusal.USER_EXISTS),
    ({"auth_user_add": {"name": b"new", "hashedPassword": b"no base64"}}, refusal.NO_PASSWORD_USER),
    ({"auth_user_add": {"name": b"new", "hashedPassword": b"aGFzaA="}}, refusal.NO_PASSWORD_USER),
    ({"auth_user_add": {"name": b"new", "hashedPassword": b"aGFzaA==aGFz"}}, refusal.NO_PASSWORD_USER),
    ({"auth_user_delete": {"name": b"none"}}, refusal.USER_NOT_FOUND),
    ({"auth_user_get": {"name": b"none"}}, refusal.USER_NOT_FOUND),
    ({"auth_user_change_password": {"name": b"none", "hashedPassword": HASH}}, refusal.USER_NOT_FOUND),
    ({"auth_user_change_password": {"name": b"ann", "hashedPassword": b"?"}}, refusal.NO_PASSWORD_USER),
    ({"auth_user_grant_role": {"user": b"none", "role": b"reads"}}, refusal.USER_NOT_FOUND),
    ({"auth_user_grant_role": {"user": b"ann", "role": b"none"}}, refusal.ROLE_NOT_FOUND),
    ({"auth_user_grant_role": {"user": b"ann", "role": b""}}, refusal.ROLE_NOT_FOUND),
    ({"auth_user_revoke_role": {"name": b"none", "role": b"reads"}}, refusal.USER_NOT_FOUND),
    ({"auth_user_revoke_role": {"name": b"bob", "role": b"reads"}}, refusal.ROLE_NOT_GRANTED),
    ({"auth_role_add": {}}, refusal.ROLE_EMPTY),
    ({"auth_role_add": {"name": b"reads"}}, refusal.ROLE_EXISTS),
    ({"auth_role_delete": {"role": b"none"}}, refusal.ROLE_NOT_FOUND),
    ({"auth_role_get": {"role": b"none"}}, refusal.ROLE_NOT_FOUND),
    ({"auth_role_grant_permission": {"name": b"reads"}}, refusal.PERMISSION_NOT_GIVEN),
    ({"auth_role_grant_permission": {"name": b"none", "perm": A_ROLE}}, refusal.ROLE_NOT_FOUND),
    ({"auth_role_grant_permission": {"name": b"reads", "perm": {"key": b""}}}, refusal.INVALID_AUTH_MANAGEMENT),
    (
        {"auth_role_grant_permission": {"name": b"none", "perm": {"key": b"b", "range_end": b"b"}}},
        refusal.INVALID_AUTH_MANAGEMENT,
    ),
    (
        {"auth_role_grant_permission": {"name": b"reads", "perm": {"key": b"b", "range_end": b"a"}}},
        refusal.INVALID_AUTH_MANAGEMENT,
    ),
    ({"auth_role_revoke_permission": {"role": b"none", "key": b"a"}}, refusal.ROLE_NOT_FOUND),
    ({"auth_role_revoke_permission": {"role": b"reads", "key": b"b"}}, refusal.PERMISSION_NOT_GRANTED),
    (
        {"auth_role_revoke_permission": {"role": b"reads", "key": b"a", "range_end": b"b"}},
        refusal.PERMISSION_NOT_GRANTED,
    ),
    ({"authenticate": {"name": b"none", "simple_token": b"x"}}, refusal.AUTH_FAILED),
    ({"authenticate": {"name": b"bob", "simple_token": b"x"}}, refusal.AUTH_FAILED),
]
REFUSED_WHILE_ON: list[tuple[dict[str, Any], Refusal]] = [
    ({"auth_user_delete": {"name": b"root"}}, refusal.INVALID_AUTH_MANAGEMENT),
    ({"auth_user_revoke_role": {"name": b"root", "role": b"root"}}, refusal.INVALID_AUTH_MANAGEMENT),
    ({"auth_role_delete": {"role": b"root"}}, refusal.INVALID_AUTH_MANAGEMENT),
]


def situation(*, enabled: bool) -> AuthDriver:
    driver = AuthDriver()
    driver.add_role(b"reads", (READ, b"a", b""))
    driver.add_user(b"ann", b"reads")
    driver.done(auth_user_add={"name": b"bob", "options": {"no_password": True}})
    if enabled:
        driver.enable()
    else:
        driver.add_user(b"root", b"root")
    return driver


def rows(driver: AuthDriver) -> list[dict[bytes, bytes]]:
    return [driver.store.rows(table) for table in (AUTH, AUTH_USERS, AUTH_ROLES)]


@pytest.mark.parametrize("enabled", [False, True], ids=["off", "on"])
@pytest.mark.parametrize(("request_", "wanted"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_etcd_refuses_is_refused_and_changes_nothing(
    request_: dict[str, Any], wanted: Refusal, enabled: bool
) -> None:
    driver = situation(enabled=enabled)
    before = rows(driver)
    if "authenticate" in request_ and not enabled:
        wanted = refusal.AUTH_NOT_ENABLED
    assert driver.asks(b"root", **request_).refusal == wanted
    assert rows(driver) == before


@pytest.mark.parametrize(("request_", "wanted"), REFUSED_WHILE_ON, ids=lambda value: str(value)[:60])
def test_what_would_lock_everybody_out_is_refused_while_authentication_is_on(
    request_: dict[str, Any], wanted: Refusal
) -> None:
    driver = situation(enabled=True)
    before = rows(driver)
    assert driver.asks(b"root", **request_).refusal == wanted
    assert rows(driver) == before

    driver = situation(enabled=False)
    driver.add_role(b"root")
    assert driver.refused(**request_) is None


def test_turning_on_needs_the_user_root_with_the_role_root() -> None:
    driver = AuthDriver()
    assert driver.refused(auth_enable={}) == refusal.ROOT_USER_MISSING
    driver.add_user(b"root")
    assert driver.refused(auth_enable={}) == refusal.ROOT_ROLE_MISSING
    driver.done(auth_user_grant_role={"user": b"root", "role": b"root"})
    assert b"authEnabled" not in driver.store.rows(AUTH), "etcd writes it when it is turned on for the first time"
    driver.done(auth_enable={})
    assert driver.store.rows(AUTH)[b"authEnabled"] == b"\x01"
    assert driver.asks(b"root", auth_disable={}).refusal is None
    assert driver.store.rows(AUTH)[b"authEnabled"] == b"\x00"


def test_the_revision_moves_with_each_change_and_when_it_is_turned_off() -> None:
    driver = AuthDriver()

    def revision() -> int:
        stored = int.from_bytes(driver.store.rows(AUTH)[b"authRevision"], "big")
        assert stored == driver.machine.auth.revision
        return stored

    assert revision() == 1
    changes: list[dict[str, Any]] = [
        {"auth_user_add": {"name": b"root", "hashedPassword": HASH}},
        {"auth_user_grant_role": {"user": b"root", "role": b"root"}},
        {"auth_user_change_password": {"name": b"root", "hashedPassword": HASH}},
        {"auth_role_add": {"name": b"r"}},
        {"auth_role_grant_permission": {"name": b"r", "perm": {"key": b"a"}}},
        {"auth_role_grant_permission": {"name": b"r", "perm": {"key": b"a"}}},  # once more, and it counts
        {"auth_role_revoke_permission": {"role": b"r", "key": b"a"}},
        {"auth_user_grant_role": {"user": b"root", "role": b"r"}},
        {"auth_user_revoke_role": {"name": b"root", "role": b"r"}},
        {"auth_role_delete": {"role": b"r"}},
        {"auth_user_add": {"name": b"u", "hashedPassword": HASH}},
        {"auth_user_delete": {"name": b"u"}},
    ]
    for wanted, request in enumerate(changes, start=2):
        driver.done(**request)
        assert revision() == wanted, request
    driver.done(auth_user_grant_role={"user": b"root", "role": b"root"})
    driver.done(auth_disable={})
    driver.done(auth_enable={})
    driver.asks(b"root", auth_enable={})
    assert revision() == 13, "granted again, off while it is off, and on do not count"
    driver.asks(b"root", auth_disable={})
    assert revision() == 14
    assert driver.machine.revision == 1, "none of it is a revision of keys"


def test_rows_of_users_hold_what_etcd_writes() -> None:
    driver = AuthDriver()
    driver.done(auth_user_add={"name": b"u", "hashedPassword": HASH, "options": {}})
    assert driver.store.get(AUTH_USERS, b"u") == b"\x0a\x01u\x12\x04hash\x22\x00"
    driver.done(auth_user_add={"name": b"v", "hashedPassword": b"aGFz\r\naA==\n"})
    assert driver.store.get(AUTH_USERS, b"v") == b"\x0a\x01v\x12\x04hash\x22\x00", "options come unsent"
    driver.done(auth_user_add={"name": b"w", "hashedPassword": HASH, "options": {"no_password": True}})
    assert driver.store.get(AUTH_USERS, b"w") == b"\x0a\x01w\x22\x02\x08\x01", "and no password, though one was sent"
    driver.done(auth_user_change_password={"name": b"w", "hashedPassword": HASH})
    assert driver.store.get(AUTH_USERS, b"w") == b"\x0a\x01w\x22\x02\x08\x01"
    driver.done(auth_user_change_password={"name": b"u", "hashedPassword": b"b3RoZXI="})
    assert driver.store.get(AUTH_USERS, b"u") == b"\x0a\x01u\x12\x05other\x22\x00"
    driver.add_role(b"z")
    driver.add_role(b"a")
    for role in (b"z", b"root", b"a"):
        driver.done(auth_user_grant_role={"user": b"u", "role": role})
    assert driver.store.get(AUTH_USERS, b"u") == b"\x0a\x01u\x12\x05other\x1a\x01a\x1a\x04root\x1a\x01z\x22\x00"


def test_a_row_of_a_version_without_options_stays_without() -> None:
    driver = AuthDriver()
    driver.store.put(AUTH_USERS, b"old", b"\x0a\x03old\x12\x01h")
    driver.done(auth_user_change_password={"name": b"old", "hashedPassword": HASH})
    assert driver.store.get(AUTH_USERS, b"old") == b"\x0a\x03old\x12\x04hash"


def test_a_password_that_was_sent_plain_is_not_kept() -> None:
    """A member of etcd 3.4 proposes so."""
    driver = AuthDriver()
    driver.done(auth_user_add={"name": b"u", "password": b"secret"})
    assert driver.user(b"u") == User(name=b"u", options={})
    driver.done(auth_user_change_password={"name": b"u", "password": b"secret", "hashedPassword": HASH})
    assert driver.user(b"u") == User(name=b"u", password=b"hash", options={})


def test_permissions_stay_in_the_order_of_their_keys_and_a_second_grant_changes_the_first() -> None:
    driver = AuthDriver()
    driver.add_role(b"r", (READ, b"b", b""), (WRITE, b"a", b"\0"), (READ, b"b", b"c"))
    assert driver.permissions(b"r") == [(WRITE, b"a", b"\0"), (READ, b"b", b""), (READ, b"b", b"c")]
    driver.grant(b"r", READWRITE, b"a", b"\0")
    driver.grant(b"r", WRITE, b"b")
    assert driver.permissions(b"r") == [(READWRITE, b"a", b"\0"), (WRITE, b"b", b""), (READ, b"b", b"c")]
    driver.grant(b"r", WRITE, b"b", b"c")  # not the first of its key: etcd does not find it, and has it twice then
    assert driver.permissions(b"r")[1:] == [(WRITE, b"b", b""), (READ, b"b", b"c"), (WRITE, b"b", b"c")]
    driver.done(auth_role_revoke_permission={"role": b"r", "key": b"b", "range_end": b"c"})
    assert driver.permissions(b"r") == [(READWRITE, b"a", b"\0"), (WRITE, b"b", b"")]


def test_more_than_twelve_permissions_are_where_gos_sort_leaves_them() -> None:
    case = next(case for case in CASES if len(case["keys"]) == 25 and case["order"] != sorted(case["order"]))
    granted = [(READ, b"key %02d" % (key + 1), b"l%02d" % number) for number, key in enumerate(case["keys"])]
    permissions = [rpc.Permission(permType="READ", key=key, range_end=end) for _, key, end in granted[:-1]]
    row = Role(name=b"r", keyPermission=permissions)
    driver = AuthDriver()
    driver.store.put(AUTH_ROLES, b"r", row.SerializeToString())
    driver.grant(b"r", *granted[-1])
    assert driver.permissions(b"r") == [granted[place] for place in case["order"]]


def test_a_deleted_role_is_taken_from_every_user() -> None:
    driver = AuthDriver()
    driver.add_role(b"gone")
    driver.add_role(b"kept")
    driver.add_user(b"ann", b"gone", b"kept")
    driver.add_user(b"bob", b"kept")
    driver.done(auth_role_delete={"role": b"gone"})
    for name in (b"ann", b"bob"):
        user = driver.user(name)
        assert user is not None
        assert list(user.roles) == [b"kept"]
    assert list(driver.store.rows(AUTH_ROLES)) == [b"kept"]


def test_answers_are_those_of_the_api() -> None:
    driver = AuthDriver()
    driver.add_role(b"r", (READ, b"a", b"b"))
    driver.add_user(b"ann", b"r")
    driver.enable()

    def answer(field: str, **request: Any) -> bytes:
        asked: dict[str, Any] = {field: request}
        return driver.asks(b"root", **asked).body

    assert rpc.AuthStatusResponse.FromString(answer("auth_status")) == rpc.AuthStatusResponse(
        enabled=True, authRevision=7
    )
    users = rpc.AuthUserListResponse.FromString(answer("auth_user_list")).users
    assert list(users) == ["ann", "root"]
    assert list(rpc.AuthRoleListResponse.FromString(answer("auth_role_list")).roles) == ["r"]
    assert list(rpc.AuthUserGetResponse.FromString(answer("auth_user_get", name=b"ann")).roles) == ["r"]
    assert rpc.AuthRoleGetResponse.FromString(answer("auth_role_get", role=b"r")).perm[0].range_end == b"b"
    index = driver.machine.applied_index
    token = rpc.AuthenticateResponse.FromString(answer("authenticate", name=b"ann", simple_token=b"abc")).token
    assert token == f"abc.{index}", "the index before the entry's"


def test_names_need_not_be_utf8() -> None:
    """etcd takes them so from etcdctl; a member that could not read such an entry would have to stop."""
    driver = AuthDriver()
    driver.add_role(b"r\xfe", (READWRITE, b"k", b""))
    driver.add_user(b"u\xff", b"r\xfe")
    driver.enable()
    assert driver.asks(b"u\xff", put={"key": b"k"}).refusal is None
    assert driver.asks(b"root", auth_user_list={}).body == b"\x12\x04root\x12\x02u\xff"
