"""Passwords: hashed and compared by bcrypt, in threads of their own, since each takes about as long as a thousand puts.

Few threads, and a bound on what waits for them: whoever has no password yet can ask for this work. A name that nobody
has is compared, too, so that the time of an answer does not tell which names there are (etcd's answer comes at once).
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import bcrypt

COST_MIN, COST_MAX, COST_DEFAULT = 4, 31, 10  # Go's
PASSWORD_BYTES_MAX = 72  # what bcrypt looks at
THREADS = 2
WAITING_MAX = 200

Done = TypeVar("Done", bytes, bool)


class TooManyWait(Exception):
    """More passwords wait to be compared than could be within a request's time."""


class Passwords:
    """cost: each more doubles the time of a comparison."""

    def __init__(self, cost: int) -> None:
        self._cost = cost
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="passwords")
        self._waiting_count = 0
        self._nobodys: bytes | None = None

    async def hash(self, password: bytes) -> bytes:
        """What is stored. password: no longer than PASSWORD_BYTES_MAX. Raises TooManyWait."""
        return await self._in_thread(partial(_hash, password, self._cost))

    async def is_right(self, password: bytes, hashed: bytes | None) -> bool:
        """hashed None: of a name that nobody has, so it is not. Raises TooManyWait."""
        if hashed is None:
            if self._nobodys is None:
                self._nobodys = await self.hash(b"nobody's")
            await self._in_thread(partial(_matches, password, self._nobodys))
            return False
        return await self._in_thread(partial(_matches, password, hashed))

    async def _in_thread(self, work: Callable[[], Done]) -> Done:
        if self._waiting_count >= WAITING_MAX:
            raise TooManyWait
        self._waiting_count += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting_count -= 1

    def stop(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _hash(password: bytes, cost: int) -> bytes:
    return bcrypt.hashpw(password, bcrypt.gensalt(cost, prefix=b"2a"))  # as Go's


def _matches(password: bytes, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(password[:PASSWORD_BYTES_MAX], hashed)  # Go's ignores the rest as well
    except ValueError:
        return False  # no hash: a user whose password came plain (auth_changes.decode_password), or has none
