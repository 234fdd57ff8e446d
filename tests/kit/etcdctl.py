"""Runs a real etcdctl: one command and its output, or one that goes on (watch, elect) until it has said enough."""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.kit.deadline import wait_until
from tests.kit.etcd import require_etcd

COMMAND_S = 60.0
PATIENCE = "--command-timeout=30s"  # its own are 5 s, which a busy machine may need


@dataclass(frozen=True, slots=True)
class Output:
    status: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """What it ended with, for a person; its log lines on the way are left out."""
        return "\n".join(line for line in self.stderr.splitlines() if not line.startswith("{"))


class Etcdctl:
    """endpoints: what all commands are given; the environment's own settings for etcdctl are left out."""

    def __init__(self, endpoints: Sequence[str], program: Path | None = None) -> None:
        self.endpoints = list(endpoints)
        self.program = program or require_etcd().etcdctl
        self._environment = {key: value for key, value in os.environ.items() if not key.startswith("ETCDCTL_")}

    def command(self, arguments: Sequence[str]) -> list[str]:
        given = any(argument.startswith("--endpoints") for argument in arguments)
        endpoints = [] if given else [f"--endpoints={','.join(self.endpoints)}"]
        return [str(self.program), PATIENCE, *endpoints, *arguments]

    def run(self, *arguments: str, stdin: str = "", timeout_s: float = COMMAND_S) -> Output:
        """Raises subprocess.TimeoutExpired."""
        done = subprocess.run(
            self.command(arguments),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=self._environment,
            check=False,
        )
        return Output(done.returncode, done.stdout, done.stderr)

    def run_until(self, lines: int, *arguments: str, stdin: str = "", timeout_s: float = COMMAND_S) -> Output:
        """Runs a command that does not end by itself until it has printed so many lines. Raises DeadlineMissed."""
        with tempfile.TemporaryDirectory() as folder:
            stdout, stderr = Path(folder) / "stdout", Path(folder) / "stderr"
            with stdout.open("w") as out, stderr.open("w") as err:
                process = subprocess.Popen(
                    self.command(arguments),
                    stdin=subprocess.PIPE,
                    stdout=out,
                    stderr=err,
                    text=True,
                    env=self._environment,
                )
            assert process.stdin is not None
            process.stdin.write(stdin)
            process.stdin.flush()

            def enough() -> bool:
                return process.poll() is not None or len(stdout.read_text().splitlines()) >= lines

            try:
                wait_until(enough, timeout_s, f"etcdctl {' '.join(arguments)} prints {lines} lines")
            finally:
                process.kill()
                process.stdin.close()
                process.wait()
            return Output(process.returncode, stdout.read_text(), stderr.read_text())
