"""Strategic merges, by their properties; against kubectl they are held in tests/compat/test_strategic_merge.py."""

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from kvorum_operator.api.overlay import MERGED_LISTS
from kvorum_operator.objects.strategic_merge import merged

names = st.sampled_from("abcd")
leaves = st.one_of(st.integers(0, 3), names)


def named(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.dictionaries(names, st.fixed_dictionaries({}, optional=fields), max_size=3).map(
        lambda found: [{"name": name, **content} for name, content in found.items()]
    )


containers = named(image=leaves, env=named(value=leaves), args=st.lists(leaves, max_size=2))
specs = st.fixed_dictionaries(
    {},
    optional={
        "containers": containers,
        "nodeSelector": st.dictionaries(names, leaves, min_size=1),
        "tolerations": st.lists(leaves, max_size=2),
        "hostname": leaves,
    },
)


def merge(original: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    return merged(original, patch, MERGED_LISTS)


def by_name(items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in items}


@settings(max_examples=60)
@given(specs)
def test_nothing_over_a_pod_and_a_pod_over_nothing_are_the_pod(pod: dict[str, Any]) -> None:
    assert merge(pod, {}) == pod
    assert merge({}, pod) == pod
    assert merge(pod, pod) == pod


@settings(max_examples=60)
@given(specs, specs)
def test_merging_twice_is_merging_once_and_changes_neither(pod: dict[str, Any], patch: dict[str, Any]) -> None:
    before = copy.deepcopy((pod, patch))
    once = merge(pod, patch)
    assert merge(once, patch) == once
    assert (pod, patch) == before


@settings(max_examples=60)
@given(specs, specs)
def test_what_the_patch_does_not_name_stays(pod: dict[str, Any], patch: dict[str, Any]) -> None:
    found = merge(pod, patch)
    assert {key: found[key] for key in pod if key not in patch} == {
        key: value for key, value in pod.items() if key not in patch
    }
    ours, theirs, both = (by_name(one.get("containers", [])) for one in (pod, patch, found))
    assert set(both) == set(ours) | set(theirs)
    assert {name: both[name] for name in set(ours) - set(theirs)} == {
        name: ours[name] for name in set(ours) - set(theirs)
    }


def test_result_shares_nothing_with_what_it_was_made_of() -> None:
    pod = {"nodeSelector": {"a": "b"}, "containers": [{"name": "a", "env": [{"name": "b"}]}]}
    patch = {"affinity": {"a": []}, "containers": [{"name": "c", "env": [{"name": "d"}]}]}
    found = merge(pod, patch)
    found["nodeSelector"]["a"] = found["affinity"]["a"] = "changed"
    for one in found["containers"]:
        one["env"].clear()
    assert pod == {"nodeSelector": {"a": "b"}, "containers": [{"name": "a", "env": [{"name": "b"}]}]}
    assert patch == {"affinity": {"a": []}, "containers": [{"name": "c", "env": [{"name": "d"}]}]}


def test_null_and_directives_take_away() -> None:
    pod = {"hostname": "a", "nodeSelector": {"a": "b"}, "volumes": [{"name": "a"}, {"name": "b"}]}
    assert merge(pod, {"hostname": None}) == {key: value for key, value in pod.items() if key != "hostname"}
    assert merge(pod, {"nodeSelector": {"$patch": "replace", "c": "d"}})["nodeSelector"] == {"c": "d"}
    assert merge(pod, {"nodeSelector": {"$patch": "delete"}})["nodeSelector"] == {}
    assert merge(pod, {"volumes": [{"name": "a", "$patch": "delete"}]})["volumes"] == [{"name": "b"}]
    assert merge(pod, {"volumes": [{"$patch": "replace"}, {"name": "c"}]})["volumes"] == [{"name": "c"}]
