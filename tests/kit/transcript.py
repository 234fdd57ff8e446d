"""Transcripts in Markdown: a console's commands and what they printed, under a name, compared with what they print now.

<!-- transcript: NAME -->
```console
$ command
what it printed
```
"""

import difflib
import re
from collections.abc import Callable
from pathlib import Path

BLOCK = re.compile(r"<!-- transcript: (?P<name>[\w-]+) -->\n```console\n(?P<text>.*?)```", re.DOTALL)


def block(document: Path, name: str) -> str:
    found = {match["name"]: match["text"] for match in BLOCK.finditer(document.read_text())}
    return found[name]


def commands(text: str) -> list[str]:
    return [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]


def check(document: Path, name: str, printed: str, normalised: Callable[[str], list[str]], *, rewrite: bool) -> None:
    """normalised: the lines that must be the same each time. rewrite: puts what was printed into the document."""
    if rewrite:
        text = document.read_text()
        document.write_text(text.replace(block(document, name), printed))
    expected, found = normalised(block(document, name)), normalised(printed)
    assert found == expected, "\n".join(difflib.unified_diff(expected, found, document.name, "now", lineterm=""))
