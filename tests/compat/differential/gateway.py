"""The same random JSON to the gateways of a real etcd and of our node: statuses, headers and bodies are equal.

`python -m tests.compat.differential.gateway --operations 20000 --seed 7` is a long run. What is asked is the
differential test's over gRPC (operations.py), written as JSON in every way that the gateway's rules allow, and in some
that they do not. Answers are read by protobuf's own JSON, an oracle that ours is not made of, and compared as messages;
beside that their shapes are: which fields are there, and what of JSON each is.
"""

import argparse
import base64
import http.client
import json
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from kvorum.etcdpb import rpc_pb2 as rpc

from tests.compat.differential.operations import CHANGES, COUNTS, Generator, Operation
from tests.compat.differential.ordering import order_equals
from tests.compat.differential.sides import OWN, PATHS, Answer, Names, comparable
from tests.kit.gateway import LOCAL_HEADERS, refusal
from tests.kit.processes import Node, etcd_program, kvorum_program

ANSWER_S = 60.0
DIFFERENCES_MAX = 8
WRONG_CHANCE = 0.08  # of a request that is spoilt
SPOILT = {"Range", "Put", "LeaseRevoke", "LeaseTimeToLive", "MemberList"}  # where any other request does no harm
URLS: dict[str, tuple[str, ...]] = {
    "Range": ("kv/range",),
    "Put": ("kv/put",),
    "DeleteRange": ("kv/deleterange",),
    "Txn": ("kv/txn",),
    "Compact": ("kv/compaction",),
    "LeaseGrant": ("lease/grant",),
    "LeaseRevoke": ("lease/revoke", "kv/lease/revoke"),
    "LeaseTimeToLive": ("lease/timetolive", "kv/lease/timetolive"),
    "LeaseLeases": ("lease/leases", "kv/lease/leases"),
    "LeaseKeepAlive": ("lease/keepalive",),
    "MemberList": ("cluster/member/list",),
    "MemberAdd": ("cluster/member/add",),
    "MemberRemove": ("cluster/member/remove",),
    "MemberUpdate": ("cluster/member/update",),
    "MemberPromote": ("cluster/member/promote",),
    "Alarm": ("maintenance/alarm",),
    "Status": ("maintenance/status",),
    "HashKV": ("maintenance/hashkv",),
    "Defragment": ("maintenance/defragment",),
    "MoveLeader": ("maintenance/transfer-leadership",),
    "Watch": ("watch",),
}
OTHER_METHODS = ("GET", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS")
SHORT = range(500, 600)  # leases, see Generator.lease_grant


class Raw(NamedTuple):
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class JsonSide(Names):
    """A server, asked over HTTP on one kept connection."""

    def __init__(self, name: str, node: Node) -> None:
        super().__init__(name, node)
        self._connection = http.client.HTTPConnection("127.0.0.1", node.client_port, timeout=ANSWER_S)
        status = json.loads(self.ask("POST", "/v3/maintenance/status", b"{}").body)
        self.cluster_id = int(status["header"]["cluster_id"])
        self.learn(OWN, int(status["header"]["member_id"]))

    def ask(self, method: str, path: str, body: bytes) -> Raw:
        self._connection.request(method, path, body=body, headers={"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        told = sorted((name.lower(), value) for name, value in answer.getheaders() if name.lower() not in LOCAL_HEADERS)
        return Raw(answer.status, tuple(told), answer.read())

    def watch(self, body: bytes) -> Iterator[dict[str, Any]]:
        """The documents of a stream, one for each chunk, until the generator is closed."""
        connection = http.client.HTTPConnection("127.0.0.1", self.node.client_port, timeout=ANSWER_S)
        try:
            connection.request("POST", "/v3/watch", body=body)
            answer = connection.getresponse()
            assert answer.status == 200, (self.name, answer.status, answer.read())
            while line := answer.readline():
                yield json.loads(line)["result"]
        finally:
            connection.close()

    def close(self) -> None:
        self._connection.close()


# ---- writing requests ------------------------------------------------------------------------------------------------


class Writer:
    """A message as JSON, in one of the many ways that are read alike."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._wrong = False

    def text(self, message: Message, *, wrong: bool) -> str:
        self._wrong = wrong
        told = self._message(message)
        if wrong and self._random.random() < 0.5:
            self._mistype(told, message)
            wrong = False
        text = json.dumps(told, separators=self._random.choice([(",", ":"), (", ", ": "), (" ,\n", "\t: ")]))
        if self._random.random() < 0.1:
            text = self._escape(text)
        if wrong:
            return self._spoil(text)
        return text + self._random.choice(["", "", "", "\n", " garbage", "{}", "}"])

    def _message(self, message: Message) -> dict[str, Any]:
        told: dict[str, Any] = {}
        for descriptor, value in message.ListFields():
            name = descriptor.name if self._random.random() < 0.6 else descriptor.json_name
            one_by_one = [self._value(descriptor, one) for one in (value if descriptor.is_repeated else [value])]
            told[name] = one_by_one if descriptor.is_repeated else one_by_one[0]
        if self._random.random() < 0.1:
            told[self._random.choice(["unknown", "Key", "@type", "[a.b]"])] = self._random.choice(
                [None, 1, 2.5, "x", [1, [2]], {"a": {"b": None}}]
            )
        unset = [one for one in message.DESCRIPTOR.fields if one.name not in told and one.json_name not in told]
        if unset and self._random.random() < 0.1:
            told[self._random.choice(unset).name] = None
        return told

    def _value(self, descriptor: FieldDescriptor, value: Any) -> Any:
        pick = self._random.random()
        if descriptor.type == FieldDescriptor.TYPE_MESSAGE:
            return self._message(value)
        if descriptor.type == FieldDescriptor.TYPE_ENUM:
            assert descriptor.enum_type is not None
            return descriptor.enum_type.values_by_number[value].name if pick < 0.6 else value
        if descriptor.type == FieldDescriptor.TYPE_BYTES:
            return self._bytes(value)
        if isinstance(value, bool | str):
            return value
        if pick < 0.5:
            return str(value)
        if pick < 0.55 and abs(value) < 1 << 50:
            return float(value)
        if pick < 0.6 and not self._wrong:  # Go's reader takes "5e:-1" for 5, which ours does not
            return f"{value}0e-1"
        return value

    def _bytes(self, value: bytes) -> str:
        pick = self._random.random()
        if pick < 0.7:
            return base64.b64encode(value).decode()
        text = base64.urlsafe_b64encode(value).decode()
        return text.rstrip("=") if pick < 0.85 else text

    def _escape(self, text: str) -> str:
        """Some letters within strings as escapes: the same text to whoever reads JSON."""
        return re.sub(r'(?<=")[A-Za-z]', lambda found: f"\\u{ord(found[0]):04x}", text)

    def _mistype(self, told: dict[str, Any], message: Message) -> None:
        """One field of another kind than it is."""
        fields = [one for one in message.DESCRIPTOR.fields if not one.name.startswith("sort_")]
        if not fields:
            return
        name = self._random.choice(fields).name
        told[name] = self._random.choice(
            [
                True, 1, -1, 2.5, "x", "=", "Zm9v=", "Z", "Zm 9v", "-+", "Zm9v\n", [], ["YQ=="], {}, {"a": 1},
                1 << 64, str(1 << 63), "1.5", " 1", "0x1", "", "01", "1e3", "-0", "\u00e9",
            ]
        )  # fmt: skip

    def _spoil(self, text: str) -> str:
        at = self._random.randrange(len(text) + 1)
        pick = self._random.random()
        if pick < 0.4:
            return text[:at]
        if pick < 0.7:
            return text[:at] + text[at + 1 :]
        return text[:at] + self._random.choice('{}[]",:1xé\\') + text[at:]


# ---- comparing answers -----------------------------------------------------------------------------------------------


def shape(value: Any, without: str = "") -> Any:
    """Names and kinds, without values: lists as sets of shapes, since the order of some is a server's own."""
    if isinstance(value, dict):
        return {name: shape(one, without) for name, one in sorted(value.items()) if name != without}
    if isinstance(value, list):
        return sorted({json.dumps(shape(one, without)) for one in value})
    if isinstance(value, str):
        return "digits" if re.fullmatch(r"-?\d+", value) else "text"
    return type(value).__name__


@dataclass
class Report:
    calls: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    events: int = 0

    def table(self) -> str:
        lines = [f"{name:18}{count:8}" for name, count in sorted(self.calls.items())]
        lines.append(f"{'all':18}{self.calls.total():8}, {self.events} events of watches")
        lines += [f"{count:8}  {text}" for text, count in self.statuses.most_common()]
        return "\n".join(lines)


def must_happen(operation: Operation) -> bool:
    """What the generator relies on: see CHANGES, and the end of a short lease is not left to the clocks."""
    name, request = operation.name, operation.request
    return (
        name in CHANGES
        or (name == "LeaseRevoke" and request.ID in SHORT)
        or (name == "Put" and request.key == b"settled")
    )


class Different(AssertionError):
    """The subject did not answer what the reference did."""


class Run:
    """reference, subject: single members, fresh."""

    def __init__(self, reference: JsonSide, subject: JsonSide, seed: int, operations: int) -> None:
        self.sides = (reference, subject)
        self.generator = Generator(seed)
        self.random = random.Random(seed + 1)
        self.seed = seed
        self.operations = operations
        self.report = Report()
        self.differences: list[str] = []

    def go(self) -> Report:
        while self.report.calls.total() < self.operations and (operation := self.next()) is not None:
            if operation.name == "Watch":
                self.compare_watch()
            elif operation.name in URLS:
                self.compare(operation, certain=must_happen(operation))
        if self.differences:
            raise Different("\n\n".join(self.differences))
        return self.report

    def next(self) -> Operation | None:
        operation = self.generator.next()
        if operation is None:  # all names of a generator are used: the same mix again
            self.generator.names = [name for name, count in COUNTS.items() for _ in range(count)]
            self.random.shuffle(self.generator.names)
            operation = self.generator.next()
        return operation

    def compare(self, operation: Operation, *, certain: bool = False) -> int:
        """The status of the reference's answer. certain: the request is not to be spoilt."""
        path = f"/{self.random.choice(('v3', 'v3', 'v3beta'))}/{self.random.choice(URLS[operation.name])}"
        method = "POST" if certain or self.random.random() > 0.01 else self.random.choice(OTHER_METHODS)
        sortless = operation.name != "Range" or not (operation.request.sort_order or operation.request.sort_target)
        wrong = not certain and operation.name in SPOILT and sortless and self.random.random() < WRONG_CHANCE
        writing = self.random.randrange(1 << 32)
        asked: list[bytes] = []
        answers: list[Raw] = []
        for side in self.sides:
            request = type(operation.request).FromString(operation.encoded(side.members))
            asked.append(Writer(writing).text(request, wrong=wrong).encode())
            answers.append(side.ask(method, path, asked[-1]))
        self.report.calls[operation.name] += 1
        left, right = answers
        if left.status == right.status == 200 and not wrong and method == "POST":
            self.learn(operation, answers)
        told = self.difference(operation, left, right)
        if told:
            self.differ(f"{told}\n{method} {path} {asked[0].decode()[:3000]}\n{left}\n{right}"[:8000])
        code = f" {refusal(left.body)[1][:70]}" if left.status != 200 and left.body else ""
        self.report.statuses[re.sub(r"\d{4,}", "N", f"{left.status}{code}")] += 1
        return left.status

    def difference(self, operation: Operation, left: Raw, right: Raw) -> str:
        """Empty where there is none."""
        if left.status != right.status:
            return f"{left.status} is not {right.status}"
        if left.headers != right.headers:
            return "the headers differ"
        if left.status != 200:
            if not left.body or not right.body:
                return "" if left.body == right.body else "one has no body"
            return "" if self.same_refusal(left, right) else "the refusals differ"
        if not left.body:
            return "" if not right.body else "one has no body"
        documents = [[json.loads(line) for line in raw.body.splitlines()] for raw in (left, right)]
        if operation.name == "MemberUpdate":
            for answered in documents:
                for member in answered[0]["members"]:
                    member.pop("isLearner", None)  # see Generator.member_update
        # Which keys a limit leaves of those that sort alike is etcd's sort's affair (see ordering.py).
        without = "kvs" if "sort_target" in str(operation.request) else ""
        if shape(documents[0], without) != shape(documents[1], without):
            return "the shapes differ"
        for one, other in zip(*documents, strict=True):
            messages = [self.comparable(operation, index, told) for index, told in enumerate((one, other))]
            if messages[0] != messages[1]:
                return "the messages differ"
        return ""

    def same_refusal(self, left: Raw, right: Raw) -> bool:
        refusals = [comparable(self.sides[0], Answer(*refusal(raw.body), None)) for raw in (left, right)]
        return refusals[0] == refusals[1]

    def comparable(self, operation: Operation, index: int, told: dict[str, Any]) -> object:
        side = self.sides[index]
        message: Any = json_format.ParseDict(told.get("result", told), PATHS[operation.name][1]())
        if operation.name in ("Range", "Txn"):
            order_equals(operation.request, message)
        return comparable(side, Answer(0, "", message))

    def learn(self, operation: Operation, answers: list[Raw]) -> None:
        messages: list[Any] = []
        for answer in answers:
            told = json.loads(answer.body.splitlines()[0]) if answer.body else {}
            messages.append(json_format.ParseDict(told.get("result", told), PATHS[operation.name][1]()))
        if operation.name == "MemberAdd":
            alias = self.generator.added()
            for side, message in zip(self.sides, messages, strict=True):
                side.learn(alias, message.member.ID)
        self.generator.saw(operation, 0, messages[0])

    def compare_watch(self) -> None:
        """A watch of the history, which ends with a marker that is in its range: so its last event is known."""
        request = self.generator.watch_request()
        request.range_end = MARKER + b"\xff"
        del request.filters[1:]
        if self.compare(Operation("Put", rpc.PutRequest(key=MARKER)), certain=True) != 200:
            return  # there is an alarm
        self.compare(Operation("DeleteRange", rpc.DeleteRangeRequest(key=MARKER)), certain=True)
        last = self.generator.revision
        if rpc.WatchCreateRequest.NODELETE in request.filters:
            last -= 1
        request.start_revision = min(request.start_revision or last, last)  # 0 would be from now on
        body = Writer(self.random.randrange(1 << 32)).text(rpc.WatchRequest(create_request=request), wrong=False)
        seen = [self.watched(side, body.encode(), last) for side in self.sides]
        self.report.calls["Watch"] += 1
        self.report.events += len(seen[0]) - 1
        if seen[0] != seen[1]:
            self.differ(f"watches differ: {body}\n{seen[0]}\n{seen[1]}"[:6000])

    def watched(self, side: JsonSide, body: bytes, last_revision: int) -> list[str]:
        """The first document and the last word, and the events between: in how many documents they came is open."""
        seen: list[str] = []
        for told in side.watch(body):
            response = json_format.ParseDict(told, rpc.WatchResponse())
            assert "header" in told, told
            if response.canceled or response.created:
                header = told.pop("header")
                seen.append(f"{json.dumps(told, sort_keys=True)} at {header.get('revision')}")
                if response.canceled:
                    break
                continue
            events = told["events"]
            seen += [json.dumps(event, sort_keys=True) for event in events]
            if int(events[-1]["kv"]["mod_revision"]) >= last_revision:
                break
        return seen

    def differ(self, told: str) -> None:
        self.differences.append(f"{told}\nseed {self.seed}, after {self.report.calls.total()} calls")
        if len(self.differences) >= DIFFERENCES_MAX:
            raise Different("\n\n".join(self.differences))


MARKER = b"\xff\xff\xff\xff"  # behind all keys of a generator


def run(folder: Path, seed: int, operations: int) -> Report:
    """Both servers of their own, fresh. Raises Different, EtcdMissing."""
    with Node(etcd_program(), folder / "reference") as left, Node(kvorum_program(), folder / "subject") as right:
        sides = [JsonSide("reference", left), JsonSide("subject", right)]
        try:
            return Run(sides[0], sides[1], seed, operations).go()
        finally:
            for side in sides:
                side.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        print(run(Path(folder), arguments.seed, arguments.operations).table())


if __name__ == "__main__":
    main()
