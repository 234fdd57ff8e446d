"""The format fields: a line for each field, its name in quotes."""

from collections.abc import Callable
from typing import Any

from kvorum.ctl.formats.answers import Done, Hashes, Healths, Revoked, Role, Statuses, TimeToLive, Watched
from kvorum.ctl.go_text import boolean, quoted
from kvorum.etcdpb import rpc_pb2 as rpc


def header(of: rpc.ResponseHeader) -> str:
    return (
        f'"ClusterID" : {of.cluster_id}\n"MemberID" : {of.member_id}\n"Revision" : {of.revision}\n'
        f'"RaftTerm" : {of.raft_term}\n'
    )


def key_value(kv: rpc.KeyValue, prefix: str = "") -> str:
    return (
        f'"{prefix}Key" : {quoted(kv.key)}\n'
        f'"{prefix}CreateRevision" : {kv.create_revision}\n'
        f'"{prefix}ModRevision" : {kv.mod_revision}\n'
        f'"{prefix}Version" : {kv.version}\n'
        f'"{prefix}Value" : {quoted(kv.value)}\n'
        f'"{prefix}Lease" : {kv.lease}\n'
    )


def ranged(answer: rpc.RangeResponse) -> str:
    keys = "".join(map(key_value, answer.kvs))
    return header(answer.header) + keys + f'"More" : {boolean(answer.more)}\n"Count" : {answer.count}\n'


def put(answer: rpc.PutResponse) -> str:
    return header(answer.header) + (key_value(answer.prev_kv, "Prev") if answer.HasField("prev_kv") else "")


def deleted(answer: rpc.DeleteRangeResponse) -> str:
    before = "".join(key_value(kv, "Prev") for kv in answer.prev_kvs)
    return header(answer.header) + f'"Deleted" : {answer.deleted}\n' + before


def txn(answer: rpc.TxnResponse) -> str:
    out = header(answer.header) + f'"Succeeded" : {boolean(answer.succeeded)}\n'
    for response in answer.responses:
        name = response.WhichOneof("response")
        assert name is not None
        part = getattr(response, name)
        out += SHOW[type(part)](part)
    return out


def watched(answer: Watched) -> str:
    out = header(answer.header)
    for event in answer.events:
        out += f'"Type" : {rpc.Event.EventType.Name(event.type)}\n'
        if event.HasField("prev_kv"):
            out += key_value(event.prev_kv, "Prev")
        out += key_value(event.kv)
    return out


def lease(answer: rpc.LeaseGrantResponse | rpc.LeaseKeepAliveResponse) -> str:
    return header(answer.header) + f'"ID" : {answer.ID}\n"TTL" : {answer.TTL}\n'


def time_to_live(answer: TimeToLive) -> str:
    found = answer.message
    keys = "".join(f'"Key" : {quoted(key)}\n' for key in found.keys)
    times = f'"ID" : {found.ID}\n"TTL" : {found.TTL}\n"GrantedTTL" : {found.grantedTTL}\n'
    return header(found.header) + times + keys


def leases(answer: rpc.LeaseLeasesResponse) -> str:
    return header(answer.header) + "".join(f'"ID" : {one.ID}\n' for one in answer.leases)


def members(answer: rpc.MemberListResponse) -> str:
    out = header(answer.header)
    for member in answer.members:
        out += f'"ID" : {member.ID}\n"Name" : {quoted(member.name)}\n'
        out += "".join(f'"PeerURL" : {quoted(url)}\n' for url in member.peerURLs)
        out += "".join(f'"ClientURL" : {quoted(url)}\n' for url in member.clientURLs)
        out += f'"IsLearner" : {boolean(member.isLearner)}\n\n'
    return out


def healths(answer: Healths) -> str:
    return "".join(
        f'"Endpoint" : {quoted(one.endpoint)}\n"Health" : {boolean(one.healthy)}\n"Took" : {one.took}\n'
        f'"Error" : {one.error}\n\n'
        for one in answer.members
    )


def statuses(answer: Statuses) -> str:
    return "".join(
        header(status.header) + f'"Version" : {quoted(status.version)}\n"DBSize" : {status.dbSize}\n'
        f'"Leader" : {status.leader}\n"IsLearner" : {boolean(status.isLearner)}\n"RaftIndex" : {status.raftIndex}\n'
        f'"RaftTerm" : {status.raftTerm}\n"RaftAppliedIndex" : {status.raftAppliedIndex}\n'
        f'"Errors" : [{" ".join(status.errors)}]\n"Endpoint" : {quoted(endpoint)}\n\n'
        for endpoint, status in answer.members
    )


def hashes(answer: Hashes) -> str:
    return "".join(
        header(one.header) + f'"Endpoint" : {quoted(endpoint)}\n"Hash" : {one.hash}\n\n'
        for endpoint, one in answer.members
    )


def alarms(answer: rpc.AlarmResponse) -> str:
    return header(answer.header) + "".join(
        f'"MemberID" : {one.memberID}\n"AlarmType" : {rpc.AlarmType.Name(one.alarm)}\n\n' for one in answer.alarms
    )


def role(answer: Role) -> str:
    return header(answer.message.header) + "".join(
        f'"PermType" :  {rpc.Permission.Type.Name(one.permType)}\n"Key" : {quoted(one.key)}\n'
        f'"RangeEnd" : {quoted(one.range_end)}\n'
        for one in answer.message.perm
    )


def roles(answer: rpc.AuthRoleListResponse) -> str:
    return header(answer.header) + '"Roles" :' + "".join(f" {quoted(name)}" for name in answer.roles) + "\n"


def done(answer: Done) -> str | None:
    return header(answer.message.header) if answer.has_fields else None  # type: ignore[attr-defined]  # all have one


SHOW: dict[type, Callable[[Any], Any]] = {
    rpc.RangeResponse: ranged,
    rpc.PutResponse: put,
    rpc.DeleteRangeResponse: deleted,
    rpc.TxnResponse: txn,
    Watched: watched,
    rpc.LeaseGrantResponse: lease,
    Revoked: lambda answer: header(answer.message.header),
    rpc.LeaseKeepAliveResponse: lease,
    TimeToLive: time_to_live,
    rpc.LeaseLeasesResponse: leases,
    rpc.MemberListResponse: members,
    Healths: healths,
    Statuses: statuses,
    Hashes: hashes,
    rpc.AlarmResponse: alarms,
    Role: role,
    rpc.AuthRoleListResponse: roles,
    Done: done,
}
