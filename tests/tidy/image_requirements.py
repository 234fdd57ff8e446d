"""What the images install: the distributions that they need and no others, with the versions and hashes of the lock.

Taken from requirements.lock by its own notes on who asked for what. No registry is asked anew, so an image holds what
the tests ran with. `make generate` writes the files. The operator's image runs no node: of what `kvorum` needs it has
what the client library does.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.tidy.sources import REPOSITORY

NODE, OPERATOR = (REPOSITORY / folder / "pyproject.toml" for folder in ("node-image", "operator"))
OURS = frozenset({"kvorum", "kvorum-operator"})
CLIENT_NEEDS = frozenset({"protobuf"})  # beside what its extra asks for
HEAD = "# Made by `make generate` out of requirements.lock. Do not edit.\n"


def files() -> Mapping[Path, str]:
    node, operator = dependencies(NODE), dependencies(OPERATOR) | CLIENT_NEEDS | dependencies(NODE, "client")
    blocks = locked((REPOSITORY / "requirements.lock").read_text("utf-8"))
    return {
        NODE.with_name("requirements.txt"): requirements(node, blocks),
        OPERATOR.with_name("requirements.txt"): requirements(operator, blocks),
        REPOSITORY / "build-requirements.txt": requirements(build_backends(NODE, OPERATOR), blocks),
    }


def dependencies(pyproject: Path, extra: str | None = None) -> frozenset[str]:
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    return names(project["dependencies"] if extra is None else project["optional-dependencies"][extra])


def build_backends(*pyprojects: Path) -> frozenset[str]:
    return names(
        text for path in pyprojects for text in tomllib.loads(path.read_text("utf-8"))["build-system"]["requires"]
    )


def names(wanted: Iterable[str]) -> frozenset[str]:
    return frozenset(re.split(r"[^\w.-]", text, maxsplit=1)[0].lower().replace("_", "-") for text in wanted) - OURS


def locked(lock: str) -> Mapping[str, tuple[str, frozenset[str]]]:
    """Of each distribution that the lock names: its lines (version, markers, hashes), and who asked for it."""
    found = {}
    for block in re.split(r"\n(?=[a-z0-9])", lock):
        lines = block.splitlines()
        notes = [line.strip("# ") for line in lines if line.startswith("    #")]
        asked_by = frozenset(note.removeprefix("via").split()[0] for note in notes if note != "via")
        name = re.split(r"[^\w.-]", block, maxsplit=1)[0]
        found[name] = ("".join(line + "\n" for line in lines if not line.startswith("    #")), asked_by)
    return found


def requirements(wanted: frozenset[str], blocks: Mapping[str, tuple[str, frozenset[str]]]) -> str:
    """What is wanted, and whatever that asked for."""
    while more := {name for name, (_, asked_by) in blocks.items() if asked_by & wanted} - wanted:
        wanted |= more
    return HEAD + "".join(blocks[name][0] for name in sorted(wanted))


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, "utf-8")
