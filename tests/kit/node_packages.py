"""Packages of npm for tests alone, in a folder of their own below `.cache/`: what a package-lock.json pins, by hash.

No script of a package is run. Needs node and npm on PATH.
"""

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

from tests.kit.packages import CACHE, INSTALL_S, PackagesMissing


def require_node_packages(project: Path) -> Path:
    """The folder for NODE_PATH of a folder with package.json and package-lock.json. Raises PackagesMissing."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise PackagesMissing(f"{project.name}: there is no node with npm here (apt-get install nodejs npm)")
    lock_file = (project / "package-lock.json").read_bytes()
    folder = CACHE / f"{project.name}-{hashlib.sha256(lock_file).hexdigest()[:12]}"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{project.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes run side by side, one of them fetches
        if not folder.is_dir():
            _install(project, folder)
    return folder / "node_modules"


def _install(project: Path, folder: Path) -> None:
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(project / name, unfinished)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(command, cwd=unfinished, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PackagesMissing(f"{project.name}: {error}") from error
    if done.returncode != 0:
        raise PackagesMissing(f"{project.name}: {done.stderr.strip()[-500:]}")
    unfinished.rename(folder)
