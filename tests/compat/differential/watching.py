"""Watches on both sides: what each sees of the history, and what live ones see over a whole run.

How events are gathered into responses is a matter of time, so they are compared as one sequence for each watch. What
must hold of each response is asserted: the header is not behind its events, and a revision comes in one piece unless it
was allowed to be fragmented.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from kvorum.etcdpb import rpc_pb2 as rpc

from tests.compat.differential.sides import OWN, WATCH, Side

ANSWER_S = 20.0
PROGRESS_S = 0.1  # between two requests for progress: etcd does not answer one while a watch is catching up


@dataclass
class Seen:
    """What one watch was told."""

    events: list[bytes] = field(default_factory=list)
    ended: tuple[int, str] | None = None  # compact_revision, reason
    last_revision: int = 0
    in_fragments: bool = False
    of_the_future: bool = False  # from a revision that had not come when it was made
    forgotten: bool = False  # cancelled by us


class WatchStream:
    """A watch stream of one side with watches of ids 0, 1, ... in the order of the requests."""

    def __init__(self, side: Side, requests: Sequence[rpc.WatchCreateRequest]) -> None:
        self.side = side
        self.requests = requests
        self.seen: list[Seen] = []
        self.progress: asyncio.Event = asyncio.Event()
        self.progress_revision = 0
        call: Any = side.channel.stream_stream(WATCH, rpc.WatchRequest.SerializeToString, rpc.WatchResponse.FromString)
        self.stream = call()
        self.reader: asyncio.Task[None] | None = None
        self._by_id: dict[int, Seen] = {}

    async def create(self) -> None:
        """Creates the watches in turn, each when the one before was confirmed or refused."""
        self.reader = asyncio.create_task(self._read())
        for count, request in enumerate(self.requests, 1):
            await self.stream.write(rpc.WatchRequest(create_request=request))
            await self._until(lambda count=count: len(self.seen) == count, "a watch is answered")

    async def catch_up(self) -> int:
        """Asks for progress until it is reported: then all up to the revision returned was seen."""
        self.progress.clear()
        async with asyncio.timeout(ANSWER_S):
            while not self.progress.is_set():
                await self.stream.write(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))
                await self._forget()
                try:
                    async with asyncio.timeout(PROGRESS_S):
                        await self.progress.wait()
                except TimeoutError:
                    self._raise_failure()
        return self.progress_revision

    async def _forget(self) -> None:
        """Cancels the watches that etcd counts as behind for ever, and would report no progress for.

        Those are the ones it ended by itself, and the ones of a revision to come.
        """
        for watch_id, seen in self._by_id.items():
            if (seen.ended is not None or seen.of_the_future) and not seen.forgotten:
                seen.forgotten = True
                cancel = rpc.WatchCancelRequest(watch_id=watch_id)
                await self.stream.write(rpc.WatchRequest(cancel_request=cancel))

    async def close(self) -> None:
        self.stream.cancel()
        if self.reader is not None:
            await asyncio.gather(self.reader, return_exceptions=True)

    async def _until(self, condition: Any, what: str) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                while not condition():
                    self._raise_failure()
                    await asyncio.sleep(0)
        except TimeoutError:
            raise AssertionError(f"{self.side.name}: not within {ANSWER_S:g} s: {what}") from None

    def _raise_failure(self) -> None:
        if self.reader is not None and self.reader.done():
            self.reader.result()
            raise AssertionError(f"{self.side.name}: the watch stream ended")

    async def _read(self) -> None:
        while True:
            answer = await self.stream.read()
            if answer is grpc.aio.EOF:  # type: ignore[attr-defined]  # missing in the stubs
                return
            self._take(answer)

    def _take(self, answer: rpc.WatchResponse) -> None:
        header = answer.header
        assert header.member_id == self.side.members[OWN], f"{self.side.name}: {header}"
        assert header.cluster_id == self.side.cluster_id, f"{self.side.name}: {header}"
        if answer.created:
            start_revision = self.requests[len(self.seen)].start_revision
            seen = Seen(of_the_future=start_revision > header.revision)
            self.seen.append(seen)
            if answer.canceled:  # refused: id -1
                assert answer.watch_id == -1, answer
                seen.ended = (answer.compact_revision, answer.cancel_reason)
            else:
                assert answer.watch_id not in self._by_id, answer
                self._by_id[answer.watch_id] = seen
            return
        if answer.watch_id == -1:
            assert not answer.events, answer
            self.progress_revision = header.revision
            self.progress.set()
            return
        seen = self._by_id[answer.watch_id]
        if seen.forgotten and answer.canceled and not answer.events:
            return  # a server may leave it out where the watch was gone already
        assert seen.ended is None, f"{self.side.name}: an answer after the end of the watch: {answer}"
        for event in answer.events:
            assert header.revision >= event.kv.mod_revision, f"{self.side.name}: the header is behind: {answer}"
            assert event.kv.mod_revision >= seen.last_revision, f"{self.side.name}: out of order: {answer}"
            seen.events.append(event.SerializeToString(deterministic=True))
        if answer.events:
            first, last = answer.events[0].kv.mod_revision, answer.events[-1].kv.mod_revision
            assert first > seen.last_revision or seen.in_fragments, f"{self.side.name}: a revision in two: {answer}"
            seen.last_revision = last
        seen.in_fragments = answer.fragment
        if answer.canceled:
            seen.ended = (answer.compact_revision, answer.cancel_reason)


def difference(request: rpc.WatchCreateRequest, left: Seen, right: Seen) -> str:
    """In words, what two watches of one request saw differently; empty if nothing."""
    if left.ended != right.ended:
        return f"watch {request} ended with {left.ended} and {right.ended}"
    for index, (one, other) in enumerate(zip(left.events, right.events, strict=False)):
        if one != other:
            return f"watch {request} event {index}: {rpc.Event.FromString(one)} and {rpc.Event.FromString(other)}"
    if len(left.events) != len(right.events):
        more = (left.events if len(left.events) > len(right.events) else right.events)[
            min(len(left.events), len(right.events))
        ]
        return f"watch {request} saw {len(left.events)} and {len(right.events)} events; {rpc.Event.FromString(more)}"
    return ""
