"""One stream from this member to another, on the connection that the other opened for it.

Hot path: what one turn of the loop has for a peer leaves as one chunk in one write; `make bench`.
Messages wait here, not their bytes: while the socket takes no more they stay messages, whose entries the log holds
anyway, so a stalled peer costs a queue and not a copy of everything it misses.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from kvorum.peer.streams import Encoder
from kvorum.peer.wiring import Timings
from kvorum.raft.message import Message
from kvorum.wire import http1

QUEUE_COUNT_MAX: Final = 4096  # messages, as etcd; beyond it they are dropped and raft is told
CHUNK_BYTES_MAX: Final = 1 << 20  # after this many bytes the socket is asked whether it takes more


class Carrier(Protocol):
    """The connection underneath, already taken over from HTTP."""

    def write(self, data: bytes) -> None: ...
    def buffered_bytes(self) -> int: ...
    def end(self) -> None: ...
    def abort(self) -> None: ...


class Outbound:
    """on_broken: called once, when the stream ends otherwise than by end(); what was sent last may be lost with it."""

    def __init__(
        self, carrier: Carrier, encoder: Encoder, on_broken: Callable[["Outbound"], None], timings: Timings
    ) -> None:
        self._carrier = carrier
        self._encoder = encoder
        self._on_broken = on_broken
        self._timings = timings
        self._queue: deque[Message] = deque()
        self._paused = False
        self._ended = False
        self._written_bytes = 0
        self._taken_bytes = 0  # of those, what the socket had taken at the last look
        self._loop = asyncio.get_running_loop()
        self._progress_at = self._loop.time()
        self._timer = self._loop.call_later(timings.heartbeat_s, self._heartbeat)

    @property
    def sent_bytes(self) -> int:
        return self._written_bytes

    def send(self, messages: Sequence[Message]) -> bool:
        """Writes or queues them, in order. False if some found no room and are lost."""
        if self._ended:
            return False
        room = QUEUE_COUNT_MAX - len(self._queue)
        if not self._paused and not self._queue and room >= len(messages):
            self._write(messages)
            return True
        self._queue.extend(messages[:room])
        return room >= len(messages)

    def end(self) -> None:
        """Ends the stream in good order: the reader sees the last chunk after what was written. A queue is lost."""
        if not self._ended:
            self._stop()
            self._carrier.write(http1.LAST_CHUNK)
            self._carrier.end()

    # Called by the connection.

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        if self._queue and not self._ended:
            queued = list(self._queue)
            self._queue.clear()
            self._write(queued)

    def lost(self) -> None:
        """The connection is gone."""
        if not self._ended:
            self._stop()
            self._on_broken(self)

    def _write(self, messages: Sequence[Message]) -> None:
        encode = self._encoder.encode
        frames: list[bytes] = []
        pending_bytes = 0
        for position, message in enumerate(messages):
            frame = encode(message)
            frames.append(frame)
            pending_bytes += len(frame)
            if pending_bytes >= CHUNK_BYTES_MAX:
                self._write_chunk(frames, pending_bytes)
                frames, pending_bytes = [], 0
                if self._paused:
                    # Only ever from a queue that was just emptied, or past an empty one: order is kept.
                    self._queue.extend(messages[position + 1 :])
                    return
        if frames:
            self._write_chunk(frames, pending_bytes)

    def _write_chunk(self, frames: list[bytes], size: int) -> None:
        chunk = b"%x\r\n%b\r\n" % (size, frames[0] if len(frames) == 1 else b"".join(frames))
        self._written_bytes += len(chunk)
        self._carrier.write(chunk)

    def _heartbeat(self) -> None:
        now = self._loop.time()
        buffered = self._carrier.buffered_bytes()
        taken = self._written_bytes - buffered
        if taken > self._taken_bytes or not buffered:
            self._taken_bytes, self._progress_at = taken, now
        elif now - self._progress_at >= self._timings.stalled_s:
            self._stop()
            self._carrier.abort()
            self._on_broken(self)
            return
        if not self._paused:
            self._write_chunk([self._encoder.heartbeat], len(self._encoder.heartbeat))
        self._timer = self._loop.call_later(self._timings.heartbeat_s, self._heartbeat)

    def _stop(self) -> None:
        self._ended = True
        self._queue.clear()
        self._timer.cancel()
