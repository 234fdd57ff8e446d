"""What /debug/ tells of a process: its stacks, where its time and memory go, and that asking has bounds."""

import asyncio
import threading
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from kvorum.api import debug
from kvorum.api.debug import Debug
from kvorum.net.exchange import HttpRequest, HttpResponse

from tests.unit.kvorum.server.cluster import Cluster

ANSWER_S = 60.0


class Asked:
    """Who asks, and may go. Fits net.exchange.Exchange as far as it is used here."""

    secure = False
    common_name = None

    def __init__(self) -> None:
        self.headers: list[tuple[str, str]] = []
        self.on_close: Callable[[], None] | None = None
        self._answered: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()

    def __call__(self, response: HttpResponse, /) -> None:
        self._answered.set_result(response)  # which refuses a second answer

    def open(self, status: int, headers: object = ()) -> object:
        raise AssertionError("nothing here is a stream")

    async def answer(self) -> HttpResponse:
        return await asyncio.wait_for(asyncio.shield(self._answered), ANSWER_S)

    async def text(self) -> tuple[int, str]:
        answer = await self.answer()
        return answer.status, bytes(answer.body).decode()

    @property
    def is_answered(self) -> bool:
        return self._answered.done()


def ask(served: Debug, target: str, method: str = "GET") -> Asked:
    path, _, query = target.partition("?")
    asked = Asked()
    served.handle(HttpRequest(method, target, path, query, headers={}, minor=1, keep_alive=True), asked)  # type: ignore[arg-type]  # as far as it is used
    return asked


def with_debug(folder: Path, story: Callable[[Debug, Cluster], Awaitable[None]], *, pprof: bool = True) -> None:
    async def told() -> None:
        cluster = await Cluster(folder).start(1)
        try:
            await story(Debug(cluster.leader(), pprof=pprof), cluster)
        finally:
            cluster.stop()

    asyncio.run(told())


async def wait_here() -> None:
    await asyncio.Event().wait()


def test_stacks_are_those_of_threads_and_of_tasks(tmp_path: Path) -> None:
    async def story(served: Debug, cluster: Cluster) -> None:
        blocked = threading.Event()
        thread = threading.Thread(target=blocked.wait, name="a thread that waits", daemon=True)
        thread.start()
        task = asyncio.create_task(wait_here(), name="a task that waits")
        await asyncio.sleep(0)
        status, told = await ask(served, "/debug/pprof/goroutine?debug=2").text()
        blocked.set()
        task.cancel()
        assert status == 200
        assert "[a thread that waits]:\n\tthreading.Condition.wait (" in told
        _, _, of_task = told.partition("task a task that waits:\n")
        assert of_task.startswith(f"\t{__name__}.wait_here ({__file__}:")
        assert "[MainThread]:" in told

    with_debug(tmp_path, story)


def test_a_profile_tells_where_time_goes_and_the_loop_goes_on(tmp_path: Path) -> None:
    async def story(served: Debug, cluster: Cluster) -> None:
        ended = threading.Event()

        def spin_in_circles() -> None:
            while not ended.is_set():
                sum(range(100))

        thread = threading.Thread(target=spin_in_circles, name="busy", daemon=True)
        thread.start()
        asked = ask(served, "/debug/pprof/profile?seconds=0.5")
        turns = 0
        while not asked.is_answered:
            turns += 1
            await asyncio.sleep(0.005)
        ended.set()
        status, told = await asked.text()
        assert status == 200
        assert turns > 5
        stacks = {line.rpartition(" ")[0]: int(line.rpartition(" ")[2]) for line in told.splitlines()}
        busy = [stack for stack in stacks if stack.startswith("busy;")]
        assert busy
        assert all("spin_in_circles" in stack for stack in busy)
        assert any(stack.startswith("MainThread;") for stack in stacks)

    with_debug(tmp_path, story)


def test_a_heap_profile_tells_who_allocates_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async def story(served: Debug, cluster: Cluster) -> None:
        asked = ask(served, "/debug/pprof/heap?seconds=0.3")
        kept = []
        while not asked.is_answered:
            kept.append(bytes(10_000))
            await asyncio.sleep(0.005)
        status, told = await asked.text()
        assert status == 200
        first = told.splitlines()[2].split(" ")
        assert int(first[0]) > 10_000
        assert any("test_debug.py" in line for line in told.splitlines())
        assert not tracemalloc.is_tracing()

    with_debug(tmp_path, story)


def test_one_profile_is_taken_at_a_time_and_ends_when_its_client_goes(tmp_path: Path) -> None:
    async def story(served: Debug, cluster: Cluster) -> None:
        started = time.monotonic()
        first = ask(served, "/debug/pprof/profile?seconds=60")
        status, told = await ask(served, "/debug/pprof/heap").text()
        assert (status, told) == (500, "Could not enable profiling: another profile is being taken\n")
        assert first.on_close is not None
        first.on_close()
        while (await ask(served, "/debug/pprof/profile?seconds=0.01").text())[0] != 200:
            assert time.monotonic() - started < 50
            await asyncio.sleep(0.01)
        assert not first.is_answered

    with_debug(tmp_path, story)


@pytest.mark.parametrize("seconds", ["0", "-1", "61", "x", "nan", "inf", "1e9"])
@pytest.mark.parametrize("page", ["profile", "heap"])
def test_a_time_that_is_none_or_too_long_is_refused(page: str, seconds: str, tmp_path: Path) -> None:
    async def story(served: Debug, cluster: Cluster) -> None:
        status, told = await ask(served, f"/debug/pprof/{page}?seconds={seconds}").text()
        assert (status, told) == (400, "seconds must be a number above 0, and at most 60\n")

    with_debug(tmp_path, story)


def test_different_stacks_are_kept_up_to_a_number() -> None:
    ended = threading.Event()
    threading.Thread(target=ended.wait, daemon=True).start()
    told = debug.profile(0.05, threading.Event(), stacks_max=0)
    ended.set()
    assert {line.rpartition(" ")[0] for line in told.splitlines()} == {"other"}


def test_an_endless_recursion_has_a_stack_of_bounded_length() -> None:
    ended, deep = threading.Event(), threading.Event()

    def go_down(levels: int) -> None:
        if levels:
            go_down(levels - 1)
        else:
            deep.set()
            ended.wait()

    thread = threading.Thread(target=go_down, args=(300,), name="deep", daemon=True)
    thread.start()
    deep.wait()
    told = debug.profile(0.02, threading.Event())
    ended.set()
    (line,) = (line for line in told.splitlines() if line.startswith("deep;"))
    assert line.count(";") == debug.FRAMES_MAX


def test_without_the_flag_there_are_variables_alone(tmp_path: Path) -> None:
    async def story(served: Debug, cluster: Cluster) -> None:
        assert (await ask(served, "/debug/vars").text())[0] == 200
        for path in ("", "pprof", "pprof/", "pprof/profile", "pprof/goroutine", "requests"):
            assert await ask(served, f"/debug/{path}").text() == (404, "404 page not found\n")

    with_debug(tmp_path, story, pprof=False)


def test_a_page_is_only_read_and_one_that_is_none_is_said_to_be(tmp_path: Path) -> None:
    async def story(served: Debug, cluster: Cluster) -> None:
        assert (await ask(served, "/debug/pprof/profile", "POST").answer()).status == 405
        assert await ask(served, "/debug/pprof/nope").text() == (404, "Unknown profile\n")
        moved = await ask(served, "/debug/pprof").answer()
        assert (moved.status, dict(moved.headers)["Location"]) == (301, "/debug/pprof/")
        _, index = await ask(served, "/debug/pprof/").text()
        assert [name for name in debug.PAGES if f"<a href='{name}'>" not in index] == []
        status, words = await ask(served, "/debug/pprof/cmdline").text()
        assert status == 200
        assert words.split("\x00")[0]

    with_debug(tmp_path, story)


def test_the_variables_have_rafts_status(tmp_path: Path) -> None:
    async def story(served: Debug, cluster: Cluster) -> None:
        leader = cluster.leader()
        told = debug.variables(leader)
        status = told["raft.status"]
        assert isinstance(status, dict)
        own = f"{leader.member_id:x}"
        assert (status["id"], status["lead"], status["vote"], status["raftState"]) == (own, own, own, "StateLeader")
        assert status["commit"] == leader.raft.log.committed
        assert status["progress"][own]["state"] == "StateReplicate"
        assert (status["leadtransferee"], told["file_descriptor_limit"]) == ("0", told["file_descriptor_limit"])

    with_debug(tmp_path, story)
