"""Members as processes: started so that they outlive the operator, and known again by pid and start time.

A member's process.json holds what the next operator needs. It is written after the process is started; an operator that
is killed between the two leaves a process that is found by its command line instead (I10).
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import psutil

from kvorum_operator.platforms.local import member_log
from kvorum_operator.platforms.local.state_directory import make_private, read_json, replace_durably

# The start time is kept by the kernel in ticks since the boot; as a time of day it moves a little with clock steps.
START_TOLERANCE_S = 2.0
SETTLED_S = 30.0  # a process that ran so long has started well
BACKOFF_S = (0.0, 0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # before the next start, by failures in a row
STOP_S = 15.0  # from SIGTERM to SIGKILL; a member hands over leadership and closes its files meanwhile
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Run:
    """The current or the last process of a member."""

    pid: int
    started_s: float
    settings: str = ""  # what of the settings it was started with
    ended_s: float | None = None
    ended: str = ""
    failures_count: int = 0

    @property
    def retry_at_s(self) -> float:
        delay_s = BACKOFF_S[min(self.failures_count, len(BACKOFF_S) - 1)]
        return (self.ended_s or 0.0) + delay_s


class Processes:
    """The processes of one cluster's members. folder: of members/, one directory for each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: dict[int, subprocess.Popen[bytes]] = {}  # ours to wait for, else they stay as zombies

    def look(self, names: Iterable[str], now_s: float) -> dict[str, tuple[Run | None, psutil.Process | None]]:
        """Each member's last run, and its process if it is alive. Notes down how it ended, once."""
        runs = {name: self.read(name) for name in names}
        alive = self.find(runs)
        return {name: self._seen(name, run, alive.get(name), now_s) for name, run in runs.items()}

    def _seen(
        self, name: str, run: Run | None, process: psutil.Process | None, now_s: float
    ) -> tuple[Run | None, psutil.Process | None]:
        if process is not None:
            if run is None or run.pid != process.pid or run.ended_s is not None:
                run = Run(process.pid, process.create_time(), failures_count=run.failures_count if run else 0)
                self.write(name, run)
            return run, process
        if run is not None and run.ended_s is None:
            run = self.note_end(name, run, now_s)
        return run, None

    def read(self, name: str) -> Run | None:
        content = read_json(self._folder / name / "process.json")
        try:
            return Run(**content) if content is not None else None
        except TypeError:
            return None

    def write(self, name: str, run: Run) -> None:
        replace_durably(self._folder / name / "process.json", json.dumps(asdict(run)) + "\n")

    def running(self, names: Iterable[str]) -> dict[str, psutil.Process]:
        """The processes of those that are alive. Notes nothing down."""
        return self.find({name: self.read(name) for name in names})

    def find(self, runs: Mapping[str, Run | None]) -> dict[str, psutil.Process]:
        found = {}
        for name, run in runs.items():
            if run is not None and run.ended_s is None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process = psutil.Process(run.pid)
                    if abs(process.create_time() - run.started_s) < START_TOLERANCE_S and self.is_alive(process):
                        found[name] = process
        if strays := {str(self._folder / name / "config.yaml"): name for name in runs.keys() - found.keys()}:
            for process in psutil.process_iter(["cmdline"]):
                for option, file in pairwise(process.info["cmdline"] or ()):
                    # Both arguments: an editor that shows the file is no member.
                    if option == "--config-file" and file in strays and self.is_alive(process):
                        found[strays[file]] = process
        return found

    def is_alive(self, process: psutil.Process) -> bool:
        """Not ended; a zombie has ended, and only its parent has not looked."""
        child = self._children.get(process.pid)
        if child is not None and child.poll() is not None:
            return False
        try:
            return process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def note_end(self, name: str, run: Run, now_s: float) -> Run:
        child = self._children.pop(run.pid, None)
        code = child.poll() if child is not None else None
        soon = now_s - run.started_s < SETTLED_S
        ended = replace(
            run,
            ended_s=now_s,
            ended=describe_end(code, self._folder / name / "log"),
            failures_count=run.failures_count + 1 if soon else 1,
        )
        self.write(name, ended)
        return ended

    def start(self, name: str, command: Sequence[str], settings: str) -> None:
        """In a session of its own, its output appended to the member's log. Raises OSError."""
        folder = self._folder / name
        earlier = self.read(name)
        make_private(folder)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ETCD_")}
        with member_log.open_for_writing(folder / "log") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # neither the terminal's Ctrl-C nor its end is for members
                cwd=folder,
                env=environment,
            )
        self._children[child.pid] = child
        try:
            started_s = psutil.Process(child.pid).create_time()
        except psutil.NoSuchProcess:
            started_s = time.time()
        failures_count = earlier.failures_count if earlier is not None else 0
        self.write(name, Run(child.pid, started_s, settings, failures_count=failures_count))

    async def stop(self, names: Sequence[str], patience_s: float = STOP_S) -> None:
        """SIGTERM to all, SIGKILL to those that have not ended after patience_s. Returns when all have."""
        running = self.running(names)
        for process in running.values():
            send(process, signal.SIGTERM)
        until = time.monotonic() + patience_s
        while any(self.is_alive(process) for process in running.values()):
            if time.monotonic() > until:
                for process in running.values():
                    send(process, signal.SIGKILL)
            await asyncio.sleep(POLL_S)
        for name in running:
            run = self.read(name)
            if run is not None:
                self._children.pop(run.pid, None)
                ended = replace(run, ended_s=time.time(), ended="was stopped", failures_count=0)
                self.write(name, ended)


def send(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)  # psutil compares the start time first: no other process with that pid is hit


def describe_end(code: int | None, log: Path) -> str:
    """Why a process ended, for a person: the signal, or what it said last."""
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    if code == 0:
        return "ended by itself"
    status = f"ended with exit code {code}" if code is not None else "ended while no operator watched"
    said = member_log.last_complaint(log)
    return f"{status}: {said}" if said else status


def listeners(port: int) -> Iterator[str]:
    """Who listens on a TCP port of this machine, as far as that may be seen."""
    try:
        connections = psutil.net_connections("tcp")
    except (psutil.Error, OSError):  # /proc changes while it is read
        return
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            if connection.pid is None:
                continue
            try:
                yield f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.NoSuchProcess:
                continue
