"""Random requests by random callers on few users, roles and keys, so that they meet; the same seed gives the same.

Knows what the reference answered, as far as it takes to ask at the edges: who exists with which password, whose token
counts. Nothing here knows what an answer should be.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kvorum.etcdpb import auth_pb2
from kvorum.etcdpb import rpc_pb2 as rpc

ROOT = "root"
USERS = ("ann", "ben", "cat", "dot", ROOT)
ROLES = ("r1", "r2", "r3", ROOT)
KEYS = (b"a", b"a1", b"b", b"b5", b"c", b"d", b"\xff")
ENDS = (b"", b"", b"", b"\0", b"b", b"c", b"d", b"a")
PASSWORDS = ("p", "q", "", "ä", "x" * 72)
LEASES = (1, 2, 3, 4, 99)
GARBAGE = ("", "x", "x.1", "abcdefghijklmnop.3", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "Bearer x", "~ ")
STALE_KEPT = 6  # tokens that count no more, to be shown again
KEY_KINDS = ("READ", "WRITE", "READWRITE")

# How often, of a thousand.
WEIGHTS = {
    "Range": 140,
    "Put": 140,
    "DeleteRange": 60,
    "Txn": 130,
    "Compact": 15,
    "LeaseGrant": 30,
    "LeaseRevoke": 20,
    "LeaseTimeToLive": 25,
    "LeaseLeases": 15,
    "LeaseKeepAlive": 25,
    "Watch": 50,
    "MemberList": 15,
    "MemberChange": 20,
    "Status": 10,
    "HashKV": 10,
    "Alarm": 15,
    "Defragment": 2,
    "MoveLeader": 6,
    "Snapshot": 2,
    "Authenticate": 60,
    "AuthStatus": 10,
    "AuthEnable": 6,
    "AuthDisable": 4,
    "UserAdd": 30,
    "UserDelete": 10,
    "UserChangePassword": 12,
    "UserGrantRole": 40,
    "UserRevokeRole": 15,
    "UserGet": 15,
    "UserList": 8,
    "RoleAdd": 12,
    "RoleDelete": 5,
    "RoleGrantPermission": 40,
    "RoleRevokePermission": 15,
    "RoleGet": 15,
    "RoleList": 8,
}


@dataclass
class Session:
    """A user's token: each side has its own of the same number."""

    number: int
    user: str
    counts: bool = True


@dataclass(frozen=True)
class Caller:
    """session, or a text that is no token, or neither: nobody. header: where it stands."""

    session: Session | None = None
    garbage: str | None = None
    header: str = "token"

    @property
    def name(self) -> str:
        return self.session.user if self.session else "nobody" if self.garbage is None else repr(self.garbage)


@dataclass(frozen=True)
class Operation:
    """password_of: whose password a successful answer makes known, and which."""

    name: str
    request: Any
    caller: Caller
    password_of: tuple[str, str] | None = None


NOBODY = Caller()


class Generator:
    """The operations of a seed; `saw` is told what the reference answered."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.passwords: dict[str, str] = {}
        self.sessions: list[Session] = []
        self.on = False
        self.revision = 1
        self._sessions_count = 0
        self._begin = [
            self._user_add(ROOT, "r"),
            Operation("UserGrantRole", rpc.AuthUserGrantRoleRequest(user=ROOT, role=ROOT), NOBODY),
            *(Operation("RoleAdd", rpc.AuthRoleAddRequest(name=role), NOBODY) for role in ROLES[:3]),
            *(Operation("LeaseGrant", rpc.LeaseGrantRequest(ID=lease, TTL=100_000), NOBODY) for lease in (1, 2)),
            Operation("AuthEnable", rpc.AuthEnableRequest(), NOBODY),
        ]

    def next(self) -> Operation:
        if self._begin:
            return self._begin.pop(0)
        if self.on and not any(one.counts and one.user == ROOT for one in self.sessions):
            return self._authenticate(ROOT, self.passwords.get(ROOT, ""))
        if not self.on and self.maybe(0.2):
            return self.random.choice(
                [
                    self._user_add(ROOT, "r"),
                    Operation("UserGrantRole", rpc.AuthUserGrantRoleRequest(user=ROOT, role=ROOT), NOBODY),
                    Operation("AuthEnable", rpc.AuthEnableRequest(), NOBODY),
                ]
            )
        name = self.random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        return MAKE[name](self)

    def saw(self, operation: Operation, code: int, text: str, answer: Any) -> Session | None:
        """What the reference answered. The session that it began, if it did."""
        session = operation.caller.session
        if session is not None and ("invalid auth token" in text or "revision of auth store is old" in text):
            session.counts = False
            stale = [one for one in self.sessions if not one.counts]
            for one in stale[:-STALE_KEPT]:
                self.sessions.remove(one)
        if code:
            return None
        if answer is not None and answer.header.revision:
            self.revision = max(self.revision, answer.header.revision)
        if operation.password_of is not None:
            self.passwords.update([operation.password_of])
        if operation.name == "AuthEnable":
            self.on = True
        elif operation.name == "AuthDisable":
            self.on = False
        elif operation.name == "UserDelete":
            self.passwords.pop(operation.request.name, None)
        elif operation.name == "Authenticate":
            self._sessions_count += 1
            begun = Session(self._sessions_count, operation.request.name)
            self.sessions.append(begun)
            return begun
        return None

    # -- parts -----------------------------------------------------------------------------------------------------

    def maybe(self, chance: float = 0.5) -> bool:
        return self.random.random() < chance

    def caller(self, *, root: float = 0.35) -> Caller:
        pick = self.random.random()
        header = self.random.choice(("token", "authorization"))
        if pick < 0.06:
            return NOBODY
        if pick < 0.1:
            return Caller(garbage=self.random.choice(GARBAGE), header=header)
        good = [one for one in self.sessions if one.counts and (one.user == ROOT) == self.maybe(root)]
        if pick < 0.16 or not good:
            good = self.sessions
        return Caller(self.random.choice(good), header=header) if good else NOBODY

    def root(self) -> Caller:
        """Mostly root, as of what only he may."""
        return self.caller(root=0.85)

    def key(self) -> bytes:
        return b"" if self.maybe(0.01) else self.random.choice(KEYS)

    def range_request(self) -> rpc.RangeRequest:
        return rpc.RangeRequest(
            key=self.key(),
            range_end=self.random.choice(ENDS),
            serializable=self.maybe(0.3),
            count_only=self.maybe(0.2),
            revision=self.revision + 100 if self.maybe(0.05) else 0,
        )

    def put_request(self) -> rpc.PutRequest:
        lease = self.random.choice(LEASES) if self.maybe(0.25) else 0
        return rpc.PutRequest(key=self.key(), value=b"v", prev_kv=self.maybe(0.3), lease=lease)

    def delete_request(self) -> rpc.DeleteRangeRequest:
        range_end = self.random.choice(ENDS)
        return rpc.DeleteRangeRequest(key=self.key(), range_end=range_end, prev_kv=self.maybe(0.3))

    def txn_request(self, depth: int = 0) -> rpc.TxnRequest:
        request = rpc.TxnRequest()
        if self.maybe(0.5):
            range_end = self.random.choice(ENDS) if self.maybe(0.3) else b""
            request.compare.add(key=self.random.choice(KEYS), range_end=range_end, version=self.random.choice((0, 1)))
        puts = depth > 0 or self.maybe(0.6)
        for branch in (request.success, request.failure):
            for _ in range(self.random.choice((0, 1, 1, 2))):
                branch.append(self._op(depth, puts=puts))
        return request

    def _op(self, depth: int, *, puts: bool) -> rpc.RequestOp:
        """No deletion beside puts, which etcd takes for duplicates; at a top level no range that cannot be read beside
        them, since etcd's members would go apart."""
        pick = self.random.random()
        if not puts or pick < 0.3:
            ranged = self.range_request()
            if puts:
                ranged.revision = 0
            return rpc.RequestOp(request_range=ranged)
        if pick < 0.45 and depth < 2:
            return rpc.RequestOp(request_txn=self.txn_request(depth + 1))
        put = self.put_request()
        put.lease = self.random.choice((0, 0, 0, 1, 2))
        return rpc.RequestOp(request_put=put)

    def _user_add(self, name: str, password: str) -> Operation:
        request = rpc.AuthUserAddRequest(name=name, password=password)
        return Operation("UserAdd", request, NOBODY, password_of=(name, password))

    def _authenticate(self, name: str, password: str) -> Operation:
        return Operation("Authenticate", rpc.AuthenticateRequest(name=name, password=password), self.caller())

    # -- operations ------------------------------------------------------------------------------------------------

    def _range(self) -> Operation:
        return Operation("Range", self.range_request(), self.caller())

    def _put(self) -> Operation:
        return Operation("Put", self.put_request(), self.caller())

    def _delete(self) -> Operation:
        return Operation("DeleteRange", self.delete_request(), self.caller())

    def _txn(self) -> Operation:
        return Operation("Txn", self.txn_request(), self.caller())

    def _compact(self) -> Operation:
        revision = self.random.choice((self.revision, self.revision - 3, self.revision + 100))
        return Operation("Compact", rpc.CompactionRequest(revision=revision, physical=True), self.caller())

    def _lease_grant(self) -> Operation:
        request = rpc.LeaseGrantRequest(ID=self.random.choice(LEASES[:4]), TTL=100_000)
        return Operation("LeaseGrant", request, self.caller())

    def _lease_revoke(self) -> Operation:
        return Operation("LeaseRevoke", rpc.LeaseRevokeRequest(ID=self.random.choice(LEASES)), self.caller())

    def _lease_life(self) -> Operation:
        request = rpc.LeaseTimeToLiveRequest(ID=self.random.choice(LEASES), keys=self.maybe(0.7))
        return Operation("LeaseTimeToLive", request, self.caller())

    def _lease_leases(self) -> Operation:
        return Operation("LeaseLeases", rpc.LeaseLeasesRequest(), self.caller())

    def _keep_alive(self) -> Operation:
        return Operation("LeaseKeepAlive", rpc.LeaseKeepAliveRequest(ID=self.random.choice(LEASES)), self.caller())

    def _watch(self) -> Operation:
        request = rpc.WatchCreateRequest(
            key=self.key(), range_end=self.random.choice(ENDS), start_revision=-1 if self.maybe(0.03) else 0
        )
        return Operation("Watch", request, self.caller())

    def _member_list(self) -> Operation:
        return Operation("MemberList", rpc.MemberListRequest(linearizable=self.maybe()), self.caller())

    def _member_change(self) -> Operation:
        request: Any = self.random.choice(
            [
                rpc.MemberAddRequest(peerURLs=["nonsense"]),
                rpc.MemberRemoveRequest(ID=12345),
                rpc.MemberUpdateRequest(ID=12345, peerURLs=["http://127.0.0.1:1"]),
                rpc.MemberPromoteRequest(ID=12345),
            ]
        )
        return Operation(type(request).__name__.removesuffix("Request"), request, self.root())

    def _status(self) -> Operation:
        return Operation("Status", rpc.StatusRequest(), self.root())

    def _hash_kv(self) -> Operation:
        return Operation("HashKV", rpc.HashKVRequest(), self.root())

    def _alarm(self) -> Operation:
        action = self.random.choice((rpc.AlarmRequest.GET, rpc.AlarmRequest.DEACTIVATE))
        return Operation("Alarm", rpc.AlarmRequest(action=action, memberID=7, alarm="NOSPACE"), self.caller())

    def _defragment(self) -> Operation:
        return Operation("Defragment", rpc.DefragmentRequest(), self.root())

    def _move_leader(self) -> Operation:
        return Operation("MoveLeader", rpc.MoveLeaderRequest(targetID=12345), self.root())

    def _snapshot(self) -> Operation:
        return Operation("Snapshot", rpc.SnapshotRequest(), self.root())

    def _authenticate_any(self) -> Operation:
        name = self.random.choice((*USERS, *USERS, "nosuch", ""))
        password = self.random.choice(PASSWORDS) if self.maybe(0.2) else self.passwords.get(name, "p")
        return self._authenticate(name, password)

    def _auth_status(self) -> Operation:
        return Operation("AuthStatus", rpc.AuthStatusRequest(), self.root())

    def _auth_enable(self) -> Operation:
        return Operation("AuthEnable", rpc.AuthEnableRequest(), self.root())

    def _auth_disable(self) -> Operation:
        return Operation("AuthDisable", rpc.AuthDisableRequest(), self.root())

    def _user_add_any(self) -> Operation:
        if self.maybe(0.05):
            return Operation("UserAdd", auth_pb2.UserAdd(name=b"\xffu", password=b"\xff\0p"), self.root())
        name, password = self.random.choice((*USERS, "")), self.random.choice((*PASSWORDS, "x" * 73))
        request = rpc.AuthUserAddRequest(name=name, password=password)
        if self.maybe(0.15) and name != ROOT:
            request.options.no_password = True
        return Operation("UserAdd", request, self.root(), password_of=(name, password))

    def _user_delete(self) -> Operation:
        name = self.random.choice((*USERS[:4], *USERS[:4], ROOT, "nosuch"))
        return Operation("UserDelete", rpc.AuthUserDeleteRequest(name=name), self.root())

    def _user_change_password(self) -> Operation:
        name, password = self.random.choice((*USERS, "nosuch")), self.random.choice((*PASSWORDS, "x" * 73))
        if name == ROOT and not password:
            password = "r"  # with none, etcd's way to lock a user out, all that is left would be trying to sign in
        request = rpc.AuthUserChangePasswordRequest(name=name, password=password)
        return Operation("UserChangePassword", request, self.root(), password_of=(name, password))

    def _user_grant_role(self) -> Operation:
        user, role = self.random.choice(USERS), self.random.choice((*ROLES, *ROLES[:3], "nosuch"))
        return Operation("UserGrantRole", rpc.AuthUserGrantRoleRequest(user=user, role=role), self.root())

    def _user_revoke_role(self) -> Operation:
        name, role = self.random.choice(USERS), self.random.choice(ROLES)
        return Operation("UserRevokeRole", rpc.AuthUserRevokeRoleRequest(name=name, role=role), self.root())

    def _user_get(self) -> Operation:
        return Operation("UserGet", rpc.AuthUserGetRequest(name=self.random.choice((*USERS, "nosuch"))), self.caller())

    def _user_list(self) -> Operation:
        return Operation("UserList", rpc.AuthUserListRequest(), self.root())

    def _role_add(self) -> Operation:
        return Operation("RoleAdd", rpc.AuthRoleAddRequest(name=self.random.choice((*ROLES, ""))), self.root())

    def _role_delete(self) -> Operation:
        return Operation(
            "RoleDelete", rpc.AuthRoleDeleteRequest(role=self.random.choice((*ROLES, "nosuch"))), self.root()
        )

    def _role_grant(self) -> Operation:
        request = rpc.AuthRoleGrantPermissionRequest(name=self.random.choice((*ROLES, "nosuch")))
        if not self.maybe(0.03):
            request.perm.CopyFrom(
                rpc.Permission(
                    permType=self.random.choice(KEY_KINDS),
                    key=self.random.choice(KEYS),
                    range_end=self.random.choice(ENDS),
                )
            )
        return Operation("RoleGrantPermission", request, self.root())

    def _role_revoke(self) -> Operation:
        request = rpc.AuthRoleRevokePermissionRequest(
            role=self.random.choice(ROLES), key=self.random.choice(KEYS), range_end=self.random.choice(ENDS)
        )
        return Operation("RoleRevokePermission", request, self.root())

    def _role_get(self) -> Operation:
        return Operation("RoleGet", rpc.AuthRoleGetRequest(role=self.random.choice((*ROLES, "nosuch"))), self.caller())

    def _role_list(self) -> Operation:
        return Operation("RoleList", rpc.AuthRoleListRequest(), self.root())


MAKE: dict[str, Callable[[Generator], Operation]] = {
    "Range": Generator._range,
    "Put": Generator._put,
    "DeleteRange": Generator._delete,
    "Txn": Generator._txn,
    "Compact": Generator._compact,
    "LeaseGrant": Generator._lease_grant,
    "LeaseRevoke": Generator._lease_revoke,
    "LeaseTimeToLive": Generator._lease_life,
    "LeaseLeases": Generator._lease_leases,
    "LeaseKeepAlive": Generator._keep_alive,
    "Watch": Generator._watch,
    "MemberList": Generator._member_list,
    "MemberChange": Generator._member_change,
    "Status": Generator._status,
    "HashKV": Generator._hash_kv,
    "Alarm": Generator._alarm,
    "Defragment": Generator._defragment,
    "MoveLeader": Generator._move_leader,
    "Snapshot": Generator._snapshot,
    "Authenticate": Generator._authenticate_any,
    "AuthStatus": Generator._auth_status,
    "AuthEnable": Generator._auth_enable,
    "AuthDisable": Generator._auth_disable,
    "UserAdd": Generator._user_add_any,
    "UserDelete": Generator._user_delete,
    "UserChangePassword": Generator._user_change_password,
    "UserGrantRole": Generator._user_grant_role,
    "UserRevokeRole": Generator._user_revoke_role,
    "UserGet": Generator._user_get,
    "UserList": Generator._user_list,
    "RoleAdd": Generator._role_add,
    "RoleDelete": Generator._role_delete,
    "RoleGrantPermission": Generator._role_grant,
    "RoleRevokePermission": Generator._role_revoke,
    "RoleGet": Generator._role_get,
    "RoleList": Generator._role_list,
}
