"""Sizes and durations: what they are in bytes and milliseconds, and how they are shown."""

import pytest
from kvorum_operator.api.quantities import Duration, Quantity


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("8", 8), ("64Mi", 64 << 20), ("0.5Gi", 1 << 29), ("2G", 2 * 10**9), ("1k", 1000)]
)
def test_quantity_is_bytes(text: str, value: int) -> None:
    assert Quantity(text).value == value
    assert str(Quantity(text)) == text


@pytest.mark.parametrize(
    ("text", "value"), [("100ms", 100), ("1s", 1000), ("1.5s", 1500), ("1h30m", 5_400_000), ("2m", 120_000)]
)
def test_duration_is_milliseconds(text: str, value: int) -> None:
    assert Duration(text).value == value
    assert Duration(text).seconds == value / 1000


@pytest.mark.parametrize("text", ["", "1", "s", "1d", "1 s", "-1s", "1s1", "1.s", "1e3s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Duration(text)


@pytest.mark.parametrize("text", ["", "Gi", "1KB", "1 Gi", "-1", "1.Gi.", "1gi"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises((ValueError, ArithmeticError)):
        Quantity(text)


def test_equal_amounts_are_equal_however_written() -> None:
    assert Quantity("1Gi") == Quantity("1024Mi")
    assert Duration("60s") == Duration("1m")
    assert Duration("1s") < Duration("1001ms")
    assert len({Duration("1h"), Duration("60m")}) == 1


@pytest.mark.parametrize(
    ("size_bytes", "shown"), [(7 << 30, "7Gi"), ((7 << 30) + 1, "7169Mi"), (1216 << 20, "1216Mi"), (1, "1Mi")]
)
def test_least_size_is_shown_as_people_write_it(size_bytes: int, shown: str) -> None:
    assert str(Quantity.at_least(size_bytes)) == shown
