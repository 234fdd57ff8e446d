"""The format protobuf: the bytes of an answer's message, and nothing behind them.

Of leases they are the header's alone: etcdctl's own type is marshalled by what it embeds.
"""

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from kvorum.ctl.exits import BAD_FEATURE, Exit
from kvorum.ctl.formats.answers import Done, Revoked, Role, TimeToLive, User, Watched
from kvorum.etcdpb import rpc_pb2 as rpc


def shown(answer: Any) -> bytes | None:
    show = SHOW.get(type(answer))
    if show is not None:
        return show(answer)
    return answer.SerializeToString() if isinstance(answer, Message) else None


def watched(answer: Watched) -> bytes:
    return rpc.WatchResponse(
        header=answer.header,
        events=answer.events,
        compact_revision=answer.compact_revision,
        canceled=answer.canceled,
    ).SerializeToString()


def revoked(answer: Revoked) -> bytes:
    head = answer.message.header
    told = "".join(
        f"{name}:{value} "
        for name in ("cluster_id", "member_id", "revision", "raft_term")
        if (value := getattr(head, name))
    )
    raise Exit(BAD_FEATURE, f"marshal unsupported for type clientv3.LeaseRevokeResponse ({{{told} {{}} [] 0}})")


SHOW: dict[type, Callable[[Any], bytes | None]] = {
    Done: lambda answer: answer.message.SerializeToString(),
    Role: lambda answer: answer.message.SerializeToString(),
    User: lambda answer: answer.message.SerializeToString(),
    Revoked: revoked,
    Watched: watched,
    TimeToLive: lambda answer: answer.message.header.SerializeToString(),
    rpc.LeaseGrantResponse: lambda answer: answer.header.SerializeToString(),
    rpc.LeaseKeepAliveResponse: lambda answer: answer.header.SerializeToString(),
    rpc.LeaseLeasesResponse: lambda answer: answer.header.SerializeToString(),
}
