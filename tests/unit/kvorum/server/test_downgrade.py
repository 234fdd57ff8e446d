"""Which downgrades are permitted. Beside a real etcd: tests/compat/test_downgrade.py."""

import pytest
from kvorum.server.downgrade import objection, parse_target
from kvorum.state import refusal


@pytest.mark.parametrize("text", ["3.4", "3.4.0", "3.4.7", "3.4.7-rc.1", "03.4.0", "3.4.0+build", "3.4-alpha"])
def test_a_target_is_two_or_three_numbers(text: str) -> None:
    assert parse_target(text) == (3, 4)


@pytest.mark.parametrize(
    "text",
    ["", "3", "x", "v3.4.0", "3.4.0.0", "3..0", ".4.0", "3.4.", "-3.4", "3.4.x", "3.٤.0", "9" * 5000, f"3.{'9' * 19}"],
)
def test_anything_else_is_none(text: str) -> None:
    assert parse_target(text) is None


def test_only_the_next_lower_minor_version_is_permitted_and_once() -> None:
    assert objection("3.5.0", (3, 4), None) is None
    for target in ((3, 5), (3, 3), (3, 6), (2, 4), (4, 4)):
        assert objection("3.5.0", target, None) == refusal.DOWNGRADE_BAD_TARGET
        assert objection("3.5.0", target, "3.4.0") == refusal.DOWNGRADE_BAD_TARGET
    assert objection("3.5.0", (3, 4), "3.4.0") == refusal.DOWNGRADE_IN_PROGRESS
    assert objection(None, (3, 4), None) == refusal.DOWNGRADE_NO_VERSION
