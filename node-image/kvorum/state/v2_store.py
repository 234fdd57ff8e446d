"""The v2 store: a tree of files and directories with one index for all changes, replicated beside the v3 store.

Its rules, the odd ones included, are those of etcd 3.5 (etcd.md, 1.14), so that indexes and answers are the same on a
member of either kind. The members and the cluster's version are files in it, below /0; what users write lies below /1.
Deterministic but for two things that are each member's own, as in etcd: what is counted, and the seconds that a TTL
still has, for which the owner lends a clock.

Each change writes its rows at once, so that the tree, its index and its history are durable together with the applied
index (docs/adr/0017). No recursion: clients choose how deep the tree is.
"""

import heapq
import json
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from kvorum.state import v2_event
from kvorum.state.store import V2, Store
from kvorum.state.v2_error import (
    DIRECTORY_NOT_EMPTY,
    KEY_NOT_FOUND,
    NODE_EXISTS,
    NOT_DIRECTORY,
    NOT_FILE,
    RAFT_INTERNAL,
    ROOT_READ_ONLY,
    TEST_FAILED,
    V2Error,
)
from kvorum.state.v2_event import Event, History, NodeView

CLUSTER_ROOT, KEYS_ROOT = "/0", "/1"
READ_ONLY = frozenset({"/", CLUSTER_ROOT, KEYS_ROOT})
EXPIRES_NS_MIN = 946_684_800_000_000_000  # the year 2000: what is to expire before never does, when it is created
SECOND_NS = 1_000_000_000
_INT64_MAX, _INT64_MIN = (1 << 63) - 1, -(1 << 63)

COUNTED = (  # in the order in which etcd tells them
    "getsSuccess", "getsFail", "setsSuccess", "setsFail", "deleteSuccess", "deleteFail", "updateSuccess", "updateFail",
    "createSuccess", "createFail", "compareAndSwapSuccess", "compareAndSwapFail", "compareAndDeleteSuccess",
    "compareAndDeleteFail", "expireCount",
)  # fmt: skip

_NODE, _EVENT, _INDEX = b"n", b"e", b"i"  # first byte of a row's key: a node's id, an event's index, nothing
_FIRST_ID = 3  # after the root, /0 and /1, which have no rows


class Node:
    """A file, or a directory where children is a dict. expires_ns: None for ever. parent: None once it is removed."""

    __slots__ = ("children", "created", "expires_ns", "id", "modified", "name", "parent", "path", "value")

    def __init__(self, id: int, parent: "Node | None", name: str, created: int, value: str | None) -> None:  # noqa: A002 - the row's own word
        self.id = id
        self.parent = parent
        self.name = name
        self.path: str = name if parent is None else f"{parent.path.rstrip('/')}/{name}"
        self.created = created
        self.modified = created
        self.expires_ns: int | None = None
        self.value = value or ""
        self.children: dict[str, Node] | None = {} if value is None else None

    @property
    def is_hidden(self) -> bool:
        return self.name.startswith("_")


class Change(NamedTuple):
    """An event of which watchers are to be told, and the paths that went with it, in the order of their going."""

    event: Event
    removed: tuple[str, ...]


class Applied(NamedTuple):
    """What came of a request: an event, a refusal, or neither. store_index: afterwards."""

    event: Event | None
    error: V2Error | None
    store_index: int


class V2Store:
    """clock_ns: since 1970. changes: since they were last taken."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.clock_ns: Callable[[], int] = lambda: 0
        self.changes: list[Change] = []
        self.reset()

    def reset(self) -> None:
        """An empty store, as a new cluster has it; without touching rows."""
        self.index = 0
        self.counts = dict.fromkeys(COUNTED, 0)
        self.history = History()
        self.root = Node(0, None, "/", 0, None)
        self._next_id = _FIRST_ID
        for number, path in enumerate((CLUSTER_ROOT, KEYS_ROOT), start=1):
            self._link(Node(number, self.root, path[1:], 0, None))
        # By time, then by path, on all members alike. May hold what expires later, or no more: the node decides.
        self._expiring: list[tuple[int, str, int, Node]] = []
        self._expiring_count = 0

    # -- reading -----------------------------------------------------------------------------------------------------

    def get(self, path: str, *, recursive: bool = False, is_sorted: bool = False) -> Event:
        """Raises V2Error."""
        try:
            node = self._find(path)
        except V2Error:
            self._count("gets", ok=False)
            raise
        self._count("gets", ok=True)
        return Event(v2_event.GET, self._view_below(node, path, recursive=recursive, is_sorted=is_sorted))

    @property
    def has_keys(self) -> bool:
        """Whether there is anything but what the cluster itself keeps here; hidden keys do not count, as in etcd."""
        assert self.root.children is not None
        tops = (top for name, top in self.root.children.items() if name != CLUSTER_ROOT[1:] and not top.is_hidden)
        return any(not node.is_hidden for top in tops for node in (top.children or {}).values())

    def scan(self, path: str, index: int, *, recursive: bool) -> Event | None:
        """What a watcher from index on missed already. Raises V2Error."""
        try:
            return self.history.scan(path, index, recursive=recursive)
        except V2Error as error:
            raise V2Error(error.code, error.cause, self.index) from None

    @property
    def next_expiry_ns(self) -> int | None:
        """When something expires, at the earliest."""
        while self._expiring:
            expires_ns, _, _, node = self._expiring[0]
            if node.parent is not None and node.expires_ns == expires_ns:
                return expires_ns
            heapq.heappop(self._expiring)
        return None

    # -- changes -----------------------------------------------------------------------------------------------------
    # Each gives its event, or raises V2Error; what is refused changes nothing.

    def set(
        self, path: str, value: str, *, is_dir: bool = False, expires_ns: int | None = None, refresh: bool = False
    ) -> Event:
        """Creates or replaces. refresh: keeps the value, and watchers are not told."""
        with _Counting(self, "sets"):
            node = None
            try:
                node = self._find(path)
            except V2Error as error:
                if error.code != KEY_NOT_FOUND or refresh:
                    raise
            if refresh:
                assert node is not None
                value = node.value
            prev = None if node is None else self._view_at(node, path)
            view = self._create(path, value, is_dir=is_dir, expires_ns=expires_ns, replace=True)
            return self._tell(Event(v2_event.SET, view, prev, refresh))

    def create(
        self, path: str, value: str, *, is_dir: bool = False, expires_ns: int | None = None, unique: bool = False
    ) -> Event:
        """unique: below path, with a name that sorts behind all that were made so."""
        with _Counting(self, "create"):
            if unique:
                path = f"{path}/{self.index + 1:020}"
            view = self._create(path, value, is_dir=is_dir, expires_ns=expires_ns, replace=False)
            return self._tell(Event(v2_event.CREATE, view))

    def update(self, path: str, value: str, *, expires_ns: int | None = None, refresh: bool = False) -> Event:
        """Of what exists the value and the TTL. Of a directory neither can be changed: etcd 3.5 only says it can."""
        with _Counting(self, "update", (ROOT_READ_ONLY, NOT_FILE, RAFT_INTERNAL)):
            path = self._require_writable(path)
            node = self._find(path)
            if node.children is not None:
                if value:
                    raise V2Error(NOT_FILE, path, self.index)
                raise V2Error(RAFT_INTERNAL, f"nodePath {path} : Not a file ()")
            prev = self._view(node)
            view = self._rewrite(node, path, node.value if refresh else value, expires_ns)
            return self._tell(Event(v2_event.UPDATE, view, prev, refresh))

    def compare_and_swap(
        self,
        path: str,
        prev_value: str,
        prev_index: int,
        value: str,
        *,
        expires_ns: int | None = None,
        refresh: bool = False,
    ) -> Event:
        """prev_value `` and prev_index 0 compare nothing."""
        with _Counting(self, "compareAndSwap", (ROOT_READ_ONLY,)):
            path = self._require_writable(path)
            node = self._require_match(path, prev_value, prev_index)
            prev = self._view(node)
            view = self._rewrite(node, path, node.value if refresh else value, expires_ns)
            return self._tell(Event(v2_event.COMPARE_AND_SWAP, view, prev, refresh))

    def delete(self, path: str, *, is_dir: bool = False, recursive: bool = False) -> Event:
        """is_dir: also a directory that is empty; recursive: any."""
        with _Counting(self, "delete", (ROOT_READ_ONLY,)):
            path = self._require_writable(path)
            node = self._find(path)
            if node.children is not None:
                if not (is_dir or recursive):
                    raise V2Error(NOT_FILE, node.path, self.index)
                if node.children and not recursive:
                    raise V2Error(DIRECTORY_NOT_EMPTY, node.path, self.index)
            return self._remove(v2_event.DELETE, node, path)

    def compare_and_delete(self, path: str, prev_value: str, prev_index: int) -> Event:
        with _Counting(self, "compareAndDelete", (NOT_FILE, TEST_FAILED)):
            path = clean(path)
            return self._remove(v2_event.COMPARE_AND_DELETE, self._require_match(path, prev_value, prev_index), path)

    def expire(self, until_ns: int) -> None:
        """Removes what has expired by then: each is an event with an index."""
        while True:
            expires_ns = self.next_expiry_ns
            if expires_ns is None or expires_ns > until_ns:
                return
            _, _, _, node = heapq.heappop(self._expiring)
            self.counts["expireCount"] += 1
            self._remove(v2_event.EXPIRE, node, node.path)

    # -- the tree ----------------------------------------------------------------------------------------------------

    def _find(self, path: str) -> Node:
        """Raises V2Error."""
        node = self.root
        for name in clean(path).split("/")[1:]:
            if not name:
                break
            if node.children is None:
                raise V2Error(NOT_DIRECTORY, node.path, self.index)
            child = node.children.get(name)
            if child is None:
                raise V2Error(KEY_NOT_FOUND, f"{node.path.rstrip('/')}/{name}", self.index)
            node = child
        return node

    def _require_writable(self, path: str) -> str:
        path = clean(path)
        if path in READ_ONLY:
            raise V2Error(ROOT_READ_ONLY, "/", self.index)
        return path

    def _require_match(self, path: str, prev_value: str, prev_index: int) -> Node:
        node = self._find(path)
        if node.children is not None:
            raise V2Error(NOT_FILE, path, self.index)
        differences = []
        if prev_value not in ("", node.value):
            differences.append(f"[{prev_value} != {node.value}]")
        if prev_index not in (0, node.modified):
            differences.append(f"[{prev_index} != {node.modified}]")
        if differences:
            raise V2Error(TEST_FAILED, " ".join(differences), self.index)
        return node

    def _create(self, path: str, value: str, *, is_dir: bool, expires_ns: int | None, replace: bool) -> NodeView:
        """The new node, and the directories above it that are not there yet."""
        path = self._require_writable(path)
        index = self.index + 1
        *above, name = path.split("/")[1:]
        directory, missing = self._walk(above)
        existing = None if missing else directory.children.get(name)  # type: ignore[union-attr]  # _walk ends in a directory
        if existing is not None:
            if not replace:
                raise V2Error(NODE_EXISTS, path, self.index)
            if existing.children is not None:
                raise V2Error(NOT_FILE, path, self.index)
            self._unlink(existing)
        for step in missing:
            directory = self._add(directory, step, None, index)
        node = self._add(directory, name, None if is_dir else value, index, expires_ns)
        return NodeView(path, None if is_dir else value, is_dir, index, index, *self._left(node))

    def _walk(self, names: list[str]) -> tuple[Node, list[str]]:
        """The last directory that exists, and the names that are missing below it."""
        node = self.root
        for at, name in enumerate(names):
            assert node.children is not None
            child = node.children.get(name)
            if child is None:
                return node, names[at:]
            if child.children is None:
                self.counts["setsFail"] += 1  # whatever the request was, as etcd counts it
                raise V2Error(NOT_DIRECTORY, child.path, self.index)
            node = child
        return node, []

    def _add(self, parent: Node, name: str, value: str | None, index: int, expires_ns: int | None = None) -> Node:
        node = Node(self._next_id, parent, name, index, value)
        self._next_id += 1
        if expires_ns is not None and expires_ns >= EXPIRES_NS_MIN:
            self._expire_at(node, expires_ns)
        self._link(node)
        self._save(node)
        return node

    def _link(self, node: Node) -> None:
        assert node.parent is not None
        assert node.parent.children is not None
        node.parent.children[node.name] = node

    def _rewrite(self, node: Node, path: str, value: str, expires_ns: int | None) -> NodeView:
        node.value = value
        node.modified = self.index + 1
        self._expire_at(node, expires_ns)
        self._save(node)
        return NodeView(path, value, False, node.modified, node.created, *self._left(node))

    def _remove(self, action: str, node: Node, path: str) -> Event:
        prev = self._view(node)
        is_dir = node.children is not None
        removed = tuple(gone.path for gone in self._unlink(node))
        return self._tell(Event(action, NodeView(path, None, is_dir, self.index + 1, node.created), prev), removed)

    def _unlink(self, node: Node) -> list[Node]:
        """Removes a node with all below it; gives them, children before their parents."""
        assert node.parent is not None
        assert node.parent.children is not None
        del node.parent.children[node.name]
        gone, stack = [], [node]
        while stack:
            last = stack.pop()
            gone.append(last)
            if last.children is not None:
                stack += last.children.values()
        gone.reverse()
        for last in gone:
            if last.expires_ns is not None:
                self._expiring_count -= 1
            last.parent = None
            self._store.delete(V2, _NODE + last.id.to_bytes(8, "big"))
        return gone

    def _expire_at(self, node: Node, expires_ns: int | None) -> None:
        self._expiring_count += (expires_ns is not None) - (node.expires_ns is not None)
        node.expires_ns = expires_ns
        if expires_ns is None:
            return
        heapq.heappush(self._expiring, (expires_ns, node.path, node.id, node))
        if (
            len(self._expiring) > 2 * self._expiring_count + 1000
        ):  # a key that is kept alive leaves one behind each time
            self._expiring = [entry for entry in self._expiring if entry[3].parent and entry[3].expires_ns == entry[0]]
            heapq.heapify(self._expiring)

    def _tell(self, event: Event, removed: tuple[str, ...] = ()) -> Event:
        """The change is made: it takes the next index, and a place in the history."""
        self.index += 1
        assert event.at_index == self.index, (event, self.index)
        pushed_out = self.history.add(event)
        if pushed_out is not None:
            self._store.delete(V2, _EVENT + pushed_out.at_index.to_bytes(8, "big"))
        self._store.put(V2, _EVENT + self.index.to_bytes(8, "big"), v2_event.to_row(event))
        if not event.is_refresh:
            self.changes.append(Change(event, removed))
        return event

    def take_changes(self) -> list[Change]:
        changes, self.changes = self.changes, []
        return changes

    # -- views -------------------------------------------------------------------------------------------------------

    def _view(self, node: Node) -> NodeView:
        return self._view_at(node, node.path)

    def _view_at(self, node: Node, path: str) -> NodeView:
        is_dir = node.children is not None
        value = None if is_dir else node.value
        return NodeView(path, value, is_dir, node.modified, node.created, *self._left(node))

    def _view_below(self, node: Node, path: str, *, recursive: bool, is_sorted: bool) -> NodeView:
        """A directory with what is in it, hidden nodes left out; recursive: with all that is below."""
        if node.children is None:
            return self._view_at(node, path)
        nodes: list[NodeView] = []
        top = self._view_at(node, path)._replace(nodes=nodes)
        todo = [(node.children, nodes)]
        while todo:
            children, views = todo.pop()
            visible: Iterable[Node] = (child for child in children.values() if not child.is_hidden)
            for child in sorted(visible, key=_path_of) if is_sorted else visible:
                view = self._view(child)
                if recursive and child.children:
                    below: list[NodeView] = []
                    view = view._replace(nodes=below)
                    todo.append((child.children, below))
                views.append(view)
        return top

    def _left(self, node: Node) -> tuple[int | None, int]:
        """When a node expires, and the seconds until then: rounded up, and truncated once it is over."""
        if node.expires_ns is None:
            return None, 0
        left_ns = max(_INT64_MIN, min(_INT64_MAX, node.expires_ns - self.clock_ns()))
        return node.expires_ns, -(-left_ns // SECOND_NS)

    def _count(self, what: str, *, ok: bool) -> None:
        self.counts[what + ("Success" if ok else "Fail")] += 1

    # -- rows and snapshots ------------------------------------------------------------------------------------------

    def _save(self, node: Node) -> None:
        assert node.parent is not None
        value = node.value if node.children is None else None
        row = [node.parent.id, node.name, node.created, node.modified, node.expires_ns, value]
        self._store.put(V2, _NODE + node.id.to_bytes(8, "big"), json.dumps(row, separators=(",", ":")).encode())

    def checkpoint(self) -> None:
        """Index and counts; with each commit."""
        row = json.dumps([self.index, list(self.counts.values())], separators=(",", ":")).encode()
        if row != self._store.get(V2, _INDEX):
            self._store.put(V2, _INDEX, row)

    def load(self) -> bool:
        """From the rows; False if there are none, as in tables of before they were kept."""
        self.reset()
        row = self._store.get(V2, _INDEX)
        if row is None:
            return False
        self.index, counts = json.loads(row)
        self.counts = dict(zip(COUNTED, counts, strict=True))
        self.history = History(v2_event.from_json(json.loads(row)) for _, row in self._rows(_EVENT))
        nodes = {0: self.root, 1: self.root.children["0"], 2: self.root.children["1"]}  # type: ignore[index]  # directories
        for key, row in self._rows(_NODE):  # by id: parents were there before their children
            parent, name, created, modified, expires_ns, value = json.loads(row)
            node = Node(int.from_bytes(key[1:], "big"), nodes[parent], name, created, value)
            node.modified = modified
            nodes[node.id] = node
            self._link(node)
            self._expire_at(node, expires_ns)
            self._next_id = node.id + 1
        return True

    def _rows(self, kind: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self._store.scan(V2, kind, bytes([kind[0] + 1]))

    def replace(self, index: int, counts: Iterable[int], events: Iterable[Event], nodes: Iterable["SavedNode"]) -> None:
        """In place of all that is there: what a snapshot has. nodes: parents first, the root left out."""
        for key, _ in list(self._store.scan(V2)):
            self._store.delete(V2, key)
        self.reset()
        self.index = index
        self.counts = dict(zip(COUNTED, counts, strict=True))
        self.history = History(events)
        for event in self.history:
            self._store.put(V2, _EVENT + event.at_index.to_bytes(8, "big"), v2_event.to_row(event))
        for saved in nodes:
            if saved.path in READ_ONLY:
                continue
            *above, name = saved.path.split("/")[1:]
            parent, missing = self._walk(above)
            assert not missing, saved.path
            node = self._add(parent, name, saved.value, saved.created)
            node.modified = saved.modified
            self._expire_at(node, saved.expires_ns)
            self._save(node)
        self.checkpoint()


class SavedNode(NamedTuple):
    """value: None for a directory."""

    path: str
    value: str | None
    created: int
    modified: int
    expires_ns: int | None


class _Counting:
    """Counts what became of a change. as_success: errors that etcd, by an oversight, counts so."""

    def __init__(self, store: V2Store, what: str, as_success: tuple[int, ...] = ()) -> None:
        self._store = store
        self._what = what
        self._as_success = as_success

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        failed = isinstance(error, V2Error) and error.code not in self._as_success
        self._store._count(self._what, ok=not failed)


def _path_of(node: Node) -> str:
    return node.path


def clean(path: str) -> str:
    """A path from the root without `.`, `..`, empty names and a slash at its end."""
    names: list[str] = []
    for name in path.split("/"):
        if name == "..":
            if names:
                names.pop()
        elif name and name != ".":
            names.append(name)
    return "/" + "/".join(names)
