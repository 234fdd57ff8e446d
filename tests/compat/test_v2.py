"""The v2 API of ours beside a real etcd's: random requests, the paths beside the keys, real clients, mixed clusters.

KVORUM_SEED=n repeats a run; a long one is `python -m tests.compat.differential.v2`.
"""

import asyncio
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kvorum.client import Client

from tests.compat.differential.v2 import ENABLED, FORM, run
from tests.kit.deadline import wait_until
from tests.kit.etcd import Etcd
from tests.kit.packages import PackagesMissing, require_packages
from tests.kit.processes import Cluster, Node, Program
from tests.kit.v2 import Answer, ask, key, put, raw, wait_v2

OPERATIONS = 800
LIBRARY = Path(__file__).parent / "python_etcd"
CLIENT_S = 120.0
CAUGHT_UP_S = 60.0
JSON = {"Content-Type": "application/json"}

Pair = tuple[Node, Node]


def test_random_requests_are_answered_as_by_etcd(
    reference: Program, subject: Program, tmp_path: Path, show: Callable[[str], None]
) -> None:
    seed = int(os.environ.get("KVORUM_SEED") or random.SystemRandom().randrange(1 << 32))
    show(f"KVORUM_SEED={seed}")
    show(run(tmp_path, seed, OPERATIONS, 1, subject).table())


@pytest.fixture(scope="module")
def pair(reference: Program, subject: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both alone in their clusters."""
    folder = tmp_path_factory.mktemp("v2")
    with (
        Node(reference, folder / "reference", flags=ENABLED) as left,
        Node(subject, folder / "subject", flags=ENABLED) as right,
    ):
        wait_v2(left, right)
        yield left, right


def comparable(node: Node, answer: Answer) -> tuple[int, dict[str, str], str]:
    """Without what must differ: ports, ids made of them, times, the log's index."""
    headers = {name: value for name, value in answer.headers.items() if name not in ("Date", "Connection")}
    for name in ("X-Etcd-Cluster-Id", "X-Raft-Index", "Content-Length"):
        if name in headers:
            headers[name] = "..."
    text = answer.text.replace(str(node.client_port), "CLIENT").replace(str(node.peer_port), "PEER")
    text = re.sub(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(\.[0-9]{1,9})?Z", "TIME", text)
    text = re.sub(r"\b[0-9a-f]{15,16}\b", "ID", text)
    return answer.status, headers, re.sub(r'"uptime":"([0-9.]+(h|m|s|ms|µs|ns))+"', '"uptime":"..."', text)


@pytest.mark.parametrize(
    ("method", "target", "body", "headers"),
    [
        ("GET", "/v2/machines", None, {}),
        ("HEAD", "/v2/machines", None, {}),
        ("POST", "/v2/machines", b"", {}),
        ("GET", "/v2/machines/", None, {}),
        ("GET", "/v2/members", None, {}),
        ("GET", "/v2/members/", None, {}),
        ("GET", "/v2/members/leader", None, {}),
        ("GET", "/v2/members/1234", None, {}),
        ("HEAD", "/v2/members", None, {}),
        ("PATCH", "/v2/members", b"", {}),
        ("DELETE", "/v2/members", None, {}),
        ("DELETE", "/v2/members/1234", None, {}),
        ("DELETE", "/v2/members/xyz", None, {}),
        ("PUT", "/v2/members/1234", b'{"peerURLs":["http://127.0.0.1:1"]}', JSON),
        ("PUT", "/v2/members/xyz", b"{}", JSON),
        ("POST", "/v2/members", b'{"peerURLs":["http://127.0.0.1:1"]}', {}),
        ("POST", "/v2/members", b'{"peerURLs":["http://127.0.0.1:1"]}', {"Content-Type": FORM}),
        ("POST", "/v2/members", b'{"peerURLs":', JSON),
        ("POST", "/v2/members", b'{"peerURLs":[]}', JSON),
        ("POST", "/v2/members", b"{}", {"Content-Type": "Application/JSON; charset=utf-8"}),
        ("POST", "/v2/members", b'{"peerURLs":["zzz"]}', JSON),
        ("POST", "/v2/members", b'{"peerURLs":["http://localhost"]}', JSON),
        ("POST", "/v2/members", b'{"peerURLs":["http://127.0.0.1:1/path"]}', JSON),
        ("GET", "/v2/stats/self", None, {}),
        ("GET", "/v2/stats/leader", None, {}),
        ("GET", "/v2/stats/none", None, {}),
        ("POST", "/v2/stats/store", b"", {}),
        ("HEAD", "/v2/stats/self", None, {}),
        ("GET", "/v2/auth/enable", None, {}),
        ("GET", "/v2", None, {}),
        ("GET", "/v2/", None, {}),
        ("GET", "/v2/keys//a?x=%20&y", None, {}),
        ("PUT", "/v2/keys/../keys/a", b"", {}),
        ("GET", "/v2/keys/a%2F%2e%2E/b", None, {}),
        ("PUT", "/v2/keys/far", b"value=1&ttl=99999999999", {"Content-Type": FORM}),
        ("PUT", "/v2/keys/far", b"value=2&ttl=9999999999", {"Content-Type": FORM}),
        ("PUT", "/v2/keys/far", b"value=3&ttl=18446744073709551616", {"Content-Type": FORM}),
        ("PUT", "/v2/keys/dir", b"dir=true&value=ignored", {"Content-Type": FORM}),
        ("PUT", "/v2/keys/dir?prevExist=true", b"ttl=10&dir=true", {"Content-Type": FORM}),
        ("PUT", "/v2/keys/bytes%ff", b"value=%ff%C3%A9", {"Content-Type": FORM}),
        ("GET", "/v2/keys/bytes%ff", None, {}),
    ],
)
def test_a_request_is_answered_as_by_etcd(
    pair: Pair, method: str, target: str, body: bytes | None, headers: dict[str, str]
) -> None:
    left, right = (comparable(node, raw(node, method, target, body, headers)) for node in pair)
    assert right == left


def test_members_come_change_and_go_as_by_etcd(pair: Pair, real_etcd: Etcd) -> None:
    assert changes(pair[1], real_etcd) == changes(pair[0], real_etcd)


def changes(node: Node, etcd: Etcd) -> list[object]:
    """What is answered, and the indexes that changes of members take."""
    answers: list[Answer] = []
    indexes: list[int] = []

    def change(method: str, path: str, urls: list[str] | None = None) -> None:
        body = None if urls is None else json.dumps({"peerURLs": urls}).encode()
        answers.append(raw(node, method, f"/v2/members{path}", body, JSON if urls is not None else {}))
        if method == "GET":  # in the order of their ids, which depend on ports
            members = sorted(answers[-1].document["members"], key=lambda member: str(member["peerURLs"]))
            answers[-1] = answers[-1]._replace(text=json.dumps(members))
        indexes.append(put(node, "/after", "").store_index)

    own = ask(node, "GET", "/members").document["members"][0]["id"]
    change("POST", "", [node.peer_url])
    change("PUT", f"/{own}", ["http://127.0.0.1:7", node.peer_url])
    change("GET", "")
    change("PUT", f"/{own}", [node.peer_url])
    # A learner: a voter that never starts would leave nobody a quorum.
    assert etcdctl(etcd, node, "member add new --learner --peer-urls=http://127.0.0.1:9", api="3")[0] == 0
    members = ask(node, "GET", "/members").document["members"]
    learner = next(member["id"] for member in members if member["id"] != own)
    change("GET", "")
    change("DELETE", f"/{learner}")
    change("DELETE", f"/{learner}")
    change("GET", "")
    return [[comparable(node, answer) for answer in answers], [index - indexes[0] for index in indexes]]


def test_what_would_end_every_member_does_not_reach_the_log(pair: Pair) -> None:
    """A key that etcd takes for a member's publication; its own members die of it, so they are not asked."""
    ours = pair[1]
    answer = ask(ours, "PUT", "/keys/0/members/abc/attributes", {"value": "{}"})
    assert (answer.status, answer.document["errorCode"]) == (400, 106)
    assert ask(ours, "PUT", "/keys" + "/d" * 300, {"value": ""}).document["errorCode"] == 209
    assert ours.alive
    for node in pair:
        assert ask(node, "PUT", "/keys/0/members/abc/attributes", {"value": "", "prevExist": "false"}).status == 201


def test_users_of_v2_are_refused_with_the_reason(pair: Pair) -> None:
    answer = raw(pair[1], "PUT", "/v2/auth/users/root", b'{"user":"root","password":"p"}')
    assert answer.status == 501
    assert "no users for the v2 API" in answer.document["message"]


def test_users_of_v3_mean_nothing_to_v2(pair: Pair, real_etcd: Etcd) -> None:
    for node in pair:
        for command in ("user add root:pw", "user grant-role root root", "auth enable"):
            assert etcdctl(real_etcd, node, command, api="3")[0] == 0
        try:
            assert etcdctl(real_etcd, node, "put a b", api="3")[0] != 0
            put(node, "/open", "to all")
            assert ask(node, "GET", "/members").status == 200
        finally:
            assert etcdctl(real_etcd, node, "--user root:pw auth disable", api="3")[0] == 0


def test_a_full_database_is_none_of_v2s(pair: Pair, real_etcd: Etcd) -> None:
    for node in pair:
        alarm = {"memberID": 1, "alarm": "NOSPACE"}
        for action, v3_works in (("ACTIVATE", False), ("DEACTIVATE", True)):
            body = json.dumps({"action": action, **alarm}).encode()
            assert raw(node, "POST", "/v3/maintenance/alarm", body).status == 200
            assert (etcdctl(real_etcd, node, "put a b", api="3")[0] == 0) == v3_works
            put(node, "/full", action)


# -- clients -----------------------------------------------------------------------------------------------------------


def test_python_etcd_finds_no_difference(pair: Pair) -> None:
    try:
        packages = require_packages(LIBRARY / "requirements.txt", LIBRARY / "build-requirements.txt")
    except PackagesMissing as why:
        pytest.skip(f"NOT RUN: {why}")
    left, right = (
        subprocess.run(
            [sys.executable, str(LIBRARY / "calls.py"), str(node.client_port)],
            env={**os.environ, "PYTHONPATH": str(packages)},
            capture_output=True,
            text=True,
            timeout=CLIENT_S,
            check=False,
        )
        for node in pair
    )
    assert left.returncode == 0, left.stderr
    assert right.stdout == left.stdout, right.stderr
    assert left.stdout.count("\n") > 30


ETCDCTL = """
mk /ctl/a one
mk /ctl/a two
get /ctl/a
-o extended get /ctl/a
set --swap-with-value one /ctl/a two
set --swap-with-value one /ctl/a three
set --ttl 1000 /ctl/ttl x
update /ctl/a four
update /ctl/none four
mkdir /ctl/dir
mkdir /ctl/dir
mk --in-order /ctl/queue job
ls --sort /ctl
ls --sort -p --recursive /ctl
ls /none
-o json get /ctl/a
watch --after-index 1 --recursive /ctl
rm /ctl/dir
rmdir /ctl/dir
rm --with-value wrong /ctl/a
rm --with-index 1 /ctl/a
rm /ctl/a
rm --recursive /ctl
ls --sort /
member list
cluster-health
""".strip().splitlines()


def test_etcdctl_of_v2_finds_no_difference(pair: Pair, real_etcd: Etcd) -> None:
    left, right = ([etcdctl(real_etcd, node, command) for command in ETCDCTL] for node in pair)
    assert right == left
    assert sum(status == 0 for status, _ in left) > 15


def etcdctl(etcd: Etcd, node: Node, command: str, *, api: str = "2") -> tuple[int, str]:
    done = subprocess.run(
        [str(etcd.etcdctl), "--endpoints", node.endpoint, *command.split()],
        env={**os.environ, "ETCDCTL_API": api},
        capture_output=True,
        text=True,
        timeout=CLIENT_S,
        check=False,
    )
    told = done.stdout + done.stderr
    told = told.replace(str(node.client_port), "CLIENT").replace(str(node.peer_port), "PEER")
    return done.returncode, re.sub(r"\b[0-9a-f]{15,16}\b", "ID", told)


# -- mixed clusters ----------------------------------------------------------------------------------------------------

MIXED = (*ENABLED, "--snapshot-count=10", "--experimental-snapshot-catchup-entries=3")


def same_everywhere(nodes: list[Node]) -> dict[str, Any]:
    """What all of them say is in the tree, at one index, each by itself."""

    def told() -> list[tuple[int, object]]:
        answers = [ask(node, "GET", "/keys/", recursive="true", sorted="true") for node in nodes]
        return [(answer.store_index, without_times(answer.document["node"])) for answer in answers]

    wait_until(lambda: len({str(one) for one in told()}) == 1, CAUGHT_UP_S, "one tree at one index on all members")
    tree = told()[0][1]
    assert isinstance(tree, dict)
    return tree


def without_times(node: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in node.items() if name not in ("ttl", "nodes")}
    return kept | {"nodes": [without_times(child) for child in node.get("nodes", ())]}


async def lead(node: Node, nodes: list[Node]) -> None:
    async with Client([one.endpoint for one in nodes], timeout_s=10) as client:
        member = (await client.status(node.endpoint)).member_id
        await client.move_leader(member)


def fill(nodes: list[Node], label: str, count: int = 25) -> None:
    for number in range(count):
        put(nodes[number % len(nodes)], f"/{label}/{number % 9}", str(number), **({"ttl": 5000} if number % 3 else {}))


def test_members_of_both_kinds_have_one_tree_through_snapshots_both_ways(
    reference: Program, subject: Program, tmp_path: Path
) -> None:
    with Cluster([subject, subject, reference], tmp_path, flags=MIXED) as cluster:
        wait_v2(*cluster.nodes)
        ours, other, etcd = cluster.nodes
        fill(cluster.nodes, "all")
        put(etcd, "/bytes", "é")
        raw(etcd, "PUT", "/v2/keys/raw%ff", b"value=%ff", {"Content-Type": FORM})
        put(ours, "/short", "", ttl=1)
        wait_until(lambda: key(etcd, "/short") is None, CAUGHT_UP_S, "it expires on etcd")
        before = same_everywhere(cluster.nodes)
        assert before["nodes"]

        etcd.kill()
        fill([ours, other], "without etcd")
        etcd.start()
        wait_until(lambda: "applied snapshot" in etcd.log(), CAUGHT_UP_S, "etcd takes our snapshot")
        wait_v2(etcd)
        same_everywhere(cluster.nodes)
        marked = put(other, "/marked", "by ours")
        missed = ask(etcd, "GET", "/keys/marked", wait="true", waitIndex=marked.store_index)
        assert missed.document["node"]["value"] == "by ours"

        ours.kill()
        fill([other, etcd], "without one of ours")
        leading_etcd(etcd, other)
        ours.start()
        wait_until(lambda: "applied snapshot" in ours.log(), CAUGHT_UP_S, "ours takes etcd's snapshot")
        wait_v2(ours)
        same_everywhere(cluster.nodes)
        put(etcd, "/short", "", ttl=1)
        wait_until(lambda: key(ours, "/short") is None, CAUGHT_UP_S, "it expires on ours, by etcd's clock")
        again = ask(ours, "GET", "/keys/short", wait="true", waitIndex=marked.store_index + 1)
        assert again.document["node"]["key"] == "/short"
        same_everywhere(cluster.nodes)
        assert "panic" not in etcd.log()


def test_a_directory_of_etcds_brings_its_v2_keys(reference: Program, subject: Program, tmp_path: Path) -> None:
    """Some lie in its last snapshot, some in the log behind it."""
    node = Node(reference, tmp_path, flags=MIXED)
    with node:
        wait_v2(node)
        fill([node], "first")
        wait_until(lambda: "saved snapshot" in node.log(), CAUGHT_UP_S, "a snapshot")
        fill([node], "then", 7)
        deleted = ask(node, "DELETE", "/keys/first/1")
        before = ask(node, "GET", "/keys/", recursive="true", sorted="true")
        node.stop()
        node.program = subject
        node.start()
        wait_v2(node)
        after = ask(node, "GET", "/keys/", recursive="true", sorted="true")
        assert without_times(after.document["node"]) == without_times(before.document["node"])
        assert after.store_index == before.store_index + 1, "it has published itself"
        missed = ask(node, "GET", "/keys/first/1", wait="true", waitIndex=deleted.store_index)
        assert missed.document["action"] == "delete"


def leading_etcd(etcd: Node, other: Node) -> None:
    """etcd leads the two that are left."""

    def leads() -> bool:
        answer = ask(etcd, "GET", "/members/leader")
        if answer.status == 200 and answer.document["name"] == etcd.name:
            return True
        asyncio.run(lead(etcd, [other]))
        return False

    wait_until(leads, CAUGHT_UP_S, "etcd leads")
