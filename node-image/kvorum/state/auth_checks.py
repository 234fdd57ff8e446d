"""What the named user of an entry may do, decided when it is applied, alike on every member (etcd's authApplierV3).

Asked only while authentication is on. Entries that members write for themselves (lease checkpoints, alarms, versions,
published attributes, compaction) need nobody's permission. That of a lease to be revoked when it expires is the user
root's, whose name the leader puts into the header.
"""

from collections.abc import Callable, Iterable
from typing import Any

from kvorum.etcdpb.auth_pb2 import RoleGet, UserGet
from kvorum.etcdpb.rpc_pb2 import (
    DeleteRangeRequest,
    LeaseRevokeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)
from kvorum.state.auth import READ, WRITE, Auth, Caller
from kvorum.state.leases import Lease, Leases
from kvorum.state.refusal import USER_EMPTY, Refusal

ADMIN = frozenset(
    {
        "auth_enable",
        "auth_disable",
        "auth_status",
        "auth_user_add",
        "auth_user_delete",
        "auth_user_change_password",
        "auth_user_grant_role",
        "auth_user_revoke_role",
        "auth_user_list",
        "auth_role_add",
        "auth_role_delete",
        "auth_role_grant_permission",
        "auth_role_revoke_permission",
        "auth_role_list",
    }
)


class Check:
    """One entry's caller against the state it is applied to."""

    def __init__(self, auth: Auth, leases: Leases, caller: Caller) -> None:
        self._auth = auth
        self._leases = leases
        self._caller = caller

    def refuses(self, name: str, request: Any) -> Refusal | None:
        """name: the field of InternalRaftRequest that holds the request."""
        if name in ADMIN:
            return self._auth.refuses_admin(self._caller)
        check = _CHECKS.get(name)
        return None if check is None else check(self, request)

    def range_(self, request: RangeRequest) -> Refusal | None:
        return self._keys(request.key, request.range_end, READ)

    def put(self, request: PutRequest) -> Refusal | None:
        return (
            self._keys(request.key, b"", WRITE)
            or self._lease(request.lease)
            or (self._keys(request.key, b"", READ) if request.prev_kv else None)
        )

    def delete_range(self, request: DeleteRangeRequest) -> Refusal | None:
        return self._keys(request.key, request.range_end, WRITE) or (
            self._keys(request.key, request.range_end, READ) if request.prev_kv else None
        )

    def txn(self, request: TxnRequest) -> Refusal | None:
        """Both lists count, whichever is taken. Ranges at the top level do not: see txn.py."""
        return self._txn(request, nested=False)

    def txn_with_ranges(self, request: TxnRequest) -> Refusal | None:
        """All of it: where a client asks, whether it goes through the log or not."""
        return self._txn(request, nested=True)

    def named(self) -> Refusal | None:
        """Anybody may, who says who he is."""
        return None if self._caller.revision else USER_EMPTY

    def keys_read(self, key: bytes, range_end: bytes) -> Refusal | None:
        return self._keys(key, range_end, READ)

    def admin(self) -> Refusal | None:
        return self._auth.refuses_admin(self._caller)

    def lease_keys(self, lease_id: int) -> Refusal | None:
        """Whoever renews a lease keeps alive what hangs on it, so he must be allowed to write that."""
        return self.named() or self._lease(lease_id)

    def lease_keys_read(self, leases: Iterable[Lease]) -> Refusal | None:
        """Whoever lists leases, or the keys of one, must be able to read the keys."""
        refused = self.named()
        if refused is not None or self.admin() is None:
            return refused
        keys = (key for lease in leases for key in lease.keys)
        return next(filter(None, (self._keys(key, b"", READ) for key in keys)), None)

    def lease_revoke(self, request: LeaseRevokeRequest) -> Refusal | None:
        return self._lease(request.ID)

    def user_get(self, request: UserGet) -> Refusal | None:
        """Everybody may ask of himself."""
        refused = self._auth.refuses_admin(self._caller)
        return None if request.name == self._caller.name else refused

    def role_get(self, request: RoleGet) -> Refusal | None:
        """And of the roles he has."""
        refused = self._auth.refuses_admin(self._caller)
        user = self._auth.find_user(self._caller.name)
        return None if user is not None and request.role in user.roles else refused

    def _keys(self, key: bytes, range_end: bytes, access: int) -> Refusal | None:
        return self._auth.refuses_keys(self._caller, key, range_end, access)

    def _lease(self, lease_id: int) -> Refusal | None:
        """Whoever hangs a key on a lease, or revokes it, must be able to delete all keys that hang there."""
        lease = self._leases.find(lease_id)
        if lease is None or self._auth.refuses_admin(self._caller) is None:
            return None
        return next(filter(None, (self._keys(key, b"", WRITE) for key in lease.keys)), None)

    def _txn(self, request: TxnRequest, *, nested: bool) -> Refusal | None:
        for compare in request.compare:
            refused = self._keys(compare.key, compare.range_end, READ)
            if refused is not None:
                return refused
        return self._ops(request.success, nested=nested) or self._ops(request.failure, nested=nested)

    def _ops(self, ops: Iterable[RequestOp], *, nested: bool) -> Refusal | None:
        for op in ops:
            refused = None
            kind = op.WhichOneof("request")
            if kind == "request_put":
                refused = self.put(op.request_put)
            elif kind == "request_delete_range":
                refused = self.delete_range(op.request_delete_range)
            elif kind == "request_txn":
                refused = self._txn(op.request_txn, nested=True)
            elif kind == "request_range" and nested:
                refused = self.range_(op.request_range)
            if refused is not None:
                return refused
        return None


_CHECKS: dict[str, Callable[[Check, Any], Refusal | None]] = {
    "range": Check.range_,
    "put": Check.put,
    "delete_range": Check.delete_range,
    "txn": Check.txn,
    "lease_revoke": Check.lease_revoke,
    "auth_user_get": Check.user_get,
    "auth_role_get": Check.role_get,
}
