"""What the API server was asked to write, as its audit log tells."""

import json
import subprocess
from dataclasses import dataclass

from tests.kubernetes.shared_kubernetes import CLUSTER

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
    log = subprocess.Popen([CLUSTER, "logs", "control-plane", "audit"], stdout=subprocess.PIPE)
    ours = subprocess.run(["grep", "-F", f'"username":"{user}"'], stdin=log.stdout, capture_output=True, check=False)
    log.wait()
    found = []
    for line in ours.stdout.splitlines():
        event = json.loads(line)
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
