"""Authorities and certificates for tests, made in a moment: P-256, valid since yesterday unless a test wants it not.

Files are as the flags take them. An authority signs servers, clients and members, and says which of them it revokes.
"""

import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)
LOCAL = ("127.0.0.1", "localhost")


@dataclass(frozen=True, slots=True)
class Pair:
    """Files of one certificate, its chain behind it, and its key."""

    cert: Path
    key: Path
    serial: int

    @property
    def server_flags(self) -> list[str]:
        return [f"--cert-file={self.cert}", f"--key-file={self.key}"]

    @property
    def peer_flags(self) -> list[str]:
        return [f"--peer-cert-file={self.cert}", f"--peer-key-file={self.key}"]

    @property
    def etcdctl_flags(self) -> list[str]:
        return [f"--cert={self.cert}", f"--key={self.key}"]

    @property
    def curl_flags(self) -> list[str]:
        return ["--cert", str(self.cert), "--key", str(self.key)]

    def become(self, other: "Pair") -> None:
        """The files have another's content from now on, as after a renewal: each replaced in one step."""
        for mine, theirs in ((self.key, other.key), (self.cert, other.cert)):
            replace(mine, theirs.read_bytes())


def replace(path: Path, data: bytes) -> None:
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    new.replace(path)


class Authority:
    """signed_by: another, of which this one is an intermediate: its own certificate stands behind those it signs."""

    def __init__(self, folder: Path, name: str = "ca", *, signed_by: "Authority | None" = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._signed_by = signed_by
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer, key = (subject, self._key) if signed_by is None else (signed_by.certificate.subject, signed_by._key)
        now = datetime.now(UTC)
        self.certificate: x509.Certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + 365 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        self.cert = folder / f"{name}.pem"
        self.cert.write_bytes(self.pem)

    @staticmethod
    def trusting(authorities: Path, pair: Pair | None = None) -> ssl.SSLContext:
        """How a client of Python's ssl believes what is signed by them, and shows pair."""
        context = ssl.create_default_context(cafile=str(authorities))
        if pair is not None:
            context.load_cert_chain(pair.cert, pair.key)
        return context

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def sign(
        self,
        name: str,
        *,
        common_name: str | None = None,
        hosts: Sequence[str] = LOCAL,
        usages: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
        days: tuple[int, int] = (-1, 365),
    ) -> Pair:
        """days: from now, when it begins and ends to be valid."""
        key = ec.generate_private_key(ec.SECP256R1())
        now, serial = datetime.now(UTC), x509.random_serial_number()
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "kvorum tests")]
        if common_name is not None:
            attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(attributes))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(serial)
            .not_valid_before(now + days[0] * DAY)
            .not_valid_after(now + days[1] * DAY)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if hosts:
            names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key", serial)
        chain = b"" if self._signed_by is None else self.pem
        pair.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + chain)
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return pair

    def revocations(
        self, serials: Iterable[int], *, encoding: serialization.Encoding = serialization.Encoding.PEM
    ) -> bytes:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - DAY)
            .next_update(now + DAY)
        )
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - DAY).build()
            builder = builder.add_revoked_certificate(revoked)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(encoding)


def _usage(*, signs: bool) -> x509.KeyUsage:
    """As Python's ssl demands it from 3.13 on."""
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        key_encipherment=False,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
