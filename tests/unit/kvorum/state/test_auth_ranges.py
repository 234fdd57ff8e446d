"""What permissions cover: asked of every key there is, in a world of few."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st
from kvorum.state.auth_ranges import KeyRanges
from kvorum.state.revisions import FROM_KEY

ALPHABET = (0, 1, 2)
ENDS = b"\xff"
# All keys of up to three bytes, and each one's successor: between two of them no boundary below can lie.
WORLD = sorted(
    {key + tail for n in (1, 2) for key in map(bytes, product(ALPHABET, repeat=n)) for tail in (b"", b"\0", b"\0\0")}
)
keys = st.sampled_from([bytes(key) for n in (1, 2) for key in product(ALPHABET, repeat=n)])
ranges = st.one_of(
    st.tuples(keys, st.just(b"")),
    st.tuples(keys, st.just(FROM_KEY)),
    st.tuples(keys, keys).filter(lambda pair: pair[0] < pair[1] and pair[1] != FROM_KEY),
)


def inside(key: bytes, span: tuple[bytes, bytes]) -> bool:
    start, end = span
    return key == start if not end else key >= start and (end == FROM_KEY or key < end)


@given(st.lists(ranges, max_size=6), ranges)
def test_a_request_is_covered_when_each_of_its_keys_is_permitted(
    permitted: list[tuple[bytes, bytes]], asked: tuple[bytes, bytes]
) -> None:
    wanted = all(any(inside(key, span) for span in permitted) for key in [*WORLD, ENDS] if inside(key, asked))
    assert KeyRanges(permitted).cover(*asked) is wanted


def test_ranges_that_touch_are_one() -> None:
    assert KeyRanges([(b"b", b"c"), (b"a", b"b")]).cover(b"a", b"c")
    assert not KeyRanges([(b"b\0", b"c"), (b"a", b"b")]).cover(b"a", b"c"), "b is missing"
    assert KeyRanges([(b"b\0", b"c"), (b"a", b"b"), (b"b", b"")]).cover(b"a", b"c")


def test_only_a_permission_without_an_end_covers_a_request_without_one() -> None:
    assert not KeyRanges([(b"a", b"\xff\xff\xff")]).cover(b"b", FROM_KEY)
    assert KeyRanges([(b"a", FROM_KEY)]).cover(b"b", FROM_KEY)
    assert KeyRanges([(b"\0", FROM_KEY)]).cover(b"\0", FROM_KEY)


def test_a_range_that_ends_before_it_begins_is_answered_as_etcd_answers_it() -> None:
    """Each seen with etcd 3.5.30: what is met in the tree of permissions decides, and that is their order's affair."""
    one = KeyRanges([(b"a", b"c")])
    assert one.cover(b"bz", b"b0")
    assert one.cover(b"b", b"b")
    assert one.cover(b"bz", b"a")
    assert not one.cover(b"z", b"a")
    two = KeyRanges([(b"a", b"b"), (b"b", b"d")])
    assert not two.cover(b"b5", b"a")
    assert two.cover(b"b5", b"a1")
    assert KeyRanges([(b"b", b"d"), (b"a", b"b")]).cover(b"b5", b"a")
