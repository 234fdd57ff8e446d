"""What the v2 store tells of a change or a read: events, the nodes in them, and the last thousand as history.

An event is told as etcd's JSON, field for field; nodes below nodes are written without recursion, since a client
chooses how deep they lie.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from kvorum.state import go_json, go_time
from kvorum.state.v2_error import EVENT_INDEX_CLEARED, V2Error

HISTORY_EVENTS_MAX = 1000  # etcd's

GET, CREATE, SET, UPDATE, DELETE = "get", "create", "set", "update", "delete"
COMPARE_AND_SWAP, COMPARE_AND_DELETE, EXPIRE = "compareAndSwap", "compareAndDelete", "expire"


class NodeView(NamedTuple):
    """A node as it was at an event. value: None for a directory, and for what was deleted.

    ttl: seconds that were left then, rounded up; with expires_ns alone the two cannot be told apart later.
    """

    key: str
    value: str | None
    is_dir: bool
    modified: int
    created: int
    expires_ns: int | None = None
    ttl: int = 0
    nodes: Sequence["NodeView"] = ()


class Event(NamedTuple):
    """is_refresh: a new TTL alone, of which watchers are not told."""

    action: str
    node: NodeView
    prev: NodeView | None = None
    is_refresh: bool = False

    @property
    def at_index(self) -> int:
        return self.node.modified

    @property
    def is_created(self) -> bool:
        """Whether the answer is 201."""
        return self.action == CREATE or (self.action == SET and self.prev is None)


def to_json(event: Event, *, below: str = "", with_refresh: bool = False) -> str:
    """below: what is cut off from the keys, where they begin with it. with_refresh: as a snapshot has it."""
    return _to_json(event, go_json.quote, below=below, with_refresh=with_refresh)


def to_row(event: Event) -> bytes:
    """The same, and what is no UTF-8 in it can be read again as it was."""
    return _to_json(event, json.dumps, below="", with_refresh=True).encode()


def _to_json(event: Event, quote: Callable[[str], str], *, below: str, with_refresh: bool) -> str:
    parts = [f'{{"action":"{event.action}","node":']
    _render(parts, event.node, quote, below)
    if event.prev is not None:
        parts.append(',"prevNode":')
        _render(parts, event.prev, quote, below)
    parts.append(',"refresh":true}' if with_refresh and event.is_refresh else "}")
    return "".join(parts)


def _render(parts: list[str], root: NodeView, quote: Callable[[str], str], below: str) -> None:
    """Of each node the fields that are not empty; only `value` is told when it is."""
    stack: list[NodeView | str] = [root]
    while stack:
        view = stack.pop()
        if isinstance(view, str):
            parts.append(view)
            continue
        key = view.key.removeprefix(below)
        fields = []
        if key:
            fields.append(f'"key":{quote(key)}')
        if view.value is not None:
            fields.append(f'"value":{quote(view.value)}')
        if view.is_dir:
            fields.append('"dir":true')
        if view.expires_ns is not None:
            fields.append(f'"expiration":"{go_time.format_ns(view.expires_ns)}"')
        if view.ttl:
            fields.append(f'"ttl":{view.ttl}')
        if view.nodes:
            fields.append('"nodes":[')
            parts.append("{" + ",".join(fields))
            stack.append("]" + "".join("," + index for index in _indexes(view)) + "}")
            for child in reversed(view.nodes):
                stack += (child, ",")
            stack.pop()  # no comma before the first
        else:
            parts.append("{" + ",".join(fields + _indexes(view)) + "}")


def _indexes(view: NodeView) -> list[str]:
    fields = []
    if view.modified:
        fields.append(f'"modifiedIndex":{view.modified}')
    if view.created:
        fields.append(f'"createdIndex":{view.created}')
    return fields


def from_json(document: object) -> Event:
    """An event of a history. Raises ValueError or TypeError for what is none."""
    if not isinstance(document, dict):
        raise TypeError(f"an event is an object, not {document!r}")
    prev = document.get("prevNode")
    return Event(
        _text(document.get("action")),
        _view(document.get("node")),
        None if prev is None else _view(prev),
        bool(document.get("refresh", False)),
    )


def _view(document: object) -> NodeView:
    if not isinstance(document, dict):
        raise TypeError(f"a node is an object, not {document!r}")
    value, expiration = document.get("value"), document.get("expiration")
    return NodeView(
        _text(document.get("key", "")),
        None if value is None else _text(value),
        bool(document.get("dir", False)),
        _number(document.get("modifiedIndex", 0)),
        _number(document.get("createdIndex", 0)),
        None if expiration is None else go_time.parse_ns(_text(expiration)),
        _number(document.get("ttl", 0)),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no integer")
    return value


class History:
    """The last events, in the order of their indexes, which follow each other without a gap."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._events: deque[Event] = deque(events, HISTORY_EVENTS_MAX)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def __len__(self) -> int:
        return len(self._events)

    @property
    def start_index(self) -> int:
        """Of the oldest one; 0 without any."""
        return self._events[0].at_index if self._events else 0

    @property
    def last_index(self) -> int:
        return self._events[-1].at_index if self._events else 0

    def add(self, event: Event) -> Event | None:
        """Gives the one that it pushes out."""
        events = self._events
        gone = events[0] if len(events) == HISTORY_EVENTS_MAX else None
        events.append(event)
        return gone

    def scan(self, path: str, index: int, *, recursive: bool) -> Event | None:
        """The first event from index on that a watcher of path asks for. Raises V2Error if it may be forgotten."""
        start_index = self.start_index
        if index < start_index:
            why = f"the requested history has been cleared [{start_index}/{index}]"
            raise V2Error(EVENT_INDEX_CLEARED, why)
        if index > self.last_index:
            return None
        below = path if path.endswith("/") else path + "/"
        for event in islice(self._events, index - start_index, None):
            if event.is_refresh:
                continue
            key, prev = event.node.key, event.prev
            if key == path or (recursive and key.startswith(below)):
                return event
            if prev is not None and prev.is_dir and event.action in (DELETE, EXPIRE) and path.startswith(prev.key):
                return event  # also of /foobar when /foo went, as in etcd
        return None
