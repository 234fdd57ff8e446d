"""What a member says of itself while it works, for a person who reads along: the log lines of etcd's raft.

A line is a template of the % operator and the values for it, which may be a configuration or a member's progress. How
those read as text, and where the line goes, is for whoever listens; nobody does by default. On the hot path nothing is
said.
"""

from enum import IntEnum
from typing import Protocol


class Level(IntEnum):
    DEBUG = 0
    INFO = 1
    WARN = 2
    ERROR = 3


class Trace(Protocol):
    def __call__(self, level: Level, template: str, *values: object) -> None: ...


def silent(level: Level, template: str, *values: object) -> None:
    """Nobody listens."""
