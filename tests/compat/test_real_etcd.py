"""Which etcd the comparisons take: 3.5.16 or a later 3.5, complete; anything else is named and passed over."""

import os
from pathlib import Path

import pytest

from tests.kit import etcd


def programs(folder: Path, **versions: str) -> Path:
    """Programs that say their version, and do nothing else."""
    folder.mkdir()
    for name, version in versions.items():
        word = "Version" if name == "etcd" else "version"
        path = folder / name
        path.write_text(f"#!/bin/sh\necho '{name} {word}: {version}'\n")
        path.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("version", "taken"),
    [("3.5.15", False), ("3.5.16", True), ("3.5.99", True), ("3.4.40", False), ("3.6.0", False), ("4.5.16", False)],
)
def test_version_decides(version: str, taken: bool, tmp_path: Path) -> None:
    folder = programs(tmp_path / "bin", etcd=version, etcdctl=version, etcdutl=version)
    passed_over: list[str] = []
    found = etcd.probe(folder, passed_over)
    assert (found is not None) == taken
    if not taken:
        assert passed_over == [f"passed over etcd {version} at {folder / 'etcd'}: not 3.5.16 or a later 3.5"]


def test_all_three_programs_are_needed(tmp_path: Path) -> None:
    passed_over: list[str] = []
    assert etcd.probe(programs(tmp_path / "two", etcd="3.5.30", etcdctl="3.5.30"), passed_over) is None
    old = programs(tmp_path / "old", etcd="3.5.30", etcdctl="3.4.30", etcdutl="3.5.30")
    assert etcd.probe(old, passed_over) is None
    mute = programs(tmp_path / "mute", etcd="3.5.30", etcdctl="3.5.30", etcdutl="3.5.30")
    (mute / "etcdutl").write_text("#!/bin/sh\nexit 1\n")
    assert etcd.probe(mute, passed_over) is None
    assert passed_over == [
        f"passed over {tmp_path / 'two/etcd'}: no etcdutl beside it",
        f"passed over etcdctl 3.4.30 at {tmp_path / 'old/etcdctl'}: not 3.5.16 or a later 3.5",
        f"passed over {tmp_path / 'mute/etcdutl'}: it does not tell its version",
    ]


def test_the_first_on_path_that_fits_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = programs(tmp_path / "newer", etcd="3.7.0", etcdctl="3.7.0", etcdutl="3.7.0")
    good = programs(tmp_path / "good", etcd="3.5.20", etcdctl="3.5.20", etcdutl="3.5.20")
    later = programs(tmp_path / "later", etcd="3.5.30", etcdctl="3.5.30", etcdutl="3.5.30")
    monkeypatch.setenv(
        "PATH", os.pathsep.join(map(str, (tmp_path / "nothing", newer, good, later, "/usr/bin", "/bin")))
    )
    found = etcd.require_etcd.__wrapped__()
    assert (found.version, found.etcd) == ("3.5.20", good / "etcd")
    assert found.passed_over == (f"passed over etcd 3.7.0 at {newer / 'etcd'}: not 3.5.16 or a later 3.5",)


def test_where_none_can_be_had_it_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no apt-get either
    monkeypatch.setattr(etcd, "CACHE", tmp_path / "cache")
    with pytest.raises(etcd.EtcdMissing) as caught:
        etcd.require_etcd.__wrapped__()
    assert "no etcd 3.5.16 or later 3.5 on PATH or in .cache; sid: apt-get is not here" in str(caught.value)


def test_mirror_and_keys_are_the_systems(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/debian.sources").write_text(
        "Types: deb\n# a remark: with a colon\nURIs: http://mirror.example/debian\nSuites: bookworm\n"
        "Signed-By: /usr/share/keyrings/one.gpg\n\n"
        "Types: deb-src\nURIs: http://sources.example/debian\n\n"
        "Types: deb\nEnabled: no\nURIs: http://disabled.example/debian\n"
    )
    (tmp_path / "sources.list").write_text(
        "# deb http://commented.example/debian sid main\n"
        "deb [arch=amd64 signed-by=/keys/two.gpg] http://second.example/debian bookworm main\n"
        "deb-src http://third.example/debian bookworm main\n"
        "deb http://fourth.example/debian-security bookworm-security main\n"
    )
    assert list(etcd.system_sources(tmp_path)) == [
        ("http://mirror.example/debian", "/usr/share/keyrings/one.gpg"),
        ("http://second.example/debian", "/keys/two.gpg"),
        ("http://fourth.example/debian-security", ""),
    ]
