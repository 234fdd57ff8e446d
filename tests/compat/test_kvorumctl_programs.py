"""kvorumctl as a program: what ends by a signal, what goes on, TLS, and clusters of several."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kit.certificates import Authority
from tests.kit.deadline import wait_until
from tests.kit.etcdctl import Etcdctl
from tests.kit.processes import Cluster, Node, Program

WORK_S = 60.0
COMMAND = (sys.executable, "-m", "kvorum.ctl", "--command-timeout=30s")
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("ETCDCTL_")}


def kvorumctl(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, words)], capture_output=True, text=True, timeout=WORK_S, env=ENVIRONMENT, check=False
    )


@contextmanager
def running(words: Sequence[object], out: Path) -> Iterator[subprocess.Popen[bytes]]:
    with out.open("wb") as file:
        process = subprocess.Popen([*COMMAND, *map(str, words)], stdout=file, stderr=file, env=ENVIRONMENT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_lock_is_waited_for_and_given_back_on_sigterm(subject: Program, tmp_path: Path) -> None:
    """Both ways: etcdctl's lock is ours, too."""
    first, second = tmp_path / "first", tmp_path / "second"
    with Node(subject, tmp_path) as node:
        at = f"--endpoints={node.endpoint}"
        etcdctl = Etcdctl([node.endpoint])
        with running([at, "lock", "resource"], first) as holder:
            wait_until(lambda: first.read_text().startswith("resource/"), WORK_S, "the lock is held")
            with running([at, "lock", "resource", "echo", "mine"], second) as waiting:
                wait_until(
                    lambda: etcdctl.run("get", "resource/", "--prefix", "--keys-only").stdout.count("resource/") == 2,
                    WORK_S,
                    "another one waits for it",
                )
                assert second.read_text() == ""
                holder.send_signal(signal.SIGTERM)
                assert holder.wait(WORK_S) == 0
                assert waiting.wait(WORK_S) == 0
        assert second.read_text() == "mine\n"
        assert etcdctl.run("get", "resource/", "--prefix").stdout == ""
        assert etcdctl.run("lock", "resource", "echo", "theirs").stdout == "theirs\n"


def test_election_is_observed_until_sigint(subject: Program, tmp_path: Path) -> None:
    seen, elected = tmp_path / "seen", tmp_path / "elected"
    with Node(subject, tmp_path) as node:
        at = f"--endpoints={node.endpoint}"
        with running([at, "elect", "office", "-l"], seen) as observer:
            with running([at, "elect", "office", "me"], elected) as candidate:
                wait_until(lambda: seen.read_text().endswith("\nme\n"), WORK_S, "the elected one is seen")
                assert elected.read_text() == seen.read_text()
                candidate.send_signal(signal.SIGINT)
                assert candidate.wait(WORK_S) == 0
            assert kvorumctl(at, "get", "office/", "--prefix").stdout == ""
            observer.send_signal(signal.SIGTERM)
            assert observer.wait(WORK_S) == 0


def test_mirror_has_what_was_there_and_what_comes(reference: Program, subject: Program, tmp_path: Path) -> None:
    with Node(subject, tmp_path / "from") as source, Node(reference, tmp_path / "to") as target:
        writer, reader = Etcdctl([source.endpoint]), Etcdctl([target.endpoint])
        for key in ("app/a", "app/b", "other"):
            writer.run("put", key, "1")
        words = [f"--endpoints={source.endpoint}", "make-mirror", target.endpoint, "--prefix=app/", "--dest-prefix=x/"]
        with running(words, tmp_path / "out"):
            wait_until(lambda: reader.run("get", "x/b").stdout == "x/b\n1\n", WORK_S, "what was there is copied")
            writer.run("txn", stdin="\n\nput app/c 2\ndel app/a\n\n")
            writer.run("txn", stdin="\nput app/c 2\ndel app/a\n\n\n")
            wait_until(
                lambda: reader.run("get", "", "--prefix").stdout == "x/b\n1\nx/c\n2\n", WORK_S, "changes are copied"
            )


def test_members_with_tls_are_asked_as_etcdctl_asks_them(reference: Program, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    server, alice = authority.sign("server"), authority.sign("alice", common_name="alice")
    node = Node(reference, tmp_path)
    https = f"https://127.0.0.1:{node.client_port}"
    node.flags = [
        f"--listen-client-urls={https}",
        f"--advertise-client-urls={https}",
        *server.server_flags,
        "--client-cert-auth",
        f"--trusted-ca-file={authority.cert}",
    ]
    node.start()
    try:
        etcdctl = Etcdctl([https])
        trusted = [f"--cacert={authority.cert}", *alice.etcdctl_flags]
        wait_until(lambda: etcdctl.run(*trusted, "put", "a", "1").status == 0, WORK_S, "the member serves")
        for words in (
            [*trusted, "get", "a"],
            [*alice.etcdctl_flags, "--insecure-skip-tls-verify", "get", "a"],
            [*trusted, "endpoint", "hashkv"],
            [*alice.etcdctl_flags, "--command-timeout=500ms", "get", "a"],
            [f"--cacert={authority.cert}", "--command-timeout=500ms", "get", "a"],
            [f"--cert={alice.cert}", "get", "a"],
        ):
            theirs, ours = etcdctl.run(*words), kvorumctl(f"--endpoints={https}", *words)
            assert (ours.returncode, ours.stdout, ours.stderr.strip()) == (theirs.status, theirs.stdout, theirs.error)
    finally:
        node.kill()


@pytest.mark.parametrize("engine", ["etcd", "kvorum"])
def test_leadership_is_handed_over_and_every_member_asked(
    engine: str, reference: Program, subject: Program, tmp_path: Path
) -> None:
    with Cluster(reference if engine == "etcd" else subject, tmp_path) as cluster:
        at = f"--endpoints={','.join(cluster.endpoints)}"

        def leader_and_follower() -> tuple[str, str]:
            lines = [line.split(", ") for line in kvorumctl(at, "endpoint", "status").stdout.splitlines()]
            leader = next((cells[1] for cells in lines if cells[4] == "true"), "")
            return leader, next(cells[1] for cells in lines if cells[1] != leader)

        wait_until(lambda: leader_and_follower()[0], WORK_S, "somebody leads")
        leader, follower = leader_and_follower()
        moved = kvorumctl(at, "move-leader", follower)
        assert (moved.stdout, moved.stderr) == (f"Leadership transferred from {leader} to {follower}\n", "")
        wait_until(lambda: leader_and_follower()[0] == follower, WORK_S, "the other one leads")
        healths = kvorumctl(f"--endpoints={cluster.endpoints[0]}", "endpoint", "health", "--cluster")
        assert (healths.returncode, healths.stdout.count("is healthy: ")) == (0, 3)
        cluster.nodes[0].kill()
        # It may have led: what is written meanwhile may fail, as it does for etcdctl.
        wait_until(lambda: kvorumctl(at, "put", "a", "0").stdout == "OK\n", WORK_S, "the others have a leader")
        for number in range(3):  # whoever is asked first
            assert kvorumctl(at, "put", "a", number).stdout == "OK\n"
        assert kvorumctl(at, "get", "a", "--print-value-only").stdout == "2\n"
