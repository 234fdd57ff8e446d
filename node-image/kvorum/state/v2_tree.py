"""The v2 tree: the v2 store as snapshots carry it between members, in etcd's JSON.

A member that starts from a snapshot takes the members from here, and not from the tables beside it (peer-protocol.md,
5c). What a snapshot may lack, as those that were made by etcd 3.6 or by a backup do, is taken for empty: the history,
the counts, the index, all that users wrote.
"""

import json
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from kvorum.state import go_json, go_time, v2_event
from kvorum.state.membership import VERSION, Member, hex_id
from kvorum.state.v2_event import HISTORY_EVENTS_MAX, Event
from kvorum.state.v2_store import COUNTED, Node, SavedNode, V2Store

FOR_EVER = "0001-01-01T00:00:00Z"  # Go's zero time, for what does not expire


class BadV2Tree(ValueError):
    """The bytes are no v2 tree, or its members cannot be. Every etcd member panics on such a snapshot."""


class V2Tree(NamedTuple):
    """What of it concerns the cluster. members: by ascending id. removed: the ids that may never come back.

    cluster_version: None until decided.
    """

    members: list[Member]
    removed: frozenset[int]
    cluster_version: str | None


# -- writing -----------------------------------------------------------------------------------------------------------


def encode_v2_tree(store: V2Store) -> bytes:
    """All of it, as etcd 3.4 to 3.6 read it."""
    events = [v2_event.to_json(event, with_refresh=True) for event in store.history]
    size, nulls = len(events), ["null"] * (HISTORY_EVENTS_MAX - len(events))
    queue = (
        f'{{"Events":[{",".join(events + nulls)}],"Size":{size},"Front":0,"Back":{size % HISTORY_EVENTS_MAX},'
        f'"Capacity":{HISTORY_EVENTS_MAX}}}'
    )
    history = store.history
    hub = f'{{"EventHistory":{{"Queue":{queue},"StartIndex":{history.start_index},"LastIndex":{history.last_index}}}}}'
    counts = go_json.dumps({**store.counts, "watchers": 0}).decode()
    root = "".join(_encode_nodes(store.root))
    return (
        f'{{"Root":{root},"WatcherHub":{hub},"CurrentIndex":{store.index},"Stats":{counts},"CurrentVersion":2}}'
    ).encode()


def encode_members(store: V2Store) -> bytes:
    """The cluster's part alone: for a member's own snapshot, whose keys lie in its tables."""
    assert store.root.children is not None
    cluster = "".join(_encode_nodes(store.root.children["0"]))
    head = f'{_encode_head(store.root)},"Children":{{"0":{cluster}}}}}'
    return f'{{"Root":{head},"CurrentIndex":{store.index},"CurrentVersion":2}}'.encode()


def _encode_nodes(top: Node) -> Iterator[str]:
    """A node with all below it, names in order as Go sorts them."""
    stack: list[Node | str] = [top]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            yield node
            continue
        yield _encode_head(node)
        if node.children is None:
            yield ',"Children":null}'  # null, and not {}, is what makes it a file
            continue
        yield ',"Children":{'
        stack.append("}}")
        comma = ""
        for name in sorted(node.children, reverse=True):
            stack += (comma, node.children[name], go_json.quote(name) + ":")
            comma = ","


def _encode_head(node: Node) -> str:
    expires = FOR_EVER if node.expires_ns is None else go_time.format_ns(node.expires_ns)
    return (
        f'{{"Path":{go_json.quote(node.path)},"CreatedIndex":{node.created},"ModifiedIndex":{node.modified},'
        f'"ExpireTime":"{expires}","Value":{go_json.quote(node.value)}'
    )


# -- reading -----------------------------------------------------------------------------------------------------------


def restore_v2_store(store: V2Store, data: bytes) -> V2Tree:
    """Puts a snapshot's tree in the place of all that is in store. Raises BadV2Tree; the store is then as it was."""
    document = _parse(data)
    tree = _decode_cluster(document)
    counts = _object(document.get("Stats") or {}, "Stats")
    try:
        index = _integer(document.get("CurrentIndex", 0))
        events = list(_decode_history(document))
        nodes = list(_decode_nodes(document))
        counted = [_integer(counts.get(name, 0)) for name in COUNTED]
    except (ValueError, TypeError) as error:
        raise BadV2Tree(str(error)) from error
    store.replace(index, counted, events, nodes)
    return tree


def decode_v2_tree(data: bytes) -> V2Tree:
    """The cluster's part of a tree. Raises BadV2Tree."""
    return _decode_cluster(_parse(data))


def _parse(data: bytes) -> dict[str, object]:
    try:
        return _object(json.loads(data), "the tree")
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, BadV2Tree) else BadV2Tree(f"not JSON: {error}") from error


def _decode_history(document: dict[str, object]) -> Iterator[Event]:
    """The events of the ring, the oldest first. Those before a gap in their indexes are of no use."""
    hub = _object(document.get("WatcherHub") or {}, "WatcherHub")
    queue = _object(_object(hub.get("EventHistory") or {}, "EventHistory").get("Queue") or {}, "Queue")
    slots = queue.get("Events") or []
    if not isinstance(slots, list):
        raise BadV2Tree("Events is not a list")
    front, size = _integer(queue.get("Front", 0)), _integer(queue.get("Size", 0))
    if not 0 <= size <= len(slots):
        raise BadV2Tree(f"a history of {size} events has {len(slots)} places")
    events = [v2_event.from_json(slots[(front + at) % len(slots)]) for at in range(size)]
    whole_from = 0
    for at in range(1, size):
        if events[at].at_index != events[at - 1].at_index + 1:
            whole_from = at
    yield from events[whole_from:]


def _decode_nodes(document: dict[str, object]) -> Iterator[SavedNode]:
    """Of all nodes but the root, parents first."""
    todo: list[tuple[str, dict[str, object]]] = [("", _object(document["Root"], "Root"))]
    while todo:
        above, node = todo.pop()
        for name, child in _children(node):
            path = f"{above}/{name}"
            if not name or "/" in name or name in (".", ".."):
                raise BadV2Tree(f"{path!r} is no path")
            is_dir = child.get("Children") is not None
            expires = child.get("ExpireTime", FOR_EVER)
            if not isinstance(expires, str):
                raise BadV2Tree(f"ExpireTime of {path} is no text")
            yield SavedNode(
                path,
                None if is_dir else _value({"Value": "", **child}, path),
                _integer(child.get("CreatedIndex", 0)),
                _integer(child.get("ModifiedIndex", 0)),
                None if expires == FOR_EVER else go_time.parse_ns(expires),
            )
            if is_dir:
                todo.append((path, child))


def _decode_cluster(document: dict[str, object]) -> V2Tree:
    cluster = _child(_object(document.get("Root"), "Root"), "0")
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


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 64:
        raise BadV2Tree(f"{value!r} is no index")
    return value


def _value(node: Mapping[str, object], what: str) -> str:
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
