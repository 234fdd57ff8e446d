"""Three ZooKeepers from Debian's packages, with Debian's settings, and a client that says what we ask of any store.

The client is kazoo, of a folder of its own below .cache/.
"""

import logging
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.kit.deadline import wait_until
from tests.kit.ports import free_ports
from tests.kit.processes import DIE_WITH_PARENT
from tests.patroni.machine import require_libraries

CLIENT_NEEDS = Path(__file__).with_name("zookeeper.txt")
# Each of these sends one way of logging to another, and two at once are refused.
OTHER_LOGGING = re.compile(r"(slf4j-(?!api|log4j)|(jcl|jul|log4j|osgi)-(over|to)-|.*-sources)")
MEMBERS = 3
READY_S = 120.0
SETTINGS = "tickTime=2000\ninitLimit=10\nsyncLimit=5\n"  # Debian's zoo.cfg
LOGGING = (
    "log4j.rootLogger=INFO, FILE\nlog4j.appender.FILE=org.apache.log4j.FileAppender\n"
    "log4j.appender.FILE.File=%s\nlog4j.appender.FILE.layout=org.apache.log4j.PatternLayout\n"
)


class ZooKeeper:
    """One member."""

    def __init__(self, tree: Path, folder: Path, number: int, ports: int) -> None:
        self._tree, self._folder, self.number = tree, folder, number
        self.port = ports + 3 * number
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, servers: str) -> None:
        data = self._folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        (data / "myid").write_text(f"{self.number + 1}\n")
        (self._folder / "log4j.properties").write_text(LOGGING % (self._folder / "log"))
        (self._folder / "zoo.cfg").write_text(
            f"{SETTINGS}dataDir={data}\nclientPort={self.port}\nclientPortAddress=127.0.0.1\n"
            f"admin.enableServer=false\n{servers}"
        )
        java = next(self._tree.glob("usr/lib/jvm/java-*-openjdk-*/bin/java"))
        jars = (self._tree / "usr/share/java").glob("*.jar")
        classes = [str(self._folder), *(str(jar) for jar in sorted(jars) if not OTHER_LOGGING.match(jar.name))]
        with (self._folder / "out").open("ab") as output:
            self.process = subprocess.Popen(
                [
                    *(*DIE_WITH_PARENT, str(java), "-cp", ":".join(classes)),
                    *("org.apache.zookeeper.server.quorum.QuorumPeerMain", str(self._folder / "zoo.cfg")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def mode(self) -> str:
        """leader, follower, or empty while it serves nobody."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as asked:
                asked.sendall(b"srvr")
                said = b""
                while piece := asked.recv(4096):
                    said += piece
        except OSError:
            return ""
        return next((line.split()[1] for line in said.decode().splitlines() if line.startswith("Mode: ")), "")

    def output(self) -> str:
        return (self._folder / "out").read_text()[-2000:]

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Ensemble:
    def __init__(self, tree: Path, folder: Path) -> None:
        ports = free_ports(3 * MEMBERS)
        self.members = [ZooKeeper(tree, folder / f"zk-{number}", number, ports) for number in range(MEMBERS)]
        self._servers = "".join(
            f"server.{one.number + 1}=127.0.0.1:{one.port + 1}:{one.port + 2}\n" for one in self.members
        )

    def start(self) -> None:
        for one in self.members:
            one.start(self._servers)

    def wait_serving(self) -> None:
        def serve() -> bool:
            for one in self.members:
                assert one.process is not None
                assert one.process.poll() is None, one.output()
            return all(one.mode() for one in self.members)

        wait_until(serve, READY_S, "three ZooKeepers serve")

    def pids(self) -> list[int]:
        return [one.pid for one in self.members]

    def kill_leader(self) -> None:
        next(one for one in self.members if one.mode() == "leader").kill()

    def kill(self) -> None:
        for one in self.members:
            one.kill()

    def client(self) -> "ZooKeeperClient":
        return ZooKeeperClient(",".join(f"127.0.0.1:{one.port}" for one in self.members))


class ZooKeeperClient:
    def __init__(self, hosts: str) -> None:
        folder = str(require_libraries(CLIENT_NEEDS, Path(sys.executable), ()))
        if folder not in sys.path:
            sys.path.append(folder)
        import kazoo.client  # type: ignore[import-not-found]  # of that folder
        import kazoo.exceptions  # type: ignore[import-not-found]  # of that folder

        logging.getLogger("kazoo").setLevel(logging.CRITICAL)  # of each connection that breaks: it is known
        self.refusals: tuple[type[Exception], ...] = (kazoo.exceptions.KazooException,)
        self._missing = kazoo.exceptions.NoNodeError
        self._client: Any = kazoo.client.KazooClient(hosts=hosts, timeout=4.0)  # two ticks, the least there is
        self._client.start(READY_S)

    def put(self, key: str, value: bytes) -> None:
        """A put, as a ZooKeeper has it: a node is made first, and set from then on."""
        try:
            self._client.set(f"/{key}", value)
        except self._missing:
            self._client.create(f"/{key}", value)

    def fill(self, count: int, value: bytes) -> None:
        for first in range(0, count, 500):
            keys = range(first, min(count, first + 500))
            pending = [self._client.create_async(f"/fill-{one:06}", value) for one in keys]
            for one in pending:
                one.get(READY_S)

    def watch(self, key: str, seen: Callable[[bytes], None]) -> None:
        """ZooKeeper's watch: told once that something changed, then read and watch anew, which kazoo does."""
        self._client.DataWatch(f"/{key}", lambda data, _: seen(data or b""))

    def close(self) -> None:
        self._client.stop()
        self._client.close()
