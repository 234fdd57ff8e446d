"""Bare v2 requests: told apart from v3 ones, and the two of them that matter."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvorum.etcdpb.internal_pb2 import InternalRaftRequest, RequestHeader, V2Request
from kvorum.raft.message import EntryType
from kvorum.state.dict_store import DictStore
from kvorum.state.membership import (
    Member,
    UnknownMember,
    add_change,
    promote_change,
    remove_change,
    update_change,
)
from kvorum.state.v2_error import KEY_NOT_FOUND, NODE_EXISTS, NOT_DIRECTORY, TEST_FAILED
from kvorum.state.v2_request import BadV2Request, is_v2_request, publish_request, put_request

from tests.unit.kvorum.state.driver import TESTDATA, Driver, captured_entries, new_machine
from tests.unit.kvorum.state.requests import requests

MEMBER = Member(0xABC, ("http://127.0.0.1:2380",))


@pytest.fixture
def driver() -> Driver:
    driver = Driver()
    driver.change(add_change(MEMBER, 1))
    return driver


@pytest.mark.parametrize("name", ["life-wal.jsonl", "snapshot-wal.jsonl"])
def test_captured_entries_are_told_apart(name: str) -> None:
    kinds = {}
    for line in (TESTDATA / name).read_text().splitlines():
        record = json.loads(line)
        if record["type"] == "entry":
            kinds[record["index"]] = record["payload_kind"]
    normal = [entry for entry in captured_entries(name) if entry.type == EntryType.NORMAL and entry.data]
    assert sum(is_v2_request(entry.data) for entry in normal) > 3
    for entry in normal:
        assert is_v2_request(entry.data) == (kinds[entry.index] == "Request"), entry


@given(requests, st.integers(0, 2**64 - 1), st.booleans())
def test_no_v3_request_is_taken_for_a_v2_one(request: tuple[str, object], request_id: int, in_front: bool) -> None:
    name, body = request
    envelope = InternalRaftRequest(header=RequestHeader(ID=request_id), **{name: body})  # type: ignore[arg-type]  # its field
    if in_front:
        envelope.ID = request_id
    assert not is_v2_request(envelope.SerializeToString())


@given(st.sampled_from(["PUT", "POST", "DELETE", "QGET", "SYNC"]), st.binary(max_size=20), st.integers(0, 2**64 - 1))
def test_every_v2_request_is_known_by_its_head(method: str, path: bytes, request_id: int) -> None:
    request = V2Request(ID=request_id, Method=method, Path=path, Val=b"x", Dir=False)
    data = request.SerializeToString()
    assert is_v2_request(data)
    assert not is_v2_request(data[:1])
    wrapped = InternalRaftRequest(v2=V2Request(ID=1, Method=method), header=RequestHeader(ID=2)).SerializeToString()
    assert not is_v2_request(wrapped), "wrapped in a v3 request it is no bare one"


@given(st.binary(max_size=24))
def test_no_bytes_trip_the_question(data: bytes) -> None:
    assert isinstance(is_v2_request(data), bool)
    assert isinstance(is_v2_request(b"\x08" + data), bool)


def test_what_we_publish_has_the_bytes_of_etcd() -> None:
    entries = {entry.index: entry.data for entry in captured_entries("life-wal.jsonl")}
    assert publish_request(0xB0046E73A70A4081, "n3", ["http://127.0.0.1:24120"], 0x4081A206197D8D01) == entries[5]
    assert put_request("/0/version", "3.5.0", 0x4081A206197D8D02) == entries[8]


def test_a_member_publishes_its_name_and_client_urls(driver: Driver) -> None:
    outcome = driver.apply_data(publish_request(0xABC, "n1", ["http://127.0.0.1:2379"], 77))
    assert (outcome.request_id, outcome.revision) == (77, 1)
    member = driver.machine.membership.find(0xABC)
    assert member is not None
    assert (member.name, member.client_urls, member.peer_urls) == ("n1", ("http://127.0.0.1:2379",), MEMBER.peer_urls)


def test_both_newer_forms_do_the_same(driver: Driver) -> None:
    driver.apply(
        cluster_member_attr_set={"member_ID": 0xABC, "member_attributes": {"name": "n1", "client_urls": ["u"]}}
    )
    driver.apply(cluster_version_set={"ver": "3.5.0"})
    one = (driver.machine.membership.members, driver.machine.membership.cluster_version)
    other = Driver()
    other.change(add_change(MEMBER, 1))
    other.apply_data(publish_request(0xABC, "n1", ["u"], 1))
    other.apply(v2=V2Request.FromString(put_request("/0/version", "3.5.0", 2)))
    assert one == (other.machine.membership.members, other.machine.membership.cluster_version)


@pytest.mark.parametrize(
    "request_",
    [
        V2Request(ID=5, Method="PUT", Path=b"/1/foo", Val=b"bar"),
        V2Request(ID=5, Method="PUT", Path=b"/0/version", Val=b"3.4.0", PrevExist=False),
        V2Request(ID=5, Method="PUT", Path=b"/0/version", Val=b"3.4.0", PrevValue=b"3.5.0"),
        V2Request(ID=5, Method="PUT", Path=b"/0/members/abc/attributes", Val=b'{"name":"x"}', PrevIndex=4),
        V2Request(ID=5, Method="POST", Path=b"/0/members/abc/attributes", Val=b'{"name":"x"}'),
        V2Request(ID=5, Method="DELETE", Path=b"/0/version"),
        V2Request(ID=5, Method="QGET", Path=b"/0/version"),
        V2Request(ID=5, Method="SYNC", Time=1_700_000_000),
    ],
)
def test_other_v2_requests_move_nothing(driver: Driver, request_: V2Request) -> None:
    outcome = driver.apply_data(request_.SerializeToString())
    assert (outcome.request_id, outcome.revision, outcome.refusal) == (5, 1, None)
    assert driver.machine.membership.cluster_version is None
    assert driver.machine.membership.members == [MEMBER]


def test_changes_of_members_take_indexes_as_in_etcd(driver: Driver) -> None:
    """Compared with a real one in tests/compat/test_v2.py."""
    v2, new = driver.machine.v2, Member(0xDEF, ("http://127.0.0.1:9",), is_learner=True)

    def told() -> list[tuple[str, str]]:
        return [(change.event.action, change.event.node.key) for change in v2.take_changes()]

    assert told() == [("create", "/0/members/abc/raftAttributes")]
    driver.change(add_change(new, 2))
    driver.apply_data(publish_request(new.id, "n2", [], 3))
    driver.change(promote_change(new.id, 4))
    driver.change(update_change(new.id, ["http://127.0.0.1:8"], 5))
    assert told() == [
        ("create", "/0/members/def/raftAttributes"),
        ("set", "/0/members/def/attributes"),
        ("update", "/0/members/def/raftAttributes"),
        ("update", "/0/members/def/raftAttributes"),
    ]
    attributes = v2.get("/0/members/def/raftAttributes").node.value
    assert attributes == '{"peerURLs":["http://127.0.0.1:8"]}'
    driver.change(remove_change(new.id, 6))
    driver.change(remove_change(new.id, 7))
    driver.apply_data(publish_request(new.id, "n2", [], 8))
    assert told() == [("delete", "/0/members/def"), ("create", "/0/removed_members/def")], "and nothing of the refused"
    driver.apply_data(put_request("/0/version", "3.5.0", 9))
    assert told() == [("set", "/0/version")]
    assert v2.index == 8


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"Method": "PUT", "Path": b"/1/new"}, "set"),
        ({"Method": "PUT", "Path": b"/1/old"}, "set"),
        ({"Method": "PUT", "Path": b"/1/new", "PrevExist": False}, "create"),
        ({"Method": "PUT", "Path": b"/1/old", "PrevExist": False}, NODE_EXISTS),
        ({"Method": "PUT", "Path": b"/1/old", "PrevExist": False, "PrevIndex": 2}, NODE_EXISTS),
        ({"Method": "PUT", "Path": b"/1/old", "PrevExist": True}, "update"),
        ({"Method": "PUT", "Path": b"/1/new", "PrevExist": True}, KEY_NOT_FOUND),
        ({"Method": "PUT", "Path": b"/1/old", "PrevExist": True, "PrevValue": b"x"}, "compareAndSwap"),
        ({"Method": "PUT", "Path": b"/1/old", "PrevIndex": 2}, "compareAndSwap"),
        ({"Method": "PUT", "Path": b"/1/old", "PrevIndex": 3}, TEST_FAILED),
        ({"Method": "POST", "Path": b"/1/old"}, NOT_DIRECTORY),
        ({"Method": "POST", "Path": b"/1/queue"}, "create"),
        ({"Method": "DELETE", "Path": b"/1/old"}, "delete"),
        ({"Method": "DELETE", "Path": b"/1/old", "PrevValue": b"x"}, "compareAndDelete"),
        ({"Method": "DELETE", "Path": b"/1/old", "PrevIndex": 9}, TEST_FAILED),
        ({"Method": "QGET", "Path": b"/1/old"}, "get"),
        ({"Method": "SYNC", "Time": 1}, None),
    ],
)
def test_what_is_asked_for_is_done(driver: Driver, fields: dict[str, Any], told: str | int | None) -> None:
    driver.apply_data(V2Request(ID=1, Method="PUT", Path=b"/1/old", Val=b"x").SerializeToString())
    driver.apply_data(V2Request(ID=7, **fields).SerializeToString())
    event, error, index = driver.machine.v2_applied
    assert (event.action if event else error and error.code) == told
    assert index == (3 if event and event.action != "get" else 2)


def test_a_removed_member_may_still_publish_and_an_unknown_one_may_not() -> None:
    driver = Driver(new_machine(DictStore()))
    driver.machine.membership.removed.add(0xABC)
    driver.apply_data(publish_request(0xABC, "n1", [], 1))
    assert driver.machine.membership.members == []
    with pytest.raises(UnknownMember, match="member def"):
        driver.apply_data(publish_request(0xDEF, "n1", [], 2))


@pytest.mark.parametrize(
    "request_",
    [
        V2Request(Method="PUT", ID=1, Path=b"/0/members/abc/attributes", Val=b"no json"),
        V2Request(Method="PUT", ID=1, Path=b"/0/members/abc/attributes", Val=b"[]"),
        V2Request(Method="PUT", ID=1, Path=b"/0/members/abc/attributes/more", Val=b"{}"),
    ],
)
def test_a_write_that_etcd_dies_of_ends_this_process_too(driver: Driver, request_: V2Request) -> None:
    with pytest.raises(BadV2Request):
        driver.apply_data(request_.SerializeToString())
