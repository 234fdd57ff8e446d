"""One run of h2load, and what it counted. No figure without proof that the work was done."""

import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RUN_S_MAX = 120.0
CONNECTION_STREAMS_MAX = 64


class LoadFailed(Exception):
    """A run that gives no figure. The text says why."""


@dataclass(frozen=True, slots=True)
class Result:
    """requests: that succeeded, which is all; latency_ms: mean; answer_bytes: of one answer, gRPC's frame included."""

    requests: int
    requests_per_s: float
    latency_ms: float
    answer_bytes: float


def require_h2load() -> str | None:
    """Its path, None if it is missing."""
    return shutil.which("h2load")


def run(url: str, body: Path, *, requests: int, streams: int, headers: Sequence[str] = ()) -> Result:
    """Sends the body `requests` times with `streams` in flight, at most 64 on a connection. Raises LoadFailed.

    headers: added, each as `name: value`.
    """
    connections = -(-streams // CONNECTION_STREAMS_MAX)
    command: Sequence[str] = (
        "h2load",
        f"--requests={requests}",
        f"--clients={connections}",
        f"--max-concurrent-streams={streams // connections}",
        f"--data={body}",
        "--header=content-type: application/grpc",
        "--header=te: trailers",
        *(f"--header={header}" for header in headers),
        url,
    )
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S_MAX, check=False)
    except subprocess.TimeoutExpired:
        raise LoadFailed(f"{requests} requests took more than {RUN_S_MAX:.0f} s") from None
    if done.returncode != 0:
        raise LoadFailed(f"h2load ended with {done.returncode}: {done.stderr.strip()[-200:]}")
    return parse(done.stdout, requests)


def parse(output: str, requests: int) -> Result:
    """h2load's report. Raises LoadFailed unless all requests succeeded."""
    speed = re.search(r"^finished in .*?, ([0-9.]+) req/s", output, re.MULTILINE)
    counts = re.search(r"^requests: (\d+) total, .* (\d+) succeeded, (\d+) failed, (\d+) errored", output, re.MULTILINE)
    data = re.search(r"\((\d+)\) data$", output, re.MULTILINE)
    mean = re.search(r"^time for request: +\S+ +\S+ +([0-9.]+)(us|ms|s) ", output, re.MULTILINE)
    if speed is None or counts is None or data is None or mean is None:
        raise LoadFailed(f"h2load's report is not understood: {output[-400:]}")
    succeeded = int(counts.group(2))
    if succeeded != requests:
        raise LoadFailed(f"{succeeded} of {requests} requests succeeded")
    unit_ms = {"us": 0.001, "ms": 1.0, "s": 1000.0}[mean.group(2)]
    return Result(succeeded, float(speed.group(1)), float(mean.group(1)) * unit_ms, int(data.group(1)) / requests)


def require_puts(revision_before: int, revision_after: int, result: Result) -> None:
    """h2load sees HTTP's status and not gRPC's: what was put is what the store counts. Raises LoadFailed."""
    if revision_after - revision_before != result.requests:
        raise LoadFailed(f"{result.requests} puts counted, the revision rose by {revision_after - revision_before}")


def require_ranges(result: Result, answer_bytes: int) -> None:
    """Every range found its key: all answers are as long as one with a key, give or take the digits of revisions."""
    if abs(result.answer_bytes - answer_bytes) > 12:
        raise LoadFailed(f"answers of {result.answer_bytes:.0f} bytes, one with a key has {answer_bytes}")


class Processor:
    """How busy the whole machine was over a while, in cores."""

    def __init__(self) -> None:
        self._busy_s, self._at = busy_s(), time.monotonic()

    def cores(self) -> float:
        """Since the last call, or since it was made."""
        busy, at = busy_s(), time.monotonic()
        cores = (busy - self._busy_s) / max(at - self._at, 0.001)
        self._busy_s, self._at = busy, at
        return cores


def busy_s() -> float:
    """Processor time that all processes have used since the start of the machine, in seconds."""
    import psutil

    times = psutil.cpu_times()
    return float(times.user + times.system + times.nice)
