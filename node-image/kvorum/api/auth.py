"""etcdserverpb.Auth: no more than saying where to go. The log's entries about users are applied (state.auth_changes).

Called only while authentication is off: while it is on, routes refuses these like all else.
"""

from kvorum.api.kv import fail
from kvorum.net.call import Call
from kvorum.server.server import Server
from kvorum.state import refusal

METHODS = (
    "AuthEnable",
    "AuthDisable",
    "AuthStatus",
    "UserAdd",
    "UserGet",
    "UserList",
    "UserDelete",
    "UserChangePassword",
    "UserGrantRole",
    "UserRevokeRole",
    "RoleAdd",
    "RoleGet",
    "RoleList",
    "RoleDelete",
    "RoleGrantPermission",
    "RoleRevokePermission",
)


def authenticate(server: Server, call: Call) -> None:
    """A client that brings a password all the same goes on without a token when it hears this, as with etcd."""
    fail(call, refusal.AUTH_NOT_ENABLED)


def elsewhere(server: Server, call: Call) -> None:
    fail(call, refusal.NO_AUTH_SERVICE)
