"""What this machine has to run Patroni with: PostgreSQL, an account that may run it, a Python with Patroni's packages.

PostgreSQL refuses to be root's, so root runs it, and Patroni, as postgres. That account cannot read a home of root's,
where this process' own Python may lie: the interpreter is one that it can run, packages lie in a folder of their own.
Knows nothing of what is run.
"""

import atexit
import fcntl
import hashlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.kit.etcd import CACHE, REPOSITORY

POSTGRESQL = "15"  # Debian 12's; any later one that is there will do
POSTGRESQL_MIN = 12  # what pg_rewind without a restore_command of its own asks for
INSTALLED = Path("/usr/lib/postgresql")
ACCOUNT = "postgres"
REQUIREMENTS = REPOSITORY / "examples" / "patroni" / "requirements.txt"
BUILT_WITH = REPOSITORY / "examples" / "patroni" / "build-requirements.txt"
PYTHON_MIN = (3, 11)
APT_S, PIP_S = 600.0, 600.0


class CannotRun(Exception):
    """This machine lacks something that is needed. The text says what, and the way out."""


@dataclass(frozen=True, slots=True)
class Machine:
    """programs: PostgreSQL's own folder of them. python: an interpreter that the account can run.

    libraries: of Patroni. as_account: what a command is prefixed with.
    """

    programs: Path
    python: Path
    libraries: Path
    as_account: tuple[str, ...]

    def command(self, *arguments: str) -> list[str]:
        return [*self.as_account, *arguments]

    def environment(self, home: Path, *libraries: Path, programs: Sequence[Path] = ()) -> dict[str, str]:
        """A whole one: nothing of this process' own settings or of a proxy reaches what is run."""
        path = [*programs, self.programs, Path("/usr/bin"), Path("/bin"), Path("/usr/sbin"), Path("/sbin")]
        return {
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "PATH": os.pathsep.join(map(str, path)),
            "PYTHONPATH": os.pathsep.join(map(str, libraries or (self.libraries,))),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def give(self, folder: Path) -> Path:
        """Makes the folder, and makes it the account's."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.as_account:
            account = pwd.getpwnam(ACCOUNT)
            os.chown(folder, account.pw_uid, account.pw_gid)
        return folder


def require_machine() -> Machine:
    """Installs PostgreSQL where it is missing and this is root. Raises CannotRun."""
    programs = require_postgresql()
    as_account = require_account()
    python = require_python(as_account)
    return Machine(programs, python, require_libraries(REQUIREMENTS, python, as_account), as_account)


def require_postgresql() -> Path:
    """Raises CannotRun."""
    found = next(postgresqls(), None)
    if found is not None:
        return found
    package = f"postgresql-{POSTGRESQL}"
    if os.getuid() != 0 or shutil.which("apt-get") is None:
        raise CannotRun(f"no PostgreSQL {POSTGRESQL_MIN} or later below {INSTALLED}: apt-get install {package}")
    print(f"apt-get install {package}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", package]):
        done = subprocess.run(
            ["apt-get", "-qq", *command],
            capture_output=True,
            text=True,
            timeout=APT_S,
            env=environment,
            check=False,
        )
        if done.returncode != 0:
            raise CannotRun(f"apt-get {command[0]} failed: {(done.stderr or done.stdout).strip()[-500:]}")
    found = next(postgresqls(), None)
    if found is None:
        raise CannotRun(f"{package} is installed, and there is no {INSTALLED / POSTGRESQL / 'bin' / 'postgres'}")
    return found


def postgresqls() -> Iterator[Path]:
    """Debian's folders, the wanted version first, then the newest; then PATH."""
    versions = [folder for folder in INSTALLED.glob("*") if folder.name.isdigit()]
    versions.sort(key=lambda folder: (folder.name == POSTGRESQL, int(folder.name)), reverse=True)
    for folder in versions:
        if int(folder.name) >= POSTGRESQL_MIN and (folder / "bin" / "postgres").exists():
            yield folder / "bin"
    initdb = shutil.which("initdb")
    if initdb is not None:
        yield Path(initdb).resolve().parent


def require_account() -> tuple[str, ...]:
    """How a command is run so that PostgreSQL takes it, and ends when this process does. Raises CannotRun."""
    setpriv = shutil.which("setpriv")
    if os.getuid() != 0:
        return (setpriv, "--pdeathsig=KILL") if setpriv else ()
    if setpriv is None:
        raise CannotRun("PostgreSQL does not run as root, and setpriv is not here: apt-get install util-linux")
    try:
        pwd.getpwnam(ACCOUNT)
    except KeyError:
        raise CannotRun(
            f"PostgreSQL does not run as root, and no account {ACCOUNT} is here: useradd {ACCOUNT}"
        ) from None
    # The parent's death is asked for last: a change of user forgets it.
    return (
        *(setpriv, f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--init-groups"),
        *(setpriv, "--pdeathsig=KILL"),
    )


def require_python(as_account: Sequence[str]) -> Path:
    """The first interpreter that the account can run. Raises CannotRun."""
    asked = "import sys; raise SystemExit(sys.version_info < " + repr(PYTHON_MIN) + ")"
    tried: list[str] = []
    for path in (Path(sys.executable).resolve(), Path("/usr/bin/python3"), Path("/usr/local/bin/python3")):
        if not path.exists():
            continue
        done = subprocess.run([*as_account, str(path), "-c", asked], capture_output=True, cwd="/", check=False)
        if done.returncode == 0:
            return path
        tried.append(str(path))
    raise CannotRun(
        f"no Python 3.11 or later that {ACCOUNT} may run (tried {', '.join(tried)}): apt-get install python3"
    )


def require_libraries(requirements: Path, python: Path, as_account: tuple[str, ...]) -> Path:
    """A folder of packages below .cache/, made once for each list of them and Python. Raises CannotRun."""
    told = subprocess.run([str(python), "-VV"], capture_output=True, check=True).stdout
    digest = hashlib.sha256(requirements.read_bytes() + BUILT_WITH.read_bytes() + told).hexdigest()[:12]
    folder = CACHE / f"python-{requirements.parent.name}-{digest}"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "patroni.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            install(requirements, python, folder)
    return readable(folder, as_account)


def readable(folder: Path, as_account: tuple[str, ...]) -> Path:
    """The folder, or a copy until this process ends where the account may not get to it: a checkout in a home."""
    if subprocess.run([*as_account, "test", "-r", str(folder)], check=False).returncode == 0:
        return folder
    return copied(folder)


@cache
def copied(folder: Path) -> Path:
    place = Path(tempfile.mkdtemp(prefix="kvorum-readable-"))
    atexit.register(shutil.rmtree, place)
    place.chmod(0o755)
    return Path(shutil.copytree(folder, place / folder.name))


def install(requirements: Path, python: Path, folder: Path) -> None:
    uv = Path(sys.executable).parent / "uv"
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    command = [
        *(str(uv), "pip", "install", "--quiet", "--python", str(python), "--target", str(unfinished)),
        *("--require-hashes", "--build-constraints", str(BUILT_WITH), "-r", str(requirements)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_S, check=False)
    if done.returncode != 0:
        raise CannotRun(f"the packages of {requirements.name} could not be installed: {done.stderr.strip()[-500:]}")
    unfinished.rename(folder)


def run(machine: Machine, *arguments: str, environment: Mapping[str, str], deadline_s: float) -> str:
    """What a command of the account prints. Raises AssertionError with what it said if it fails."""
    done = subprocess.run(
        machine.command(*arguments),
        capture_output=True,
        text=True,
        timeout=deadline_s,
        env=dict(environment),
        cwd="/",
        check=False,
    )
    assert done.returncode == 0, f"{arguments[0]}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout
