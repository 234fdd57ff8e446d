"""Answers that are more than one message: what was asked, or several members' words."""

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import Message

from kvorum.etcdpb import rpc_pb2 as rpc


@dataclass(frozen=True, slots=True)
class Done:
    """Something was done. text: for the format simple. has_fields: the format fields shows the header."""

    text: bytes
    message: Message
    has_fields: bool = True


@dataclass(frozen=True, slots=True)
class Revoked:
    lease_id: int
    message: rpc.LeaseRevokeResponse


@dataclass(frozen=True, slots=True)
class TimeToLive:
    """keys: they were asked for."""

    message: rpc.LeaseTimeToLiveResponse
    keys: bool


@dataclass(frozen=True, slots=True)
class Watched:
    """compact_revision, canceled: 0 and False but in the last word of a watch that the server ended."""

    header: rpc.ResponseHeader
    events: Sequence[rpc.Event]
    compact_revision: int = 0
    canceled: bool = False


@dataclass(frozen=True, slots=True)
class Role:
    name: bytes
    message: rpc.AuthRoleGetResponse


@dataclass(frozen=True, slots=True)
class User:
    name: bytes
    message: rpc.AuthUserGetResponse


@dataclass(frozen=True, slots=True)
class Health:
    """took: as Go writes a duration; error: empty for a healthy one."""

    endpoint: str
    healthy: bool
    took: str
    error: str


@dataclass(frozen=True, slots=True)
class Healths:
    members: Sequence[Health]


@dataclass(frozen=True, slots=True)
class Statuses:
    members: Sequence[tuple[str, rpc.StatusResponse]]


@dataclass(frozen=True, slots=True)
class Hashes:
    members: Sequence[tuple[str, rpc.HashKVResponse]]
