"""The v2 tree: the membership as snapshots carry it between members, the tree of etcd's old store as JSON.

A member that starts from a snapshot takes the members from here, and not from the tables beside it (peer-protocol.md,
5c). Knows the four kinds of node that matter; indexes, watchers and statistics of the old store are neither written nor
read: they differ between members, and every 3.x starts without them.
"""

import json
from collections.abc import Iterator
from typing import NamedTuple

from kvorum.state import go_json
from kvorum.state.membership import VERSION, Member, Membership, hex_id


class BadV2Tree(ValueError):
    """The bytes are no v2 tree, or its members cannot be. Every etcd member panics on such a snapshot."""


class V2Tree(NamedTuple):
    """members: by ascending id. removed: the ids that may never come back. cluster_version: None until decided."""

    members: list[Member]
    removed: frozenset[int]
    cluster_version: str | None


def encode_v2_tree(membership: Membership) -> bytes:
    """The tree as etcd reads it, 3.4 to 3.6."""
    cluster: dict[str, object] = {
        "members": _directory(
            "/0/members",
            {hex_id(member.id): _member(f"/0/members/{hex_id(member.id)}", member) for member in membership.members},
        )
    }
    if membership.removed:
        path = "/0/removed_members"
        ids = [hex_id(removed) for removed in sorted(membership.removed)]
        cluster["removed_members"] = _directory(path, {name: _leaf(f"{path}/{name}", "") for name in ids})
    if membership.cluster_version is not None:
        cluster["version"] = _leaf("/0/version", membership.cluster_version)
    root = _directory("/", {"0": _directory("/0", cluster), "1": _directory("/1", {})})
    return go_json.dumps({"Root": root, "CurrentVersion": 2})


def _member(path: str, member: Member) -> dict[str, object]:
    raft_attributes: dict[str, object] = {"peerURLs": list(member.peer_urls) or None}
    if member.is_learner:
        raft_attributes["isLearner"] = True
    attributes: dict[str, object] = {}
    if member.name:
        attributes["name"] = member.name
    if member.client_urls:
        attributes["clientURLs"] = list(member.client_urls)
    leaves = {"raftAttributes": raft_attributes}
    if attributes:
        leaves["attributes"] = attributes
    return _directory(
        path, {name: _leaf(f"{path}/{name}", go_json.dumps(leaves[name]).decode()) for name in sorted(leaves)}
    )


def _directory(path: str, children: dict[str, dict[str, object]] | dict[str, object]) -> dict[str, object]:
    return {"Path": path, "Value": "", "Children": children}


def _leaf(path: str, value: str) -> dict[str, object]:
    return {"Path": path, "Value": value, "Children": None}  # null, and not {}, is what makes it a leaf


def decode_v2_tree(data: bytes) -> V2Tree:
    """Raises BadV2Tree."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadV2Tree(f"not JSON: {error}") from error
    cluster = _child(_object(_object(document, "the tree").get("Root"), "Root"), "0")
    if cluster is None:
        raise BadV2Tree("no node /0")
    members = [_decode_member(name, node) for name, node in _children(_child(cluster, "members"))]
    removed = frozenset(_id(name) for name, _ in _children(_child(cluster, "removed_members")))
    both = [hex_id(member.id) for member in members if member.id in removed]
    if both:
        raise BadV2Tree(f"{', '.join(both)} both a member and removed for ever")
    version = _child(cluster, "version")
    ordered = sorted(members, key=lambda member: member.id)
    return V2Tree(ordered, removed, None if version is None else _version(_value(version, "version")))


def _decode_member(name: str, node: dict[str, object]) -> Member:
    """A member of its directory. Without attributes it has not started; without Raft attributes it cannot be."""
    document: dict[str, object] = {}
    for part in ("attributes", "raftAttributes"):
        leaf = _child(node, part)
        if leaf is None:
            if part == "raftAttributes":
                raise BadV2Tree(f"member {name} has no raftAttributes")
            continue
        try:
            document |= _object(json.loads(_value(leaf, f"{part} of member {name}")), f"{part} of member {name}")
        except ValueError as error:
            raise BadV2Tree(f"{part} of member {name}: {error}") from error
    try:
        member = Member.from_json(document | {"id": _id(name)})
        "".join((member.name, *member.peer_urls, *member.client_urls)).encode()
    except (TypeError, UnicodeEncodeError) as error:  # the second: half of a surrogate pair, which JSON can spell
        raise BadV2Tree(f"member {name}: {error}") from error
    return member


def _version(text: str) -> str:
    if not (text.isascii() and VERSION.fullmatch(text)):
        raise BadV2Tree(f"{text!r} is no version")
    return text


def _id(name: str) -> int:
    try:
        number = int(name, 16)
    except ValueError:
        number = 0
    if hex_id(number) != name.lower() or not 0 < number < 1 << 64:
        raise BadV2Tree(f"{name!r} is no member id")
    return number


def _object(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise BadV2Tree(f"{what} is not an object")
    return value


def _value(node: dict[str, object], what: str) -> str:
    value = node.get("Value")
    if not isinstance(value, str):
        raise BadV2Tree(f"{what} has no text")
    return value


def _children(node: dict[str, object] | None) -> Iterator[tuple[str, dict[str, object]]]:
    """Of a directory by name; of an absent one none."""
    if node is not None:
        for name, child in sorted(_object(node.get("Children"), "Children of a directory").items()):
            yield name, _object(child, f"node {name!r}")


def _child(node: dict[str, object], name: str) -> dict[str, object] | None:
    return dict(_children(node)).get(name)
