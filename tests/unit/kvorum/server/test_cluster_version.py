"""The rule by which the leader decides the cluster's version."""

import pytest
from kvorum.server.cluster_version import decide


@pytest.mark.parametrize(
    ("current", "claimed", "wanted"),
    [
        (None, {1: "3.5.30", 2: "3.5.16", 3: "3.5.30"}, "3.5.0"),
        (None, {1: "3.5.30", 2: "3.4.23"}, "3.4.0"),  # the lowest that all can speak
        (None, {1: "3.5.30", 2: None}, "3.0.0"),  # one cannot be asked: etcd begins with its minimum
        ("3.0.0", {1: "3.5.30", 2: None}, None),
        ("3.0.0", {1: "3.5.30", 2: "3.5.30"}, "3.5.0"),
        ("3.5.0", {1: "3.5.30", 2: "3.5.30"}, None),
        ("3.5.0", {1: "3.5.30", 2: "3.4.23"}, None),  # never down: the cluster speaks it already
        ("3.5.0", {1: "3.10.0", 2: "3.10.1"}, "3.10.0"),  # numbers, not texts
    ],
)
def test_version_rises_to_the_lowest_claimed(
    current: str | None, claimed: dict[int, str | None], wanted: str | None
) -> None:
    assert decide(current, claimed) == wanted
