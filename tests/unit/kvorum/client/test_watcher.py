"""A watch loses no event and sees none twice, whatever its streams meet."""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import pytest
from kvorum.client import Client, ClientError, Unreachable, WatchCancelled
from kvorum.client.watcher import BREAKS_MAX
from kvorum.etcdpb import rpc_pb2 as rpc

from tests.kit.scripted_server import ScriptedServer

WATCH = "/etcdserverpb.Watch/Watch"


class Script:
    """A server's watch streams: each stream confirms, sends the next list of answers, then ends as told."""

    def __init__(
        self, *streams: tuple[Sequence[rpc.WatchResponse], grpc.StatusCode | None], revision: int = 10
    ) -> None:
        self.streams = list(streams)
        self.revision = revision
        self.requests: list[rpc.WatchCreateRequest] = []

    async def __call__(self, requests: Any, context: Any) -> None:
        self.requests.append(rpc.WatchRequest.FromString(await context.read()).create_request)
        answers, end = self.streams.pop(0) if self.streams else ((), grpc.StatusCode.UNAVAILABLE)
        header = rpc.ResponseHeader(revision=self.revision)
        await context.write(rpc.WatchResponse(header=header, created=True).SerializeToString())
        for answer in answers:
            await context.write(answer.SerializeToString())
        if end is None:
            await asyncio.Event().wait()
        elif end is not grpc.StatusCode.OK:
            await context.abort(end, "the script says so")


def event(revision: int, *, fragment: bool = False) -> rpc.WatchResponse:
    kv = rpc.KeyValue(key=b"k", mod_revision=revision)
    return rpc.WatchResponse(header=rpc.ResponseHeader(revision=revision), events=[rpc.Event(kv=kv)], fragment=fragment)


def progress(revision: int) -> rpc.WatchResponse:
    return rpc.WatchResponse(header=rpc.ResponseHeader(revision=revision))


def seen_by(script: Script, count: int, start_revision: int = 0) -> list[list[int]]:
    """The revisions in each of the first `count` batches."""

    async def run() -> list[list[int]]:
        batches: list[list[int]] = []
        async with (
            ScriptedServer(streams={WATCH: script}) as server,
            Client([server.endpoint]) as client,
            client.watch(b"k", start_revision=start_revision) as watcher,
            asyncio.timeout(10),
        ):
            for _ in range(count):
                batch = await anext(watcher)
                batches.append([one.kv.mod_revision for one in batch.events])
        return batches

    return asyncio.run(run())


@pytest.mark.parametrize("end", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK])
def test_watch_goes_on_after_the_last_event_seen(end: grpc.StatusCode) -> None:
    script = Script(([event(11), event(12)], end), ([event(13)], None))
    assert seen_by(script, 3) == [[11], [12], [13]]
    assert [request.start_revision for request in script.requests] == [0, 13]


def test_watch_from_now_that_breaks_before_its_first_event_goes_on_from_its_confirmation() -> None:
    script = Script(([], grpc.StatusCode.UNAVAILABLE), ([event(11)], None), revision=10)
    assert seen_by(script, 1) == [[11]]
    assert [request.start_revision for request in script.requests] == [0, 11]


def test_progress_report_moves_the_point_to_go_on_from() -> None:
    script = Script(([event(11), progress(20)], grpc.StatusCode.UNAVAILABLE), ([event(21)], None))
    assert seen_by(script, 3) == [[11], [], [21]]
    assert [request.start_revision for request in script.requests] == [0, 21]


def test_progress_report_never_moves_a_watch_of_the_future_back() -> None:
    script = Script(([progress(20)], grpc.StatusCode.UNAVAILABLE), ([event(100)], None))
    assert seen_by(script, 2, start_revision=100) == [[], [100]]
    assert [request.start_revision for request in script.requests] == [100, 100]


def test_fragments_of_a_revision_come_as_one_batch() -> None:
    script = Script(([event(11, fragment=True), event(11, fragment=True), event(11)], None))
    assert seen_by(script, 1) == [[11, 11, 11]]


def test_fragments_cut_off_by_a_break_are_not_seen_twice() -> None:
    script = Script(
        ([event(11, fragment=True)], grpc.StatusCode.UNAVAILABLE), ([event(11, fragment=True), event(11)], None)
    )
    assert seen_by(script, 1, start_revision=11) == [[11, 11]]
    assert [request.start_revision for request in script.requests] == [11, 11]


def test_compacted_watch_tells_from_where_it_can_go_on() -> None:
    script = Script(([rpc.WatchResponse(canceled=True, compact_revision=30)], None))
    with pytest.raises(WatchCancelled) as caught:
        seen_by(script, 1, start_revision=5)
    assert caught.value.compact_revision == 30
    assert caught.value.text == "etcdserver: mvcc: required revision has been compacted"


def test_refused_watch_is_not_tried_elsewhere() -> None:
    script = Script(([], grpc.StatusCode.PERMISSION_DENIED), ([event(11)], None))
    with pytest.raises(ClientError) as caught:
        seen_by(script, 1)
    assert caught.value.code == 7
    assert len(script.requests) == 1


def test_watch_that_breaks_again_and_again_ends() -> None:
    script = Script()
    with pytest.raises(ClientError, match="the script says so"):
        seen_by(script, 1)
    assert len(script.requests) == BREAKS_MAX + 1


def test_watch_that_breaks_often_but_sees_events_goes_on() -> None:
    count = BREAKS_MAX + 3
    script = Script(*(([event(11 + number)], grpc.StatusCode.UNAVAILABLE) for number in range(count)))
    assert seen_by(script, count) == [[11 + number] for number in range(count)]


def test_watch_without_any_endpoint_left_ends() -> None:
    async def run() -> None:
        script = Script(([event(11)], None))
        async with (
            ScriptedServer(streams={WATCH: script}) as server,
            Client([server.endpoint]) as client,
            client.watch(b"k") as watcher,
            asyncio.timeout(10),
        ):
            await anext(watcher)
            await server.stop()
            with pytest.raises(Unreachable):
                await anext(watcher)
            assert watcher.next_revision == 12

    asyncio.run(run())


def test_server_that_does_not_confirm_is_given_up() -> None:
    async def silent(requests: Any, context: Any) -> None:
        await asyncio.Event().wait()

    async def run() -> None:
        script = Script(([event(11)], None))
        async with (
            ScriptedServer(streams={WATCH: silent}) as first,
            ScriptedServer(streams={WATCH: script}) as second,
            Client([first.endpoint, second.endpoint], timeout_s=0.3) as client,
            client.watch(b"k") as watcher,
        ):
            assert (await anext(watcher)).header.revision == 11

    asyncio.run(run())
