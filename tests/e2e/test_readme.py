"""The README's commands, word for word, on a fresh copy of this checkout with a fresh HOME; and what they print.

`pytest tests/e2e/test_readme.py --rewrite` puts what was printed into README.md. When it is compared, times, places,
who leads, sizes and whatever depends on timing (lines of kind `hold` and `change`) do not count. The ports are the
README's, 2379 and on: what else listens there must be stopped first.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.kit import transcript
from tests.kit.deadline import wait_until
from tests.kit.etcd import EtcdMissing, require_etcd
from tests.kit.processes import fetch_json
from tests.kit.transcript import block, commands
from tests.tidy.sources import REPOSITORY, files

README = REPOSITORY / "README.md"
PLACE = "/home/you/kvorum"  # where the README pretends to be
ENV_S, READY_S, GROWN_S, COMMAND_S = 300.0, 120.0, 240.0, 60.0
NODE = "http://127.0.0.1"
PORTS = range(2379, 2430, 10)

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git would clone, with the changes that are not committed yet."""
    folder = tmp_path_factory.mktemp("fresh") / "kvorum"
    for path in files():
        to = folder / path.relative_to(REPOSITORY)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, to)
    (folder.parent / "home").mkdir()
    return folder


@pytest.fixture(scope="module")
def environment(copy: Path) -> Mapping[str, str]:
    """A new user's: nothing of this test run's environment but what finds programs and the network."""
    kept = re.compile(r"PATH|LANG|LC_\w+|PYENV_ROOT|\w*_(proxy|PROXY)|SSL_\w+|PIP_\w+|UV_\w+|TMPDIR")
    found = {key: value for key, value in os.environ.items() if kept.fullmatch(key)}
    venv = os.environ.get("VIRTUAL_ENV", str(REPOSITORY / ".venv"))
    path = [part for part in found["PATH"].split(os.pathsep) if not part.startswith(venv)]
    return {**found, "HOME": str(copy.parent / "home"), "PATH": os.pathsep.join(path)}


@pytest.fixture(autouse=True)
def free_ports() -> None:
    wait_until(lambda: all(map(is_free, PORTS)), 60, "the README's ports are free")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Terminal:
    """A shell in the copy, with everything it prints in one file."""

    def __init__(self, name: str, copy: Path, environment: Mapping[str, str]) -> None:
        self.copy = copy
        self.log = copy.parent / f"{name}.log"
        self.process = subprocess.Popen(
            ["bash"],
            cwd=copy,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=self.log.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def type(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def printed(self) -> str:
        return self.log.read_text().replace(str(self.copy), PLACE)

    def run(self, command: str, deadline_s: float = COMMAND_S) -> str:
        """What one command printed, once it has ended."""
        before = len(self.printed())
        self.type(command)
        self.type("echo; echo '--done--'")
        wait_until(lambda: "\n--done--\n" in self.printed()[before:], deadline_s, f"{command} ends")
        printed = self.printed()[before:].removesuffix("\n--done--\n")
        # A shell that is no terminal also says what became of jobs; that is no part of what a command prints.
        return "".join(line for line in printed.splitlines(keepends=True) if not line.startswith("bash: "))

    def interrupt(self) -> None:
        """Ctrl-C: to everything of the terminal that is in the foreground."""
        os.killpg(self.process.pid, signal.SIGINT)

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def terminals(copy: Path, environment: Mapping[str, str]) -> Iterator[list[Terminal]]:
    opened: list[Terminal] = [Terminal(name, copy, environment) for name in ("first", "second")]
    yield opened
    for terminal in opened:
        terminal.close()
    for process in psutil.process_iter(["pid", "cmdline"]):
        if any(word.startswith(f"{copy}/") for word in process.info["cmdline"] or ()):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def normalised(text: str) -> list[str]:
    """What must be the same each time."""
    lines = []
    for line in text.splitlines():
        if re.match(r"\d\d:\d\d:\d\d +(hold|change) |make: ", line):
            continue
        line = re.sub(r"^\d\d:\d\d:\d\d ", "TIME ", line)
        line = re.sub(r"\b(leader|follower)\b", "ROLE", line)
        line = re.sub(r"\b\d+Ki\b|\b[0-9a-f]{15,16}\b|\b\d+(\.\d+)? [kM]B\b", "N", line)
        line = re.sub(r"^( +try +).*", r"\1COMMAND", line)
        line = re.sub(r" +", " ", line).strip()
        if line:
            lines.append(line)
    return lines


def check(name: str, printed: str, request: pytest.FixtureRequest) -> None:
    transcript.check(README, name, printed, normalised, rewrite=bool(request.config.getoption("--rewrite")))


def whole_lines(terminal: Terminal) -> str:
    wait_until(lambda: terminal.printed().endswith("\n"), COMMAND_S, "the line ends")
    return terminal.printed()


def session(terminal: Terminal, lines: list[str]) -> str:
    """A person takes a moment between two lines. etcdctl gives up after 5 s, in which a busy machine may not have
    started a node; and of three the third may have told nobody its URLs when the other two serve."""
    printed = []
    for line in lines:
        if "etcdctl" in line and "kill" not in line:
            wait_until(lambda: has_health(fetch_json(f"{NODE}:2379/health")), READY_S, "a node serves")
        if "etcdctl member list" in line:
            wait_until(lambda: all_have_urls(fetch_json(f"{NODE}:2380/members")), READY_S, "all have told their URLs")
        printed.append(f"$ {line}\n{terminal.run(line)}")
    return "".join(printed)


def has_health(page: Any) -> bool:
    return isinstance(page, dict) and page.get("health") == "true"


def all_have_urls(members: Any) -> bool:
    return isinstance(members, list) and all(member.get("clientURLs") for member in members)


def test_two_commands_make_a_cluster_and_an_edit_scales_it(
    terminals: list[Terminal], request: pytest.FixtureRequest
) -> None:
    first, second = terminals
    (run,) = commands(block(README, "run"))
    first.type(run)
    wait_until(lambda: "  begin  " in first.printed(), ENV_S, "the environment is made")
    wait_until(lambda: "  try  " in first.printed(), READY_S, "three members serve")

    run_until_ready = whole_lines(first)
    used = session(second, commands(block(README, "use")))
    edited = session(second, commands(block(README, "edit")))
    wait_until(lambda: first.printed().count("  try  ") == 2, GROWN_S, "five members serve")
    grown = whole_lines(first).removeprefix(run_until_ready)
    first.interrupt()
    wait_until(lambda: "  end  " in first.printed(), READY_S, "the members are stopped")
    check("run", f"$ {run}\n{run_until_ready}", request)
    check("use", used, request)
    check("edit", edited + grown, request)


@pytest.mark.parametrize("name", ["one-node", "three-nodes", "backup"])
def test_nodes_by_hand_answer_a_real_etcdctl(
    name: str, terminals: list[Terminal], environment: Mapping[str, str], request: pytest.FixtureRequest
) -> None:
    try:
        etcdctl = require_etcd().etcdctl
    except EtcdMissing as error:
        pytest.skip(f"NOT RUN: {error}")
    terminal = terminals[0]
    terminal.run("make env >/dev/null 2>&1", ENV_S)
    terminal.run(f"export PATH={etcdctl.parent}:$PATH")
    check(name, session(terminal, commands(block(README, name))), request)
