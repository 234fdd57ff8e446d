"""A client of the v2 API that hides nothing: one request on a connection of its own, its status, headers and JSON."""

import http.client
import json
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from tests.kit.deadline import wait_until
from tests.kit.processes import Node

ANSWER_S = 60.0
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    text: str

    @property
    def document(self) -> Any:
        return json.loads(self.text)

    @property
    def store_index(self) -> int:
        return int(self.headers["X-Etcd-Index"])


def ask(node: Node, method: str, path: str, form: dict[str, object] | None = None, **query: object) -> Answer:
    """path: below /v2. form: the body, with None as with an empty one."""
    target = f"/v2{quote(path)}" + (f"?{urlencode(query)}" if query else "")
    body = urlencode(form or {}).encode() if method in ("PUT", "POST") else None
    return raw(node, method, target, body, FORM if body is not None else {})


def raw(
    node: Node, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", node.client_port, timeout=ANSWER_S)
    try:
        connection.request(method, target, body, headers or {})
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read().decode())
    finally:
        connection.close()


def wait_v2(*nodes: Node) -> None:
    """Until each serves v2."""
    for node in nodes:
        wait_until(lambda node=node: _serves(node), ANSWER_S, f"{node.describe()} serves v2")  # type: ignore[misc]  # of this pass


def _serves(node: Node) -> bool:
    try:
        return ask(node, "GET", "/machines").status == 200
    except OSError:
        return False


def key(node: Node, path: str, **query: str) -> Any:
    """The node at a key, None where there is none."""
    answer = ask(node, "GET", f"/keys{path}", None, **query)
    if answer.status == 404:
        return None
    assert answer.status == 200, answer
    return answer.document["node"]


def put(node: Node, path: str, value: str, **form: object) -> Answer:
    answer = ask(node, "PUT", f"/keys{path}", {"value": value, **form})
    assert answer.status in (200, 201), answer
    return answer
