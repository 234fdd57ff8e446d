"""Tasks: what must wait for another member or for the disk, and so cannot be done within one turn of the loop.

Here is their outermost edge: what goes wrong in one that serves a request is logged and answered, and tables that are
damaged, or anything that goes wrong in one that serves none, end the process.
"""

import logging
from asyncio import Task
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from kvorum.server.answer import Answer
from kvorum.storage.fault import CorruptStore

if TYPE_CHECKING:
    from kvorum.server.server import Server

log = logging.getLogger(__name__)

INTERNAL = 13  # gRPC's code


class Tasks:
    """Those of one member that have not ended."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._running: set[Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], answer: Answer) -> "Task[None]":
        """For a call that is answered there."""
        task = self._server.loop.create_task(work)
        self._running.add(task)
        task.add_done_callback(lambda task: self._answered(task, answer))
        return task

    def _answered(self, task: "Task[None]", answer: Answer) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            if isinstance(error, CorruptStore):
                self._server.die(error)
            log.error("a request failed", exc_info=error)
            answer.fail(INTERNAL, "kvorum: internal error, see the member's log")

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """What belongs to no request. Whatever goes wrong in it ends the process."""
        task = self._server.loop.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "Task[None]") -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._server.die(error)

    def cancel(self) -> None:
        for task in self._running:
            task.cancel()
