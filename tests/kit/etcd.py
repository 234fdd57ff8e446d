"""A real etcd to compare with: the first etcd, etcdctl and etcdutl that report 3.5.16 or a later 3.5.

Looked for on PATH, then below `.cache/` of this checkout; else taken from Debian's packages, which are unpacked below
`.cache/` and not installed: apt gets folders and sources of its own, so it needs no root and changes nothing of the
system. Of the system it uses where its Debian mirror is, its signing keys, and its proxy and certificate settings.

`python -m tests.kit.etcd` prints what was found, what was passed over and why.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROGRAMS = ("etcd", "etcdctl", "etcdutl")
PATCH_MIN = (
    16  # of 3.5: before it, RangeStream's absence, manual progress and some error codes differ from what we claim
)
SUITES = ("sid", "trixie")  # the newest first
OLDEST_SUITE = "trixie"
PACKAGES = ("etcd-server", "etcd-client")
APT_TIMEOUT_S = 180.0

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = REPOSITORY / ".cache"


@dataclass(frozen=True, slots=True)
class Etcd:
    """Three programs of one etcd. passed_over: sentences on what was found and not taken."""

    version: str
    etcd: Path
    etcdctl: Path
    etcdutl: Path
    passed_over: tuple[str, ...] = ()


class EtcdMissing(Exception):
    """No usable etcd is here and none could be fetched. The text says why, in one line."""


@cache
def require_etcd() -> Etcd:
    """The real etcd to compare with. Raises EtcdMissing."""
    passed_over: list[str] = []
    for folder in folders():
        found = probe(folder, passed_over)
        if found is not None:
            return found
    failures: list[str] = []
    for suite in SUITES:
        try:
            folder = fetch(suite)
        except EtcdMissing as failure:
            failures.append(f"{suite}: {failure}")
            continue
        found = probe(folder, passed_over)
        if found is not None:
            return found
        failures.append(f"{suite}: {passed_over[-1]}")
    raise EtcdMissing("; ".join(("no etcd 3.5.16 or later 3.5 on PATH or in .cache", *failures)))


@cache
def require_oldest_etcd() -> Etcd:
    """The oldest etcd that may share a cluster with ours, 3.5.16, which is Debian 13's. Raises EtcdMissing."""
    passed_over: list[str] = []
    found = probe(fetch(OLDEST_SUITE), passed_over)
    if found is None:
        raise EtcdMissing(passed_over[-1])
    if found.version != f"3.5.{PATCH_MIN}":
        raise EtcdMissing(f"{OLDEST_SUITE} has {found.version}, and 3.5.{PATCH_MIN} was asked for")
    return found


def folders() -> Iterator[Path]:
    """Where an etcd may be, in the order of preference."""
    for name in os.get_exec_path():
        if name and shutil.which("etcd", path=name):  # not a folder we may not read
            yield Path(name)
    yield from sorted(CACHE.glob("etcd-*/usr/bin"), reverse=True)


def probe(folder: Path, passed_over: list[str]) -> Etcd | None:
    """The etcd in a folder if it can be compared with, else None and a sentence more in passed_over."""
    versions: dict[str, str] = {}
    for program in PROGRAMS:
        path = folder / program
        if not path.is_file():
            passed_over.append(f"passed over {folder / 'etcd'}: no {program} beside it")
            return None
        version = read_version(path)
        if version is None:
            passed_over.append(f"passed over {path}: it does not tell its version")
            return None
        if not is_comparable(version):
            passed_over.append(f"passed over {program} {version} at {path}: not 3.5.{PATCH_MIN} or a later 3.5")
            return None
        versions[program] = version
    return Etcd(versions["etcd"], folder / "etcd", folder / "etcdctl", folder / "etcdutl", tuple(passed_over))


def read_version(program: Path) -> str | None:
    """What a program says its version is: `etcd Version: 3.5.30`, `etcdctl version: 3.5.30`; None if nothing usable."""
    argument = "--version" if program.name == "etcd" else "version"
    try:
        answer = subprocess.run([program, argument], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"^\w+ [Vv]ersion: (\d+\.\d+\.\d+)", answer.stdout, re.MULTILINE)
    return found.group(1) if found else None


def is_comparable(version: str) -> bool:
    major, minor, patch = (int(part) for part in version.split("."))
    return (major, minor) == (3, 5) and patch >= PATCH_MIN


def fetch(suite: str) -> Path:
    """Debian's etcd of a suite, unpacked below .cache: its folder of programs. Raises EtcdMissing."""
    for tool in ("apt-get", "apt-config", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise EtcdMissing(f"{tool} is not here to fetch Debian's packages with")
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "etcd.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes run side by side, one of them fetches
        done = sorted(CACHE.glob(f"etcd-*/.{suite}"))
        if done:
            return done[-1].parent / "usr/bin"
        with tempfile.TemporaryDirectory(prefix="etcd-fetch-", dir=CACHE) as work:
            return unpack(suite, Path(work))


def unpack(suite: str, work: Path) -> Path:
    apt = Apt(work, suite)
    apt.run("update")
    apt.run("download", *PACKAGES)
    tree = work / "tree"
    packages = sorted(work.glob("*.deb"))
    for package in packages:
        run(["dpkg-deb", "-x", str(package), str(tree)], work, os.environ)
    version = read_version(tree / "usr/bin/etcd")
    if version is None:
        raise EtcdMissing(f"{', '.join(package.name for package in packages)}: etcd does not run here")
    (tree / f".{suite}").touch()
    target = CACHE / f"etcd-{version}"
    if target.exists():
        shutil.rmtree(target)
    tree.rename(target)
    return target / "usr/bin"


class Apt:
    """apt with its own lists, cache, sources and configuration in a folder, and one suite of the system's mirror.

    types: deb for packages, deb-src for what they are made of.
    """

    def __init__(self, work: Path, suite: str, types: str = "deb") -> None:
        self._work = work
        for folder in ("lists/partial", "cache/archives/partial"):
            (work / folder).mkdir(parents=True)
        (work / "kvorum.sources").write_text(source_of(suite, types))
        # The system's hooks (refreshing catalogues, cleaning caches) must not run for us; what it says on how to
        # reach the mirror must hold. APT_CONFIG is read first, so it can leave out everything after it.
        acquire = subprocess.run(
            ["apt-config", "dump", "Acquire"], capture_output=True, text=True, timeout=30, check=False
        )
        (work / "apt.conf").write_text(
            'Dir::Etc::parts "/dev/null";\nDir::Etc::main "/dev/null";\n'
            f'Dir::Etc::sourcelist "{work}/kvorum.sources";\nDir::Etc::sourceparts "/dev/null";\n'
            f'Dir::State::lists "{work}/lists";\nDir::Cache "{work}/cache";\n'
            'APT::Sandbox::User "root";\nAcquire::Languages "none";\n'
            + "".join(line + "\n" for line in acquire.stdout.splitlines() if line.startswith("Acquire::"))
        )

    def run(self, *arguments: str) -> None:
        run(["apt-get", "-q", *arguments], self._work, {**os.environ, "APT_CONFIG": str(self._work / "apt.conf")})


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    """Raises EtcdMissing with the last line the command said."""
    try:
        answer = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=APT_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise EtcdMissing(f"{' '.join(command)} took longer than {APT_TIMEOUT_S:.0f} s") from None
    # `update` reports a mirror that does not answer as a warning, and goes on with nothing.
    said = [line for line in answer.stderr.splitlines() if line.startswith(("E:", "W: Failed"))]
    if answer.returncode != 0 or said:
        raise EtcdMissing(f"{' '.join(command)}: {said[-1] if said else f'exit status {answer.returncode}'}")


def source_of(suite: str, types: str = "deb") -> str:
    """A deb822 source of one suite, from the mirror and with the keys that the system itself uses for Debian.

    Raises EtcdMissing if the system has no such source.
    """
    for uri, keys in system_sources():
        if uri.rstrip("/").endswith("/debian"):
            return f"Types: {types}\nURIs: {uri}\nSuites: {suite}\nComponents: main\n" + (
                f"Signed-By: {keys}\n" if keys else ""
            )
    raise EtcdMissing("apt's sources name no Debian mirror")


def system_sources(etc: Path = Path("/etc/apt")) -> Iterator[tuple[str, str]]:
    """(URI, keyring or empty) of apt's binary sources, in both of its formats."""
    for path in sorted(etc.glob("sources.list.d/*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text()):
            lines = (line for line in stanza.splitlines() if not line.startswith("#"))
            fields = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
            if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes") != "no":
                for uri in fields.get("uris", "").split():
                    yield uri, fields.get("signed-by", "")
    for path in [etc / "sources.list", *sorted(etc.glob("sources.list.d/*.list"))]:
        if not path.is_file():
            continue
        for found in re.finditer(r"^deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+\S+", path.read_text(), re.MULTILINE):
            options = dict(part.partition("=")[::2] for part in (found.group(1) or "").split())
            yield found.group(2), options.get("signed-by", "")


def main() -> int:
    try:
        found = require_etcd()
    except EtcdMissing as why:
        print(f"NOT RUN: {why}", file=sys.stderr)
        return 1
    for sentence in found.passed_over:
        print(sentence)
    print(f"etcd {found.version}: {found.etcd} {found.etcdctl} {found.etcdutl}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
