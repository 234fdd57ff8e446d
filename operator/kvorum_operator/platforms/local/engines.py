"""Which program members run: our node from beside the operator, or a real etcd from PATH; and where an etcdctl is.

One cluster may need both: while its members move from one engine to the other, each runs the one its data is of.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kvorum_operator.api.v1alpha1 import Engine

ETCD_PATCH_MIN = 16  # of 3.5: what is promised of engine etcd was tried from here on
VERSION_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Found:
    """A program, or None with sentences on what was seen and passed over."""

    path: Path | None
    passed_over: tuple[str, ...] = ()


class Programs:
    """The programs of both engines, each looked for when it is first needed, and again while there is none."""

    def __init__(self) -> None:
        self._found: dict[Engine, Path] = {}

    def find(self, engine: Engine) -> Found:
        known = self._found.get(engine)
        if known is not None and os.access(known, os.X_OK):
            return Found(known)
        found = find_node(engine)
        if found.path is not None:
            self._found[engine] = found.path
        return found


def find_node(engine: Engine) -> Found:
    return find_etcd("etcd") if engine is Engine.ETCD else find_kvorum()


def find_kvorum() -> Found:
    beside = Path(sys.executable).with_name("kvorum")
    if os.access(beside, os.X_OK):
        return Found(beside)
    elsewhere = shutil.which("kvorum")
    if elsewhere is not None:
        return Found(Path(elsewhere))
    return Found(None, (f"there is no kvorum beside {sys.executable}, nor on PATH",))


def find_etcd(program: str) -> Found:
    """The first etcd or etcdctl on PATH that is 3.5.16 or a later 3.5."""
    passed_over: list[str] = []
    for path in on_path(program):
        version = read_version(path, "version" if program == "etcdctl" else "--version")
        if version is not None and version[:2] == (3, 5) and version[2] >= ETCD_PATCH_MIN:
            return Found(path, tuple(passed_over))
        shown = ".".join(map(str, version)) if version else "no version"
        passed_over.append(f"{path} says {shown}, 3.5.{ETCD_PATCH_MIN} or a later 3.5 is needed")
    return Found(None, tuple(passed_over) or (f"there is no {program} on PATH",))


def on_path(program: str) -> Iterator[Path]:
    for folder in os.get_exec_path():
        found = shutil.which(program, path=folder) if folder else None
        if found is not None:
            yield Path(found)


def read_version(path: Path, argument: str) -> tuple[int, int, int] | None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ETCD_", "ETCDCTL_"))}
    try:
        answer = subprocess.run(
            [path, argument],
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT_S,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"[Vv]ersion: (\d+)\.(\d+)\.(\d+)", answer.stdout)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None
