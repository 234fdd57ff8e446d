"""The v2 store: a model of its rules, what survives a restart, and the odd corners that etcd has and clients see.

That the rules are etcd's is tests/compat/test_v2.py's to show.
"""

import json
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from kvorum.state import v2_event
from kvorum.state.dict_store import DictStore
from kvorum.state.store import V2
from kvorum.state.v2_error import (
    DIRECTORY_NOT_EMPTY,
    EVENT_INDEX_CLEARED,
    KEY_NOT_FOUND,
    NODE_EXISTS,
    NOT_DIRECTORY,
    NOT_FILE,
    RAFT_INTERNAL,
    ROOT_READ_ONLY,
    TEST_FAILED,
    V2Error,
)
from kvorum.state.v2_event import HISTORY_EVENTS_MAX, Event
from kvorum.state.v2_store import V2Store, clean
from kvorum.state.v2_tree import decode_v2_tree, encode_v2_tree, restore_v2_store

SECOND_NS = 1_000_000_000
NOW_NS = 1_700_000_000 * SECOND_NS


@pytest.fixture
def store() -> V2Store:
    return new_store()


def new_store(tables: DictStore | None = None) -> V2Store:
    store = V2Store(tables or DictStore())
    store.clock_ns = lambda: NOW_NS
    return store


def told(event: Event) -> dict[str, object]:
    document = json.loads(v2_event.to_json(event, below="/1"))
    assert isinstance(document, dict)
    return document


def refusal(store: V2Store, change: str, *arguments: object, **options: object) -> V2Error:
    """How a change is refused; the store is as it was."""
    before, index = encode_v2_tree(store), store.index
    with pytest.raises(V2Error) as refused:
        getattr(store, change)(*arguments, **options)
    after = json.loads(encode_v2_tree(store))
    after["Stats"] = json.loads(before)["Stats"]
    assert (after, store.index) == (json.loads(before), index)
    return refused.value


# -- single rules ------------------------------------------------------------------------------------------------------


def test_a_set_creates_directories_and_takes_one_index(store: V2Store) -> None:
    event = store.set("/1/a/b/c", "x")
    assert told(event) == {
        "action": "set",
        "node": {"key": "/a/b/c", "value": "x", "modifiedIndex": 1, "createdIndex": 1},
    }
    assert event.is_created
    listed = told(store.get("/1", recursive=True))
    assert listed["node"] == {
        "dir": True,
        "nodes": [
            {
                "key": "/a",
                "dir": True,
                "nodes": [
                    {
                        "key": "/a/b",
                        "dir": True,
                        "nodes": [{"key": "/a/b/c", "value": "x", "modifiedIndex": 1, "createdIndex": 1}],
                        "modifiedIndex": 1,
                        "createdIndex": 1,
                    }
                ],
                "modifiedIndex": 1,
                "createdIndex": 1,
            }
        ],
    }


def test_a_second_set_replaces_the_file_and_tells_what_was(store: V2Store) -> None:
    store.set("/1/a", "x")
    event = store.set("/1/a", "")
    assert not event.is_created
    assert told(event) == {
        "action": "set",
        "node": {"key": "/a", "value": "", "modifiedIndex": 2, "createdIndex": 2},
        "prevNode": {"key": "/a", "value": "x", "modifiedIndex": 1, "createdIndex": 1},
    }


def test_an_update_keeps_the_index_of_creation(store: V2Store) -> None:
    store.set("/1/a", "x")
    assert store.update("/1/a", "y").node[3:5] == (2, 1)
    assert store.compare_and_swap("/1/a", "y", 2, "z").node[3:5] == (3, 1)


def test_names_made_in_order_sort_in_order(store: V2Store) -> None:
    keys = [store.create("/1/q", str(number), unique=True).node.key for number in range(12)]
    assert keys == sorted(keys)
    assert keys[0] == "/1/q/00000000000000000001"


@pytest.mark.parametrize(
    ("change", "arguments", "options", "code", "cause"),
    [
        ("set", ("/1/dir", "x"), {}, NOT_FILE, "/1/dir"),
        ("set", ("/1/file/x", "x"), {}, NOT_DIRECTORY, "/1/file"),
        ("set", ("/1", "x"), {}, ROOT_READ_ONLY, "/"),
        ("set", ("/1/none", ""), {"refresh": True}, KEY_NOT_FOUND, "/1/none"),
        ("create", ("/1/file", "x"), {}, NODE_EXISTS, "/1/file"),
        ("create", ("/1/file/x", "x"), {}, NOT_DIRECTORY, "/1/file"),
        ("update", ("/1/none", "x"), {}, KEY_NOT_FOUND, "/1/none"),
        ("update", ("/1/dir", "x"), {}, NOT_FILE, "/1/dir"),
        ("update", ("/1/dir", ""), {}, RAFT_INTERNAL, "nodePath /1/dir : Not a file ()"),
        ("compare_and_swap", ("/1/file", "other", 9, "x"), {}, TEST_FAILED, "[other != f] [9 != 1]"),
        ("compare_and_swap", ("/1/file", "", 9, "x"), {}, TEST_FAILED, "[9 != 1]"),
        ("compare_and_swap", ("/1/dir", "", 9, "x"), {}, NOT_FILE, "/1/dir"),
        ("compare_and_delete", ("/1/file", "other", 1), {}, TEST_FAILED, "[other != f]"),
        ("compare_and_delete", ("/1", "x", 0), {}, NOT_FILE, "/1"),
        ("delete", ("/1/dir",), {}, NOT_FILE, "/1/dir"),
        ("delete", ("/1/dir",), {"is_dir": True}, DIRECTORY_NOT_EMPTY, "/1/dir"),
        ("delete", ("/1/dir/none/deeper",), {}, KEY_NOT_FOUND, "/1/dir/none"),
        ("delete", ("/1",), {"recursive": True}, ROOT_READ_ONLY, "/"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    store: V2Store, change: str, arguments: tuple[object, ...], options: dict[str, bool], code: int, cause: str
) -> None:
    store.set("/1/file", "f")
    store.set("/1/dir/x", "")
    error = refusal(store, change, *arguments, **options)
    assert (error.code, error.cause) == (code, cause)
    assert error.index == (0 if code == RAFT_INTERNAL else 2)


def test_hidden_nodes_are_read_by_name_alone(store: V2Store) -> None:
    store.set("/1/a/_b", "x")
    store.set("/1/a/c", "y")
    keys = [child.key for child in store.get("/1/a").node.nodes]
    assert keys == ["/1/a/c"]
    assert store.get("/1/a/_b").node.value == "x"


def test_a_directory_is_listed_in_order_if_asked(store: V2Store) -> None:
    for name in ("b", "a", "c/z", "c/y"):
        store.set(f"/1/{name}", "")
    view = store.get("/1", recursive=True, is_sorted=True).node
    assert [child.key for child in view.nodes] == ["/1/a", "/1/b", "/1/c"]
    assert [child.key for child in view.nodes[2].nodes] == ["/1/c/y", "/1/c/z"]


def test_a_tree_as_deep_as_a_path_can_be_is_walked_without_recursion(store: V2Store) -> None:
    path = "/1" + "/d" * 3_000
    store.set(path, "x")
    assert v2_event.to_json(store.get("/1/d", recursive=True)).count('"dir":true') == 2_999
    store.delete("/1/d", recursive=True)
    assert store.get("/1").node.nodes == []


# -- time --------------------------------------------------------------------------------------------------------------


def test_what_has_expired_goes_at_a_sync_in_the_order_of_expiry(store: V2Store) -> None:
    store.set("/1/b", "", expires_ns=NOW_NS + 2)
    store.set("/1/a", "", expires_ns=NOW_NS + 3)
    store.set("/1/dir", "", is_dir=True, expires_ns=NOW_NS + 1)
    store.set("/1/dir/x", "", expires_ns=NOW_NS + 2)
    store.set("/1/stays", "", expires_ns=NOW_NS + 4)
    store.set("/1/saved", "", expires_ns=NOW_NS + 1)
    store.update("/1/saved", "")
    store.take_changes()
    assert store.next_expiry_ns == NOW_NS + 1
    store.expire(NOW_NS + 3)
    told_ = [(change.event.action, change.event.node.key, change.removed) for change in store.take_changes()]
    assert told_ == [
        ("expire", "/1/dir", ("/1/dir/x", "/1/dir")),
        ("expire", "/1/b", ("/1/b",)),
        ("expire", "/1/a", ("/1/a",)),
    ]
    assert store.index == 10
    assert store.counts["expireCount"] == 3
    assert [child.key for child in store.get("/1", is_sorted=True).node.nodes] == ["/1/saved", "/1/stays"]
    assert store.next_expiry_ns == NOW_NS + 4


@pytest.mark.parametrize(
    ("left_ns", "ttl"),
    [(1, 1), (SECOND_NS, 1), (SECOND_NS + 1, 2), (0, 0), (-1, 0), (-SECOND_NS, -1), (-1 - SECOND_NS, -1)],
)
def test_seconds_left_are_rounded_up_and_truncated_when_over(store: V2Store, left_ns: int, ttl: int) -> None:
    assert store.set("/1/a", "", expires_ns=NOW_NS + left_ns).node.ttl == ttl


def test_a_time_of_long_ago_is_for_ever_at_creation_and_at_once_later(store: V2Store) -> None:
    assert store.set("/1/a", "", expires_ns=1).node.expires_ns is None
    assert store.update("/1/a", "", expires_ns=1).node.expires_ns == 1
    store.expire(NOW_NS)
    assert store.get("/1").node.nodes == []


def test_a_key_that_is_kept_alive_leaves_no_trail(store: V2Store) -> None:
    store.set("/1/a", "x")
    for number in range(5000):
        store.update("/1/a", "x", expires_ns=NOW_NS + number)
    assert len(store._expiring) < 2000
    assert store.next_expiry_ns == NOW_NS + 4999


def test_a_refresh_is_told_to_nobody(store: V2Store) -> None:
    store.set("/1/a", "x")
    store.take_changes()
    event = store.set("/1/a", "", expires_ns=NOW_NS + SECOND_NS, refresh=True)
    assert (event.node.value, event.node.ttl) == ("x", 1)
    assert store.compare_and_swap("/1/a", "x", 0, "", expires_ns=NOW_NS + SECOND_NS, refresh=True).node.value == "x"
    assert store.update("/1/a", "", expires_ns=NOW_NS + SECOND_NS, refresh=True).node.value == "x"
    assert store.take_changes() == []
    assert store.scan("/1/a", 2, recursive=False) is None
    assert "refresh" not in told(event)


# -- history -----------------------------------------------------------------------------------------------------------


def test_history_is_searched_for_what_concerns_a_path(store: V2Store) -> None:
    store.set("/1/a/x", "")  # 1
    store.set("/1/b", "")  # 2
    store.set("/1/ab", "")  # 3
    store.delete("/1/a", recursive=True)  # 4
    at = {
        (path, index, recursive): (event := store.scan(path, index, recursive=recursive)) and event.at_index
        for path in ("/1/a", "/1/a/x", "/1/ab", "/1/b", "/1")
        for index in (1, 2, 4)
        for recursive in (False, True)
    }
    assert [at["/1/a", index, False] for index in (1, 2, 4)] == [4, 4, 4]
    assert [at["/1/a", index, True] for index in (1, 2, 4)] == [1, 4, 4]
    assert [at["/1/a/x", index, False] for index in (1, 2, 4)] == [1, 4, 4], "it went with its directory"
    assert at["/1/ab", 4, False] == 4, "as in etcd, which compares no whole names here"
    assert [at["/1/b", index, False] for index in (1, 2, 4)] == [2, 2, None]
    assert [at["/1", index, True] for index in (1, 2, 4)] == [1, 2, 4]
    assert store.scan("/1", 5, recursive=True) is None


def test_history_keeps_a_thousand_events(store: V2Store) -> None:
    for number in range(HISTORY_EVENTS_MAX + 7):
        store.set("/1/a", str(number))
    assert (store.history.start_index, store.history.last_index) == (8, HISTORY_EVENTS_MAX + 7)
    event = store.scan("/1/a", 8, recursive=False)
    assert event is not None
    assert event.at_index == 8
    with pytest.raises(V2Error) as refused:
        store.scan("/1/a", 7, recursive=False)
    error = refused.value
    assert (error.code, error.index) == (EVENT_INDEX_CLEARED, HISTORY_EVENTS_MAX + 7)
    assert error.cause == "the requested history has been cleared [8/7]"


# -- counts ------------------------------------------------------------------------------------------------------------


def test_changes_and_refusals_are_counted_as_etcd_counts_them(store: V2Store) -> None:
    store.set("/1/f", "x")
    store.get("/1/f")
    for change, *arguments in (
        ("get", "/1/none"),
        ("set", "/1/f/x", ""),
        ("create", "/1/f/x", ""),  # counted as a failed set, too
        ("create", "/1/f", ""),
        ("update", "/1/none", ""),
        ("update", "/1", ""),  # by an oversight of etcd's a success, as the next but one
        ("compare_and_swap", "/1/f", "y", 0, ""),
        ("compare_and_delete", "/1/f", "y", 0),
        ("delete", "/1/none"),
    ):
        with pytest.raises(V2Error):
            getattr(store, change)(*arguments)
    assert {name: count for name, count in store.counts.items() if count} == {
        "getsSuccess": 1,
        "getsFail": 1,
        "setsSuccess": 1,
        "setsFail": 2,
        "createFail": 2,
        "updateFail": 1,
        "updateSuccess": 1,
        "compareAndSwapFail": 1,
        "compareAndDeleteSuccess": 1,
        "deleteFail": 1,
    }


# -- paths -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [
        ("", "/"),
        ("/", "/"),
        ("a", "/a"),
        ("/a/", "/a"),
        ("//a///b", "/a/b"),
        ("/a/./b/../c", "/a/c"),
        ("/../..", "/"),
        ("/..a/...", "/..a/..."),
    ],
)
def test_paths_are_cleaned(path: str, cleaned: str) -> None:
    assert clean(path) == cleaned


# -- rows --------------------------------------------------------------------------------------------------------------


def filled(tables: DictStore, random: Random) -> V2Store:
    store = new_store(tables)
    for number in range(1500):
        path = "/1/" + "/".join(random.choice(("a", "b", "é", "_c", "\udcff")) for _ in range(random.randint(1, 3)))
        expires_ns = random.choice((None, NOW_NS + number * SECOND_NS))
        try:
            if random.random() < 0.2:
                store.delete(path, recursive=random.random() < 0.3)
            elif random.random() < 0.2:
                store.create(path, "", unique=True, expires_ns=expires_ns)
            elif random.random() < 0.3:
                store.update(path, str(number), expires_ns=expires_ns)
            else:
                store.set(path, f"{number}\udc80<", is_dir=random.random() < 0.2, expires_ns=expires_ns)
        except V2Error:
            pass
        if number == 700:
            store.expire(NOW_NS + 300 * SECOND_NS)
    return store


def test_all_of_it_survives_a_restart() -> None:
    tables = DictStore()
    store = filled(tables, Random(7))
    store.checkpoint()
    again = new_store(tables)
    assert again.load()
    assert encode_v2_tree(again) == encode_v2_tree(store)
    assert again.next_expiry_ns == store.next_expiry_ns
    for one in (store, again):
        one.set("/1/new/a", "x")
        one.expire(NOW_NS + 2000 * SECOND_NS)
        one.checkpoint()
    assert encode_v2_tree(again) == encode_v2_tree(store)
    third = new_store(tables)
    assert third.load()
    assert encode_v2_tree(third) == encode_v2_tree(store)


def test_tables_without_a_row_of_it_are_older_than_it() -> None:
    assert not new_store().load()


def test_rows_go_with_what_they_were_of() -> None:
    tables = DictStore()
    store = new_store(tables)
    for number in range(2 * HISTORY_EVENTS_MAX):
        store.set(f"/1/a/{number % 7}", "")
    store.delete("/1/a", recursive=True)
    store.checkpoint()
    assert len(tables.rows(V2)) == HISTORY_EVENTS_MAX + 1


def test_a_snapshot_carries_all_of_it() -> None:
    store = filled(DictStore(), Random(8))
    data = encode_v2_tree(store)
    tables = DictStore()
    other = new_store(tables)
    other.set("/1/gone", "x", expires_ns=NOW_NS)
    restore_v2_store(other, data)
    assert encode_v2_tree(other) == encode_v2_tree(restored_again(data))
    loaded = new_store(tables)
    assert loaded.load()
    assert encode_v2_tree(loaded) == encode_v2_tree(other)
    assert decode_v2_tree(data).members == []
    assert (other.index, other.counts) == (store.index, store.counts)
    assert other.next_expiry_ns == store.next_expiry_ns


def restored_again(data: bytes) -> V2Store:
    """Twice through JSON: what was no UTF-8 is U+FFFD after the first time, in etcd as here."""
    store = new_store()
    restore_v2_store(store, data)
    again = new_store()
    restore_v2_store(again, encode_v2_tree(store))
    return again


# -- a model -----------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(("a", "b", "c"))
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda names: "/1/" + "/".join(names))
WORDS = st.sampled_from(("", "x", "y"))
TIMES = st.sampled_from((None, NOW_NS + 1, NOW_NS + 2, NOW_NS + 3))

Model = dict[str, tuple[str | None, int, int, int | None]]  # path -> value (None: directory), created, modified, expiry


class AgainstModel(RuleBasedStateMachine):
    """A flat dictionary of paths, which knows nothing of trees, rows and heaps; a restart now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = DictStore()
        self.store = new_store(self.tables)
        self.model: Model = {}
        self.index = 0

    def above(self, path: str) -> Iterator[str]:
        parts = path.split("/")
        for count in range(3, len(parts)):
            yield "/".join(parts[:count])

    def blocked(self, path: str) -> bool:
        return any(above in self.model and self.model[above][0] is not None for above in self.above(path))

    def place(self, path: str, value: str | None, expires_ns: int | None) -> None:
        self.index += 1
        for above in self.above(path):
            self.model.setdefault(above, (None, self.index, self.index, None))
        self.model[path] = (value, self.index, self.index, expires_ns)

    def attempt(self, change: str, *arguments: object, **options: object) -> bool:
        try:
            getattr(self.store, change)(*arguments, **options)
        except V2Error:
            return False
        return True

    @rule(path=PATHS, value=WORDS, expires_ns=TIMES, is_dir=st.booleans())
    def set(self, path: str, value: str, expires_ns: int | None, is_dir: bool) -> None:
        known = self.model.get(path)
        may = not self.blocked(path) and (known is None or known[0] is not None)
        assert self.attempt("set", path, value, is_dir=is_dir, expires_ns=expires_ns) == may
        if may:
            self.place(path, None if is_dir else value, expires_ns)

    @rule(path=PATHS, value=WORDS, expires_ns=TIMES)
    def create(self, path: str, value: str, expires_ns: int | None) -> None:
        may = not self.blocked(path) and path not in self.model
        assert self.attempt("create", path, value, expires_ns=expires_ns) == may
        if may:
            self.place(path, value, expires_ns)

    @rule(path=PATHS, value=WORDS, expires_ns=TIMES, prev_value=WORDS, prev_index=st.integers(0, 5))
    def swap(self, path: str, value: str, expires_ns: int | None, prev_value: str, prev_index: int) -> None:
        known = self.model.get(path)
        may = (
            known is not None and known[0] is not None and prev_value in ("", known[0]) and prev_index in (0, known[2])
        )
        assert self.attempt("compare_and_swap", path, prev_value, prev_index, value, expires_ns=expires_ns) == may
        if may:
            assert known is not None
            self.index += 1
            self.model[path] = (value, known[1], self.index, expires_ns)

    @rule(path=PATHS, recursive=st.booleans(), is_dir=st.booleans())
    def delete(self, path: str, recursive: bool, is_dir: bool) -> None:
        known = self.model.get(path)
        below = [other for other in self.model if other.startswith(path + "/")]
        may = known is not None and (known[0] is not None or recursive or (is_dir and not below))
        assert self.attempt("delete", path, recursive=recursive, is_dir=is_dir) == may
        if may:
            self.index += 1
            for gone in (path, *below):
                del self.model[gone]

    @rule(until_ns=st.sampled_from((NOW_NS + 1, NOW_NS + 2)))
    def expire(self, until_ns: int) -> None:
        self.store.expire(until_ns)
        due = [(entry[3], path) for path, entry in self.model.items() if entry[3] is not None and entry[3] <= until_ns]
        for _, path in sorted(due):
            if path in self.model:
                self.index += 1
                for gone in [other for other in self.model if other == path or other.startswith(path + "/")]:
                    del self.model[gone]

    @rule()
    def restart(self) -> None:
        self.store.checkpoint()
        self.store = new_store(self.tables)
        assert self.store.load()

    @rule()
    def travel(self) -> None:
        """By a snapshot to another member."""
        data = encode_v2_tree(self.store)
        self.tables = DictStore()
        self.store = new_store(self.tables)
        restore_v2_store(self.store, data)

    @invariant()
    def same(self) -> None:
        assert self.store.index == self.index
        assert self.store.history.last_index == self.index
        found: Model = {}
        stack = [self.store.root.children["1"]]  # type: ignore[index]  # a directory
        while stack:
            for child in (stack.pop().children or {}).values():
                value = child.value if child.children is None else None
                found[child.path] = (value, child.created, child.modified, child.expires_ns)
                stack.append(child)
        assert found == self.model
        times = [entry[3] for entry in self.model.values() if entry[3] is not None]
        assert self.store.next_expiry_ns == (min(times) if times else None)


TestAgainstModel = AgainstModel.TestCase
TestAgainstModel.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
