"""What charts/kvcluster takes: a JSON schema made from the CRD's, so that a value is a field of the spec or refused."""

import json
from collections.abc import Mapping
from typing import Any

from kvorum_operator.api import crd

# What Kubernetes' schema language has and JSON's has not, and defaults: the chart sets nothing by itself.
NOT_JSON_SCHEMA = ("default", "nullable")
OF_THE_CHART = {
    "fullnameOverride": {
        "type": "string",
        "maxLength": 52,
        "description": "The KVCluster's name; without it the release's.",
    },
    "labels": {"type": "object", "additionalProperties": {"type": "string"}, "description": "Of the KVCluster."},
    "annotations": {"type": "object", "additionalProperties": {"type": "string"}, "description": "Of the KVCluster."},
    "global": {"type": "object", "description": "What Helm hands down to a chart within a chart; not used."},
}


def text() -> str:
    schema = crd.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    strict = json_schema(schema)
    strict["properties"] |= OF_THE_CHART
    head = {
        "$comment": "Made by `make generate` out of the CRD. Do not edit.",
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of kvcluster",
    }
    return json.dumps(head | strict, indent=2) + "\n"


def json_schema(node: Mapping[str, Any]) -> dict[str, Any]:
    """The same schema for whoever knows no Kubernetes; strict, where the API server drops what it does not know."""
    made = {
        key: value for key, value in node.items() if key not in NOT_JSON_SCHEMA and not key.startswith("x-kubernetes-")
    }
    if "properties" in made:
        made["properties"] = {name: json_schema(child) for name, child in made["properties"].items()}
        if "x-kubernetes-preserve-unknown-fields" not in node:
            made["additionalProperties"] = False
    for key in ("items", "additionalProperties"):
        if isinstance(made.get(key), dict):
            made[key] = json_schema(made[key])
    return made
