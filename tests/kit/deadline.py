"""Waiting for a condition with a deadline: what tests do where others sleep."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

POLL_S = 0.02

T = TypeVar("T")


class DeadlineMissed(AssertionError):
    """What was waited for did not come true in time."""


def wait_until(predicate: Callable[[], T], deadline_s: float, what: str, *, poll_s: float = POLL_S) -> T:
    """The first true value of predicate. Raises DeadlineMissed, naming `what`, after deadline_s seconds."""
    until = time.monotonic() + deadline_s
    while not (value := predicate()):
        if time.monotonic() > until:
            raise DeadlineMissed(f"not within {deadline_s:g} s: {what}")
        time.sleep(poll_s)
    return value


async def wait_until_async(predicate: Callable[[], Awaitable[T]], deadline_s: float, what: str) -> T:
    """The same for a predicate that is awaited."""
    until = time.monotonic() + deadline_s
    while not (value := await predicate()):
        if time.monotonic() > until:
            raise DeadlineMissed(f"not within {deadline_s:g} s: {what}")
        await asyncio.sleep(POLL_S)
    return value
