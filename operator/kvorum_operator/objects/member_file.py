"""A member's configuration file: etcd's own format, which both engines read. Pure.

What a member needs to join is in here and nowhere else (I7). The file is *new* until the cluster has an id, *open* only
while the member list has an entry for it that never started, and *sealed* from then on: with data both engines ignore
`initial-cluster`, and with an emptied volume a sealed file makes them refuse, where an open one would let a voter that
forgot its votes rejoin silently.
"""

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum

import yaml

from kvorum_operator.api.v1alpha1 import Settings
from kvorum_operator.cluster.observation import Address, Observation

# With no data and a sealed file an etcd ends with this, and it ends so in no other case. A node of ours says it too,
# and stays up as data-lost.
SEALED_REFUSAL = "couldn't find local name"
# In a sealed file the own peer URL stands under this name. It is no member's: those end in their ordinal.
NOBODY = "sealed"


class FileState(StrEnum):
    NEW = "new"
    OPEN = "open"
    SEALED = "sealed"


@dataclass(frozen=True, slots=True)
class Place:
    """Where on its machine a member keeps its data and listens."""

    data_dir: str
    listen_client_url: str
    listen_peer_url: str
    listen_metrics_url: str = ""  # empty: /metrics and health are asked for at the client URL


def file_state(name: str, seen: Observation) -> FileState:
    if seen.cluster_id is None:
        return FileState.NEW
    entry = seen.entry_named(name)
    if entry is not None and not entry.started:
        return FileState.OPEN
    return FileState.SEALED  # also without a member list: a learner's file is opened in the pass that starts it


def initial_cluster(name: str, seen: Observation) -> dict[str, str]:
    """Names and peer URLs as the state of the member's file wants them."""
    match file_state(name, seen):
        case FileState.NEW:
            assert seen.record is not None, f"the file of {name} is wanted before the bootstrap was recorded"
            return {one: seen.addresses[one].peer_url for one in seen.record.members}
        case FileState.OPEN:
            entries = seen.entries or ()
            return {entry.name or f"{entry.id:x}": url for entry in entries for url in entry.peer_urls}
        case FileState.SEALED:
            return {NOBODY: seen.addresses[name].peer_url}


def member_file(name: str, settings: Settings, place: Place, seen: Observation) -> str:
    """The whole file. Only for members of a cluster whose bootstrap is recorded."""
    address: Address = seen.addresses[name]
    state = file_state(name, seen)
    content = {
        "name": name,
        "data-dir": place.data_dir,
        "listen-client-urls": place.listen_client_url,
        "advertise-client-urls": address.client_url,
        "listen-peer-urls": place.listen_peer_url,
        "initial-advertise-peer-urls": address.peer_url,
        "initial-cluster": ",".join(f"{one}={url}" for one, url in initial_cluster(name, seen).items()),
        "initial-cluster-state": "new" if state is FileState.NEW else "existing",
        "initial-cluster-token": seen.record.token if seen.record is not None else name,
        **({"listen-metrics-urls": place.listen_metrics_url} if place.listen_metrics_url else {}),
        **settings_of(settings),
    }
    return f"# Made by kvorum-operator; {state}. Edits are overwritten.\n{yaml.safe_dump(content, sort_keys=False)}"


def settings_of(settings: Settings) -> dict[str, object]:
    """The part that follows the specification: it counts from the member's next start on."""
    return {
        "heartbeat-interval": settings.heartbeat_interval.value,
        "election-timeout": settings.election_timeout.value,
        "quota-backend-bytes": settings.database_quota.value,
        "auto-compaction-mode": settings.compaction.mode.lower(),
        "auto-compaction-retention": settings.compaction.retention,
        "log-level": settings.log_level.value,
        # Only where it is wanted: an operator that is new does not restart the members of all clusters for a default.
        **({"enable-v2": True} if settings.enable_v2 else {}),
    }


def settings_mark(settings: Settings) -> str:
    """Equal marks are equal settings."""
    return hashlib.sha256(json.dumps(settings_of(settings), sort_keys=True).encode()).hexdigest()[:16]
