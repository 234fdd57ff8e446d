"""Times as Go writes them: every nanosecond of 64 bits, and no more digits than there are."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvorum.state.go_time import format_ns, parse_ns

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
EPOCH = datetime.datetime(1970, 1, 1)


@given(INT64)
def test_every_time_is_written_as_the_calendar_has_it_and_read_again(time_ns: int) -> None:
    text = format_ns(time_ns)
    seconds, nanoseconds = divmod(time_ns, 10**9)
    assert text.startswith((EPOCH + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S"))
    assert text.endswith("Z")
    assert ("." in text) == (nanoseconds != 0)
    assert not text.endswith("0Z") or "." not in text
    assert parse_ns(text) == time_ns


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00.5+01:00", 500_000_000),
        ("1969-12-31T23:30:00-00:30", 0),
        ("2000-02-29T12:00:00Z", 951_825_600_000_000_000),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000_000_000),
    ],
)
def test_zones_and_leap_days_are_read(text: str, time_ns: int) -> None:
    assert parse_ns(text) == time_ns


@pytest.mark.parametrize(
    "text", ["", "2026-11-25", "2026-13-01T00:00:00Z", "2026-11-25T24:00:00Z", "x2026-11-25T00:00:00Z"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        parse_ns(text)
