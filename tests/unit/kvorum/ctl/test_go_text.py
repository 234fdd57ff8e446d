"""Texts as Go reads and writes them. The expected ones are Go's own: its documentation's, or seen from an etcdctl."""

import pytest
from kvorum.ctl import go_text
from kvorum.ctl.go_text import GoError


@pytest.mark.parametrize(
    ("text", "base", "value"),
    [("12", 10, 12), ("-7", 10, -7), ("ff", 16, 255), ("0x1f", 0, 31), ("010", 0, 8), ("0b11", 0, 3), ("+5", 10, 5)],
)
def test_integers_are_read(text: str, base: int, value: int) -> None:
    assert go_text.parse_int(text, base) == value


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", 'strconv.ParseInt: parsing "": invalid syntax'),
        ("1.5", 'strconv.ParseInt: parsing "1.5": invalid syntax'),
        ("٣", 'strconv.ParseInt: parsing "٣": invalid syntax'),
        ("9223372036854775808", 'strconv.ParseInt: parsing "9223372036854775808": value out of range'),
    ],
)
def test_what_is_no_integer_is_told_in_gos_words(text: str, error: str) -> None:
    with pytest.raises(GoError) as caught:
        go_text.parse_int(text)
    assert str(caught.value) == error


def test_least_and_greatest_integers_are_read() -> None:
    assert go_text.parse_int("-9223372036854775808") == -(1 << 63)
    assert go_text.parse_uint("ffffffffffffffff", 16) == (1 << 64) - 1
    with pytest.raises(GoError, match="out of range"):
        go_text.parse_uint("10000000000000000", 16)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("5s", 5 * 10**9),
        ("1h15m30.918s", 4530918 * 10**6),
        ("-1.5h", -5400 * 10**9),
        ("0", 0),
        ("2us", 2000),
        (".5s", 5 * 10**8),
    ],
)
def test_durations_are_read(text: str, ns: int) -> None:
    assert go_text.parse_duration_ns(text) == ns


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("5", 'time: missing unit in duration "5"'),
        ("x", 'time: invalid duration "x"'),
        ("", 'time: invalid duration ""'),
        ("5x", 'time: unknown unit "x" in duration "5x"'),
        ("9999999h", 'time: invalid duration "9999999h"'),
    ],
)
def test_what_is_no_duration_is_told_in_gos_words(text: str, error: str) -> None:
    with pytest.raises(GoError) as caught:
        go_text.parse_duration_ns(text)
    assert str(caught.value) == error


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"),
        (999, "999ns"),
        (1500, "1.5µs"),
        (2_298_410, "2.29841ms"),
        (1_000_848_373, "1.000848373s"),
        (65 * 10**9, "1m5s"),
        (3600 * 10**9, "1h0m0s"),
        (-5 * 10**9, "-5s"),
    ],
)
def test_durations_are_written(ns: int, text: str) -> None:
    assert go_text.duration(ns) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (9, "9 B"), (20480, "20 kB"), (1234, "1.2 kB"), (82854982, "83 MB"), (10**9, "1.0 GB")],
)
def test_sizes_are_written(count: int, text: str) -> None:
    assert go_text.size(count) == text


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"a b", '"a b"'),
        (b'q"\\', r'"q\"\\"'),
        (b"\n\t\x00\x7f", r'"\n\t\x00\x7f"'),
        (b"\xff", r'"\xff"'),
        ("ü☃".encode(), '"ü☃"'),
        ("\u00a0\u2028".encode(), r'"\u00a0\u2028"'),
        ("\U0001f600\ufeff".encode(), '"\U0001f600\\ufeff"'),
    ],
)
def test_quotes(raw: bytes, text: str) -> None:
    assert go_text.quoted(raw) == text


@pytest.mark.parametrize(
    ("text", "value", "end"),
    [('"a b") =', "a b", 5), (r'"\"\x41\u00e9" x', '"Aé', 14), ("`raw\\n` x", "raw\\n", 7)],
)
def test_quoted_text_is_read_and_where_it_ends(text: str, value: str, end: int) -> None:
    assert go_text.unquoted(text) == (value, end)


@pytest.mark.parametrize("text", ["a", '"open', '"bad \\q"', ""])
def test_what_is_no_quoted_text_is_refused(text: str) -> None:
    with pytest.raises(GoError):
        go_text.unquoted(text)


def test_json_texts_are_escaped_as_for_html() -> None:
    assert go_text.json_string('<a href="x">&\u2028\n') == r'"\u003ca href=\"x\"\u003e\u0026\u2028\n"'
    assert go_text.json_string("\udcff") == '"\ufffd"'
    assert go_text.json_bytes(b"\xff\x00") == '"/wA="'


@pytest.mark.parametrize(
    ("text", "fields"),
    [("", []), ("a", ["a"]), ("a,,b", ["a", "", "b"]), ('"a,b",c', ["a,b", "c"]), ('"a""b"', ['a"b'])],
)
def test_lists_are_read(text: str, fields: list[str]) -> None:
    assert go_text.parse_csv_line(text) == fields
