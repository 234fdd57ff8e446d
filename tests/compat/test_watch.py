"""What a watch stream promises, shown of etcd and of our node alike."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from kvorum.client import Client, ClientError, Delete, Put, Txn
from kvorum.etcdpb import rpc_pb2 as rpc

from tests.kit.deadline import wait_until_async
from tests.kit.processes import Cluster, Node, Program
from tests.kit.raw_watch import WATCH, RawWatch

MIB = 1 << 20
COMPACTED = "etcdserver: mvcc: required revision has been compacted"

Story = Callable[[Node, Client, RawWatch], Awaitable[None]]


@pytest.fixture(params=["etcd", "kvorum"], scope="module")
def program(request: pytest.FixtureRequest, reference: Program, subject: Program) -> Program:
    return reference if request.param == "etcd" else subject


@pytest.fixture
def node(program: Program, tmp_path: Path) -> Iterator[Node]:
    with Node(program, tmp_path, flags=["--experimental-watch-progress-notify-interval=200ms"]) as node:
        yield node


def play(node: Node, story: Story) -> None:
    async def run() -> None:
        async with Client([node.endpoint], timeout_s=10) as client, RawWatch(node.endpoint) as watch:
            await story(node, client, watch)

    asyncio.run(run())


def told(events: list[rpc.Event]) -> list[tuple[bytes, int]]:
    return [(event.kv.key, event.kv.mod_revision) for event in events]


def test_ids_are_the_clients_or_counted_from_0(node: Node) -> None:
    async def story(node: Node, client: Client, watch: RawWatch) -> None:
        ids = [(await watch.create(key=b"a", watch_id=chosen)).watch_id for chosen in (0, 0, 7, 0)]
        assert ids == [0, 1, 7, 2]
        refused = await watch.create(key=b"a", watch_id=7)
        assert (refused.created, refused.canceled, refused.watch_id) == (True, True, -1)
        assert refused.cancel_reason == "mvcc: duplicate watch ID provided on the WatchStream"

    play(node, story)


def test_what_cannot_be_watched_is_refused_and_the_stream_goes_on(node: Node) -> None:
    async def story(node: Node, client: Client, watch: RawWatch) -> None:
        for fields, reason in (
            ({"key": b"b", "range_end": b"a"}, "mvcc: watcher range is empty"),
            ({"key": b"a", "range_end": b"a"}, "mvcc: watcher range is empty"),
            ({"key": b"a", "start_revision": -1}, COMPACTED),
        ):
            refused = await watch.create(**fields)
            assert (refused.created, refused.canceled, refused.watch_id) == (True, True, -1)
            assert refused.cancel_reason == reason
        assert (await watch.create(key=b"a")).created

    play(node, story)


def test_watch_is_confirmed_before_its_first_event(node: Node) -> None:
    async def story(node: Node, client: Client, watch: RawWatch) -> None:
        await client.put(b"a", b"1")
        answer = await watch.create(key=b"a", start_revision=1)
        assert answer.created
        assert not answer.events
        assert answer.header.revision == 2
        assert told(await watch.events(1)) == [(b"a", 2)]

    play(node, story)


def test_watch_of_now_sees_what_comes_and_not_what_was(node: Node) -> None:
    async def story(node: Node, client: Client, watch: RawWatch) -> None:
        await client.put(b"a", b"1")
        await watch.create(key=b"a")
        await client.put(b"a", b"2")
        assert told(await watch.events(1)) == [(b"a", 3)]

    play(node, story)


def test_no_key_means_the_first_possible_one(node: Node) -> None:
    async def story(node: Node, client: Client, watch: RawWatch) -> None:
        await watch.create(range_end=b"\0")
        await client.put(b"\0", b"")
        await client.put(b"z", b"")
        assert told(await watch.events(2)) == [(b"\0", 2), (b"z", 3)]

    play(node, story)


def test_cancelled_watch_says_so_and_then_nothing(node: Node) -> None:
    async def story(node: Node, client: Client, watch: RawWatch) -> None:
        await watch.create(key=b"a")
        await watch.create(key=b"a")
        await watch.cancel(99)  # unknown: not answered
        await watch.cancel(0)
        ended = await watch.next()
        assert (ended.watch_id, ended.canceled, ended.compact_revision) == (0, True, 0)
        await client.put(b"a", b"1")
        answer = await watch.next()
        assert (answer.watch_id, len(answer.events)) == (1, 1)
        assert (await watch.create(key=b"a", watch_id=0)).watch_id == 2, "ids are not used again by themselves"

    play(node, story)


def test_history_that_was_compacted_ends_a_watch_with_the_revision_to_go_on_from(node: Node) -> None:
    async def story(node: Node, client: Client, watch: RawWatch) -> None:
        for value in (b"1", b"2", b"3"):
            await client.put(b"a", value)
        await client.compact(3)
        assert (await watch.create(key=b"a", start_revision=2)).created
        ended = await watch.next()
        assert (ended.canceled, ended.compact_revision, ended.header.revision) == (True, 3, 0)
        await watch.create(key=b"a", start_revision=3)
        assert told(await watch.events(2)) == [(b"a", 3), (b"a", 4)]

    play(node, story)


def test_watch_of_the_future_is_told_nothing_earlier(node: Node) -> None:
    async def story(node: Node, client: Client, watch: RawWatch) -> None:
        await watch.create(key=b"a", start_revision=5)
        for value in (b"1", b"2", b"3", b"4"):
            await client.put(b"a", value)
        assert told(await watch.events(1)) == [(b"a", 5)]

    play(node, story)


def test_one_revision_comes_in_one_answer(node: Node) -> None:
    async def story(node: Node, client: Client, watch: RawWatch) -> None:
        puts = [Put(f"k{number:03}".encode(), bytes(20_000)) for number in range(60)]
        await watch.create(key=b"k", range_end=b"l")
        await client.txn(Txn(success=puts))
        answer = await watch.next()
        assert (len(answer.events), answer.fragment, answer.header.revision) == (60, False, 2)
        assert [event.kv.key for event in answer.events] == [put.key for put in puts]

    play(node, story)


def test_a_large_revision_comes_in_fragments_if_asked_for(node: Node) -> None:
    async def story(node: Node, client: Client, watch: RawWatch) -> None:
        for number in range(30):  # what one request may not write one deletion can tell
            await client.put(f"k{number:03}".encode(), bytes(100_000))
        await watch.create(key=b"k", range_end=b"l", prev_kv=True, fragment=True)
        await watch.create(key=b"k", range_end=b"l", prev_kv=True)
        await client.delete(b"k", b"l")
        answers: dict[int, list[rpc.WatchResponse]] = {0: [], 1: []}
        while sum(len(answer.events) for seen in answers.values() for answer in seen) < 60:
            answer = await watch.next()
            answers[answer.watch_id].append(answer)
        assert [answer.fragment for answer in answers[0]] == [True] * (len(answers[0]) - 1) + [False]
        assert len(answers[0]) >= 2
        assert all(answer.ByteSize() <= 2 * MIB for answer in answers[0])
        assert [len(answer.events) for answer in answers[1]] == [30]

    play(node, story)


def test_filters_and_previous_values(node: Node) -> None:
    async def story(node: Node, client: Client, watch: RawWatch) -> None:
        await watch.create(key=b"a", prev_kv=True)
        await watch.create(key=b"a", filters=["NOPUT"])
        await watch.create(key=b"a", filters=["NODELETE"])
        await watch.create(key=b"a", filters=["NOPUT", "NODELETE"])
        await client.put(b"a", b"1")
        await client.put(b"a", b"2")
        await client.delete(b"a")
        seen: dict[int, list[rpc.Event]] = {0: [], 1: [], 2: [], 3: []}
        while sum(map(len, seen.values())) < 6:
            answer = await watch.next()
            seen[answer.watch_id] += answer.events
        first, second, deletion = seen[0]
        assert not first.HasField("prev_kv")
        assert (second.prev_kv.value, second.kv.version) == (b"1", 2)
        assert deletion.type == rpc.Event.DELETE
        assert deletion.kv == rpc.KeyValue(key=b"a", mod_revision=4)
        assert (deletion.prev_kv.value, deletion.prev_kv.mod_revision) == (b"2", 3)
        assert told(seen[1]) == [(b"a", 4)]
        assert told(seen[2]) == [(b"a", 2), (b"a", 3)]
        assert seen[3] == []

    play(node, story)


def test_previous_value_that_was_compacted_is_left_out(node: Node) -> None:
    async def story(node: Node, client: Client, watch: RawWatch) -> None:
        for value in (b"1", b"2", b"3"):
            await client.put(b"a", value)
        await client.compact(3, physical=True)
        await watch.create(key=b"a", start_revision=3, prev_kv=True)
        at_compaction, later = await watch.events(2)
        assert not at_compaction.HasField("prev_kv")
        assert later.prev_kv.value == b"2"

    play(node, story)


def test_progress_is_reported_on_request_for_the_whole_stream(node: Node) -> None:
    async def story(node: Node, client: Client, watch: RawWatch) -> None:
        await watch.create(key=b"a")
        await watch.create(key=b"b")
        await client.put(b"other", b"")
        await watch.ask_progress()
        answer = await watch.next()
        assert (answer.watch_id, answer.header.revision, len(answer.events)) == (-1, 2, 0)

    play(node, story)


def test_no_event_up_to_a_reported_revision_comes_after_the_report(node: Node) -> None:
    """What kube-apiserver's consistent reads from its cache rest on."""

    async def story(node: Node, client: Client, watch: RawWatch) -> None:
        await watch.create(key=b"k", range_end=b"l")

        enough = asyncio.Event()

        async def write() -> int:
            number = 0
            while not enough.is_set():
                await client.put(b"k%d" % (number % 7), b"")
                number += 1
            return number

        writing = asyncio.create_task(write())
        reported = events = reports = 0
        while not writing.done() or events < writing.result():
            if events >= 400 and reports >= 20:  # however they come to meet on a busy machine
                enough.set()
            await watch.ask_progress()
            answer = await watch.next()
            if answer.watch_id == -1:
                reports += 1
                reported = max(reported, answer.header.revision)
            for event in answer.events:
                events += 1
                assert event.kv.mod_revision > reported

    play(node, story)


def test_progress_of_a_quiet_watch_is_reported_by_itself(node: Node) -> None:
    async def story(node: Node, client: Client, watch: RawWatch) -> None:
        await watch.create(key=b"a", progress_notify=True)
        await watch.create(key=b"a")
        await client.put(b"other", b"")
        answer = await watch.next()
        while answer.header.revision < 2:  # one that was due before the put
            answer = await watch.next()
        assert (answer.watch_id, answer.header.revision, len(answer.events)) == (0, 2, 0)

    play(node, story)


def test_slow_reader_misses_nothing(node: Node) -> None:
    """Far more waits for it than its window and any queue of the server hold."""

    async def story(node: Node, client: Client, watch: RawWatch) -> None:
        await watch.create(key=b"k", prev_kv=True)
        for number in range(600):
            await client.put(b"k", b"%d" % number + bytes(50_000))
        revisions: list[int] = []
        while len(revisions) < 600:
            revisions += [event.kv.mod_revision for event in (await watch.next()).events]
        assert revisions == list(range(2, 602))

    play(node, story)


def test_deletions_of_an_ended_lease_come_as_one_revision_in_order_of_their_keys(node: Node) -> None:
    async def story(node: Node, client: Client, watch: RawWatch) -> None:
        lease = await client.lease_grant(100)
        for key in (b"c", b"a", b"b"):
            await client.put(key, b"", lease=lease.id)
        await watch.create(key=b"a", range_end=b"z")
        await client.lease_revoke(lease.id)
        assert told(await watch.events(3)) == [(b"a", 5), (b"b", 5), (b"c", 5)]

    play(node, story)


def test_a_txn_tells_its_writes_in_their_order(node: Node) -> None:
    async def story(node: Node, client: Client, watch: RawWatch) -> None:
        await client.put(b"b", b"")
        await watch.create(key=b"a", range_end=b"z")
        await client.txn(Txn(success=[Put(b"c", b""), Delete(b"b"), Txn(success=[Put(b"a", b"")])]))
        assert told(await watch.events(3)) == [(b"c", 3), (b"b", 3), (b"a", 3)]

    play(node, story)


def test_streams_end_as_unavailable_when_their_member_stops(node: Node) -> None:
    async def story(node: Node, client: Client, watch: RawWatch) -> None:
        await watch.create(key=b"a")
        await asyncio.to_thread(node.stop)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.next()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    play(node, story)


def test_stream_survives_a_change_of_the_leader(program: Program, tmp_path: Path) -> None:
    async def run(cluster: Cluster) -> None:
        async with Client(cluster.endpoints, timeout_s=10) as client, RawWatch(cluster.nodes[0].endpoint) as watch:
            await watch.create(key=b"a")
            own = (await client.status(cluster.nodes[0].endpoint)).member_id
            members = [member.id for member in await client.members()]
            for target in (own, next(member for member in members if member != own), own):
                if (await client.status(cluster.nodes[0].endpoint)).leader != target:
                    await client.move_leader(target)
                await client.put(b"a", b"")
            assert told(await watch.events(3)) == [(b"a", 2), (b"a", 3), (b"a", 4)]

    with Cluster(program, tmp_path) as cluster:
        asyncio.run(run(cluster))


def test_only_streams_that_require_a_leader_end_without_one(program: Program, tmp_path: Path) -> None:
    async def run(cluster: Cluster) -> None:
        last, *others = cluster.nodes
        async with (
            RawWatch(last.endpoint, [("hasleader", "true")]) as strict,
            RawWatch(last.endpoint) as patient,
        ):
            await strict.create(key=b"a")
            await patient.create(key=b"a")
            for node in others:
                node.kill()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await strict.next(deadline_s=20)
            assert (caught.value.code(), caught.value.details()) == (
                grpc.StatusCode.UNAVAILABLE,
                "etcdserver: no leader",
            )

            async def late_one_is_refused() -> bool:
                try:
                    async with RawWatch(last.endpoint, [("hasleader", "true")]) as late:
                        await late.create(key=b"a")
                except grpc.aio.AioRpcError as error:
                    # Refused while it was still being written to, gRPC keeps the server's words to itself.
                    return error.details() == "etcdserver: no leader"
                raise AssertionError("a stream that requires a leader was served without one")

            await wait_until_async(late_one_is_refused, 20, "a late stream hears why it is refused")
            for node in others:
                node.start()
            for node in others:
                await asyncio.to_thread(node.wait_healthy)
            async with Client(cluster.endpoints, timeout_s=10) as client:
                await client.put(b"a", b"")
            assert told(await patient.events(1)) == [(b"a", 2)]

    with Cluster(program, tmp_path) as cluster:
        asyncio.run(run(cluster))


def test_client_goes_on_watching_at_another_member_when_its_own_dies(program: Program, tmp_path: Path) -> None:
    async def run(cluster: Cluster) -> None:
        async with (
            Client(cluster.endpoints, timeout_s=10) as client,
            Client(cluster.endpoints[1:], timeout_s=10) as writer,
            client.watch(b"a") as watcher,
        ):
            await writer.put(b"a", b"1")
            first = await anext(watcher)
            watched = await member_that_serves(client, cluster, first.header.member_id)
            watched.kill()
            survivors = [node.endpoint for node in cluster.nodes if node is not watched]

            async def written() -> bool:
                try:
                    async with Client(survivors, timeout_s=2) as other:
                        return (await other.put(b"a", b"2")).header.revision > 0
                except ClientError:  # it may have been applied: then this is not the first event either
                    return False

            await wait_until_async(written, 20, "a put through the survivors")
            batch = await anext(watcher)
            assert next(event.kv.mod_revision for event in batch.events) == 3

    with Cluster(program, tmp_path) as cluster:
        asyncio.run(run(cluster))


async def member_that_serves(client: Client, cluster: Cluster, member_id: int) -> Node:
    for node in cluster.nodes:
        if (await client.status(node.endpoint)).member_id == member_id:
            return node
    raise AssertionError(f"no node is member {member_id:x}")


def test_bytes_that_are_no_request_end_the_stream_and_its_watches(node: Node) -> None:
    """And not the member, which would meet the watch of a stream that is gone at the next put."""

    async def story(node: Node, client: Client, watch: RawWatch) -> None:
        target = node.endpoint.removeprefix("http://")
        async with grpc.aio.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
            call: Any = channel.stream_stream(WATCH, None, None)
            stream = call()
            create = rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"a"))
            await stream.write(create.SerializeToString())
            assert rpc.WatchResponse.FromString(await stream.read()).created
            await stream.write(b"\xff\xff\xff")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stream.read()
            assert refused.value.code() == grpc.StatusCode.INTERNAL
        await watch.create(key=b"a")
        for value in (b"1", b"2"):
            await client.put(b"a", value)
        assert told(await watch.events(1) + await watch.events(1)) == [(b"a", 2), (b"a", 3)]

    play(node, story)
