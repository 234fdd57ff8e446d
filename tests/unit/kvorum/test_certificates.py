"""Certificates out of settings: which ports get which, what is made by itself, and what cannot hold together."""

import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from kvorum import certificates
from kvorum.certificates import self_signed
from kvorum.config import Config, load
from kvorum.net.tls import TlsUnusable
from kvorum.storage.data_dir import DataDir

from tests.kit.certificates import Authority

HTTPS = ("--listen-client-urls=https://127.0.0.1:1", "--advertise-client-urls=https://127.0.0.1:1")
ANY = ("--cert-file=/a", "--key-file=/b")
PEERS = ("--listen-peer-urls=https://127.0.0.1:2,https://localhost:2",)


def configured(folder: Path, *flags: str) -> Config:
    return load([f"--data-dir={folder / 'data'}", *flags], {})


def test_without_https_there_are_no_certificates_and_nothing_is_made(tmp_path: Path) -> None:
    shown = certificates.load(configured(tmp_path))
    assert (shown.clients, shown.metrics, shown.peers) == (None, None, None)
    assert not (tmp_path / "data").exists()


def test_each_port_with_https_has_its_certificates_and_protocols(tmp_path: Path) -> None:
    pair = Authority(tmp_path).sign("server")
    flags = [*pair.server_flags, *pair.peer_flags, "--listen-metrics-urls=https://127.0.0.1:3,http://127.0.0.1:4"]
    shown = certificates.load(configured(tmp_path, *HTTPS, *PEERS, *flags))
    assert shown.clients is not None
    assert shown.metrics is not None
    assert shown.peers is not None
    assert not shown.clients.checks_address
    assert shown.peers.checks_address
    skipped = certificates.load(
        configured(tmp_path, *PEERS, *flags, "--experimental-peer-skip-client-san-verification")
    )
    assert skipped.peers is not None
    assert not skipped.peers.checks_address


def test_certificates_beside_plain_urls_are_named_as_unused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pair = Authority(tmp_path).sign("server")
    with caplog.at_level(logging.WARNING):
        certificates.load(configured(tmp_path, *pair.server_flags, "--client-cert-auth"))
    assert [record.getMessage() for record in caplog.records] == [
        "scheme is HTTP while key and cert files are present; ignoring key and cert files",
        "scheme is HTTP while --client-cert-auth is enabled; ignoring client cert auth for this URL",
    ]
    assert caplog.records[0].__dict__["client-url"] == "http://localhost:2379"


def test_a_made_certificate_names_the_addresses_and_is_for_its_side(tmp_path: Path) -> None:
    certificates.load(configured(tmp_path, *HTTPS, *PEERS, "--auto-tls", "--peer-auto-tls"))
    fixtures = tmp_path / "data" / "fixtures"
    for side, usages in (
        ("client", [ExtendedKeyUsageOID.SERVER_AUTH]),
        ("peer", [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
    ):
        made = x509.load_pem_x509_certificate((fixtures / side / "cert.pem").read_bytes())
        assert list(made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == usages
        assert made.not_valid_after_utc - made.not_valid_before_utc == timedelta(days=365)
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
        assert names.get_values_for_type(x509.DNSName) == (["localhost"] if side == "peer" else [])
        assert os.stat(fixtures / side / "key.pem").st_mode & 0o777 == 0o600
        assert os.stat(fixtures / side).st_mode & 0o777 == 0o700


def test_a_made_certificate_stays_until_it_has_expired(tmp_path: Path) -> None:
    cert, key = self_signed(tmp_path, ["127.0.0.1"], 1, for_members=False)
    made = cert.read_bytes()
    assert self_signed(tmp_path, ["10.0.0.1"], 5, for_members=True) == (cert, key)
    assert cert.read_bytes() == made
    old = Authority(tmp_path / "ca").sign("old", days=(-9, -1))
    cert.write_bytes(old.cert.read_bytes())
    self_signed(tmp_path, ["127.0.0.1"], 1, for_members=False)
    renewed = x509.load_pem_x509_certificate(cert.read_bytes())
    assert renewed.not_valid_after_utc > datetime.now(UTC)
    key.unlink()
    self_signed(tmp_path, ["127.0.0.1"], 1, for_members=False)
    assert x509.load_pem_x509_certificate(cert.read_bytes()).serial_number != renewed.serial_number


def test_a_data_directory_with_made_certificates_is_still_a_new_one(tmp_path: Path) -> None:
    certificates.load(configured(tmp_path, *HTTPS, "--auto-tls"))
    assert DataDir.is_unused(tmp_path / "data", tmp_path / "data" / "member" / "wal")


def test_own_certificates_go_before_made_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pair = Authority(tmp_path).sign("server")
    certificates.load(configured(tmp_path, *HTTPS, *pair.server_flags, "--auto-tls"))
    assert "ignoring client auto TLS since certs given" in caplog.text
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (HTTPS, "--cert-file and --key-file must both be given for https"),
        ([*HTTPS, "--cert-file=/none"], "--cert-file and --key-file must both be given for https"),
        ([*HTTPS, "--cert-file=/none", "--key-file=/none"], "--cert-file: cannot read /none"),
        (PEERS, "--peer-cert-file and --peer-key-file must both be given for https"),
        (["--peer-cert-file=/none", "--peer-key-file=/none"], "--peer-cert-file: cannot read /none"),
        (["--peer-client-cert-file=/a"], "--peer-client-cert-file and --peer-client-key-file must both be given"),
        (["--peer-trusted-ca-file=/none"], "--peer-trusted-ca-file: cannot read /none"),
        ([*HTTPS, *ANY, "--client-cert-file=/a"], "--client-cert-file and --client-key-file must both be given"),
        ([*HTTPS, "--auto-tls", "--self-signed-cert-validity=0"], "selfSignedCertValidity is invalid"),
        ([*HTTPS, "--auto-tls", "--client-cert-auth"], "--auto-tls makes a certificate that no authority signs"),
        ([*HTTPS, "--auto-tls", "--trusted-ca-file=/a"], "so --trusted-ca-file cannot hold"),
        ([*HTTPS, "--auto-tls", "--client-crl-file=/a"], "so --client-crl-file cannot hold"),
        ([*PEERS, "--peer-auto-tls", "--peer-cert-allowed-cn=a"], "so --peer-cert-allowed-cn cannot hold"),
        ([*PEERS, "--peer-auto-tls", "--peer-crl-file=/a"], "so --peer-crl-file cannot hold"),
    ],
)
def test_what_cannot_be_is_named_by_flag(flags: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(TlsUnusable, match=words):
        certificates.load(configured(tmp_path, *flags))


def test_where_nothing_can_be_written_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(TlsUnusable, match="cannot make a certificate in"):
        certificates.load(configured(tmp_path, *HTTPS, "--auto-tls"))
