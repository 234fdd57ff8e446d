"""Patroni's own acceptance tests, its behave features, with the node in etcd's place.

They are in the source that Debian's package is made from, and not in PyPI's. They start `etcd` from PATH on its own
ports, stop it with SIGSTOP and SIGTERM, and take whatever listens there already for theirs: so each run has a network
namespace of its own, and an `etcd` on PATH that becomes the program under test, without a process in between.

`python -m tests.patroni.features FEATURE DRIVER ENGINE` runs one.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.kit.etcd import CACHE, REPOSITORY, Apt, EtcdMissing, require_etcd
from tests.patroni.machine import CannotRun, Machine, readable, require_libraries, require_machine

SUITE, VERSION = "trixie", "4.0.7"
SHA256 = "2d53ecc208c99afff180954adb6f0f891e56da0fcd4e1ab84912daab5cf39a7e"  # of its source
NAMES = ("patroni_api", "basic_replication", "dcs_failsafe_mode")
FEATURES_NEED = Path(__file__).with_name("features.txt")
NODE = REPOSITORY / "node-image"
FIRST_PROCESS = Path(__file__).with_name("first_process.py")
ONE_S = 1200.0  # each takes one to two minutes on two idle processors
# Of features, of scenarios, of steps: what passed, what failed, what was left out.
SUMMARY = re.compile(r"^(\d+) (\w+?)s? passed, (\d+) failed(?:, \d+ error)?, (\d+) skipped", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Outcome:
    feature: str
    driver: str
    engine: str
    passed: bool
    seconds: float
    text: str  # what behave printed

    def line(self) -> str:
        counted = [f"{passed} {what}s" for passed, what, _, _ in SUMMARY.findall(self.text)[1:]]
        verdict = "passed" if self.passed else "FAILED"
        which = f"{self.feature} by {self.driver} on {self.engine}"
        return f"{verdict}: {which}: {', '.join(counted) or 'no count'}, {self.seconds:.0f} s"


def require_source() -> Path:
    """Patroni's source, unpacked below .cache/. Raises CannotRun."""
    folder = CACHE / f"patroni-{VERSION}"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "patroni.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(prefix="patroni-fetch-", dir=CACHE) as work:
                try:
                    fetch(Path(work)).rename(folder)
                except EtcdMissing as why:
                    raise CannotRun(f"Patroni's source could not be fetched: {why}") from None
    return folder


def fetch(work: Path) -> Path:
    """Raises EtcdMissing, apt's way to fail here, and CannotRun."""
    apt = Apt(work, SUITE, "deb-src")
    apt.run("update")
    apt.run("source", "--download-only", "--tar-only", "patroni")
    archive = work / f"patroni_{VERSION}.orig.tar.gz"
    if not archive.is_file():
        raise CannotRun(f"{SUITE} has another Patroni than {VERSION}: {[one.name for one in work.glob('*.tar.*')]}")
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != SHA256:
        raise CannotRun(f"{archive.name} of {SUITE} has the checksum {found}, not {SHA256}")
    subprocess.run(["tar", "-C", str(work), "-xzf", str(archive)], check=True)
    return work / f"patroni-{VERSION}"


def run(machine: Machine, feature: str, driver: str, engine: str) -> Outcome:
    """Raises CannotRun."""
    source = require_source()
    needed = require_libraries(FEATURES_NEED, machine.python, machine.as_account)
    folder = Path(tempfile.mkdtemp(prefix=f"kvorum-feature-{driver}-{feature}-"))
    folder.chmod(0o755)
    place = folder / "patroni"
    shutil.copytree(source, place)
    give_all(machine, place)
    programs = folder / "bin"
    programs.mkdir()
    write_program(programs / "etcd", engine, machine)
    temporary = machine.give(folder / "tmp")
    environment = machine.environment(machine.give(folder / "home"), needed, machine.libraries, programs=[programs])
    # Anything that says CI makes Patroni's steps wait five times as long: they are not to measure a busy machine.
    environment |= {"DCS": driver, "GITHUB_ACTIONS": "1", "TMPDIR": str(temporary)}
    behave = [
        *(str(machine.python), "-m", "behave", "--format", "plain", "--no-color", "--no-capture", "--show-timings"),
        f"features/{feature}.feature",
    ]
    began_s = time.monotonic()
    with (folder / "behave.txt").open("w") as output:
        process = subprocess.Popen(
            [*alone(), *machine.command(*behave)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=place,
            env=environment,
        )
        try:
            code = process.wait(ONE_S)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            process.kill()
            process.wait()
    text = (folder / "behave.txt").read_text(errors="replace")
    passed = code == 0 and all_ran(text)
    if passed:
        shutil.rmtree(folder)
    else:
        text += f"\nwhat it left is in {folder}\n"
    return Outcome(feature, driver, engine, passed, time.monotonic() - began_s, text)


def all_ran(text: str) -> bool:
    """behave ends well where it left scenarios out, too."""
    found = SUMMARY.findall(text)
    return len(found) == 3 and all(int(passed) > 0 and failed == skipped == "0" for passed, _, failed, skipped in found)


def alone() -> list[str]:
    """What a command is prefixed with to have a network, and an end of all its processes, of its own.

    Raises CannotRun.
    """
    unshare = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.getuid() != 0:
        unshare[1:1] = ["--user", "--map-current-user", "--keep-caps"]
    command = [*unshare, sys.executable, str(FIRST_PROCESS)]
    try:
        tried = subprocess.run([*command, "true"], capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        raise CannotRun("unshare is not here: apt-get install util-linux") from None
    if tried.returncode != 0:
        raise CannotRun(f"no network namespace for Patroni's features: {tried.stderr.strip()}")
    return command


def write_program(path: Path, engine: str, machine: Machine) -> None:
    """An `etcd` that becomes the program under test: the same process, so that signals to it reach it."""
    if engine == "etcd":
        path.write_text(f'#!/bin/sh\nexec {require_etcd().etcd} "$@"\n')
    else:
        libraries = require_libraries(NODE / "requirements.txt", machine.python, machine.as_account)
        path.write_text(
            f"#!/bin/sh\nPYTHONPATH={readable(NODE, machine.as_account)}:{libraries} exec {machine.python} "
            '-c "from kvorum.program import main; main()" "$@"\n'
        )
    path.chmod(0o755)


def give_all(machine: Machine, folder: Path) -> None:
    for path in (folder, *(one for one in folder.rglob("*") if one.is_dir())):
        machine.give(path)


def main(feature: str, driver: str, engine: str) -> int:
    try:
        outcome = run(require_machine(), feature, driver, engine)
    except (CannotRun, EtcdMissing) as why:
        print(f"NOT RUN: {why}", file=sys.stderr)
        return 2
    print(outcome.text if not outcome.passed else "", outcome.line(), sep="\n")
    return 0 if outcome.passed else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
