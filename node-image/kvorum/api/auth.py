"""etcdserverpb.Auth: users, roles and permissions go through the log as they come; passwords are hashed before.

A password is compared with what is stored here once this member has caught up. What was compared may have changed by
the time that the sign-in is applied: then it is compared again. Passwords go no further than this module and
server.passwords; names may be any bytes, as in etcd.
"""

import binascii
from collections.abc import Callable
from typing import Any

from kvorum.api.permission import propose, refuses
from kvorum.api.request import fail, read
from kvorum.etcdpb import auth_pb2
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.etcdpb.internal_pb2 import InternalRaftRequest
from kvorum.net.call import Call
from kvorum.server.answer import Awaited
from kvorum.server.passwords import PASSWORD_BYTES_MAX, TooManyWait
from kvorum.server.server import Server
from kvorum.state import refusal
from kvorum.state.auth_checks import Check
from kvorum.state.refusal import Refusal
from kvorum.state.row import field, varint

WIRE_BYTES = 2  # protobuf's type of a field that holds a message
TOKEN = b"\x12"  # field 2 of AuthenticateResponse
ROUNDS_MAX = 10  # of comparing a password anew, since users and roles have changed


def _proposed(name: str, message: Any) -> Callable[[Server, Call], None]:
    """A request that goes into the log as it came. name: its field of InternalRaftRequest."""
    tag = varint(InternalRaftRequest.DESCRIPTOR.fields_by_name[name].number << 3 | WIRE_BYTES)

    def handle(server: Server, call: Call) -> None:
        if read(call, message, call.body) is None:
            return
        propose(server, tag + varint(len(call.body)) + call.body, call)

    return handle


def user_add(server: Server, call: Call) -> None:
    request = read(call, auth_pb2.UserAdd, call.body)
    if request is None:
        return
    if request.options.no_password:
        _propose_hashed(server, call, request)
    else:
        _hash_and_propose(server, call, request)


def user_change_password(server: Server, call: Call) -> None:
    request = read(call, auth_pb2.UserChangePassword, call.body)
    if request is None:
        return
    if request.password:
        _hash_and_propose(server, call, request)
    else:
        _propose_hashed(server, call, request)


def _hash_and_propose(server: Server, call: Call, request: auth_pb2.UserAdd | auth_pb2.UserChangePassword) -> None:
    if len(request.password) > PASSWORD_BYTES_MAX:
        fail(call, refusal.PASSWORD_TOO_LONG)
    else:
        server.tasks.spawn(_hashed(server, call, request), call)


async def _hashed(server: Server, call: Call, request: auth_pb2.UserAdd | auth_pb2.UserChangePassword) -> None:
    refused = refuses(server, call, Check.admin)
    if refused is not None:
        # Hashing is dear, so nobody may ask for it who will be refused anyway; unless this member only lags behind.
        caught_up = await _caught_up(server)
        refused = caught_up or refuses(server, call, Check.admin)
    if refused is not None:
        fail(call, refused)
        return
    try:
        hashed = await server.passwords.hash(request.password)
    except TooManyWait:
        fail(call, refusal.TOO_MANY_REQUESTS)
        return
    request.password, request.hashedPassword = b"", binascii.b2a_base64(hashed, newline=False)
    _propose_hashed(server, call, request)


def _propose_hashed(server: Server, call: Call, request: auth_pb2.UserAdd | auth_pb2.UserChangePassword) -> None:
    if isinstance(request, auth_pb2.UserAdd):
        entry = InternalRaftRequest(auth_user_add=request)
    else:
        entry = InternalRaftRequest(auth_user_change_password=request)
    propose(server, entry.SerializeToString(), call)


def authenticate(server: Server, call: Call) -> None:
    request = read(call, auth_pb2.UserAdd, call.body)  # its first two fields are an AuthenticateRequest's, as bytes
    if request is None:
        return
    server.tasks.spawn(_authenticate(server, call, request.name, request.password), call)


async def _authenticate(server: Server, call: Call, name: bytes, password: bytes) -> None:
    answer: bytes | Refusal | None = await _caught_up(server)
    try:
        for _ in range(ROUNDS_MAX):
            answer = answer or await _sign_in(server, name, password)
            if answer is not None:
                break
    except TooManyWait:
        answer = refusal.TOO_MANY_REQUESTS
    if isinstance(answer, bytes):
        call.reply(answer)
    else:
        fail(call, answer or refusal.TIMEOUT)


async def _sign_in(server: Server, name: bytes, password: bytes) -> bytes | Refusal | None:
    """The whole answer with a token; None: users or roles have changed meanwhile."""
    refused = await _refuses_password(server, name, password)
    if isinstance(refused, Refusal):
        return refused
    compared_at = refused
    letters = server.callers.tokens.draw()
    if isinstance(letters, Refusal):
        return letters
    entry = InternalRaftRequest(authenticate=auth_pb2.InternalAuthenticateRequest(name=name, simple_token=letters))
    applied = Awaited()
    server.propose(entry.SerializeToString(), applied)
    answer = await applied.outcome()
    if isinstance(answer, Refusal):
        return answer
    if server.machine.auth.revision != compared_at:
        return None
    token = server.callers.tokens.sign(name, compared_at)
    if token is None:
        return answer
    return token if isinstance(token, Refusal) else server.header.encode(server.machine.revision) + field(TOKEN, token)


async def _refuses_password(server: Server, name: bytes, password: bytes) -> int | Refusal:
    """The revision of authentication at which it was right."""
    auth = server.machine.auth
    if not auth.enabled:
        return refusal.AUTH_NOT_ENABLED
    revision = auth.revision
    user = auth.find_user(name)
    if user is not None and user.options.no_password:
        return refusal.NO_PASSWORD_USER
    right = await server.passwords.is_right(password, None if user is None else user.password)
    return revision if right else refusal.AUTH_FAILED


async def _caught_up(server: Server) -> Refusal | None:
    """All that was acknowledged anywhere is applied here."""
    confirmed = Awaited()
    server.read(lambda server, answer: answer.reply(b""), confirmed)
    outcome = await confirmed.outcome()
    return outcome if isinstance(outcome, Refusal) else None


METHODS: dict[str, Callable[[Server, Call], None]] = {
    "AuthEnable": _proposed("auth_enable", rpc.AuthEnableRequest),
    "AuthDisable": _proposed("auth_disable", rpc.AuthDisableRequest),
    "AuthStatus": _proposed("auth_status", rpc.AuthStatusRequest),
    "Authenticate": authenticate,
    "UserAdd": user_add,
    "UserGet": _proposed("auth_user_get", auth_pb2.UserGet),
    "UserList": _proposed("auth_user_list", rpc.AuthUserListRequest),
    "UserDelete": _proposed("auth_user_delete", auth_pb2.UserDelete),
    "UserChangePassword": user_change_password,
    "UserGrantRole": _proposed("auth_user_grant_role", auth_pb2.UserGrantRole),
    "UserRevokeRole": _proposed("auth_user_revoke_role", auth_pb2.UserRevokeRole),
    "RoleAdd": _proposed("auth_role_add", auth_pb2.RoleAdd),
    "RoleGet": _proposed("auth_role_get", auth_pb2.RoleGet),
    "RoleList": _proposed("auth_role_list", rpc.AuthRoleListRequest),
    "RoleDelete": _proposed("auth_role_delete", auth_pb2.RoleDelete),
    "RoleGrantPermission": _proposed("auth_role_grant_permission", auth_pb2.RoleGrantPermission),
    "RoleRevokePermission": _proposed("auth_role_revoke_permission", auth_pb2.RoleRevokePermission),
}
