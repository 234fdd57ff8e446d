"""The log's entries about authentication: each changes rows or refuses, alike on every member (etcd's auth store).

One function for each kind of entry, found in APPLIERS by the name of its field. Each gives the answer without its
header, or a refusal that leaves everything as it was. Whether the caller may do it was checked before (auth_checks).
"""

import binascii
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from typing import Any

from kvorum.etcdpb.auth_pb2 import (
    InternalAuthenticateRequest,
    Role,
    RoleAdd,
    RoleDelete,
    RoleGet,
    RoleGrantPermission,
    RoleRevokePermission,
    User,
    UserAdd,
    UserChangePassword,
    UserDelete,
    UserGet,
    UserGrantRole,
    UserRevokeRole,
)
from kvorum.etcdpb.rpc_pb2 import Permission
from kvorum.state.auth import ROOT, Auth, SignedIn, SignedOut
from kvorum.state.go_sort import go_insert
from kvorum.state.refusal import (
    AUTH_FAILED,
    AUTH_NOT_ENABLED,
    INVALID_AUTH_MANAGEMENT,
    NO_PASSWORD_USER,
    PERMISSION_NOT_GIVEN,
    PERMISSION_NOT_GRANTED,
    ROLE_EMPTY,
    ROLE_EXISTS,
    ROLE_NOT_FOUND,
    ROLE_NOT_GRANTED,
    ROOT_ROLE_MISSING,
    ROOT_USER_MISSING,
    USER_EMPTY,
    USER_EXISTS,
    USER_NOT_FOUND,
    Refusal,
)
from kvorum.state.revisions import FROM_KEY
from kvorum.state.row import field, varint

Applied = bytes | Refusal


def enable(auth: Auth, request: object) -> Applied:
    """The revision stays: nobody's rights change, they only begin to count."""
    if auth.enabled:
        return b""
    root = auth.find_user(ROOT)
    if root is None:
        return ROOT_USER_MISSING
    if ROOT not in root.roles:
        return ROOT_ROLE_MISSING
    auth.turn(on=True)
    return b""


def disable(auth: Auth, request: object) -> Applied:
    if auth.enabled:
        auth.turn(on=False)
        auth.changed()
    return b""


def status(auth: Auth, request: object) -> Applied:
    return (b"\x10\x01" if auth.enabled else b"") + b"\x18" + varint(auth.revision)


def authenticate(auth: Auth, request: InternalAuthenticateRequest, index: int) -> Applied:
    """The proposer compared the password, and drew the letters of a token. It ends in the index before the entry's.

    Tokens are no rows: they live in the memory of the members that take them from clients, each with a clock. Without
    letters the proposer signs its tokens, and what would be one here anybody could guess.
    """
    if not auth.enabled:
        return AUTH_NOT_ENABLED
    user = auth.find_user(request.name)
    if user is None or user.options.no_password:
        return AUTH_FAILED
    token = b"%b.%d" % (request.simple_token, index)
    if request.simple_token:
        auth.tell(SignedIn(request.name, token))
    return field(b"\x12", token)


# -- users ---------------------------------------------------------------------------------------------------------


def user_add(auth: Auth, request: UserAdd) -> Applied:
    if not request.name:
        return USER_EMPTY
    if auth.find_user(request.name) is not None:
        return USER_EXISTS
    user = User(name=request.name, options=request.options)  # written always, also where the request has none
    password = b"" if user.options.no_password else decode_password(request)
    if password is None:
        return NO_PASSWORD_USER
    user.password = password
    auth.put_user(user)
    auth.changed()
    return b""


def user_delete(auth: Auth, request: UserDelete) -> Applied:
    if auth.enabled and request.name == ROOT:
        return INVALID_AUTH_MANAGEMENT
    if auth.find_user(request.name) is None:
        return USER_NOT_FOUND
    auth.delete_user(request.name)
    auth.tell(SignedOut(request.name))
    auth.changed()
    return b""


def user_get(auth: Auth, request: UserGet) -> Applied:
    user = auth.find_user(request.name)
    return USER_NOT_FOUND if user is None else _names(user.roles)


def user_list(auth: Auth, request: object) -> Applied:
    return _names(user.name for user in auth.users())


def user_change_password(auth: Auth, request: UserChangePassword) -> Applied:
    user = auth.find_user(request.name)
    if user is None:
        return USER_NOT_FOUND
    password = b"" if user.options.no_password else decode_password(request)
    if password is None:
        return NO_PASSWORD_USER
    user.password = password
    auth.put_user(user)
    auth.tell(SignedOut(request.name))
    auth.changed()
    return b""


def user_grant_role(auth: Auth, request: UserGrantRole) -> Applied:
    """The role root needs no row to be granted. Granting again changes nothing, the revision neither."""
    user = auth.find_user(request.user)
    if user is None:
        return USER_NOT_FOUND
    if request.role != ROOT and auth.find_role(request.role) is None:
        return ROLE_NOT_FOUND
    if request.role in user.roles:
        return b""
    roles = list(user.roles)
    insort(roles, request.role)
    user.roles[:] = roles
    auth.put_user(user)
    auth.changed()
    return b""


def user_revoke_role(auth: Auth, request: UserRevokeRole) -> Applied:
    if auth.enabled and request.name == request.role == ROOT:
        return INVALID_AUTH_MANAGEMENT
    user = auth.find_user(request.name)
    if user is None:
        return USER_NOT_FOUND
    if request.role not in user.roles:
        return ROLE_NOT_GRANTED
    _take_role(auth, user, request.role)
    auth.changed()
    return b""


def _take_role(auth: Auth, user: User, role: bytes) -> None:
    user.roles[:] = [name for name in user.roles if name != role]
    auth.put_user(user)


# -- roles ---------------------------------------------------------------------------------------------------------


def role_add(auth: Auth, request: RoleAdd) -> Applied:
    if not request.name:
        return ROLE_EMPTY
    if auth.find_role(request.name) is not None:
        return ROLE_EXISTS
    auth.put_role(Role(name=request.name))
    auth.changed()
    return b""


def role_delete(auth: Auth, request: RoleDelete) -> Applied:
    """Users lose it, too: a role of the same name made later must not be theirs."""
    if auth.enabled and request.role == ROOT:
        return INVALID_AUTH_MANAGEMENT
    if auth.find_role(request.role) is None:
        return ROLE_NOT_FOUND
    auth.delete_role(request.role)
    for user in list(auth.users()):
        if request.role in user.roles:
            _take_role(auth, user, request.role)
    auth.changed()
    return b""


def role_get(auth: Auth, request: RoleGet) -> Applied:
    role = auth.find_role(request.role)
    if role is None:
        return ROLE_NOT_FOUND
    return b"".join(field(b"\x12", permission.SerializeToString()) for permission in role.keyPermission)


def role_list(auth: Auth, request: object) -> Applied:
    return _names(role.name for role in auth.roles())


def role_grant_permission(auth: Auth, request: RoleGrantPermission) -> Applied:
    """Permissions are in the order of their keys; of equal keys, in the one that etcd's sort leaves them in.

    Only the first of a key is compared with, as in etcd: granting again what stands behind it makes a second of it.
    """
    if not request.HasField("perm"):
        return PERMISSION_NOT_GIVEN
    granted = request.perm
    if not _is_range(granted.key, granted.range_end):
        return INVALID_AUTH_MANAGEMENT
    role = auth.find_role(request.name)
    if role is None:
        return ROLE_NOT_FOUND
    permissions = list(role.keyPermission)
    at = bisect_left(permissions, granted.key, key=_key_of)
    if at < len(permissions) and (permissions[at].key, permissions[at].range_end) == (granted.key, granted.range_end):
        permissions[at].permType = granted.permType
    else:
        go_insert(permissions, granted, key=_key_of)
    _put_permissions(auth, role.name, permissions)
    auth.changed()
    return b""


def role_revoke_permission(auth: Auth, request: RoleRevokePermission) -> Applied:
    role = auth.find_role(request.role)
    if role is None:
        return ROLE_NOT_FOUND
    revoked = (request.key, request.range_end)
    left = [permission for permission in role.keyPermission if (permission.key, permission.range_end) != revoked]
    if len(left) == len(role.keyPermission):
        return PERMISSION_NOT_GRANTED
    _put_permissions(auth, role.name, left)
    auth.changed()
    return b""


def _put_permissions(auth: Auth, name: bytes, permissions: Iterable[Permission]) -> None:
    auth.put_role(Role(name=name, keyPermission=permissions))


def _key_of(permission: Permission) -> bytes:
    return permission.key


def _is_range(key: bytes, range_end: bytes) -> bool:
    """A key, a range that is not empty, or all keys from one on."""
    return bool(key) and (not range_end or key < range_end or range_end == FROM_KEY)


def _names(names: Iterable[bytes]) -> bytes:
    return b"".join(field(b"\x12", name) for name in names)


def decode_password(request: UserAdd | UserChangePassword) -> bytes | None:
    """The hash that is stored, out of base64; None if it is not base64.

    A password that came plain is of a member of etcd 3.4. Each member of etcd hashes it with a salt of its own, so no
    two have equal rows. Here it becomes a hash that no password fits: such a user cannot sign in at this member until
    the password is changed, and nothing secret is kept.
    """
    if request.password and not request.hashedPassword:
        return b""
    try:
        return binascii.a2b_base64(request.hashedPassword.translate(None, b"\r\n"), strict_mode=True)
    except binascii.Error:
        return None


APPLIERS: dict[str, Callable[[Auth, Any], Applied]] = {
    "auth_enable": enable,
    "auth_disable": disable,
    "auth_status": status,
    "auth_user_add": user_add,
    "auth_user_delete": user_delete,
    "auth_user_get": user_get,
    "auth_user_change_password": user_change_password,
    "auth_user_grant_role": user_grant_role,
    "auth_user_revoke_role": user_revoke_role,
    "auth_user_list": user_list,
    "auth_role_list": role_list,
    "auth_role_add": role_add,
    "auth_role_delete": role_delete,
    "auth_role_get": role_get,
    "auth_role_grant_permission": role_grant_permission,
    "auth_role_revoke_permission": role_revoke_permission,
}
