"""The command: what it prints and how it ends."""

from pathlib import Path

import pytest
from kvorum.raft.replay.__main__ import main

EQUAL = "vote cfg=(1) votes=(y)\n----\nVoteWon\n"


def test_equal_files_end_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "deeper").mkdir()
    for path in (tmp_path / "a.txt", tmp_path / "deeper" / "b.txt"):
        path.write_text(EQUAL)
    assert main([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed == f"{tmp_path}/a.txt: equal\n{tmp_path}/deeper/b.txt: equal\n2 files\n"


def test_a_difference_is_shown_and_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("# one\n" + EQUAL.replace("Won", "Lost"))
    (tmp_path / "b.txt").write_text(EQUAL)
    assert main([str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert f"{tmp_path}/a.txt:2: vote prints something else" in printed
    assert "-VoteLost\n+VoteWon\n" in printed
    assert f"{tmp_path}/b.txt: equal" in printed


def test_interaction_files_are_among_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("log-level none\n----\nok\n\nadd-nodes 1 voters=(1) index=2\n----\nnot ok\n")
    assert main([str(tmp_path)]) == 1
    assert "-not ok\n+ok\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "no commands in it"), ("dance\n----\n", "begins with 'dance'"), ("vote\n", "no ---- after 'vote'")],
)
def test_a_file_that_cannot_be_read_ends_with_2(
    text: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text(text)
    assert main([str(tmp_path)]) == 2
    assert why in capsys.readouterr().err


def test_a_folder_without_files_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "no *.txt files" in capsys.readouterr().err
