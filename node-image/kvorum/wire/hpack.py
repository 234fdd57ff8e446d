"""HPACK (RFC 7541): a client's header blocks into names and values, our few response headers into a block.

Knows names and values as bytes, and nothing of what they mean or whether HTTP allows them.
The decoder keeps step with the client's table: after an HpackError the two are apart, and the connection must end.
The encoder keeps no table at all, so a block made once is right for every connection and can be a constant.

Hot path: 0.1 us for a block seen before, 2 us for one with a new timeout in it; tests/bench/codec.py times whole calls.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Final, Generic, TypeVar

Header = tuple[bytes, bytes]
T = TypeVar("T")

TABLE_BYTES_MAX: Final = 4096  # of the client's table; HTTP/2's default, so nothing has to be announced
ENTRY_OVERHEAD_BYTES: Final = 32  # RFC 7541, 4.1; the header list counts the same (RFC 9113, 6.5.2)
CACHED_BLOCKS_MAX: Final = 256
CACHED_BLOCK_BYTES_MAX: Final = 2048
_INTEGER_MAX: Final = 1 << 30  # no length or index here is near it


class HpackError(Exception):
    """A block outside the grammar: the connection ends with COMPRESSION_ERROR."""


class HeaderListTooLarge(Exception):
    """The headers are beyond the limit. The tables are in step, so only this request is refused."""


class Decoder(Generic[T]):
    """Header blocks of one connection, in the order of their arrival.

    read: makes of the headers what the caller wants; what it returns is remembered with the block. It may raise:
          that is passed on, the tables stay in step, and nothing is remembered.

    A block that changes nothing in the table means the same until something does change, so it is looked up by its
    bytes; a client that calls one method over and over sends such blocks. The first change drops them all.
    """

    def __init__(
        self, read: Callable[[list[Header]], T], *, list_bytes_max: int, table_bytes_max: int = TABLE_BYTES_MAX
    ) -> None:
        self._read = read
        self._list_bytes_max = list_bytes_max
        self._table_bytes_allowed = table_bytes_max  # by us; the client may use less
        self._table_bytes_max = table_bytes_max
        self._table_bytes = 0
        self._table: list[Header] = list(_STATIC)  # then the dynamic part, newest first: one list, one index
        self._seen: dict[bytes, T] = {}

    def decode(self, block: bytes) -> T:
        """What `read` makes of the block. Raises HpackError, HeaderListTooLarge, and what `read` raises."""
        seen = self._seen.get(block)
        if seen is not None:
            return seen
        headers, changed = self._headers(block)
        if changed:
            if self._seen:
                self._seen.clear()
            return self._read(headers)
        result = self._read(headers)
        if len(block) <= CACHED_BLOCK_BYTES_MAX:
            if len(self._seen) >= CACHED_BLOCKS_MAX:
                self._seen.clear()
            self._seen[block] = result
        return result

    def decode_unread(self, block: bytes) -> list[Header]:
        """The plain headers, for blocks that open no request. Raises HpackError, HeaderListTooLarge."""
        headers, changed = self._headers(block)
        if changed:
            self._seen.clear()
        return headers

    def _headers(self, block: bytes) -> tuple[list[Header], bool]:
        """The headers, and whether the table is another one now."""
        table = self._table
        headers: list[Header] = []
        changed = False
        at, end = 0, len(block)
        try:
            while at < end:
                byte = block[at]
                at += 1
                if byte >= 0x80:  # indexed
                    index = byte & 0x7F
                    if index == 0x7F:
                        index, at = _integer(block, at, 0x7F)
                    elif not index:
                        raise HpackError("index 0")
                    headers.append(table[index])
                    continue
                if byte >= 0x40:  # literal, to be put into the table
                    mask = 0x3F
                elif byte >= 0x20:
                    if headers:
                        raise HpackError("table size update behind a header")
                    size, at = (byte & 0x1F, at) if byte & 0x1F != 0x1F else _integer(block, at, 0x1F)
                    self._resize(size)
                    changed = True
                    continue
                else:  # literal, not indexed or never
                    mask = 0x0F
                index = byte & mask
                if index == mask:
                    index, at = _integer(block, at, mask)
                if index:
                    name = table[index][0]
                else:
                    name, at = _string(block, at)
                # The value, as _string reads it; written out here because it is most of the work of a new block.
                length = block[at]
                at += 1
                huffman = length & 0x80
                length &= 0x7F
                if length == 0x7F:
                    length, at = _integer(block, at, 0x7F)
                value = block[at : at + length]
                at += length
                if at > end:
                    raise HpackError("a string runs over the end of its block")
                if huffman:
                    value = huffman_decode(value)
                header = (name, value)
                headers.append(header)
                if mask == 0x3F:
                    changed = True
                    self._insert(header)
        except IndexError:
            raise HpackError("the block is cut short, or an index is beyond the table") from None
        # Counted exactly only if it could be too much at all: an indexed header is no longer than its table.
        most = len(headers) * (self._table_bytes_allowed + ENTRY_OVERHEAD_BYTES) + 2 * end
        if most > self._list_bytes_max:
            size = sum(len(name) + len(value) for name, value in headers) + ENTRY_OVERHEAD_BYTES * len(headers)
            if size > self._list_bytes_max:
                if changed:
                    self._seen.clear()
                raise HeaderListTooLarge(f"{size} bytes of headers, {self._list_bytes_max} are taken")
        return headers, changed

    def _insert(self, header: Header) -> None:
        self._table.insert(_STATIC_COUNT, header)
        self._table_bytes += len(header[0]) + len(header[1]) + ENTRY_OVERHEAD_BYTES
        if self._table_bytes > self._table_bytes_max:
            self._evict()

    def _resize(self, size: int) -> None:
        if size > self._table_bytes_allowed:
            raise HpackError(f"a table of {size} bytes, {self._table_bytes_allowed} are allowed")
        self._table_bytes_max = size
        self._evict()

    def _evict(self) -> None:
        """Drops the oldest entries; an entry larger than the whole table leaves it empty (RFC 7541, 4.4)."""
        while self._table_bytes > self._table_bytes_max:
            name, value = self._table.pop()
            self._table_bytes -= len(name) + len(value) + ENTRY_OVERHEAD_BYTES


def encode(headers: Iterable[Header]) -> bytes:
    """A block that depends on no table but the static one, and leaves no trace in the client's."""
    block = bytearray()
    for name, value in headers:
        index = _STATIC_INDEX.get((name, value))
        if index is not None:
            block += _encode_integer(index, 0x7F, 0x80)
            continue
        block += _encode_integer(_STATIC_NAME_INDEX.get(name, 0), 0x0F, 0x00)
        if name not in _STATIC_NAME_INDEX:
            block += _encode_integer(len(name), 0x7F, 0x00) + name
        block += _encode_integer(len(value), 0x7F, 0x00) + value
    return bytes(block)


def _encode_integer(value: int, prefix_max: int, pattern: int) -> bytes:
    """RFC 7541, 5.1."""
    if value < prefix_max:
        return bytes((pattern | value,))
    out = bytearray((pattern | prefix_max,))
    value -= prefix_max
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _integer(block: bytes, at: int, prefix_max: int) -> tuple[int, int]:
    """The rest of an integer whose prefix was full, and where it ends. IndexError: the block is cut short."""
    value, shift = prefix_max, 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if value > _INTEGER_MAX or shift > 28:
            raise HpackError("an integer is too large")
        if byte < 0x80:
            return value, at
        shift += 7


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    length = block[at]
    at += 1
    huffman = length & 0x80
    length &= 0x7F
    if length == 0x7F:
        length, at = _integer(block, at, 0x7F)
    text = block[at : at + length]
    at += length
    if at > len(block):
        raise HpackError("a string runs over the end of its block")
    return (huffman_decode(text) if huffman else text), at


# Huffman. The decoder is an automaton over whole bytes: its states are the inner nodes of the code's tree, and each
# state's row says for each byte which symbols it completes and in which state it ends. Rows are made when first met
# (about 0.3 ms each): all 256 would take the start of a process tens of milliseconds, and few are ever needed.


def huffman_decode(data: bytes) -> bytes:
    """Raises HpackError for padding that is no beginning of the end-of-string code, or for that code itself."""
    state = 0
    out = b""
    for byte in data:
        state, symbols = _row(state)[byte]
        out += symbols
    if state not in _padding_states():
        raise HpackError("malformed Huffman code")
    return out


_DEAD: Final = -1  # the state behind the end-of-string code, which no string may contain


@cache
def _codes() -> tuple[tuple[int, int], ...]:
    """Code and length in bits of each byte, then of end-of-string. The code is canonical: lengths tell everything."""
    codes = [(0, 0)] * 257
    code = length_before = 0
    for length, symbols in _SYMBOLS_BY_LENGTH:
        code <<= length - length_before
        length_before = length
        for symbol in symbols:
            codes[symbol] = (code, length)
            code += 1
    return tuple(codes)


@cache
def _nodes() -> tuple[tuple[int, int], ...]:
    """The tree's inner nodes, the root first. A child is the number of a node, or -2 - symbol for a leaf."""
    nodes: list[list[int]] = [[_DEAD, _DEAD]]
    for symbol, (code, length) in enumerate(_codes()):
        node = 0
        for shift in range(length - 1, 0, -1):
            bit = code >> shift & 1
            if nodes[node][bit] == _DEAD:
                nodes.append([_DEAD, _DEAD])
                nodes[node][bit] = len(nodes) - 1
            node = nodes[node][bit]
        nodes[node][code & 1] = -2 - symbol
    return tuple((zero, one) for zero, one in nodes)


@cache
def _row(state: int) -> tuple[tuple[int, bytes], ...]:
    nodes = _nodes()
    row = []
    for byte in range(256):
        node, symbols = state, bytearray()
        for shift in range(7, -1, -1):
            if node == _DEAD:
                break
            node = nodes[node][byte >> shift & 1]
            if node <= -2:
                symbol = -2 - node
                node = 0
                if symbol == 256:
                    node = _DEAD
                else:
                    symbols.append(symbol)
        row.append((node, bytes(symbols)))
    return tuple(row)


@cache
def _padding_states() -> frozenset[int]:
    """Where a string may end: at the root, or up to seven ones further on."""
    states, node = {0}, 0
    for _ in range(7):
        node = _nodes()[node][1]
        states.add(node)
    return frozenset(states)


# RFC 7541, Appendix B: the symbols by the length of their codes, in bits.
_SYMBOLS_BY_LENGTH: Final = (
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b'!"()?'),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\x00$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
    (19, (92, 195, 208)),
    (20, (128, 130, 131, 162, 184, 194, 224, 226)),
    (21, (153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230)),
    (22, (129, 132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189, 190, 196)
         + (198, 228, 232, 233)),
    (23, (1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158, 165, 166, 168, 174, 175, 180)
         + (182, 183, 188, 191, 197, 231, 239)),
    (24, (9, 142, 144, 145, 148, 159, 171, 206, 215, 225, 236, 237)),
    (25, (199, 207, 234, 235)),
    (26, (192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242, 243, 255)),
    (27, (203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254)),
    (28, (2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30, 31, 127, 220)
         + (249,)),
    (30, (10, 13, 22, 256)),
)  # fmt: skip

# RFC 7541, Appendix A. Entry 0 does not exist; the decoder refuses it before it looks.
_STATIC: Final[tuple[Header, ...]] = (
    (b"", b""),
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    *((b":status", status) for status in (b"200", b"204", b"206", b"304", b"400", b"404", b"500")),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    *(
        (name, b"")
        for name in (
            b"accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control"
            b" content-disposition content-encoding content-language content-length content-location content-range"
            b" content-type cookie date etag expect expires from host if-match if-modified-since if-none-match if-range"
            b" if-unmodified-since last-modified link location max-forwards proxy-authenticate proxy-authorization"
            b" range referer refresh retry-after server set-cookie strict-transport-security transfer-encoding"
            b" user-agent vary via www-authenticate"
        ).split()
    ),
)
_STATIC_COUNT: Final = len(_STATIC)
_STATIC_INDEX: Final = {header: index for index, header in enumerate(_STATIC) if index and header[1]}
_STATIC_NAME_INDEX: Final = {name: index for index, (name, _) in reversed(list(enumerate(_STATIC))) if index}
