"""The tree of permissions: balanced, in order, and of one mind with auth_ranges about every range that holds keys."""

from hypothesis import given
from hypothesis import strategies as st
from kvorum.state.auth_ranges import KeyRanges
from kvorum.state.interval_tree import NO_END, Bound, IntervalTree, bound
from kvorum.state.revisions import FROM_KEY

keys = st.binary(min_size=1, max_size=2).filter(lambda key: key != FROM_KEY)
spans = st.tuples(keys, keys).filter(lambda pair: pair[0] < pair[1]) | st.tuples(keys, st.just(FROM_KEY))


def bounds(span: tuple[bytes, bytes]) -> tuple[Bound, Bound]:
    return bound(span[0]), NO_END if span[1] == FROM_KEY else bound(span[1])


@given(st.lists(spans, max_size=12), spans)
def test_a_range_with_keys_is_covered_or_not_whatever_the_order(
    given_spans: list[tuple[bytes, bytes]], asked: tuple[bytes, bytes]
) -> None:
    tree = IntervalTree(map(bounds, given_spans))
    assert tree.covers(*bounds(asked)) is KeyRanges(given_spans).cover(*asked)


@given(st.lists(spans, max_size=60))
def test_the_tree_is_balanced_and_in_order(given_spans: list[tuple[bytes, bytes]]) -> None:
    tree = IntervalTree(map(bounds, given_spans))
    begins: list[Bound] = []

    def black_height(node: object) -> int:
        if node is None:
            return 0
        left = black_height(node.left)  # type: ignore[attr-defined]  # a private node
        begins.append(node.begin)  # type: ignore[attr-defined]  # the same
        right = black_height(node.right)  # type: ignore[attr-defined]  # the same
        assert left == right
        for child in (node.left, node.right):  # type: ignore[attr-defined]  # the same
            assert child is None or child.parent is node
            assert child is None or not (child.red and node.red)  # type: ignore[attr-defined]  # the same
        return left + (not node.red)  # type: ignore[attr-defined]  # the same

    black_height(tree._root)
    assert begins == sorted(bounds(span)[0] for span in given_spans)
