"""Passwords: hashes as Go makes them, compared off the loop, with a bound on what waits."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from kvorum.server.passwords import WAITING_MAX, Passwords, TooManyWait

GO_HASH = b"$2a$04$zVHmKQtGGQob.b/Nc7l9NO8UlrYcW05FiuCj/SxsFO/ZtiN9.mNzy"  # of "password", by etcd's library


def run(told: Callable[[Passwords], Awaitable[None]]) -> None:
    passwords = Passwords(4)
    try:
        asyncio.run(told(passwords))  # type: ignore[arg-type]  # a coroutine
    finally:
        passwords.stop()


def test_a_hash_is_of_its_password_alone_and_of_the_cost_asked_for() -> None:
    async def told(passwords: Passwords) -> None:
        hashed = await passwords.hash(b"secret")
        assert hashed.startswith(b"$2a$04$")
        assert hashed != await passwords.hash(b"secret")
        assert await passwords.is_right(b"secret", hashed)
        for wrong in (b"", b"Secret", b"secret ", b"secret\0"):
            assert not await passwords.is_right(wrong, hashed)

    run(told)


def test_what_comes_behind_72_bytes_is_not_looked_at_as_in_go() -> None:
    async def told(passwords: Passwords) -> None:
        hashed = await passwords.hash(b"x" * 72)
        assert await passwords.is_right(b"x" * 80, hashed)
        assert not await passwords.is_right(b"x" * 71, hashed)

    run(told)


def test_bytes_of_any_kind_are_a_password() -> None:
    async def told(passwords: Passwords) -> None:
        for password in (b"", b"\xff\xfe", b"a\0b", "ä".encode()):
            hashed = await passwords.hash(password)
            assert await passwords.is_right(password, hashed)
            assert not await passwords.is_right(password + b"!", hashed)

    run(told)


@pytest.mark.parametrize("stored", [b"", b"x", b"$2a$04$short", b"plain", b"\xff" * 60, None])
def test_what_is_no_hash_fits_no_password(stored: bytes | None) -> None:
    async def told(passwords: Passwords) -> None:
        for password in (b"", b"x", b"nobody's"):
            assert not await passwords.is_right(password, stored)

    run(told)


def test_more_than_could_be_answered_in_time_do_not_wait() -> None:
    async def told(passwords: Passwords) -> None:
        waiting = [asyncio.ensure_future(passwords.hash(b"x")) for _ in range(WAITING_MAX)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyWait):
            await passwords.hash(b"x")
        await asyncio.gather(*waiting)
        assert await passwords.hash(b"x")

    run(told)
