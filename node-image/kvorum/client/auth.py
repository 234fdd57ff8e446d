"""Users, roles and permissions, and whether they are asked for: `client.auth`."""

from typing import Any

from kvorum.client.endpoints import Endpoints
from kvorum.client.messages import permission_of
from kvorum.client.values import AuthStatus, Permission
from kvorum.etcdpb import rpc_pb2 as rpc

AUTH = "/etcdserverpb.Auth/"


class Auth:
    """Each change takes a while (a password's hash: 50 ms and more) and makes all tokens old; clients fetch new ones.

    Names and passwords are text. Every call raises ClientError with etcd's text: `etcdserver: user name not found`, ….
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints

    async def enable(self) -> None:
        """Needs a user root that has the role root. From then on every call needs a user."""
        await self._write("AuthEnable", rpc.AuthEnableRequest(), rpc.AuthEnableResponse)

    async def disable(self) -> None:
        await self._write("AuthDisable", rpc.AuthDisableRequest(), rpc.AuthDisableResponse)

    async def status(self) -> AuthStatus:
        answer = await self._read("AuthStatus", rpc.AuthStatusRequest(), rpc.AuthStatusResponse)
        return AuthStatus(answer.enabled, answer.authRevision)

    # Users

    async def users(self) -> tuple[str, ...]:
        return tuple((await self._read("UserList", rpc.AuthUserListRequest(), rpc.AuthUserListResponse)).users)

    async def user_add(self, name: str, password: str | None) -> None:
        """password: None for who is known by the common name of a client certificate alone."""
        request = rpc.AuthUserAddRequest(
            name=name, password=password or "", options=rpc.UserAddOptions(no_password=password is None)
        )
        await self._write("UserAdd", request, rpc.AuthUserAddResponse)

    async def user_delete(self, name: str) -> None:
        await self._write("UserDelete", rpc.AuthUserDeleteRequest(name=name), rpc.AuthUserDeleteResponse)

    async def user_roles(self, name: str) -> tuple[str, ...]:
        return tuple((await self._read("UserGet", rpc.AuthUserGetRequest(name=name), rpc.AuthUserGetResponse)).roles)

    async def user_change_password(self, name: str, password: str) -> None:
        request = rpc.AuthUserChangePasswordRequest(name=name, password=password)
        await self._write("UserChangePassword", request, rpc.AuthUserChangePasswordResponse)

    async def user_grant_role(self, name: str, role: str) -> None:
        request = rpc.AuthUserGrantRoleRequest(user=name, role=role)
        await self._write("UserGrantRole", request, rpc.AuthUserGrantRoleResponse)

    async def user_revoke_role(self, name: str, role: str) -> None:
        request = rpc.AuthUserRevokeRoleRequest(name=name, role=role)
        await self._write("UserRevokeRole", request, rpc.AuthUserRevokeRoleResponse)

    # Roles

    async def roles(self) -> tuple[str, ...]:
        return tuple((await self._read("RoleList", rpc.AuthRoleListRequest(), rpc.AuthRoleListResponse)).roles)

    async def role_add(self, role: str) -> None:
        await self._write("RoleAdd", rpc.AuthRoleAddRequest(name=role), rpc.AuthRoleAddResponse)

    async def role_delete(self, role: str) -> None:
        await self._write("RoleDelete", rpc.AuthRoleDeleteRequest(role=role), rpc.AuthRoleDeleteResponse)

    async def role_permissions(self, role: str) -> tuple[Permission, ...]:
        answer = await self._read("RoleGet", rpc.AuthRoleGetRequest(role=role), rpc.AuthRoleGetResponse)
        return tuple(map(permission_of, answer.perm))

    async def role_grant_permission(self, role: str, permission: Permission) -> None:
        """One of the same range that the role has already is replaced."""
        request = rpc.AuthRoleGrantPermissionRequest(
            name=role,
            perm=rpc.Permission(
                permType=rpc.Permission.Type.Name(permission.access),
                key=permission.key,
                range_end=permission.range_end,
            ),
        )
        await self._write("RoleGrantPermission", request, rpc.AuthRoleGrantPermissionResponse)

    async def role_revoke_permission(self, role: str, key: bytes, range_end: bytes = b"") -> None:
        """The range has to be that of a permission, not a part of it."""
        request = rpc.AuthRoleRevokePermissionRequest(role=role, key=key, range_end=range_end)
        await self._write("RoleRevokePermission", request, rpc.AuthRoleRevokePermissionResponse)

    async def _read(self, method: str, request: Any, answer: Any) -> Any:
        return await self._endpoints.read(AUTH + method, request, answer, None)

    async def _write(self, method: str, request: Any, answer: Any) -> Any:
        return await self._endpoints.write(AUTH + method, request, answer, None)
