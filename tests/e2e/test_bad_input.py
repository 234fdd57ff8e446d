"""What a node is given that it cannot use: one clear message that names the thing and the way out, and nothing touched.

Wrong flags are tests/compat/test_wrong_flags.py's, broken documents tests/e2e/test_local_document.py's. Data of its own
that is damaged is test_damage.py's.
"""

import hashlib
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.kit.deadline import wait_until
from tests.kit.etcd import EtcdMissing
from tests.kit.ports import free_port
from tests.kit.processes import Node, Program, etcd_program, kvorum_program

Begin = Callable[..., Node]
ENDED_S = 120.0


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """A node of ours, not started, that does not outlive the test."""
    nodes: list[Node] = []

    def made(name: str = "a", program: Program | None = None, *flags: str) -> Node:
        nodes.append(Node(program or kvorum_program(), tmp_path, name=name, flags=flags))
        return nodes[-1]

    yield made
    for node in nodes:
        node.kill()


def refusal(node: Node) -> list[str]:
    """The lines with which the node refuses to start."""
    before = len(node.log())
    node.start()
    wait_until(lambda: not node.alive, ENDED_S, "a node that cannot start ends")
    assert node.process is not None
    assert node.process.returncode == 1
    printed = node.log()[before:]
    assert "Traceback" not in printed
    return [line for line in printed.splitlines() if not line.startswith("{")]


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder, by its digest; folders by their name alone."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


# ---- ports -----------------------------------------------------------------------------------------------------------

GARBAGE = {
    "zeros": bytes(100_000),
    "noise": random.Random(7).randbytes(100_000),
    "a TLS hello": bytes.fromhex("16030100c8010000c40303") + bytes(189),
    "an endless header": b"GET /" + b"a" * 200_000,
    "a preface and noise": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + random.Random(8).randbytes(100_000),
    "a frame of 16 MiB": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
    "half a request": b"POST /raft HTTP/1.1\r\nContent-Length: 999999999\r\n\r\nabc",
    "nothing": b"",
}


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(kvorum_program(), tmp_path_factory.mktemp("serving")) as node:
        yield node


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("port", ["client", "peer"])
def test_garbage_on_a_port_ends_the_connection_and_nothing_else(serving: Node, port: str, garbage: bytes) -> None:
    address = ("127.0.0.1", serving.client_port if port == "client" else serving.peer_port)
    # A reset is an end as well; a timeout is none.
    with socket.create_connection(address, timeout=30) as connection, suppress(ConnectionError):
        connection.sendall(garbage)
        with suppress(OSError):  # the other side may have ended it already
            connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass
    assert serving.is_healthy()
    assert "Traceback" not in serving.log()


@pytest.mark.parametrize(
    ("flag", "way_out"),
    [("--listen-client-urls", "client_port"), ("--listen-peer-urls", "peer_port"), ("--listen-metrics-urls", "")],
)
def test_a_port_in_use_is_named_with_its_flag(begin: Begin, flag: str, way_out: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = taken.getsockname()[1]
        node = begin()
        if way_out:
            setattr(node, way_out, port)
        else:
            node.flags = (f"{flag}=http://127.0.0.1:{port}",)
        first, *more = refusal(node)
    assert first == f"kvorum: 127.0.0.1:{port} is in use by another process"
    assert "ss -ltnp" in more[0]
    assert not node.data_dir.exists()


def test_an_address_of_another_machine_is_named_with_its_flag(begin: Begin) -> None:
    node = begin("a", None, f"--listen-metrics-urls=http://192.0.2.1:{free_port()}")
    first, *more = refusal(node)
    assert "192.0.2.1" in first
    assert "--listen-metrics-urls" in more[0]
    assert not node.data_dir.exists()


# ---- data directories ------------------------------------------------------------------------------------------------


def check_refused_and_untouched(node: Node, *words: str) -> None:
    before = contents(node.data_dir)
    lines = refusal(node)
    assert lines[0].startswith("kvorum: ")
    for word in words:
        assert word in lines[0]
    assert len(lines) >= 2, f"the way out is missing: {lines}"
    assert contents(node.data_dir) == before


def test_a_folder_of_other_things_is_not_taken(begin: Begin) -> None:
    node = begin()
    node.data_dir.mkdir()
    (node.data_dir / "thesis.txt").write_text("dear reader")
    check_refused_and_untouched(node, str(node.data_dir), "thesis.txt")


def test_a_file_is_no_data_directory(begin: Begin) -> None:
    node = begin()
    node.data_dir.write_text("dear reader")
    assert str(node.data_dir) in refusal(node)[0]
    assert node.data_dir.read_text() == "dear reader"


def test_a_folder_that_cannot_be_made_is_named(begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    node = begin("a", None, f"--data-dir={tmp_path / 'file' / 'below'}")
    assert str(tmp_path / "file" / "below") in refusal(node)[0]


def test_a_data_directory_that_an_etcd_uses_is_not_taken(begin: Begin) -> None:
    """One that it left is taken over: tests/compat/test_snapshot_files.py."""
    try:
        etcd = begin("a", etcd_program())
    except EtcdMissing as error:
        pytest.skip(f"NOT RUN: {error}")
    with etcd:
        etcd.pause()  # so that it writes nothing while files are compared; its lock stays
        ours = begin("a")
        assert ours.data_dir == etcd.data_dir
        check_refused_and_untouched(ours, str(ours.data_dir), "in use by another process")
        etcd.resume()
        etcd.wait_healthy()


def test_a_data_directory_in_use_is_not_taken(begin: Begin, tmp_path: Path) -> None:
    running = begin("a")
    running.start()
    running.wait_healthy()
    second = begin("b", None, f"--data-dir={running.data_dir}")
    first, *more = refusal(second)
    assert str(running.data_dir) in first
    assert more, "the way out is missing"
    assert running.is_healthy()
