"""What the images install is enough, no more than that, and nothing of it without a hash."""

from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.tidy import image_requirements
from tests.tidy.sources import REPOSITORY

LINUX = {"extra": "", "sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
OURS = {"node-image": ("kvorum",), "operator": ("protobuf", "grpcio", "kvorum-operator")}  # of kvorum only the client


def installed(folder: str) -> dict[str, str]:
    """The lines of each distribution that an image of ours installs."""
    blocks = image_requirements.locked((REPOSITORY / folder / "requirements.txt").read_text("utf-8"))
    return {name: lines for name, (lines, _) in blocks.items() if name}


def needed(asked: str) -> set[str]:
    """What the distributions themselves say that they need on Linux, all the way down."""
    todo, done = [Requirement(asked)], set()
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        if name == "kvorum" and asked != name:
            continue
        for extra in ("", *wanted.extras):
            if (name, extra) in done:
                continue
            done.add((name, extra))
            for text in requires(name) or ():
                one = Requirement(text)
                if one.marker is None or one.marker.evaluate({**LINUX, "extra": extra}):
                    todo.append(one)
    return {name for name, _ in done}


@pytest.mark.parametrize("folder", sorted(OURS))
def test_images_install_what_the_distributions_say_that_they_need_and_no_more(folder: str) -> None:
    wanted = set().union(*(needed(asked) for asked in OURS[folder])) - {"kvorum", "kvorum-operator"}
    present = installed(folder)
    assert wanted <= set(present)
    # Universal: of what only other systems or other versions of Python need, there are lines with markers.
    assert {name for name in set(present) - wanted if ";" not in present[name].splitlines()[0]} <= {"typing-extensions"}


def test_node_brings_no_grpc_library() -> None:
    assert not {"grpcio", "aiohttp", "kopf", "pydantic"} & set(installed("node-image"))


@pytest.mark.parametrize("folder", [*sorted(OURS), "."])
def test_everything_is_pinned_and_hashed(folder: str) -> None:
    name = "requirements.txt" if folder != "." else "build-requirements.txt"
    blocks = image_requirements.locked((REPOSITORY / folder / name).read_text("utf-8"))
    assert len(blocks) > 1
    for lines, _ in (block for name, block in blocks.items() if name):
        assert "==" in lines.splitlines()[0]
        assert "--hash=sha256:" in lines
