"""Members of both engines in one cluster over TLS: certificates that each checks of the other, and such as are made."""

import ssl
from pathlib import Path

from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.kit.certificates import Authority, Pair
from tests.kit.deadline import wait_until
from tests.kit.etcdctl import Etcdctl
from tests.kit.processes import Cluster, Program

QUICK = ("--heartbeat-interval=50", "--election-timeout=500")
SNAPSHOT = ("--snapshot-count=20", "--experimental-snapshot-catchup-entries=5")


def mixed(programs: list[Program], folder: Path, flags: list[str], trust: ssl.SSLContext) -> Cluster:
    cluster = Cluster(programs, folder, flags=[*QUICK, *flags])
    for node in cluster.nodes:
        node.peer_scheme = "https"
        node.trust = trust
    for node in cluster.nodes:
        node.initial_cluster = ",".join(f"{one.name}={one.peer_url}" for one in cluster.nodes)
    return cluster


def unchecked(pair: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if pair is not None:
        context.load_cert_chain(pair.cert, pair.key)
    return context


def put_everywhere(cluster: Cluster) -> None:
    for node in cluster.nodes:
        assert Etcdctl([node.endpoint]).run("put", node.name, "by it").stdout == "OK\n"
    for node in cluster.nodes:
        found = Etcdctl([node.endpoint]).run("get", "", "--prefix", "--keys-only", "--limit=3").stdout.split()
        assert found == [one.name for one in cluster.nodes]


def test_members_check_each_others_certificates(reference: Program, subject: Program, tmp_path: Path) -> None:
    """One certificate to be dialed at, another to dial with, an allowed host name, a list of revoked ones; and one of
    ours that was away is caught up by a snapshot of whoever leads, which travels the same way."""
    ca = Authority(tmp_path / "ca")
    served = ca.sign("served", hosts=("127.0.0.1", "member.test"))
    dials = ca.sign("dials", hosts=("10.1.2.3", "member.test"), usages=(ExtendedKeyUsageOID.CLIENT_AUTH,))
    crl = tmp_path / "crl.pem"
    crl.write_bytes(ca.revocations([ca.sign("gone").serial]))
    flags = [
        *served.peer_flags,
        f"--peer-client-cert-file={dials.cert}",
        f"--peer-client-key-file={dials.key}",
        "--peer-client-cert-auth",
        f"--peer-trusted-ca-file={ca.cert}",
        f"--peer-crl-file={crl}",
        "--peer-cert-allowed-hostname=member.test",
        "--experimental-peer-skip-client-san-verification",  # 10.1.2.3 is not where they dial from
        *SNAPSHOT,
    ]
    with mixed([subject, reference, subject], tmp_path, flags, unchecked(dials)) as cluster:
        put_everywhere(cluster)
        away, *others = cluster.nodes
        away.kill()
        ctl = Etcdctl([node.endpoint for node in others])
        for number in range(60):
            assert ctl.run("put", f"while-away-{number}", "x").stdout == "OK\n"
        away.start()
        away.wait_healthy()
        assert Etcdctl([away.endpoint]).run("get", "while-away-59").stdout == "while-away-59\nx\n"

        crl.write_bytes(ca.revocations([dials.serial]))
        away.kill()
        away.start()
        revoked = f"certificate serial {dials.serial:x} revoked"
        for node in cluster.nodes:
            wait_until(lambda node=node: revoked in node.log(), 30, f"{node.name} lets nobody dial in")  # type: ignore[misc]  # of this turn


def test_members_take_each_others_made_certificates(reference: Program, subject: Program, tmp_path: Path) -> None:
    with mixed([subject, reference, subject], tmp_path, ["--peer-auto-tls"], unchecked()) as cluster:
        put_everywhere(cluster)
        for node in cluster.nodes:
            assert (node.data_dir / "fixtures" / "peer" / "cert.pem").is_file()
