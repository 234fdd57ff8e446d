"""Quorums: how many voters must agree, and whether they still can.

Knows only numbers and sets of member ids. Not who leads, not what a node is: guard and diagnosis both build on it.
"""

from collections.abc import Collection


def size(voters_count: int) -> int:
    """How many of the voters must agree: more than half."""
    return voters_count // 2 + 1


def holds(voters: Collection[int], healthy: Collection[int]) -> bool:
    """Whether the healthy ones among the voters are a quorum. Without voters nothing can be agreed on."""
    return len(voters) > 0 and len(set(voters) & set(healthy)) >= size(len(voters))


def holds_without(voters: Collection[int], healthy: Collection[int], removed: int) -> bool:
    """Whether the voters that are left once `removed` is no member any more still have a quorum of healthy ones."""
    return holds(set(voters) - {removed}, set(healthy) - {removed})
