"""docs/client.md: each of its examples runs, as it stands there, against an etcd and a node of ours."""

import ast
import asyncio
import os
import re
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from tests.kit.processes import Node, Program

PAGE = Path(__file__).parents[2] / "docs" / "client.md"
EXAMPLES = re.findall(r"^## (.+?)$|^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
USUAL = "http://127.0.0.1:2379"
EXAMPLE_S = 60.0


def examples() -> list[tuple[str, str]]:
    """Heading and code of each."""
    found: list[tuple[str, str]] = []
    heading = ""
    for title, code in EXAMPLES:
        heading = title or heading
        if code:
            found.append((heading, code))
    return found


def compiled(code: str) -> CodeType:
    """With `await` outside of a function, as on the page."""
    made: CodeType = compile(code, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return made


@pytest.mark.parametrize("engine", ["etcd", "kvorum"])
def test_examples_of_the_page_run(
    engine: str, reference: Program, subject: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [heading for heading, _ in examples()] == [
        "Keys",
        "What a failure means",
        "Watches",
        "Leases, locks, elections",
        "Users and TLS",
        "Members and backups",
    ]
    monkeypatch.chdir(tmp_path)
    with Node(reference if engine == "etcd" else subject, tmp_path / "node") as node:
        for heading, code in examples():
            names: dict[str, Any] = {"__name__": heading}
            running = eval(compiled(code.replace(USUAL, node.endpoint)), names)
            assert running is not None, f"{heading}: nothing to wait for"
            asyncio.run(asyncio.wait_for(running, EXAMPLE_S))
    assert os.path.getsize(tmp_path / "backup.db") > 0
