"""Which cluster is looked at next: each key stands here once, is worked on once at a time, and waits its turn.

Knows keys and instants, nothing of Kubernetes. WorkQueue is a plain state machine that is told the time; Workers runs
it on an event loop. There are two lanes, taken from in turns: what a person just changed does not stand behind the
hundreds of clusters that are looked at again because their time has come, and those do not starve either. Nor do they
take all the workers, each of which may hang on a cluster whose members do not answer.
"""

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import NamedTuple

ORDINARY_SHARE = 4  # one worker in so many may work on what nobody has just changed
BACK_OFF_S_MIN, BACK_OFF_S_MAX = 0.5, 60.0  # after the first failure of a cluster, doubled with each further one


class Key(NamedTuple):
    """A cluster."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Lane(Enum):
    CHANGED = "changed"  # a person changed the cluster itself: also ends a back-off
    ORDINARY = "ordinary"


class WorkQueue:
    """A key is in one place: waiting for its time, due, or being worked on (and then perhaps due again after that)."""

    def __init__(self, ordinary_count_max: int) -> None:
        """ordinary_count_max: of how many ordinary keys may be worked on at once."""
        self._ordinary_count_max = ordinary_count_max
        self._waiting: dict[Key, float] = {}  # until when
        self._times: list[tuple[float, int, Key]] = []  # a heap; what does not agree with _waiting is out of date
        self._count = itertools.count()  # keys of one instant stay in their order
        self._due: dict[Lane, dict[Key, float]] = {lane: {} for lane in Lane}  # since when, in order
        self._working: dict[Key, float] = {}  # since when
        self._working_ordinary: set[Key] = set()
        self._again: dict[Key, tuple[Lane, float]] = {}  # asked for while it was worked on
        self._failures_count: dict[Key, int] = {}
        self._turn = Lane.CHANGED
        self._moved_s = float("-inf")  # when a key was last taken or finished

    def __len__(self) -> int:
        """How many keys are due and not worked on."""
        return sum(len(lane) for lane in self._due.values())

    @property
    def working_count(self) -> int:
        return len(self._working)

    def add(self, key: Key, now_s: float, lane: Lane = Lane.ORDINARY) -> None:
        """Due now. A key in its back-off stays there, unless somebody changed its cluster."""
        if lane is Lane.ORDINARY and key in self._failures_count and key in self._waiting:
            return
        if key in self._working:
            lane_before, since_s = self._again.get(key, (lane, now_s))
            self._again[key] = (Lane.CHANGED if Lane.CHANGED in (lane, lane_before) else lane, since_s)
            return
        if key in self._due[Lane.CHANGED]:
            return
        self._waiting.pop(key, None)
        since_s = self._due[Lane.ORDINARY].get(key, now_s)
        if lane is Lane.CHANGED:
            self._due[Lane.ORDINARY].pop(key, None)
        self._due[lane].setdefault(key, since_s)

    def take(self, now_s: float) -> Key | None:
        """The next key to work on; it must be finished."""
        self._let_due(now_s)
        full = len(self._working_ordinary) >= self._ordinary_count_max
        open_lanes = [lane for lane in Lane if self._due[lane] and not (full and lane is Lane.ORDINARY)]
        if not open_lanes:
            return None
        lane = self._turn if self._turn in open_lanes else open_lanes[0]
        key = next(iter(self._due[lane]))
        del self._due[lane][key]
        self._working[key] = self._moved_s = now_s
        if lane is Lane.ORDINARY:
            self._working_ordinary.add(key)
        self._turn = Lane.ORDINARY if lane is Lane.CHANGED else Lane.CHANGED
        return key

    def _let_due(self, now_s: float) -> None:
        while self._times and self._times[0][0] <= now_s:
            due_s, _, key = heapq.heappop(self._times)
            if self._waiting.get(key) == due_s:
                del self._waiting[key]
                self._due[Lane.ORDINARY][key] = due_s

    def finish(self, key: Key, now_s: float, again_s: float | None) -> None:
        """Worked on, and well. again_s: in how many seconds at the latest; None for never."""
        self._failures_count.pop(key, None)
        self._leave(key, now_s)
        if again_s is not None:
            self._wait(key, now_s + again_s)

    def fail(self, key: Key, now_s: float) -> float:
        """Worked on in vain. The seconds until it is tried again."""
        failures_count = self._failures_count.get(key, 0)
        self._failures_count[key] = failures_count + 1
        back_off_s: float = min(BACK_OFF_S_MAX, BACK_OFF_S_MIN * 2 ** min(failures_count, 30))
        again = self._again.pop(key, None)
        self._leave(key, now_s)
        if again is not None and again[0] is Lane.CHANGED:
            self.add(key, now_s, Lane.CHANGED)
            return 0.0
        self._wait(key, now_s + back_off_s)
        return back_off_s

    def _wait(self, key: Key, due_s: float) -> None:
        if not any(key in lane for lane in self._due.values()):
            self._waiting[key] = due_s
            heapq.heappush(self._times, (due_s, next(self._count), key))

    def _leave(self, key: Key, now_s: float) -> None:
        del self._working[key]
        self._moved_s = now_s
        self._working_ordinary.discard(key)
        if key in self._again:
            lane, since_s = self._again.pop(key)
            self._due[lane][key] = since_s

    def clear(self) -> None:
        """Nothing is due any more. What is worked on is finished by its worker."""
        self._waiting.clear()
        self._times.clear()
        self._again.clear()
        self._failures_count.clear()
        for lane in self._due.values():
            lane.clear()

    def next_due_s(self) -> float | None:
        """When the next waiting key is due; None when none waits."""
        while self._times and self._waiting.get(self._times[0][2]) != self._times[0][0]:
            heapq.heappop(self._times)
        return self._times[0][0] if self._times else None

    def oldest_s(self, now_s: float) -> float:
        """For how long what is due, or worked on, has been so: of the oldest such key, in seconds."""
        return max(self._waited_s(now_s), self._worked_s(now_s))

    def stuck_s(self, now_s: float) -> float:
        """For how long one key has been worked on, or keys were due and none was taken or finished, in seconds.

        Small while a queue is only long, as at a start with very many clusters.
        """
        return max(min(self._waited_s(now_s), now_s - self._moved_s), self._worked_s(now_s))

    def _waited_s(self, now_s: float) -> float:
        since_s = [min(lane.values()) for lane in self._due.values() if lane]
        next_due_s = self.next_due_s()
        return max([0.0, *(now_s - one for one in since_s), now_s - next_due_s if next_due_s is not None else 0.0])

    def _worked_s(self, now_s: float) -> float:
        return now_s - min(self._working.values()) if self._working else 0.0


class Workers:
    """Works on the keys of a queue, many at once.

    work: what is done for a key; the seconds after which it is done again, None for never. Raises Failed.
    """

    def __init__(
        self, work: Callable[[Key], Awaitable[float | None]], workers_count_max: int, clock: Callable[[], float]
    ) -> None:
        self.queue = WorkQueue(max(1, workers_count_max // ORDINARY_SHARE))
        self._work = work
        self._workers_count_max = workers_count_max
        self._clock = clock
        self._woken = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, key: Key, lane: Lane = Lane.ORDINARY) -> None:
        self.queue.add(key, self._clock(), lane)
        self._woken.set()

    def oldest_s(self) -> float:
        return self.queue.oldest_s(self._clock())

    def stuck_s(self) -> float:
        return self.queue.stuck_s(self._clock())

    async def run(self) -> None:
        """Until cancelled; the work under way is then cancelled, too, and waited for."""
        try:
            while True:
                self._woken.clear()
                self._start_what_is_due()
                due_s = self.queue.next_due_s()
                timeout_s = None if due_s is None else max(0.0, due_s - self._clock())
                if len(self._tasks) >= self._workers_count_max:
                    timeout_s = None  # a worker that ends wakes us
                try:
                    await asyncio.wait_for(self._woken.wait(), timeout_s)
                except TimeoutError:
                    continue
        finally:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
            self.queue.clear()

    def _start_what_is_due(self) -> None:
        while len(self._tasks) < self._workers_count_max:
            key = self.queue.take(self._clock())
            if key is None:
                return
            task = asyncio.create_task(self._run_one(key))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._woken.set()

    async def _run_one(self, key: Key) -> None:
        again_s, failed = None, True
        try:
            again_s = await self._work(key)
            failed = False
        except Failed:
            pass  # told by who raised it
        finally:
            if failed:
                self.queue.fail(key, self._clock())
            else:
                self.queue.finish(key, self._clock(), again_s)


class Failed(Exception):
    """A key was worked on in vain; whoever raises it has said why."""
