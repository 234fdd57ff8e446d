"""The v2 API through crashes, elections and restarts, and the flags that concern it: on etcd and on ours."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit import v2
from tests.kit.deadline import wait_until
from tests.kit.processes import Cluster, Node, Program, etcd_program, kvorum_program
from tests.kit.v2 import ask, key, put, wait_v2

ENABLED = ("--enable-v2=true",)
EXPIRY_S = 60.0


@pytest.fixture
def program(engine: str) -> Program:
    return kvorum_program() if engine == "kvorum" else etcd_program()


@pytest.fixture
def cluster(program: Program, tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(program, tmp_path, flags=ENABLED) as cluster:
        wait_v2(*cluster.nodes)
        yield cluster


def leader_of(nodes: list[Node]) -> Node:
    """Whom one of them names."""

    def found() -> Node | None:
        for node in nodes:
            answer = ask(node, "GET", "/members/leader")
            if answer.status == 200:
                name = answer.document["name"]
                return next((one for one in nodes if one.name == name), None)
        return None

    leader = wait_until(found, EXPIRY_S, "a leader among those that live")
    assert leader is not None
    return leader


def test_keys_expire_by_the_clock_of_a_new_leader_and_all_else_survives_the_death_of_all(cluster: Cluster) -> None:
    leader = leader_of(cluster.nodes)
    others = [node for node in cluster.nodes if node is not leader]
    made = put(others[0], "/lock", "mine", ttl=2)
    leader.kill()
    event = ask(others[1], "GET", "/keys/lock", wait="true", waitIndex=made.store_index + 1).document
    assert (event["action"], event["node"]["key"], event["prevNode"]["value"]) == ("expire", "/lock", "mine")
    for node in others:
        wait_until(lambda node=node: key(node, "/lock") is None, EXPIRY_S, f"it is gone on {node.name}")  # type: ignore[misc]  # of this pass

    for number in range(20):
        put(others[number % 2], f"/dir/{number % 5}", str(number), **({"ttl": 1000} if number % 2 else {}))
    last = ask(others[0], "DELETE", "/keys/dir/4", prevValue="19")
    assert last.status == 200
    before = key(others[0], "/", recursive="true", sorted="true", quorum="true")
    cluster.kill()
    cluster.start()
    wait_v2(*cluster.nodes)
    for node in cluster.nodes:
        answer = ask(node, "GET", "/keys/", recursive="true", sorted="true", quorum="true")
        assert without_ttl(answer.document["node"]) == without_ttl(before)
        missed = ask(node, "GET", "/keys/dir/4", wait="true", waitIndex=last.store_index).document
        assert without_ttl(missed["prevNode"]) == without_ttl(last.document["prevNode"])
    # Each member that starts publishes itself once more, which takes an index: below /0, where clients see nothing.
    assert put(cluster.nodes[0], "/dir/new", "").store_index > last.store_index


def without_ttl(node: dict[str, object]) -> dict[str, object]:
    nodes = node.get("nodes")
    assert nodes is None or isinstance(nodes, list)
    kept = {name: value for name, value in node.items() if name not in ("ttl", "nodes")}
    return kept | {"nodes": [without_ttl(child) for child in nodes]} if nodes is not None else kept


def test_v2_keys_and_a_stage_that_forbids_them_exclude_each_other(program: Program, tmp_path: Path) -> None:
    both = Node(program, tmp_path, name="both", flags=(*ENABLED, "--v2-deprecation=write-only"))
    both.start()
    wait_until(lambda: not both.alive, EXPIRY_S, "it ends")
    assert "--enable-v2 and --v2-deprecation=write-only are mutually exclusive" in both.log()

    # etcd looks in its last snapshot alone, so there has to be one.
    node = Node(program, tmp_path, flags=(*ENABLED, "--snapshot-count=10"))
    with node:
        wait_v2(node)
        for number in range(30):
            put(node, "/a", str(number))
        wait_until(lambda: "saved snapshot" in node.log(), EXPIRY_S, "a snapshot")
        node.stop()
    node.flags = ("--v2-deprecation=write-only",)
    node.start()
    wait_until(lambda: not node.alive, EXPIRY_S, "it ends")
    assert "detected disallowed custom content in v2store for stage --v2-deprecation=write-only" in node.log()
    node.flags = ()
    with node:
        answer = v2.raw(node, "GET", "/v2/keys")
        assert (answer.status, answer.text) == (404, "404 page not found\n"), "kept, and not served"
