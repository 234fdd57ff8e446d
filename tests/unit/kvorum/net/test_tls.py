"""Certificates in files: who is believed, who is not and why, and what a changed file changes. Handshakes in memory."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace as changed
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from kvorum.net.tls import ClientTls, ServerTls, TlsFiles, TlsUnusable, _check_address, is_named
from kvorum.net.tls_connection import Identified, NotTrusted

from tests.kit.certificates import Authority, Pair, replace

ALPN = ("h2", "http/1.1")


def shake(
    server: ssl.SSLContext,
    client: ssl.SSLContext,
    hostname: str = "127.0.0.1",
    session: ssl.SSLSession | None = None,
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends once they are done. Raises what the first of them raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=hostname, session=session),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = [True, True]
    while any(waiting):
        for position, end in enumerate(ends):
            try:
                end.do_handshake()
                waiting[position] = False
            except ssl.SSLWantReadError:
                pass
    return ends[1], ends[0]


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def other_ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"), "other")


def of_server(ca: Authority, folder: Path, *, asks: bool = True) -> TlsFiles:
    """Files of its own, so that a test may change them."""
    own = Authority(folder / "unused")
    pair = own.sign("server")
    pair.become(ca.sign(f"server-{folder.name}"))
    authorities = folder / "authorities.pem"
    authorities.write_bytes(ca.pem)
    files = TlsFiles(cert=str(pair.cert), key=str(pair.key))
    return changed(files, trusted_ca=str(authorities), asks_client=True) if asks else files


def dialing(ca: Authority, pair: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca.cert))
    if pair is not None:
        context.load_cert_chain(pair.cert, pair.key)
    return context


def refusal(server: ServerTls, ca: Authority, pair: Pair | None) -> str:
    """How the server's side puts it; empty for none."""
    try:
        shaken, _ = shake(server.context(), dialing(ca, pair))
    except ssl.SSLError as error:
        return getattr(error, "verify_message", "") or str(error.reason)
    try:
        server.identify(shaken)
    except NotTrusted as error:
        return str(error)
    return ""


def test_a_certificate_of_the_authority_is_asked_for_and_its_common_name_known(ca: Authority, tmp_path: Path) -> None:
    server = ServerTls(of_server(ca, tmp_path), alpn=ALPN)
    shaken, _ = shake(server.context(), dialing(ca, ca.sign("alice", common_name="alice", hosts=("::1", "a.b"))))
    who = server.identify(shaken)
    assert (who.common_name, who.dns_names, who.ip_addresses) == ("alice", ("a.b",), ("::1",))
    assert refusal(server, ca, None) == "PEER_DID_NOT_RETURN_A_CERTIFICATE"


def test_without_an_authority_nobody_is_asked(ca: Authority, tmp_path: Path) -> None:
    server = ServerTls(of_server(ca, tmp_path, asks=False), alpn=ALPN)
    shaken, _ = shake(server.context(), dialing(ca))
    assert server.identify(shaken).common_name is None


def test_an_authority_alone_asks_for_a_certificate_and_makes_nobody_a_user(ca: Authority, tmp_path: Path) -> None:
    server = ServerTls(changed(of_server(ca, tmp_path), asks_client=False), alpn=ALPN)
    assert refusal(server, ca, None) == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
    shaken, _ = shake(server.context(), dialing(ca, ca.sign("somebody", common_name="somebody")))
    assert server.identify(shaken).common_name is None


def test_certificates_that_are_foreign_expired_or_for_something_else_are_refused(
    ca: Authority, other_ca: Authority, tmp_path: Path
) -> None:
    server = ServerTls(of_server(ca, tmp_path), alpn=ALPN)
    assert "issuer certificate" in refusal(server, ca, other_ca.sign("foreign"))
    assert refusal(server, ca, ca.sign("old", days=(-9, -1))) == "certificate has expired"
    assert refusal(server, ca, ca.sign("early", days=(1, 9))) == "certificate is not yet valid"
    only_server = ca.sign("only-server", usages=(ExtendedKeyUsageOID.SERVER_AUTH,))
    assert refusal(server, ca, only_server) == "unsuitable certificate purpose"
    assert refusal(server, ca, ca.sign("good")) == ""


def test_a_chain_is_followed_also_where_only_its_middle_is_trusted(ca: Authority, tmp_path: Path) -> None:
    middle = Authority(tmp_path / "middle", "middle", signed_by=ca)
    pair = middle.sign("below")
    files = of_server(ca, tmp_path)
    assert refusal(ServerTls(files, alpn=ALPN), ca, pair) == ""
    replace(Path(files.trusted_ca), middle.pem)
    assert refusal(ServerTls(files, alpn=ALPN), ca, pair) == ""


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_who_is_revoked_or_signed_by_who_is_does_not_come_in(ca: Authority, tmp_path: Path, encoding: Encoding) -> None:
    lists = tmp_path / "revoked"
    revoked, good = ca.sign("revoked"), ca.sign("kept")
    middle = Authority(tmp_path / "middle", "middle", signed_by=ca)
    below = middle.sign("below")
    lists.write_bytes(ca.revocations([revoked.serial, middle.certificate.serial_number], encoding=encoding))
    server = ServerTls(changed(of_server(ca, tmp_path), crl=str(lists)), alpn=ALPN)
    assert refusal(server, ca, revoked) == f"transport: certificate serial {revoked.serial:x} revoked"
    assert refusal(server, ca, below) == f"transport: certificate serial {middle.certificate.serial_number:x} revoked"
    assert refusal(server, ca, good) == ""


def test_several_lists_in_one_file_all_count(ca: Authority, other_ca: Authority, tmp_path: Path) -> None:
    one, two = ca.sign("one"), ca.sign("two")
    (tmp_path / "crl").write_bytes(ca.revocations([one.serial]) + b"\n" + other_ca.revocations([two.serial]))
    server = ServerTls(changed(of_server(ca, tmp_path), crl=str(tmp_path / "crl")), alpn=ALPN)
    assert "revoked" in refusal(server, ca, one)
    assert "revoked" in refusal(server, ca, two)


def test_only_allowed_names_come_in(ca: Authority, tmp_path: Path) -> None:
    files = of_server(ca, tmp_path)
    by_name = ServerTls(changed(files, allowed_common_names=("a", "b")), alpn=ALPN)
    assert refusal(by_name, ca, ca.sign("b", common_name="b")) == ""
    assert refusal(by_name, ca, ca.sign("c", common_name="c")).startswith("client certificate authentication failed")
    assert refusal(by_name, ca, ca.sign("none")).startswith("client certificate authentication failed")
    by_host = ServerTls(changed(files, allowed_hostnames=("x.org", "10.0.0.1")), alpn=ALPN)
    assert refusal(by_host, ca, ca.sign("h", hosts=("*.org",))) == ""
    assert refusal(by_host, ca, ca.sign("i", hosts=("10.0.0.1",))) == ""
    assert refusal(by_host, ca, ca.sign("j", common_name="x.org", hosts=())).startswith("client certificate")


def test_a_resumed_session_brings_nobody_in_who_would_not_come_in_anew(ca: Authority, tmp_path: Path) -> None:
    """TLS 1.2 has them by an id that the server keeps; tickets, which a client keeps, are not given."""
    files = changed(of_server(ca, tmp_path), version_max=ssl.TLSVersion.TLSv1_2, crl=str(tmp_path / "crl"))
    Path(files.crl).write_bytes(ca.revocations([]))
    server = ServerTls(files, alpn=ALPN)
    pair = ca.sign("again", common_name="again")
    client = dialing(ca, pair)
    _, first = shake(server.context(), client)
    assert first.session is not None
    assert not first.session.has_ticket
    resumed, _ = shake(server.context(), client, session=first.session)
    assert resumed.session_reused
    assert server.identify(resumed).common_name == "again"
    replace(Path(files.crl), ca.revocations([pair.serial]))
    anew, _ = shake(server.context(), client, session=first.session)
    assert not anew.session_reused
    with pytest.raises(NotTrusted, match="revoked"):
        server.identify(anew)
    assert server.context().options & ssl.OP_NO_RENEGOTIATION


def test_versions_and_suites_are_as_told(ca: Authority, tmp_path: Path) -> None:
    files = of_server(ca, tmp_path, asks=False)
    suite = "ECDHE-ECDSA-AES256-GCM-SHA384"
    told = changed(files, ciphers=(suite,), version_max=ssl.TLSVersion.TLSv1_2)
    _, shaken = shake(ServerTls(told, alpn=ALPN).context(), dialing(ca))
    assert shaken.version() == "TLSv1.2"
    assert (shaken.cipher() or ("",))[0] == suite
    newest = changed(files, version_min=ssl.TLSVersion.TLSv1_3)
    older = dialing(ca)
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"UNSUPPORTED_PROTOCOL|PROTOCOL_VERSION"):
        shake(ServerTls(newest, alpn=ALPN).context(), older)


# ---- files that change -----------------------------------------------------------------------------------------------


def test_changed_files_count_for_the_next_handshake_the_authority_too(
    ca: Authority, other_ca: Authority, tmp_path: Path
) -> None:
    files = changed(of_server(ca, tmp_path), crl=str(tmp_path / "crl"))
    crl, authorities = Path(files.crl), Path(files.trusted_ca)
    pair = Pair(Path(files.cert), Path(files.key), 0)
    crl.write_bytes(ca.revocations([]))
    server = ServerTls(files, alpn=ALPN)
    ours, theirs = ca.sign("ours"), other_ca.sign("theirs")
    assert refusal(server, ca, ours) == ""
    before = server.context()
    assert server.context() is before, "nothing has changed"

    replace(authorities, ca.pem + other_ca.pem)  # the way from one authority to the next: first both are trusted
    assert refusal(server, ca, ours) == refusal(server, ca, theirs) == ""
    pair.become(other_ca.sign("moved"))
    assert refusal(server, other_ca, ours) == refusal(server, other_ca, theirs) == ""
    replace(authorities, other_ca.pem)
    assert "issuer certificate" in refusal(server, other_ca, ours)
    assert refusal(server, other_ca, theirs) == ""
    replace(crl, ca.revocations([theirs.serial]))
    assert "revoked" in refusal(server, other_ca, theirs)


def break_key(files: TlsFiles, ca: Authority) -> None:
    replace(Path(files.key), ca.sign("stranger").key.read_bytes())


def cut_certificate(files: TlsFiles, ca: Authority) -> None:
    replace(Path(files.cert), Path(files.cert).read_bytes()[:200])


def remove_authority(files: TlsFiles, ca: Authority) -> None:
    Path(files.trusted_ca).unlink()


def spoil_revocations(files: TlsFiles, ca: Authority) -> None:
    replace(Path(files.crl), b"-----BEGIN X509 CRL-----\nAAAA\n")


@pytest.mark.parametrize("spoil", [break_key, cut_certificate, remove_authority, spoil_revocations])
def test_files_that_cannot_be_used_are_told_once_and_the_former_stay(
    ca: Authority,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[TlsFiles, Authority], None],
) -> None:
    files = changed(of_server(ca, tmp_path), crl=str(tmp_path / "crl"))
    revoked = ca.sign("gone")
    Path(files.crl).write_bytes(ca.revocations([revoked.serial]))
    server = ServerTls(files, alpn=ALPN)
    spoil(files, ca)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert refusal(server, ca, ca.sign("any")) == ""
            assert "revoked" in refusal(server, ca, revoked)
    assert len(caplog.records) == 1
    assert "the former stay" in caplog.text
    assert "PRIVATE" not in caplog.text


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"cert": "/none"}, "--cert-file: cannot read /none: No such file or directory"),
        ({"key": "/none"}, "--key-file: cannot read /none"),
        ({"key": ""}, "--cert-file and --key-file must both be given"),
        ({"trusted_ca": "/none"}, "--trusted-ca-file: cannot read /none"),
        ({"crl": "/none"}, "--client-crl-file: cannot read /none"),
        ({"crl": "/none", "prefix": "peer-"}, "--peer-crl-file: cannot read /none"),
        ({"cert": "/none", "prefix": "peer-"}, "--peer-cert-file: cannot read /none"),
    ],
)
def test_files_that_are_missing_at_the_start_are_named_by_flag(
    ca: Authority, tmp_path: Path, what: dict[str, str], words: str
) -> None:
    with pytest.raises(TlsUnusable, match=words):
        ServerTls(changed(of_server(ca, tmp_path), **what), alpn=ALPN)  # type: ignore[arg-type]  # texts all


def test_a_key_that_is_not_the_certificates_is_said_to_be(ca: Authority, tmp_path: Path) -> None:
    files = of_server(ca, tmp_path)
    with pytest.raises(TlsUnusable, match="is not the one of the certificate in"):
        ServerTls(changed(files, key=str(ca.sign("another").key)), alpn=ALPN)
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(TlsUnusable, match="are no pair in PEM"):
        ServerTls(changed(files, key=str(tmp_path / "empty")), alpn=ALPN)
    with pytest.raises(TlsUnusable, match="holds no certificates"):
        ServerTls(changed(files, trusted_ca=str(tmp_path / "empty")), alpn=ALPN)
    with pytest.raises(TlsUnusable, match="OpenSSL allows none of RC4-SHA"):
        ServerTls(changed(files, ciphers=("RC4-SHA",)), alpn=ALPN)


# ---- whom we dial ----------------------------------------------------------------------------------------------------


def test_a_dialer_believes_the_authority_and_the_name_alone(ca: Authority, other_ca: Authority, tmp_path: Path) -> None:
    pair = ca.sign("dialer", common_name="member")
    client = ClientTls(TlsFiles(cert=str(pair.cert), key=str(pair.key), trusted_ca=str(ca.cert)))
    server = ServerTls(of_server(ca, tmp_path), alpn=ALPN)
    shaken, _ = shake(server.context(), client.context())
    assert server.identify(shaken).common_name == "member"
    shake(server.context(), client.context(), "localhost")
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake(server.context(), client.context(), "another.name")
    foreign = other_ca.sign("foreign")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(ServerTls(TlsFiles(cert=str(foreign.cert), key=str(foreign.key)), alpn=ALPN).context(), client.context())


def test_a_dialer_may_show_another_certificate_and_asks_for_an_allowed_name(ca: Authority, tmp_path: Path) -> None:
    pair, shown = ca.sign("main", common_name="main"), ca.sign("shown", common_name="shown")
    files = TlsFiles(cert=str(pair.cert), key=str(pair.key), trusted_ca=str(ca.cert))
    client = ClientTls(changed(files, client_cert=str(shown.cert), client_key=str(shown.key)))
    server = ServerTls(of_server(ca, tmp_path), alpn=ALPN)
    at_server, at_client = shake(server.context(), client.context())
    assert server.identify(at_server).common_name == "shown"
    with pytest.raises(NotTrusted):
        ClientTls(changed(files, allowed_common_names=("someone",))).identify(at_client)
    with pytest.raises(TlsUnusable, match="--client-cert-file and --client-key-file must both be given, or neither"):
        ClientTls(changed(files, client_cert=str(shown.cert)))


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("a.example", True),
        ("A.Example.", True),
        ("b.wild.example", True),
        ("wild.example", False),
        ("x.b.wild.example", False),
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("[fe80::1]", True),
        ("10.1.2.4", False),
        (".wild.example", False),
        ("", False),
    ],
)
def test_a_certificate_is_for_its_names_and_addresses(host: str, is_it: bool) -> None:
    who = Identified(dns_names=("a.example", "*.wild.example"), ip_addresses=("10.1.2.3", "fe80::1"))
    assert is_named(who, host) is is_it


@pytest.mark.parametrize(
    ("names", "addresses", "comes"),
    [
        ((), ("127.0.0.1",), True),
        ((), ("10.9.9.9",), False),
        (("localhost",), (), True),  # a name that resolves to whence it comes
        (("localhost",), ("10.9.9.9",), True),
        (("nowhere.invalid",), (), False),
        (("nowhere.invalid",), ("127.0.0.1",), True),
    ],
)
def test_a_member_comes_from_where_its_certificate_is_for(
    names: tuple[str, ...], addresses: tuple[str, ...], comes: bool
) -> None:
    who = Identified(dns_names=names, ip_addresses=addresses)
    if comes:
        asyncio.run(_check_address(who, "127.0.0.1"))
    else:
        with pytest.raises(NotTrusted, match=r"127\.0\.0\.1"):
            asyncio.run(_check_address(who, "127.0.0.1"))


def test_a_name_stands_for_every_name_below_it_where_the_address_has_one() -> None:
    name = socket.getnameinfo(("127.0.0.1", 0), 0)[0]
    if "." in name:
        asyncio.run(_check_address(Identified(dns_names=("*." + name.partition(".")[2],)), "127.0.0.1"))
    else:
        asyncio.run(_check_address(Identified(dns_names=(name,)), "127.0.0.1"))
