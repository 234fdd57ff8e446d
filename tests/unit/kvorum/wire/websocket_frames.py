"""Frames of WebSocket as a client makes them, by hand."""

MASK = b"\x37\xfa\x21\x3d"


def frame(opcode: int, payload: bytes = b"", *, last: bool = True, mask: bytes = MASK, more: int = 0) -> bytes:
    """A client's. more: bits besides."""
    size = len(payload)
    if size < 126:
        length = bytes((size | 0x80,))
    else:
        length = b"\xfe" + size.to_bytes(2, "big") if size < 1 << 16 else b"\xff" + size.to_bytes(8, "big")
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes((opcode | (0x80 if last else 0) | more,)) + length + mask + masked
