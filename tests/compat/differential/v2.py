"""The same random v2 requests to a real etcd and to our node: statuses, headers and bodies are equal, byte for byte.

`python -m tests.compat.differential.v2 --operations 20000 --seed 7` is a long run. Masked are only the times of keys
that expire, which each server takes from its own clock (they may differ by seconds), and the order in which a directory
is listed where nobody asked for one. Watches are opened on both and stay open beside what goes on.
"""

import argparse
import http.client
import json
import random
import re
import select
import socket
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple
from urllib.parse import quote, urlencode

from tests.kit.deadline import wait_until
from tests.kit.processes import Node, Program, etcd_program, kvorum_program

ENABLED = ("--enable-v2=true",)
ANSWER_S = 60.0
CLOCKS_APART_S = 20.0  # the two are asked one after the other, on a machine that may be busy
DIFFERENCES_MAX = 8
WATCHES_MAX = 12
HISTORY_EVENTS = 1000
TOLD_HEADERS = ("Content-Type", "X-Etcd-Index", "X-Raft-Term", "Location", "Allow", "X-Content-Type-Options")
PARTS = ("a", "b", "c", "dir", "_hidden", "sp ace", "é%", "q", "ab", "日本", "x&y<z>", "a;b", "+", "~t")
COMMON = ("/a", "/b", "/a/x", "/a/y", "/a/_z", "/c/d/e", "/c/d", "/q", "/q", "/_hidden/x", "/dir", "/f", "/g", "/h")
VALUES = ("", "1", "2", "bar", "a b&c=d", "é", "<&>\u2028", '"quoted\\"', "x" * 300, "\x01\t\x7f\x08\x0c")
BAD_NUMBERS = ("", "-1", "abc", "1.5", "18446744073709551616", "0x10", " 1", "1_0")
BOOLEANS = ("true", "false", "1", "0", "T", "F", "True", "FALSE")
BAD_BOOLEANS = ("", "yes", "tRUE", "2", " true")
FORM = "application/x-www-form-urlencoded"
CONTENT_TYPES = (
    f"{FORM}; charset=utf-8",
    "text/plain",
    "application/json",
    "foo/;;",
    "",
    FORM.upper(),
    "multipart/form-data",
)


class Difference(AssertionError):
    """The two servers disagree."""


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


class Request(NamedTuple):
    method: str
    target: str
    headers: dict[str, str]
    body: bytes | None
    is_sorted: bool

    def __str__(self) -> str:
        return f"{self.method} {self.target} {self.headers} {self.body!r}"


@dataclass
class Report:
    seed: int
    operations: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    watched: Counter[str] = field(default_factory=Counter)

    def table(self) -> str:
        return "\n".join(
            (
                f"seed {self.seed}: {self.operations} v2 operations, equal",
                f"  answers  {dict(sorted(self.statuses.items()))}",
                f"  actions  {dict(sorted(self.actions.items()))}",
                f"  watches  {dict(sorted(self.watched.items()))}",
            )
        )


class Side:
    """One of the servers."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._connection = http.client.HTTPConnection("127.0.0.1", node.client_port, timeout=ANSWER_S)

    def ask(self, request: Request) -> Answer:
        connection = self._connection
        connection.putrequest(request.method, request.target, skip_accept_encoding=True)
        for name, value in request.headers.items():
            connection.putheader(name, value)
        if request.body is not None:
            connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders(request.body)
        response = connection.getresponse()
        body = response.read()
        return Answer(response.status, dict(response.getheaders()), body.decode())

    def get(self, target: str) -> Answer:
        return self.ask(Request("GET", target, {}, None, True))


class Watch:
    """A watch on one server, read as it comes."""

    def __init__(self, side: Side, target: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", side.node.client_port), ANSWER_S)
        self._socket.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode("latin-1"))
        self._data = b""
        while b"\r\n\r\n" not in self._data:  # the head comes at once, whenever the first event does
            self._receive()
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = dict(line.split(": ", 1) for line in lines[1:])
        self.is_chunked = self.headers.get("Transfer-Encoding") == "chunked"

    def _receive(self) -> None:
        data = self._socket.recv(65536)
        assert data, "a watch was cut off"
        self._data += data

    def read(self) -> None:
        """What is there."""
        while select.select([self._socket], [], [], 0)[0]:
            self._receive()

    def wait(self) -> None:
        select.select([self._socket], [], [], 0.02)

    @property
    def is_done(self) -> bool:
        if self.is_chunked:
            return self._data.endswith(b"0\r\n\r\n")
        return len(self._data) >= int(self.headers["Content-Length"])

    @property
    def events(self) -> list[str]:
        """The bodies of the chunks that are whole."""
        if not self.is_chunked:
            return [self._data.decode()] if self.is_done else []
        events, data = [], self._data
        while b"\r\n" in data:
            size, _, rest = data.partition(b"\r\n")
            length = int(size, 16)
            if not length or len(rest) < length + 2:
                break
            events.append(rest[:length].decode())
            data = rest[length + 2 :]
        return events

    def close(self) -> None:
        self._socket.close()


# -- comparing ---------------------------------------------------------------------------------------------------------

_EXPIRATION = re.compile(r'"expiration":"([^"]*)"(?:,"ttl":(-?[0-9]+))?')
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]*[1-9])?Z")


def masked(body: str) -> tuple[str, list[tuple[str, int]]]:
    """Without the times, and those."""
    times = [(match[1], int(match[2] or 0)) for match in _EXPIRATION.finditer(body)]
    return _EXPIRATION.sub('"expires"', body), times


def seconds(text: str) -> float:
    assert _TIME.fullmatch(text), text
    whole, _, fraction = text.rstrip("Z").partition(".")
    parsed = time.strptime(whole, "%Y-%m-%dT%H:%M:%S")
    days = (parsed.tm_year - 1970) * 365.2425 + parsed.tm_yday  # far apart or not is all that is asked
    return days * 86400 + parsed.tm_hour * 3600 + parsed.tm_min * 60 + parsed.tm_sec + float(f"0.{fraction or 0}")


def same_body(left: str, right: str, *, is_sorted: bool) -> str | None:
    """Why two bodies differ, or None."""
    if not is_sorted and '"nodes"' in left and '"nodes"' in right:
        left, right = _in_order(left), _in_order(right)
    (left_rest, left_times), (right_rest, right_times) = masked(left), masked(right)
    if left_rest != right_rest:
        return f"{left_rest}\n  {right_rest}"
    for one, other in zip(left_times, right_times, strict=True):
        if abs(seconds(one[0]) - seconds(other[0])) > CLOCKS_APART_S or abs(one[1] - other[1]) > CLOCKS_APART_S:
            return f"{one} and {other}"
    return None


def _in_order(body: str) -> str:
    def ordered(node: object) -> object:
        if isinstance(node, dict):
            return {
                name: sorted(map(ordered, value), key=lambda child: str(child.get("key")))  # type: ignore[attr-defined]  # nodes
                if name == "nodes"
                else ordered(value)
                for name, value in node.items()
            }
        return node

    return json.dumps(ordered(json.loads(body)), separators=(",", ":"))


# -- asking ------------------------------------------------------------------------------------------------------------


class Generator:
    def __init__(self, random_: Random) -> None:
        self._random = random_
        self.index = 3  # of the store, as far as it is known
        self.modified: dict[str, int] = {}  # by key, as last told
        self.values: dict[str, str] = {}

    def key(self) -> str:
        """Mostly one of a few, so that what is compared exists, and sometimes is what it was taken for."""
        rng = self._random
        if rng.random() < 0.7:
            return rng.choice(COMMON)
        return "/" + "/".join(rng.choice(PARTS) for _ in range(rng.choice((1, 1, 2, 2, 2, 3, 4))))

    def request(self) -> Request:
        rng = self._random
        method = rng.choices(("GET", "PUT", "POST", "DELETE", "HEAD", "PATCH"), (25, 45, 8, 18, 3, 1))[0]
        key = self.key() if rng.random() > 0.03 else ""
        path = "/v2/keys" + quote(key, safe="/~+")
        if rng.random() < 0.02:
            path = rng.choice(
                (path + "/", path + "//x", path + "/../y", path + "/./z", path + "%ff", "/v2/keysx", "/v2/")
            )
        form: list[tuple[str, str]] = []
        chosen = {
            "GET": self._read,
            "HEAD": self._read,
            "PUT": self._put,
            "POST": self._post,
            "DELETE": self._delete,
            "PATCH": lambda *_: None,
        }[method]
        chosen(form, key)
        if rng.random() < 0.04:
            form.append(self._wrong())
        in_body = [pair for pair in form if rng.random() < 0.6] if method in ("PUT", "POST") else []
        in_query = [pair for pair in form if pair not in in_body]
        headers: dict[str, str] = {}
        body = None
        if method in ("PUT", "POST"):
            body = urlencode(in_body).encode()
            if rng.random() < 0.02:
                body += rng.choice((b"&%zz=1", b"&a;b=1", b"&value=%ff%fe", b"&%4", b"&=x", b"&value"))
            headers["Content-Type"] = FORM if rng.random() > 0.03 else rng.choice(CONTENT_TYPES)
        query = urlencode(in_query)
        if rng.random() < 0.01:
            query += rng.choice(("&%zz=1", "&a;b=1", "&%", "&dir=%f"))
        is_sorted = ("sorted", "true") in form
        return Request(method, path + (f"?{query}" if query else ""), headers, body, is_sorted)

    def _some(self, form: list[tuple[str, str]], name: str, chance: float) -> None:
        if self._random.random() < chance:
            form.append((name, self._random.choice(BOOLEANS)))

    def _read(self, form: list[tuple[str, str]], key: str) -> None:
        self._some(form, "recursive", 0.4)
        if self._random.random() < 0.5:
            form.append(("sorted", "true"))
        self._some(form, "quorum", 0.2)

    def _ttl(self, form: list[tuple[str, str]]) -> None:
        if self._random.random() < 0.2:
            form.append(("ttl", self._random.choice(("1000", "86400", "99999999"))))  # longer than this test

    def _put(self, form: list[tuple[str, str]], key: str) -> None:
        rng = self._random
        if rng.random() < 0.85:
            form.append(("value", rng.choice(VALUES)))
        self._ttl(form)
        self._some(form, "dir", 0.06)
        self._some(form, "prevExist", 0.3)
        self._some(form, "refresh", 0.1)
        self._some(form, "noValueOnSuccess", 0.05)
        self._compare(form, key)

    def _post(self, form: list[tuple[str, str]], key: str) -> None:
        form.append(("value", self._random.choice(VALUES)))
        self._ttl(form)
        self._some(form, "dir", 0.2)

    def _delete(self, form: list[tuple[str, str]], key: str) -> None:
        self._some(form, "recursive", 0.25)
        self._some(form, "dir", 0.25)
        self._compare(form, key)

    def _compare(self, form: list[tuple[str, str]], key: str) -> None:
        rng = self._random
        if key in self.values and rng.random() < 0.3:
            form.append(("prevValue", self.values[key]))
        elif rng.random() < 0.05:
            form.append(("prevValue", rng.choice(VALUES)))
        if rng.random() < (0.3 if key in self.modified else 0.05):
            known = self.modified.get(key, self.index)
            form.append(("prevIndex", str(rng.choice((known, known, known, 0, self.index, known + 1)))))

    def _wrong(self) -> tuple[str, str]:
        rng = self._random
        if rng.random() < 0.5:
            return rng.choice(("ttl", "prevIndex", "waitIndex")), rng.choice(BAD_NUMBERS)
        names = ("recursive", "sorted", "wait", "dir", "quorum", "stream", "noValueOnSuccess", "prevExist", "refresh")
        return rng.choice(names), rng.choice(BAD_BOOLEANS)

    def watch(self) -> str:
        rng = self._random
        form = [("wait", "true")]
        self._some(form, "recursive", 0.6)
        if rng.random() < 0.7:
            back = rng.choice((0, 1, 5, 50, HISTORY_EVENTS - 10, HISTORY_EVENTS + 100, -1, -20, -200))
            form.append(("waitIndex", str(max(0, self.index - back))))
        key = self.key() if rng.random() < 0.9 else ""
        return f"/v2/keys{quote(key, safe='/~+')}?{urlencode(form)}"


class Run:
    def __init__(self, left: Side, right: Side, seed: int) -> None:
        self._left, self._right = left, right
        self._random = Random(seed)
        self._generator = Generator(self._random)
        self._watches: list[tuple[str, Watch, Watch]] = []
        self.report = Report(seed)
        self._streams = [
            (target, Watch(left, target), Watch(right, target))
            for target in (
                "/v2/keys?wait=true&stream=true&recursive=true",
                "/v2/keys/a?wait=true&stream=true&recursive=true",
                "/v2/keys/b?wait=true&stream=true",
                "/v2/keys/_hidden?wait=true&stream=true&recursive=true",
            )
        ]

    def go(self, operations: int, expiries: int) -> None:
        every = operations // (expiries + 1)
        for number in range(operations):
            self.report.operations += 1
            if number and number % every == 0 and expiries:
                self._expire()
            elif self._random.random() < 0.04:
                self._watch()
            else:
                self._ask(self._generator.request())
            self._follow()
        self._finish()

    def _ask(self, request: Request) -> Answer:
        left, right = self._left.ask(request), self._right.ask(request)
        self._compare(str(request), left, right, is_sorted=request.is_sorted)
        self.report.statuses[str(left.status)] += 1
        index = left.headers.get("X-Etcd-Index", "0")
        self._generator.index = int(index) or self._generator.index
        if left.status in (200, 201) and request.method != "HEAD":
            document = json.loads(left.body)
            self.report.actions[document["action"]] += 1
            node = document.get("node", {})
            if "key" in node:
                self._generator.modified[node["key"]] = node["modifiedIndex"]
                self._generator.values[node["key"]] = node.get("value", "")
        return left

    def _compare(self, what: str, left: Answer, right: Answer, *, is_sorted: bool = False) -> None:
        why = None if left.status == right.status else f"{left.status} and {right.status}"
        for name in TOLD_HEADERS:
            if left.headers.get(name) != right.headers.get(name):
                why = why or f"{name}: {left.headers.get(name)} and {right.headers.get(name)}"
        for name in ("X-Etcd-Cluster-Id", "X-Raft-Index"):
            if (name in left.headers) != (name in right.headers):
                why = why or f"{name}: {left.headers.get(name)} and {right.headers.get(name)}"
        why = why or same_body(left.body, right.body, is_sorted=is_sorted)
        if why:
            raise Difference(
                f"seed {self.report.seed}, operation {self.report.operations}: {what}\n  {why}\n  {left}\n  {right}"
            )

    # -- watches -----------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        target = self._generator.watch()
        left, right = Watch(self._left, target), Watch(self._right, target)
        self._compare(target, Answer(left.status, left.headers, ""), Answer(right.status, right.headers, ""))
        self._watches.append((target, left, right))
        self.report.watched[f"{left.status} opened"] += 1
        self._follow()
        if len(self._watches) > WATCHES_MAX:
            _, left, right = self._watches.pop(0)
            assert [left.is_done, right.is_done] == [False, False]
            left.close()
            right.close()
            self.report.watched["given up"] += 1

    def _follow(self) -> None:
        """Watches that are told something on one server must be told it on the other."""
        for entry in list(self._watches):
            target, left, right = entry
            left.read()
            right.read()
            if left.is_done or right.is_done:
                self._until(lambda left=left, right=right: left.is_done and right.is_done, target, left, right)
                self._compare_events(target, left, right)
                self._watches.remove(entry)
                left.close()
                right.close()
                self.report.watched["told"] += 1

    def _until(self, predicate: object, what: str, left: Watch, right: Watch) -> None:
        assert callable(predicate)

        def both() -> bool:
            left.read()
            right.read()
            return bool(predicate())

        try:
            wait_until(both, ANSWER_S, what)
        except AssertionError:
            raise Difference(
                f"seed {self.report.seed}, operation {self.report.operations}: watch {what}\n"
                f"  {left.events[-3:]}\n  {right.events[-3:]}"
            ) from None

    def _compare_events(self, target: str, left: Watch, right: Watch) -> None:
        for one, other in zip(left.events, right.events, strict=True):
            why = same_body(one, other, is_sorted=True)
            if why:
                raise Difference(
                    f"seed {self.report.seed}, operation {self.report.operations}: watch {target}\n  {why}"
                )

    # -- time --------------------------------------------------------------------------------------------------------

    def _expire(self) -> None:
        """Keys that expire, alone and in a directory that does; then one that does at once. All are made before one
        goes: what expires takes an index."""
        top = f"/v2/keys/expiring{self.report.operations}"
        for names in ((("1", 3, False), ("d", 3, True), ("d/x", 1000, False)), (("0", 0, False),)):
            for name, ttl_s, is_dir in names:
                form = {"ttl": ttl_s, "dir": "true"} if is_dir else {"ttl": ttl_s, "value": name}
                body = urlencode(form).encode()
                for side in (self._left, self._right):
                    side.ask(Request("PUT", f"{top}/{name}", {"Content-Type": FORM}, body, True))
            for side in (self._left, self._right):
                wait_until(lambda side=side: '"nodes"' not in side.get(top).body, ANSWER_S, "all has expired")  # type: ignore[misc]  # of this pass
        for name in ("0", "1", "d", "d/x"):
            self._ask(Request("GET", f"{top}/{name}", {}, None, True))
        self._ask(Request("DELETE", f"{top}?dir=true", {}, None, True))

    def _finish(self) -> None:
        self._ask(Request("GET", "/v2/keys?recursive=true&sorted=true", {}, None, True))
        self._ask(Request("PUT", "/v2/keys/b/last", {"Content-Type": FORM}, b"", True))
        self._ask(Request("DELETE", "/v2/keys/a?recursive=true", {}, None, True))
        last = self._ask(Request("PUT", "/v2/keys/the/last", {"Content-Type": FORM}, b"value=1", True))
        assert last.status in (200, 201)
        for target, left, right in self._streams:
            self._compare_stream(target, left, right)
        self._compare_counts()

    def _compare_stream(self, target: str, left: Watch, right: Watch) -> None:
        if "keys?" in target:  # of all keys: whoever has told of the last has told of all
            self._until(
                lambda: all('"/the/last"' in (one.events or [""])[-1] for one in (left, right)), target, left, right
            )
        self._until(lambda: len(left.events) == len(right.events), target, left, right)
        self._compare_events(target, left, right)
        self.report.watched["streamed"] += len(left.events)

    def _compare_counts(self) -> None:
        """Of all that changed; reads depend on how often somebody looked whether something had expired."""
        counts = [json.loads(side.get("/v2/stats/store").body) for side in (self._left, self._right)]
        assert list(counts[0]) == list(counts[1])
        for one in counts:
            del one["getsSuccess"], one["getsFail"]
        assert counts[0] == counts[1], f"seed {self.report.seed}: {counts}"


def run(folder: Path, seed: int, operations: int, expiries: int, subject: Program | None = None) -> Report:
    """Raises Difference."""
    with (
        Node(etcd_program(), folder / "reference", flags=ENABLED) as left,
        Node(subject or kvorum_program(), folder / "subject", flags=ENABLED) as right,
    ):
        sides = [Side(node) for node in (left, right)]
        for side in sides:  # both have written the same three entries about themselves
            wait_until(lambda side=side: side.get("/v2/keys").headers.get("X-Etcd-Index") == "3", ANSWER_S, "it serves")  # type: ignore[misc]  # of this pass
        going = Run(sides[0], sides[1], seed)
        going.go(operations, expiries)
        return going.report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=20_000)
    parser.add_argument("--expiries", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        print(run(Path(folder), arguments.seed, arguments.operations, arguments.expiries).table())


if __name__ == "__main__":
    main()
