"""How a call fails, told by what the caller may conclude from it.

etcd tells its errors by their text, since several share a gRPC code (etcd's api/v3rpc/rpctypes); NAMED turns the texts
that a program decides by into classes. All others are ClientError itself.
"""

import re

from kvorum.client.values import Header

# gRPC's codes.
CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED = 1, 2, 4, 12, 13, 14, 16

STATUS = re.compile(r"rpc error: code = \w+ desc = ")  # how Go writes a gRPC error

OPEN = frozenset((CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE))


class ClientError(Exception):
    """A call got no good answer. code: gRPC's; text: the server's own, or the connection's trouble.

    Where a write ends so and may_have_been_applied is true (a timeout, a lost connection, a lost leader), whether it
    was applied is not known: look before you repeat it. Otherwise the server refused, and nothing was changed.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return f"{self.text} (gRPC code {self.code})"

    @property
    def may_have_been_applied(self) -> bool:
        return self.code in OPEN


class Unreachable(ClientError):
    """No endpoint could be connected to, so nothing was sent. text: what each of them met."""

    def __init__(self, text: str) -> None:
        super().__init__(UNAVAILABLE, text)

    @property
    def may_have_been_applied(self) -> bool:
        return False


class WatchCancelled(ClientError):
    """The server ended a watch. compact_revision > 0: events up to it are gone, read anew and watch from there on.

    reason: in the server's words, where text is without the name of a code in front of it.
    """

    def __init__(self, reason: str, compact_revision: int, header: Header) -> None:
        super().__init__(CANCELLED, STATUS.sub("", reason))
        self.reason = reason
        self.compact_revision = compact_revision
        self.header = header


class AuthenticationFailed(ClientError):
    """The user's name or password is wrong, or there is none and authentication is on."""

    @property
    def may_have_been_applied(self) -> bool:
        return False


class PermissionDenied(ClientError):
    """The user's roles do not allow it."""


class Compacted(ClientError):
    """The revision asked for is gone."""


class LeaseNotFound(ClientError):
    """There is no such lease (any more)."""


class NoSpace(ClientError):
    """The members' quota is used up: writes are refused until there is space and the alarm is disarmed."""


class SessionExpired(ClientError):
    """A session's lease ended, and with it what was held by it: a lock, an election."""

    def __init__(self, text: str) -> None:
        super().__init__(UNKNOWN, text)


class NotElected(ClientError):
    """What only the elected may do, was asked by somebody else; or nobody is elected."""

    def __init__(self, text: str) -> None:
        super().__init__(UNKNOWN, text)

    @property
    def may_have_been_applied(self) -> bool:
        return False


NAMED: dict[str, type[ClientError]] = {
    "etcdserver: authentication failed, invalid user ID or password": AuthenticationFailed,
    "etcdserver: user name is empty": AuthenticationFailed,
    "etcdserver: invalid auth token": AuthenticationFailed,
    "etcdserver: permission denied": PermissionDenied,
    "etcdserver: mvcc: required revision has been compacted": Compacted,
    "etcdserver: requested lease not found": LeaseNotFound,
    "etcdserver: mvcc: database space exceeded": NoSpace,
}


def error_of(code: int, text: str) -> ClientError:
    return NAMED.get(text, ClientError)(code, text)
