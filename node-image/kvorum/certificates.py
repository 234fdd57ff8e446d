"""Which certificates the ports of a node show and ask for: its own, or such as are made for it (auto-tls).

Made out of the settings; what they mean for a handshake is net/tls.py's. A made pair lies in data-dir/fixtures, as
etcd's does, and is that of the next start too: nobody who trusts it has to learn of a new one before it has expired.
"""

import logging
import os
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kvorum.config import Config
from kvorum.flags import Url
from kvorum.net.tls import ClientTls, ServerTls, TlsFiles, TlsUnusable
from kvorum.tls_settings import TlsRules, TlsSettings

YEAR: Final = timedelta(days=365)
VERSIONS: Final = {"TLS1.2": ssl.TLSVersion.TLSv1_2, "TLS1.3": ssl.TLSVersion.TLSv1_3}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Certificates:
    """None where a port has no https URL."""

    clients: ServerTls | None
    http_clients: ServerTls | None
    metrics: ServerTls | None
    peers: ServerTls | None
    dialing: ClientTls


def load(config: Config) -> Certificates:
    """Raises TlsUnusable."""
    fixtures, years = config.data_dir / "fixtures", config.self_signed_cert_validity_years
    members = _Side("peer-", config.peer_tls, config.listen_peer_urls, fixtures / "peer", "peer-url")
    clients = _Side("", config.client_tls, config.listen_client_urls, fixtures / "client", "client-url")
    of_peers = members.files(config.tls_rules, years)
    of_clients = clients.files(config.tls_rules, years)
    return Certificates(
        clients=ServerTls(of_clients, alpn=("h2", "http/1.1")) if clients.is_secure else None,
        http_clients=ServerTls(of_clients, alpn=("http/1.1",)) if _any_https(config.listen_client_http_urls) else None,
        metrics=ServerTls(of_clients, alpn=("http/1.1",)) if _any_https(config.listen_metrics_urls) else None,
        peers=(
            ServerTls(of_peers, alpn=("http/1.1",), checks_address=not config.peer_skip_client_san_verification)
            if members.is_secure
            else None
        ),
        dialing=ClientTls(of_peers),
    )


@dataclass(frozen=True, slots=True)
class _Side:
    """prefix: of its flags. made_in: where a made pair lies. called: how etcd's log names its URLs."""

    prefix: str
    settings: TlsSettings
    urls: Sequence[Url]
    made_in: Path
    called: str

    @property
    def is_secure(self) -> bool:
        return _any_https(self.urls)

    def files(self, rules: TlsRules, years: int) -> TlsFiles:
        settings = self.settings
        made = settings.auto_tls and not settings.has_files
        if settings.auto_tls and not made:
            log.warning("ignoring %s auto TLS since certs given", "peer" if self.prefix else "client")
        if made:
            self._require_nothing_else()
            cert, key = self_signed(self.made_in, [url.host for url in self.urls], years, for_members=bool(self.prefix))
            settings = TlsSettings(cert_file=str(cert), key_file=str(key))
        self._warn_of_http(settings)
        return TlsFiles(
            cert=settings.cert_file,
            key=settings.key_file,
            client_cert=settings.client_cert_file,
            client_key=settings.client_key_file,
            trusted_ca=settings.trusted_ca_file,
            crl=settings.crl_file,
            asks_client=settings.client_cert_auth,
            allowed_common_names=settings.allowed_cns,
            allowed_hostnames=settings.allowed_hostnames,
            ciphers=rules.ciphers,
            version_min=VERSIONS[rules.version_min],
            version_max=VERSIONS.get(rules.version_max),
            prefix=self.prefix,
            is_self_signed=made,
        )

    def _require_nothing_else(self) -> None:
        """etcd drops these without a word, and a port that was to ask for certificates takes everybody."""
        settings = self.settings
        beside = {
            f"--{self.prefix}client-cert-auth": settings.client_cert_auth,
            f"--{self.prefix}trusted-ca-file": settings.trusted_ca_file,
            f"--{self.prefix or 'client-'}crl-file": settings.crl_file,
            f"--{self.prefix}cert-allowed-cn": settings.allowed_cns,
            f"--{self.prefix or 'client-'}cert-allowed-hostname": settings.allowed_hostnames,
            f"--{self.prefix}client-cert-file": settings.client_cert_file,
        }
        dropped = [flag for flag, value in beside.items() if value]
        if dropped:
            raise TlsUnusable(
                f"--{self.prefix}auto-tls makes a certificate that no authority signs, so {', '.join(dropped)} cannot "
                "hold beside it\n"
                f"  Give --{self.prefix}cert-file and --{self.prefix}key-file, or leave {', '.join(dropped)} out"
            )

    def _warn_of_http(self, settings: TlsSettings) -> None:
        for url in self.urls:
            if url.scheme != "http":
                continue
            if settings.has_files:
                log.warning(
                    "scheme is HTTP while key and cert files are present; ignoring key and cert files",
                    extra={self.called: str(url)},
                )
            if settings.client_cert_auth:
                log.warning(
                    "scheme is HTTP while --%sclient-cert-auth is enabled; ignoring client cert auth for this URL",
                    self.prefix,
                    extra={self.called: str(url)},
                )


def _any_https(urls: Iterable[Url]) -> bool:
    return any(url.scheme == "https" for url in urls)


def self_signed(folder: Path, hosts: Sequence[str], years: int, *, for_members: bool) -> tuple[Path, Path]:
    """Certificate and key in folder, made if there are none, or if the one there has expired. Raises TlsUnusable.

    for_members: it is shown to whom we dial, too.
    """
    cert_path, key_path = folder / "cert.pem", folder / "key.pem"
    if years == 0:
        raise TlsUnusable(
            "selfSignedCertValidity is invalid,it should be greater than 0\n  Set --self-signed-cert-validity, in years"
        )
    try:
        if cert_path.exists() and key_path.exists() and not _has_expired(cert_path):
            return cert_path, key_path
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = ec.generate_private_key(ec.SECP256R1())  # clients of gRPC's C core (Python, C++) know no P-521, etcd's
        certificate = _signed(key, hosts, years, for_members=for_members)
        _write(
            key_path,
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
            ),
        )
        _write(cert_path, certificate.public_bytes(serialization.Encoding.PEM))
    except OSError as error:
        raise TlsUnusable(f"cannot make a certificate in {folder}: {error.strerror}") from None
    not_after = certificate.not_valid_after_utc.isoformat()
    log.warning("automatically generate certificates", extra={"certificate-validity-bound-not-after": not_after})
    return cert_path, key_path


def _has_expired(path: Path) -> bool:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc < datetime.now(UTC)
    except ValueError:
        return False  # whoever has put it there hears what is wrong with it


def _signed(
    key: ec.EllipticCurvePrivateKey, hosts: Sequence[str], years: int, *, for_members: bool
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "etcd")])
    usages = [ExtendedKeyUsageOID.SERVER_AUTH]
    if for_members:
        usages.append(ExtendedKeyUsageOID.CLIENT_AUTH)
    begins = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + years * YEAR)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_encipherment=True,
                content_commitment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=False,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([_general_name(host) for host in dict.fromkeys(hosts)]), critical=False
        )
        .sign(key, hashes.SHA512())
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(path: Path, data: bytes) -> None:
    """For this user's eyes alone, and never half of it under its name."""
    half = path.with_suffix(".new")
    with open(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)
