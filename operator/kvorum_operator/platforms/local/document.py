"""The document on disk: a KVCluster in YAML that a person edits while the operator runs.

Watched by its stat, which works on every file system. A change counts once two looks in a row agree: editors write in
several steps, and half a document is not a broken edit.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

import yaml

from kvorum_operator.api.v1alpha1 import KIND, InvalidCluster, KVCluster, parse

POLL_S = 0.3
DOCUMENT_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Reading:
    """What a look at the file found: a cluster, or why there is none."""

    cluster: KVCluster | None
    problems: tuple[str, ...] = ()
    missing: bool = False


class Document:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = self._candidate = signature(path)
        self.reading = read(path)

    def poll(self) -> bool:
        """Whether the file changed since the last look that said so; `reading` is then what it is now."""
        now = signature(self.path)
        settled, self._candidate = now == self._candidate, now
        if not settled or now == self._read:
            return False
        self._read = now
        self.reading = read(self.path)
        return True


def signature(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def read(path: Path) -> Reading:
    try:
        with path.open("rb") as file:
            data = file.read(DOCUMENT_BYTES_MAX + 1)
    except FileNotFoundError:
        return Reading(None, (f"{path} does not exist",), missing=True)
    except OSError as error:
        return Reading(None, (f"{path} cannot be read: {error.strerror}",), missing=True)
    if len(data) > DOCUMENT_BYTES_MAX:
        return Reading(None, (f"the document is bigger than {DOCUMENT_BYTES_MAX} bytes",))
    try:
        documents = [one for one in yaml.load_all(data, Loader) if one is not None]
        if len(documents) != 1:
            return Reading(None, (f"there must be one document of kind {KIND}, there are {len(documents)}",))
        return Reading(parse(documents[0]))
    except InvalidCluster as error:
        return Reading(None, error.problems)
    except yaml.YAMLError as error:
        return Reading(None, (one_line(error),))
    except (UnicodeDecodeError, RecursionError) as error:
        return Reading(None, (f"the document is no YAML: {error}",))


def one_line(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return f"the document is no YAML: {' '.join(str(error).split())}"
    mark = error.problem_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return f"{where}{error.problem or error.context}"


class Loader(yaml.SafeLoader):
    """YAML as Kubernetes takes it: a key that stands there twice is an error, not a matter of who comes last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.MarkedYAMLError(problem="a key must be a plain value", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"{key} is there twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)
