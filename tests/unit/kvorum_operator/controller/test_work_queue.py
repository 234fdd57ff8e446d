"""The queue of clusters: each once, one worker a key, fair, with a back-off; and its workers on a real event loop."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from kvorum_operator.controller.work_queue import BACK_OFF_S_MAX, Failed, Key, Lane, Workers, WorkQueue

from tests.kit.deadline import wait_until_async

A, B, C = (Key("prod", name) for name in "abc")


def all_due(queue: WorkQueue, now_s: float) -> list[Key]:
    found = []
    while (key := queue.take(now_s)) is not None:
        found.append(key)
    return found


def test_key_that_is_added_often_is_worked_on_once() -> None:
    queue = WorkQueue(100)
    for _ in range(3):
        queue.add(A, 0)
    assert len(queue) == 1
    assert all_due(queue, 0) == [A]


def test_key_is_not_worked_on_twice_at_a_time_and_again_after_what_came_meanwhile() -> None:
    queue = WorkQueue(100)
    queue.add(A, 0)
    assert queue.take(0) == A
    queue.add(A, 1)
    assert queue.take(1) is None
    queue.finish(A, 2, again_s=60)
    assert queue.take(2) == A


def test_key_that_finished_comes_back_after_its_time_and_not_before() -> None:
    queue = WorkQueue(100)
    queue.add(A, 0)
    queue.take(0)
    queue.finish(A, 1, again_s=60)
    assert queue.next_due_s() == 61
    assert queue.take(60.9) is None
    assert queue.take(61) == A


def test_key_that_finished_for_good_never_comes_back() -> None:
    queue = WorkQueue(100)
    queue.add(A, 0)
    queue.take(0)
    queue.finish(A, 1, again_s=None)
    assert queue.next_due_s() is None
    assert queue.take(1e9) is None


def test_event_shortens_the_wait_and_the_wait_is_then_forgotten() -> None:
    queue = WorkQueue(100)
    queue.add(A, 0)
    queue.take(0)
    queue.finish(A, 1, again_s=60)
    queue.add(A, 5)
    assert queue.take(5) == A
    queue.finish(A, 6, again_s=100)
    assert queue.take(61) is None
    assert queue.next_due_s() == 106


def test_cluster_that_comes_back_at_once_stands_behind_those_that_wait() -> None:
    queue = WorkQueue(100)
    for key in (A, B, C):
        queue.add(key, 0)
    order: list[Key] = []
    for now_s in range(6):
        order += [taken] if (taken := queue.take(now_s)) else []
        queue.finish(order[-1], now_s, again_s=0)
    assert order == [A, B, C, A, B, C]


def test_edit_overtakes_hundreds_that_wait_and_starves_none() -> None:
    queue = WorkQueue(100)
    resynced = [Key("prod", f"resynced-{number}") for number in range(200)]
    edited = [Key("prod", f"edited-{number}") for number in range(5)]
    for key in resynced:
        queue.add(key, 0)
    for key in edited:
        queue.add(key, 1, Lane.CHANGED)
    first = [queue.take(1) for _ in range(10)]
    assert set(edited) < set(first)
    assert len(set(resynced) & set(first)) == 5


def test_lanes_take_turns_while_both_have_something() -> None:
    queue = WorkQueue(100)
    for number in range(3):
        queue.add(Key("prod", f"resynced-{number}"), 0)
        queue.add(Key("prod", f"edited-{number}"), 0, Lane.CHANGED)
    order = [key.name.partition("-")[0] for key in all_due(queue, 0)]
    assert order == ["edited", "resynced"] * 3


def test_ordinary_work_that_hangs_leaves_workers_to_what_was_edited() -> None:
    queue = WorkQueue(2)
    for key in (A, B, C):
        queue.add(key, 0)
    assert all_due(queue, 0) == [A, B]
    edited = Key("prod", "edited")
    queue.add(edited, 1, Lane.CHANGED)
    assert all_due(queue, 1) == [edited]
    queue.finish(A, 2, again_s=None)
    assert all_due(queue, 2) == [C]


def test_edit_of_a_key_that_waits_in_the_ordinary_lane_moves_it_up() -> None:
    queue = WorkQueue(100)
    queue.add(A, 0)
    queue.add(B, 0)
    queue.add(B, 1, Lane.CHANGED)
    assert all_due(queue, 1) == [B, A]


def test_failures_back_off_to_a_bound_and_success_forgets_them() -> None:
    queue = WorkQueue(100)
    now_s = 0.0
    queue.add(A, now_s)
    waits: list[float] = []
    for _ in range(10):
        assert queue.take(now_s) == A
        waits.append(queue.fail(A, now_s))
        assert queue.take(now_s + waits[-1] - 0.01) is None
        now_s += waits[-1]
    assert waits == [0.5, 1, 2, 4, 8, 16, 32, BACK_OFF_S_MAX, BACK_OFF_S_MAX, BACK_OFF_S_MAX]
    queue.take(now_s)
    queue.finish(A, now_s, again_s=0)
    queue.take(now_s)
    assert queue.fail(A, now_s) == 0.5


def test_back_off_is_ended_by_an_edit_and_not_by_other_events() -> None:
    queue = WorkQueue(100)
    queue.add(A, 0)
    queue.take(0)
    queue.add(A, 0)  # as its own writes make events
    queue.fail(A, 0)
    queue.add(A, 0.1)
    assert queue.take(0.1) is None
    queue.add(A, 0.2, Lane.CHANGED)
    assert queue.take(0.2) == A


def test_edit_during_a_pass_that_fails_is_tried_at_once() -> None:
    queue = WorkQueue(100)
    queue.add(A, 0)
    queue.take(0)
    queue.add(A, 1, Lane.CHANGED)
    assert queue.fail(A, 2) == 0
    assert queue.take(2) == A


def test_oldest_counts_what_is_due_what_is_worked_on_and_what_nobody_took() -> None:
    queue = WorkQueue(100)
    assert queue.oldest_s(100) == 0
    queue.add(A, 0)
    assert queue.oldest_s(5) == 5
    queue.take(5)
    assert queue.oldest_s(9) == 4
    queue.finish(A, 9, again_s=10)
    assert queue.oldest_s(18) == 0
    assert queue.oldest_s(25) == 6


def test_long_queue_is_not_stuck_while_keys_are_taken_and_finished() -> None:
    """As at a start with very many clusters: to begin with all of them again would help nobody."""
    queue, keys = WorkQueue(100), [Key("prod", f"kv-{number}") for number in range(300)]
    for key in keys:
        queue.add(key, 0)
    for second, key in enumerate(keys):
        assert queue.stuck_s(second) <= 1
        assert queue.take(second) == key
        queue.finish(key, second, again_s=None)
    assert queue.stuck_s(10_000) == 0, "nothing is due"


def test_queue_is_stuck_while_keys_are_due_and_none_is_taken() -> None:
    queue = WorkQueue(100)
    queue.add(A, 0)
    assert queue.stuck_s(61) == 61
    queue.take(61)
    queue.add(B, 61)
    queue.finish(A, 62, again_s=None)
    assert queue.stuck_s(123) == 61, "since the last one was finished"
    queue.take(123)
    queue.finish(B, 124, again_s=76)
    assert queue.stuck_s(200) == 0
    assert queue.stuck_s(261) == 61, "its time has come, and nobody has looked"


def test_key_that_is_due_after_a_long_rest_has_waited_only_since_then() -> None:
    queue = WorkQueue(100)
    queue.add(A, 0)
    queue.take(0)
    queue.finish(A, 0, again_s=None)
    queue.add(B, 1000)
    assert queue.stuck_s(1001) == 1


def test_queue_is_stuck_with_one_key_that_is_worked_on_for_ever_whatever_becomes_of_others() -> None:
    queue = WorkQueue(100)
    queue.add(A, 0)
    queue.take(0)
    for second in range(1, 62):
        queue.add(B, second)
        queue.take(second)
        queue.finish(B, second, again_s=None)
    assert queue.stuck_s(61) == 61


def test_cleared_queue_has_nothing_due_and_lets_what_is_worked_on_finish() -> None:
    queue = WorkQueue(100)
    for key in (A, B):
        queue.add(key, 0)
    queue.take(0)
    queue.add(A, 0)
    queue.clear()
    queue.finish(A, 1, again_s=None)
    assert all_due(queue, 1000) == []


def running(work: Callable[[Key], Awaitable[float | None]], workers_count_max: int = 32) -> Workers:
    return Workers(work, workers_count_max, time.monotonic)


async def ended(workers: asyncio.Task[None]) -> None:
    workers.cancel()
    await asyncio.wait((workers,))


def test_stuck_cluster_delays_no_other() -> None:
    async def case() -> None:
        stuck, done = asyncio.Event(), list[Key]()

        async def work(key: Key) -> float | None:
            if key == A:
                await stuck.wait()
            done.append(key)
            return None

        workers = running(work)
        task = asyncio.create_task(workers.run())
        for key in (A, B, C):
            workers.add(key)
        began_s = time.monotonic()

        async def others_done() -> bool:
            return set(done) == {B, C}

        await wait_until_async(others_done, 2, "the others are worked on")
        assert time.monotonic() - began_s < 1
        assert workers.queue.working_count == 1
        await ended(task)

    asyncio.run(case())


def test_no_more_than_so_many_are_worked_on_at_once_and_all_in_the_end() -> None:
    async def case() -> None:
        at_once, most, done = 0, 0, set[Key]()

        async def work(key: Key) -> float | None:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0)
            at_once -= 1
            done.add(key)
            return None

        keys = {Key("prod", str(number)) for number in range(50)}
        workers = running(work, workers_count_max=16)
        task = asyncio.create_task(workers.run())
        for key in keys:
            workers.add(key, Lane.CHANGED)

        async def all_done() -> bool:
            return done == keys

        await wait_until_async(all_done, 5, "all are worked on")
        assert most == 16
        await ended(task)

    asyncio.run(case())


def test_failure_is_tried_again_and_a_wait_ends_by_itself() -> None:
    async def case() -> None:
        tries = 0

        async def work(_: Key) -> float | None:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise Failed
            return 0.05 if tries == 2 else None

        workers = running(work)
        task = asyncio.create_task(workers.run())
        workers.add(A)

        async def thrice() -> bool:
            return tries == 3

        await wait_until_async(thrice, 5, "it is worked on three times")
        await ended(task)

    asyncio.run(case())


def test_workers_that_are_cancelled_cancel_their_work_and_forget_the_rest() -> None:
    async def case() -> None:
        begun, cancelled = asyncio.Event(), list[Key]()

        async def work(key: Key) -> float | None:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(key)
                raise
            return None

        workers = running(work, workers_count_max=1)
        task = asyncio.create_task(workers.run())
        workers.add(A)
        workers.add(B)
        await begun.wait()
        await ended(task)
        assert cancelled == [A]
        assert len(workers.queue) == workers.queue.working_count == 0

    asyncio.run(case())
