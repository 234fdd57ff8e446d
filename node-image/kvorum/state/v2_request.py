"""Bare v2 requests in the log, and what of them matters to a member that serves no v2 API.

etcd 3.5 publishes members and the cluster's version by two v2 writes. It finds them by trying the v3 form first and
catching the failure; here the first bytes decide (peer-protocol.md, 4.2), because a lenient decoder might take one for
the other. Other paths move nothing that the v3 state knows.
"""

import json
import re

from kvorum.etcdpb.internal_pb2 import V2Request
from kvorum.state import go_json
from kvorum.state.membership import Membership
from kvorum.state.row import read_varint

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


def apply_v2_request(request: V2Request, membership: Membership) -> None:
    """A plain PUT to a member's attributes or to the cluster's version; nothing else has an effect here."""
    is_plain_put = (
        request.Method == "PUT"
        and not request.HasField("PrevExist")
        and not request.PrevIndex
        and not request.PrevValue
    )
    if not is_plain_put:
        return
    if _MEMBER_PATH.search(request.Path):  # anywhere in the path, as etcd matches it
        name = request.Path.split("/")[-2]
        try:
            member, attributes = int(name, 16), json.loads(request.Val)
            known = (str(attributes.get("name", "")), [str(url) for url in attributes.get("clientURLs") or ()])
        except (ValueError, AttributeError, TypeError) as error:
            raise BadV2Request(f"v2 write of {request.Val!r} to {request.Path!r}: {error}") from error
        membership.publish(member, *known)
    elif request.Path == CLUSTER_VERSION_PATH:
        membership.set_cluster_version(request.Val)


def publish_request(member: int, name: str, client_urls: list[str], request_id: int) -> bytes:
    """The entry by which a member publishes itself, readable by every 3.x."""
    document: dict[str, object] = {"name": name} if name else {}
    if client_urls:
        document["clientURLs"] = client_urls
    value = go_json.dumps(document).decode()
    return put_request(f"/0/members/{member:x}/attributes", value, request_id)


def put_request(path: str, value: str, request_id: int) -> bytes:
    """A plain v2 PUT as etcd writes it: every field but PrevExist and Refresh, zero or not."""
    return V2Request(
        ID=request_id,
        Method="PUT",
        Path=path,
        Val=value,
        Dir=False,
        PrevValue="",
        PrevIndex=0,
        Expiration=0,
        Wait=False,
        Since=0,
        Recursive=False,
        Sorted=False,
        Quorum=False,
        Time=0,
        Stream=False,
    ).SerializeToString()
