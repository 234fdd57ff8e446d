"""Messages to a member one by one, as POST /raft: while it has no stream to us, and for members not yet in the log.

One worker on one kept connection, where etcd has four: it keeps the order, and a member that needs more has streams.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from kvorum.peer.dial import Connections
from kvorum.peer.urls import Urls
from kvorum.peer.wiring import Activity, Wiring, log, report_crash
from kvorum.raft.message import Message
from kvorum.server.histogram import PROBE_BOUNDS_S, Histogram
from kvorum.state.membership import hex_id
from kvorum.storage.entry_codec import encode_message

QUEUE_COUNT_MAX: Final = 64  # messages, as etcd; beyond it they are dropped and raft is told
ANSWER_TIMEOUT_S: Final = 5.0
CLOCK_DRIFT_S_MAX: Final = 1.0

_CONTENT: Final = [("Content-Type", "application/protobuf")]


class Pipeline:
    def __init__(self, member_id: int, urls: Urls, wiring: Wiring, activity: Activity) -> None:
        self._member_id = member_id
        self._urls = urls
        self._wiring = wiring
        self._activity = activity
        self._queue: deque[Message] = deque()
        self._probe_due = False
        self._wake = asyncio.Event()
        self._connections = Connections(dial_timeout_s=wiring.dial_timeout_s, tls=wiring.tls)
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"pipeline to {hex_id(member_id)}")
        self._task.add_done_callback(report_crash)
        self._drifting = False
        self.sent_bytes = 0
        self.failures_count = 0
        self.round_trips = Histogram(PROBE_BOUNDS_S)

    def send(self, messages: Sequence[Message]) -> bool:
        """Queues them. False if some found no room and are lost."""
        room = QUEUE_COUNT_MAX - len(self._queue)
        self._queue.extend(messages[:room])
        self._wake.set()
        return room >= len(messages)

    def probe(self) -> None:
        """Asks for a probe between two messages: it measures, and keeps the connection from being closed as idle."""
        self._probe_due = True
        self._wake.set()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._connections.close()

    async def _run(self) -> None:
        while True:
            if self._queue:
                await self._post(self._queue.popleft())
            elif self._probe_due:
                self._probe_due = False
                await self._probe()
            else:
                self._wake.clear()
                await self._wake.wait()

    async def _post(self, message: Message) -> None:
        url = self._urls.chosen
        body = encode_message(message)
        headers = self._wiring.identity.headers() + _CONTENT
        try:
            answer = await self._connections.ask(url, "POST", "/raft", headers, body, timeout_s=ANSWER_TIMEOUT_S)
        except OSError as error:
            self._failed(url, f"POST /raft at {url}: {error or type(error).__name__}")
            return
        if answer.status == 204:
            self.sent_bytes += len(body)
            self._activity.succeeded()
            return
        text = answer.body.decode("utf-8", "replace").strip()
        self._failed(url, f"POST /raft at {url} answered {answer.status} {text}")
        if answer.status == 403:  # no etcd 3.5 says it, but all of them take it to mean this
            self._wiring.on_removed()

    def _failed(self, url: str, what: str) -> None:
        self.failures_count += 1
        self._urls.failed(url)
        self._activity.failed(what)
        self._wiring.unreachable(self._member_id)

    async def _probe(self) -> None:
        started = time.monotonic()
        try:
            answer = await self._connections.ask(self._urls.chosen, "GET", "/raft/probing", timeout_s=ANSWER_TIMEOUT_S)
        except OSError:
            return
        round_trip_s = time.monotonic() - started
        self.round_trips.observe(round_trip_s)
        drift_s = clock_drift_s(answer.body, time.time(), round_trip_s)
        drifting = drift_s is not None and abs(drift_s) > CLOCK_DRIFT_S_MAX
        if drifting and not self._drifting:
            log.warning("the clock of peer %s differs from ours by %.1f s", hex_id(self._member_id), drift_s)
        self._drifting = drifting


def clock_drift_s(probe_answer: bytes, unix_s: float, round_trip_s: float) -> float | None:
    """How far the clock that answered a probe is ahead of ours; None if it is no such answer."""
    _, found, rest = probe_answer.partition(b'"Now":"')
    if not found:
        return None
    text = rest.partition(b'"')[0].decode("ascii", "replace")
    head, dot, fraction = text.removesuffix("Z").partition(".")
    try:
        # fromisoformat takes microseconds at most, Go writes nanoseconds
        theirs = datetime.fromisoformat(f"{head}.{fraction[:6]:0<6}+00:00" if dot else f"{head}+00:00")
    except ValueError:
        return None
    return theirs.timestamp() + round_trip_s / 2 - unix_s
