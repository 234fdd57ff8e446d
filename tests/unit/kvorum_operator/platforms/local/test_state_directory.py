"""The state directory: whose it is, who writes it, and what is written once."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from kvorum_operator.api.v1alpha1 import Engine, KVCluster, Status, parse
from kvorum_operator.cluster.observation import Record, Volume
from kvorum_operator.objects.labels import VolumeLabels
from kvorum_operator.platforms.local import state_directory
from kvorum_operator.platforms.local.state_directory import StateDirectory, StateRefused, addresses


def cluster(name: str = "demo", engine: str = "kvorum") -> KVCluster:
    return parse(
        {
            "apiVersion": "kvorum.dev/v1alpha1",
            "kind": "KVCluster",
            "metadata": {"name": name},
            "spec": {"engine": engine},
        }
    )


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    return StateDirectory(tmp_path / ".kvorum" / "demo")


def test_identity_is_made_once_and_kept(state: StateDirectory) -> None:
    made = state.require_identity(cluster(), 21_000)
    assert made.base_port == 21_000
    assert state.require_identity(cluster(), None) == made
    assert state.require_identity(cluster(), 21_000) == made


@pytest.mark.parametrize(
    ("wanted", "base_port", "says"),
    [
        (cluster("other"), None, "metadata.name: is 'other', and the state directory"),
        (cluster(), 22_000, "--base-port is 22000, the cluster in"),
    ],
)
def test_directory_of_another_cluster_is_refused_with_the_way_out(
    state: StateDirectory, wanted: KVCluster, base_port: int | None, says: str
) -> None:
    made = state.require_identity(cluster(), 21_000)
    with pytest.raises(StateRefused, match=f"^{says}") as refused:
        state.require_identity(wanted, base_port)
    assert "--state-dir" in str(refused.value)
    assert state.read_identity() == made


DAMAGED = (b"", b"{", b"[]", b'{"name": "demo"}', b"\xff", b'{"token": "t", "members": "demo-0"}')


@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_files_are_refused_and_not_written_anew(state: StateDirectory, content: bytes) -> None:
    state.path.mkdir(parents=True)
    for file in ("cluster.json", "bootstrap.json"):
        (state.path / file).write_bytes(content)
    with pytest.raises(StateRefused, match="is damaged"):
        state.require_identity(cluster(), None)
    with pytest.raises(StateRefused, match="is damaged"):
        state.read_record()
    assert (state.path / "cluster.json").read_bytes() == content


def test_everything_that_is_made_is_its_owners_alone(state: StateDirectory) -> None:
    umask = os.umask(0)
    try:
        identity = state.require_identity(cluster(), None)
        state.lock()
        state.create_record(Record("token", ("demo-0",)))
        state.write_status(cluster(), Status())
        state.create_volume("demo-0", VolumeLabels(None, None, None), identity)
        (state.path / ".left.new").touch(0o666)
        state_directory.replace_durably(state.path / "left", "what a killed operator left had another mode")
        state_directory.replace_durably(state.member("demo-0") / "config.yaml", "name: demo-0")
    finally:
        os.umask(umask)
        state.unlock()
    made = [state.path.parent, *state.path.parent.rglob("*")]
    assert len(made) == 13
    for path in made:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_directory_that_was_there_keeps_its_mode(state: StateDirectory) -> None:
    state.path.mkdir(parents=True, mode=0o755)
    state.require_identity(cluster(), None)
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o755


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "²", "pid"])
def test_lock_that_names_no_process_names_none(state: StateDirectory, text: str) -> None:
    """Whoever it names is sent a signal; 0 and less would be a whole group of processes."""
    state.path.mkdir(parents=True)
    (state.path / "lock").write_text(text)
    assert state.operator_pid() is None


def test_record_of_the_bootstrap_is_written_once(state: StateDirectory) -> None:
    state.require_identity(cluster(), None)
    assert state.read_record() is None
    state.create_record(Record("token", ("demo-0",)))
    with pytest.raises(FileExistsError):
        state.create_record(Record("other", ("demo-0", "demo-1")))
    assert state.read_record() == Record("token", ("demo-0",))
    assert sorted(os.listdir(state.path)) == ["bootstrap.json", "cluster.json"], "nothing is left of the attempt"


def test_one_operator_holds_the_lock_until_its_process_ends(state: StateDirectory) -> None:
    state.path.mkdir(parents=True)
    assert not state.is_locked()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import pathlib, sys\n"
            "from kvorum_operator.platforms.local.state_directory import StateDirectory\n"
            "StateDirectory(pathlib.Path(sys.argv[1])).lock()\nprint('held', flush=True)\nsys.stdin.read()",
            state.path,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert state.is_locked()
        with pytest.raises(StateRefused, match=f"another operator \\(pid {holder.pid}\\)"):
            state.lock()
        holder.kill()
    assert not state.is_locked()
    state.lock()
    assert state.operator_pid() == os.getpid()
    state.unlock()


def test_volume_is_there_with_its_labels_or_not_at_all(state: StateDirectory) -> None:
    identity = state.require_identity(cluster(), None)
    state.create_volume("demo-1", VolumeLabels(0xC1, 0x101, Engine.ETCD), identity)
    (state.data("demo-1")).mkdir()
    state.create_volume("demo-1", VolumeLabels(0xC1, 0x999, Engine.KVORUM), identity)
    assert state.read_volumes(identity) == {"demo-1": Volume("demo-1", True, 0xC1, 0x101, Engine.ETCD)}
    assert state.data("demo-1").exists(), "what is there is not made anew"
    state.create_volume("demo-0", VolumeLabels(None, None, None), identity)
    assert state.read_volumes(identity)["demo-0"] == Volume("demo-0", engine=Engine.KVORUM), "the one it began with"
    state.label_volume("demo-0", VolumeLabels(0xC1, 0x100, Engine.ETCD), identity)
    assert state.read_volumes(identity)["demo-0"] == Volume("demo-0", True, 0xC1, 0x100, Engine.ETCD)


def test_volume_that_nothing_says_is_ours_is_foreign(state: StateDirectory) -> None:
    identity = state.require_identity(cluster(), None)
    volumes = state.path / "volumes"
    (volumes / "demo-0" / "data").mkdir(parents=True)
    (volumes / "demo-1").mkdir()
    (volumes / "demo-1" / "labels.json").write_text(json.dumps({"kvorum.dev/cluster-uid": "another"}))
    (volumes / "demo-2").mkdir()
    (volumes / "demo-2" / "labels.json").write_text("damaged")
    (volumes / "demo-3").mkdir()
    (volumes / "demo-3" / "labels.json").write_text(
        json.dumps({"kvorum.dev/cluster-uid": identity.uid, "kvorum.dev/engine": "redis"})
    )
    for other in ("demo-9", "demo-10", "other-1", ".discarded-demo-1-x", "demo-1.bak"):
        (volumes / other).mkdir()
    found = state.read_volumes(identity)
    assert {name: volume.ours for name, volume in found.items()} == dict.fromkeys(
        (f"demo-{k}" for k in range(4)), False
    )


def test_volume_that_was_emptied_is_none_and_can_be_made_anew(state: StateDirectory) -> None:
    identity = state.require_identity(cluster(), None)
    (state.path / "volumes" / "demo-0").mkdir(parents=True)
    assert state.read_volumes(identity) == {}
    state.create_volume("demo-0", VolumeLabels(0xC1, 0x100, Engine.ETCD), identity)
    assert state.read_volumes(identity)["demo-0"].member_id == 0x100
    state.delete_member("demo-0")
    assert os.listdir(state.path / "volumes") == []


def test_engine_can_be_another_than_the_cluster_began_with(state: StateDirectory) -> None:
    made = state.require_identity(cluster(), 21_000)
    assert state.require_identity(cluster(engine="etcd"), None) == made


def test_deleted_volume_is_gone_and_so_is_what_a_killed_operator_left(state: StateDirectory) -> None:
    identity = state.require_identity(cluster(), None)
    for name in ("demo-0", "demo-1"):
        state.create_volume(name, VolumeLabels(0xC1, 1, Engine.KVORUM), identity)
        state.member(name).mkdir(parents=True)
    (state.path / "volumes" / "demo-1").rename(state.path / "volumes" / ".discarded-demo-1-x")
    state.delete_member("demo-0")
    assert os.listdir(state.path / "volumes") == []
    assert os.listdir(state.path / "members") == ["demo-1"]
    state.delete_member("demo-0")


def test_status_is_read_as_written_and_a_damaged_one_is_none(state: StateDirectory) -> None:
    assert state.read_resource() is None
    status = Status(cluster_id="c1", observed_generation=3)
    state.write_status(cluster(), status)
    found = state.read_resource()
    assert found is not None
    assert found.status == status
    for content in (b"status: [", b"\xff"):
        (state.path / "status.yaml").write_bytes(content)
        assert state.read_resource() is None


def test_nine_members_stay_together_below_the_ephemeral_ports(state: StateDirectory) -> None:
    found = addresses(state.require_identity(cluster(), None))
    assert list(found) == [f"demo-{k}" for k in range(9)]
    assert found["demo-0"].client_url == "http://127.0.0.1:2379"
    assert found["demo-0"].peer_url == "http://127.0.0.1:2380"
    assert found["demo-8"].client_url == "http://127.0.0.1:2459"
    assert found["demo-8"].peer_url == "http://127.0.0.1:2460"


def test_half_written_file_is_never_found(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash between writing and renaming leaves the old content."""
    state.path.mkdir(parents=True)
    file = state.path / "status.yaml"
    state_directory.replace_durably(file, "old")
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError("power cut")))
    with pytest.raises(OSError, match="power cut"):
        state_directory.replace_durably(file, "new")
    assert file.read_text() == "old"
