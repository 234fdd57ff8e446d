"""etcd's raft as a Go module, for its data-driven test files: fetched by Go into `.cache/` of this checkout.

Go finds its proxy by itself and checks what it got against its checksum database; the checksum here is a second one.
`python -m tests.kit.go_raft` prints where the module is, or why not.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

MODULE, VERSION = "go.etcd.io/raft/v3", "v3.6.0"
CHECKSUM = "h1:5NtvbDVYpnfZWcIHgGRk9DyzkBIXOi8j+DDp1IcnUWQ="  # of all files, as go.sum has it
FETCH_TIMEOUT_S = 180.0

CACHE = Path(__file__).resolve().parents[2] / ".cache"


class GoRaftMissing(Exception):
    """The module is not here and could not be fetched. The text says why, in one line."""


@cache
def require_go_raft() -> Path:
    """The module's folder, read-only. Raises GoRaftMissing."""
    folder = CACHE / "go" / f"{MODULE}@{VERSION}"
    if folder.is_dir():
        return folder
    if shutil.which("go") is None:
        raise GoRaftMissing(f"no Go here to fetch {MODULE} {VERSION} with: apt-get install golang-go")
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "go.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes run side by side, one of them fetches
        if not folder.is_dir():
            fetch()
    return folder


def fetch() -> None:
    environment = {
        **os.environ,
        "GOMODCACHE": str(CACHE / "go"),
        "GOFLAGS": "-mod=mod -modcacherw",  # so that it can be deleted like anything else
        "GOWORK": "off",
    }
    with tempfile.TemporaryDirectory(prefix="go-fetch-", dir=CACHE) as work:
        (Path(work) / "go.mod").write_text("module fetch\n")
        command = ["go", "mod", "download", "-json", f"{MODULE}@{VERSION}"]
        try:
            answer = subprocess.run(
                command, cwd=work, env=environment, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise GoRaftMissing(f"{' '.join(command)} took longer than {FETCH_TIMEOUT_S:.0f} s") from None
    try:
        told = json.loads(answer.stdout)
    except ValueError:
        told = {"Error": (answer.stderr.strip() or f"exit status {answer.returncode}").splitlines()[-1]}
    if told.get("Error"):
        raise GoRaftMissing(f"{' '.join(command)}: {told['Error']}")
    if told["Sum"] != CHECKSUM:
        shutil.rmtree(told["Dir"])
        raise GoRaftMissing(f"{MODULE} {VERSION} has checksum {told['Sum']}, not {CHECKSUM}")


def main() -> int:
    try:
        print(require_go_raft())
    except GoRaftMissing as why:
        print(f"NOT RUN: {why}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
