"""One other member: the streams to and from it, the fallback by POST, and whether it can be reached.

Four streams join two members: the receiver of messages dials, so we dial the two that come from it, and the two to it
stand on connections that it dialed (attach). Without one of those, messages go by POST /raft.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from kvorum.peer.dial import Connections
from kvorum.peer.identity import RAFT_TO
from kvorum.peer.inbound import ENDED, Inbound, StreamRefused, open_stream
from kvorum.peer.outbound import Carrier, Outbound
from kvorum.peer.pipeline import ANSWER_TIMEOUT_S, Pipeline
from kvorum.peer.snapshot_sender import post_snapshot
from kvorum.peer.streams import AppendDecoder, AppendEncoder, Decoder, MessageDecoder, MessageEncoder, StreamKind
from kvorum.peer.urls import Urls
from kvorum.peer.wiring import Activity, Wiring, log, report_crash
from kvorum.raft.message import Message, MessageType
from kvorum.server.peers import PeerRefused, PeerTraffic
from kvorum.state.membership import hex_id
from kvorum.storage.entry_codec import encode_message


class Peer:
    def __init__(self, member_id: int, urls: Sequence[str], wiring: Wiring) -> None:
        self.member_id = member_id
        self.is_foreign = False  # it answered for another cluster when it was last asked for a stream
        self.is_kvorum: bool | None = None  # or an etcd; None: it never answered
        self._name = hex_id(member_id)
        self._wiring = wiring
        self._urls = Urls(urls)
        self._activity = Activity(self._name)
        self._pipeline = Pipeline(member_id, self._urls, wiring, self._activity)
        self._append_stream: Outbound | None = None
        self._message_stream: Outbound | None = None
        self._inbound: dict[StreamKind, Inbound] = {}
        self._sent_bytes = 0  # by streams that have ended
        self._received_bytes = 0
        self._sent_failures = 0
        self._received_failures = 0
        spawn = asyncio.get_running_loop().create_task
        self._tasks = [spawn(self._keep_reading(kind), name=f"{kind} from {self._name}") for kind in StreamKind]
        self._tasks.append(spawn(self._keep_probing(), name=f"probing {self._name}"))
        for task in self._tasks:
            task.add_done_callback(report_crash)
        self._closed = False

    @property
    def active_since(self) -> float | None:
        return self._activity.since

    @property
    def traffic(self) -> PeerTraffic:
        streams = [stream.sent_bytes for stream in (self._append_stream, self._message_stream) if stream is not None]
        return PeerTraffic(
            sent_bytes=self._sent_bytes + sum(streams) + self._pipeline.sent_bytes,
            received_bytes=self._received_bytes + sum(inbound.received_bytes for inbound in self._inbound.values()),
            sent_failures=self._sent_failures + self._pipeline.failures_count,
            received_failures=self._received_failures,
            round_trips=self._pipeline.round_trips,
        )

    def send(self, messages: Sequence[Message]) -> None:
        """Hot path. Appends and the rest each keep their order."""
        appends: list[Message] = []
        others: list[Message] = []
        for message in messages:
            (appends if message.type is MessageType.APPEND else others).append(message)
        all_sent = True
        if appends:
            stream = self._append_stream or self._message_stream or self._pipeline
            all_sent = stream.send(appends)
        if others:
            rest = self._message_stream or self._pipeline
            all_sent = rest.send(others) and all_sent
        if not all_sent:
            self._sent_failures += 1
            self._wiring.unreachable(self.member_id)

    async def send_snapshot(self, message: Message, database: Path) -> None:
        """Raises OSError, PeerRefused."""
        url = self._urls.chosen
        headers = self._wiring.identity.headers()
        body = encode_message(message)
        try:
            answer = await post_snapshot(
                url, headers, body, database, tls=self._wiring.tls, dial_timeout_s=self._wiring.dial_timeout_s
            )
        except OSError as error:
            self._urls.failed(url)
            self._activity.failed(f"POST /raft/snapshot at {url}: {error or type(error).__name__}")
            raise
        if answer.status != 204:
            text = answer.body.decode("utf-8", "replace").strip()
            raise PeerRefused(f"{url} answered {answer.status} {text}")

    def attach(self, kind: StreamKind, carrier: Carrier) -> Outbound:
        """Makes a connection that the other member dialed the stream to it, in place of an earlier one."""
        encoder = AppendEncoder(self._wiring.blocks) if kind is StreamKind.APPEND else MessageEncoder()
        stream = Outbound(carrier, encoder, partial(self._stream_broken, kind), self._wiring.timings)
        former = self._append_stream if kind is StreamKind.APPEND else self._message_stream
        self._set_stream(kind, stream)
        if former is not None:
            self._sent_bytes += former.sent_bytes
            former.end()
        self._activity.succeeded()
        return stream

    def update(self, urls: Sequence[str]) -> None:
        """Streams that stand stay; the next dial goes to the new URLs."""
        if tuple(sorted(urls)) != self._urls.all:
            self._urls.replace(urls)

    async def close(self) -> None:
        """Ends the streams to it, and stops reading from it."""
        if self._closed:
            return
        self._closed = True
        for stream in (self._append_stream, self._message_stream):
            if stream is not None:
                stream.end()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._pipeline.close()

    def _set_stream(self, kind: StreamKind, stream: Outbound | None) -> None:
        if kind is StreamKind.APPEND:
            self._append_stream = stream
        else:
            self._message_stream = stream

    def _stream_broken(self, kind: StreamKind, stream: Outbound) -> None:
        if stream is not (self._append_stream if kind is StreamKind.APPEND else self._message_stream):
            return
        self._set_stream(kind, None)
        self._sent_bytes += stream.sent_bytes
        self._sent_failures += 1
        self._activity.failed(f"the {kind} stream to it broke")
        self._wiring.unreachable(self.member_id)

    async def _keep_reading(self, kind: StreamKind) -> None:
        """A stream that ends, and a port that then refuses a connection: the process behind it is gone."""
        loop = asyncio.get_running_loop()
        stood = False
        while True:
            started = loop.time()
            url = self._urls.chosen
            try:
                why = await self._read(kind, url)
                stood = True
                self._received_failures += why != ENDED
                log.debug("%s stream from %s: %s", kind, self._name, why)
            except StreamRefused as refused:
                stood = False
                self.is_foreign = refused.status == 412 and "cluster ID mismatch" in refused.text
                self._urls.failed(url)
                self._activity.failed(f"{url} gives no stream: {refused}")
                if refused.status == 410:
                    self._wiring.on_removed()
                    return
            except OSError as error:
                # A port that is being closed may still take a connection, and break it: that says nothing yet.
                if stood and isinstance(error, ConnectionRefusedError):
                    stood = False
                    self._wiring.on_ended(self.member_id)
                self._urls.failed(url)
                self._activity.failed(f"{url}: {error or type(error).__name__}")
            await asyncio.sleep(max(0.0, started + self._wiring.timings.redial_s - loop.time()))

    async def _read(self, kind: StreamKind, url: str) -> str:
        """Dials once and reads until the end. Raises StreamRefused, OSError."""
        identity = self._wiring.identity
        decoder: Decoder = (
            AppendDecoder(sender=self.member_id, to=identity.member_id)
            if kind is StreamKind.APPEND
            else MessageDecoder()
        )
        target = f"/raft/stream/{kind}/{hex_id(identity.member_id)}"
        headers = [*identity.headers(), (RAFT_TO, self._name)]
        inbound, request = await open_stream(
            url,
            target,
            headers,
            lambda: Inbound(decoder, self._wiring.deliver, read_timeout_s=self._wiring.timings.read_timeout_s),
            tls=self._wiring.tls,
            dial_timeout_s=self._wiring.dial_timeout_s,
        )
        self._inbound[kind] = inbound
        try:
            await inbound.open(request, identity)
            self.is_kvorum = inbound.is_from_kvorum
            self.is_foreign = False
            self._activity.succeeded()
            return await inbound.end()
        finally:
            inbound.close()
            self._received_bytes += self._inbound.pop(kind).received_bytes

    async def _keep_probing(self) -> None:
        """Twice each time, as etcd: on the kept connection, and on a new one to see whether new ones are taken."""
        while True:
            await asyncio.sleep(self._wiring.timings.probe_s)
            self._pipeline.probe()
            fresh = Connections(dial_timeout_s=self._wiring.dial_timeout_s, tls=self._wiring.tls)
            url = self._urls.chosen
            try:
                await fresh.ask(url, "GET", "/raft/probing", timeout_s=ANSWER_TIMEOUT_S)
            except OSError as error:
                log.debug("no new connection to %s: %s", url, error)
            finally:
                fresh.close()
