"""HPACK against the `hpack` package, and the cache of blocks against a decoder without one."""

import hpack as oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kvorum.wire.hpack import (
    CACHED_BLOCKS_MAX,
    Decoder,
    Header,
    HeaderListTooLarge,
    HpackError,
    encode,
    huffman_decode,
)

Sensitive = oracle.NeverIndexedHeaderTuple

NAMES = st.sampled_from(
    [b":method", b":path", b":authority", b"content-type", b"te", b"grpc-timeout", b"token", b"x", b"user-agent"]
) | st.binary(max_size=12)
VALUES = st.sampled_from([b"POST", b"/", b"trailers", b"application/grpc", b"1000m", b""]) | st.binary(max_size=300)
HEADERS = st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=12)
RESIZE = st.sampled_from([0, 64, 100, 300, 4096])


def decoder(list_bytes_max: int = 1 << 20) -> Decoder[list[Header]]:
    return Decoder(lambda headers: headers, list_bytes_max=list_bytes_max)


def decoded(theirs: oracle.Decoder, block: bytes) -> list[Header]:
    found: list[Header] = []
    for name, value in theirs.decode(block, raw=True):
        assert isinstance(name, bytes)
        assert isinstance(value, bytes)
        found.append((name, value))
    return found


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(HEADERS, st.booleans(), st.none() | RESIZE), max_size=12))
def test_decodes_what_the_oracle_encodes(
    blocks: list[tuple[list[tuple[bytes, bytes, bool]], bool, int | None]],
) -> None:
    encoder, ours = oracle.Encoder(), decoder()
    for headers, huffman, table_bytes in blocks:
        if table_bytes is not None:
            encoder.header_table_size = table_bytes
        tuples = [Sensitive(name, value) if secret else (name, value) for name, value, secret in headers]
        block = encoder.encode(tuples, huffman=huffman)
        assert ours.decode(block) == [(name, value) for name, value, _ in headers]


@st.composite
def repeating_blocks(draw: st.DrawFn) -> list[bytes]:
    """Blocks that refer to the table, change it, and come again: all that can mislead a cache."""
    encoder = oracle.Encoder()
    lists = draw(st.lists(st.lists(st.tuples(NAMES, VALUES), max_size=4), min_size=1, max_size=4))
    blocks: list[bytes] = []
    for index in draw(st.lists(st.integers(0, len(lists) - 1), max_size=20)):
        if draw(st.integers(0, 9)) == 0:
            encoder.header_table_size = draw(RESIZE)
        blocks.append(encoder.encode(lists[index], huffman=True))
    return blocks


@settings(max_examples=400, deadline=None)
@given(repeating_blocks())
def test_a_block_met_before_never_means_what_it_meant_under_another_table(blocks: list[bytes]) -> None:
    ours, theirs = decoder(), oracle.Decoder()
    for block in blocks:
        assert ours.decode(block) == decoded(theirs, block)


@st.composite
def damaged_blocks(draw: st.DrawFn) -> list[bytes]:
    blocks = draw(repeating_blocks())
    for _ in range(draw(st.integers(0, 3)) if blocks else 0):
        index = draw(st.integers(0, len(blocks) - 1))
        block = bytearray(blocks[index])
        if block:
            at = draw(st.integers(0, len(block) - 1))
            block[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
        blocks[index] = bytes(block)
    return blocks


@settings(max_examples=800, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=3) | damaged_blocks())
def test_agrees_with_the_oracle_about_any_bytes(blocks: list[bytes]) -> None:
    ours, theirs = decoder(), oracle.Decoder()
    for block in blocks:
        try:
            expected: list[Header] | None = decoded(theirs, block)
        except (oracle.HPACKError, UnicodeDecodeError, OverflowError):
            expected = None
        try:
            found: list[Header] | None = ours.decode(block)
        except HpackError:
            found = None
        assert found == expected
        if found is None:
            break


def test_all_integers_are_read_to_their_end() -> None:
    ours = decoder()
    for length in (0, 1, 126, 127, 128, 254, 255, 16_383, 16_384, 70_000):
        value = b"v" * length
        block = oracle.Encoder().encode([(b"x-long", value)], huffman=False)
        assert decoder().decode(block) == [(b"x-long", value)]
        assert ours.decode(encode([(b"x-long", value)])) == [(b"x-long", value)]


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (b"\x80", "index 0"),
        (b"\xbe", "an index beyond the static table, with nothing in the dynamic one"),
        (b"\xff\xff\xff\xff\xff\xff\x01", "an integer that does not end in 32 bits"),
        (b"\xff\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", "an integer of zeros without end"),
        (b"\x40\x05abc", "a name that runs over the end"),
        (b"\x40\x01a\x04abc", "a value that runs over the end"),
        (b"\x40\x01a", "no value"),
        (b"\x3f\xe2\x1f", "a table larger than allowed (4097)"),
        (b"\x82\x20", "a size update behind a header"),
        (b"\x00\x81\x18\x01a", "Huffman padding with zeros"),
        (b"\x00\x82\x1f\xff\x01a", "Huffman padding of eight bits and more"),
        (b"\x00\x84\xff\xff\xff\xff\x01a", "Huffman's end-of-string"),
    ],
)
def test_refuses(block: bytes, why: str) -> None:
    with pytest.raises(HpackError):
        decoder().decode(block)


def test_the_largest_table_a_client_may_have_is_taken() -> None:
    assert decoder().decode(b"\x3f\xe1\x1f\x82") == [(b":method", b"GET")]  # 4096


def test_evicts_exactly_at_the_limit() -> None:
    ours, encoder = decoder(), oracle.Encoder()
    # Two entries of 2048 bytes, by the RFC's count, fill 4096 bytes; each further byte drops the older one.
    pairs = [(b"a", b"1" * (2048 - 33)), (b"b", b"2" * (2048 - 33))]
    assert ours.decode(encoder.encode(pairs, huffman=False)) == pairs
    assert ours.decode(b"\xbe\xbf") == [pairs[1], pairs[0]]
    ours.decode(b"\x40\x00\x00")  # the smallest entry, 32 bytes
    assert ours.decode(b"\xbf") == [pairs[1]]
    with pytest.raises(HpackError):
        ours.decode(b"\xc0")


def test_evicts_no_more_than_it_must() -> None:
    ours, encoder = decoder(), oracle.Encoder()
    small, large = (b"", b""), (b"b", b"2" * (4064 - 33))  # 32 and 4064 bytes fill the table
    ours.decode(encoder.encode([small, large], huffman=False))
    ours.decode(b"\x40\x00\x00")  # makes room by the oldest alone
    assert ours.decode(b"\xbe\xbf") == [small, large]
    assert ours.decode(b"\x3f\xe1\x1f\xbf") == [large]  # a resize to exactly what is there
    with pytest.raises(HpackError):
        ours.decode(b"\xc0")


def test_an_entry_larger_than_the_table_empties_it() -> None:
    ours = decoder()
    ours.decode(b"\x40\x01a\x01b")
    assert ours.decode(b"\xbe") == [(b"a", b"b")]
    ours.decode(oracle.Encoder().encode([(b"x", b"y" * 4096)], huffman=False))
    with pytest.raises(HpackError):
        ours.decode(b"\xbe")


@given(st.binary(max_size=200))
def test_huffman_is_the_oracles(data: bytes) -> None:
    from hpack.huffman import HuffmanEncoder
    from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

    assert huffman_decode(HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(data)) == data


def test_huffman_knows_every_byte() -> None:
    from hpack.huffman import HuffmanEncoder
    from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

    encoder = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
    for byte in range(256):
        data = bytes([byte]) * 3
        assert huffman_decode(encoder.encode(data)) == data


def test_headers_beyond_the_limit_are_refused_and_the_tables_stay_in_step() -> None:
    ours = Decoder(lambda headers: headers, list_bytes_max=1000)
    encoder = oracle.Encoder()
    entry = (b"n", b"v" * 67)  # counts 100
    assert len(ours.decode(encoder.encode([entry] * 10))) == 10
    with pytest.raises(HeaderListTooLarge):
        ours.decode(encoder.encode([entry] * 10 + [(b"new", b"entry")]))
    assert ours.decode(b"\xbe") == [(b"new", b"entry")]


def test_a_small_block_cannot_become_a_large_list() -> None:
    ours = Decoder(lambda headers: headers, list_bytes_max=65_536)
    ours.decode(oracle.Encoder().encode([(b"x", b"y" * 4000)], huffman=False))
    assert len(ours.decode(b"\xbe" * 16)) == 16
    with pytest.raises(HeaderListTooLarge):
        ours.decode(b"\xbe" * 17)


def test_what_reading_makes_of_a_block_is_made_once_until_the_table_changes() -> None:
    reads: list[list[Header]] = []

    def read(headers: list[Header]) -> int:
        reads.append(headers)
        return len(reads)

    ours = Decoder(read, list_bytes_max=1 << 20)
    ours.decode(b"\x40\x01a\x01b")
    assert [ours.decode(b"\xbe"), ours.decode(b"\xbe")] == [2, 2]
    ours.decode(b"\x40\x01c\x01d")
    assert ours.decode(b"\xbe") == 4
    assert reads[-1] == [(b"c", b"d")]


def test_trailers_that_change_the_table_drop_the_cache_too() -> None:
    ours = decoder()
    ours.decode(b"\x40\x01a\x01b")
    assert ours.decode(b"\xbe") == [(b"a", b"b")]
    assert ours.decode_unread(b"\x40\x01c\x01d") == [(b"c", b"d")]
    assert ours.decode(b"\xbe") == [(b"c", b"d")]


def test_too_long_a_list_that_changes_the_table_drops_the_cache_too() -> None:
    ours = Decoder(lambda headers: headers, list_bytes_max=100)
    ours.decode(b"\x40\x01a\x01b")
    assert ours.decode(b"\xbe") == [(b"a", b"b")]
    with pytest.raises(HeaderListTooLarge):
        ours.decode(b"\x40\x01c\x01d" + b"\xbe" * 4)
    assert ours.decode(b"\xbe") == [(b"c", b"d")]


def test_what_reading_raises_is_raised_each_time() -> None:
    def read(headers: list[Header]) -> int:
        raise ValueError(headers)

    ours = Decoder(read, list_bytes_max=1 << 20)
    for _ in range(2):
        with pytest.raises(ValueError):
            ours.decode(b"\x82")
    with pytest.raises(ValueError):
        ours.decode(b"\x40\x01a\x01b")
    assert ours.decode_unread(b"\xbe") == [(b"a", b"b")]


def test_the_cache_is_bounded() -> None:
    ours = decoder()
    for number in range(3 * CACHED_BLOCKS_MAX):
        block = encode([(b"grpc-timeout", b"%du" % number)])
        assert ours.decode(block) == [(b"grpc-timeout", b"%du" % number)]
        assert len(ours._seen) <= CACHED_BLOCKS_MAX


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
def test_the_oracle_decodes_what_is_encoded_and_keeps_nothing_of_it(headers: list[Header]) -> None:
    theirs = oracle.Decoder()
    assert decoded(theirs, encode(headers)) == headers
    assert not theirs.header_table.dynamic_entries
