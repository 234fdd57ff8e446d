"""Real client libraries make of our node what they make of a real etcd: over JSON, gRPC, and from JavaScript.

Each is told what to do by a calls file beside its pinned packages, and prints a line for each call.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.kit.etcd import Etcd
from tests.kit.gateway import ask, key, keys_below, leased, told_of, waits
from tests.kit.node_packages import require_node_packages
from tests.kit.packages import PackagesMissing, require_packages
from tests.kit.processes import Node, Program

HERE = Path(__file__).parent
CLIENT_S = 120.0
DEADLINE_S = 60.0

Pair = tuple[Node, Node]


@pytest.fixture(scope="module")
def pair(reference: Program, subject: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("clients")
    with Node(reference, folder / "reference") as left, Node(subject, folder / "subject") as right:
        yield left, right


def run(pair: Pair, command: Sequence[str], environment: Mapping[str, str], lines_min: int) -> None:
    """The command with either port, side by side: what it says must be equal."""

    def against(node: Node) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, str(node.client_port)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=CLIENT_S,
            check=False,
        )

    with ThreadPoolExecutor(2) as pool:
        left, right = pool.map(against, pair)
    assert left.returncode == 0, left.stderr
    assert right.stdout == left.stdout, right.stderr
    assert left.stdout.count("\n") >= lines_min, left.stdout


@pytest.mark.parametrize(("library", "lines_min"), [("etcd3gw", 36), ("etcd3", 25), ("aetcd", 15)])
def test_clients_of_python_find_no_difference(pair: Pair, library: str, lines_min: int) -> None:
    folder = HERE / library
    try:
        packages = require_packages(folder / "requirements.txt", HERE / "python_etcd" / "build-requirements.txt")
    except PackagesMissing as why:
        pytest.skip(f"NOT RUN: {why}")
    run(pair, [sys.executable, str(folder / "calls.py")], {"PYTHONPATH": str(packages)}, lines_min)


def test_a_client_of_javascript_finds_no_difference(pair: Pair) -> None:
    folder = HERE / "npm_etcd3"
    try:
        packages = require_node_packages(folder)
    except PackagesMissing as why:
        pytest.skip(f"NOT RUN: {why}")
    run(pair, ["node", str(folder / "calls.js")], {"NODE_PATH": str(packages)}, 20)


def etcdctl(programs: Etcd, node: Node, *arguments: str) -> "subprocess.Popen[str]":
    command = [str(programs.etcdctl), f"--endpoints={node.endpoint}", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCDCTL_")}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_etcdctl_waits_for_a_lock_that_a_member_took_for_another(pair: Pair, real_etcd: Etcd) -> None:
    """etcdctl stands in line by itself: the line is the same."""
    for node in pair:
        leased(node, 71)
        held = told_of(ask(node, "/v3/lock/lock", f'{{"name":"{key("ctl")}","lease":71}}'))
        with etcdctl(real_etcd, node, "lock", "ctl", "--", "echo", "done within") as waiting:
            try:
                waits(node, "ctl", 2)
                assert waiting.poll() is None
                ask(node, "/v3/lock/unlock", f'{{"key":"{held["key"]}"}}')
                told, errors = waiting.communicate(timeout=DEADLINE_S)
            finally:
                waiting.kill()
        assert (waiting.returncode, told) == (0, "done within\n"), errors
        assert keys_below(node, "ctl") == []


def test_etcdctl_is_elected_and_listens_to_elections(pair: Pair, real_etcd: Etcd) -> None:
    for node in pair:
        leased(node, 72)
        name = key("seat")
        listening = etcdctl(real_etcd, node, "elect", "--listen", "seat")
        standing = etcdctl(real_etcd, node, "elect", "seat", "one")
        assert listening.stdout is not None
        assert standing.stdout is not None
        try:
            own = standing.stdout.readline().strip()
            assert own.startswith("seat/")
            assert [listening.stdout.readline().strip() for _ in range(2)] == [own, "one"]
            with ThreadPoolExecutor(1) as pool:
                body = f'{{"name":"{name}","lease":72,"value":"{key("two")}"}}'
                waiting = pool.submit(ask, node, "/v3/election/campaign", body)
                waits(node, "seat", 2)
                standing.send_signal(signal.SIGINT)  # it resigns
                won = told_of(waiting.result(DEADLINE_S))["leader"]
            assert won["key"] == key("seat/48")
            assert [listening.stdout.readline().strip() for _ in range(2)] == ["seat/48", "two"]
        finally:
            for process in (listening, standing):
                process.kill()
                process.communicate()
