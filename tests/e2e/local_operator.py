"""`kvorum-operator local` as a person runs it: a document on disk, a process, its lines, its status file.

Each cluster has a folder, ports of its own and an end: whatever a test leaves running is killed by pid.
"""

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import sysconfig
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.kit.deadline import wait_until
from tests.kit.etcd import require_etcd
from tests.kit.ports import free_ports

# Takes the terminal as its own, as a shell's children have it, and becomes the operator.
CONTROLLED = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
PORTS = 50  # five members, ten ports apart
DEADLINE_S = 60.0
OPERATOR = Path(sysconfig.get_path("scripts")) / "kvorum-operator"


class LocalCluster:
    """One cluster on this machine. Members' names are NAME-0, NAME-1, ..."""

    def __init__(self, folder: Path, engine: str, *, replicas: int = 3, name: str = "c") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.engine = engine
        self.name = name
        self.file = folder / "cluster.yaml"
        self.state = folder / ".kvorum" / name
        self.base_port = free_ports(PORTS)
        self.operator: subprocess.Popen[bytes] | None = None
        self.runs = 0
        self.write(replicas=replicas)

    # The document.

    def write(self, *, name: str | None = None, engine: str | None = None, **spec: Any) -> None:
        """Replaces the document as an editor does: under another name first."""
        document = {
            "apiVersion": "kvorum.dev/v1alpha1",
            "kind": "KVCluster",
            "metadata": {"name": name or self.name},
            "spec": {"engine": engine or self.engine, **spec},
        }
        self.write_text(yaml.safe_dump(document))

    def write_text(self, text: str) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.rename(self.file)

    # The operator.

    @property
    def environment(self) -> dict[str, str]:
        """With a real etcd on PATH, and nothing of the test run's own cluster settings."""
        found = {key: value for key, value in os.environ.items() if not key.startswith(("ETCD_", "ETCDCTL_"))}
        found["PATH"] = f"{require_etcd().etcd.parent}{os.pathsep}{found['PATH']}"
        return found

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(OPERATOR), "local", *arguments, "-f", str(self.file)]

    def start(self, *arguments: str) -> None:
        """Its output goes to a file, so it writes lines."""
        assert self.operator is None or self.operator.poll() is not None, "the operator runs already"
        self.runs += 1
        with self.output_path.open("wb") as output:
            self.operator = subprocess.Popen(
                self.command("--base-port", str(self.base_port), *arguments),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment,
                start_new_session=True,  # signals reach it from the tests only
            )

    @contextmanager
    def terminal(self) -> Iterator["Terminal"]:
        """The operator on a terminal of its own; at the end of the block the terminal goes away (SIGHUP)."""
        ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        self.operator = subprocess.Popen(
            [
                *(sys.executable, "-c", CONTROLLED),
                *self.command("--base-port", str(self.base_port)),
            ],
            stdin=its,
            stdout=its,
            stderr=its,
            env={**self.environment, "TERM": "xterm"},
            start_new_session=True,
        )
        os.close(its)
        try:
            yield Terminal(ours)
        finally:
            os.close(ours)

    @property
    def output_path(self) -> Path:
        return self.folder / f"operator-{self.runs}.log"

    def output(self) -> str:
        return self.output_path.read_text()

    def send(self, number: signal.Signals) -> None:
        assert self.operator is not None
        self.operator.send_signal(number)

    def wait_end(self, deadline_s: float = DEADLINE_S) -> int:
        assert self.operator is not None
        return self.operator.wait(deadline_s)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.send(number)
        return self.wait_end()

    def call(self, *arguments: str, deadline_s: float = DEADLINE_S) -> subprocess.CompletedProcess[str]:
        """Another run of the program, to its end."""
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            timeout=deadline_s,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    # What there is to see.

    def status(self) -> dict[str, Any]:
        try:
            document = yaml.safe_load((self.state / "status.yaml").read_text())
        except FileNotFoundError:
            return {}
        status = document["status"]
        assert isinstance(status, dict)
        return status

    def condition(self, kind: str) -> dict[str, Any]:
        return next((one for one in self.status().get("conditions", ()) if one["type"] == kind), {})

    def is_ready(self, replicas: int) -> bool:
        status = self.status()
        return self.condition("Ready").get("status") == "True" and status["replicas"] == replicas

    def wait_ready(self, replicas: int, deadline_s: float = DEADLINE_S) -> None:
        self.wait(lambda: self.is_ready(replicas), f"{replicas} members are ready", deadline_s)

    def wait_line(self, pattern: str, deadline_s: float = DEADLINE_S) -> str:
        def find() -> str | None:
            found = re.search(pattern, self.output(), re.MULTILINE)
            return found[0] if found else None

        return str(self.wait(find, f"a line like {pattern!r}", deadline_s))

    def wait(self, condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
        def checked() -> Any:
            value = condition()
            if not value:
                assert self.operator is not None
                assert self.operator.poll() is None, f"it ended\n{self.output()}"
            return value

        try:
            return wait_until(checked, deadline_s, what)
        except AssertionError as error:
            error.add_note(self.output()[-3000:])
            raise

    def pids(self) -> dict[str, int]:
        """Of the members that run, by name, as the processes of this machine say."""
        found = {}
        for process in psutil.process_iter(["cmdline", "status"]):
            if process.info["status"] == psutil.STATUS_ZOMBIE:
                continue
            for argument in process.info["cmdline"] or ():
                match = re.fullmatch(rf"{re.escape(str(self.state))}/members/([^/]+)/config\.yaml", argument)
                if match:
                    found[match[1]] = process.pid
        return found

    def kill(self, names: Sequence[str]) -> None:
        """kill -9 of members."""
        pids = self.pids()
        for name in names:
            os.kill(pids[name], signal.SIGKILL)

    def endpoint(self, ordinal: int) -> str:
        return f"http://127.0.0.1:{self.base_port + 10 * ordinal}"

    def endpoints(self, count: int = 5) -> list[str]:
        return [self.endpoint(ordinal) for ordinal in range(count)]

    def volumes(self) -> set[str]:
        """Everything below volumes/, also what is being deleted."""
        return set(os.listdir(self.state / "volumes"))

    def destroy(self) -> None:
        if self.operator is not None and self.operator.poll() is None:
            self.operator.kill()
            self.operator.wait()
        until = time.monotonic() + 10
        while (pids := self.pids()) and time.monotonic() < until:
            for pid in pids.values():
                os.kill(pid, signal.SIGKILL)


class Terminal:
    """What a person sees on a terminal, as text without its control sequences."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)
        self._bytes = b""

    def wait_text(self, text: str, deadline_s: float = DEADLINE_S) -> None:
        wait_until(
            lambda: text in self.text(), deadline_s, f"{text!r} on the terminal, which shows\n{self.text()[-3000:]}"
        )

    def text(self) -> str:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._descriptor, 65536):
                self._bytes += data
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._bytes.decode(errors="replace"))


@contextmanager
def local_cluster(folder: Path, engine: str, *, replicas: int = 3, name: str = "c") -> Iterator[LocalCluster]:
    cluster = LocalCluster(folder, engine, replicas=replicas, name=name)
    try:
        yield cluster
    finally:
        cluster.destroy()
