"""docs/fields.md tells of every field, and truly where it has a meaning."""

from kvorum_operator.api import crd, overlay
from kvorum_operator.api.v1alpha1 import Spec

from tests.tidy import fields_page
from tests.tidy.sources import REPOSITORY

ROWS = [line for line in fields_page.page().splitlines() if line.startswith("| `spec.")]


def row(path: str) -> list[str]:
    (found,) = [line for line in ROWS if line.startswith(f"| `{path}`:")]
    return [cell.strip() for cell in found.strip("|").split(" | ")]


def test_every_field_has_its_row() -> None:
    named = {line.split("`")[1].split(".")[1].partition("[")[0] for line in ROWS}
    assert named == set(crd.schema()["properties"]["spec"]["properties"])
    assert len(named) == len(Spec.model_fields)
    assert all(len(row.split(" | ")) == 7 for row in ROWS)


def test_where_a_field_counts_is_said_for_each_platform_and_engine() -> None:
    assert row("spec.replicas")[3:] == ["yes"] * 4
    assert row("spec.engine")[3:] == ["fixed", "fixed", "yes", "yes"]
    assert row("spec.version")[3:] == ["yes", "yes", "none", "none"]
    assert row("spec.storage.className")[3:] == ["fixed", "fixed", "none", "none"]
    assert row("spec.pod.resources.requests")[3:] == ["yes", "yes", "none", "none"]


def test_defaults_and_bounds_are_those_of_the_schema() -> None:
    assert row("spec.replicas")[1:3] == ["`3`", "0 to 9"]
    assert row("spec.storage.size")[1] == "`8Gi`"
    assert "3 times settings.databaseQuota and 1Gi" in row("spec.storage.size")[2]
    assert row("spec.settings.electionTimeout")[2].endswith("at least 5 heartbeat intervals")
    assert row("spec.deletionPolicy")[1:3] == ["`Retain`", "`Retain`, `Delete`"]


def test_what_an_overlay_leaves_alone_is_told_in_full() -> None:
    text = (REPOSITORY / "docs" / "fields.md").read_text("utf-8")
    assert [key for key in (*overlay.OF_POD, *overlay.OF_MEMBER) if key not in text] == []
