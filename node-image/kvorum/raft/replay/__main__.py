"""Replays every data-driven file under a folder: python -m kvorum.raft.replay DIR

A line a file; for a case that prints something else, the difference, and exit status 1. What a file is about is seen
from its first command. Exit status 2: a file or the folder cannot be read.
"""

import argparse
import sys
from collections.abc import Callable
from difflib import unified_diff
from pathlib import Path

from kvorum.raft.replay import confchange, interaction, quorum
from kvorum.raft.replay.datadriven import Case, parse

RUNNERS: dict[str, Callable[[list[Case]], list[str]]] = {
    "committed": quorum.run,
    "vote": quorum.run,
    "simple": confchange.run,
    "enter-joint": confchange.run,
    "leave-joint": confchange.run,
    "add-nodes": interaction.run,
    "log-level": interaction.run,
}


def replay(path: Path) -> list[str]:
    """Lines of differences, none if the file prints what it says. Raises ValueError for a file of another kind."""
    cases = parse(path.read_text())
    if not cases:
        raise ValueError("no commands in it")
    run = RUNNERS.get(cases[0].command)
    if run is None:
        raise ValueError(f"begins with {cases[0].command!r}, which nothing here runs")
    return [line for case, printed in zip(cases, run(cases), strict=True) for line in _difference(path, case, printed)]


def _difference(path: Path, case: Case, printed: str) -> list[str]:
    if printed == case.expected:
        return []
    name = f"{path}:{case.line}"
    return [
        f"{name}: {case.command} prints something else",
        *unified_diff(case.expected.split("\n"), printed.split("\n"), "expected", "printed", lineterm=""),
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m kvorum.raft.replay", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="with *.txt files, at any depth")
    folder: Path = parser.parse_args(arguments).folder
    paths = sorted(folder.rglob("*.txt"))
    if not paths:
        sys.stderr.write(f"{folder}: no *.txt files in it\n")
        return 2
    status = 0
    for path in paths:
        try:
            lines = replay(path)
        except (OSError, ValueError) as error:
            sys.stderr.write(f"{path}: {error}\n")
            status = 2
            continue
        sys.stdout.write("\n".join(lines or [f"{path}: equal"]) + "\n")
        status = status or int(bool(lines))
    sys.stdout.write(f"{len(paths)} files\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
