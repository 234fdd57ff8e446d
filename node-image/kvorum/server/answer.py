"""Who waits for an answer, as the server sees them: a gRPC call, or one of its own tasks.

Knows no HTTP/2 and no gRPC: net.call.Call fits this protocol, and so does `Done` for the server's own proposals.
"""

from asyncio import Future, get_running_loop
from collections.abc import Callable
from typing import Protocol

from kvorum.state.refusal import Refusal

WAITING_MAX = 50_000  # proposals without an answer, and as many reads (etcd: 5,000 entries committed, not applied)


class Answer(Protocol):
    """Exactly one of the two is called, once."""

    def reply(self, body: bytes) -> None:
        """The whole encoded response, header included."""
        ...

    def fail(self, code: int, message: str) -> None:
        """A gRPC status code and etcd's text."""
        ...


class Awaited:
    """An answer that a task of ours waits for."""

    __slots__ = ("_outcome",)

    def __init__(self) -> None:
        self._outcome: Future[bytes | Refusal] = get_running_loop().create_future()

    def reply(self, body: bytes) -> None:
        if not self._outcome.done():  # the task may be cancelled
            self._outcome.set_result(body)

    def fail(self, code: int, message: str) -> None:
        if not self._outcome.done():
            self._outcome.set_result(Refusal(code, message))

    async def outcome(self) -> bytes | Refusal:
        return await self._outcome


class Done:
    """An answer for the server's own use: calls back with None, or with the refusal."""

    __slots__ = ("_callback",)

    def __init__(self, callback: Callable[[Refusal | None], None]) -> None:
        self._callback = callback

    def reply(self, body: bytes) -> None:
        self._callback(None)

    def fail(self, code: int, message: str) -> None:
        self._callback(Refusal(code, message))
