"""JSON exactly as Go's encoding/json writes it: rows and log entries must be the same bytes on every member."""

import json
import re

_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})
_NO_UTF8 = re.compile("[\ud800-\udfff]")  # bytes that Python reads as lone surrogates (surrogateescape)


def dumps(value: object) -> bytes:
    """No blanks, fields in the order given, `<`, `>`, `&` and two line separators escaped, all else raw UTF-8."""
    # None of the five stands outside of strings in JSON, so they can be replaced in the whole text; nor do surrogates.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPES)
    return (text if text.isascii() else _NO_UTF8.sub(r"\\ufffd", text)).encode()


def quote(text: str) -> str:
    """One string. What was no UTF-8 becomes U+FFFD, escaped, one for each byte."""
    quoted = json.dumps(text, ensure_ascii=False).translate(_ESCAPES)
    return quoted if quoted.isascii() else _NO_UTF8.sub(r"\\ufffd", quoted)
