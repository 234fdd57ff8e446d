"""What is decided before a local cluster runs: its directory, its ports, the line that is printed."""

import asyncio
import socket
import sys
from pathlib import Path

import pytest
from kvorum_operator.api.v1alpha1 import parse
from kvorum_operator.main import main
from kvorum_operator.platforms.local.machine import LocalPlatform
from kvorum_operator.platforms.local.run import (
    EXIT_FAILED,
    EXIT_OK,
    Options,
    Refused,
    command_line,
    require_free_ports,
    run,
    start_again,
    state_path,
)
from kvorum_operator.platforms.local.state_directory import Identity, StateDirectory

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


def test_call_to_start_again_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bin/kvorum-operator"])
    call = "start again with: bin/kvorum-operator local -f 'my file.yaml' --state-dir x"
    assert start_again(Options(Path("my file.yaml"), Path("x"), None, once=False, wait_ready=False)) == call


def run_for(tmp_path: Path, replicas: int, *, once: bool = False, wait_ready: bool = False) -> int:
    """The operator on a document. Raises TimeoutError when it does not end by itself."""
    file, state = tmp_path / "c.yaml", tmp_path / "state"
    document = "{apiVersion: kvorum.dev/v1alpha1, kind: KVCluster, metadata: {name: demo}, spec: {replicas: %s}}"
    file.write_text(document % replicas)
    base_port = free_ports(90) if not (state / "cluster.json").exists() else None
    chosen = Options(file, state, base_port, once=once, wait_ready=wait_ready, timeout_s=0.5)
    return asyncio.run(asyncio.wait_for(run(chosen), 30))


@pytest.mark.parametrize("ending", ["once", "wait_ready"])
def test_run_that_ends_by_itself_ends_as_failed_when_the_disk_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    """Nothing can be written where a directory stands in the way, and nothing ever will."""
    (tmp_path / "state" / ".status.yaml.new").mkdir(parents=True)
    assert run_for(tmp_path, 0, once=ending == "once", wait_ready=ending == "wait_ready") == EXIT_FAILED
    said = capsys.readouterr().out
    assert "Is a directory" in said
    assert ("not ready within 0.5 s" in said) == (ending == "wait_ready")


def test_once_ends_as_failed_when_its_step_was_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "state" / "members" / "demo-0" / "log").mkdir(parents=True)
    assert run_for(tmp_path, 1, once=True) == EXIT_FAILED
    assert "NodeBlocked: StartNodes demo-0 failed" in capsys.readouterr().out


def test_once_ends_well_when_nothing_is_left_to_do(tmp_path: Path) -> None:
    assert run_for(tmp_path, 0, once=True) == EXIT_OK


@pytest.mark.parametrize("damage", [b"{", b"\xff"])
def test_damaged_record_keeps_nobody_from_stopping_and_deleting(tmp_path: Path, damage: bytes) -> None:
    """Seen while it runs it is a hold; a start on it is refused."""
    assert run_for(tmp_path, 0, once=True) == EXIT_OK
    state = tmp_path / "state"
    (state / "bootstrap.json").write_bytes(damage)
    platform = LocalPlatform(StateDirectory(state), require(state), None)
    assert "bootstrap.json is damaged" in asyncio.run(platform.look(CLUSTER)).record_damage
    with pytest.raises(Refused, match="is damaged"):
        run_for(tmp_path, 0, once=True)
    assert not StateDirectory(state).is_locked(), "who was refused holds nothing"
    assert main(["local", "stop", "--state-dir", str(state)]) == 0
    assert main(["local", "delete", "--yes", "--state-dir", str(state)]) == 0
    assert not state.exists()


def require(state: Path) -> Identity:
    identity = StateDirectory(state).read_identity()
    assert identity is not None
    return identity


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
