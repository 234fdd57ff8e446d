"""Container images: built by docker where its engine answers, else by ../shared/kubernetes, and kept as archives.

`python -m tests.kubernetes.images` (make image) builds those of the node and of the operator, and tells their sizes.
Nothing is pushed anywhere.
"""

import fcntl
import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, Protocol

from tests.kit.etcd import CACHE, PROGRAMS, REPOSITORY, require_etcd, require_oldest_etcd
from tests.kubernetes.shared_kubernetes import CLUSTER
from tests.kubernetes.stage import Images

FOLDER = CACHE / "images"
RECIPES = REPOSITORY / "tests" / "images"
BASE = "python:3.13-slim"  # by docker; the other builder has one of its own
BUILD_S = 1200.0
MEGABYTE = 1_000_000

NODE, NODE_LATER, OPERATOR = "kvorum:dev", "kvorum:dev2", "kvorum-operator:dev"
ETCD, BROKEN = "kvorum-test/etcd", "kvorum-test/broken:dev"


class CannotBuild(Exception):
    """There is no builder, or it failed. The text says which and why."""


class Builder(Protocol):
    def build(self, dockerfile: Path, context: Path, tag: str, archive: Path, arguments: Mapping[str, str]) -> None:
        """Raises CannotBuild."""

    def base(self, folder: Path) -> Path:
        """The archive of the image that all others stand on. folder: where it may be put."""


class Docker:
    """options: further ones of each build."""

    def __init__(self, *options: str) -> None:
        self._options = options

    def build(self, dockerfile: Path, context: Path, tag: str, archive: Path, arguments: Mapping[str, str]) -> None:
        options = [part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")]
        options += self._options
        run("docker", "build", "--quiet", "--file", str(dockerfile), "--tag", tag, *options, str(context))
        run("docker", "save", "--output", str(archive), tag)

    def base(self, folder: Path) -> Path:
        run("docker", "pull", "--quiet", BASE)
        run("docker", "save", "--output", str(folder / "base.tar"), BASE)
        return folder / "base.tar"


class SharedKubernetes:
    """Its `cluster image-build`. environment: of its programs; KUBE_TEST_CACHE is where it keeps layers."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = environment

    def build(self, dockerfile: Path, context: Path, tag: str, archive: Path, arguments: Mapping[str, str]) -> None:
        options = [part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")]
        FOLDER.mkdir(parents=True, exist_ok=True)
        with (FOLDER / "build.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # one at a time: two builds unmount each other's layers
            run(
                *(str(CLUSTER), "image-build", str(context), "--file", str(dockerfile), "--tag", tag),
                *("--output", str(archive), *options),
                environment=self._environment,
            )

    def base(self, folder: Path) -> Path:
        return Path(run(str(CLUSTER), "python-image", environment=self._environment).splitlines()[-1])


def run(*command: str, environment: Mapping[str, str] | None = None) -> str:
    """What it prints. Raises CannotBuild with the last of what it said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S, env=environment, check=False)
    except subprocess.TimeoutExpired:
        raise CannotBuild(f"{' '.join(command[:2])} took longer than {BUILD_S:g} s") from None
    if done.returncode != 0:
        raise CannotBuild(f"{' '.join(command)}: exit {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


@cache
def docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    done = subprocess.run(["docker", "version"], capture_output=True, timeout=60, check=False)
    return done.returncode == 0


def require_builder() -> Builder:
    """Raises CannotBuild."""
    if docker_answers():
        return Docker()
    if CLUSTER.exists():
        return SharedKubernetes()
    raise CannotBuild("no docker engine answers, and there is no ../shared/kubernetes to build images with")


@dataclass(frozen=True, slots=True)
class Image:
    """What an archive holds. layers: digest (of what is in it, uncompressed) and bytes of each, the lowest first."""

    config: Mapping[str, Any]
    layers: tuple[tuple[str, int], ...]

    def bytes_above(self, base: "Image") -> int:
        below = dict(base.layers)
        return sum(size for digest, size in self.layers if digest not in below)


def read(archive: Path) -> Image:
    """An archive as docker and buildah save it."""
    with tarfile.open(archive) as tar:
        (image,) = json.loads(require_file(tar, "manifest.json").read())
        config = json.loads(require_file(tar, image["Config"]).read())
        layers = tuple(measure(require_file(tar, name)) for name in image["Layers"])
    assert [digest for digest, _ in layers] == config["rootfs"]["diff_ids"], f"{archive} is damaged"
    return Image(config["config"], layers)


def require_file(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    file = tar.extractfile(name)
    assert file is not None, f"{name} is no file"
    return file


def measure(layer: IO[bytes]) -> tuple[str, int]:
    compressed = layer.read(2) == b"\x1f\x8b"
    layer.seek(0)
    digest, size = hashlib.sha256(), 0
    content: IO[bytes] = gzip.GzipFile(fileobj=layer) if compressed else layer  # type: ignore[assignment]  # reads alike
    while piece := content.read(1 << 20):
        digest.update(piece)
        size += len(piece)
    return f"sha256:{digest.hexdigest()}", size


def archive_of(tag: str) -> Path:
    return FOLDER / f"{tag.replace('/', '-').replace(':', '-')}.tar"


def build_ours(builder: Builder, tag: str, context: Path = REPOSITORY, archive: Path | None = None) -> Path:
    """The image of the node or of the operator; its tag is its version, too."""
    name, _, version = tag.partition(":")
    folder = {"kvorum": "node-image", "kvorum-operator": "operator"}[name]
    target = archive or archive_of(tag)
    target.parent.mkdir(parents=True, exist_ok=True)
    revision = subprocess.run(["git", "rev-parse", "HEAD"], cwd=context, capture_output=True, text=True, check=False)
    arguments = {"VERSION": version, "REVISION": revision.stdout.strip()}
    builder.build(context / folder / "Dockerfile", context, tag, target, arguments)
    return target


def build_etcd(builder: Builder, programs: Path, version: str) -> Path:
    with programs_alone(programs) as context:
        tag = f"{ETCD}:v{version}"
        builder.build(RECIPES / "etcd.Dockerfile", context, tag, archive_of(tag), {})
        return archive_of(tag)


@contextmanager
def programs_alone(folder: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as context:
        for program in PROGRAMS:
            shutil.copy(folder / program, context)
        yield Path(context)


def build_broken(builder: Builder) -> Path:
    with tempfile.TemporaryDirectory() as context:
        builder.build(RECIPES / "broken.Dockerfile", Path(context), BROKEN, archive_of(BROKEN), {})
        return archive_of(BROKEN)


def build_all(builder: Builder) -> tuple[Images, tuple[Path, ...]]:
    """What the tests on Kubernetes run, and the archives. Raises CannotBuild and EtcdMissing."""
    newest, oldest = require_etcd(), require_oldest_etcd()
    archives = (
        *(build_ours(builder, tag) for tag in (NODE, NODE_LATER, OPERATOR)),
        *(build_etcd(builder, etcd.etcd.parent, etcd.version) for etcd in (newest, oldest)),
        build_broken(builder),
    )
    return Images(OPERATOR, NODE, NODE_LATER, BROKEN, ETCD, f"v{newest.version}"), archives


def main() -> int:
    try:
        builder = require_builder()
        archives = {tag: build_ours(builder, tag) for tag in (NODE, OPERATOR)}
        with tempfile.TemporaryDirectory() as folder:
            base = read(builder.base(Path(folder)))
    except CannotBuild as why:
        print(f"make: {why}", file=sys.stderr)
        return 2
    for tag, archive in archives.items():
        image = read(archive)
        size, above = sum(size for _, size in image.layers), image.bytes_above(base)
        print(f"{tag}  {size / MEGABYTE:.0f} MB, {above / MEGABYTE:.1f} MB above the base  {archive}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
