"""Authentication as replicated state: users, roles, whether it is on, and its revision. The same rows as etcd's.

Knows who exists and what each user may do; how entries change that is auth_changes', what a request needs auth_checks'.
Passwords come hashed from the proposer, so that every member stores the same bytes; here they are bytes like others.

The revision starts at 1 and moves with every change but that of turning authentication on. A request carries the one
its proposer saw: a decision made on older rights must not be applied.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from google.protobuf.message import DecodeError

from kvorum.etcdpb.auth_pb2 import Role, User
from kvorum.etcdpb.internal_pb2 import RequestHeader
from kvorum.etcdpb.rpc_pb2 import Permission
from kvorum.state.auth_ranges import KeyRanges
from kvorum.state.refusal import AUTH_OLD_REVISION, PERMISSION_DENIED, USER_EMPTY, USER_NOT_FOUND, Refusal
from kvorum.state.store import AUTH, AUTH_ROLES, AUTH_USERS, Store

ENABLED, REVISION = b"authEnabled", b"authRevision"
ROOT = b"root"  # the user that must exist before authentication is turned on, and the role that may do everything
READ, WRITE = Permission.READ, Permission.WRITE


class Caller(NamedTuple):
    """Who asks, out of an entry's header. revision: of authentication, as the proposer saw it; 0: nobody is named."""

    name: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Rights:
    """What the roles of one user come to."""

    is_root: bool
    readable: KeyRanges
    writable: KeyRanges


class SignedIn(NamedTuple):
    """A user's password was right, at some member: from now on this token names him at every one."""

    user: bytes
    token: bytes


class SignedOut(NamedTuple):
    """Tokens from before name nobody any more. user None: all users'."""

    user: bytes | None


class RightsChanged(NamedTuple):
    """Of anybody, or authentication was turned on or off: what was allowed before may be so no more."""


News = SignedIn | SignedOut | RightsChanged


class Auth:
    """Rows are read when they are needed, rights kept until the next change.

    news: what whoever serves clients has to hear of, in the order it was applied; he takes it after each batch.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rights: dict[bytes, Rights] = {}
        self._rights_named: dict[bytes, Rights] = {}
        self.enabled = False
        self.revision = 1
        self.news: list[News] = []

    def load(self) -> None:
        """From the store. A new one gets the first revision, as etcd writes it when it opens its own."""
        self._forget_rights()
        self.news.clear()
        self.enabled = self._store.get(AUTH, ENABLED) == b"\x01"
        revision = self._store.get(AUTH, REVISION)
        if revision is None:
            self.revision = 0
            self.changed()
        else:
            self.revision = int.from_bytes(revision, "big")

    # -- rows ------------------------------------------------------------------------------------------------------

    def turn(self, *, on: bool) -> None:
        self.enabled = on
        self._store.put(AUTH, ENABLED, b"\x01" if on else b"\x00")
        self.news = [SignedOut(None), RightsChanged()]  # what came before matters to nobody now

    def tell(self, news: News) -> None:
        """While authentication is off nobody has a token, nor needs rights. The same twice in a row is told once."""
        if self.enabled and self.news[-1:] != [news]:
            self.news.append(news)

    def take_news(self) -> list[News]:
        news, self.news = self.news, []
        return news

    def changed(self) -> None:
        """After every successful change: rights are looked up anew, and requests decided before are too old."""
        self._forget_rights()
        self.revision += 1
        self._store.put(AUTH, REVISION, self.revision.to_bytes(8, "big"))
        self.tell(RightsChanged())

    def _forget_rights(self) -> None:
        self._rights.clear()
        self._rights_named.clear()

    def find_user(self, name: bytes) -> User | None:
        row = self._store.get(AUTH_USERS, name) if name else None
        return None if row is None else User.FromString(row)

    def put_user(self, user: User) -> None:
        self._store.put(AUTH_USERS, user.name, user.SerializeToString())

    def delete_user(self, name: bytes) -> None:
        self._store.delete(AUTH_USERS, name)

    def users(self) -> Iterator[User]:
        """By name."""
        return (User.FromString(row) for _, row in self._store.scan(AUTH_USERS))

    def find_role(self, name: bytes) -> Role | None:
        row = self._store.get(AUTH_ROLES, name) if name else None
        return None if row is None else Role.FromString(row)

    def put_role(self, role: Role) -> None:
        self._store.put(AUTH_ROLES, role.name, role.SerializeToString())

    def delete_role(self, name: bytes) -> None:
        self._store.delete(AUTH_ROLES, name)

    def roles(self) -> Iterator[Role]:
        """By name."""
        return (Role.FromString(row) for _, row in self._store.scan(AUTH_ROLES))

    # -- rights ----------------------------------------------------------------------------------------------------

    def refuses_keys(self, caller: Caller, key: bytes, range_end: bytes, access: int) -> Refusal | None:
        """access: READ or WRITE, of the key or of all keys to range_end as a request writes it."""
        if not caller.revision:
            return USER_EMPTY
        if caller.revision < self.revision:
            return AUTH_OLD_REVISION
        rights = self.rights(caller.name)
        if rights is None:
            return PERMISSION_DENIED
        if rights.is_root:
            return None
        allowed = rights.readable if access == READ else rights.writable
        return None if allowed.cover(key, range_end) else PERMISSION_DENIED

    def refuses_admin(self, caller: Caller) -> Refusal | None:
        """What only the role root may do. The revision is not looked at, as in etcd."""
        if not caller.name:
            return USER_EMPTY
        rights = self.rights(caller.name)
        if rights is None:
            return USER_NOT_FOUND
        return None if rights.is_root else PERMISSION_DENIED

    def rights(self, name: bytes) -> Rights | None:
        """None: there is no such user."""
        rights = self._rights.get(name)
        if rights is None:
            user = self.find_user(name)
            if user is None:
                return None
            rights = self._rights[name] = self._gather_rights(user)
        return rights

    def rights_of(self, named: bytes) -> Rights | None:
        """Of whom the rest of an entry's header names: its fields behind the id. None unless he asks at the revision of
        now, and is a user.

        Hot path: for each put while authentication is on.
        """
        rights = self._rights_named.get(named)
        if rights is None:
            try:
                header = RequestHeader.FromString(named)
            except DecodeError:
                return None
            if header.ID or header.auth_revision != self.revision:
                return None
            rights = self.rights(header.username)
            if rights is not None:
                self._rights_named[named] = rights
        return rights

    def _gather_rights(self, user: User) -> Rights:
        readable, writable = [], []
        for role in filter(None, map(self.find_role, user.roles)):
            for permission in role.keyPermission:
                keys = permission.key, permission.range_end
                if permission.permType in (Permission.READ, Permission.READWRITE):
                    readable.append(keys)
                if permission.permType in (Permission.WRITE, Permission.READWRITE):
                    writable.append(keys)
        return Rights(ROOT in user.roles, KeyRanges(readable), KeyRanges(writable))
