"""What is drift, and what is only the API server's own way of writing an object down."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kvorum_operator.platforms.kubernetes.drift import amount, drift, part_of


@pytest.mark.parametrize(
    ("desired", "live"),
    [
        ({"a": 1}, {"a": 1, "b": 2}),  # a default, or somebody else's field
        ({"a": {}, "b": [], "c": "", "d": None, "e": {"f": {}}}, {}),  # what is empty is left out
        ({"resources": {"requests": {"cpu": "0.1", "memory": "1024Mi"}}},
         {"resources": {"requests": {"cpu": "100m", "memory": "1Gi"}}}),
        ({"emptyDir": {"sizeLimit": "1000M"}}, {"emptyDir": {"sizeLimit": "1G"}}),
        ({"limits": {"cpu": 2}}, {"limits": {"cpu": "2"}}),
        ({"env": [{"name": "A", "value": "1"}]}, {"env": [{"name": "B"}, {"name": "A", "value": "1"}]}),
        ({"volumeMounts": [{"mountPath": "/a", "name": "x"}, {"mountPath": "/b", "name": "x"}]},
         {"volumeMounts": [{"mountPath": "/b", "name": "x"}, {"mountPath": "/a", "name": "x", "readOnly": False}]}),
        ({"ports": [{"port": 1, "targetPort": "client"}]},
         {"ports": [{"port": 1, "targetPort": "client", "protocol": "TCP"}]}),
        ({"args": ["a", "b"]}, {"args": ["a", "b"]}),
        ({"tolerations": [{"operator": "Exists"}]}, {"tolerations": [{"operator": "Exists", "effect": ""}]}),
    ],
)  # fmt: skip
def test_what_the_api_server_and_others_add_or_write_otherwise_is_no_drift(desired: Any, live: Any) -> None:
    assert drift(desired, live) == ""


@pytest.mark.parametrize(
    ("desired", "live", "where"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 2}}, "a.b"),
        ({"a": {"b": 1}}, {"a": None}, "a"),
        ({"a": 1}, {}, "a"),
        ({"a": False}, {}, "a"),
        ({"a": True}, {"a": 1}, "a"),
        ({"a": "1Gi"}, {"a": "1024Mi"}, "a"),  # a text that only looks like a quantity
        ({"requests": {"storage": "1Gi"}}, {"requests": {"storage": "2Gi"}}, "requests.storage"),
        ({"args": ["a", "b"]}, {"args": ["b", "a"]}, "args[0]"),
        ({"args": ["a"]}, {"args": ["a", "b"]}, "args"),
        ({"env": [{"name": "A"}]}, {"env": [{"name": "B"}]}, "env[A]"),
        ({"env": [{"name": "A"}]}, {}, "env"),
        ({"env": [{"name": "A", "value": "1"}]}, {"env": [{"name": "A", "value": "2"}]}, "env[A].value"),
        ({"tolerations": [{"key": "a"}]}, {"tolerations": [{"key": "a"}, {"key": "b"}]}, "tolerations"),
        ({"minAvailable": 2}, {"minAvailable": "2"}, "minAvailable"),
    ],
)
def test_drift_is_named_by_its_path(desired: Any, live: Any, where: str) -> None:
    assert drift(desired, live) == where


@pytest.mark.parametrize(
    ("one", "other"),
    [("1Gi", "1024Mi"), ("0.5", "500m"), ("1e3", "1k"), (2, "2"), ("1.5Gi", "1536Mi"), ("12E6", "12M")],
)
def test_quantities_are_equal_by_their_amount(one: object, other: object) -> None:
    assert amount(one) == amount(other) is not None


@pytest.mark.parametrize("text", ["", "Gi", "one", "1Xi", None])
def test_what_is_no_quantity_has_no_amount(text: object) -> None:
    assert amount(text) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "a", "requests"]), inner),
    max_leaves=12,
)


@settings(max_examples=60)
@given(VALUES)
def test_whatever_is_desired_is_there_once_it_is_there(desired: Any) -> None:
    assert drift(desired, copy.deepcopy(desired)) == ""


@settings(max_examples=60)
@given(VALUES, VALUES)
def test_part_of_what_is_there_is_equal_exactly_while_that_stays_so(desired: Any, live: Any) -> None:
    part = part_of(desired, live)
    assert bool(drift(desired, part)) == bool(drift(desired, live))
    if isinstance(desired, dict) and isinstance(live, dict):
        assert part_of(desired, {**live, "another's": 1}) == part
