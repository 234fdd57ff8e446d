"""A local cluster, from the document to its processes, pass after pass, until a signal or the cluster's being ready.

The only place that waits. SIGINT and SIGTERM stop the members and keep their data; SIGHUP and the end of --once leave
them running, and so does the operator's own death.
"""

import asyncio
import contextlib
import shlex
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import Engine, KVCluster, Status, without_meaning_locally
from kvorum_operator.cluster import status as statuses
from kvorum_operator.cluster.rules.sleep import stop_order
from kvorum_operator.cluster.step import Hold
from kvorum_operator.members.asking import Members
from kvorum_operator.platforms.local import engines
from kvorum_operator.platforms.local.document import POLL_S, Document, Reading
from kvorum_operator.platforms.local.machine import LocalPlatform, port_taken
from kvorum_operator.platforms.local.screen import Hints, Lines, LiveTable, Screen, ready_condition
from kvorum_operator.platforms.local.state_directory import (
    BASE_PORT_DEFAULT,
    Identity,
    StateDirectory,
    StateRefused,
    addresses,
)
from kvorum_operator.reconcile import Outcome, Reconciler

MOVING_S = 0.3  # between passes while something is under way
SETTLED_S = 1.0  # and when all is as it should be: a dead member is noticed that soon

WAIT_TIMEOUT_S = 120.0

EXIT_OK, EXIT_FAILED = 0, 1


@dataclass(frozen=True, slots=True)
class Options:
    file: Path
    state_dir: Path | None
    base_port: int | None
    once: bool  # take what steps can be taken now, then leave
    wait_ready: bool  # leave when the cluster is ready
    timeout_s: float = WAIT_TIMEOUT_S  # for wait_ready


class Refused(Exception):
    """The operator cannot start. The text says what was seen and the way out."""


@dataclass(slots=True)
class Signals:
    """What signals have asked for. woken: set by each of them."""

    woken: asyncio.Event
    stop_count: int = 0
    leave: bool = False

    def install(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._leave)

    def _stop(self) -> None:
        self.stop_count += 1
        self.woken.set()

    def _leave(self) -> None:
        self.leave = True
        self.woken.set()

    @property
    def ending(self) -> bool:
        return self.leave or self.stop_count > 0


def state_path(file: Path, name: str, state_dir: Path | None) -> Path:
    return (state_dir if state_dir is not None else file.parent / ".kvorum" / name).absolute()


async def run(options: Options) -> int:
    """Raises Refused before anything is touched."""
    document = Document(options.file)
    cluster = document.reading.cluster
    if cluster is None:
        raise Refused(refusal(options.file, document.reading))
    programs = find_programs(cluster.spec.engine)
    state = StateDirectory(state_path(options.file, cluster.metadata.name, options.state_dir))
    try:
        if state.read_identity() is None:
            require_free_ports(cluster, options.base_port)
        state.lock()
        identity = state.require_identity(cluster, options.base_port)
        state.read_record()
        state.sweep()
    except StateRefused as error:
        state.unlock()
        raise Refused(str(error)) from None
    except OSError as error:
        state.unlock()
        raise Refused(f"{state.path} cannot be used: {error.strerror}\n  Choose another with --state-dir.") from None
    operator = Operator(options, document, cluster, state, identity, LocalPlatform(state, identity, programs))
    try:
        return await operator.run()
    finally:
        with contextlib.suppress(OSError):  # the terminal may be gone
            operator.screen.close()
        await operator.members.close()
        state.unlock()


def refusal(file: Path, reading: Reading) -> str:
    if reading.missing:
        return f"{reading.problems[0]}\n  Name the file that describes the cluster with -f."
    return "\n".join(f"{file}: {problem}" for problem in reading.problems)


def find_programs(engine: Engine) -> engines.Programs:
    """Raises Refused when there is none of the wanted engine; members of another one are held for theirs."""
    programs = engines.Programs()
    found = programs.find(engine)
    if found.path is None:
        way_out = "Put one on PATH" if engine is Engine.ETCD else "Install the distribution kvorum beside the operator"
        raise Refused(f"spec.engine is {engine}: {'; '.join(found.passed_over)}\n  {way_out}.")
    return programs


def require_free_ports(cluster: KVCluster, base_port: int | None) -> None:
    """Before anything is written: from the first member on the ports are permanent."""
    planned = addresses(Identity(cluster.metadata.name, "", "", base_port or BASE_PORT_DEFAULT))
    for address in list(planned.values())[: cluster.spec.replicas]:
        if taken := port_taken(address):
            raise Refused(f"{address.name} cannot be started: {taken}\n  Choose other ports with --base-port.")


class Operator:
    def __init__(
        self,
        options: Options,
        document: Document,
        cluster: KVCluster,
        state: StateDirectory,
        identity: Identity,
        platform: LocalPlatform,
    ) -> None:
        self.options = options
        self.document = document
        self.cluster = cluster  # the last good one
        self.state = state
        self.identity = identity
        self.platform = platform
        self.members = Members()
        self.screen: Screen = make_screen(options, identity, state)
        before = state.read_resource()
        self.reconciler = Reconciler(platform, self.members, before.status if before and before.status else Status())
        self.generation = self.reconciler.status.observed_generation
        if before is None or before.spec != cluster.spec:
            self.generation += 1
        self.held: Hold | None = None
        self._complaint = ""
        self._written: Status | None = None
        self._written_s = 0.0

    async def run(self) -> int:
        signals = Signals(asyncio.Event())
        signals.install()
        self.introduce()
        deadline_s = time.monotonic() + self.options.timeout_s
        while not signals.ending:
            outcome = None
            try:
                outcome = await self.run_pass()
            except OSError as error:  # a full disk, a directory that went away: seen again and again until it is well
                self.complain(error)
            exit_status = self.judge_pass(outcome, deadline_s)
            if exit_status is not None:
                return exit_status
            if outcome is None or not outcome.acted:
                await self.wait(signals, MOVING_S if outcome is not None and outcome.moving else SETTLED_S)
        if signals.stop_count:
            await self.stop(signals)
        else:
            with contextlib.suppress(OSError):  # SIGHUP: the terminal is gone
                self.screen.say("end", "the members keep running")
        return EXIT_OK

    def judge_pass(self, outcome: Outcome | None, deadline_s: float) -> int | None:
        """The exit status, if --wait or --once ends with this pass; outcome is None where the pass failed."""
        if self.options.wait_ready:
            if outcome is not None and outcome.ready:
                return EXIT_OK
            if time.monotonic() > deadline_s:
                why = ready_condition(outcome.status).message if outcome is not None else self._complaint
                self.screen.say("error", f"not ready within {self.options.timeout_s:g} s: {why}")
                return EXIT_FAILED
        elif self.options.once and (outcome is None or not outcome.acted):
            return EXIT_OK if outcome is not None and outcome.refused is None else EXIT_FAILED
        return None

    def complain(self, error: OSError) -> None:
        """Once for each trouble. Raises when nobody can be told."""
        text = f"{error.filename or self.state.path}: {error.strerror}"
        if text != self._complaint:
            self._complaint = text
            self.screen.say("error", text)

    def introduce(self) -> None:
        spec = self.cluster.spec
        self.screen.say(
            "begin",
            f"{self.identity.name}: {spec.replicas} members of engine {spec.engine}, state in {self.state.path}",
        )
        for path in without_meaning_locally(self.cluster):
            self.screen.say("note", f"{path} has no meaning on a single machine and is not used")

    async def wait(self, signals: Signals, longest_s: float) -> None:
        """Until a signal, a change of the document, or for so long."""
        until = time.monotonic() + longest_s
        while not signals.ending and not self.document_changed() and (left := until - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(signals.woken.wait(), min(left, POLL_S))
            except TimeoutError:
                continue

    def document_changed(self) -> bool:
        if not self.document.poll():
            return False
        self.held = self.judge(self.document.reading)
        if self.held is not None:
            self.screen.say("error", self.held.because)
        return True

    def judge(self, reading: Reading) -> Hold | None:
        """Takes a good document over; of another kind says why nothing is touched."""
        waits_for = f"{self.document.path} to be put right"
        if reading.cluster is None:
            reason = Reason.SPEC_MISSING if reading.missing else Reason.SPEC_INVALID
            return Hold(reason, "; ".join(reading.problems), waits_for)
        if problem := self.state.other_cluster(self.identity, reading.cluster):
            return Hold(Reason.SPEC_INVALID, problem, waits_for)
        if reading.cluster.spec != self.cluster.spec:
            self.generation += 1
        self.cluster = reading.cluster
        return None

    async def run_pass(self, held: Hold | None = None) -> Outcome:
        outcome = await self.reconciler.run_pass(self.cluster, self.generation, held or self.held)
        if statuses.worth_writing(outcome.status, self._written, self._written_s, outcome.seen.now_s):
            self.state.write_status(self.cluster, outcome.status)
            self._written, self._written_s = outcome.status, outcome.seen.now_s
        self.screen.show(outcome)
        return outcome

    async def stop(self, signals: Signals) -> None:
        self.screen.say(
            "stop",
            "the members are being stopped, their data is kept; Ctrl-C again leaves those that still run running",
        )
        stopping = asyncio.create_task(self.stop_members())
        asked, again = signals.stop_count, start_again(self.options)
        while not stopping.done():
            signals.woken.clear()
            waking = asyncio.create_task(signals.woken.wait())
            await asyncio.wait((stopping, waking), return_when=asyncio.FIRST_COMPLETED)
            waking.cancel()
            if signals.stop_count > asked or signals.leave:
                stopping.cancel()
                await asyncio.wait((stopping,))
                self.screen.say("end", f"not waited for: some members may still run; {again}")
                return
        stopping.result()
        self.screen.say("end", f"stopped; {again}")

    async def stop_members(self) -> None:
        seen = await self.reconciler.observe(self.cluster)
        await self.platform.stop(stop_order(seen))
        await self.run_pass(Hold(Reason.STOPPED, "the operator was told to stop the members", "its next start"))


def make_screen(options: Options, identity: Identity, state: StateDirectory) -> Screen:
    hints = Hints(f"{identity.name}  ({state.path})", command_line(options))
    terminal = sys.stdout.isatty() and not options.once and not options.wait_ready
    kind: Callable[[Hints], Screen] = LiveTable if terminal else Lines
    return kind(hints)


def command_line(options: Options) -> str:
    """A line that a person can paste: etcdctl by its full path, or our own verbs where there is none."""
    etcdctl = engines.find_etcd("etcdctl")
    if etcdctl.path is not None:
        return f"{etcdctl.path} --endpoints={{endpoints}} member list -w table"
    where = ["--state-dir", str(options.state_dir)] if options.state_dir is not None else ["-f", str(options.file)]
    return shlex.join([sys.argv[0], "local", "members", *where])


def start_again(options: Options) -> str:
    """The call that finds the same cluster again."""
    state_dir = ["--state-dir", str(options.state_dir)] if options.state_dir is not None else []
    return f"start again with: {shlex.join([sys.argv[0], 'local', '-f', str(options.file), *state_dir])}"
