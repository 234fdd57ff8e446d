"""What decides is pure: bytes, time and randomness come in as arguments. So it can be simulated, a million times."""

import ast
from pathlib import Path

import pytest

from tests.tidy.sources import PACKAGES, imports, modules, name_of

NODE, OPERATOR = PACKAGES["kvorum"], PACKAGES["kvorum_operator"]

# What pure code may import besides its own distribution, whose layers .importlinter checks: exactly these. None of them
# reads a clock, the environment or a socket, opens a file, or draws a random number by itself.
ALLOWED = {
    "abc",
    "array",
    "base64",
    "binascii",
    "bisect",
    "collections",
    "collections.abc",
    "contextlib",
    "copy",
    "dataclasses",
    "enum",
    "functools",
    "hashlib",
    "heapq",
    "http",
    "itertools",
    "json",
    "math",
    "operator",
    "re",
    "struct",
    "types",
    "typing",
    "google.protobuf.message",
    "google_crc32c",
    "sortedcontainers",
    "urllib.parse",
    "yaml",
    "zlib",
}
# What reaches outside without an import.
BUILTINS_REFUSED = {"open", "input", "print", "breakpoint", "exec", "eval", "__import__", "globals"}

PURE = {
    "kvorum.raft": NODE / "raft",
    "kvorum.state": NODE / "state",
    "kvorum.wire": NODE / "wire",
    "kvorum_operator.cluster": OPERATOR / "cluster",
    "kvorum_operator.objects": OPERATOR / "objects",
}
# What stands in a pure package and reads files: a command of its own, which nothing of the node imports.
REACHES_OUTSIDE = {NODE / "raft" / "replay" / "__main__.py"}


def impurities(tree: ast.Module, own: str) -> list[str]:
    """Line and name of whatever a file uses that pure code may not."""
    found = [
        (line, f"import {name}")
        for line, name in imports(tree)
        if name not in ALLOWED and name.split(".", maxsplit=1)[0] != own
    ]
    found += [
        (node.lineno, node.id)
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in BUILTINS_REFUSED
    ]
    return [f"{line}: {name}" for line, name in sorted(found)]


@pytest.mark.parametrize(("package", "folder"), PURE.items(), ids=PURE)
def test_what_decides_reaches_nothing_outside(package: str, folder: Path) -> None:
    files = [(path, tree) for path, tree in modules(folder) if path not in REACHES_OUTSIDE]
    assert files, f"no module in {name_of(folder)}: has it moved?"
    own = package.split(".", maxsplit=1)[0]
    found = [f"{name_of(path)}:{impurity}" for path, tree in files for impurity in impurities(tree, own)]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "import time",
        "from datetime import datetime",
        "import asyncio",
        "import random",
        "import os.path",
        "import socket",
        "from pathlib import Path",
        "import http.client",
        "import urllib.request",
        "from google.protobuf import json_format",
        "def f():\n    import uuid",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import asyncio",
        "print(1)",
        "open('a')",
    ],
)
def test_the_check_sees_what_it_is_for(line: str) -> None:
    assert impurities(ast.parse(line), "kvorum") != []


def test_the_check_lets_pure_code_pass() -> None:
    pure = "import struct\nfrom collections.abc import Iterator\nfrom kvorum.raft import log\n"
    assert impurities(ast.parse(pure), "kvorum") == []
