"""Three members, each from a config file with the keys that people's files have, and no other; on either engine.

The keys are those of a file that many guides pass on. Two of them no etcd 3.5 has: `debug`, and one member's `wal-log`.
"""

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import grpc
import pytest
import yaml
from kvorum.etcdpb import rpc_pb2 as rpc

from tests.e2e.test_flags import call, put
from tests.kit.certificates import Authority, Pair
from tests.kit.deadline import wait_until
from tests.kit.processes import Node, Program, etcd_program, kvorum_program

NAMES = ("pg-0", "pg-1", "pg-2")
SOON_S = 60.0


@pytest.fixture
def program(engine: str) -> Program:
    return kvorum_program() if engine == "kvorum" else etcd_program()


class FiledNode(Node):
    """A node whose whole command line is its file."""

    @property
    def command(self) -> list[str]:
        return [*self.program.command, f"--config-file={self.config_path}"]

    @property
    def config_path(self) -> Path:
        return self.folder / f"{self.name}.yml"


def content_of(node: Node, folder: Path, initial_cluster: str) -> dict[str, Any]:
    return {
        "name": node.name,
        "data-dir": str(folder / node.name / "data"),
        "wal-dir": str(folder / node.name / "wal"),
        "snapshot-count": 10_000,
        "heartbeat-interval": 100,
        "election-timeout": 1000,
        "listen-peer-urls": node.peer_url,
        "listen-client-urls": node.endpoint,
        "max-snapshots": 5,
        "max-wals": 5,
        "cors": "",
        "initial-advertise-peer-urls": node.peer_url,
        "advertise-client-urls": node.endpoint,
        "initial-cluster": initial_cluster,
        "initial-cluster-token": "pg-cluster",
        "initial-cluster-state": "new",
        "strict-reconfig-check": True,
        "enable-v2": True,
        "enable-pprof": True,
        "debug": True,
        "quota-backend-bytes": 4 << 30,
        "logger": "zap",
        "log-outputs": ["stderr"],
    }


@pytest.fixture
def nodes(program: Program, tmp_path: Path) -> Iterator[list[Node]]:
    nodes: list[Node] = [FiledNode(program, tmp_path, name=name) for name in NAMES]
    initial_cluster = ",".join(f"{node.name}={node.peer_url}" for node in nodes)
    for node in nodes:
        assert isinstance(node, FiledNode)
        content = content_of(node, tmp_path, initial_cluster)
        content |= {"wal-log": "x"} if node is nodes[0] else {}
        node.config_path.write_text(yaml.safe_dump(content, sort_keys=False))
        # Of this they must know nothing.
        node.environment = {"ETCD_NAME": "variable", "ETCD_LISTEN_CLIENT_URLS": "http://127.0.0.1:1"}
    yield nodes
    for node in nodes:
        node.kill()


def ask(url: str, *, method: str = "GET", form: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
    data = None if form is None else urlencode(form).encode()
    with urlopen(Request(url, data=data, method=method), timeout=30) as answer:
        return answer.status, dict(answer.headers), answer.read()


def is_put(node: Node, key: bytes, value: bytes) -> bool:
    try:
        put(node, key, value)
    except grpc.RpcError:
        return False
    return True


def value_at(node: Node, key: bytes) -> bytes:
    answer = call(node, "KV/Range", rpc.RangeRequest(key=key), rpc.RangeResponse)
    return bytes(answer.kvs[0].value) if answer.kvs else b""


def test_three_members_run_from_the_files_that_people_have(nodes: list[Node], program: Program, tmp_path: Path) -> None:
    for node in nodes:
        node.start()
    for node in nodes:
        node.wait_healthy()
    first, second, third = nodes
    members = call(first, "Cluster/MemberList", rpc.MemberListRequest(), rpc.MemberListResponse).members
    assert {member.name: list(member.clientURLs) for member in members} == {
        node.name: [node.endpoint] for node in nodes
    }
    for node in nodes:
        assert list((tmp_path / node.name / "wal").glob("*.wal"))
        assert (tmp_path / node.name / "data" / "member" / "snap").is_dir()

    put(first, b"leader", b"pg-0")
    assert value_at(third, b"leader") == b"pg-0"
    assert ask(f"{second.endpoint}/v2/keys/leader", method="PUT", form={"value": "pg-1"})[0] == 201
    _, _, body = ask(f"{third.endpoint}/v2/keys/leader?quorum=true")
    assert json.loads(body)["node"]["value"] == "pg-1"
    assert ask(f"{second.endpoint}/debug/pprof/cmdline")[0] == 200
    assert ask(f"{second.endpoint}/version")[1]["Access-Control-Allow-Origin"] == "*"
    quota = next(
        line
        for line in ask(f"{first.endpoint}/metrics")[2].decode().splitlines()
        if line.startswith("etcd_server_quota")
    )
    assert float(quota.rpartition(" ")[2]) == 4 << 30

    first.kill()
    wait_until(lambda: is_put(second, b"leader", b"pg-1"), SOON_S, "a put while another may have to be elected")
    first.start()
    first.wait_healthy()
    assert wait_until(lambda: value_at(first, b"leader") == b"pg-1", SOON_S, "it has caught up")
    assert json.loads(ask(f"{first.endpoint}/v2/keys/leader?quorum=true")[2])["node"]["value"] == "pg-1"
    assert first.stop() == -15
    if program.engine == "kvorum":
        assert f"{first.name}.yml: keys that are unknown, and ignored: debug (log-level: debug is what" in first.log()
        assert "wal-log (no etcd ever had it; wal-dir says where the log lies)" in first.log()
        assert "wal-log" not in second.log()
        assert "ETCD_NAME" in first.log()


def test_a_file_may_name_whom_a_client_must_be(program: Program, tmp_path: Path) -> None:
    """For allowed-cn of clients an etcd has no flag."""
    ca = Authority(tmp_path / "ca")
    server = ca.sign("server")
    wanted, another = (ca.sign(name, common_name=name) for name in ("wanted", "another"))
    node = FiledNode(program, tmp_path)
    client_url = f"https://127.0.0.1:{node.client_port}"
    content = {
        "data-dir": str(tmp_path / "data"),
        "listen-client-urls": client_url,
        "advertise-client-urls": client_url,
        "listen-peer-urls": node.peer_url,
        "initial-advertise-peer-urls": node.peer_url,
        "initial-cluster": f"default={node.peer_url}",
        "client-transport-security": {
            "cert-file": str(server.cert),
            "key-file": str(server.key),
            "trusted-ca-file": str(ca.cert),
            "client-cert-auth": True,
            "allowed-cn": ["wanted", "also wanted"],
        },
    }
    node.config_path.write_text(yaml.safe_dump(content))
    node.start()
    try:
        wait_until(lambda: version_for(client_url, ca, wanted) is not None, SOON_S, "it comes in")
        assert version_for(client_url, ca, another) is None
    finally:
        node.kill()


def version_for(url: str, ca: Authority, pair: Pair) -> str | None:
    """What a client of this certificate is told; None where it does not come in."""
    context = ssl.create_default_context(cafile=str(ca.cert))
    context.load_cert_chain(pair.cert, pair.key)
    try:
        with urlopen(f"{url}/version", timeout=30, context=context) as answer:
            return str(json.loads(answer.read())["etcdserver"])
    except OSError:
        return None
