"""A Machine with users: entries come with the name and the revision of authentication that their proposer wrote."""

from typing import Any

from kvorum.etcdpb.auth_pb2 import Role, User
from kvorum.etcdpb.internal_pb2 import InternalRaftRequest, RequestHeader
from kvorum.etcdpb.rpc_pb2 import Permission
from kvorum.state.dict_store import DictStore
from kvorum.state.machine import Outcome
from kvorum.state.refusal import Refusal
from kvorum.state.store import AUTH_ROLES, AUTH_USERS

from tests.unit.kvorum.state.driver import Driver, new_machine

READ, WRITE, READWRITE = Permission.READ, Permission.WRITE, Permission.READWRITE
HASH = b"aGFzaA=="  # "hash" in base64


class AuthDriver(Driver):
    """All that a test does before authentication is on needs no user."""

    def __init__(self, store: DictStore | None = None) -> None:
        self.store = DictStore() if store is None else store
        super().__init__(new_machine(self.store))

    def asks(self, name: bytes, revision: int | None = None, *, answering: bool = True, **request: Any) -> Outcome:
        """One request of a user, by default as one that knows the rights of now."""
        header = RequestHeader(
            ID=1000 + self.machine.applied_index,
            username=name,
            auth_revision=self.machine.auth.revision if revision is None else revision,
        )
        data = InternalRaftRequest(header=header, **request).SerializeToString()
        return self.apply_data(data, answering=answering)

    def refused(self, **request: Any) -> Refusal | None:
        """Of nobody: before authentication is on, or by a member itself."""
        return self.apply(**request).refusal

    def done(self, **request: Any) -> Outcome:
        outcome = self.apply(**request)
        assert outcome.refusal is None, outcome.refusal
        return outcome

    def add_user(self, name: bytes, *roles: bytes) -> None:
        self.done(auth_user_add={"name": name, "hashedPassword": HASH, "options": {}})
        for role in roles:
            self.done(auth_user_grant_role={"user": name, "role": role})

    def add_role(self, name: bytes, *permissions: tuple[int, bytes, bytes]) -> None:
        self.done(auth_role_add={"name": name})
        for kind, key, range_end in permissions:
            self.grant(name, kind, key, range_end)

    def grant(self, role: bytes, kind: int, key: bytes, range_end: bytes = b"") -> None:
        perm = {"permType": kind, "key": key, "range_end": range_end}
        self.done(auth_role_grant_permission={"name": role, "perm": perm})

    def enable(self) -> None:
        """With the user root, who has the role root."""
        self.add_user(b"root", b"root")
        self.done(auth_enable={})

    def user(self, name: bytes) -> User | None:
        row = self.store.get(AUTH_USERS, name)
        return None if row is None else User.FromString(row)

    def permissions(self, role: bytes) -> list[tuple[int, bytes, bytes]]:
        row = self.store.get(AUTH_ROLES, role)
        assert row is not None, role
        return [(perm.permType, perm.key, perm.range_end) for perm in Role.FromString(row).keyPermission]
