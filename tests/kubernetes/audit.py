"""What the API server was asked to write, as its audit log tells."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Its log, and those that it was renamed to whenever it had 100 MB, by the API server's own default.
LOGS = Path(os.environ.get("KUBE_TEST_STATE", "/var/lib/kvorum-kubernetes")) / "machines" / "control-plane" / "log"
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True, slots=True)
class Write:
    at: str  # UTC, as RFC 3339 has it
    verb: str
    resource: str  # with its part, such as kvclusters/status
    name: str
    code: int


def writes_of(user: str, since: str) -> list[Write]:
    """All writes of a user from an instant on, by the audit log. since: as Write.at."""
    found = []
    for event in events_with(f'"username":"{user}"'):
        if event["user"]["username"] != user or event["verb"] not in WRITES:
            continue
        if event["requestReceivedTimestamp"] < since:
            continue
        about = event.get("objectRef", {})
        part = f"/{about['subresource']}" if "subresource" in about else ""
        found.append(
            Write(
                event["requestReceivedTimestamp"],
                event["verb"],
                about.get("resource", "") + part,
                about.get("name", ""),
                event.get("responseStatus", {}).get("code", 0),
            )
        )
    return found


def events_with(phrase: str) -> list[dict[str, Any]]:
    """All that the audit log has of requests in whose lines the phrase stands, the oldest first."""
    logs = sorted(LOGS.glob("audit*.log"), key=lambda log: log.stat().st_mtime)
    assert logs, f"no audit log in {LOGS}"
    ours = subprocess.run(["grep", "--no-filename", "--fixed-strings", phrase, *logs], capture_output=True, check=False)
    return [json.loads(line) for line in ours.stdout.splitlines()]
