"""The CustomResourceDefinition, generated from the models: `python -m kvorum_operator.api.crd FILE`.

A structural schema, as the API server wants it: no references, no titles, a type at every level. What the schema cannot
say about two fields at once is checked by the operator, which says so in status.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kvorum_operator.api.v1alpha1 import GROUP, KIND, NAME_CHARACTERS_MAX, PLURAL, VERSION, KVCluster, Spec, Status

# Keywords of pydantic's schema that a structural schema does not know, or that say nothing there.
DROPPED = frozenset({"title", "$defs", "const", "propertyNames"})

PRINTER_COLUMNS = (
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
    ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 0),
    ("Members", "integer", ".status.readyReplicas", 0),
    ("Wanted", "integer", ".spec.replicas", 0),
    ("Leader", "string", ".status.leader", 0),
    ("Engine", "string", ".spec.engine", 1),
    ("Next", "string", ".status.plan.next", 1),
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
    status["properties"]["conditions"].update({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]})
    status["properties"]["members"].update({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]})
    return {
        "type": "object",
        "description": KVCluster.__doc__,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
        "x-kubernetes-validations": [
            {
                "rule": f"size(self.metadata.name) <= {NAME_CHARACTERS_MAX}",
                "message": f"metadata.name must have at most {NAME_CHARACTERS_MAX} characters",
            }
        ],
    }


def model_schema(model: type[Spec] | type[Status]) -> dict[str, Any]:
    found = model.model_json_schema(by_alias=True, mode="validation")
    return structural(found, found.get("$defs", {}))


def structural(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """One node of a JSON schema without references and unions with null."""
    if "$ref" in node:
        target = definitions[node["$ref"].rpartition("/")[2]]
        return structural({**target, **{key: value for key, value in node.items() if key != "$ref"}}, definitions)
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
            # A mapping's own fields have their defaults; an empty list says no more than an absent one.
            if value or "properties" in node:
                made[key] = {}
        elif key == "required" and not value:
            continue
        else:
            made[key] = value
    return made


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
