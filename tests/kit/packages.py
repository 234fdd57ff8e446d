"""Packages for tests alone, in a folder of their own below `.cache/`: clients that the tests' environment should lack.

Installed by uv, which finds its index by itself; pinned, and checked by hash, also what builds those that are source.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".cache"
INSTALL_S = 300.0


class PackagesMissing(Exception):
    """They are not here and could not be fetched. The text says why."""


def require_packages(requirements: Path, built_with: Path) -> Path:
    """The folder for PYTHONPATH, made once for each list and Python. Raises PackagesMissing."""
    digest = hashlib.sha256(requirements.read_bytes() + built_with.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = CACHE / f"python-{requirements.parent.name}-{digest}"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"python-{requirements.parent.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes run side by side, one of them fetches
        if not folder.is_dir():
            _install(requirements, built_with, folder)
    return folder


def _install(requirements: Path, built_with: Path, folder: Path) -> None:
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    command = [
        *(str(Path(sys.executable).parent / "uv"), "pip", "install", "--quiet", "--python", sys.executable),
        *("--target", str(unfinished), "--require-hashes", "--build-constraints", str(built_with)),
        *("-r", str(requirements)),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PackagesMissing(f"{requirements.parent.name}: {error}") from error
    if done.returncode != 0:
        raise PackagesMissing(f"{requirements.parent.name}: {done.stderr.strip()[-500:]}")
    unfinished.rename(folder)
