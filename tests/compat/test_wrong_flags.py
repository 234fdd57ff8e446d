"""Wrong settings, given to a real etcd and to ours: the same words, the same exit status, and nothing left behind."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.kit.ports import free_port
from tests.kit.processes import Program

HTTP = "http://127.0.0.1"

WRONG: tuple[tuple[str, ...], ...] = (
    ("--foo",),
    ("--name",),
    ("---x",),
    ("--=x",),
    ("--pre-vote=maybe",),
    ("--heartbeat-interval=x",),
    ("--heartbeat-interval=-1",),
    ("--heartbeat-interval=99999999999999999999",),
    ("--quota-backend-bytes=1GB",),
    ("--max-concurrent-streams=99999999999",),
    ("--max-concurrent-streams=x",),
    ("--grpc-keepalive-min-time=5",),
    ("--initial-cluster-state=x",),
    ("--discovery-fallback=x",),
    ("--proxy=x",),
    ("--listen-peer-urls=localhost:2380",),
    ("--listen-peer-urls=127.0.0.1:2380",),
    ("--listen-peer-urls=http://127.0.0.1",),
    ("--listen-peer-urls=http://127.0.0.1:x",),
    ("--listen-peer-urls=http://127.0.0.1:1/",),
    ("--listen-peer-urls=ftp://127.0.0.1:1",),
    ("--cors=x",),
    ("extra",),
    ("--name=a", "extra"),
    ("--pre-vote", "true"),
    ("--listen-client-urls=http://127.0.0.1:1",),
    ("--listen-peer-urls=http://foo:1",),
    ("--listen-metrics-urls=http://foo:1",),
    ("--advertise-client-urls=http://:1",),
    ("--initial-advertise-peer-urls=http://:1",),
    ("--heartbeat-interval=0",),
    ("--election-timeout=0",),
    ("--election-timeout=499",),
    ("--election-timeout=50001",),
    ("--logger=x",),
    ("--log-outputs=default,stdout",),
    ("--auto-compaction-mode=x",),
    ("--auto-compaction-retention=x",),
    ("--initial-cluster=a=http://localhost:2380",),
    ("--initial-cluster=",),
    ("--initial-cluster=default=x",),
    ("--initial-cluster=default=http://localhost:2381",),
    ("--initial-advertise-peer-urls=http://localhost:2381",),
    ("--initial-cluster=default=http://localhost:2380,b=http://localhost:2380",),
    ("--auth-token=foo",),
    ("--auth-token=simple,a",),
    ("--auth-token=jwt,sign-method=RS256,priv-key=/no/such/file",),
    ("--auth-token=jwt,sign-method=HS256",),
    ("--auth-token=jwt,sign-method=none",),
    ("--auth-token=jwt,sign-method=XX,ttl=1m",),
    ("--auth-token=jwt,ttl=x",),
)


def words_of_etcd(output: str) -> str:
    """What etcd complains of: a line that is no JSON, or the error of its log."""
    for line in output.splitlines():
        if not line.startswith("{"):
            return line
        logged = json.loads(line)
        if "error" in logged:
            return str(logged["error"]).split(" (resolved urls")[0]  # what its resolver made of them is its own
        if logged["level"] == "fatal":
            # It names the variable beside the message, and closes one bracket too many.
            variable = f'environment variable "{logged["environment-variable"]}" is'
            return str(logged["msg"]).removesuffix(")").replace("environment variable is", variable)
    raise AssertionError(f"no complaint in {output!r}")


def outcome(program: Program, folder: Path, argv: tuple[str, ...], environment: dict[str, str]) -> tuple[int, str]:
    folder.mkdir()
    addressed = {flag.partition("=")[0].lstrip("-") for flag in argv}
    ports = [f"--listen-peer-urls={HTTP}:{free_port()}"] if "listen-peer-urls" not in addressed else []
    if "listen-client-urls" not in addressed:  # an etcd listens, at everybody's 2379, before it looks at all its flags
        client_url = f"{HTTP}:{free_port()}"
        ports.append(f"--listen-client-urls={client_url}")
        if "advertise-client-urls" not in addressed:
            ports.append(f"--advertise-client-urls={client_url}")
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ETCD_")}
    ended = subprocess.run(
        [*program.command, *ports, *argv],
        cwd=folder,
        env={**clean, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    return ended.returncode, ended.stdout


@pytest.mark.parametrize("argv", WRONG, ids=" ".join)
def test_wrong_flags_end_as_they_do_in_etcd(
    argv: tuple[str, ...], tmp_path: Path, reference: Program, subject: Program
) -> None:
    assert_equal_outcomes(argv, {}, tmp_path, reference, subject)


@pytest.mark.parametrize(
    ("argv", "environment"),
    [
        (("--name=a",), {"ETCD_NAME": "a"}),
        ((), {"ETCD_HEARTBEAT_INTERVAL": "x"}),
        ((), {"ETCD_PRE_VOTE": "maybe"}),
    ],
    ids=["shadowed", "number", "bool"],
)
def test_wrong_variables_end_as_they_do_in_etcd(
    argv: tuple[str, ...], environment: dict[str, str], tmp_path: Path, reference: Program, subject: Program
) -> None:
    assert_equal_outcomes(argv, environment, tmp_path, reference, subject)


def assert_equal_outcomes(
    argv: tuple[str, ...], environment: dict[str, str], folder: Path, reference: Program, subject: Program
) -> None:
    status, output = outcome(reference, folder / "etcd", argv, environment)
    our_status, our_output = outcome(subject, folder / "ours", argv, environment)
    assert our_output.splitlines()[0] == f"kvorum: {words_of_etcd(output)}"
    assert our_status == status
    assert "Traceback" not in our_output
    assert list((folder / "ours").iterdir()) == []
