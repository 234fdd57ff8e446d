"""The images of the node and of the operator: small, nobody's root, at home on a read-only root, with asserts on."""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.kit.deadline import wait_until
from tests.kubernetes import images
from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.conftest import PREFIX
from tests.kubernetes.stage import make_namespace, remove_namespace

BYTES_ABOVE_BASE_MAX = 80_000_000
USER = 10001
POD_S = 120.0
# Run by the interpreter that the program itself names in its first line.
LOOK = """
import asyncio, importlib.util, json, os, pathlib, shutil, subprocess, sys
program, health = sys.argv[1], json.loads(sys.argv[2])
interpreter = pathlib.Path(shutil.which(program)).read_text().splitlines()[0].removeprefix("#!").split()
try:
    pathlib.Path("/opt/kvorum/new").touch()
    writable = True
except OSError:
    writable = False
print(json.dumps({
    "uid": os.getuid(),
    "writable": writable,
    "false assert": subprocess.run([*interpreter, "-c", "assert False"], stderr=subprocess.DEVNULL).returncode,
    "true assert": subprocess.run([*interpreter, "-c", "assert True"]).returncode,
    "help": subprocess.run([program, "--help"], stdout=subprocess.DEVNULL).returncode,
    "bytecode": os.path.exists(importlib.util.cache_from_source(asyncio.__file__)),
    "health of nobody": subprocess.run(health, stderr=subprocess.DEVNULL).returncode,
}))
"""


@dataclass(frozen=True, slots=True)
class Built:
    tag: str
    archive: Path
    image: images.Image

    @property
    def program(self) -> str:
        return self.tag.partition(":")[0]

    @property
    def health(self) -> list[str]:
        kind, *command = self.image.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return list(command)


@pytest.fixture(scope="module", params=[images.NODE, images.OPERATOR])
def built(request: pytest.FixtureRequest) -> Built:
    tag: str = request.param
    archive = images.archive_of(tag)
    if not archive.exists():
        pytest.skip(f"NOT RUN: {tag} is not built; make image builds it")
    return Built(tag, archive, images.read(archive))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> images.Image:
    try:
        return images.read(images.require_builder().base(tmp_path_factory.mktemp("base")))
    except images.CannotBuild as why:
        pytest.skip(f"NOT RUN: {why}")


@pytest.fixture(scope="module")
def namespace(api: ApiServer) -> Iterator[str]:
    name = f"{PREFIX}-images"
    make_namespace(api, name)
    yield name
    remove_namespace(api, name)


def test_image_takes_less_than_80_mb_above_its_base(built: Built, base: images.Image) -> None:
    above = built.image.bytes_above(base)
    print(f"{built.tag}: {above / images.MEGABYTE:.1f} MB above the base")
    assert 0 < above < BYTES_ABOVE_BASE_MAX


def test_image_adds_its_own_folder_and_nothing_else_to_its_base(built: Built, base: images.Image) -> None:
    """No cache of pip, no setting of who built it."""
    with tarfile.open(built.archive) as outer:
        (manifest,) = json.loads(images.require_file(outer, "manifest.json").read())
        for name, (digest, _) in zip(manifest["Layers"], built.image.layers, strict=True):
            if digest not in dict(base.layers):
                with tarfile.open(fileobj=images.require_file(outer, name)) as layer:
                    places = {"/".join(member.name.strip("/").split("/")[:2]) for member in layer}
                    assert places == {"opt", "opt/kvorum"}


def test_image_says_what_it_is(built: Built) -> None:
    labels = {
        name.removeprefix("org.opencontainers.image."): value for name, value in built.image.config["Labels"].items()
    }
    assert labels["title"] == built.program
    assert labels["version"] == built.tag.partition(":")[2]
    assert labels["licenses"] == "Apache-2.0"
    assert labels["description"]
    assert len(labels["revision"]) == 40
    assert built.image.config["User"] == f"{USER}:{USER}"
    assert built.image.config["Entrypoint"] == [built.program]
    assert (built.image.config.get("Cmd") or []) == {"kvorum": [], "kvorum-operator": ["run"]}[built.program]


def test_program_runs_as_nobody_on_a_read_only_root_with_asserts_on(
    api: ApiServer, namespace: str, built: Built
) -> None:
    name = f"look-{built.program}"
    run_pod(api, namespace, name, built.tag, ["python", "-c", LOOK, built.program, json.dumps(built.health)])
    wait_until(lambda: phase(api, namespace, name) in ("Succeeded", "Failed"), POD_S, f"{name} ends", poll_s=0.5)
    said = api.raw(f"/api/v1/namespaces/{namespace}/pods/{name}/log")
    assert phase(api, namespace, name) == "Succeeded", said
    seen = json.loads(said)
    assert seen.pop("false assert") != 0, "asserts stay on"
    assert seen.pop("health of nobody") != 0
    assert seen == {
        "uid": USER,
        "writable": False,
        "true assert": 0,
        "help": 0,
        "bytecode": True,  # also of Python's own library: a read-only root keeps none
    }


def test_node_without_flags_but_for_its_directory_serves_and_is_healthy(api: ApiServer, namespace: str) -> None:
    archive = images.archive_of(images.NODE)
    if not archive.exists():
        pytest.skip(f"NOT RUN: {images.NODE} is not built; make image builds it")
    node = Built(images.NODE, archive, images.read(archive))
    run_pod(api, namespace, "node", images.NODE, None, arguments=["--data-dir", "/data/node"])
    wait_until(lambda: phase(api, namespace, "node") == "Running", POD_S, "node runs", poll_s=0.5)
    wait_until(
        lambda: api.try_kubectl("exec", "-n", namespace, "node", "--", *node.health).returncode == 0,
        POD_S,
        "the health command says that the node is well",
        poll_s=1.0,
    )


def run_pod(
    api: ApiServer, namespace: str, name: str, image: str, command: list[str] | None, arguments: list[str] | None = None
) -> None:
    """As the restricted standard has it, with one writable folder."""
    container: dict[str, Any] = {
        "name": "it",
        "image": image,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    container |= {"command": command} if command else {"args": arguments}
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 5,
            "securityContext": {"runAsNonRoot": True, "fsGroup": USER, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    }
    api.create("pods", namespace, body)


def phase(api: ApiServer, namespace: str, name: str) -> str:
    pod = api.get("pods", namespace, name)
    return "" if pod is None else str(pod["status"].get("phase", ""))
