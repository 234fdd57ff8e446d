"""Members: ids, the log's bytes, and changes that are refused when they are applied."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvorum.raft import change_codec
from kvorum.raft.message import NONE, ConfChange, ConfChangeType, ConfState
from kvorum.state import go_json
from kvorum.state.dict_store import DictStore
from kvorum.state.membership import (
    BadVersion,
    Member,
    add_change,
    bootstrap_entries,
    bootstrap_members,
    cluster_id,
    decode_conf_state,
    encode_conf_state,
    hex_id,
    member_id,
    promote_change,
    remove_change,
    update_change,
)
from kvorum.state.refusal import (
    MEMBER_EXISTS,
    MEMBER_NOT_FOUND,
    MEMBER_NOT_LEARNER,
    PEER_URL_EXISTS,
    TOO_MANY_LEARNERS,
    Refusal,
)
from kvorum.state.store import CLUSTER, MEMBERS, MEMBERS_REMOVED

from tests.unit.kvorum.state.driver import Driver, captured_entries, new_machine

N1, N2, N3 = 0x55D08C339832BAE9, 0x831BA729F7C3E122, 0xB0046E73A70A4081
ONE = Member(1, ("http://one:2380",), name="one")
TWO = Member(2, ("http://two:2380", "http://two:2390"), name="two")
LEARNER = Member(9, ("http://nine:2380",), is_learner=True)


@pytest.fixture
def store() -> DictStore:
    return DictStore()


@pytest.fixture
def driver(store: DictStore) -> Driver:
    driver = Driver(new_machine(store))
    for number, member in enumerate((ONE, TWO, LEARNER)):
        assert driver.change(add_change(member, number))[1] is None
    return driver


def test_ids_are_those_that_etcd_computes() -> None:
    assert hex_id(member_id(["http://localhost:2380"], "etcd-cluster")) == "8e9e05c52164694d"
    assert hex_id(cluster_id([0x8E9E05C52164694D])) == "cdf818194e3a8c32"
    members = bootstrap_members([(f"n{n}", [f"http://127.0.0.1:241{n - 1}2"]) for n in (3, 1, 2)], token="pw-token")
    assert [(member.name, member.id) for member in members] == [("n1", N1), ("n2", N2), ("n3", N3)]
    assert cluster_id([N3, N1, N2]) == 17401657456753770893


def test_the_order_of_urls_and_the_name_do_not_change_an_id_and_the_time_does() -> None:
    assert member_id(["b", "a"], "t") == member_id(["a", "b"], "t") != member_id(["a", "b"], "t", 1700000000)
    assert member_id(["a"], "t", 17) == member_id(["a"], "t17")


def test_bootstrap_entries_are_byte_identical_to_etcds() -> None:
    members = bootstrap_members([(f"n{n}", [f"http://127.0.0.1:241{n - 1}2"]) for n in (2, 3, 1)], "pw-token")
    assert bootstrap_entries(reversed(members)) == captured_entries("life-wal.jsonl")[:3]


def test_changes_have_the_bytes_of_etcds() -> None:
    entries = {entry.index: entry.data for entry in captured_entries("life-wal.jsonl")}
    n4, url = 0xB18ED2EFBE3A4DF9, "http://127.0.0.1:24132"
    assert change_codec.encode(add_change(Member(n4, (url,), is_learner=True), 0xBAE9A206197D8D08)) == entries[22]
    assert change_codec.encode(promote_change(n4, 0xBAE9A206197D8D0A)) == entries[24]
    assert change_codec.encode(update_change(n4, [url, "http://127.0.0.1:9"], 0xBAE9A206197D8D0B)) == entries[26]
    assert change_codec.encode(remove_change(n4, 0xBAE9A206197D8D0C)) == entries[27]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("<a>&b", '"\\u003ca\\u003e\\u0026b"'),
        ("\u2028\u2029", '"\\u2028\\u2029"'),
        ("größer→", '"größer→"'),
        ('"\\\n\t\r\x01\x7f', '"\\"\\\\\\n\\t\\r\\u0001\x7f"'),
    ],
)
def test_json_is_written_as_go_writes_it(text: str, written: str) -> None:
    assert go_json.dumps(text).decode() == written


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.lists(st.text()))))
def test_escaping_changes_no_meaning(document: dict[str, object]) -> None:
    assert json.loads(go_json.dumps(document)) == document


def test_absent_fields_of_a_member_are_left_out_and_urls_are_null() -> None:
    assert go_json.dumps(Member(2**64 - 1).to_json()) == b'{"id":18446744073709551615,"peerURLs":null}'
    full = Member(1, ("u",), is_learner=True, name="n", client_urls=("c", "d"))
    assert go_json.dumps(full.to_json()) == (
        b'{"id":1,"peerURLs":["u"],"isLearner":true,"name":"n","clientURLs":["c","d"]}'
    )
    assert Member.from_json(full.to_json()) == full


@pytest.mark.parametrize("document", [{}, {"id": "1"}, {"id": 1, "peerURLs": "u"}, {"id": 1, "clientURLs": [1]}])
def test_what_is_no_member_is_refused(document: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError)):
        Member.from_json(document)


def test_members_are_listed_by_id_and_stored_in_etcds_rows(driver: Driver, store: DictStore) -> None:
    assert driver.machine.membership.members == [ONE, TWO, LEARNER]
    assert store.rows(MEMBERS) == {
        b"1": b'{"id":1,"peerURLs":["http://one:2380"],"name":"one"}',
        b"2": b'{"id":2,"peerURLs":["http://two:2380","http://two:2390"],"name":"two"}',
        b"9": b'{"id":9,"peerURLs":["http://nine:2380"],"isLearner":true}',
    }
    assert driver.machine.revision == 1
    assert driver.machine.applied_index == 3


def rejected(driver: Driver, change: ConfChange) -> Refusal | None:
    """The refusal of a change that must leave the list as it is."""
    before = driver.machine.membership.members
    applied, refusal = driver.change(change)
    assert (refusal is None) == (applied == change)
    if refusal is not None:
        assert applied.node_id == NONE
        assert driver.machine.membership.members == before
    return refusal


def test_an_invalid_change_is_in_the_log_and_changes_nothing(driver: Driver) -> None:
    third = Member(3, ("http://three:2380",))
    assert rejected(driver, add_change(ONE, 1)) == MEMBER_EXISTS
    assert rejected(driver, add_change(Member(3, ("http://x", "http://two:2390")), 1)) == PEER_URL_EXISTS
    assert rejected(driver, add_change(Member(3, ("http://x",), is_learner=True), 1)) == TOO_MANY_LEARNERS
    assert rejected(driver, promote_change(3, 1)) == MEMBER_NOT_FOUND
    assert rejected(driver, promote_change(1, 1)) == MEMBER_NOT_LEARNER
    assert rejected(driver, update_change(3, ["http://x"], 1)) == MEMBER_NOT_FOUND
    assert rejected(driver, update_change(1, ["http://two:2380"], 1)) == PEER_URL_EXISTS
    assert rejected(driver, remove_change(3, 1)) == MEMBER_NOT_FOUND
    assert rejected(driver, add_change(third, 1)) is None
    assert driver.machine.applied_index == 12, "each of them was applied"


def test_a_removed_id_never_comes_back(driver: Driver, store: DictStore) -> None:
    assert rejected(driver, remove_change(2, 1)) is None
    for machine in (driver.machine, new_machine(store)):
        assert [member.id for member in machine.membership.members] == [1, 9]
        for change in (add_change(TWO, 1), promote_change(2, 1), update_change(2, ["u"], 1), remove_change(2, 1)):
            assert machine.membership.validate(change) == MEMBER_NOT_FOUND
    assert store.rows(MEMBERS_REMOVED) == {b"2": b"removed"}
    assert rejected(driver, add_change(Member(4, TWO.peer_urls), 1)) is None, "its URLs may be used again"


def test_a_promoted_learner_is_a_voter_and_keeps_the_rest(driver: Driver) -> None:
    driver.machine.membership.publish(9, "nine", ["http://nine:2379"])
    assert rejected(driver, promote_change(9, 1)) is None
    member = driver.machine.membership.find(9)
    assert member == Member(9, LEARNER.peer_urls, name="nine", client_urls=("http://nine:2379",))
    assert rejected(driver, promote_change(9, 1)) == MEMBER_NOT_LEARNER


def test_an_update_changes_the_peer_urls_alone(driver: Driver) -> None:
    """Up to etcd 3.5.30 it also made a voter of a learner, in the list only."""
    assert rejected(driver, update_change(9, ["http://new:1", "http://nine:2380"], 1)) is None
    assert driver.machine.membership.find(9) == Member(9, ("http://new:1", "http://nine:2380"), is_learner=True)


def test_a_change_whose_context_names_another_member_breaks_an_invariant(driver: Driver) -> None:
    change = add_change(Member(5, ("http://five",)), 1)
    with pytest.raises(AssertionError, match=r"\(5, 6\)"):
        driver.change(ConfChange(ConfChangeType.ADD_NODE, 6, 1, change.context))


def test_members_removed_ids_and_versions_survive_a_restart(driver: Driver, store: DictStore) -> None:
    membership = driver.machine.membership
    membership.set_cluster_version("3.5.0")
    membership.set_downgrade("3.4.0")
    driver.change(remove_change(1, 1))
    loaded = new_machine(store).membership
    assert loaded.members == membership.members
    assert loaded.removed == {1}
    assert (loaded.cluster_version, loaded.downgrade_target) == ("3.5.0", "3.4.0")
    assert store.rows(CLUSTER) == {
        b"clusterVersion": b"3.5.0",
        b"downgrade": b'{"target-version":"3.4.0","enabled":true}',
    }
    loaded.set_downgrade(None)
    assert store.get(CLUSTER, b"downgrade") == b'{"target-version":"","enabled":false}'
    assert new_machine(store).membership.downgrade_target is None


def test_a_downgrade_is_set_by_an_entry(driver: Driver) -> None:
    driver.apply(downgrade_info_set={"enabled": True, "ver": "3.4.0"})
    assert driver.machine.membership.downgrade_target == "3.4.0"
    driver.apply(downgrade_info_set={"ver": "3.4.0"})
    assert driver.machine.membership.downgrade_target is None


@pytest.mark.parametrize("version", ["3.5", "v3.5.0", "", "3.5.x"])
def test_a_cluster_version_that_is_none_ends_the_process(driver: Driver, version: str) -> None:
    with pytest.raises(BadVersion):
        driver.apply(cluster_version_set={"ver": version})


@pytest.mark.parametrize(
    ("state", "row"),
    [
        (ConfState(), b'{"auto_leave":false}'),
        (ConfState(voters=(1, 2)), b'{"voters":[1,2],"auto_leave":false}'),
        (ConfState(voters=(1,), learners=(9,)), b'{"voters":[1],"learners":[9],"auto_leave":false}'),
        (
            ConfState((1,), (2,), (3,), (4,), True),
            b'{"voters":[1],"learners":[2],"voters_outgoing":[3],"learners_next":[4],"auto_leave":true}',
        ),
    ],
)
def test_a_conf_state_is_a_row_as_go_writes_it(state: ConfState, row: bytes) -> None:
    assert encode_conf_state(state) == row
    assert decode_conf_state(row) == state
