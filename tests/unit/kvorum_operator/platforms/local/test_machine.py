"""This machine as a platform: whose program a member runs, and what is evidence that its data is gone."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from kvorum_operator.api.v1alpha1 import Engine, KVCluster, parse
from kvorum_operator.cluster.observation import Address, Entry, Node, Observation
from kvorum_operator.cluster.step import Restart, StartNodes
from kvorum_operator.platforms.local.engines import Programs
from kvorum_operator.platforms.local.machine import LocalPlatform
from kvorum_operator.platforms.local.state_directory import StateDirectory, addresses
from kvorum_operator.reconcile import Scene, StepFailed

from tests.kit.deadline import wait_until
from tests.kit.ports import free_ports

REFUSAL = json.dumps({"level": "fatal", "msg": "discovery failed", "error": 'couldn\'t find local name "kv-0"'})


def cluster(engine: Engine, **settings: str) -> KVCluster:
    document = {"apiVersion": "kvorum.dev/v1alpha1", "kind": "KVCluster", "metadata": {"name": "kv"}}
    return parse({**document, "spec": {"engine": engine, "replicas": 3, "settings": settings}})


class Stage:
    """A platform whose programs are scripts: each says its name and ends."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        monkeypatch.setattr("sys.executable", str(folder / "python"))  # ours is looked for beside it
        self.state = StateDirectory(folder / "state")
        self.identity = self.state.require_identity(cluster(Engine.KVORUM), free_ports(90))
        self.platform = LocalPlatform(self.state, self.identity, Programs())
        self.program(Engine.KVORUM, "echo this is kvorum")
        self.program(Engine.ETCD, "echo etcd Version: 3.5.30")

    def program(self, engine: Engine, says: str) -> None:
        path = self.folder / engine
        path.write_text(f"#!/bin/sh\n{says}\n")
        path.chmod(0o755)

    def start(self, name: str, engine: Engine) -> None:
        """As a member that was added and never started: it gets a volume where it has none."""
        found: dict[str, Address] = addresses(self.identity)
        entry = Entry(0x100, name, (found[name].peer_url,), started=False, is_learner=True)
        seen = Observation(now_s=1.0, addresses=found, latched_cluster_id=0xC1, entries=(entry,))
        asyncio.run(self.platform.start_nodes(StartNodes(because="", names=(name,)), cluster(engine), seen))

    def look(self, engine: Engine = Engine.KVORUM, **settings: str) -> Scene:
        return asyncio.run(self.platform.look(cluster(engine, **settings)))

    def restart(self, name: str, uid: str) -> None:
        seen = Observation(now_s=1.0, addresses=addresses(self.identity))
        asyncio.run(self.platform.restart(Restart(because="", name=name, uid=uid), seen))

    def wait_ended(self, name: str) -> Node:
        wait_until(lambda: not self.look().nodes[name].running, 10.0, f"{name} ended")
        return self.look().nodes[name]

    def log(self, name: str) -> str:
        return (self.state.member(name) / "log").read_text()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, monkeypatch)


def test_member_runs_the_engine_its_data_is_of_and_a_new_one_the_wanted_one(stage: Stage) -> None:
    stage.start("kv-0", Engine.ETCD)
    stage.wait_ended("kv-0")
    assert stage.look().volumes["kv-0"].engine is Engine.ETCD
    stage.start("kv-0", Engine.KVORUM)
    stage.wait_ended("kv-0")
    assert stage.log("kv-0") == 2 * "etcd Version: 3.5.30\n"
    stage.start("kv-1", Engine.KVORUM)
    stage.wait_ended("kv-1")
    assert stage.log("kv-1") == "this is kvorum\n"


def test_engine_without_a_program_blocks_those_that_need_it_until_there_is_one(stage: Stage) -> None:
    stage.start("kv-0", Engine.KVORUM)
    stage.wait_ended("kv-0")
    (stage.folder / "etcd").unlink()
    scene = stage.look(Engine.ETCD)
    assert scene.engine_blocked == "there is no program for engine etcd: there is no etcd on PATH"
    assert scene.blocked["kv-1"] == scene.engine_blocked
    assert "kv-0" not in scene.blocked, "it has data of the other engine"
    with pytest.raises(StepFailed, match="there is no etcd on PATH"):
        stage.start("kv-1", Engine.ETCD)
    stage.program(Engine.ETCD, "echo etcd Version: 3.5.30")
    scene = stage.look(Engine.ETCD)
    assert (scene.engine_blocked, scene.blocked) == ("", {})


def test_refusal_of_a_sealed_file_is_evidence_while_there_is_no_data(stage: Stage) -> None:
    stage.program(Engine.KVORUM, f"echo '{REFUSAL}'; exit 1".replace("couldn't", "couldn'\\''t"))
    stage.start("kv-0", Engine.KVORUM)
    assert stage.wait_ended("kv-0").found_no_data
    (stage.state.data("kv-0") / "member" / "wal").mkdir(parents=True)
    assert stage.look().nodes["kv-0"].found_no_data, "directories are no data, and both engines make some"
    (stage.state.data("kv-0") / "member" / "wal" / "0000000000000000-0000000000000000.wal").touch()
    assert not stage.look().nodes["kv-0"].found_no_data, "it was put back, or the line is of an earlier start"
    shutil.rmtree(stage.state.data("kv-0"))
    assert stage.look().nodes["kv-0"].found_no_data


def test_another_end_without_data_is_no_evidence(stage: Stage) -> None:
    stage.program(Engine.KVORUM, "echo no; exit 1")
    stage.start("kv-0", Engine.KVORUM)
    assert not stage.wait_ended("kv-0").found_no_data


def test_member_is_outdated_while_it_runs_with_other_settings_and_restart_ends_this_very_process(stage: Stage) -> None:
    stage.program(Engine.KVORUM, "exec sleep 60")
    stage.start("kv-0", Engine.KVORUM)
    try:
        assert stage.look().nodes["kv-0"].current
        node = stage.look(logLevel="warn").nodes["kv-0"]
        assert (node.running, node.current) == (True, False)
        with pytest.raises(StepFailed, match="kv-0 is another process by now"):
            stage.restart("kv-0", "an earlier one")
        assert stage.look().nodes["kv-0"].running
        stage.restart("kv-0", node.uid)
        node = stage.look(logLevel="warn").nodes["kv-0"]
        assert (node.running, node.current, node.ended) == (False, True, "was stopped"), "its next start is of today"
        assert node.retry_at_s <= stage.look().now_s, "and at once"
    finally:
        asyncio.run(stage.platform.stop(("kv-0",)))
