"""Options of all tests."""

import pytest
from hypothesis import settings

# No deadline for a single example: on a busy machine it measures the machine. The whole test has pytest's timeout.
settings.register_profile("kvorum", deadline=None)
settings.load_profile("kvorum")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite",
        action="store_true",
        help="write what was answered into the test's text file instead of comparing; the diff is then the review",
    )
