"""/debug/ on a running node and on a real etcd: where it is served, and where it is not."""

import json
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.kit.ports import free_port
from tests.kit.processes import Node, Program, etcd_program, kvorum_program

# Of what both have.
PAGES = (
    "vars",
    "pprof/",
    "pprof/cmdline",
    "pprof/goroutine?debug=1",
    "pprof/profile?seconds=1",
    "pprof/heap?seconds=1",
)


@pytest.fixture
def program(engine: str) -> Program:
    return kvorum_program() if engine == "kvorum" else etcd_program()


def ask(url: str) -> tuple[int, str]:
    try:
        with urlopen(url, timeout=60) as answer:
            return answer.status, answer.headers["Content-Type"]
    except HTTPError as refused:
        return refused.code, refused.headers["Content-Type"]


def test_profiles_are_served_at_the_client_url_alone_and_only_if_asked_for(program: Program, tmp_path: Path) -> None:
    for pprof in (False, True):
        metrics = f"http://127.0.0.1:{free_port()}"
        folder = tmp_path / str(pprof)
        folder.mkdir()
        with Node(
            program, folder, flags=(f"--listen-metrics-urls={metrics}", f"--enable-pprof={pprof}".lower())
        ) as node:
            statuses = {page: ask(f"{node.endpoint}/debug/{page}")[0] for page in PAGES}
            assert statuses == {page: 200 if pprof or page == "vars" else 404 for page in PAGES}
            for elsewhere in (metrics, node.peer_url):
                assert {ask(f"{elsewhere}/debug/{page}")[0] for page in PAGES} == {404}
            if pprof:
                assert ask(f"{node.endpoint}/debug/pprof/nope")[0] == 404
                assert ask(f"{node.endpoint}/debug/pprof/")[1] == "text/html; charset=utf-8"


def test_variables_have_the_names_that_etcds_have(program: Program, tmp_path: Path) -> None:
    with Node(program, tmp_path) as node, urlopen(f"{node.endpoint}/debug/vars", timeout=60) as answer:
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        told = json.loads(answer.read())
    assert sorted(told) == ["cmdline", "file_descriptor_limit", "memstats", "raft.status"]
    status = told["raft.status"]
    assert sorted(status) == sorted(
        ("id", "term", "vote", "commit", "lead", "raftState", "applied", "progress", "leadtransferee")
    )
    assert status["raftState"] == "StateLeader"
    assert status["lead"] == status["id"] == next(iter(status["progress"]))
    (progress,) = status["progress"].values()
    assert sorted(progress) == ["match", "next", "state"]
    assert progress["state"] == "StateReplicate"
    assert {"Sys", "NumGC", "HeapObjects", "EnableGC"} <= set(told["memstats"])
