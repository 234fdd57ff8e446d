"""The Kubernetes of ../shared, where it is there: its audit log, and what stops its parts. Any other has neither."""

import subprocess
from pathlib import Path

CLUSTER = Path(__file__).resolve().parents[3] / "shared" / "kubernetes" / "cluster"


def command(*arguments: str, deadline_s: float = 120.0) -> str:
    """What `cluster ARGUMENTS` prints. Raises AssertionError where it fails."""
    done = subprocess.run([CLUSTER, *arguments], capture_output=True, text=True, timeout=deadline_s, check=False)
    assert done.returncode == 0, f"cluster {' '.join(arguments)}: {done.stderr}{done.stdout}"
    return done.stdout
