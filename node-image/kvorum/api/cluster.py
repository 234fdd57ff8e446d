"""etcdserverpb.Cluster: the member list and its changes. Answers carry no revision, as etcd's do not."""

import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from google.protobuf.message import Message

from kvorum.api.permission import refuses
from kvorum.api.request import fail, read
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.net.call import Call
from kvorum.server import reconfiguration
from kvorum.server.answer import Answer
from kvorum.server.server import Server
from kvorum.state import refusal
from kvorum.state.auth_checks import Check
from kvorum.state.membership import Member
from kvorum.state.refusal import Refusal


def message(member: Member) -> rpc.Member:
    return rpc.Member(
        ID=member.id,
        name=member.name,
        peerURLs=member.peer_urls,
        clientURLs=member.client_urls,
        isLearner=member.is_learner,
    )


def members(server: Server) -> list[rpc.Member]:
    """In the order of their ids."""
    return [message(member) for member in server.machine.membership.members]


def _require(server: Server, member_id: int) -> Member:
    member = server.machine.membership.find(member_id)
    assert member is not None, f"{member_id:x} was added and is not there"
    return member


def reply(server: Server, call: Answer, response: Message) -> None:
    call.reply(server.header.encode(0) + response.SerializeToString())


def valid_urls(urls: Iterable[str]) -> bool:
    """http or https, a host and a port, nothing more; at least one. In ASCII, as members dial them."""
    seen = False
    for url in urls:
        seen = True
        try:
            parts = urlsplit(url)
            valid = parts.scheme in ("http", "https") and parts.hostname and parts.port and not parts.path
            valid = valid and url.isascii() and url.isprintable() and " " not in url
        except ValueError:
            valid = False
        if not valid:
            return False
    return seen


def _read_admins(server: Server, call: Call, kind: Any) -> Any:
    """Of a request that only root may make."""
    request = read(call, kind, call.body)
    refused = refuses(server, call, Check.admin) if request is not None else None
    if refused is None:
        return request
    fail(call, refused)
    return None


def member_list(server: Server, call: Call) -> None:
    request = read(call, rpc.MemberListRequest, call.body)
    if request is None:
        return
    refused = refuses(server, call, Check.named)
    if refused is not None:
        fail(call, refused)
    elif request.linearizable:
        server.read(_answer_list, call)
    else:
        _answer_list(server, call)


def _answer_list(server: Server, call: Answer) -> None:
    reply(server, call, rpc.MemberListResponse(members=members(server)))


def member_add(server: Server, call: Call) -> None:
    request = read(call, rpc.MemberAddRequest, call.body)
    if request is None:
        return
    if not valid_urls(request.peerURLs):
        fail(call, refusal.MEMBER_BAD_URLS)
        return
    refused = refuses(server, call, Check.admin)
    if refused is not None:
        fail(call, refused)
        return

    def done(member_id: int, refused: Refusal | None) -> None:
        if refused is not None:
            fail(call, refused)
            return
        added = message(_require(server, member_id))
        reply(server, call, rpc.MemberAddResponse(member=added, members=members(server)))

    urls = sorted(request.peerURLs)
    reconfiguration.add(server, urls, learner=request.isLearner, unix_s=int(time.time()), done=done)


def _answer_with_members(
    server: Server, call: Call, response: Callable[..., Message]
) -> Callable[[Refusal | None], None]:
    def done(refused: Refusal | None) -> None:
        if refused is not None:
            fail(call, refused)
        else:
            reply(server, call, response(members=members(server)))

    return done


def member_remove(server: Server, call: Call) -> None:
    request = _read_admins(server, call, rpc.MemberRemoveRequest)
    if request is not None:
        reconfiguration.remove(server, request.ID, _answer_with_members(server, call, rpc.MemberRemoveResponse))


def member_update(server: Server, call: Call) -> None:
    request = _read_admins(server, call, rpc.MemberUpdateRequest)
    if request is None:
        return
    if not valid_urls(request.peerURLs):
        fail(call, refusal.MEMBER_BAD_URLS)
    else:
        done = _answer_with_members(server, call, rpc.MemberUpdateResponse)
        reconfiguration.update(server, request.ID, sorted(request.peerURLs), done)


def member_promote(server: Server, call: Call) -> None:
    request = _read_admins(server, call, rpc.MemberPromoteRequest)
    if request is not None:
        done = _answer_with_members(server, call, rpc.MemberPromoteResponse)
        server.tasks.spawn(reconfiguration.promote(server, request.ID, done), call)
