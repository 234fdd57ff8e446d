"""The plan, from text: testdata/*.txt holds situations and the operator's answers; `pytest --rewrite` rewrites them."""

from pathlib import Path

import pytest

from tests.unit.kvorum_operator.cluster.situations import Case, answer, read_cases, write_cases

TESTDATA = Path(__file__).parent / "testdata"


@pytest.mark.parametrize("path", sorted(TESTDATA.glob("*.txt")), ids=lambda path: path.stem)
def test_plan_answers_each_situation_as_written(path: Path, request: pytest.FixtureRequest) -> None:
    cases = read_cases(path)
    answered = [Case(one.title, one.question, answer(one.question)) for one in cases]
    if request.config.getoption("--rewrite"):
        write_cases(path, answered)
        return
    for case, got in zip(cases, answered, strict=True):
        assert got.answer == case.answer, f"{path.name}: {case.title}\n{case.question}"


def test_every_situation_has_its_reason_and_every_rule_its_file() -> None:
    files = {path.stem: read_cases(path) for path in TESTDATA.glob("*.txt")}
    assert set(files) >= {"sleep", "revive", "finish_change", "bootstrap", "repair", "migrate", "shrink", "grow"}
    assert "whole_cluster" in files
    for name, cases in files.items():
        assert all(case.title for case in cases), f"{name}: a case without a reason"
