"""The CRD: structural, in step with the models, and what kubectl shows is there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from kvorum_operator.api import crd
from kvorum_operator.api.model import field_name
from kvorum_operator.api.v1alpha1 import Settings, Spec, Status

FILE = Path(__file__).parents[4] / "crds" / "kvclusters.yaml"


def version() -> dict[str, Any]:
    found: dict[str, Any] = crd.definition()["spec"]["versions"][0]
    return found


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


def at(schema: dict[str, Any], *path: str) -> dict[str, Any]:
    for name in path:
        schema = schema["properties"][name]
    return schema


def test_checked_in_file_is_what_the_models_make() -> None:
    assert FILE.read_text() == crd.text(), "run: python -m kvorum_operator.api.crd crds/kvclusters.yaml"
    assert yaml.safe_load(FILE.read_text())["metadata"]["name"] == "kvclusters.kvorum.dev"


def test_schema_is_structural() -> None:
    for path, node in nodes(version()["schema"]["openAPIV3Schema"]):
        assert "type" in node or node.get("x-kubernetes-int-or-string"), f"{path} has no type"
        assert not {"$ref", "title", "oneOf", "const"} & set(node), path
        assert not isinstance(node.get("additionalProperties"), bool), path


def test_every_field_of_the_specification_is_explained_and_has_its_default() -> None:
    schema = version()["schema"]["openAPIV3Schema"]
    for path, node in nodes(at(schema, "spec")):
        if path.endswith("[]"):
            continue  # of a list kubectl explains the list
        assert node.get("description"), f"kubectl explain says nothing about spec{path}"
    assert at(schema, "spec", "replicas")["default"] == Spec().replicas
    assert at(schema, "spec", "settings", "databaseQuota")["default"] == str(Settings().database_quota)
    assert set(at(schema, "spec")["properties"]) == {field_name(name) for name in Spec.model_fields}
    assert set(at(schema, "status")["properties"]) == set(Status().model_dump(by_alias=True))


def test_status_gets_no_default_but_that_nobody_has_seen_it() -> None:
    """Without a status kstatus, and with it Helm's --wait and Flux, would take what was just made for done."""
    found = {
        path: node["default"]
        for path, node in nodes(at(version()["schema"]["openAPIV3Schema"], "status"))
        if "default" in node
    }
    assert list(found.values()) == [{"observedGeneration": -1}]


def test_nothing_in_the_schema_is_empty() -> None:
    """The API server drops it: kubectl, Helm and kustomize, each applying the same CRD, would conflict."""
    assert [path for path, node in nodes(version()["schema"]["openAPIV3Schema"]) if node.get("properties") == {}] == []


def test_cluster_can_be_scaled_and_its_status_is_its_own() -> None:
    scale = version()["subresources"]["scale"]
    assert scale["specReplicasPath"] == ".spec.replicas"
    assert scale["labelSelectorPath"] == ".status.selector"
    assert version()["subresources"]["status"] == {}


def test_columns_say_whether_it_is_well_and_what_it_is_doing() -> None:
    columns = version()["additionalPrinterColumns"]
    assert [one["name"] for one in columns if "priority" not in one] == ["Ready", "Reason", "Members", "Leader", "Age"]
    assert [one["name"] for one in columns if "priority" in one] == ["Engine", "Version", "Next", "Because"]
    status = set(Status().model_dump(by_alias=True))
    assert {
        one["jsonPath"].split(".")[2].partition("[")[0] for one in columns if ".status" in one["jsonPath"]
    } <= status


def test_rules_in_cel_say_what_to_do() -> None:
    """That they are CEL, are within its cost, and refuse what they should: tests/kubernetes/test_core_admission.py."""
    messages = [
        rule["message"]
        for _, node in nodes(version()["schema"]["openAPIV3Schema"])
        for rule in node.get("x-kubernetes-validations", ())
    ]
    assert len(messages) > 30
    assert [one for one in messages if not re.search(r"\b(must|cannot be changed)\b", one)] == []
