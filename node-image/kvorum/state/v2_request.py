"""Bare v2 requests in the log: told apart from v3 ones, written, and applied to the v2 store.

etcd 3.5 publishes members and the cluster's version by two v2 writes. It finds them by trying the v3 form first and
catching the failure; here the first bytes decide (peer-protocol.md, 4.2), because a lenient decoder might take one for
the other. A member that serves no v2 API applies them all the same, as in etcd.

Paths and values are whatever bytes a client sent; here they are text in which bytes that are no UTF-8 are lone
surrogates (surrogateescape).
"""

import json
import re

from kvorum.etcdpb.internal_pb2 import V2Request
from kvorum.state import go_json
from kvorum.state.membership import Membership
from kvorum.state.row import read_varint
from kvorum.state.v2_error import V2Error
from kvorum.state.v2_event import Event
from kvorum.state.v2_store import Applied, V2Store

METHODS = (b"PUT", b"POST", b"DELETE", b"QGET", b"SYNC")
CLUSTER_VERSION_PATH = "/0/version"
_MEMBER_PATH = re.compile(r"/0/members/[0-9A-Fa-f]{1,16}/attributes")
_HEAD_BYTES_MAX = 11  # tag 08 and the longest varint


class BadV2Request(Exception):
    """A v2 request that no member can apply. Every etcd member panics on such an entry."""


def is_v2_request(data: bytes) -> bool:
    """Whether an entry is a bare v2 Request: field 1 (ID), then field 2 with the name of a method."""
    if data[:1] != b"\x08":
        return False
    try:
        _, offset = read_varint(data[: _HEAD_BYTES_MAX + 1], 1)
    except IndexError:
        return False
    if data[offset : offset + 1] != b"\x12":
        return False
    size = data[offset + 1] if offset + 1 < len(data) else 0
    return data[offset + 2 : offset + 2 + size] in METHODS


def names_members(path: str) -> bool:
    """Whether a plain PUT of a path changes the member list, wherever in the path that stands: as etcd matches it."""
    return _MEMBER_PATH.search(path) is not None


# -- applying ----------------------------------------------------------------------------------------------------------


def apply_v2_request(request: V2Request, store: V2Store, membership: Membership) -> Applied:
    """What its client is to be told. Raises BadV2Request, UnknownMember, BadVersion where no member can go on."""
    try:
        event = _apply(request, store, membership)
    except V2Error as error:
        return Applied(None, error, store.index)
    return Applied(event, None, store.index)


def _apply(request: V2Request, store: V2Store, membership: Membership) -> Event | None:
    path, method = _text(request.Path), request.Method
    if method == "PUT":
        return _put(request, path, store, membership)
    if method == "POST":
        expires_ns = request.Expiration or None
        return store.create(path, _text(request.Val), is_dir=request.Dir, expires_ns=expires_ns, unique=True)
    if method == "DELETE":
        if request.PrevIndex or request.PrevValue:
            return store.compare_and_delete(path, _text(request.PrevValue), request.PrevIndex)
        return store.delete(path, is_dir=request.Dir, recursive=request.Recursive)
    if method == "QGET":
        return store.get(path, recursive=request.Recursive, is_sorted=request.Sorted)
    if method == "SYNC":
        store.expire(request.Time)
    return None


def _put(request: V2Request, path: str, store: V2Store, membership: Membership) -> Event | None:
    value, prev_value, expires_ns = _text(request.Val), _text(request.PrevValue), request.Expiration or None
    if request.HasField("PrevExist"):
        if not request.PrevExist:
            return store.create(path, value, is_dir=request.Dir, expires_ns=expires_ns)
        if not (prev_value or request.PrevIndex):
            return store.update(path, value, expires_ns=expires_ns, refresh=request.Refresh)
    if prev_value or request.PrevIndex:
        index, refresh = request.PrevIndex, request.Refresh
        return store.compare_and_swap(path, prev_value, index, value, expires_ns=expires_ns, refresh=refresh)
    if names_members(path):
        _publish(path, value, membership)
        return None
    if path == CLUSTER_VERSION_PATH:
        membership.set_cluster_version(value)
        return None
    return store.set(path, value, is_dir=request.Dir, expires_ns=expires_ns, refresh=request.Refresh)


def _publish(path: str, value: str, membership: Membership) -> None:
    name = path.split("/")[-2]
    try:
        member, attributes = int(name, 16), json.loads(value)
        known = (str(attributes.get("name", "")), [str(url) for url in attributes.get("clientURLs") or ()])
    except (ValueError, AttributeError, TypeError) as error:
        raise BadV2Request(f"v2 write of {value!r} to {path!r}: {error}") from error
    membership.publish(member, *known)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


# -- writing -----------------------------------------------------------------------------------------------------------


def publish_request(member: int, name: str, client_urls: list[str], request_id: int) -> bytes:
    """The entry by which a member publishes itself, readable by every 3.x."""
    document: dict[str, object] = {"name": name} if name else {}
    if client_urls:
        document["clientURLs"] = client_urls
    value = go_json.dumps(document).decode()
    return put_request(f"/0/members/{member:x}/attributes", value, request_id)


def put_request(path: str, value: str, request_id: int) -> bytes:
    """A plain PUT."""
    return encode(V2Request(ID=request_id, Method="PUT", Path=path.encode(), Val=value.encode()))


def sync_request(now_ns: int, request_id: int) -> bytes:
    """What expires by now_ns is removed, by every member alike."""
    return encode(V2Request(ID=request_id, Method="SYNC", Time=now_ns))


def encode(request: V2Request) -> bytes:
    """As etcd writes it: every field but PrevExist and Refresh, zero or not."""
    whole = V2Request(
        ID=0,
        Method="",
        Path=b"",
        Val=b"",
        Dir=False,
        PrevValue=b"",
        PrevIndex=0,
        Expiration=0,
        Wait=False,
        Since=0,
        Recursive=False,
        Sorted=False,
        Quorum=False,
        Time=0,
        Stream=False,
    )
    whole.MergeFrom(request)
    return whole.SerializeToString()
