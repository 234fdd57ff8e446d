"""Real Helms: what `helm template` and `helm lint` make of the charts. Helm 3 and 4 are told apart by asking them.

They are taken from PATH; where one is missing, what needs it says NOT RUN and why.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tidy.sources import REPOSITORY

CHARTS = REPOSITORY / "charts"
OPERATOR, KVCLUSTER = CHARTS / "kvorum-operator", CHARTS / "kvcluster"
MAJORS = ("3", "4")
TIMEOUT_S = 60

Object = dict[str, Any]


class Refused(Exception):
    """Helm ended with an error; the text is Helm's."""


@cache
def found() -> Mapping[str, str]:
    """Programs by major version."""
    programs: dict[str, str] = {}
    for name in ("helm", "helm4", "helm3"):
        if path := shutil.which(name):
            said = run(path, "version", "--short")
            major = said.strip().removeprefix("v").partition(".")[0]
            programs.setdefault(major, path)
    return programs


def require(major: str) -> str:
    """The program. Skips, saying NOT RUN and why, where it is not to be had."""
    if major not in found():
        pytest.skip(f"NOT RUN: no helm {major} on PATH")
    return found()[major]


def run(program: str, *arguments: str, text: str | None = None) -> str:
    """Its output. Raises Refused. Helm's own files go into a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as home:
        places = dict.fromkeys(("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"), home)
        done = subprocess.run(
            [program, *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            env={**os.environ, **places},
            check=False,
        )
    if done.returncode:
        raise Refused(done.stderr + done.stdout)
    return done.stdout


def template(
    program: str,
    chart: Path,
    values: Mapping[str, Any] | None = None,
    *,
    release: str = "kvorum-operator",
    namespace: str = "kvorum-system",
    kubernetes: str = "1.37.0",  # without one a Helm takes that which it was built with
) -> list[Object]:
    """Every object that an installation would apply. Raises Refused."""
    # JSON is YAML.
    made = run(
        *(program, "template", release, str(chart), "--namespace", namespace),
        *("--values", "-", "--kube-version", kubernetes),
        text=json.dumps(values or {}),
    )
    return [document for document in yaml.safe_load_all(made) if document is not None]


def one(objects: list[Object], kind: str) -> Object:
    matching = [made for made in objects if made["kind"] == kind]
    assert len(matching) == 1, f"{len(matching)} of kind {kind}"
    return matching[0]
