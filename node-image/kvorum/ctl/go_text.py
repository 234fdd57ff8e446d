"""Values as Go reads and writes them: what etcdctl's users see of strconv, fmt, time, encoding/json and go-humanize.

Texts are str, and may hold bytes that are no UTF-8 as Python's arguments do (surrogateescape).
"""

import base64
import json
import math
import re

INT64_MAX = (1 << 63) - 1
UINT64_MAX = (1 << 64) - 1
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))
NS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
ESCAPES = {0x07: "a", 0x08: "b", 0x0C: "f", 0x0A: "n", 0x0D: "r", 0x09: "t", 0x0B: "v", 0x22: '"', 0x5C: "\\"}
SIZES = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


class GoError(ValueError):
    """A text is not of the form asked for. str() is Go's own words for it."""


def parse_int(text: str, base: int = 10) -> int:
    """strconv.ParseInt(text, base, 64); base 0 takes 0x, 0o, 0b and a leading 0 for what they say."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    size = _parse_digits("ParseInt", text, digits, base)
    value = -size if text.startswith("-") else size
    if not -INT64_MAX - 1 <= value <= INT64_MAX:
        raise GoError(f"strconv.ParseInt: parsing {quoted(text)}: value out of range")
    return value


def parse_uint(text: str, base: int = 10) -> int:
    value = _parse_digits("ParseUint", text, text, base)
    if value > UINT64_MAX:
        raise GoError(f"strconv.ParseUint: parsing {quoted(text)}: value out of range")
    return value


def _parse_digits(function: str, text: str, digits: str, base: int) -> int:
    if base == 0:
        base, digits = _base_of(digits)
    allowed = DIGITS[:base]
    if not digits or any(digit not in allowed for digit in digits.lower()) or not digits.isascii():
        raise GoError(f"strconv.{function}: parsing {quoted(text)}: invalid syntax")
    return int(digits, base)


def _base_of(digits: str) -> tuple[int, str]:
    for mark, base in (("0x", 16), ("0b", 2), ("0o", 8)):
        if digits.lower().startswith(mark):
            return base, digits[2:].replace("_", "")
    if len(digits) > 1 and digits[0] == "0":
        return 8, digits[1:].replace("_", "")
    return 10, digits.replace("_", "")


def parse_bool(text: str) -> bool:
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise GoError(f"strconv.ParseBool: parsing {quoted(text)}: invalid syntax")


def parse_duration_ns(text: str) -> int:
    """time.ParseDuration."""
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    if not rest:
        raise GoError(f"time: invalid duration {quoted(text)}")
    total_ns = 0
    while rest:
        number = re.match(r"\d*\.?\d*", rest)
        if number is None or not re.search(r"\d", number[0]):
            raise GoError(f"time: invalid duration {quoted(text)}")
        rest = rest[number.end() :]
        unit = re.match(r"[^.\d]*", rest)
        assert unit is not None
        if not unit[0]:
            raise GoError(f"time: missing unit in duration {quoted(text)}")
        if unit[0] not in NS:
            raise GoError(f"time: unknown unit {quoted(unit[0])} in duration {quoted(text)}")
        rest = rest[unit.end() :]
        whole, _, part = number[0].partition(".")
        total_ns += int(whole or "0") * NS[unit[0]]
        if part:
            total_ns += int(part) * NS[unit[0]] // 10 ** len(part)
        if total_ns > INT64_MAX:
            raise GoError(f"time: invalid duration {quoted(text)}")
    return sign * total_ns


def duration(ns: int) -> str:
    """time.Duration's String."""
    if ns == 0:
        return "0s"
    sign, ns = ("-", -ns) if ns < 0 else ("", ns)
    for unit in ("µs", "ms", "s"):
        if ns < NS[unit] * 1000 and unit != "s":
            return sign + (f"{ns}ns" if ns < 1000 else _decimal(ns, NS[unit]) + unit)
    minutes, rest_ns = divmod(ns, NS["m"])
    hours, minutes = divmod(minutes, 60)
    text = _decimal(rest_ns, NS["s"]) + "s"
    if minutes or hours:
        text = f"{minutes}m{text}"
    return sign + (f"{hours}h{text}" if hours else text)


def _decimal(value: int, unit: int) -> str:
    whole, part = divmod(value, unit)
    digits = str(part).rjust(len(str(unit)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)


def size(count: int) -> str:
    """humanize.Bytes: 20480 is "20 kB"."""
    if count < 10:
        return f"{count} B"
    power = min(int(math.log(count) / math.log(1000)), len(SIZES) - 1)
    value = math.floor(count / 1000**power * 10 + 0.5) / 10
    return f"{value:.1f} {SIZES[power]}" if value < 10 else f"{value:.0f} {SIZES[power]}"


def quoted(text: str | bytes) -> str:
    """%q: in double quotes, with what cannot be printed escaped."""
    raw = text if isinstance(text, bytes) else text.encode(errors="surrogateescape")
    parts: list[str] = []
    offset = 0
    while offset < len(raw):
        length = rune_bytes(raw, offset)
        if length == 0:
            parts.append(f"\\x{raw[offset]:02x}")
            offset += 1
            continue
        rune = raw[offset : offset + length].decode()
        offset += length
        code = ord(rune)
        if code in ESCAPES:
            parts.append("\\" + ESCAPES[code])
        elif rune == " " or (rune.isprintable() and not rune.isspace()):
            parts.append(rune)
        elif code < 0x20 or code == 0x7F:
            parts.append(f"\\x{code:02x}")
        else:
            parts.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return '"' + "".join(parts) + '"'


def rune_bytes(raw: bytes, offset: int) -> int:
    """How many bytes the UTF-8 character there has; 0 if it is none."""
    for length in range(1, 5):
        try:
            raw[offset : offset + length].decode()
        except UnicodeDecodeError:
            continue
        return length if offset + length <= len(raw) else 0
    return 0


def unquoted(text: str) -> tuple[str, int]:
    """What a quoted string at the beginning of text says, and where it ends (fmt's %q for scanning).

    "..." with escapes, or `...` as it stands. Raises GoError.
    """
    if text[:1] == "`":
        end = text.find("`", 1)
        if end < 0:
            raise GoError("unexpected EOF")
        return text[1:end], end + 1
    if text[:1] != '"':
        raise GoError("expected quoted string")
    end = 1
    while end < len(text) and text[end] != '"':
        end += 2 if text[end] == "\\" else 1
    if end >= len(text):
        raise GoError("unexpected EOF")
    return unescaped(text[1:end]), end + 1


ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\\"'])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.?))", re.S
)


def unescaped(text: str) -> str:
    """strconv.Unquote of what stands between double quotes. Raises GoError."""
    values = {name: chr(code) for code, name in ESCAPES.items()}

    def value(match: re.Match[str]) -> str:
        name, hexadecimal, short, long, octal, _ = match.groups()
        if name is not None and name != "'":
            return values[name]
        if hexadecimal or octal:
            number = int(hexadecimal, 16) if hexadecimal else int(octal, 8)
            if number < 256:
                return bytes((number,)).decode(errors="surrogateescape")
        code = int(short or long or "110000", 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise GoError("invalid syntax")
        return chr(code)

    if "\n" in text:
        raise GoError("invalid syntax")
    return ESCAPE.sub(value, text)


def hexadecimal(raw: bytes) -> bytes:
    """\\x61\\x62, as --hex prints."""
    return b"".join(b"\\x%02x" % byte for byte in raw)


def json_string(text: str) -> str:
    """encoding/json's: HTML's special characters are escaped, bytes that are no UTF-8 replaced."""
    clean = text.encode(errors="surrogateescape").decode(errors="replace")
    plain = json.dumps(clean, ensure_ascii=False)
    for character, escape in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        plain = plain.replace(character, escape)
    return plain.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def json_bytes(raw: bytes) -> str:
    return f'"{base64.b64encode(raw).decode()}"'


def json_object(fields: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{json_string(name)}:{value}" for name, value in fields) + "}"


def json_list(values: list[str]) -> str:
    return "[" + ",".join(values) + "]"


def boolean(value: bool) -> str:
    return "true" if value else "false"


def parse_csv_line(text: str) -> list[str]:
    """encoding/csv's first record. Raises GoError."""
    if not text:
        return []
    fields: list[str] = []
    line = text.split("\n", 1)[0]
    offset = 0
    while True:
        if line[offset : offset + 1] == '"':
            field, offset = _csv_quoted(text, line, offset)
        else:
            end = line.find(",", offset)
            end = len(line) if end < 0 else end
            field = line[offset:end]
            if '"' in field:
                column = len(line[: offset + field.index('"')].encode(errors="surrogateescape")) + 1
                raise GoError(f'parse error on line 1, column {column}: bare " in non-quoted-field')
            offset = end
        fields.append(field)
        if offset >= len(line):
            return fields
        offset += 1  # the comma


def _csv_quoted(text: str, line: str, offset: int) -> tuple[str, int]:
    start = offset
    field = ""
    offset += 1
    while True:
        end = line.find('"', offset)
        if end < 0:
            column = len(line.encode(errors="surrogateescape")) + 1
            raise GoError(f'parse error on line 1, column {column}: extraneous or missing " in quoted-field')
        field += line[offset:end]
        offset = end + 1
        if line[offset : offset + 1] == '"':
            field += '"'
            offset += 1
            continue
        if offset == len(line) or line[offset] == ",":
            assert start < offset
            return field, offset
        raise GoError(f'parse error on line 1, column {offset}: extraneous or missing " in quoted-field')
