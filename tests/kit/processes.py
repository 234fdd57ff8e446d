"""Real server processes for tests: one member or a cluster of them, etcd's program or ours, on free ports.

Both programs take etcd's flags, so a node is started the same way whichever it is. A node is stopped by its own pid;
none outlives the test process (atexit, and the kernel's parent-death signal where a test is killed itself).
"""

import atexit
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.kit.deadline import DeadlineMissed, wait_until
from tests.kit.etcd import require_etcd, require_oldest_etcd
from tests.kit.ports import free_port

# Far above what is usual: they end what hangs, and are not to measure a busy machine.
READY_S = 60.0
STOP_S = 60.0  # an etcd first waits for what it asks others, for 7 s at a time
# setpriv replaces itself by the node, so the pid is the node's. A preexec_fn would do the same but is unsafe beside
# gRPC's threads.
DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()

_running: set["Node"] = set()


class NodeFailed(AssertionError):
    """A node did not start, or ended when it should not. The text holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Program:
    """A server program: `engine` is etcd or kvorum, command what starts it (flags follow)."""

    engine: str
    command: tuple[str, ...]


def etcd_program() -> Program:
    """Raises EtcdMissing."""
    return Program("etcd", (str(require_etcd().etcd),))


def oldest_etcd_program() -> Program:
    """Raises EtcdMissing."""
    return Program("etcd", (str(require_oldest_etcd().etcd),))


def kvorum_program() -> Program:
    """The `kvorum` of the environment that runs the tests."""
    return Program("kvorum", (sys.executable, str(Path(sysconfig.get_path("scripts")) / "kvorum")))


@dataclass(eq=False)
class Node:
    """One server process and its folder, its ports kept over restarts.

    initial_cluster: name=url,...; left empty the node is a cluster of its own.
    flags:           added after the usual ones; environment likewise.
    scheme, peer_scheme: of its URLs; with https, trust: how it is asked, certificate included.
    """

    program: Program
    folder: Path
    name: str = "default"
    initial_cluster: str = ""
    state: str = "new"
    token: str = "kvorum-test"
    flags: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
    scheme: str = "http"
    peer_scheme: str = "http"
    trust: ssl.SSLContext | None = None
    client_port: int = field(default_factory=free_port)
    peer_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.client_port}"

    @property
    def peer_url(self) -> str:
        return f"{self.peer_scheme}://127.0.0.1:{self.peer_port}"

    @property
    def data_dir(self) -> Path:
        return self.folder / f"{self.name}.etcd"

    @property
    def log_path(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} was never started"
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def command(self) -> list[str]:
        return [
            *self.program.command,
            f"--name={self.name}",
            f"--data-dir={self.data_dir}",
            f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--initial-cluster={self.initial_cluster or f'{self.name}={self.peer_url}'}",
            f"--initial-cluster-state={self.state}",
            f"--initial-cluster-token={self.token}",
            *self.flags,
        ]

    def start(self) -> None:
        """Starts the process and does not wait. The log is appended to."""
        assert not self.alive, f"{self.name} runs already"
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ETCD_")}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*DIE_WITH_PARENT, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**environment, **self.environment},
            )
        _running.add(self)

    def wait_serving(self, deadline_s: float = READY_S) -> None:
        """Until /version answers: the client port is open. True of a learner and without a leader, too."""
        wait_until(lambda: self._checked(self.read_version() is not None), deadline_s, f"{self.describe()} serves")

    def wait_healthy(self, deadline_s: float = READY_S) -> None:
        """Until /health is true, so a leader was followed a moment ago, and its own entry has its name and URLs: a new
        member is told a leader before it has told these."""
        try:
            wait_until(
                lambda: self._checked(self.is_healthy() and self.is_published()),
                deadline_s,
                f"{self.describe()} is healthy",
            )
        except DeadlineMissed as missed:
            raise NodeFailed(f"{missed}\n{self.log_tail()}") from None

    def _checked(self, value: bool) -> bool:
        if not self.alive:
            raise NodeFailed(f"{self.describe()} ended\n{self.log_tail()}")
        return value

    def read_version(self) -> dict[str, Any] | None:
        answer = fetch_json(f"{self.endpoint}/version", trust=self.trust)
        return answer if isinstance(answer, dict) else None

    def is_healthy(self) -> bool:
        answer = fetch_json(f"{self.endpoint}/health", trust=self.trust)
        return isinstance(answer, dict) and answer.get("health") == "true"

    def is_published(self) -> bool:
        """It has applied its own entry of the member list with client URLs."""
        return any(self.peer_url in one["peerURLs"] and one.get("clientURLs") for one in self.members_by_peers())

    def members_by_peers(self) -> list[dict[str, Any]]:
        """The member list as its peer port tells it: a learner tells it nowhere else. Empty if it does not answer."""
        answer = fetch_json(f"{self.peer_url}/members", trust=self.trust)
        return answer if isinstance(answer, list) else []

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def pause(self) -> None:
        """The process hangs, its sockets stay open: what a frozen machine looks like to the others."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and gone when this returns. Nothing if it does not run."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
        _running.discard(self)

    def stop(self, deadline_s: float = STOP_S) -> int:
        """SIGTERM, and the exit status (negative: ended by that signal). Raises NodeFailed if it takes longer."""
        assert self.process is not None, f"{self.name} was never started"
        if self.process.poll() is None:
            self.process.terminate()
        try:
            status = self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            tail = self.log_tail()
            self.kill()
            raise NodeFailed(f"{self.describe()} did not end within {deadline_s:g} s of SIGTERM\n{tail}") from None
        _running.discard(self)
        return status

    def restart(self) -> None:
        """kill -9, start, and wait until it serves."""
        self.kill()
        self.start()
        self.wait_serving()

    def wipe(self) -> None:
        """Its data is gone, as after the loss of a disk."""
        assert not self.alive, f"{self.name} still runs"
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self, lines: int = 30) -> str:
        return "\n".join(self.log().splitlines()[-lines:])

    def describe(self) -> str:
        return f"{self.program.engine} node {self.name} at {self.endpoint}"

    def __enter__(self) -> "Node":
        if not self.alive:
            self.start()
        self.wait_healthy()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Cluster:
    """Members bootstrapped together, by default all of one program.

    programs: one for each member, or one for all. Used as a context it is started, healthy, and killed at the end.
    """

    def __init__(
        self, programs: Program | Sequence[Program], folder: Path, members: int = 3, *, flags: Sequence[str] = ()
    ) -> None:
        each = [programs] * members if isinstance(programs, Program) else list(programs)
        self.folder = folder
        self.nodes = [Node(program, folder, name=f"n{index}", flags=flags) for index, program in enumerate(each)]
        for node in self.nodes:
            node.initial_cluster = ",".join(f"{one.name}={one.peer_url}" for one in self.nodes)

    @property
    def endpoints(self) -> list[str]:
        return [node.endpoint for node in self.nodes]

    def joining(self, program: Program, name: str, *, flags: Sequence[str] = ()) -> Node:
        """A node to come: not started, not in the member list (add it by its peer_url first), and not in `nodes`."""
        node = Node(program, self.folder, name=name, state="existing", flags=flags)
        others = ",".join(f"{one.name}={one.peer_url}" for one in self.nodes)
        node.initial_cluster = f"{others},{name}={node.peer_url}"
        return node

    def start(self) -> None:
        for node in self.nodes:
            if not node.alive:
                node.start()

    def wait_healthy(self, deadline_s: float = READY_S) -> None:
        for node in self.nodes:
            node.wait_healthy(deadline_s)

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def __enter__(self) -> "Cluster":
        self.start()
        self.wait_healthy()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def fetch_json(url: str, timeout_s: float = 2.0, *, trust: ssl.SSLContext | None = None) -> Any:
    """The JSON at a URL whatever the HTTP status; None if nothing there answers so. trust: for https."""
    opener = _direct if trust is None else _opener(urllib.request.HTTPSHandler(context=trust))
    try:
        with opener.open(url, timeout=timeout_s) as answer:
            body = answer.read()
    except urllib.error.HTTPError as refusal:
        body = refusal.read()
    except OSError:
        return None
    try:
        return json.loads(body)
    except ValueError:
        return None


def _opener(*handlers: urllib.request.BaseHandler) -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), *handlers)


_direct = _opener()  # a proxy of the environment is not for 127.0.0.1


@atexit.register
def kill_running() -> None:
    for node in list(_running):
        node.kill()
