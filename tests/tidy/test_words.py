"""What must not stand in any file: this machine, registries, promises, and silenced checks without their reason."""

import ast
import re
from pathlib import Path

import pytest

from tests.tidy.sources import REPOSITORY, files, modules, name_of, read

REGISTRY = re.compile(r"https?://[\w.-]*(pypi|pythonhosted|npmjs|crates|goproxy|maven|debian)[\w.-]*/")
PROMISE = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b")  # split, or this line would find itself
SILENCED = re.compile(  # without its rule and, behind that, its reason
    r"# type: ignore(?!\[[\w, -]+\]  # \S)|# (?:ruff: )?noqa(?!: [A-Z]+\d+(?:, [A-Z]+\d+)* - \S)|# pragma: no cover"
)
TEXTS = tuple((path, text) for path in files() if (text := read(path)) is not None)
SELF = Path(__file__)


def found(pattern: re.Pattern[str], *suffixes: str) -> list[str]:
    return [
        f"{name_of(path)}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
        for path, text in TEXTS
        if path != SELF and (not suffixes or path.suffix in suffixes)
        for match in pattern.finditer(text)
    ]


def test_no_file_names_a_path_of_this_machine() -> None:
    folders = {str(REPOSITORY), str(REPOSITORY.parent), str(Path.home())} - {"/", "/home", "/tmp", "/root/"}
    here = re.compile("(" + "|".join(re.escape(folder) for folder in folders if folder.count("/") >= 1) + r")/\w")
    assert found(here) == []


def test_no_file_names_a_registry() -> None:
    assert found(REGISTRY, ".py", ".toml", ".lock", ".txt", ".yaml", ".yml", ".cfg", "") == []


def test_no_code_promises_what_it_does_not_do() -> None:
    assert found(PROMISE, ".py", ".toml", ".yaml", "") == []


def test_what_a_class_leaves_to_its_heirs_is_done_by_one() -> None:
    classes = [(path, node) for path, tree in modules() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    done = {
        (ast.unparse(base).split("[", maxsplit=1)[0].rpartition(".")[2], method.name)
        for _, heir in classes
        for base in heir.bases
        for method in heir.body
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    left = [
        (name_of(path), node.name, method.name)
        for path, node in classes
        for method in node.body
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(
            "NotImplementedError" in ast.unparse(inner) for inner in ast.walk(method) if isinstance(inner, ast.Raise)
        )
    ]
    assert [found for found in left if found[1:] not in done] == []


def test_what_is_silenced_names_the_rule_and_the_reason() -> None:
    assert found(SILENCED, ".py") == []


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (REGISTRY, "https://files.pythonhosted.org/packages"),
        (SILENCED, "x = 1  # type: ignore"),
        (SILENCED, "x = 1  # type: ignore[misc]"),
        (SILENCED, "x = 1  # noqa"),
        (SILENCED, "x = 1  # noqa: A002"),
        (SILENCED, "# ruff: noqa: A002"),
        (PROMISE, "# TO" + "DO later"),
    ],
)
def test_the_checks_see_what_they_are_for(pattern: re.Pattern[str], text: str) -> None:
    assert pattern.search(text)


@pytest.mark.parametrize("text", ["x = 1  # type: ignore[misc, attr-defined]  # why", "x  # noqa: A001, A002 - why"])
def test_a_reason_is_enough(text: str) -> None:
    assert not SILENCED.search(text)
