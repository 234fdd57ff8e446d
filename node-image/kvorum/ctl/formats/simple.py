"""The format simple, which is the default: what a person wants to know."""

from collections.abc import Callable
from typing import Any

from kvorum.client import prefix_end
from kvorum.ctl import go_text
from kvorum.ctl.formats import rows
from kvorum.ctl.formats.answers import Done, Hashes, Healths, Revoked, Role, Statuses, TimeToLive, User, Watched
from kvorum.etcdpb import rpc_pb2 as rpc

READING = (rpc.Permission.READ, rpc.Permission.READWRITE)
WRITING = (rpc.Permission.WRITE, rpc.Permission.READWRITE)


def shown(answer: Any, *, is_hex: bool, value_only: bool) -> bytes | None:
    """None if there is no such format of an answer."""
    keys = KEYS.get(type(answer))
    if keys is not None:
        return keys(answer, Keys(is_hex, value_only))
    show = SHOW.get(type(answer))
    return None if show is None else show(answer)


class Keys:
    """How keys and values are written."""

    def __init__(self, is_hex: bool, value_only: bool) -> None:
        self.is_hex = is_hex
        self.value_only = value_only

    def line(self, kv: rpc.KeyValue) -> bytes:
        key, value = kv.key, kv.value
        if self.is_hex:
            key, value = go_text.hexadecimal(key), go_text.hexadecimal(value)
        return value + b"\n" if self.value_only else key + b"\n" + value + b"\n"


def ranged(answer: rpc.RangeResponse, keys: Keys) -> bytes:
    return b"".join(map(keys.line, answer.kvs))


def put(answer: rpc.PutResponse, keys: Keys) -> bytes:
    return b"OK\n" + (keys.line(answer.prev_kv) if answer.HasField("prev_kv") else b"")


def deleted(answer: rpc.DeleteRangeResponse, keys: Keys) -> bytes:
    return b"%d\n" % answer.deleted + b"".join(map(keys.line, answer.prev_kvs))


def txn(answer: rpc.TxnResponse, keys: Keys) -> bytes:
    out = b"SUCCESS\n" if answer.succeeded else b"FAILURE\n"
    for response in answer.responses:
        name = response.WhichOneof("response")
        assert name is not None
        part = getattr(response, name)
        out += b"\n" + KEYS[type(part)](part, keys)
    return out


def watched(answer: Watched, keys: Keys) -> bytes:
    out = b""
    for event in answer.events:
        out += rpc.Event.EventType.Name(event.type).encode() + b"\n"
        if event.HasField("prev_kv"):
            out += keys.line(event.prev_kv)
        out += keys.line(event.kv)
    return out


def granted(answer: rpc.LeaseGrantResponse) -> bytes:
    return b"lease %016x granted with TTL(%ds)\n" % (answer.ID, answer.TTL)


def kept(answer: rpc.LeaseKeepAliveResponse) -> bytes:
    return b"lease %016x keepalived with TTL(%d)\n" % (answer.ID, answer.TTL)


def time_to_live(answer: TimeToLive) -> bytes:
    lease = answer.message
    if lease.grantedTTL == 0 and lease.TTL == -1:
        return b"lease %016x already expired\n" % lease.ID
    keys = b", attached keys([" + b" ".join(lease.keys) + b"])" if answer.keys else b""
    return b"lease %016x granted with TTL(%ds), remaining(%ds)" % (lease.ID, lease.grantedTTL, lease.TTL) + keys + b"\n"


def leases(answer: rpc.LeaseLeasesResponse) -> bytes:
    return b"found %d leases\n" % len(answer.leases) + b"".join(b"%016x\n" % lease.ID for lease in answer.leases)


def alarms(answer: rpc.AlarmResponse) -> bytes:
    return b"".join(
        f"memberID:{one.memberID} alarm:{rpc.AlarmType.Name(one.alarm)} \n".encode() for one in answer.alarms
    )


def healths(answer: Healths) -> bytes:
    """Of the healthy ones; those that are not are told on stderr (unhealthy)."""
    return b"".join(
        f"{one.endpoint} is healthy: successfully committed proposal: took = {one.took}\n".encode()
        for one in answer.members
        if not one.error
    )


def unhealthy(answer: Healths) -> list[str]:
    return [
        f"{one.endpoint} is unhealthy: failed to commit proposal: {one.error}" for one in answer.members if one.error
    ]


def role(answer: Role) -> bytes:
    out = b"Role " + answer.name + b"\nKV Read:\n"
    out += b"".join(permission(one) for one in answer.message.perm if one.permType in READING)
    out += b"KV Write:\n"
    return out + b"".join(permission(one) for one in answer.message.perm if one.permType in WRITING)


def permission(one: rpc.Permission) -> bytes:
    if not one.range_end:
        return b"\t" + one.key + b"\n"
    end = b"<open ended>" if one.range_end == b"\0" else one.range_end + b")"
    prefix = b" (prefix " + one.key + b")" if prefix_end(one.key) == one.range_end else b""
    return b"\t[" + one.key + b", " + end + prefix + b"\n"


def user(answer: User) -> bytes:
    roles = "".join(f" {name}" for name in answer.message.roles)
    return b"User: " + answer.name + b"\nRoles:" + roles.encode() + b"\n"


def names(found: list[str]) -> bytes:
    return "".join(f"{name}\n" for name in found).encode()


def auth_status(answer: rpc.AuthStatusResponse) -> bytes:
    return f"Authentication Status: {go_text.boolean(answer.enabled)}\nAuthRevision: {answer.authRevision}\n".encode()


KEYS: dict[type, Callable[[Any, Keys], bytes]] = {
    rpc.RangeResponse: ranged,
    rpc.PutResponse: put,
    rpc.DeleteRangeResponse: deleted,
    rpc.TxnResponse: txn,
    Watched: watched,
}
SHOW: dict[type, Callable[[Any], bytes]] = {
    Done: lambda answer: answer.text + b"\n",
    rpc.LeaseGrantResponse: granted,
    Revoked: lambda answer: b"lease %016x revoked\n" % answer.lease_id,
    rpc.LeaseKeepAliveResponse: kept,
    TimeToLive: time_to_live,
    rpc.LeaseLeasesResponse: leases,
    rpc.MemberListResponse: lambda answer: rows.lines(rows.of_members(answer)),
    Healths: healths,
    Statuses: lambda answer: rows.lines(rows.of_statuses(answer)),
    Hashes: lambda answer: rows.lines(rows.of_hashes(answer)),
    rpc.AlarmResponse: alarms,
    Role: role,
    rpc.AuthRoleListResponse: lambda answer: names(answer.roles),
    User: user,
    rpc.AuthUserListResponse: lambda answer: names(answer.users),
    rpc.AuthStatusResponse: auth_status,
}
