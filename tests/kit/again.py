"""pytest, and what failed once more by itself: whole clusters as processes share a busy machine with each other.

Whatever passes only then is named in a line of its own, FLAKY, which CI shows at its end. What draws its own numbers is
never run again: another seed would hide what this one has found.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.kit.etcd import REPOSITORY

DRAWS = ("differential", "random", "seed", "crash", "power_cut")  # in the names of tests that do


def run(arguments: Sequence[str], cache: Path, environment: Mapping[str, str] | None = None) -> int:
    """pytest's exit code. cache: a directory, where pytest leaves which tests failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-o", f"cache_dir={cache}", *arguments]
    code = _pytest(command, environment)
    if code != pytest.ExitCode.TESTS_FAILED:
        return code
    failed = list(json.loads((cache / "v" / "cache" / "lastfailed").read_text()))
    if any(word in name for name in failed for word in DRAWS):
        return code
    print("RUN AGAIN, by themselves:", *failed, sep="\n  ", flush=True)
    again = _pytest([*command, "--last-failed"], environment)
    if again == pytest.ExitCode.OK:
        for name in failed:
            print(f"FLAKY: failed once, and passed when it was run again: {name}", flush=True)
    return again


def _pytest(command: Sequence[str], environment: Mapping[str, str] | None) -> int:
    return subprocess.run(command, cwd=REPOSITORY, env=environment, check=False).returncode


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(run(sys.argv[1:], Path(folder)))
