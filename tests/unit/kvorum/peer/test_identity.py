"""Ids, versions and headers: what a member says of itself, and whom it takes for a member of its cluster."""

import pytest
from kvorum.peer.identity import Identity, parse_hex_id, version_pair
from kvorum.state.membership import hex_id

OURS = Identity(0x00A, 0x0BC, ("http://a:2380", "http://b:2380"), "3.5.30")
GOOD = {"x-server-version": "3.5.16", "x-min-cluster-version": "3.0.0", "x-etcd-cluster-id": "bc"}


def test_headers_are_those_of_etcd_with_ids_in_short_lower_case_hex() -> None:
    assert dict(OURS.headers()) == {
        "X-Etcd-Cluster-Id": "bc",
        "X-Server-From": "a",
        "X-Server-Version": "3.5.30",
        "X-Min-Cluster-Version": "3.0.0",
        "X-Peerurls": "http://a:2380,http://b:2380",
    }


@pytest.mark.parametrize(("number", "text"), [(0xF17F1B424CD6018D, "f17f1b424cd6018d"), (0x0123, "123"), (1, "1")])
def test_ids_go_both_ways(number: int, text: str) -> None:
    assert hex_id(number) == text
    assert parse_hex_id(text) == parse_hex_id(text.upper()) == number


@pytest.mark.parametrize("text", ["", "n1", "0x1", "-1", " 1", "1 ", "12345678901234567", "1_0", "١"])
def test_what_is_no_id_is_none(text: str) -> None:
    assert parse_hex_id(text) is None


@pytest.mark.parametrize(
    ("changed", "objection"),
    [
        ({}, None),
        ({"x-server-version": "3.0.0"}, None),
        ({"x-server-version": "3.6.1"}, None),
        ({"x-server-version": "4.0.0"}, None),
        ({"x-server-version": "3.5.30-pre"}, None),
        ({"x-server-version": "2.3.8"}, "incompatible version"),
        ({"x-server-version": None}, "incompatible version"),
        ({"x-server-version": "3.5"}, "incompatible version"),
        ({"x-min-cluster-version": "3.5.0"}, None),
        ({"x-min-cluster-version": None}, None),
        ({"x-min-cluster-version": "3.6.0"}, "incompatible version"),
        ({"x-etcd-cluster-id": "bd"}, "cluster ID mismatch"),
        ({"x-etcd-cluster-id": "BC"}, "cluster ID mismatch"),
        ({"x-etcd-cluster-id": "0bc"}, "cluster ID mismatch"),
        ({"x-etcd-cluster-id": None}, "cluster ID mismatch"),
        ({"x-etcd-cluster-id": "bd", "x-server-version": "2.0.0"}, "incompatible version"),
    ],
)
def test_a_sender_is_judged_by_its_versions_and_then_its_cluster(
    changed: dict[str, str | None], objection: str | None
) -> None:
    headers = {name: value for name, value in {**GOOD, **changed}.items() if value is not None}
    assert OURS.objection(headers) == objection


@pytest.mark.parametrize(
    ("version", "taken"),
    [
        ("3.5.30", True),
        ("3.4.0", True),
        ("3.6.0", True),
        ("2.1.0", True),
        ("2.0.9", False),
        ("abc", False),
        (None, False),
    ],
)
def test_streams_are_read_from_members_that_have_our_codecs(version: str | None, taken: bool) -> None:
    headers = {} if version is None else {"x-server-version": version}
    assert OURS.may_stream_from(headers) is taken


def test_version_pairs() -> None:
    assert version_pair("3.5.30") == (3, 5)
    assert version_pair("3.10.0-rc.1+git") == (3, 10)
    for text in ("3.5", "3", "", "v3.5.0", "3.5.x", "3.05.1", "3.5.1.2"):
        assert version_pair(text) is None
