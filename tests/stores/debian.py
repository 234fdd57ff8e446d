"""What Debian installs for a program on a system that has nothing yet, how large that is, and a ZooKeeper unpacked.

apt is asked with a state of its own in which nothing is installed, so this machine's packages do not count.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kit.etcd import CACHE, Apt, EtcdMissing

JAVA_SIDE = re.compile(r"(zookeeper|junit4|.*-java|openjdk-\d+-jre-headless)$")  # what a ZooKeeper is made of


@dataclass(frozen=True, slots=True)
class Footprint:
    packages: int
    download_bytes: int
    disk_bytes: int


@contextmanager
def apt() -> Iterator["EmptySystem"]:
    """Of the suite that this machine runs, so that what is fetched runs here. Raises EtcdMissing."""
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="stores-apt-", dir=CACHE) as work:
        yield EmptySystem(Path(work))


class EmptySystem:
    def __init__(self, work: Path) -> None:
        self._work = work
        self._apt = Apt(work, suite())
        (work / "status").touch()
        with (work / "apt.conf").open("a") as file:
            file.write(f'Dir::State::status "{work}/status";\nAPT::Install-Recommends "false";\n')
        self._apt.run("update")

    def added(self, *packages: str) -> set[str]:
        """What comes with the packages beyond what every Debian has: apt, and all whose priority is required."""
        least = self._least()
        return self._closure(*least, *packages) - self._closure(*least)

    def _least(self) -> list[str]:
        known = self._ask("apt-cache", "dumpavail").split("\n\n")
        required = [one for one in known if "\nPriority: required\n" in one]
        return ["apt", *(one.split("\n", maxsplit=1)[0].removeprefix("Package: ") for one in required)]

    def _closure(self, *packages: str) -> set[str]:
        said = self._ask("apt-get", "-s", "install", *packages)
        return set(re.findall(r"^Inst (\S+)", said, re.MULTILINE))

    def footprint(self, *packages: str) -> Footprint:
        names = sorted(self.added(*packages))
        shown = self._ask("apt-cache", "show", "--no-all-versions", *names)
        sizes = [int(size) for size in re.findall(r"^Size: (\d+)$", shown, re.MULTILINE)]
        installed = [int(size) for size in re.findall(r"^Installed-Size: (\d+)$", shown, re.MULTILINE)]
        return Footprint(len(names), sum(sizes), 1024 * sum(installed))

    def version(self, package: str) -> str:
        found = re.search(r"^Version: (\S+)$", self._ask("apt-cache", "show", package), re.MULTILINE)
        if found is None:
            raise EtcdMissing(f"Debian's {suite()} has no {package}")
        return found[1]

    def unpack_zookeeper(self) -> Path:
        """A folder below .cache/ with ZooKeeper, its libraries and a Java, made once."""
        folder = CACHE / f"zookeeper-{self.version('zookeeper')}"
        if folder.is_dir():
            return folder
        names = sorted(name for name in self.added("zookeeper") if JAVA_SIDE.match(name))
        self._apt.run("download", *names)
        tree = self._work / "tree"
        for package in self._work.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(package), str(tree)], check=True)
        for link in tree.rglob("*"):
            if link.is_symlink() and os.readlink(link).startswith("/"):  # to /etc, where it is not installed
                target = tree / os.readlink(link).lstrip("/")
                link.unlink()
                link.symlink_to(os.path.relpath(target, link.parent))
        tree.rename(folder)
        return folder

    def _ask(self, *command: str) -> str:
        environment = {**os.environ, "APT_CONFIG": str(self._work / "apt.conf"), "LC_ALL": "C"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
        if done.returncode != 0:
            raise EtcdMissing(f"{' '.join(command[:3])}: {done.stderr.strip()[-300:]}")
        return done.stdout


def suite() -> str:
    found = re.search(r"^VERSION_CODENAME=(\w+)$", Path("/etc/os-release").read_text(), re.MULTILINE)
    if found is None:
        raise EtcdMissing("/etc/os-release names no suite of Debian")
    return found[1]
