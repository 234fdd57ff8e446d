"""The format json: a line of JSON, as Go marshals etcd's messages; ids are numbers, bytes are base64.

Not protobuf's own JSON: names are the fields', enumerations numbers, and what is empty is left out. Some answers are no
messages in etcd's client, and have other names there.
"""

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from kvorum.ctl.formats.answers import Done, Hashes, Healths, Revoked, Role, Statuses, TimeToLive, User, Watched
from kvorum.ctl.go_text import boolean, json_bytes, json_list, json_object, json_string
from kvorum.etcdpb import rpc_pb2 as rpc

Fields = list[tuple[str, str]]


def shown(answer: Any, *, is_hex: bool) -> bytes:
    """is_hex: ids of a member list become texts in hexadecimal; of all else nothing changes."""
    if isinstance(answer, rpc.MemberListResponse) and is_hex:
        return members_in_hex(answer).encode() + b"\n"
    show = SHOW.get(type(answer))
    return (show(answer) if show else of_message(answer)).encode() + b"\n"


def of_message(message: Message) -> str:
    return json_object(fields_of(message))


def fields_of(message: Message) -> Fields:
    out: Fields = []
    for field in message.DESCRIPTOR.fields:
        oneof = field.containing_oneof
        if oneof is not None and len(oneof.fields) > 1:
            if message.WhichOneof(oneof.name) == field.name:
                inner = of_value(field, getattr(message, field.name))
                out.append((oneof.name.capitalize(), json_object([(field.name, inner)])))
            continue
        value = getattr(message, field.name)
        if field.is_repeated:
            if value:
                out.append((field.name, json_list([of_value(field, one) for one in value])))
        elif field.message_type is not None:
            if message.HasField(field.name):
                out.append((field.name, of_message(value)))
        elif value:
            out.append((field.name, of_value(field, value)))
    return out


def of_value(field: Any, value: Any) -> str:
    if field.message_type is not None:
        return of_message(value)
    if isinstance(value, bytes):
        return json_bytes(value)
    if isinstance(value, str):
        return json_string(value)
    return boolean(value) if isinstance(value, bool) else str(int(value))


def lease(answer: rpc.LeaseGrantResponse | rpc.LeaseKeepAliveResponse) -> str:
    fields = [*fields_of(answer.header), ("ID", str(answer.ID)), ("TTL", str(answer.TTL))]
    if isinstance(answer, rpc.LeaseGrantResponse):
        fields.append(("Error", json_string(answer.error)))
    return json_object(fields)


def time_to_live(answer: TimeToLive) -> str:
    found = answer.message
    keys = json_list(list(map(json_bytes, found.keys))) if found.keys else "null"
    times: Fields = [("id", str(found.ID)), ("ttl", str(found.TTL)), ("granted-ttl", str(found.grantedTTL))]
    return json_object([*fields_of(found.header), *times, ("keys", keys)])


def leases(answer: rpc.LeaseLeasesResponse) -> str:
    found = json_list([json_object([("id", str(one.ID))]) for one in answer.leases])
    return json_object([*fields_of(answer.header), ("leases", found)])


def watched(answer: Watched) -> str:
    return json_object(
        [
            ("Header", of_message(answer.header)),
            ("Events", json_list([of_message(event) for event in answer.events])),
            ("CompactRevision", str(answer.compact_revision)),
            ("Canceled", boolean(answer.canceled)),
            ("Created", "false"),
        ]
    )


def healths(answer: Healths) -> str:
    return json_list(
        [
            json_object(
                [
                    ("endpoint", json_string(one.endpoint)),
                    ("health", boolean(one.healthy)),
                    ("took", json_string(one.took)),
                    *([("error", json_string(one.error))] if one.error else []),
                ]
            )
            for one in answer.members
        ]
    )


def by_endpoint(name: str) -> Callable[[Any], str]:
    def show(answer: Statuses | Hashes) -> str:
        return json_list(
            [
                json_object([("Endpoint", json_string(endpoint)), (name, of_message(message))])
                for endpoint, message in answer.members
            ]
        )

    return show


def members_in_hex(answer: rpc.MemberListResponse) -> str:
    head = answer.header
    out: Fields = [
        (
            "header",
            json_object(
                [
                    ("cluster_id", f'"{head.cluster_id:x}"'),
                    ("member_id", f'"{head.member_id:x}"'),
                    ("raft_term", str(head.raft_term)),
                ]
            ),
        )
    ]
    found = [
        json_object(
            [
                ("ID", f'"{member.ID:x}"'),
                ("name", f'"{member.name}"'),
                ("peerURLs", urls(member.peerURLs)),
                ("clientURLS", urls(member.clientURLs)),
            ]
        )
        for member in answer.members
    ]
    return json_object(out + ([("members", json_list(found))] if found else []))


def urls(found: Any) -> str:
    return json_list([json_string(url) for url in found]) if found else "null"


SHOW: dict[type, Callable[[Any], str]] = {
    Done: lambda answer: of_message(answer.message),
    Revoked: lambda answer: of_message(answer.message),
    Role: lambda answer: of_message(answer.message),
    User: lambda answer: of_message(answer.message),
    rpc.LeaseGrantResponse: lease,
    rpc.LeaseKeepAliveResponse: lease,
    TimeToLive: time_to_live,
    rpc.LeaseLeasesResponse: leases,
    Watched: watched,
    Healths: healths,
    Statuses: by_endpoint("Status"),
    Hashes: by_endpoint("HashKV"),
}
