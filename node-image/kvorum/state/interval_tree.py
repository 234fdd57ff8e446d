"""Permissions as etcd keeps them: a red-black tree of intervals (Cormen et al., chapters 13 and 14.3).

Which keys permissions cover auth_ranges knows without it. But of a range that ends before it begins, and holds no key,
etcd's answer depends on where its search turns in the tree, and so on the order in which permissions were inserted. A
txn with such a range in it is applied or refused, so members of both kinds must answer alike.

A bound is a pair, so that an end that lies behind every key compares as the largest.
"""

from collections.abc import Iterable, Iterator

Bound = tuple[bool, bytes]
NO_END: Bound = (True, b"")


def bound(key: bytes) -> Bound:
    return (False, key)


class _Node:
    __slots__ = ("begin", "end", "left", "parent", "red", "right")

    def __init__(self, begin: Bound, end: Bound) -> None:
        self.begin = begin
        self.end = end
        self.left: _Node | None = None
        self.right: _Node | None = None
        self.parent: _Node | None = None
        self.red = True

    def last_end(self) -> Bound:
        """Of all intervals in the subtree."""
        below = [child.last_end() for child in (self.left, self.right) if child is not None]
        return max([self.end, *below])


class IntervalTree:
    """Built once, in the order given, and then asked."""

    def __init__(self, intervals: Iterable[tuple[Bound, Bound]]) -> None:
        self._root: _Node | None = None
        for begin, end in intervals:
            self._insert(_Node(begin, end))

    def covers(self, begin: Bound, end: Bound) -> bool:
        """Whether what is met on the way begins early enough, goes on without a gap, and ends late enough."""
        first: Bound | None = None
        last: Bound = (False, b"")
        for node in _overlapping(self._root, begin, end):
            if first is None:
                first, last = node.begin, node.end
            elif last < node.begin:
                return False
            else:
                last = max(last, node.end)
        return first is not None and last >= end and first <= begin

    # -- insertion, by the book ------------------------------------------------------------------------------------

    def _insert(self, node: _Node) -> None:
        parent, below = None, self._root
        while below is not None:
            parent, below = below, below.left if node.begin < below.begin else below.right
        node.parent = parent
        if parent is None:
            self._root = node
        elif node.begin < parent.begin:
            parent.left = node
        else:
            parent.right = node
        self._recolour(node)

    def _recolour(self, node: _Node) -> None:
        """No red node below a red one."""
        while (parent := node.parent) is not None and parent.red:
            grand = parent.parent
            assert grand is not None, "the root is black"
            on_left = parent is grand.left
            uncle = grand.right if on_left else grand.left
            if uncle is not None and uncle.red:
                parent.red = uncle.red = False
                grand.red = True
                node = grand
                continue
            if node is (parent.right if on_left else parent.left):
                node, parent = parent, node
                self._rotate(node, to_left=on_left)
            parent.red, grand.red = False, True
            self._rotate(grand, to_left=not on_left)
        assert self._root is not None
        self._root.red = False

    def _rotate(self, node: _Node, *, to_left: bool) -> None:
        """The node goes down to one side, and its child of the other takes its place."""
        child = node.right if to_left else node.left
        assert child is not None
        inner = child.left if to_left else child.right
        if to_left:
            node.right, child.left = inner, node
        else:
            node.left, child.right = inner, node
        if inner is not None:
            inner.parent = node
        child.parent = node.parent
        if node.parent is None:
            self._root = child
        elif node is node.parent.left:
            node.parent.left = child
        else:
            node.parent.right = child
        node.parent = child


def _compare(begin: Bound, end: Bound, other_begin: Bound, other_end: Bound) -> int:
    """Below, above, or 0 where the two overlap. Of one that ends before it begins this says what etcd's says."""
    if begin < other_begin and end <= other_begin:
        return -1
    return 1 if begin >= other_end else 0


def _overlapping(node: _Node | None, begin: Bound, end: Bound) -> Iterator[_Node]:
    """In order, as far as the search goes into the tree."""
    if node is None:
        return
    side = _compare(begin, end, node.begin, node.end)
    if side > 0 and _compare(node.begin, node.last_end(), begin, end) != 0:
        return
    yield from _overlapping(node.left, begin, end)
    if side < 0:
        return
    if side == 0:
        yield node
    yield from _overlapping(node.right, begin, end)
