"""The command line: what is refused before anything is looked at."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from kvorum_operator.main import main, parser


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("local", "--base-port", "80"), "must be a port between 1024 and 65435, not '80'"),
        (("local", "--base-port", "65500"), "must be a port between"),
        (("local", "--base-port", "abc"), "must be a port between"),
        (("local", "--timeout", "30"), "must be a duration with its unit like 30s or 2m, not '30'"),
        (("local", "--wait", "forever"), "invalid choice"),
        (("local", "start"), "invalid choice"),
        (("local", "put", "key"), "value"),
        ((), "COMMAND"),
    ],
)
def test_wrong_arguments_are_named(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str) -> None:
    assert says in refused(capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--once --base-port 5000 --wait ready --timeout 1s members", "--base-port, --once, --wait, --timeout is for"),
        ("--once stop", "--once is for running a cluster and says nothing to stop"),
        ("--timeout 0s list", "--timeout is for"),
        ("--timeout 1s", "--timeout is how long --wait waits"),
        ("--timeout 0s --once", "--timeout is how long --wait waits"),
        ("--once --wait ready", "--once leaves when no step is left to take, --wait ready when the cluster is ready"),
    ],
)
def test_option_without_effect_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: str, says: str
) -> None:
    assert main(["local", *arguments.split()]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert says in said.err


def test_trouble_of_the_system_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cluster.json").write_text('{"name": "c", "uid": "u", "engine": "kvorum", "base_port": 2379}')
    (tmp_path / "lock").mkdir()
    assert main(["local", "stop", "--state-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"kvorum-operator: {tmp_path / 'lock'}: Is a directory\n"


def test_whereabouts_may_stand_before_and_after_the_verb() -> None:
    for arguments in (["local", "-f", "a.yaml", "stop"], ["local", "stop", "-f", "a.yaml"]):
        assert parser().parse_args(arguments).file == Path("a.yaml")
    assert parser().parse_args(["local", "stop"]).file == Path("cluster.yaml")
    assert parser().parse_args(["local"]).verb is None


@pytest.mark.parametrize("verb", [["stop"], ["delete", "--yes"], ["logs"], ["members"], ["get", "k"]])
def test_verb_without_a_cluster_says_how_to_name_one(
    verb: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["local", *verb]) == 2
    assert "--state-dir" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_logs_of_nobody_name_those_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cluster.json").write_text('{"name": "c", "uid": "u", "engine": "kvorum", "base_port": 2379}')
    (tmp_path / "members" / "c-0").mkdir(parents=True)
    assert main(["local", "logs", "c-7", "--state-dir", str(tmp_path)]) == 2
    assert "c has no member 'c-7'; there are: c-0" in capsys.readouterr().err


def test_list_of_nothing_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["local", "list"]) == 0
    assert "there is no cluster in" in capsys.readouterr().out


def test_other_systems_get_one_clear_line() -> None:
    """Before anything is imported that is there on Linux only."""
    program = (
        "import sys\nfrom kvorum_operator.main import main\nsys.platform = 'win32'\nended = main(['local'])\n"
        "assert not [name for name in sys.modules if '.platforms' in name]\nsys.exit(ended)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "runs on Linux only" in ended.stderr


FORKS = """
import os, sys
from kvorum_operator.main import main
assert "grpc" not in sys.modules, "it would have read its environment by now"
main(["local", "list"])
import asyncio
import grpc.aio
async def fork_beside_calls():
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        channel.get_state(try_to_connect=True)
        if os.fork() == 0:
            os._exit(0)
asyncio.run(fork_beside_calls())
"""


def test_grpc_writes_no_lines_of_its_own(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
