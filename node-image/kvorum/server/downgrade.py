"""Whether the cluster may be told to go back by a minor version: etcd 3.5's rules, in the order in which it asks.

What is told is state that all members have; nothing more follows from it here. A member of ours claims one version of
etcd and stays with it; members of etcd go by it when they start with the older one.
"""

from kvorum.state import refusal
from kvorum.state.refusal import Refusal

Minor = tuple[int, int]


def parse_target(text: str) -> Minor | None:
    """Major and minor of x.y or x.y.z, with or without -pre and +build; None for anything else."""
    numbers = text.partition("+")[0].partition("-")[0].split(".")
    if len(numbers) not in (2, 3) or not all(map(_is_number, numbers)):
        return None
    return int(numbers[0]), int(numbers[1])


def _is_number(text: str) -> bool:
    """Of an int64, as in Go; longer digits are not read at all."""
    return text.isascii() and text.isdigit() and len(text) <= 19 and int(text) < 1 << 63


def objection(cluster_version: str | None, target: Minor, in_progress: str | None) -> Refusal | None:
    """in_progress: the version that a downgrade which is under way goes to."""
    if cluster_version is None:
        return refusal.DOWNGRADE_NO_VERSION
    major, minor, *_ = map(int, cluster_version.split("."))
    if target != (major, minor - 1):
        return refusal.DOWNGRADE_BAD_TARGET
    return None if in_progress is None else refusal.DOWNGRADE_IN_PROGRESS
