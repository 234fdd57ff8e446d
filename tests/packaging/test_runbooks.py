"""Runbooks: a page for each reason and each alert, and none for what does not exist any more."""

import re

import pytest
import yaml
from kvorum_operator.api.reasons import Reason

from tests.packaging.helm import OPERATOR
from tests.tidy.sources import REPOSITORY

FOLDER = REPOSITORY / "docs" / "runbooks"
PAGES = {path.stem: path.read_text("utf-8") for path in FOLDER.glob("*.md") if path.stem != "README"}
INDEX = (FOLDER / "README.md").read_text("utf-8")
RULES = yaml.safe_load((OPERATOR / "files" / "rules.yaml").read_text("utf-8"))
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
NAMES = sorted({*map(str, Reason), *ALERTS})


def test_every_reason_and_every_alert_has_its_page_and_no_page_is_for_nothing() -> None:
    assert sorted(PAGES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_page_says_what_it_is_how_to_look_what_the_operator_does_and_what_a_person_does(name: str) -> None:
    page = PAGES[name]
    title, means, look, operator, person = page.strip().split("\n\n", 4)
    assert title == f"# {name}"
    assert means.endswith((".", ")"))
    assert re.fullmatch(r"```console\n(\$ \S.*\n)+```", look)
    assert operator.startswith("**The operator:** ")
    assert person.startswith("**You:** ")


def test_the_list_of_pages_is_complete() -> None:
    assert sorted(re.findall(r"^\| \[(\w+)\]\(\1\.md\)", INDEX, re.MULTILINE)) == NAMES


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_leads_to_its_own_page_and_says_how_bad_it_is(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["annotations"]["runbook_url"] == f"RUNBOOKS/{alert}.md"
    assert rule["annotations"]["summary"]
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["for"]
