"""Who a node with an empty disk may be in a cluster that exists."""

import pytest
from kvorum.server.joining import DataLost, JoinRefused, identify, require_compatible
from kvorum.state.membership import Member

CLUSTER = {"a": ("http://a:1",), "b": ("http://b:1", "http://b:2")}
A = Member(1, ("http://a:1",), name="a", client_urls=("http://a:0",))
B = Member(2, ("http://b:2", "http://b:1"))


def test_a_member_is_known_by_its_peer_urls_in_any_order() -> None:
    assert identify(CLUSTER, "b", [A, B]) == 2


def test_a_bootstrap_voter_that_never_started_may_join() -> None:
    assert identify(CLUSTER, "b", [A, Member(2, ("http://b:1", "http://b:2"), name="b")]) == 2


def test_a_member_that_has_served_may_not_come_back_empty() -> None:
    with pytest.raises(DataLost, match=r"already served.*empty"):
        identify(CLUSTER, "a", [A, B])


def test_a_member_that_was_not_added_is_refused() -> None:
    with pytest.raises(JoinRefused, match="member count is unequal"):
        identify({**CLUSTER, "c": ("http://c:1",)}, "c", [A, B])


def test_urls_that_the_cluster_does_not_know_are_named() -> None:
    with pytest.raises(JoinRefused, match="unmatched member b with peer URLs http://other:1"):
        identify({"a": ("http://a:1",), "b": ("http://other:1",)}, "b", [A, B])


@pytest.mark.parametrize(("theirs", "fits"), [(None, True), ("3.0.0", True), ("3.5.0", True), ("3.6.0", False)])
def test_a_cluster_of_a_later_version_is_not_joined(theirs: str | None, fits: bool) -> None:
    if fits:
        require_compatible(theirs, "3.5.30")
    else:
        with pytest.raises(JoinRefused, match="incompatible"):
            require_compatible(theirs, "3.5.30")
