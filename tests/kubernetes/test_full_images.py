"""Images are reproducible: two checkouts, built by builders that know nothing of each other, give equal layers."""

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.kubernetes import images
from tests.tidy.sources import REPOSITORY, files

LATER_S = 100_000
BUILT_FROM = {"node-image", "operator", "build-requirements.txt", ".dockerignore"}


@pytest.mark.timeout(2 * images.BUILD_S)
@pytest.mark.parametrize("tag", [images.NODE, images.OPERATOR])
def test_two_builds_of_two_checkouts_give_equal_layers(tag: str, tmp_path: Path) -> None:
    try:
        builder = images.require_builder()
    except images.CannotBuild as why:
        pytest.skip(f"NOT RUN: {why}")
    places = tmp_path / "one", tmp_path / "other"
    sources = [path for path in files() if path.relative_to(REPOSITORY).parts[0] in BUILT_FROM]
    for place, umask, age_s in zip(places, (0o022, 0o077), (0, LATER_S), strict=True):
        checkout(sources, place / "checkout", umask, age_s)
    one, other = (
        images.read(images.build_ours(anew(builder, place), tag, place / "checkout", place / "image.tar"))
        for place in places
    )
    assert one.layers == other.layers


def checkout(sources: Sequence[Path], place: Path, umask: int, age_s: int) -> None:
    """Files of this tree with modes and times as another clone has them."""
    for source in sources:
        target = place / source.relative_to(REPOSITORY)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o666 & ~umask)
        at = time.time() - age_s
        os.utime(target, (at, at))


def anew(builder: images.Builder, place: Path) -> images.Builder:
    """One that has no layer of an earlier build, but the same base."""
    if isinstance(builder, images.Docker):
        return images.Docker("--no-cache")
    cache = place / "cache"
    (cache / "images").mkdir(parents=True)
    base = builder.base(place)
    (cache / "images" / base.name).symlink_to(base)
    return images.SharedKubernetes({**os.environ, "KUBE_TEST_CACHE": str(cache)})
