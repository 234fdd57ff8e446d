"""Whether an object is as it was applied: what is desired must be found in what is there.

Pure, and about objects of any kind. The API server adds defaults, writes quantities its own way and leaves out what is
empty; others add fields and items of their own: none of these is drift. What was desired once and is no longer cannot
be seen here: apply.py keeps the mark of what was applied for that.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

# Lists whose items have a name, by which server-side apply merges them. Others belong to whoever wrote them as a whole.
KEYS = ("name", "mountPath", "containerPort", "port", "uid", "ip", "topologyKey")
QUANTITIES = frozenset({"requests", "limits", "capacity"})
QUANTITY = frozenset({"sizeLimit", "storage"})
SUFFIXES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


def drift(desired: Any, live: Any, path: str = "", *, quantity: bool = False) -> str:
    """The path of the first field that is not as desired; empty when all are."""
    if isinstance(desired, Mapping):
        return drift_of_mapping(desired, live, path, quantity)
    if isinstance(desired, list):
        return drift_of_list(desired, live, path)
    same = desired == live and isinstance(desired, bool) == isinstance(live, bool)
    if same or (quantity and amount(desired) is not None and amount(desired) == amount(live)):
        return ""
    return path or "."


def drift_of_mapping(desired: Mapping[str, Any], live: Any, path: str, quantity: bool) -> str:
    if not isinstance(live, Mapping):
        return "" if live is None and is_empty(desired) else path or "."
    for key, wanted in desired.items():
        here = f"{path}.{key}" if path else key
        found = live.get(key)
        if found is None and is_empty(wanted):
            continue
        if where := drift(wanted, found, here, quantity=quantity or key in QUANTITIES or key in QUANTITY):
            return where
    return ""


def drift_of_list(desired: list[Any], live: Any, path: str) -> str:
    if not isinstance(live, list):
        return "" if live is None and not desired else path
    key = key_of(desired)
    if key is None:
        if len(desired) != len(live):
            return path
        pairs = [(str(index), *pair) for index, pair in enumerate(zip(desired, live, strict=True))]
    else:
        found = named(live, key)
        pairs = [(str(one[key]), one, found.get(one[key])) for one in desired]
    for which, wanted, there in pairs:
        if where := drift(wanted, there, f"{path}[{which}]"):
            return where
    return ""


def key_of(items: list[Any]) -> str | None:
    """By which field items are told apart; None where there is none, as in a list of texts."""
    for key in KEYS if items else ():
        if len(named(items, key)) == len(items):
            return key
    return None


def named(items: list[Any], key: str) -> dict[str | int, Mapping[str, Any]]:
    """Those items that have a name there."""
    return {one[key]: one for one in items if isinstance(one, Mapping) and isinstance(one.get(key), str | int)}


def is_empty(value: Any) -> bool:
    """What the API server leaves out as if it had not been said."""
    if isinstance(value, Mapping):
        return all(is_empty(one) for one in value.values())
    return value is None or value in ("", [])


def amount(value: Any) -> Decimal | None:
    """Of a Kubernetes quantity: 1Gi and 1024Mi are one; None for what is none."""
    text = str(value)
    for suffix, power in BINARY.items():
        if text.endswith(suffix):
            return number(text.removesuffix(suffix), Decimal(2) ** power)
    suffix = text[-1:] if text[-1:] in SUFFIXES else ""
    return number(text.removesuffix(suffix), Decimal(10) ** SUFFIXES[suffix])


def number(text: str, unit: Decimal) -> Decimal | None:
    try:
        return Decimal(text) * unit
    except ArithmeticError:
        return None


def part_of(desired: Any, live: Any) -> Any:
    """What is there of the fields that are desired, and nothing else."""
    if isinstance(desired, Mapping) and isinstance(live, Mapping):
        return {key: part_of(wanted, live.get(key)) for key, wanted in desired.items()}
    if isinstance(desired, list) and isinstance(live, list) and (key := key_of(desired)) is not None:
        found = named(live, key)
        return [part_of(one, found.get(one[key])) for one in desired]
    return live
