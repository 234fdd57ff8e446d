"""What is decided before a local cluster runs: its directory, its ports, the line that is printed."""

import socket
import sys
from pathlib import Path

import pytest
from kvorum_operator.api.v1alpha1 import parse
from kvorum_operator.platforms.local.run import Options, Refused, command_line, require_free_ports, state_path

from tests.kit.ports import free_ports

CLUSTER = parse(
    {"apiVersion": "kvorum.dev/v1alpha1", "kind": "KVCluster", "metadata": {"name": "demo"}, "spec": {"replicas": 2}}
)


def options(tmp_path: Path, state_dir: Path | None = None) -> Options:
    return Options(tmp_path / "c.yaml", state_dir, None, once=False, wait_ready=False, timeout_s=1.0)


def test_state_lies_beside_the_file_unless_told_otherwise(tmp_path: Path) -> None:
    assert state_path(tmp_path / "c.yaml", "demo", None) == tmp_path / ".kvorum" / "demo"
    assert state_path(tmp_path / "c.yaml", "demo", tmp_path / "x") == tmp_path / "x"


def test_printed_line_is_etcdctl_by_its_full_path_and_our_own_verb_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["kvorum-operator"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command_line(options(tmp_path)) == f"kvorum-operator local members -f {tmp_path / 'c.yaml'}"
    assert (
        command_line(options(tmp_path, tmp_path / "x")) == f"kvorum-operator local members --state-dir {tmp_path / 'x'}"
    )
    etcdctl = tmp_path / "etcdctl"
    etcdctl.write_text("#!/bin/sh\necho 'etcdctl version: 3.5.30'\n")
    etcdctl.chmod(0o755)
    assert command_line(options(tmp_path)) == f"{etcdctl} --endpoints={{endpoints}} member list -w table"


def test_taken_port_of_a_first_member_is_refused_and_one_above_them_is_not() -> None:
    base = free_ports(40)
    for offset, refused in ((0, True), (1, True), (11, True), (20, False)):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", base + offset))
            taken.listen()
            if refused:
                with pytest.raises(Refused, match=f"(?s)port {base + offset} is taken by .*--base-port"):
                    require_free_ports(CLUSTER, base)
            else:
                require_free_ports(CLUSTER, base)
