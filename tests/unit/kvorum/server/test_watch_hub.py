"""What watchers are told, in which order, and what becomes of a slow one."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.server.server import Server
from kvorum.server.watch_hub import BUFFERED_BYTES_MAX, Watcher
from kvorum.state.refusal import Refusal
from kvorum.state.revisions import FROM_KEY

from tests.unit.kvorum.server.cluster import Cluster, propose, put
from tests.unit.kvorum.server.test_server import run


class Client:
    """A watch stream that a test reads. stuck: the client does not read, so what is pushed stays buffered."""

    def __init__(self) -> None:
        self.responses: list[rpc.WatchResponse] = []
        self.ended: list[int] = []
        self.refused: list[Refusal] = []
        self.stuck = False

    def push(self, body: bytes) -> None:
        self.responses.append(rpc.WatchResponse.FromString(body))

    @property
    def buffered_bytes(self) -> int:
        return BUFFERED_BYTES_MAX + 1 if self.stuck else 0

    def end(self, why: Refusal) -> None:
        self.refused.append(why)

    def watch_ended(self, watcher: Watcher) -> None:
        self.ended.append(watcher.id)

    @property
    def events(self) -> list[tuple[int, bytes, bytes]]:
        return [(e.kv.mod_revision, e.kv.key, e.kv.value) for r in self.responses for e in r.events]


def tell(folder: Path, story: Callable[[Cluster, Server, Client], Awaitable[None]], **changed: object) -> None:
    async def alone(cluster: Cluster) -> None:
        await story(cluster, cluster.leader(), Client())

    run(folder, 1, alone, **changed)


def test_history_comes_first_and_then_what_happens_each_event_once_in_order(tmp_path: Path) -> None:
    async def story(cluster: Cluster, server: Server, client: Client) -> None:
        for n in range(1500):
            put(server, b"k%d" % (n % 7), b"%d" % n)
        await put(server, b"k", b"end of history").body()
        server.watches.add(Watcher(client, 1, b"k", b"l", start_revision=2))
        for n in range(200):
            put(server, b"k", b"live %d" % n)
        await put(server, b"k", b"last").body()
        await cluster.until(lambda: bool(client.events) and client.events[-1][2] == b"last", "the last event")
        assert [revision for revision, _, _ in client.events] == list(range(2, server.machine.revision + 1))

    tell(tmp_path, story)


def test_a_watcher_is_told_of_its_own_keys_alone(tmp_path: Path) -> None:
    async def story(cluster: Cluster, server: Server, client: Client) -> None:
        one, some, rest = Client(), Client(), Client()
        server.watches.add(Watcher(one, 1, b"b", b"", start_revision=2))
        server.watches.add(Watcher(some, 2, b"b", b"c", start_revision=2))
        server.watches.add(Watcher(rest, 3, b"b", FROM_KEY, start_revision=2))
        for key in (b"a", b"b", b"bb", b"c"):
            await put(server, key, b"v").body()
        assert [key for _, key, _ in one.events] == [b"b"]
        assert [key for _, key, _ in some.events] == [b"b", b"bb"]
        assert [key for _, key, _ in rest.events] == [b"b", b"bb", b"c"]

    tell(tmp_path, story)


def test_filters_and_previous_values_are_each_watchers_own(tmp_path: Path) -> None:
    async def story(cluster: Cluster, server: Server, client: Client) -> None:
        no_puts, with_previous = Client(), Client()
        server.watches.add(Watcher(no_puts, 1, b"k", b"", start_revision=2, no_put=True))
        server.watches.add(Watcher(with_previous, 2, b"k", b"", start_revision=2, prev_kv=True))
        await put(server, b"k", b"one").body()
        await put(server, b"k", b"two").body()
        assert no_puts.responses == []
        previous = [event.prev_kv.value for response in with_previous.responses for event in response.events]
        assert previous == [b"", b"one"]

    tell(tmp_path, story)


def test_a_client_that_does_not_read_loses_nothing_and_holds_nobody_up(tmp_path: Path) -> None:
    async def story(cluster: Cluster, server: Server, client: Client) -> None:
        quick = Client()
        server.watches.add(Watcher(client, 1, b"k", b"", start_revision=2))
        server.watches.add(Watcher(quick, 2, b"k", b"", start_revision=2))
        client.stuck = True
        for n in range(20):
            await put(server, b"k", b"%d" % n).body()
        assert client.events == []
        assert len(quick.events) == 20
        client.stuck = False
        await cluster.until(lambda: len(client.events) == 20, "what the slow client missed")
        assert client.events == quick.events

    tell(tmp_path, story)


def test_a_revision_that_does_not_exist_yet_is_waited_for(tmp_path: Path) -> None:
    async def story(cluster: Cluster, server: Server, client: Client) -> None:
        server.watches.add(Watcher(client, 1, b"k", b"", start_revision=5))
        for n in range(2, 8):
            await put(server, b"k", b"%d" % n).body()
        await cluster.until(lambda: len(client.events) == 3, "three events")
        assert [revision for revision, _, _ in client.events] == [5, 6, 7]

    tell(tmp_path, story)


def test_a_compacted_start_ends_the_watch_and_names_the_revision(tmp_path: Path) -> None:
    async def story(cluster: Cluster, server: Server, client: Client) -> None:
        for n in range(9):
            await put(server, b"k", b"%d" % n).body()
        await propose(server, b"\x3a", rpc.CompactionRequest(revision=6)).body()
        server.watches.add(Watcher(client, 4, b"k", b"", start_revision=3))
        await cluster.until(lambda: client.ended == [4], "the end of the watch")
        (response,) = client.responses
        assert (response.watch_id, response.canceled, response.compact_revision) == (4, True, 6)

    tell(tmp_path, story)


def test_progress_is_answered_only_when_no_older_event_can_follow(tmp_path: Path) -> None:
    async def story(cluster: Cluster, server: Server, client: Client) -> None:
        await put(server, b"k", b"v").body()
        behind = Watcher(client, 1, b"k", b"", start_revision=1)
        server.watches.add(behind)
        server.watches.progress([behind], client)
        assert client.responses == [], "its history has not been told yet"
        await cluster.until(lambda: behind.synced, "the watcher to catch up")
        server.watches.progress([behind], client)
        assert (client.responses[-1].watch_id, client.responses[-1].header.revision) == (-1, 2)

    tell(tmp_path, story)


def test_a_quiet_watcher_that_asked_for_it_hears_how_far_it_is(tmp_path: Path) -> None:
    async def story(cluster: Cluster, server: Server, client: Client) -> None:
        server.watches.add(Watcher(client, 3, b"k", b"", start_revision=2, progress_notify=True))
        await cluster.until(lambda: bool(client.responses), "a progress notice")
        assert (client.responses[0].watch_id, client.responses[0].header.revision) == (3, 1)
        assert not client.responses[0].events

    tell(tmp_path, story, progress_notify_ms=100)


def test_a_large_revision_is_split_for_who_asked_and_all_but_the_last_part_say_so(tmp_path: Path) -> None:
    async def story(cluster: Cluster, server: Server, client: Client) -> None:
        whole = Client()
        server.watches.add(Watcher(client, 1, b"k", FROM_KEY, start_revision=2, fragment=True))
        server.watches.add(Watcher(whole, 2, b"k", FROM_KEY, start_revision=2))
        ops = [rpc.RequestOp(request_put=rpc.PutRequest(key=b"k%d" % n, value=b"v")) for n in range(60)]
        await propose(server, b"\x32", rpc.TxnRequest(success=ops)).body()
        assert [response.fragment for response in whole.responses] == [False]
        assert len(client.responses) > 1
        assert [response.fragment for response in client.responses] == [True] * (len(client.responses) - 1) + [False]
        assert client.events == whole.events

    tell(tmp_path, story, request_bytes_max=1000)


def test_a_removed_watcher_hears_nothing_more(tmp_path: Path) -> None:
    async def story(cluster: Cluster, server: Server, client: Client) -> None:
        watcher = Watcher(client, 1, b"k", b"", start_revision=2)
        server.watches.add(watcher)
        server.watches.remove(watcher)
        await put(server, b"k", b"v").body()
        assert client.responses == []
        assert server.watches.watchers_count == 0

    tell(tmp_path, story)
