"""A patch merged over an object as `kubectl patch --type=strategic` does it. Pure.

Mappings are merged, null takes a field away, and a list is replaced, unless its type has a merge key: then items of the
same key are merged and new ones stand before those that the patch does not name. `$patch: replace` and `$patch: delete`
work on mappings and on items; other directives are for programs, and `api/overlay.py` refuses them. Neither argument is
changed. Source: apimachinery's strategicpatch; tests/compat compares with a real kubectl.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from kvorum_operator.api.overlay import DIRECTIVE, NOTHING_BELOW, MergedList

DELETED = object()


def merged(original: Mapping[str, Any], patch: Mapping[str, Any], lists: Mapping[str, MergedList]) -> dict[str, Any]:
    """lists: those among the fields of the two whose items are merged by a key."""
    match patch.get(DIRECTIVE):
        case "replace":
            return {key: copy.deepcopy(value) for key, value in patch.items() if key != DIRECTIVE}
        case "delete":
            return {}
    found = {key: copy.deepcopy(value) for key, value in original.items() if key not in patch}
    for key, value in patch.items():
        if value is None:
            continue
        before = original.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            found[key] = merged(before, value, NOTHING_BELOW)
        elif isinstance(before, list) and isinstance(value, list):
            found[key] = merged_list(before, value, lists[key]) if key in lists else copy.deepcopy(value)
        elif (plain := without_directives(value)) is not DELETED:
            found[key] = plain
    return {key: found[key] for key in (*(one for one in original if one in found), *found)}


def merged_list(original: Sequence[Any], patch: Sequence[Mapping[str, Any]], merge: MergedList) -> list[Any]:
    plain = [item for item in patch if DIRECTIVE not in item]
    if any(item.get(DIRECTIVE) == "replace" for item in patch):
        return copy.deepcopy(plain)
    gone = {item[merge.key] for item in patch if item.get(DIRECTIVE) == "delete"}
    kept = [item for item in original if item.get(merge.key) not in gone]
    by_key: dict[Any, Any] = {item.get(merge.key): item for item in kept}
    order = {key: place for place, key in enumerate(by_key)}
    for item in plain:
        key = item[merge.key]
        by_key[key] = merged(by_key[key], item, merge.below) if key in by_key else without_directives(item)
    named = list(dict.fromkeys(item[merge.key] for item in plain))
    others = [key for key in order if key not in set(named)]
    # Interleaved as kubectl does it: one that is not named goes first only where it stood before the next that is.
    placed: list[Any] = []
    while others and named:
        other_first = named[0] in order and order[others[0]] < order[named[0]]
        placed.append(others.pop(0) if other_first else named.pop(0))
    return [copy.deepcopy(by_key[key]) for key in (*placed, *others, *named)]


def without_directives(value: Any) -> Any:
    """A value that meets nothing to be merged with; DELETED if it is only a directive."""
    if isinstance(value, Mapping):
        if DIRECTIVE in value:
            return DELETED
        kept = {key: without_directives(one) for key, one in value.items() if one is not None}
        return {key: one for key, one in kept.items() if one is not DELETED}
    if isinstance(value, list):
        return [plain for one in value if (plain := without_directives(one)) is not DELETED]
    return value
