"""Two PostgreSQL under Patroni, configured by examples/patroni/patroni.yml, each in a folder and on ports of its own.

What Patroni and PostgreSQL say of themselves is read here; what should be so is the caller's. Ended by pid.
"""

import contextlib
import copy
import json
import os
import secrets
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.kit.deadline import wait_until
from tests.kit.etcd import REPOSITORY
from tests.kit.ports import free_port
from tests.patroni import machine as machines
from tests.patroni.machine import Machine

EXAMPLE = REPOSITORY / "examples" / "patroni" / "patroni.yml"
DRIVERS = ("etcd3", "etcd")
BORN_S = 180.0  # initdb or a copy, on a busy machine
ENDED_S = 60.0
SQL_S = 30.0
WRITER = Path(__file__).with_name("writer.py")
_direct = urllib.request.build_opener(
    urllib.request.ProxyHandler({})
)  # a proxy of the environment is not for 127.0.0.1


@dataclass(eq=False)
class PatroniNode:
    """One Patroni and its PostgreSQL."""

    machine: Machine
    folder: Path
    configuration: dict[str, Any]
    process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        return str(self.configuration["name"])

    @property
    def address(self) -> str:
        return str(self.configuration["postgresql"]["connect_address"])

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @property
    def data(self) -> Path:
        return Path(self.configuration["postgresql"]["data_dir"])

    @property
    def log_path(self) -> Path:
        return self.folder / "patroni.log"

    @property
    def file(self) -> Path:
        return self.folder / "patroni.yml"

    def start(self) -> None:
        self.machine.give(self.folder)
        self.file.write_text(yaml.safe_dump(self.configuration, sort_keys=False))
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.machine.command(str(self.machine.python), "-m", "patroni", str(self.file)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.machine.environment(self.folder),
                cwd="/",
            )

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def postmaster(self) -> psutil.Process | None:
        """PostgreSQL's first process, if it runs."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split()[0])
            process = psutil.Process(pid)
            return process if str(self.data) in " ".join(process.cmdline()) else None
        except (OSError, ValueError, IndexError, psutil.NoSuchProcess):
            return None

    def kill(self) -> None:
        """As if its machine had lost power: SIGKILL to Patroni and to all of PostgreSQL, gone when this returns."""
        postmaster = self.postmaster()
        processes = [postmaster, *postmaster.children(recursive=True)] if postmaster is not None else []
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=ENDED_S)

    def stop(self) -> None:
        """Patroni ends its PostgreSQL, and gives its place up if it is the primary."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(ENDED_S)

    def ask(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """What Patroni's own API answers, whatever the status; None if nothing there answers."""
        url = f"http://{self.configuration['restapi']['connect_address']}{path}"
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(url, data=data, method=method)
        try:
            with _direct.open(request, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refusal:
            with contextlib.suppress(ValueError):
                return json.load(refusal)
        except (OSError, ValueError):
            pass
        return None

    def role(self) -> str:
        """primary, replica, or empty while nothing is known."""
        said = self.ask("/patroni")
        if not isinstance(said, dict) or said.get("state") != "running":
            return ""
        role = str(said.get("role", ""))
        return "primary" if role == "master" else role  # its name until Patroni 4

    def timeline(self) -> int:
        """Of a PostgreSQL that runs: 1 at first, and one more for each time that a standby took over."""
        said = self.ask("/patroni") or {}
        return int(said.get("timeline") or 0)

    def query(self, statement: str) -> list[str]:
        """Rows, with | between their fields. Raises AssertionError."""
        account = self.configuration["postgresql"]["authentication"]["superuser"]
        connection = f"host=127.0.0.1 port={self.port} user={account['username']} dbname=postgres connect_timeout=5"
        return machines.run(
            self.machine,
            *(str(self.machine.programs / "psql"), connection, "-XAtw", "-c", statement),
            environment={**self.machine.environment(self.folder), "PGPASSWORD": account["password"]},
            deadline_s=SQL_S,
        ).splitlines()

    def log_tail(self, lines: int = 25) -> str:
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


class Pair:
    """pg-0 and pg-1, and a writer. store: addresses of its members. driver: a section of Patroni's configuration.

    dcs: what differs from the example in bootstrap.dcs.
    """

    def __init__(
        self,
        machine: Machine,
        folder: Path,
        store: Sequence[str],
        *,
        driver: str = "etcd3",
        dcs: dict[str, Any] | None = None,
    ) -> None:
        self.machine, self.folder = machine, folder
        example = yaml.safe_load(EXAMPLE.read_text())
        passwords = {name: secrets.token_urlsafe(12) for name in example["postgresql"]["authentication"]}
        self.nodes = [
            PatroniNode(machine, folder / name, configured(example, name, folder / name, machine, passwords))
            for name in ("pg-0", "pg-1")
        ]
        for node in self.nodes:
            del node.configuration["etcd3"]
            node.configuration[driver] = {"hosts": [one.removeprefix("http://") for one in store]}
            node.configuration["bootstrap"]["dcs"].update(dcs or {})

    @property
    def ttl_s(self) -> float:
        return float(self.nodes[0].configuration["bootstrap"]["dcs"]["ttl"])

    @property
    def loop_wait_s(self) -> float:
        return float(self.nodes[0].configuration["bootstrap"]["dcs"]["loop_wait"])

    def start(self) -> None:
        """One after the other, so that pg-0 is the primary, and until pg-1 has all that is acknowledged."""
        for node in self.nodes:
            node.start()
            self.wait(lambda node=node: node.role() != "", f"{node.name} runs", BORN_S)
        self.wait_synchronous()

    def primaries(self) -> list[PatroniNode]:
        return [node for node in self.nodes if node.alive() and node.role() == "primary"]

    def primary(self) -> PatroniNode:
        """Raises AssertionError unless there is exactly one."""
        found = self.primaries()
        assert len(found) == 1, f"primaries: {[node.name for node in found]}"
        return found[0]

    def other(self, node: PatroniNode) -> PatroniNode:
        return next(one for one in self.nodes if one is not node)

    def is_synchronous(self) -> bool:
        """The primary acknowledges what the standby has on disk, and Patroni's own record in the store says so."""
        for node in self.primaries():
            cluster = node.ask("/cluster") or {}
            roles = {one["name"]: one.get("role") for one in cluster.get("members", ())}
            if roles.get(self.other(node).name) == "sync_standby":
                return node.query("SELECT sync_state FROM pg_stat_replication") == ["sync"]
        return False

    def wait_synchronous(self, deadline_s: float = BORN_S) -> None:
        self.wait(self.is_synchronous, "a synchronous standby", deadline_s)

    def wait(self, condition: Any, what: str, deadline_s: float) -> Any:
        """Raises DeadlineMissed, with the ends of both logs."""
        try:
            return wait_until(condition, deadline_s, what, poll_s=0.2)
        except AssertionError as error:
            for node in self.nodes:
                error.add_note(f"--- {node.name}\n{node.log_tail()}")
            raise

    def destroy(self) -> None:
        for node in self.nodes:
            node.kill()

    def connection(self) -> str:
        """To whichever takes writes, for clients of PostgreSQL; the password stands in the folder's own file."""
        account = self.nodes[0].configuration["postgresql"]["authentication"]["superuser"]
        passwords = self.folder / "writer.pgpass"
        passwords.write_text("".join(f"127.0.0.1:{node.port}:*:*:{account['password']}\n" for node in self.nodes))
        passwords.chmod(0o600)
        if self.machine.as_account and os.getuid() == 0:
            shutil.chown(passwords, machines.ACCOUNT, machines.ACCOUNT)
        return (
            f"host={','.join('127.0.0.1' for _ in self.nodes)} port={','.join(str(node.port) for node in self.nodes)} "
            f"user={account['username']} dbname=postgres passfile={passwords} "
            "target_session_attrs=read-write connect_timeout=3 keepalives_idle=2 keepalives_interval=1 "
            "tcp_user_timeout=3000"
        )


def configured(
    example: dict[str, Any], name: str, folder: Path, machine: Machine, passwords: dict[str, str]
) -> dict[str, Any]:
    """The example's document with what differs between nodes and machines."""
    made = copy.deepcopy(example)
    made["name"] = name
    for section in ("restapi", "postgresql"):
        address = f"127.0.0.1:{free_port()}"
        made[section] |= {"listen": address, "connect_address": address}
    made["postgresql"] |= {"bin_dir": str(machine.programs), "data_dir": str(folder / "data")}
    made["postgresql"]["pgpass"] = str(folder / "pgpass")
    made["postgresql"]["parameters"]["unix_socket_directories"] = str(folder)
    for account, password in passwords.items():
        made["postgresql"]["authentication"][account]["password"] = password
    return made


@dataclass(frozen=True, slots=True)
class Written:
    """What a writer has said: numbers acknowledged and when, and what failed and when (seconds, monotonic)."""

    acknowledged: tuple[tuple[int, float], ...]
    failures: tuple[tuple[float, str], ...]

    def gap_s(self, since_s: float, until_s: float | None = None) -> float:
        """The longest time without an acknowledged row from then on; until now, if none says otherwise."""
        end_s = time.monotonic() if until_s is None else until_s
        times = [since_s, *(at for _, at in self.acknowledged if since_s <= at <= end_s), end_s]
        return max(later - earlier for earlier, later in pairwise(times))

    def failures_since(self, since_s: float) -> list[str]:
        return [why for at, why in self.failures if at >= since_s]


@dataclass(eq=False)
class Writer:
    """tests/patroni/writer.py on a pair, as a process of its own."""

    pair: Pair
    process: subprocess.Popen[bytes] | None = None
    output: Path = field(init=False)

    def __post_init__(self) -> None:
        self.output = self.pair.folder / "writer.txt"

    def __enter__(self) -> "Writer":
        machine = self.pair.machine
        program = shutil.copy(WRITER, self.pair.folder)  # the checkout may be where the account cannot read
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                machine.command(str(machine.python), str(program), self.pair.connection()),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=machine.environment(self.pair.folder),
                cwd="/",
            )
        self.wait_acknowledged(1)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def said(self) -> Written:
        lines = self.output.read_text().split("\n")[:-1]  # behind the last end of line may be half of one
        return parse(lines)

    def wait_acknowledged(self, more: int, deadline_s: float = 60.0) -> None:
        """Until so many rows more were acknowledged."""
        wanted = len(self.said().acknowledged) + more

        def enough() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.output.read_text()[-1000:]
            return len(self.said().acknowledged) >= wanted

        self.pair.wait(enough, f"{more} rows more are acknowledged", deadline_s)

    def lost(self) -> list[int]:
        """Numbers that were acknowledged and are not there now."""
        acknowledged = {number for number, _ in self.said().acknowledged}
        there = {int(row) for row in self.pair.primary().query("SELECT number FROM written")}
        return sorted(acknowledged - there)


def parse(lines: Iterable[str]) -> Written:
    """Raises AssertionError for what the writer does not say."""
    acknowledged, failures = [], []
    for line in lines:
        match line.split(maxsplit=2):
            case ["ok", number, at]:
                acknowledged.append((int(number), float(at)))
            case ["no", at, why]:
                failures.append((float(at), why))
            case _:
                raise AssertionError(f"the writer ended: {line}")
    return Written(tuple(acknowledged), tuple(failures))
