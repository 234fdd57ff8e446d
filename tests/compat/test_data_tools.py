"""`kvorum data` on the directories of real members: hashes as they serve them, and the way to etcd's form and back."""

import json
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kit.etcdctl import Etcdctl
from tests.kit.processes import Node, Program, kvorum_program

TOOL_S = 120.0


def tool(*words: object) -> subprocess.CompletedProcess[str]:
    command = [*kvorum_program().command, "data", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TOOL_S, check=False)


def filled(node: Node) -> Etcdctl:
    """Keys with a history, some compacted, a lease, a user: what all must survive."""
    etcdctl = Etcdctl([node.endpoint])
    for number in range(20):
        etcdctl.run("put", f"key{number % 7}", f"value {number}")
    etcdctl.run("del", "key3")
    etcdctl.run("compaction", "12", "--physical")
    lease = etcdctl.run("lease", "grant", "100000").stdout.split()[1]
    etcdctl.run("put", "leased", "x", f"--lease={lease}")
    return etcdctl


def hash_served_by(etcdctl: Etcdctl, *words: str) -> str:
    """As the tool prints it."""
    (answer,) = json.loads(etcdctl.run("endpoint", "hashkv", "-w", "json", *words).stdout)
    found = answer["HashKV"]
    revision = words[-1] if words else found["header"]["revision"]
    return f"{found['hash']}, {revision}, {found['compact_revision']}\n"


def keys_of(etcdctl: Etcdctl) -> str:
    return etcdctl.run("get", "", "--prefix", "-w", "fields").stdout.split('"RaftTerm"')[1].split("\n", 1)[1]


@pytest.fixture(params=["etcd", "kvorum"])
def member(request: pytest.FixtureRequest, reference: Program, subject: Program, tmp_path: Path) -> Node:
    return Node(reference if request.param == "etcd" else subject, tmp_path / "first")


def test_hash_of_a_killed_member_is_what_it_served_and_its_directory_is_whole(member: Node) -> None:
    with member:
        etcdctl = filled(member)
        served = hash_served_by(etcdctl), hash_served_by(etcdctl, "--rev", "15")
        in_use = tool("hashkv", "--data-dir", member.data_dir), tool("check", "--data-dir", member.data_dir)
        member.kill()  # what the log has and the tables lack is not forgotten
    assert [(done.returncode, "in use by another process" in done.stderr) for done in in_use] == [(1, True)] * 2
    before = {path: path.stat().st_mtime_ns for path in member.data_dir.rglob("*") if path.suffix in (".wal", ".snap")}
    hashed = tool("hashkv", "--data-dir", member.data_dir)
    assert (hashed.stdout, hashed.stderr) == (served[0], "")
    assert tool("hashkv", "--data-dir", member.data_dir, "--rev", "15").stdout == served[1]
    for revision, why in (("3", "compacted"), ("1000", "future revision")):
        refused = tool("hashkv", "--data-dir", member.data_dir, "--rev", revision)
        assert (refused.returncode, why in refused.stderr) == (1, True)
    checked = tool("check", "--data-dir", member.data_dir)
    assert (checked.returncode, checked.stderr, checked.stdout.splitlines()[-1]) == (0, "", "whole")
    assert served[0].split(",")[0] in checked.stdout
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_member_goes_from_ours_to_etcd_and_back_with_all_it_had(
    reference: Program, subject: Program, tmp_path: Path
) -> None:
    node = Node(subject, tmp_path / "first", flags=["--snapshot-count=10"])
    with node:
        etcdctl = filled(node)
        served, keys, members = hash_served_by(etcdctl), keys_of(etcdctl), etcdctl.run("member", "list").stdout
        etcdctl.run("user", "add", "alice:secret")
        assert node.stop() in (0, -signal.SIGTERM)
    as_etcd = tmp_path / "second" / "default.etcd"
    exported = tool("export", "--data-dir", node.data_dir, "--etcd", as_etcd)
    assert (exported.returncode, exported.stderr) == (0, "")
    assert "never start" in exported.stdout
    assert tool("hashkv", "--data-dir", as_etcd).stdout == served
    assert tool("check", "--data-dir", as_etcd).returncode == 0

    etcd = replace(node, program=reference, folder=tmp_path / "second", process=None)
    with etcd:
        etcdctl = Etcdctl([etcd.endpoint])
        assert (hash_served_by(etcdctl), keys_of(etcdctl)) == (served, keys)
        assert etcdctl.run("member", "list").stdout == members
        assert len(etcdctl.run("lease", "list").stdout.splitlines()) == 2
        etcdctl.run("put", "written by etcd", "1")
        served, keys = hash_served_by(etcdctl), keys_of(etcdctl)
        early = tool("import", "--data-dir", tmp_path / "early", "--etcd", as_etcd)
        assert (early.returncode, "in use by another process" in early.stderr) == (1, True)
        assert not (tmp_path / "early").exists()
        etcd.stop()

    back = tmp_path / "third" / "default.etcd"
    imported = tool("import", "--data-dir", back, "--etcd", as_etcd)
    assert (imported.returncode, imported.stderr) == (0, "")
    assert (as_etcd / "member" / "snap" / "db").exists()
    assert tool("hashkv", "--data-dir", back).stdout == served
    with replace(node, folder=tmp_path / "third", process=None) as ours:
        etcdctl = Etcdctl([ours.endpoint])
        assert (hash_served_by(etcdctl), keys_of(etcdctl)) == (served, keys)
        assert etcdctl.run("member", "list").stdout == members
        assert etcdctl.run("put", "written by us", "1").stdout == "OK\n"


def test_damage_is_found_and_named_and_nothing_is_made_of_it(subject: Program, tmp_path: Path) -> None:
    with Node(subject, tmp_path) as node:
        filled(node)
        node.stop()
    (segment,) = (node.data_dir / "member" / "wal").glob("*.wal")
    whole = segment.read_bytes()
    at = whole.index(b"value 9")
    segment.write_bytes(whole[:at] + b"v" + bytes([whole[at + 1] ^ 1]) + whole[at + 2 :])
    found = tool("check", "--data-dir", node.data_dir)
    assert (found.returncode, "whole" in found.stdout) == (1, False)
    assert found.stderr.startswith(f"DAMAGED: {segment}, byte ")
    assert "Remove this member" in found.stderr

    segment.write_bytes(whole)
    assert tool("check", "--data-dir", node.data_dir).returncode == 0
    tables = node.data_dir / "member" / "store" / "data.mdb"
    os.truncate(tables, tables.stat().st_size // 2)
    found = tool("check", "--data-dir", node.data_dir)
    assert (found.returncode, found.stderr.splitlines()[0].startswith("DAMAGED: ")) == (1, True)
    assert "the tables are damaged" in found.stderr
    refused = tool("export", "--data-dir", node.data_dir, "--etcd", tmp_path / "out")
    assert (refused.returncode, "the tables are damaged" in refused.stderr) == (1, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["check", "--data-dir", "nosuch"], "is no directory"),
        (["hashkv", "--data-dir", "empty"], "holds no log of a member"),
        (["export", "--data-dir", "empty", "--etcd", "full"], "is not empty"),
        (["import", "--data-dir", "full", "--etcd", "empty"], "is not empty"),
        (["import", "--data-dir", "new", "--etcd", "empty"], "holds no log of a member"),
    ],
)
def test_wrong_directory_is_refused_in_a_sentence(words: list[str], why: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    done = tool(*(word if word.startswith("-") or word in ("check", "hashkv", "export", "import") else tmp_path / word
                  for word in words))  # fmt: skip
    assert (done.returncode, why in done.stderr, "Traceback" in done.stderr) == (1, True, False)
    assert not (tmp_path / "new").exists()
