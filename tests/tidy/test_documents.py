"""Documents name what exists, and numbers that stand in two places are equal."""

import re
import tomllib

from kvorum import __version__

from tests.tidy.sources import PACKAGES, REPOSITORY, files, name_of

DOCUMENTS = {path: path.read_text("utf-8") for path in files() if path.suffix == ".md"}
INVARIANTS = (REPOSITORY / "docs" / "invariants.md").read_text("utf-8")
RECORDS = sorted((REPOSITORY / "docs" / "adr").glob("[0-9]*.md"))


def test_links_between_documents_lead_somewhere() -> None:
    dead = [
        f"{name_of(path)}: {target}"
        for path, text in DOCUMENTS.items()
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[\w-]*)?\)", text)
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert dead == []


def test_targets_that_documents_name_are_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {target for text in DOCUMENTS.values() for target in re.findall(r"`make ([a-z0-9-]+)", text)}
    assert named - targets == set()
    assert {"help", "env", "run", "test", "sim", "bench", "lint", "fmt", "generate"} <= targets


def test_the_version_is_one() -> None:
    projects = [REPOSITORY / folder / "pyproject.toml" for folder in (".", "node-image", "operator")]
    assert {tomllib.loads(path.read_text("utf-8"))["project"]["version"] for path in projects} == {__version__}


def test_every_invariant_is_written_down_once_and_none_is_quoted_that_is_not() -> None:
    written = re.findall(r"^\*\*(I\d+)\.", INVARIANTS, re.MULTILINE)
    assert written == [f"I{number}" for number in range(1, 12)]
    quoted = {
        number
        for path in files()
        if path.is_relative_to(PACKAGES["kvorum_operator"]) and path.suffix == ".py"
        for number in re.findall(r"\bI\d+\b", path.read_text("utf-8"))
    }
    assert quoted - set(written) == set()


def test_every_decision_is_listed_and_has_its_parts() -> None:
    index = (REPOSITORY / "docs" / "adr" / "README.md").read_text("utf-8")
    parts = ("# ", "Accepted", "**Context.**", "**Decision.**", "**Rejected.**", "**What would change our mind.**")
    for record in RECORDS:
        text = record.read_text("utf-8")
        assert f"]({record.name})" in index
        assert [part for part in parts if part not in text] == [], record.name
        assert text.startswith(f"# {record.name[:4]}: ")
    assert len(RECORDS) == index.count("](0")


def test_changes_are_named_by_issue_and_kind() -> None:
    names = [path.name for path in files() if path.parent == REPOSITORY / "changes"]
    assert [name for name in names if not re.fullmatch(r"\d+\.(added|changed|fixed|security)\.md", name)] == []


def test_figures_are_written_by_what_measured_them() -> None:
    """docs/performance.md is written by `make bench` only, and says so in line one."""
    page = REPOSITORY / "docs" / "performance.md"
    assert "make bench" in page.read_text("utf-8").split("\n\n")[0]
