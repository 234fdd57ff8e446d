"""Compactions of the keys on this member: what of the history is removed goes in slices, between requests.

Which revision is compacted the log says, on every member alike (state.compaction); each takes its own time over it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvorum.server.server import Server

ROWS_A_SLICE = 500  # about 2 ms of the loop, for which requests wait; settings may ask for fewer


class Compaction:
    """Of one member. It may begin anew with the state of an installed snapshot."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._is_running = False
        self._when_done: list[Callable[[], None]] = []

    def begin(self) -> None:
        """There is something to remove. May be called again and again."""
        if not self._is_running:
            self._is_running = True
            self._server.loop.call_soon(self._slice)

    def when_done(self, done: Callable[[], None]) -> None:
        """Calls done when no removed revision is left on disk."""
        if self._server.machine.compaction.pending:
            self._when_done.append(done)
        else:
            done()

    def _slice(self) -> None:
        if self._server.stopped:
            return
        settings = self._server.settings
        if self._server.machine.compact_step(min(ROWS_A_SLICE, settings.compaction_rows_max)):
            self._server.loop.call_later(settings.compaction_pause_ms / 1000, self._slice)
            return
        self._is_running = False
        done, self._when_done = self._when_done, []
        for callback in done:
            callback()
