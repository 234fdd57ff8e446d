"""The v2 tree: etcd's own are read, ours say the same, and what is none is refused with a reason."""

import json
import random
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvorum.raft import change_codec
from kvorum.raft.message import EntryType
from kvorum.state.dict_store import DictStore
from kvorum.state.membership import BadVersion, Member, Membership, remove_change
from kvorum.state.store import CLUSTER, MEMBERS, MEMBERS_REMOVED
from kvorum.state.v2_store import V2Store
from kvorum.state.v2_tree import BadV2Tree, V2Tree, decode_v2_tree, encode_members, encode_v2_tree, restore_v2_store

from tests.unit.kvorum.state.driver import captured_entries, new_machine

CAPTURED = Path(__file__).parents[1] / "storage" / "testdata" / "member-snapshot"

URLS = st.lists(st.text(min_size=1, max_size=8), max_size=2).map(tuple)
IDS = st.integers(1, (1 << 64) - 1)
MEMBER = st.builds(Member, IDS, URLS, st.booleans(), st.text(max_size=5), URLS)


def store_of(tree: V2Tree) -> V2Store:
    """A store that holds a cluster and nothing else, as one that was restored from a backup."""
    tables = DictStore()
    store = V2Store(tables)
    membership = Membership(tables, store)
    membership.restore(*tree)
    membership.plant()
    return store


def restored(data: bytes) -> V2Store:
    store = V2Store(DictStore())
    restore_v2_store(store, data)
    return store


def captured() -> list[dict[str, object]]:
    files = sorted(CAPTURED.glob("*.snap.json"))
    assert len(files) == 3
    return [json.loads(path.read_text())["v2store"] for path in files]


@pytest.mark.parametrize("number", range(3))
def test_etcds_tree_is_read_and_written_again_whole(number: int) -> None:
    document = captured()[number]
    data = json.dumps(document).encode()
    tree = decode_v2_tree(data)
    assert tree == V2Tree(
        [
            Member(0x4219C68EC6D4CD57, ("http://127.0.0.1:24312",), False, "s2", ("http://127.0.0.1:24310",)),
            Member(0xC8A92D9A240EE9F8, ("http://127.0.0.1:24302",), False, "s1", ("http://127.0.0.1:24300",)),
            Member(0xE63522974B9CDB9F, ("http://127.0.0.1:24322",), False, "s3", ("http://127.0.0.1:24320",)),
        ],
        frozenset(),
        "3.5.0",
    )
    again = json.loads(encode_v2_tree(restored(data)))
    assert json.dumps(again) == json.dumps(document), "in etcd's order, too"


def test_a_member_that_applies_etcds_log_has_etcds_tree() -> None:
    """Indexes, history and all; but for the reads, of which a member makes some by itself."""
    [*_, last] = sorted(CAPTURED.glob("*.snap.json"))
    captured_last = json.loads(last.read_text())
    machine = new_machine()
    for entry in captured_entries("snapshot-wal.jsonl"):
        if entry.index > captured_last["metadata"]["index"]:
            break
        if entry.type == EntryType.NORMAL:
            machine.apply(entry, answering=False)
        else:
            machine.apply_conf_change(entry, change_codec.decode_single(entry.data))
    assert machine.applied_index == captured_last["metadata"]["index"]
    ours, theirs = json.loads(encode_v2_tree(machine.v2)), captured_last["v2store"]
    for read in ("getsSuccess", "getsFail"):
        del ours["Stats"][read], theirs["Stats"][read]
    assert ours == theirs


def test_tables_of_before_the_v2_store_get_a_tree_with_their_members() -> None:
    tables = DictStore()
    members = [Member(1, ("http://one",), name="one", client_urls=("http://c",)), Member(9, ("http://nine",), True)]
    Membership(tables).restore(members, [7], "3.5.0")
    machine = new_machine(tables)
    assert decode_v2_tree(encode_v2_tree(machine.v2)) == V2Tree(members, frozenset({7}), "3.5.0")
    assert machine.v2.index == 5
    assert machine.membership.apply(remove_change(9, 1))[1] is None
    machine.checkpoint()
    again = new_machine(tables)
    assert decode_v2_tree(encode_v2_tree(again.v2)) == V2Tree(members[:1], frozenset({7, 9}), "3.5.0")
    assert again.v2.index == 7


def test_a_ring_of_events_is_read_from_its_front() -> None:
    store = V2Store(DictStore())
    for number in range(1700):
        store.set("/1/a", str(number))
    data = encode_v2_tree(store)
    document = json.loads(data)
    queue = document["WatcherHub"]["EventHistory"]["Queue"]
    queue["Events"] = queue["Events"][-700:] + queue["Events"][:-700]  # as an etcd has it that went round
    queue["Front"] = queue["Back"] = 700
    assert encode_v2_tree(restored(json.dumps(document).encode())) == data
    queue["Events"][699]["node"]["modifiedIndex"] += 1
    assert restored(json.dumps(document).encode()).history.start_index == 1701, "nothing from before a gap is kept"


@given(
    members=st.lists(MEMBER, max_size=5, unique_by=lambda member: member.id),
    removed=st.frozensets(IDS, max_size=3),
    version=st.sampled_from((None, "3.4.0", "3.5.0")),
)
def test_members_removed_ids_and_version_survive(
    members: list[Member], removed: frozenset[int], version: str | None
) -> None:
    tree = V2Tree(
        sorted((member for member in members if member.id not in removed), key=lambda member: member.id),
        removed,
        version,
    )
    data = encode_v2_tree(store_of(tree))
    assert decode_v2_tree(data) == decode_v2_tree(encode_members(store_of(tree))) == tree
    assert encode_v2_tree(restored(data)) == data


def test_restoring_leaves_nothing_of_what_was_there() -> None:
    store = DictStore()
    membership = Membership(store)
    membership.restore([Member(1, ("http://zombie",)), Member(2, ("http://old",))], [3], "3.5.0")
    membership.set_downgrade("3.4.0")
    membership.restore([Member(2, ("http://new",), name="two")], [4], None)
    assert store.rows(MEMBERS) == {b"2": b'{"id":2,"peerURLs":["http://new"],"name":"two"}'}
    assert store.rows(MEMBERS_REMOVED) == {b"4": b"removed"}
    assert list(store.rows(CLUSTER)) == [b"downgrade"], "not part of the tree, so it stays"
    again = Membership(store)
    again.load()
    assert (again.members, again.removed, again.cluster_version) == (membership.members, {4}, None)
    with pytest.raises(BadVersion):
        membership.restore([], [], "abc")


def broken(path: str, value: object) -> bytes:
    """A captured tree with one field replaced. path: names of children, then a field."""
    document = captured()[0]
    *names, last = path.split("/")
    node: object = document
    for name in names:
        assert isinstance(node, dict)
        node = node[name]
    assert isinstance(node, dict)
    node[last] = value
    return json.dumps(document).encode()


MEMBER_PATH = "Root/Children/0/Children/members/Children"
S2 = f"{MEMBER_PATH}/4219c68ec6d4cd57/Children"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "the tree is not an object"),
        (b"[" * 100_000, "not JSON"),
        (b"{}", "Root is not an object"),
        (b'{"Root":{"Children":{}}}', "no node /0"),
        (broken("Root/Children", None), "Children of a directory is not an object"),
        (broken(MEMBER_PATH, []), "Children of a directory is not an object"),
        (broken(f"{MEMBER_PATH}/xyz", {"Children": {}}), "has no raftAttributes|no member id"),
        (broken(f"{S2}/raftAttributes/Value", 1), "raftAttributes of member 4219c68ec6d4cd57 has no text"),
        (broken(f"{S2}/raftAttributes/Value", "{"), "raftAttributes of member 4219c68ec6d4cd57: "),
        (broken(f"{S2}/raftAttributes/Value", '{"peerURLs":1}'), "member 4219c68ec6d4cd57: URLs are a list"),
        (broken(f"{S2}/attributes/Value", "[]"), "attributes of member 4219c68ec6d4cd57 is not an object"),
        (broken(f"{S2}", {}), "member 4219c68ec6d4cd57 has no raftAttributes"),
        (broken("Root/Children/0/Children/removed_members", {"Children": {"0": {}}}), "'0' is no member id"),
        (
            broken("Root/Children/0/Children/removed_members", {"Children": {"c8a92d9a240ee9f8": {}}}),
            "c8a92d9a240ee9f8 both a member and removed for ever",
        ),
        (broken("Root/Children/0/Children/version/Value", None), "version has no text"),
        (broken("Root/Children/0/Children/version/Value", "new"), "'new' is no version"),
        (broken(f"{S2}/attributes/Value", '{"name":"\\ud800"}'), "member 4219c68ec6d4cd57: .*surrogates not allowed"),
    ],
)
def test_what_is_no_tree_is_refused_with_a_reason(data: bytes, why: str) -> None:
    with pytest.raises(BadV2Tree, match=why):
        decode_v2_tree(data)


def test_random_damage_is_refused_or_leaves_a_tree() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = Random(seed)
    document = captured()[2]
    good = json.dumps({"Root": document["Root"]}).encode()
    outcomes = {True: 0, False: 0}
    for _ in range(2000):
        data = bytearray(good)
        for _ in range(rng.choice((1, 2, 5))):
            data[rng.randrange(len(data))] = rng.choice(b'"{}[]:,\\0u1nul ' + rng.randbytes(1))
        try:
            encode_v2_tree(restored(bytes(data)))
            outcomes[True] += 1
        except BadV2Tree:
            outcomes[False] += 1
    assert min(outcomes.values()) > 100, outcomes
