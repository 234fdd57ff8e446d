"""The files of this repository as git sees them: tracked, or new and not ignored."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = {
    "kvorum": REPOSITORY / "node-image" / "kvorum",
    "kvorum_operator": REPOSITORY / "operator" / "kvorum_operator",
}


@cache
def files() -> tuple[Path, ...]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    paths = (REPOSITORY / name for name in sorted(set(listed.split("\0"))) if name)
    return tuple(path for path in paths if path.is_file())


def read(path: Path) -> str | None:
    """The text of a file; None of one that is none (test data of other programs)."""
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        return None


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def modules(*folders: Path) -> Iterator[tuple[Path, ast.Module]]:
    """Python files below the folders (below all, if none is given), parsed; generated ones left out."""
    for path in files():
        inside = not folders or any(path.is_relative_to(folder) for folder in folders)
        if path.suffix == ".py" and inside and not path.stem.endswith("_pb2"):
            yield path, ast.parse(path.read_text("utf-8"), str(path))


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and full name of each module that is imported anywhere in a file, also for typing and inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")
