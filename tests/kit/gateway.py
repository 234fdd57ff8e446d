"""A server's JSON gateway, asked over HTTP, and what of its answers must be equal to another's."""

import base64
import http.client
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.kit.deadline import wait_until
from tests.kit.processes import Node

DEADLINE_S = 60.0
LOCAL_NAMES = {"cluster_id", "member_id", "raft_term"}
LOCAL_HEADERS = {"date", "content-length", "transfer-encoding", "connection"}
# Go's own words about JSON that is none; ours are others, with the same status.
SYNTAX = re.compile(
    r"invalid JSON|invalid character|unexpected EOF|unexpected end of JSON|syntax error|invalid UTF-8|in literal"
)
POSITION = re.compile(r"\(line \d+:\d+\): ")
PROTO = re.compile(r"^proto:\s")  # a blank or a no-break space: so nobody relies on it, it says
# Theirs shows it as it was written, with its escapes, ours as it was read.
WRITTEN = re.compile(r"(invalid value for \w+ field \w+:|duplicate field) .*", re.DOTALL)


class Answer(NamedTuple):
    """What must be equal: documents without the ids of clusters, members and terms; of a refusal, code and text."""

    status: int
    headers: tuple[tuple[str, str], ...]
    told: object


def ask(
    node: Node, path: str, body: str | bytes = "", *, method: str = "POST", headers: Mapping[str, str] | None = None
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", node.client_port, timeout=DEADLINE_S)
    try:
        connection.request(
            method, path, body=body.encode() if isinstance(body, str) else body, headers=dict(headers or {})
        )
        answer = connection.getresponse()
        return read(answer, answer.read())
    finally:
        connection.close()


def read(answer: http.client.HTTPResponse, body: bytes) -> Answer:
    names = (name.lower() for name in answer.headers)
    headers = tuple(sorted((name, answer.headers[name]) for name in names if name not in LOCAL_HEADERS))
    if answer.headers["Content-Type"] != "application/json":
        return Answer(answer.status, headers, body)
    if answer.status != 200:
        return Answer(answer.status, headers, refusal(body) if body else b"")
    return Answer(answer.status, headers, [plain(json.loads(line)) for line in body.splitlines()])


def plain(document: Any) -> Any:
    """Without what differs from cluster to cluster."""
    if isinstance(document, dict):
        return {name: plain(one) for name, one in document.items() if name not in LOCAL_NAMES}
    return [plain(one) for one in document] if isinstance(document, list) else document


def refusal(body: bytes) -> tuple[int, str]:
    """Code and text of an error, from either version of its body; where it is ours, of both."""
    told = json.loads(body)
    assert set(told) <= {"code", "message", "error", "details"}, told
    assert told.get("error", told["message"]) == told["message"], told
    text = WRITTEN.sub(r"\1", PROTO.sub("proto: ", POSITION.sub("", told["message"])))
    return told["code"], "no JSON" if SYNTAX.search(text) else text


def key(text: str) -> str:
    """base64 of it."""
    return base64.b64encode(text.encode()).decode()


def leased(node: Node, *leases: int) -> None:
    for lease in leases:
        ask(node, "/v3/lease/revoke", f'{{"ID":{lease}}}')
        assert ask(node, "/v3/lease/grant", f'{{"TTL":3600,"ID":{lease}}}').status == 200


def keys_below(node: Node, name: str) -> list[str]:
    body = json.dumps({"key": key(f"{name}/"), "range_end": key(f"{name}0"), "keys_only": True})
    told = ask(node, "/v3/kv/range", body).told
    assert isinstance(told, list)
    return [kv["key"] for kv in told[0].get("kvs", ())]


def waits(node: Node, name: str, count: int) -> None:
    wait_until(lambda: len(keys_below(node, name)) == count, DEADLINE_S, f"{count} keys below {name}")


def told_of(answer: Answer) -> Any:
    """Without the revision, which counts what the tests before did."""
    assert answer.status == 200, answer
    assert isinstance(answer.told, list)
    document = dict(answer.told[0])
    assert int(document.pop("header")["revision"]) > 1
    return document
