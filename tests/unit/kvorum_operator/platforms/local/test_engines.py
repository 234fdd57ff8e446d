"""Which program members run: versions that are too old or too new are named and passed over."""

from pathlib import Path

import pytest
from kvorum_operator.api.v1alpha1 import Engine
from kvorum_operator.platforms.local import engines


def program(folder: Path, name: str, says: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{says}\n")
    path.chmod(0o755)
    return path


def on_path(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    monkeypatch.setenv("PATH", ":".join([*(str(folder) for folder in folders), "/bin", "/usr/bin"]))


def test_first_etcd_that_is_new_enough_is_taken_and_the_others_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = program(tmp_path / "a", "etcd", "echo 'etcd Version: 3.5.15'")
    other = program(tmp_path / "b", "etcd", "echo 'etcd Version: 3.6.20'")
    broken = program(tmp_path / "c", "etcd", "exit 1")
    good = program(tmp_path / "d", "etcd", "echo 'etcd Version: 3.5.16'")
    on_path(monkeypatch, *(path.parent for path in (old, other, broken, good)))
    found = engines.find_node(Engine.ETCD)
    assert found.path == good
    assert [one.split(",")[0] for one in found.passed_over] == [
        f"{old} says 3.5.15",
        f"{other} says 3.6.20",
        f"{broken} says no version",
    ]


def test_where_there_is_none_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = engines.find_etcd("etcd")
    assert (found.path, found.passed_over) == (None, ("there is no etcd on PATH",))


def test_etcdctl_is_asked_in_its_own_words_and_without_settings_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says = 'test "$1" = version && test -z "$ETCDCTL_ENDPOINTS" && echo "etcdctl version: 3.5.30"'
    good = program(tmp_path / "a", "etcdctl", says)
    on_path(monkeypatch, good.parent)
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", "x")
    assert engines.find_etcd("etcdctl").path == good


def test_our_node_is_the_one_beside_the_operator() -> None:
    found = engines.find_node(Engine.KVORUM)
    assert found.path is not None
    assert found.path.name == "kvorum"
