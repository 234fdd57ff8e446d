"""The state directory of one local cluster: what must outlive the operator, and who may write it.

    lock               held by the operator that runs; its pid is inside
    cluster.json       the identity: name, uid, engine, base port. Written once
    bootstrap.json     the first members and the token. Written once, create-only (I4)
    status.yaml        the resource with its status, as last written
    members/NAME/      config.yaml, process.json, log and its older parts
    volumes/NAME/      labels.json, and the member's data below data/

What is written once is durable before anything follows from it; what is written often is replaced as a whole.
Directories and files that are made here are their owner's alone: members' data is nobody else's to read.
"""

import errno
import fcntl
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from kvorum_operator.api.v1alpha1 import REPLICAS_MAX, Engine, InvalidCluster, KVCluster, Status, parse
from kvorum_operator.cluster.observation import Address, Record, Volume
from kvorum_operator.objects.labels import VolumeLabels
from kvorum_operator.objects.names import member_name

PORTS_PER_MEMBER = 10
BASE_PORT_DEFAULT = 2379
DIRECTORY_MODE, FILE_MODE = 0o700, 0o600
LOCK_TRIES_MAX = 5
LOCK_RETRY_S = 0.05


class StateRefused(Exception):
    """The state directory cannot be used so. The text says what was seen and the way out, one line each."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a state directory is of. The ports are part of it: peer URLs are permanent.

    engine: the one it began with, which is that of volumes whose labels name none.
    """

    name: str
    uid: str
    engine: str
    base_port: int


class StateDirectory:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    # Whose it is.

    def read_identity(self) -> Identity | None:
        """Raises StateRefused when it cannot be read."""
        try:
            text = read_if_there(self.path / "cluster.json")
            return Identity(**json.loads(text)) if text is not None else None
        except (OSError, ValueError, TypeError) as error:
            raise StateRefused(
                f"{self.path / 'cluster.json'} is damaged: {error}\n"
                "  It says which cluster the directory belongs to. Put it back, or move the directory away."
            ) from None

    def require_identity(self, cluster: KVCluster, base_port: int | None) -> Identity:
        """The identity, made at the first use. Raises StateRefused when the directory is another cluster's."""
        found = self.read_identity()
        if found is None:
            make_private(self.path)
            made = Identity(
                cluster.metadata.name, str(uuid.uuid4()), cluster.spec.engine, base_port or BASE_PORT_DEFAULT
            )
            create_durably(self.path / "cluster.json", json.dumps(asdict(made)) + "\n")
            return self.require_identity(cluster, base_port)
        if problem := self.other_cluster(found, cluster):
            raise StateRefused(f"{problem}\n  Put it back, or choose another directory with --state-dir.")
        if base_port is not None and base_port != found.base_port:
            raise StateRefused(
                f"--base-port is {base_port}, the cluster in {self.path} began with {found.base_port}\n"
                "  Its members know each other by these ports for good. Leave --base-port out, or use --state-dir "
                "for a new cluster."
            )
        return found

    def other_cluster(self, identity: Identity, cluster: KVCluster) -> str | None:
        """What of the document cannot belong to the cluster that lives here."""
        if cluster.metadata.name != identity.name:
            return (
                f"metadata.name: is {cluster.metadata.name!r}, and the state directory {self.path} "
                f"belongs to {identity.name!r}"
            )
        return None

    # Who writes it.

    def lock(self) -> None:
        """Held until this process ends. Raises StateRefused when another operator holds it."""
        make_private(self.path)
        file = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        if not take(file):
            os.close(file)
            raise StateRefused(
                f"another operator (pid {self.operator_pid() or 'unknown'}) works on {self.path}\n"
                "  One cluster has one operator. Stop that one, or choose another directory with --state-dir."
            )
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        self._lock = file

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def operator_pid(self) -> int | None:
        """Who wrote itself into the lock last; it may have ended since."""
        try:
            pid = int(read_if_there(self.path / "lock") or "")
        except ValueError:
            return None
        return pid if pid > 0 else None  # any other number would be no process but a group of them

    def is_locked(self) -> bool:
        """Whether an operator works on it now."""
        try:
            file = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(file)
        return False

    # The bootstrap and the status.

    def read_record(self) -> Record | None:
        """Raises StateRefused when it cannot be read: a cluster must not begin a second time because of that."""
        try:
            text = read_if_there(self.path / "bootstrap.json")
            if text is None:
                return None
            content = json.loads(text)
            token, members = content["token"], content["members"]
            if (
                not isinstance(token, str)
                or not isinstance(members, list)
                or not all(isinstance(one, str) for one in members)
            ):
                raise TypeError("token must be a text and members a list of names")
            return Record(token, tuple(members))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise StateRefused(
                f"{self.path / 'bootstrap.json'} is damaged: {error!r}\n"
                "  It says with whom the cluster began. Put it back, or move the directory away."
            ) from None

    def create_record(self, record: Record) -> None:
        """Raises FileExistsError: a cluster begins once, and what was written first stays."""
        text = json.dumps({"token": record.token, "members": list(record.members)}) + "\n"
        create_durably(self.path / "bootstrap.json", text)

    def read_resource(self) -> KVCluster | None:
        """The resource as last written; None where there is none or it cannot be read: all is then observed anew."""
        try:
            return parse(yaml.safe_load(read_if_there(self.path / "status.yaml") or ""))
        except (OSError, UnicodeDecodeError, yaml.YAMLError, InvalidCluster):
            return None

    def write_status(self, cluster: KVCluster, status: Status) -> None:
        document = cluster.model_copy(update={"status": status})
        content = document.model_dump(mode="json", by_alias=True, exclude_none=True)
        replace_durably(self.path / "status.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))

    # Members and volumes.

    def member(self, name: str) -> Path:
        return self.path / "members" / name

    def data(self, name: str) -> Path:
        return self.path / "volumes" / name / "data"

    def member_names(self, cluster: str) -> set[str]:
        return names_below(self.path / "members", cluster)

    def read_volumes(self, identity: Identity) -> dict[str, Volume]:
        """An empty directory is none: what was in it is gone."""
        names = names_below(self.path / "volumes", identity.name)
        return {name: self.read_volume(name, identity) for name in names if not self._is_empty(name)}

    def _is_empty(self, name: str) -> bool:
        try:
            return not os.listdir(self.path / "volumes" / name)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def read_volume(self, name: str, identity: Identity) -> Volume:
        """Its labels; of unknown origin where they cannot be read."""
        return read_volume(self.path / "volumes" / name, name, identity)

    def create_volume(self, name: str, labels: VolumeLabels, identity: Identity) -> None:
        """With its labels from the first moment on; nothing if it is there."""
        volume = self.path / "volumes" / name
        if volume.exists() and not self._is_empty(name):
            return
        making = volume.with_name(f".making-{name}")
        shutil.rmtree(making, ignore_errors=True)
        make_private(making)
        write_labels(making, labels, identity)
        making.rename(volume)
        sync_directory(volume.parent)

    def label_volume(self, name: str, labels: VolumeLabels, identity: Identity) -> None:
        write_labels(self.path / "volumes" / name, labels, identity)

    def delete_member(self, name: str) -> None:
        """Its volume and its files, for good. The volume leaves its place at once, whatever happens after."""
        volumes = self.path / "volumes"
        if (volumes / name).exists():
            (volumes / name).rename(volumes / f".discarded-{name}-{uuid.uuid4().hex[:8]}")
            sync_directory(volumes)
        self.sweep()
        shutil.rmtree(self.member(name), ignore_errors=True)

    def sweep(self) -> None:
        """Deletes what left its place already, here or before an operator was killed."""
        for leftover in (self.path / "volumes").glob(".discarded-*"):
            shutil.rmtree(leftover, ignore_errors=True)


def addresses(identity: Identity) -> dict[str, Address]:
    """2379 and 2380 for the first member, ten more for each next: nine stay together, below the ephemeral ports."""
    found = {}
    for ordinal in range(REPLICAS_MAX):
        name, port = member_name(identity.name, ordinal), identity.base_port + PORTS_PER_MEMBER * ordinal
        found[name] = Address(name, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}")
    return found


def names_below(folder: Path, cluster: str) -> set[str]:
    pattern = re.compile(rf"{re.escape(cluster)}-[0-{REPLICAS_MAX - 1}]")
    try:
        return {entry for entry in os.listdir(folder) if pattern.fullmatch(entry)}
    except FileNotFoundError:
        return set()


def read_volume(path: Path, name: str, identity: Identity) -> Volume:
    try:
        labels = json.loads((path / "labels.json").read_text())
        ours = labels["kvorum.dev/cluster-uid"] == identity.uid
        cluster_id, member_id = labels.get("kvorum.dev/cluster-id"), labels.get("kvorum.dev/member-id")
        return Volume(
            name,
            ours,
            int(cluster_id, 16) if cluster_id is not None else None,
            int(member_id, 16) if member_id is not None else None,
            Engine(labels.get("kvorum.dev/engine", identity.engine)),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Volume(name, ours=False)  # nothing says whose it is, so nothing is done to it


def write_labels(volume: Path, labels: VolumeLabels, identity: Identity) -> None:
    content: dict[str, Any] = {"kvorum.dev/cluster": identity.name, "kvorum.dev/cluster-uid": identity.uid}
    if labels.cluster_id is not None:
        content["kvorum.dev/cluster-id"] = f"{labels.cluster_id:x}"
    if labels.member_id is not None:
        content["kvorum.dev/member-id"] = f"{labels.member_id:x}"
    if labels.engine is not None:
        content["kvorum.dev/engine"] = labels.engine
    replace_durably(volume / "labels.json", json.dumps(content, indent=1) + "\n")


# Files.


def take(file: int) -> bool:
    """The lock on an open file. Somebody may only be looking whether it is held, so not just once."""
    for _ in range(LOCK_TRIES_MAX):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            time.sleep(LOCK_RETRY_S)
        else:
            return True
    return False


def make_private(path: Path) -> None:
    """The directory, and those above it that are missing. What is there already keeps its mode."""
    if not path.is_dir():
        make_private(path.parent)
        path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)


def privately(path: str, flags: int) -> int:
    """For open(): a file that is made is its owner's alone."""
    return os.open(path, flags | os.O_CLOEXEC, FILE_MODE)


def read_if_there(path: Path) -> str | None:
    """Raises UnicodeDecodeError where it is no text."""
    try:
        return path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None


def replace_durably(path: Path, text: str) -> None:
    """Either the old content or the new one is found, whenever the power goes."""
    make_private(path.parent)
    new = path.with_name(f".{path.name}.new")
    write_synced(new, text)
    new.rename(path)
    sync_directory(path.parent)


def create_durably(path: Path, text: str) -> None:
    """The whole content or no file. Raises FileExistsError."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    write_synced(new, text)
    try:
        os.link(new, path)
    finally:
        new.unlink()
    sync_directory(path.parent)


def replace_if_other(path: Path, text: str) -> None:
    try:
        if read_if_there(path) == text:
            return
    except UnicodeDecodeError:
        pass  # damaged, and replaced like everything else that differs
    replace_durably(path, text)


def write_synced(path: Path, text: str) -> None:
    with open(path, "w", opener=privately) as file:
        os.fchmod(file.fileno(), FILE_MODE)  # what an earlier attempt left behind may have another mode
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> Mapping[str, Any] | None:
    """A JSON object; None where there is none or it is damaged."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
