# Made by `make generate` out of auth.proto. Do not edit.
from kvorum.etcdpb import rpc_pb2 as _rpc_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class User(_message.Message):
    __slots__ = ("name", "password", "roles", "options")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    password: bytes
    roles: _containers.RepeatedScalarFieldContainer[bytes]
    options: _rpc_pb2.UserAddOptions
    def __init__(self, name: _Optional[bytes] = ..., password: _Optional[bytes] = ..., roles: _Optional[_Iterable[bytes]] = ..., options: _Optional[_Union[_rpc_pb2.UserAddOptions, _Mapping]] = ...) -> None: ...

class Role(_message.Message):
    __slots__ = ("name", "keyPermission")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KEYPERMISSION_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    keyPermission: _containers.RepeatedCompositeFieldContainer[_rpc_pb2.Permission]
    def __init__(self, name: _Optional[bytes] = ..., keyPermission: _Optional[_Iterable[_Union[_rpc_pb2.Permission, _Mapping]]] = ...) -> None: ...

class InternalAuthenticateRequest(_message.Message):
    __slots__ = ("name", "password", "simple_token")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    SIMPLE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    password: bytes
    simple_token: bytes
    def __init__(self, name: _Optional[bytes] = ..., password: _Optional[bytes] = ..., simple_token: _Optional[bytes] = ...) -> None: ...

class UserAdd(_message.Message):
    __slots__ = ("name", "password", "options", "hashedPassword")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    HASHEDPASSWORD_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    password: bytes
    options: _rpc_pb2.UserAddOptions
    hashedPassword: bytes
    def __init__(self, name: _Optional[bytes] = ..., password: _Optional[bytes] = ..., options: _Optional[_Union[_rpc_pb2.UserAddOptions, _Mapping]] = ..., hashedPassword: _Optional[bytes] = ...) -> None: ...

class UserDelete(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    def __init__(self, name: _Optional[bytes] = ...) -> None: ...

class UserGet(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    def __init__(self, name: _Optional[bytes] = ...) -> None: ...

class UserChangePassword(_message.Message):
    __slots__ = ("name", "password", "hashedPassword")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    HASHEDPASSWORD_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    password: bytes
    hashedPassword: bytes
    def __init__(self, name: _Optional[bytes] = ..., password: _Optional[bytes] = ..., hashedPassword: _Optional[bytes] = ...) -> None: ...

class UserGrantRole(_message.Message):
    __slots__ = ("user", "role")
    USER_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    user: bytes
    role: bytes
    def __init__(self, user: _Optional[bytes] = ..., role: _Optional[bytes] = ...) -> None: ...

class UserRevokeRole(_message.Message):
    __slots__ = ("name", "role")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    role: bytes
    def __init__(self, name: _Optional[bytes] = ..., role: _Optional[bytes] = ...) -> None: ...

class RoleAdd(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    def __init__(self, name: _Optional[bytes] = ...) -> None: ...

class RoleDelete(_message.Message):
    __slots__ = ("role",)
    ROLE_FIELD_NUMBER: _ClassVar[int]
    role: bytes
    def __init__(self, role: _Optional[bytes] = ...) -> None: ...

class RoleGet(_message.Message):
    __slots__ = ("role",)
    ROLE_FIELD_NUMBER: _ClassVar[int]
    role: bytes
    def __init__(self, role: _Optional[bytes] = ...) -> None: ...

class RoleGrantPermission(_message.Message):
    __slots__ = ("name", "perm")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PERM_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    perm: _rpc_pb2.Permission
    def __init__(self, name: _Optional[bytes] = ..., perm: _Optional[_Union[_rpc_pb2.Permission, _Mapping]] = ...) -> None: ...

class RoleRevokePermission(_message.Message):
    __slots__ = ("role", "key", "range_end")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    RANGE_END_FIELD_NUMBER: _ClassVar[int]
    role: bytes
    key: bytes
    range_end: bytes
    def __init__(self, role: _Optional[bytes] = ..., key: _Optional[bytes] = ..., range_end: _Optional[bytes] = ...) -> None: ...
