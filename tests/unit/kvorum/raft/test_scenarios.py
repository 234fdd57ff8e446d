"""What the core does in each situation, as text (testdata/*.txt). `pytest --rewrite` writes it anew; read the diff."""

from pathlib import Path

import pytest

from tests.unit.kvorum.raft.scenario import Scenario, blocks

FILES = sorted((Path(__file__).parent / "testdata").glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_member_answers_as_written(path: Path, request: pytest.FixtureRequest) -> None:
    scenario = Scenario()
    expected = list(blocks(path))
    answers = [scenario.answer(block) for block in expected]
    if request.config.getoption("--rewrite"):
        for block, answer in zip(expected, answers, strict=True):
            block.seen = answer
        path.write_text("\n".join(block.text() for block in expected))
    for block, answer in zip(expected, answers, strict=True):
        assert answer == block.seen, "\n".join([*block.comments, *block.happens])


def test_there_are_scenarios() -> None:
    assert len(FILES) >= 10
