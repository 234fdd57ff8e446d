"""The CustomResourceDefinition, generated from the models: `python -m kvorum_operator.api.crd FILE`.

A structural schema, as the API server wants it: no references, no titles, a type at every level. What a schema
has no words for are rules in CEL, which stand beside the models.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kvorum_operator.api.model import RULES, Rule, quoted
from kvorum_operator.api.v1alpha1 import (
    GROUP,
    KIND,
    NAME_CHARACTERS_MAX,
    NAME_MESSAGE,
    NAME_PATTERN,
    PEERS_SUFFIX,
    PLURAL,
    VERSION,
    KVCluster,
    Spec,
    Status,
)

# Keywords of pydantic's schema that a structural schema does not know, or that say nothing there.
DROPPED = frozenset({"title", "$defs", "const", "propertyNames"})

NAME_RULES = (
    Rule(
        f"size(self.metadata.name) <= {NAME_CHARACTERS_MAX}",
        f"metadata.name must have at most {NAME_CHARACTERS_MAX} characters: members are named after it",
    ),
    Rule(
        f"self.metadata.name.matches({quoted(NAME_PATTERN)})",
        "metadata.name must be lower case letters, digits and -, and begin with a letter: members are named after it",
    ),
    Rule(f"!self.metadata.name.endsWith('{PEERS_SUFFIX}')", f"metadata.name {NAME_MESSAGE}"),
)

PRINTER_COLUMNS = (
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
    ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 0),
    ("Members", "string", ".status.serving", 0),
    ("Leader", "string", ".status.leader", 0),
    ("Engine", "string", ".spec.engine", 1),
    ("Version", "string", ".status.version", 1),
    ("Next", "string", ".status.plan.next", 1),
    ("Because", "string", ".status.plan.because", 1),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)


def definition() -> dict[str, Any]:
    """The whole CRD as a document."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["kvc"],
                "categories": ["all"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": [column(*one) for one in PRINTER_COLUMNS],
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "schema": {"openAPIV3Schema": schema()},
                }
            ],
        },
    }


def column(name: str, kind: str, path: str, priority: int) -> dict[str, Any]:
    found = {"name": name, "type": kind, "jsonPath": path}
    return {**found, "priority": priority} if priority else found


def schema() -> dict[str, Any]:
    spec = model_schema(Spec)
    status = without_defaults(model_schema(Status))  # the operator writes what is there, the API server adds nothing
    # Until an operator has seen it nothing is known of it: kstatus takes what has no status at all for done.
    status["default"] = {"observedGeneration": -1}
    status["properties"]["conditions"].update({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]})
    status["properties"]["members"].update({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]})
    return {
        "type": "object",
        "description": KVCluster.__doc__,
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": {**spec, "default": default_of(spec)},  # as locally, where a document may have none
            "status": status,
        },
        RULES: [rule.document() for rule in NAME_RULES],
    }


def model_schema(model: type[Spec] | type[Status]) -> dict[str, Any]:
    found = model.model_json_schema(by_alias=True, mode="validation")
    return structural(found, found.get("$defs", {}))


def structural(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """One node of a JSON schema without references and unions with null."""
    if "$ref" in node:
        target = definitions[node["$ref"].rpartition("/")[2]]
        beside = {key: value for key, value in node.items() if key != "$ref"}
        rules = [*target.get(RULES, ()), *beside.get(RULES, ())]  # of the type, and of this field of the type
        return structural({**target, **beside, **({RULES: rules} if rules else {})}, definitions)
    if "anyOf" in node and "x-kubernetes-int-or-string" not in node:
        kinds = [kind for kind in node["anyOf"] if kind.get("type") != "null"]
        assert len(kinds) == 1, f"a union of {len(kinds)} types is not structural: {node}"
        rest = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
        return structural({**kinds[0], **rest}, definitions)
    made: dict[str, Any] = {}
    for key, value in node.items():
        if key in DROPPED:
            continue
        if key == "properties":
            made[key] = {name: structural(child, definitions) for name, child in value.items()}
        elif key == "items":
            made[key] = structural(value, definitions)
        elif key == "additionalProperties":
            if isinstance(value, dict):
                made[key] = structural(value, definitions)
            elif value:  # an object of anything; False is what every object is
                made["x-kubernetes-preserve-unknown-fields"] = True
        elif key == "default" and isinstance(value, dict | list):
            # In full: rules are checked against it before its own fields get theirs. What is empty says nothing.
            if default := worth_saying(value):
                made[key] = default
        elif key == "required" and not value:
            continue
        else:
            made[key] = value
    return made


def default_of(node: Mapping[str, Any]) -> dict[str, Any]:
    return {name: child["default"] for name, child in node["properties"].items() if "default" in child}


def worth_saying(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: worth_saying(one) for key, one in value.items()}
        return {key: one for key, one in kept.items() if one is not None and one not in ({}, [])}
    return value


def without_defaults(node: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            made[key] = {name: without_defaults(child) for name, child in value.items()}
        elif key == "items":
            made[key] = without_defaults(value)
        elif key != "default":
            made[key] = value
    return made


def text() -> str:
    head = "# Generated by: python -m kvorum_operator.api.crd crds/kvclusters.yaml\n"
    return head + yaml.safe_dump(definition(), sort_keys=False, width=120, allow_unicode=True)


def main() -> int:
    Path(sys.argv[1]).write_text(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
