"""A differential run: operations of a seed against a reference and a subject, and the table of what was compared."""

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import text_format
from kvorum.etcdpb import rpc_pb2 as rpc

from tests.compat.differential.operations import Generator, Operation
from tests.compat.differential.ordering import order_equals
from tests.compat.differential.sides import Answer, Side, comparable
from tests.compat.differential.watching import WatchStream, difference

READS_TOGETHER = 24  # reads in flight at once, between two writes
WATCHES_TOGETHER = 25  # watches of the history on one stream
DIFFERENCES_MAX = 10
CHECK_EVERY = 1000  # operations between two comparisons of everything

# Live over the whole run, on one stream: everything, with what was before; a filter each; a key; a prefix.
LIVE = (
    rpc.WatchCreateRequest(key=b"\0", range_end=b"\0", prev_kv=True),
    rpc.WatchCreateRequest(key=b"\0", range_end=b"\0", filters=["NOPUT"]),
    rpc.WatchCreateRequest(key=b"\0", range_end=b"\0", filters=["NODELETE"], fragment=True),
    rpc.WatchCreateRequest(key=b"a"),
    rpc.WatchCreateRequest(key=b"b", range_end=b"c", prev_kv=True),
    rpc.WatchCreateRequest(key=b"", range_end=b"b"),
)
NOW = rpc.WatchCreateRequest(key=b"a")


class Different(AssertionError):
    """The subject did not answer what the reference did: the first differences, of which later ones may follow."""


@dataclass
class Report:
    """calls: by RPC; errors: by text, as the reference told them; hashes: revisions at which HashKV was compared."""

    calls: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    hashes: set[int] = field(default_factory=set)
    events: int = 0
    revision: int = 0

    def table(self) -> str:
        lines = [f"{name:18}{count:8}" for name, count in sorted(self.calls.items())]
        lines.append(f"{'all':18}{self.calls.total():8}")
        lines.append(f"{len(self.hashes)} revisions hashed of {self.revision}, {self.events} events of watches")
        lines += [f"{count:8}  {text}" for text, count in self.errors.most_common()]
        return "\n".join(lines)


class Run:
    """reference, subject: single members, fresh, in this order of trust."""

    def __init__(self, reference: Side, subject: Side, seed: int) -> None:
        self.sides = (reference, subject)
        self.generator = Generator(seed)
        self.seed = seed
        self.report = Report()
        self.differences: list[str] = []
        self.watches = 0  # to be sent together

    async def go(self) -> Report:
        live = [WatchStream(side, LIVE) for side in self.sides]
        await asyncio.gather(*(stream.create() for stream in live))
        reads: list[Operation] = []
        checked = 0
        while (operation := self.generator.next()) is not None:
            if operation.name == "Watch":
                self.watches += 1
                continue
            if operation.only_reads:
                reads.append(operation)
                if len(reads) == READS_TOGETHER:
                    await self.compare(reads)
                    reads = []
                continue
            await self.compare(reads)
            reads = []
            if self.watches >= WATCHES_TOGETHER:
                await self.compare_watches()
            await self.compare([operation])
            if self.report.calls.total() - checked >= CHECK_EVERY and not self.generator.pending:
                checked = self.report.calls.total()
                await self.compare_everything()
        await self.compare(reads)
        await self.compare_watches()
        await self.compare_everything()
        await self.compare_live(live)
        self.report.revision = self.generator.revision
        if self.differences:
            raise Different("\n\n".join(self.differences))
        return self.report

    def differ(self, told: str) -> None:
        """Goes on after a difference, unless there are many: one cause is seldom all there is to see."""
        self.differences.append(told)
        if len(self.differences) >= DIFFERENCES_MAX:
            raise Different("\n\n".join(self.differences))

    async def compare(self, operations: Sequence[Operation]) -> None:
        """Asks both sides for all of them at once: reads, or one operation."""
        started = [
            [(side, side.start(one.name, one.encoded(side.members))) for side in self.sides] for one in operations
        ]
        for operation, calls in zip(operations, started, strict=True):
            answers = [await side.answer_of(operation.name, call) for side, call in calls]
            self.report.calls[operation.name] += 1
            self.learn(operation, answers)
            for answer in answers:
                if answer.message is not None:
                    order_equals(operation.request, answer.message)
            expected, got = (comparable(side, answer) for side, answer in zip(self.sides, answers, strict=True))
            if expected != got:
                self.differ(self.describe(operation, answers))
                for side in self.sides:
                    assert side.node.alive, f"{self.differences[-1]}\n{side.name} ended\n{side.node.log_tail(3)}"
            if answers[0].code:
                text = re.sub(r"\d{4,}", "N", answers[0].text)
                self.report.errors[f"{answers[0].code:2} {operation.name:12} {text}"] += 1
            elif operation.name == "HashKV":
                self.report.hashes.add(operation.request.revision or self.generator.revision)

    def learn(self, operation: Operation, answers: list[Answer]) -> None:
        if operation.name == "MemberAdd" and all(answer.code == 0 for answer in answers):
            alias = self.generator.added()
            for side, answer in zip(self.sides, answers, strict=True):
                added: Any = answer.message
                side.learn(alias, added.member.ID)
        self.generator.saw(operation, answers[0].code, answers[0].message)

    async def compare_watches(self) -> None:
        """The watches gathered, each from its start to now, while nothing is written."""
        # Without a watch that stays, etcd reports no progress.
        requests = [*(self.generator.watch_request() for _ in range(self.watches)), NOW]
        self.watches = 0
        streams = [WatchStream(side, requests) for side in self.sides]
        for stream in streams:
            await stream.create()
            await stream.catch_up()
            await stream.close()
        self.report.calls["Watch"] += len(requests) - 1
        self.judge(streams)

    async def compare_live(self, streams: list[WatchStream]) -> None:
        for stream in streams:
            revision = await stream.catch_up()
            await stream.close()
            if revision != self.generator.revision:
                told = f"{stream.side.name}: progress at {revision}, the store is at {self.generator.revision}"
                self.differ(told)
        self.judge(streams)

    def judge(self, streams: list[WatchStream]) -> None:
        for request, left, right in zip(streams[0].requests, streams[0].seen, streams[1].seen, strict=True):
            self.report.events += len(left.events)
            if told := difference(request, left, right):
                self.differ(f"{told}\n{self.where()}")
            if left.ended is not None:
                self.report.errors[f"   Watch        {left.ended[1] or 'compacted'}"] += 1

    async def compare_everything(self) -> None:
        """All keys, leases with their keys, members, alarms, and hashes from the first revision left to the last."""
        everything = [
            Operation("Range", rpc.RangeRequest(key=b"\0", range_end=b"\0")),
            Operation("LeaseLeases", rpc.LeaseLeasesRequest()),
            Operation("MemberList", rpc.MemberListRequest(linearizable=True)),
            Operation("Alarm", rpc.AlarmRequest(action=rpc.AlarmRequest.GET)),
            Operation("HashKV", rpc.HashKVRequest()),
        ]
        first, last = self.generator.hashable_from, self.generator.revision
        for revision in range(first, last + 1, max(1, (last - first) // 20)):
            everything.append(Operation("HashKV", rpc.HashKVRequest(revision=revision)))
        everything += [
            Operation("LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=lease_id, keys=True))
            for lease_id in range(1, 13)
        ]
        await self.compare(everything)

    def describe(self, operation: Operation, answers: list[Answer]) -> str:
        lines = [f"{operation.name} {{ {text_format.MessageToString(operation.request, as_one_line=True)[:2000]} }}"]
        if operation.member is not None:
            lines[0] += f" of member {operation.member}"
        for side, answer in zip(self.sides, answers, strict=True):
            said = f"{answer.code} {answer.text}"
            if answer.message is not None:
                said = text_format.MessageToString(answer.message, as_one_line=True)[:4000]
            lines.append(f"{side.name}: {said}")
        return "\n".join((*lines, self.where()))

    def where(self) -> str:
        done, revision = self.report.calls.total(), self.generator.revision
        return f"after {done} calls at revision {revision}, compacted {self.generator.compacted}; seed {self.seed}"
