"""TLS at the ports: who comes in by which flag, and that files change under running nodes without anybody noticing.

The tables run on a real etcd, too, so that ours are etcd's answers. The clients are etcdctl and curl.
"""

import asyncio
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from kvorum.client import Client, Tls

from tests.kit.certificates import Authority, Pair, replace
from tests.kit.deadline import wait_until
from tests.kit.etcdctl import Etcdctl
from tests.kit.processes import READY_S, Cluster, Node, Program, etcd_program, kvorum_program

VERSION = '{"etcdserver":"3.5.30","etcdcluster":"3.5.0"}'
KEPT_S = 6.0
QUICK = ("--heartbeat-interval=50", "--election-timeout=500")


@pytest.fixture
def program(engine: str) -> Program:
    return etcd_program() if engine == "etcd" else kvorum_program()


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def trusting(ca: Authority, pair: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca.cert))
    if pair is not None:
        context.load_cert_chain(pair.cert, pair.key)
    return context


def served(program: Program, folder: Path, ca: Authority, *flags: str, trust: ssl.SSLContext | None = None) -> Node:
    """Started, and ready as its log says it; the caller kills it."""
    node = Node(program, folder, flags=(*QUICK, *flags), scheme="https", trust=trust or trusting(ca))
    node.start()
    wait_until(lambda: not node.alive or "ready to serve client requests" in node.log(), READY_S, "it serves")
    assert node.alive, node.log_tail()
    return node


def curl(node: Node, ca: Authority, *arguments: str, path: str = "/version") -> str:
    """The body; or curl's exit status, where there is none."""
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "20", "--cacert", str(ca.cert), *arguments, node.endpoint + path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout.strip() or f"curl: {done.returncode}"


def comes_in(node: Node, ca: Authority, *arguments: str) -> bool:
    return curl(node, ca, *arguments) == VERSION


def is_told(node: Node, whose: str, words: str) -> bool:
    """As etcd tells it: alerts look for these words."""
    told = [
        json.loads(line) for line in node.log().splitlines() if f'"rejected connection on {whose} endpoint"' in line
    ]
    assert all(str(line["remote-addr"]).startswith("127.0.0.1:") for line in told)
    return any(words in line["error"] for line in told)


def test_a_certificate_is_shown_and_http_is_spoken_in_both_versions(
    program: Program, ca: Authority, tmp_path: Path
) -> None:
    node = served(program, tmp_path, ca, *ca.sign("server").server_flags)
    try:
        for version in ("--http2", "--http1.1"):
            assert comes_in(node, ca, version)
            agreed = curl(node, ca, version, "-o", "/dev/null", "-w", "%{http_version}")
            assert agreed == ("2" if version == "--http2" else "1.1")
        assert curl(node, ca, "--http2", path="/health") == '{"health":"true","reason":""}'
        assert "404 page not found" in curl(node, ca, "--http2", path="/nowhere")
        assert "etcd_server_has_leader 1" in curl(node, ca, "--http2", path="/metrics")
        assert '"kvs"' not in curl(node, ca, "--http2", "-d", '{"key":"YQ=="}', path="/v3/kv/range")
        assert '"revision":"2"' in curl(node, ca, "--http2", "-d", '{"key":"YQ==","value":"Yg=="}', path="/v3/kv/put")
        ctl = Etcdctl([node.endpoint])
        assert ctl.run(f"--cacert={ca.cert}", "get", "a").stdout == "a\nb\n"
        assert not comes_in(node, Authority(tmp_path / "other"))
    finally:
        node.kill()


def test_with_client_cert_auth_only_certificates_of_the_authority_come_in(
    program: Program, ca: Authority, tmp_path: Path
) -> None:
    strangers = Authority(tmp_path / "strangers", "strangers")
    revoked, by_middle = ca.sign("revoked"), Authority(tmp_path / "m", "middle", signed_by=ca).sign("by-middle")
    crl = tmp_path / "crl.pem"
    crl.write_bytes(ca.revocations([revoked.serial]))
    flags = [f"--trusted-ca-file={ca.cert}", "--client-cert-auth", f"--client-crl-file={crl}"]
    node = served(program, tmp_path, ca, *ca.sign("server").server_flags, *flags)
    try:
        assert comes_in(node, ca, *ca.sign("alice").curl_flags)
        assert comes_in(node, ca, *by_middle.curl_flags)
        refused = {
            "none": [],
            "a stranger's": strangers.sign("stranger").curl_flags,
            "expired": ca.sign("expired", days=(-9, -1)).curl_flags,
            "a server's": ca.sign("only", usages=(ExtendedKeyUsageOID.SERVER_AUTH,)).curl_flags,
            "revoked": revoked.curl_flags,
        }
        assert [name for name, flags in refused.items() if comes_in(node, ca, *flags)] == []
        for words in ("didn't provide a certificate", "expired", f"certificate serial {revoked.serial:x} revoked"):
            wait_until(partial(is_told, node, "client", words), 20, f"{words} is told in the log")
        latest = ca.sign("latest")
        assert comes_in(node, ca, *latest.curl_flags)
        crl.write_bytes(ca.revocations([latest.serial]))
        assert not comes_in(node, ca, *latest.curl_flags), "a list that has changed counts at once"
    finally:
        node.kill()


def test_the_common_name_of_a_certificate_is_a_user(program: Program, ca: Authority, tmp_path: Path) -> None:
    """Of calls by gRPC; not through the gateway, in etcd neither."""
    flags = [*ca.sign("server").server_flags, f"--trusted-ca-file={ca.cert}", "--client-cert-auth"]
    node = served(program, tmp_path, ca, *flags)
    ctl = Etcdctl([node.endpoint])
    root, alice, nobody = (ca.sign(f"user-{name}", common_name=name) for name in ("root", "alice", "nobody"))

    def run(pair: Pair, *arguments: str) -> str:
        done = ctl.run(f"--cacert={ca.cert}", *pair.etcdctl_flags, *arguments)
        return done.stdout or done.error

    try:
        for command in (
            "user add root --no-password",
            "user grant-role root root",
            "role add app",
            "role grant-permission app readwrite app/ --prefix=true",
            "user add alice --no-password",
            "user grant-role alice app",
            "auth enable",
        ):
            assert ctl.run(f"--cacert={ca.cert}", *root.etcdctl_flags, *command.split()).status == 0, command
        assert run(alice, "put", "app/a", "hers") == "OK\n"
        assert "permission denied" in run(alice, "put", "other", "not hers")
        assert run(root, "put", "other", "his") == "OK\n"
        assert "permission denied" in run(nobody, "get", "app/a")
        asked = ["--http2", "-d", '{"key":"YXBwL2E="}', *alice.curl_flags]
        assert "ommon" in (answer := curl(node, ca, *asked, path="/v3/kv/range")), "said in other words by each"
        assert "kvs" not in answer
    finally:
        node.kill()


def test_only_a_certificate_with_an_allowed_hostname_comes_in(program: Program, ca: Authority, tmp_path: Path) -> None:
    flags = [f"--trusted-ca-file={ca.cert}", "--client-cert-auth", "--client-cert-allowed-hostname=b.org,example.com"]
    node = served(program, tmp_path, ca, *ca.sign("server").server_flags, *flags)
    try:
        assert comes_in(node, ca, *ca.sign("allowed", hosts=("example.com",)).curl_flags)
        assert not comes_in(node, ca, *ca.sign("another", hosts=("example.org",)).curl_flags)
    finally:
        node.kill()


def test_no_version_below_1_2_is_spoken_and_no_lower_one_than_told(
    program: Program, ca: Authority, tmp_path: Path
) -> None:
    server = ca.sign("server")
    old = ["--tlsv1.0", "--tls-max", "1.1", "--ciphers", "DEFAULT:@SECLEVEL=0"]
    node = served(program, tmp_path / "new", ca, *server.server_flags, "--tls-min-version=TLS1.3")
    try:
        assert not comes_in(node, ca, "--tls-max", "1.2")
        assert comes_in(node, ca, "--tlsv1.3")
    finally:
        node.kill()
    suite = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
    told = ("--tls-max-version=TLS1.2", f"--cipher-suites={suite}")
    node = served(program, tmp_path / "old", ca, *server.server_flags, *told)
    try:
        assert not comes_in(node, ca, "--tlsv1.3")
        assert comes_in(node, ca, "--ciphers", "ECDHE-ECDSA-AES128-GCM-SHA256")
        assert not comes_in(node, ca, "--ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384")
        assert not comes_in(node, ca, *old)
    finally:
        node.kill()


def test_http_and_https_stand_side_by_side_on_one_port_too(program: Program, ca: Authority, tmp_path: Path) -> None:
    node = Node(program, tmp_path, flags=[*QUICK, *ca.sign("server").server_flags], scheme="https", trust=trusting(ca))
    plain = f"http://127.0.0.1:{node.client_port}"
    node.flags = [*node.flags, f"--listen-client-urls={node.endpoint},{plain}"]
    with node:
        wait_until(lambda: "ready to serve client requests" in node.log(), READY_S, "the cluster's version is decided")
        assert comes_in(node, ca)
        assert subprocess.check_output(["curl", "-s", f"{plain}/version"], text=True, timeout=60) == VERSION
        assert Etcdctl([plain]).run("put", "a", "in the clear").stdout == "OK\n"
        assert Etcdctl([node.endpoint]).run(f"--cacert={ca.cert}", "get", "a").stdout == "a\nin the clear\n"
        assert "scheme is http or unix while key" in node.log() or "scheme is HTTP while key" in node.log()


def test_auto_tls_makes_certificates_once_and_keeps_them(program: Program, ca: Authority, tmp_path: Path) -> None:
    node = served(program, tmp_path, ca, "--auto-tls", "--self-signed-cert-validity=2")
    fixtures = node.data_dir / "fixtures" / "client"
    made = (fixtures / "cert.pem").read_bytes()
    try:
        assert (fixtures / "key.pem").stat().st_mode & 0o077 == 0
        trusted = subprocess.run(
            ["curl", "-sS", "--cacert", str(fixtures / "cert.pem"), f"{node.endpoint}/version"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert trusted.stdout == VERSION, trusted.stderr
        certificate = x509.load_pem_x509_certificate(made)
        assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 2 * 365
        if program.engine == "kvorum":  # an etcd's, on P-521, is none that Python's gRPC would take
            asyncio.run(put_with(Tls(ca=str(fixtures / "cert.pem")), node))
        node.kill()
        node.start()
        wait_until(lambda: node.log().count("ready to serve client requests") == 2, READY_S, "it serves again")
        assert (fixtures / "cert.pem").read_bytes() == made
    finally:
        node.kill()


async def put_with(tls: Tls, node: Node) -> None:
    async with Client([node.endpoint], tls=tls, timeout_s=30) as client:
        await client.put(b"a", b"1")


def test_certificates_that_cannot_be_end_the_start_with_the_flag_named(tmp_path: Path) -> None:
    node = Node(kvorum_program(), tmp_path, flags=["--cert-file=/none", "--key-file=/none"], scheme="https")
    node.start()
    assert node.process is not None
    assert node.process.wait(READY_S) == 1
    assert node.log().startswith("kvorum: --cert-file: cannot read /none: No such file or directory\n")


def test_nothing_can_be_read_as_two_requests_over_what_was_agreed(ca: Authority, tmp_path: Path) -> None:
    """A client that agreed on one protocol and speaks the other, and what only one of them allows."""
    node = served(kvorum_program(), tmp_path, ca, *ca.sign("server").server_flags)
    smuggled = b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n"
    try:
        assert b"HTTP/1.1 200" in say(node, ca, ["http/1.1"], smuggled)
        assert b"HTTP/1.1" not in say(node, ca, ["h2"], smuggled)
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        assert say(node, ca, ["http/1.1"], preface).startswith(b"HTTP/1.1 505")
        assert say(node, ca, ["h2"], preface + bytes(3) + b"\x04" + bytes(5))[3] == 4  # SETTINGS
        both = b"POST /version HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert say(node, ca, ["http/1.1"], both + smuggled).count(b"HTTP/1.1") == 1
        long = b"GET /version HTTP/1.1\r\nHost: a\r\nA: " + bytes(80_000).replace(b"\0", b"a") + b"\r\n\r\n"
        assert say(node, ca, ["http/1.1"], long).startswith(b"HTTP/1.1 431")
        for header in ("Transfer-Encoding: chunked", "Connection: close", "Host: another"):
            assert curl(node, ca, "--http2", "-H", header, "-H", "A: b") == VERSION, "curl leaves these out of HTTP/2"
        (tmp_path / "long").write_bytes(bytes(5_000_000))
        long_body = ["--http2", "--data-binary", f"@{tmp_path / 'long'}", "-w", " %{http_code}"]
        # curl 7.88 hears of an answer before the end of its body only that the stream is over.
        assert curl(node, ca, *long_body, path="/v3/kv/put")[-3:] in ("413", "000")
        assert comes_in(node, ca)
    finally:
        node.kill()


def say(node: Node, ca: Authority, protocols: Sequence[str], data: bytes) -> bytes:
    """What comes back until the other side ends, or nothing more does for half a second."""
    context = trusting(ca)
    context.set_alpn_protocols(list(protocols))
    answer = b""
    with (
        socket.create_connection(("127.0.0.1", node.client_port), timeout=20) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as secure,
    ):
        secure.sendall(data)
        secure.settimeout(0.5)
        try:
            while received := secure.recv(65536):
                answer += received
        except OSError:
            pass
    return answer


# ---- members, and files that change under them -----------------------------------------------------------------------


def members(folder: Path, *flags: str, trust: ssl.SSLContext) -> Cluster:
    cluster = Cluster(kvorum_program(), folder, flags=[*QUICK, *flags])
    for node in cluster.nodes:
        node.scheme = node.peer_scheme = "https"
        node.trust = trust
    for node in cluster.nodes:
        node.initial_cluster = ",".join(f"{one.name}={one.peer_url}" for one in cluster.nodes)
    return cluster


def connections(node: Node) -> set[str]:
    """Of clients and members, as the kernel lists them: each by both its ends."""
    ports = f"( sport = :{node.client_port} or sport = :{node.peer_port} )"
    listed = subprocess.check_output(["ss", "-Htn", "state", "established", ports], text=True)
    return {" ".join(line.split()[-2:]) for line in listed.splitlines()}


def kept(node: Node) -> set[str]:
    """Those of them that are there for longer than a probe of 4 s is kept."""
    standing = connections(node)
    until = time.monotonic() + KEPT_S
    wait_until(lambda: time.monotonic() > until, 2 * KEPT_S, "probes have come and gone")
    return standing & connections(node)


def test_authorities_roll_over_under_traffic_and_no_connection_is_dropped(tmp_path: Path) -> None:
    """Both trusted, then certificates of the next one, then it alone: without a restart, for clients and members."""
    former, later = Authority(tmp_path / "former", "former"), Authority(tmp_path / "later", "later")
    authorities = tmp_path / "authorities.pem"
    authorities.write_bytes(former.pem)
    member, client = former.sign("member", common_name="member"), former.sign("client", common_name="client")
    flags = [
        *member.server_flags,
        *member.peer_flags,
        f"--trusted-ca-file={authorities}",
        f"--peer-trusted-ca-file={authorities}",
        "--client-cert-auth",
        "--peer-client-cert-auth",
        "--peer-cert-allowed-cn=member",
    ]
    ask = ["--cacert", str(authorities), *client.curl_flags]
    with members(tmp_path, *flags, trust=trusting(former, member)) as cluster:
        ctl = [f"--cacert={authorities}", *client.etcdctl_flags]
        watch = subprocess.Popen(
            [str(Etcdctl([]).program), f"--endpoints={cluster.endpoints[0]}", *ctl, "watch", "w"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            node = cluster.nodes[0]
            # Two streams of each other member, and the watch; what is asked now and then comes and goes beside them.
            wait_until(lambda: len(connections(node)) >= 5, 20, "streams of both members and the watch stand")
            standing = kept(node)

            replace(authorities, former.pem + later.pem)
            assert comes_in(node, former, *ask[2:])
            member.become(later.sign("next-member", common_name="member"))
            assert subprocess.check_output(["curl", "-sS", *ask, f"{node.endpoint}/version"], text=True) == VERSION
            client.become(later.sign("next-client", common_name="client"))
            replace(authorities, later.pem)
            assert subprocess.check_output(["curl", "-sS", *ask, f"{node.endpoint}/version"], text=True) == VERSION
            assert not comes_in(node, later, *former.sign("too-late").curl_flags)
            assert Etcdctl(cluster.endpoints).run(*ctl, "put", "w", "after").stdout == "OK\n"
            assert watch.stdout is not None
            assert [watch.stdout.readline() for _ in range(3)] == ["PUT\n", "w\n", "after\n"]
            assert standing - connections(node) == set(), "nobody's connection was dropped"

            # A member that starts anew is one of the later authority among its like.
            cluster.nodes[1].trust = cluster.nodes[0].trust = cluster.nodes[2].trust = trusting(later, member)
            cluster.nodes[1].restart()
            cluster.nodes[1].wait_healthy()
        finally:
            watch.kill()
            watch.wait()


def test_a_member_without_a_certificate_that_will_do_is_kept_out(program: Program, tmp_path: Path) -> None:
    ca, strangers = Authority(tmp_path / "ca"), Authority(tmp_path / "strangers", "strangers")
    member = ca.sign("member", common_name="member")
    flags = [
        *member.peer_flags,
        f"--peer-trusted-ca-file={ca.cert}",
        "--peer-client-cert-auth",
        "--peer-cert-allowed-cn=member",
    ]
    node = Node(program, tmp_path, flags=[*QUICK, *flags], peer_scheme="https", trust=trusting(ca, member))
    with node:
        elsewhere = ca.sign("elsewhere", common_name="member", hosts=("10.1.2.3",))
        cases = {
            "none": [],
            "a stranger's": strangers.sign("s", common_name="member").curl_flags,
            "another name's": ca.sign("o", common_name="other").curl_flags,
            "of elsewhere": elsewhere.curl_flags,
        }
        for _, arguments in cases.items():
            asked = subprocess.run(
                ["curl", "-s", "--http1.1", "--cacert", ca.cert, *arguments, f"{node.peer_url}/members"],
                capture_output=True,
                timeout=60,
                check=False,
            )
            assert asked.stdout == b""
        known = ["curl", "-s", "--http1.1", "--cacert", str(ca.cert), *member.curl_flags, f"{node.peer_url}/members"]
        assert node.name in subprocess.check_output(known, text=True)
        for words in ("didn't provide a certificate", "client certificate authentication failed", "10.1.2.3"):
            wait_until(partial(is_told, node, "peer", words), 20, f"{words} is told in the log")
