"""Members as processes: known by pid and start time, outliving whoever started them, stopped for good."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from kvorum_operator.platforms.local.processes import Processes, Run, listeners

from tests.kit.deadline import wait_until
from tests.kit.ports import free_port

# A member that runs until it is told to end; the argument --config-file makes it findable.
MEMBER = "import signal, sys\nprint('ready', flush=True)\nsignal.sigwait([signal.SIGTERM])"
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\nsignal.pause()"
FAILING = """import sys
print('{"level":"info","msg":"starting"}')
print('{"level":"fatal","msg":"discovery failed","error":"couldn\\'t find local name"}')
print('{"level":"info","msg":"stopping"}')
sys.exit(1)"""
NOW_S = 2_000_000_000.0


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for process in psutil.process_iter(["cmdline"]):
        if any(str(tmp_path) in argument for argument in process.info["cmdline"] or ()):
            process.kill()


@contextmanager
def running(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Another process, up once it has said so, and gone in the end whatever happened."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


def command(folder: Path, program: str = MEMBER, name: str = "m-0") -> list[str]:
    return [sys.executable, "-c", program, "--config-file", str(folder / name / "config.yaml")]


def look(processes: Processes, name: str, now_s: float) -> tuple[Run | None, psutil.Process | None]:
    return processes.look([name], now_s)[name]


def wait_ready(folder: Path, name: str = "m-0") -> None:
    log = folder / name / "log"
    wait_until(lambda: log.exists() and "ready" in log.read_text(), 20, "the member is up")


def wait_ended(processes: Processes, name: str = "m-0") -> Run:
    wait_until(lambda: look(processes, name, NOW_S)[1] is None, 20, "the member has ended")
    run = processes.read(name)
    assert run is not None
    return run


def test_started_member_is_found_by_the_next_operator(folder: Path) -> None:
    processes = Processes(folder)
    processes.start("m-0", command(folder), "mark")
    wait_ready(folder)
    run, process = look(Processes(folder), "m-0", NOW_S)
    assert run is not None
    assert process is not None
    assert (run.pid, run.settings) == (process.pid, "mark")
    assert os.getsid(process.pid) == process.pid, "in a session of its own: no Ctrl-C of the terminal reaches it"
    asyncio.run(processes.stop(["m-0"]))


def test_another_process_with_the_same_pid_is_no_member(folder: Path) -> None:
    """After a reboot pids are given out again; this test's own is used for one."""
    processes = Processes(folder)
    own = psutil.Process()
    processes.write("m-0", Run(own.pid, own.create_time() - 10.0))
    assert look(processes, "m-0", NOW_S)[1] is None
    processes.write("m-1", Run(own.pid, own.create_time() + 0.5))
    assert look(processes, "m-1", NOW_S)[1] is not None, "the start time moves a little with the clock"


def test_member_whose_start_was_not_noted_down_is_found_by_its_command_line(folder: Path) -> None:
    """The operator was killed between the start and the note."""
    processes = Processes(folder)
    (folder / "m-0").mkdir()
    with running(command(folder)) as started:
        run, process = look(processes, "m-0", NOW_S)
        assert process is not None
        assert process.pid == started.pid
        assert processes.read("m-0") == run, "and noted down"


def test_editor_that_shows_the_file_is_no_member(folder: Path) -> None:
    (folder / "m-0").mkdir()
    with running([sys.executable, "-c", MEMBER, str(folder / "m-0" / "config.yaml")]):
        assert look(Processes(folder), "m-0", NOW_S)[1] is None


def test_end_is_told_by_its_signal_or_by_what_was_said_last(folder: Path) -> None:
    processes = Processes(folder)
    processes.start("m-0", command(folder), "")
    wait_ready(folder)
    run, process = look(processes, "m-0", NOW_S)
    assert run is not None
    assert process is not None
    process.kill()
    assert wait_ended(processes).ended == "was killed by SIGKILL"
    processes.start("m-1", command(folder, FAILING, "m-1"), "")
    assert wait_ended(processes, "m-1").ended == ("ended with exit code 1: discovery failed: couldn't find local name")


def test_failures_in_a_row_make_the_wait_longer_and_a_long_run_ends_the_row(folder: Path) -> None:
    processes = Processes(folder)
    waits = []
    for count in range(1, 6):
        processes.start("m-0", command(folder, FAILING), "")
        wait_until(lambda: look(processes, "m-0", started_s(processes) + 1)[1] is None, 20, "it has ended")
        run = processes.read("m-0")
        assert run is not None
        assert run.failures_count == count
        assert run.ended_s is not None
        waits.append(run.retry_at_s - run.ended_s)
    assert waits == [0.0, 1.0, 2.0, 4.0, 8.0]
    processes.start("m-0", command(folder, FAILING), "")
    wait_until(lambda: look(processes, "m-0", started_s(processes) + 31)[1] is None, 20, "it has ended")
    run = processes.read("m-0")
    assert run is not None
    assert run.failures_count == 1


def started_s(processes: Processes) -> float:
    run = processes.read("m-0")
    assert run is not None
    return run.started_s


def test_zombie_has_ended(folder: Path) -> None:
    """Its parent, an operator that runs on without looking, has not waited for it yet."""
    (folder / "m-0").mkdir()
    processes = Processes(folder)
    with running(command(folder)) as child:
        assert look(processes, "m-0", NOW_S)[1] is not None
        os.kill(child.pid, signal.SIGKILL)
        wait_until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE, 20, "it is a zombie")
        assert look(processes, "m-0", NOW_S)[1] is None


def test_stopped_member_is_no_failure(folder: Path) -> None:
    processes = Processes(folder)
    for name in ("m-0", "m-1"):
        processes.start(name, command(folder, name=name), "")
        wait_ready(folder, name)
    asyncio.run(processes.stop(["m-0", "m-1", "m-2"]))
    for name in ("m-0", "m-1"):
        run, process = look(processes, name, NOW_S)
        assert process is None
        assert run is not None
        assert (run.ended, run.failures_count) == ("was stopped", 0)


@pytest.mark.timeout(30)
def test_member_that_ignores_the_signal_is_killed(folder: Path) -> None:
    processes = Processes(folder)
    processes.start("m-0", command(folder, STUBBORN), "")
    wait_ready(folder)
    asyncio.run(processes.stop(["m-0"], patience_s=0.2))
    assert look(processes, "m-0", NOW_S)[1] is None


def test_environment_of_a_member_has_no_settings_of_etcd(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCD_NAME", "somebody")
    processes = Processes(folder)
    processes.start("m-0", command(folder), "")
    wait_ready(folder)
    _, process = look(processes, "m-0", NOW_S)
    assert process is not None
    assert "ETCD_NAME" not in process.environ()
    asyncio.run(processes.stop(["m-0"]))


def test_who_listens_on_a_port_is_named(folder: Path) -> None:
    port = free_port()
    listens = f"s = socket.create_server(('127.0.0.1', {port}))"
    program = f"import socket, signal\n{listens}\nprint('ready', flush=True)\nsignal.pause()"
    with running([sys.executable, "-c", program]) as server:
        (found,) = listeners(port)
        assert found.endswith(f"(pid {server.pid})")


def test_damaged_note_is_as_good_as_none(folder: Path) -> None:
    processes = Processes(folder)
    (folder / "m-0").mkdir()
    for text in ("", "[]", '{"pid": 1}', '{"pid": 1, "started_s": 2, "strange": 3}'):
        (folder / "m-0" / "process.json").write_text(text)
        assert look(processes, "m-0", NOW_S) == (None, None)


def test_run_is_read_as_written(folder: Path) -> None:
    processes = Processes(folder)
    run = Run(7, 1.5, "mark", 2.5, "was killed by SIGKILL", 3)
    processes.write("m-0", run)
    assert processes.read("m-0") == run
    assert replace(run, failures_count=99).retry_at_s == 32.5, "the longest wait is bounded"
