"""What the world notices of its members: each program says in its own way that it cannot go on."""

import logging

import pytest
from kvorum.json_log import JsonLines

from tests.chaos.world import broken_at


def ours(level: int, message: str) -> str:
    return JsonLines().format(logging.LogRecord("kvorum.aside", level, __file__, 1, message, None, None))


QUIET = "\n".join((ours(logging.INFO, "ready"), '{"level":"warn","msg":"apply request took too long"}', ""))


@pytest.mark.parametrize(
    "line",
    [
        ours(logging.CRITICAL, "corrupt: the log is damaged"),
        '{"level":"fatal","ts":"2026-01-01T00:00:00Z","caller":"etcdmain/etcd.go:204","msg":"discovery failed"}',
        '{"level":"panic","ts":"2026-01-01T00:00:00Z","caller":"mvcc/kvstore.go:402","msg":"failed to put"}',
        "panic: runtime error: index out of range [3] with length 3",
        "Traceback (most recent call last):",
    ],
    ids=["ours", "etcd-fatal", "etcd-panic", "go", "python"],
)
def test_a_program_that_broke_is_noticed_by_what_it_says(line: str) -> None:
    assert line in broken_at(f"{QUIET}{line}\n{QUIET}")
    assert line in broken_at(f"{line}\n")


def test_what_programs_say_in_good_order_is_no_complaint() -> None:
    words = ours(logging.ERROR, "a peer says panic: and fatal")
    assert broken_at(f"{QUIET}{words}\n") == ""
