"""The command that a failure prints, as the Makefile passes it on."""

import pytest

from tests.sim.run import main


def test_a_seed_is_replayed_to_the_same_counts(capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for _ in range(2):
        assert main(["--seed", "7", "--steps", "1000"]) == 0
        first, *counts, last = capsys.readouterr().out.splitlines()
        assert first == "seed 7, 1000 steps"
        assert last.startswith("seed 7: all well")
        printed.append(counts)
    assert printed[0] == printed[1]
    assert len(printed[0]) > 20


def test_without_a_seed_one_is_drawn_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--steps", "300"]) == 0
    assert capsys.readouterr().out.startswith("seed ")
