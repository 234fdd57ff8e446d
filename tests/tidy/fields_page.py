"""docs/fields.md, out of the CRD: each field of a KVCluster's spec, where it counts, its default and bounds."""

from collections.abc import Iterator, Mapping
from typing import Any

from kvorum_operator.api import crd, overlay
from kvorum_operator.api.model import RULES, field_name
from kvorum_operator.api.v1alpha1 import WITHOUT_MEANING_LOCALLY

HEAD = """<!-- Made by `make generate` out of operator/kvorum_operator/api. Do not edit. -->
# Fields of a KVCluster

The same document on Kubernetes and on a single machine (`kvorum-operator local`), for members of either engine. What is
wrong is refused: on Kubernetes by the API server, which knows the same rules, and locally when the document is read.

- *yes*: it counts, and a change of it is carried out.
- *fixed*: it counts, and cannot be changed afterwards.
- *none*: it is taken and has no meaning there. `kvorum-operator local` names those that are set once, at the start.

| field | default | must be | Kubernetes, kvorum | Kubernetes, etcd | locally, kvorum | locally, etcd |
| --- | --- | --- | --- | --- | --- | --- |
"""
TAIL = """
## What an overlay leaves alone

`spec.pod.overlay` is merged over the members' pod as `kubectl patch pod --type=strategic` would merge it: mappings are
merged, lists of containers, volumes, variables, mounts, ports and the like by their keys, other lists are replaced,
null takes a field away, and so do `$patch: delete` and `$patch: replace`. (`kubectl apply` takes a null for an order to
itself when it changes what is there already. `topologySpreadConstraints: [{$patch: replace}]` empties a list too.)

Refused, because the operator relies on them:

"""
FIXED = "oldSelf"  # a rule that compares with what was there before
WITHOUT_MEANING = frozenset(f"spec.{field_name(name)}" for name in WITHOUT_MEANING_LOCALLY)


def page() -> str:
    spec = crd.schema()["properties"]["spec"]
    refused = [
        *(f"- `spec.{key}`" for key in overlay.OF_POD),
        f"- of the container `{overlay.MEMBER}`: {', '.join(map(instead, overlay.OF_MEMBER))}; and of its "
        + ", of its ".join(
            f"{key} {', '.join(f'`{one}`' for one in sorted(own, key=str))}"
            for key, own in overlay.OWN_ITEMS_OF_MEMBER.items()
        ),
        f"- the volumes {', '.join(f'`{one}`' for one in sorted(overlay.OWN_VOLUMES))}",
        f"- an init container named `{overlay.MEMBER}`",
        "- `metadata`: there is `spec.pod.metadata`",
    ]
    return HEAD + "".join(rows("spec", spec)) + TAIL + "\n".join(refused) + "\n"


def rows(path: str, node: Mapping[str, Any]) -> Iterator[str]:
    """A row for each field below; of an object with fields only those have rows, unless it holds anything."""
    told: dict[str, list[dict[str, str]]] = {}
    for rule in node.get(RULES, ()):
        told.setdefault(rule.get("fieldPath", "").removeprefix("."), []).append(rule)
    for name, child in node["properties"].items():
        rules = [*child.get(RULES, ()), *told.get(name, ())]
        below = f"{path}.{name}"
        if "properties" in child and below != "spec.pod.overlay":
            # What an object says of a field in it (storage.size) goes down to it.
            inner = [
                {**rule, "fieldPath": key.partition(".")[2]}
                for key, given in told.items()
                if key.startswith(f"{name}.")
                for rule in given
            ]
            yield from rows(below, {**child, RULES: [*child.get(RULES, ()), *inner]})
        elif child.get("type") == "array" and "properties" in child.get("items", {}):
            yield row(below, child, rules)
            yield from rows(f"{below}[]", child["items"])
        else:
            yield row(below, child, rules)


def row(path: str, node: Mapping[str, Any], rules: list[dict[str, str]]) -> str:
    fixed = any(FIXED in rule["rule"] for rule in rules)
    kubernetes = "fixed" if fixed else "yes"
    locally = "none" if ".".join(path.split(".")[:2]) in WITHOUT_MEANING else "yes"
    default = f"`{plain(node['default'])}`" if "default" in node else ""
    cells = [f"`{path}`: {node['description']}", default, bounds(node, rules), *[kubernetes] * 2, *[locally] * 2]
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |\n"


def plain(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def bounds(node: Mapping[str, Any], rules: list[dict[str, str]]) -> str:
    """What the schema and its rules demand, once."""
    found = [", ".join(f"`{one}`" for one in node["enum"])] if "enum" in node else []
    if "minimum" in node:
        found.append(f"{node['minimum']} to {node['maximum']}")
    found += [rule["message"].removeprefix("must be ") for rule in rules if FIXED not in rule["rule"]]
    return "; ".join(dict.fromkeys(found))


def instead(key: str) -> str:
    way = overlay.OF_MEMBER[key].instead
    return f"`{key}` ({way})" if way else f"`{key}`"
