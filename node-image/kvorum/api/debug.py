"""/debug/: what the process itself can say, where etcd has Go's pprof and expvar. On the client port alone, as there.

/debug/vars always; /debug/pprof/ with --enable-pprof. Nothing here stops the node, and all of it is bounded: one
profile at a time, for a minute at most, of stacks and traces up to a number. Stacks and counts hold no key, no value
and no token; the command line holds names of files, and no secret, since no flag takes one.
"""

import asyncio
import contextlib
import gc
import json
import resource
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Final
from urllib.parse import parse_qs

from kvorum.net.exchange import Exchange, HttpRequest, HttpResponse
from kvorum.raft.core import Role
from kvorum.raft.progress import ProgressState
from kvorum.server.server import Server
from kvorum.state.membership import hex_id

SECONDS_MAX: Final = 60.0
PROFILE_DEFAULT_S: Final = 30.0  # Go's
HEAP_DEFAULT_S: Final = 5.0
SAMPLE_INTERVAL_S: Final = 0.01  # Go's 100 Hz; 0.1 ms of each with a dozen threads
STACKS_MAX: Final = 10_000  # different ones in a profile; beyond it samples count as one "other"
FRAMES_MAX: Final = 100  # of one stack
TASKS_MAX: Final = 1_000  # told of, of asyncio's
TRACED_BYTES_MAX: Final = (
    4 << 20
)  # of tracemalloc's own memory, some 40,000 blocks; with more the heap profile ends early
TRACED_LINES_MAX: Final = 100  # of the heap profile
TEXT: Final = (("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff"))

PAGES: Final = {
    "cmdline": "the command line, its words parted by NUL",
    "goroutine": "the stacks of all threads and asyncio tasks, now (what Go calls goroutines)",
    "heap": "where memory is allocated during ?seconds=N (5), by tracemalloc: slower while it lasts",
    "profile": "stacks sampled for ?seconds=N (30), as flame graphs take them",
}


class Debug:
    """Answers what begins with /debug/."""

    def __init__(self, server: Server, *, pprof: bool) -> None:
        """In the loop that the node runs in."""
        self._server = server
        self._pprof = pprof
        self._busy = threading.Lock()  # held by the one profile that runs

    def handle(self, request: HttpRequest, exchange: Exchange) -> None:
        path = request.path.removeprefix("/debug/")
        if path == "vars":
            answer: Callable[[HttpRequest, Exchange], None] = self._vars
        elif self._pprof and path.startswith("pprof/"):
            pages: dict[str, Callable[[HttpRequest, Exchange], None]] = {
                "": self._index,
                "cmdline": self._cmdline,
                "goroutine": self._stacks,
                "heap": self._heap,
                "profile": self._profile,
            }
            found = pages.get(path.removeprefix("pprof/"))
            if found is None:
                exchange(_text(404, "Unknown profile\n"))
                return
            answer = found
        elif self._pprof and path == "pprof":
            exchange(HttpResponse(301, b"", (("Location", "/debug/pprof/"),)))
            return
        else:
            exchange(_text(404, "404 page not found\n"))
            return
        if request.method not in ("GET", "HEAD"):
            exchange(HttpResponse(405, b"Method Not Allowed\n", (*TEXT, ("Allow", "GET"))))
        else:
            answer(request, exchange)

    def _vars(self, request: HttpRequest, exchange: Exchange) -> None:
        body = json.dumps(variables(self._server), separators=(",", ":")).encode() + b"\n"
        exchange(HttpResponse(200, body, (("Content-Type", "application/json; charset=utf-8"),)))

    def _index(self, request: HttpRequest, exchange: Exchange) -> None:
        rows = "".join(f"<li><a href='{name}'>{name}</a>: {meaning}</li>\n" for name, meaning in PAGES.items())
        page = f"<html><head><title>/debug/pprof/</title></head><body>/debug/pprof/\n<ul>\n{rows}</ul></body></html>\n"
        exchange(HttpResponse(200, page.encode(), (("Content-Type", "text/html; charset=utf-8"), TEXT[1])))

    def _cmdline(self, request: HttpRequest, exchange: Exchange) -> None:
        exchange(_text(200, "\x00".join(sys.argv)))

    def _stacks(self, request: HttpRequest, exchange: Exchange) -> None:
        exchange(_text(200, stacks()))

    def _profile(self, request: HttpRequest, exchange: Exchange) -> None:
        self._measure(request, exchange, PROFILE_DEFAULT_S, profile)

    def _heap(self, request: HttpRequest, exchange: Exchange) -> None:
        self._measure(request, exchange, HEAP_DEFAULT_S, heap)

    def _measure(
        self,
        request: HttpRequest,
        exchange: Exchange,
        default_s: float,
        measure: Callable[[float, threading.Event], str],
    ) -> None:
        """In a thread of its own, which ends with the time asked for, or as soon as the client is gone."""
        seconds = _seconds(request, default_s)
        if seconds is None:
            exchange(_text(400, f"seconds must be a number above 0, and at most {SECONDS_MAX:g}\n"))
            return
        if not self._busy.acquire(blocking=False):
            exchange(_text(500, "Could not enable profiling: another profile is being taken\n"))
            return
        loop, ended = asyncio.get_running_loop(), threading.Event()

        def run() -> None:
            try:
                told = measure(seconds, ended)
            finally:
                self._busy.release()
            if not ended.is_set():
                with contextlib.suppress(RuntimeError):  # the node has stopped meanwhile, and its loop with it
                    loop.call_soon_threadsafe(answer, told)

        def answer(told: str) -> None:
            exchange.on_close = None
            exchange(_text(200, told))

        exchange.on_close = ended.set
        threading.Thread(target=run, name="debug", daemon=True).start()


def _text(status: int, body: str) -> HttpResponse:
    return HttpResponse(status, body.encode("utf-8", "replace"), TEXT)


def _seconds(request: HttpRequest, default_s: float) -> float | None:
    """None for what is no time to wait."""
    text = parse_qs(request.query).get("seconds", [""])[0]
    try:
        seconds = float(text) if text else default_s
    except ValueError:
        return None
    return seconds if 0 < seconds <= SECONDS_MAX else None  # not for a NaN either


# ---- /debug/vars -----------------------------------------------------------------------------------------------------


def variables(server: Server) -> dict[str, object]:
    """etcd's names; memstats has what of Go's there is in Python."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    collections = gc.get_stats()
    return {
        "cmdline": sys.argv,
        "file_descriptor_limit": soft,
        "memstats": {
            "Sys": usage.ru_maxrss << 10,  # the most that was resident
            "NumGC": sum(generation["collections"] for generation in collections),
            "HeapObjects": sum(gc.get_count()) + gc.get_freeze_count(),
            "EnableGC": gc.isenabled(),
        },
        "raft.status": raft_status(server),
    }


def raft_status(server: Server) -> dict[str, object]:
    """As raft's own Status tells it; progress is the leader's alone."""
    raft = server.raft
    names = {Role.LEADER: "StateLeader", Role.CANDIDATE: "StateCandidate", Role.PRE_CANDIDATE: "StatePreCandidate"}
    progress = {
        hex_id(member_id): {"match": one.match, "next": one.next, "state": _PROGRESS[one.state]}
        for member_id, one in (raft.tracked.items() if server.is_leader else ())
    }
    return {
        "id": hex_id(server.member_id),
        "term": raft.term,
        "vote": hex_id(raft.vote),
        "commit": raft.log.committed,
        "lead": hex_id(raft.leader),
        "raftState": names.get(raft.role, "StateFollower"),
        "applied": server.machine.applied_index,
        "progress": progress,
        "leadtransferee": hex_id(raft.leader_transferee),
    }


_PROGRESS: Final = {
    ProgressState.PROBE: "StateProbe",
    ProgressState.REPLICATE: "StateReplicate",
    ProgressState.SNAPSHOT: "StateSnapshot",
}


# ---- stacks ----------------------------------------------------------------------------------------------------------


def stacks() -> str:
    """Of every thread and every task of the running loop, innermost call first."""
    lines = []
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for identity, frame in sorted(sys._current_frames().items()):
        lines.append(f"thread {identity} [{names.get(identity, 'unnamed')}]:")
        lines += [f"\t{where}" for where in _frames(frame)]
        lines.append("")
    tasks = sorted(asyncio.all_tasks(), key=lambda task: task.get_name())
    for task in tasks[:TASKS_MAX]:
        lines.append(f"task {task.get_name()}:")
        lines += [f"\t{_place(frame)}" for frame in task.get_stack(limit=FRAMES_MAX)[::-1]]
        lines.append("")
    if len(tasks) > TASKS_MAX:
        lines.append(f"and {len(tasks) - TASKS_MAX} more tasks")
    return "\n".join(lines) + "\n"


def _frames(frame: FrameType | None) -> Iterator[str]:
    for _ in range(FRAMES_MAX):
        if frame is None:
            return
        yield _place(frame)
        frame = frame.f_back


def _place(frame: FrameType) -> str:
    return f"{_function(frame)} ({frame.f_code.co_filename}:{frame.f_lineno})"


def _function(frame: FrameType) -> str:
    module = frame.f_globals.get("__name__", "?")
    return f"{module}.{frame.f_code.co_qualname}"


# ---- profiles --------------------------------------------------------------------------------------------------------


def profile(seconds: float, ended: threading.Event, *, stacks_max: int = STACKS_MAX) -> str:
    """Stacks of all threads but this one, sampled: `outer;…;inner count` a line, the most frequent first."""
    own = threading.get_ident()
    found: Counter[str] = Counter()
    started = time.monotonic()
    while (now := time.monotonic()) - started < seconds and not ended.is_set():
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for identity, frame in sys._current_frames().items():
            if identity != own:
                stack = _folded(names.get(identity, "unnamed"), frame)
                found[stack if stack in found or len(found) < stacks_max else "other"] += 1
        ended.wait(max(0.0, SAMPLE_INTERVAL_S - (time.monotonic() - now)))
    return "".join(f"{stack} {count}\n" for stack, count in found.most_common())


def _folded(thread: str, frame: FrameType) -> str:
    functions: list[str] = []
    inner: FrameType | None = frame
    while inner is not None and len(functions) < FRAMES_MAX:
        functions.append(_function(inner))
        inner = inner.f_back
    return ";".join((thread, *reversed(functions)))


def heap(seconds: float, ended: threading.Event) -> str:
    """What was allocated meanwhile and is still there, by line, the most bytes first."""
    started = time.monotonic()
    tracemalloc.start(1)
    try:
        while time.monotonic() - started < seconds and not ended.wait(0.05):
            if tracemalloc.get_tracemalloc_memory() > TRACED_BYTES_MAX:
                break
        took_s = time.monotonic() - started
        grown = [] if ended.is_set() else tracemalloc.take_snapshot().statistics("lineno")
    finally:
        tracemalloc.stop()
    return _heap_text(took_s, ((one.size, one.count, str(one.traceback)) for one in grown[:TRACED_LINES_MAX]))


def _heap_text(took_s: float, grown: Iterable[tuple[int, int, str]]) -> str:
    resident_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    head = f"# {took_s:.1f} s; the most that was ever resident: {resident_kib} KiB\n# bytes, blocks, where\n"
    return head + "".join(f"{size} {count} {where}\n" for size, count, where in grown)
