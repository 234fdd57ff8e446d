"""Interaction files of our own, for which etcd's raft 3.6 prints the same; and files that cannot be read."""

from pathlib import Path

import pytest
from kvorum.raft.replay import interaction
from kvorum.raft.replay.datadriven import parse

FILES = sorted((Path(__file__).parent / "testdata").glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_members_print_what_etcds_raft_prints(path: Path) -> None:
    cases = parse(path.read_text())
    for case, printed in zip(cases, interaction.run(cases), strict=True):
        assert printed == case.expected, f"line {case.line}"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("campaign", "line 5: campaign needs 1 arguments"),
        ("campaign 2", "no member 2"),
        ("campaign x", "invalid literal"),
        ("propose 1", "line 5: propose needs 2 arguments"),
        ("deliver-msgs 1 type=MsgRumour", "line 5: no message is a MsgRumour"),
        ("transfer-leadership from=1", "line 5: transfer-leadership needs to="),
        ("propose-conf-change 1\nx1", "'x1' is no change"),
    ],
)
def test_a_command_that_cannot_be_read_says_so(command: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        interaction.run(parse(f"add-nodes 1 voters=(1) index=2\n----\n\n\n{command}\n----\n"))
