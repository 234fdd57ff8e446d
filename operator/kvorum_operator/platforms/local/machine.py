"""This machine as a platform of the pass: sees processes, directories and ports, and does what a step says."""

import socket
import time
from urllib.parse import urlsplit

from kvorum_operator.api.v1alpha1 import Engine, KVCluster
from kvorum_operator.cluster.observation import Address, Node, Observation, Record
from kvorum_operator.cluster.step import Bootstrap, Discard, Restart, StartNodes, StopNodes
from kvorum_operator.objects import labels
from kvorum_operator.objects.member_file import SEALED_REFUSAL, Place, member_file, settings_mark
from kvorum_operator.platforms.local import member_log
from kvorum_operator.platforms.local.engines import Programs
from kvorum_operator.platforms.local.processes import Processes, Run, listeners
from kvorum_operator.platforms.local.state_directory import (
    Identity,
    StateDirectory,
    StateRefused,
    addresses,
    make_private,
    replace_if_other,
)
from kvorum_operator.reconcile import Scene, StepFailed


class LocalPlatform:
    """One local cluster. programs: what members run; without them they can be seen and stopped, not started."""

    def __init__(self, state: StateDirectory, identity: Identity, programs: Programs | None) -> None:
        self._state = state
        self._identity = identity
        self._programs = programs
        self._addresses = addresses(identity)
        self.processes = Processes(state.path / "members")

    async def look(self, cluster: KVCluster) -> Scene:
        now_s = time.time()
        settings = settings_mark(cluster.spec.settings)
        volumes = self._state.read_volumes(self._identity)
        nodes = {}
        names = self._state.member_names(self._identity.name) | volumes.keys()
        for name, (run, process) in self.processes.look(names, now_s).items():
            member_log.rotate(self._state.member(name) / "log")
            if run is not None:
                nodes[name] = Node(
                    name,
                    running=process is not None,
                    since_s=run.started_s if process is not None else run.ended_s or run.started_s,
                    ended=run.ended,
                    failures_count=run.failures_count,
                    retry_at_s=run.retry_at_s,
                    current=process is None or run.settings in ("", settings),
                    uid=uid_of(run),
                    found_no_data=SEALED_REFUSAL in run.ended and self._is_without_data(name),
                )
        blocked = {}
        for name, address in self._addresses.items():
            if name in nodes and nodes[name].running:
                continue
            volume = volumes.get(name)
            engine = volume.engine if volume is not None and volume.engine is not None else cluster.spec.engine
            if why := port_taken(address) or self._program_missing(engine):
                blocked[name] = why
        try:
            record, damage = self._state.read_record(), ""
        except StateRefused as error:
            record, damage = None, str(error).splitlines()[0]
        engine_blocked = self._program_missing(cluster.spec.engine)
        return Scene(now_s, self._addresses, nodes, volumes, blocked, record, damage, engine_blocked)

    def _is_without_data(self, name: str) -> bool:
        """What a member complained of last may be of an earlier start: here it can be seen whether it still holds."""
        return not any(
            (self._state.data(name) / "member" / "wal").glob("*.wal")
        )  # the log is what both engines ask for

    def _program_missing(self, engine: Engine) -> str:
        found = self._programs.find(engine) if self._programs is not None else None
        if found is None or found.path is not None:
            return ""
        return f"there is no program for engine {engine}: {'; '.join(found.passed_over)}"

    async def put_objects(self, cluster: KVCluster, seen: Observation) -> None:
        for name in self._file_names(seen):
            place = Place(str(self._state.data(name)), seen.addresses[name].client_url, seen.addresses[name].peer_url)
            content = member_file(name, cluster.spec.settings, place, seen)
            replace_if_other(self._state.member(name) / "config.yaml", content)
        for name, wanted in labels.missing(seen).items():
            self._state.label_volume(name, wanted, self._identity)

    def _file_names(self, seen: Observation) -> set[str]:
        if seen.cluster_id is None:
            return set(seen.record.members if seen.record is not None else ())
        names = {entry.name for entry in seen.entries or () if entry.name is not None}
        return names | {volume.name for volume in seen.volumes.values() if volume.ours and seen.entries is None}

    async def bootstrap(self, step: Bootstrap) -> None:
        token = f"local/{self._identity.name}/{self._identity.uid}"
        try:
            self._state.create_record(Record(token, step.members))
        except FileExistsError:
            raise StepFailed("the bootstrap was recorded before") from None

    async def start_nodes(self, step: StartNodes, cluster: KVCluster, seen: Observation) -> None:
        assert self._programs is not None, "no program to start members with"
        for name in step.names:
            self._state.create_volume(name, labels.at_creation(name, cluster.spec.engine, seen), self._identity)
            make_private(self._state.data(name))
            # As the volume has it, whoever made it and when: what one engine wrote the other cannot read.
            engine = self._state.read_volume(name, self._identity).engine or cluster.spec.engine
            found = self._programs.find(engine)
            if found.path is None:
                raise StepFailed("; ".join(found.passed_over))
            command = [str(found.path), "--config-file", str(self._state.member(name) / "config.yaml")]
            try:
                self.processes.start(name, command, settings_mark(cluster.spec.settings))
            except OSError as error:
                raise StepFailed(f"{found.path}: {error.strerror}") from None

    async def stop_nodes(self, step: StopNodes) -> None:
        await self.stop(step.names)

    async def stop(self, names: tuple[str, ...]) -> None:
        """All but the last together, then the last: the leader, which nobody needs to follow any more."""
        await self.processes.stop(names[:-1])
        await self.processes.stop(names[-1:])

    async def restart(self, step: Restart, seen: Observation) -> None:
        """Only stops it: revive starts it again, with today's file."""
        run = self.processes.read(step.name)
        if run is None or uid_of(run) != step.uid:
            raise StepFailed(f"{step.name} is another process by now")
        await self.processes.stop([step.name])

    async def discard(self, step: Discard) -> None:
        await self.processes.stop([step.name])
        self._state.delete_member(step.name)


def uid_of(run: Run) -> str:
    return f"{run.pid}@{run.started_s}"


def port_taken(address: Address) -> str | None:
    """Who listens where a member would; None where nobody does."""
    for url in (address.client_url, address.peer_url):
        parts = urlsplit(url)
        assert parts.port is not None, url
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as members do; a listener still refuses
            try:
                probe.bind((parts.hostname, parts.port))
            except OSError as error:
                who = ", ".join(listeners(parts.port))
                return f"port {parts.port} {'is taken by ' + who if who else 'cannot be used: ' + str(error.strerror)}"
    return None
