"""Certificates in files: what a port shows and asks for, what a dialer shows and trusts, and when a file has changed.

Files are looked at before each handshake. One that has changed, the authority's too, is read again, and new connections
go by it; open ones stay as they are. A set that cannot be used (half written, a key that does not belong to it) is told
in the log once, and the former stays in use. Which certificates will do is etcd's to say (its pkg/transport); of a
list of revoked ones the serial numbers count, whoever issued it, as there.
"""

import asyncio
import ipaddress
import logging
import os
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from kvorum.net.tls_connection import Identified, NotTrusted, describe

PEM_CRL: Final = b"-----BEGIN X509 CRL-----"
UNREADABLE: Final = (x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)  # no ValueErrors
RESOLVE_S: Final = 5.0  # for the resolver, where a certificate's names are compared with who shows it

log = logging.getLogger(__name__)


class TlsUnusable(Exception):
    """The text says which file, why, and the way out."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths as the settings have them, empty where there is none. flags: how to name them to a user.

    versions: least and most, of TLS; most None is whatever there is. ciphers: OpenSSL's names, for TLS 1.2.
    allowed_common_names, allowed_hostnames: one of them must be the other side's; not both kinds.
    """

    cert: str = ""
    key: str = ""
    client_cert: str = ""  # shown when dialing; empty: cert
    client_key: str = ""
    trusted_ca: str = ""
    crl: str = ""
    asks_client: bool = False
    allowed_common_names: tuple[str, ...] = ()
    allowed_hostnames: tuple[str, ...] = ()
    ciphers: tuple[str, ...] = ()
    version_min: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    version_max: ssl.TLSVersion | None = None
    prefix: str = ""  # of the flags: "peer-", or none for clients
    is_self_signed: bool = False  # made by us: whom we dial has one of its own that nobody vouches for

    @property
    def wants_client_certificate(self) -> bool:
        """An authority alone asks for one, as in etcd."""
        return self.asks_client or bool(self.trusted_ca)

    def flag(self, name: str) -> str:
        return f"--client-{name}" if name == "crl-file" and not self.prefix else f"--{self.prefix}{name}"


@dataclass(frozen=True, slots=True)
class _Loaded:
    context: ssl.SSLContext
    revoked: frozenset[int]


class _Watched:
    """What is made of some files, made again when one of them has changed."""

    def __init__(self, paths: Iterable[str], make: Callable[[], _Loaded]) -> None:
        """Raises TlsUnusable."""
        self._paths = tuple(dict.fromkeys(filter(None, paths)))
        self._make = make
        self._seen = self._look()
        self._made = make()

    def current(self) -> _Loaded:
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            try:
                self._made = self._make()
            except TlsUnusable as error:
                log.error("changed certificates cannot be used, the former stay: %s", " ".join(str(error).split()))
            else:
                log.info("certificates were read again", extra={"files": list(self._paths)})
        return self._made

    def _look(self) -> tuple[tuple[int, int, int, int] | None, ...]:
        return tuple(_stamp(path) for path in self._paths)


def _stamp(path: str) -> tuple[int, int, int, int] | None:
    try:
        seen = os.stat(path)
    except OSError:
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


class ServerTls:
    """For a port (tls_connection.Policy). checks_address: a certificate's names must be those of who shows it."""

    def __init__(self, files: TlsFiles, *, alpn: Sequence[str], checks_address: bool = False) -> None:
        """Raises TlsUnusable."""
        self.checks_address = checks_address
        self._files = files
        self._alpn = list(alpn)
        if not files.cert or not files.key:
            raise TlsUnusable(
                f"{files.flag('cert-file')} and {files.flag('key-file')} must both be given for https\n"
                f"  cert: {files.cert or 'none'}, key: {files.key or 'none'}; or use {files.flag('auto-tls')}"
            )
        _require_both_or_neither(files)
        self._watched = _Watched((files.cert, files.key, files.trusted_ca, files.crl), self._make)

    def _make(self) -> _Loaded:
        files = self._files
        context = _context(ssl.PROTOCOL_TLS_SERVER, files, files.cert, files.key)
        # A ticket brings a certificate back without looking at it again, and etcd's clients keep none. What TLS 1.2
        # resumes by id is kept with the context, and gone with it when a file changes.
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
        context.num_tickets = 0
        context.set_alpn_protocols(self._alpn)
        if files.wants_client_certificate:
            context.verify_mode = ssl.CERT_REQUIRED
            _trust(context, files, ssl.Purpose.CLIENT_AUTH)
        return _Loaded(context, _revoked(files))

    def context(self) -> ssl.SSLContext:
        return self._watched.current().context

    def identify(self, shaken: ssl.SSLObject) -> Identified:
        who = _identify(shaken, self._files, self._watched.current().revoked)
        if not self._files.asks_client:
            who.common_name = None  # an authority alone makes nobody a user, as in etcd
        return who

    async def check_address(self, who: Identified, host: str) -> None:
        await _check_address(who, host)


class ClientTls:
    """For dialing members (tls_connection.Policy). Without files: no certificate of ours, the system's authorities."""

    checks_address = False

    def __init__(self, files: TlsFiles) -> None:
        """Raises TlsUnusable."""
        self._files = files
        self._cert, self._key = (files.client_cert, files.client_key) if files.client_cert else (files.cert, files.key)
        _require_both_or_neither(files)
        self._watched = _Watched((self._cert, self._key, files.trusted_ca), self._make)

    def _make(self) -> _Loaded:
        files = self._files
        context = _context(ssl.PROTOCOL_TLS_CLIENT, files, self._cert, self._key)
        context.hostname_checks_common_name = False  # nor does Go
        if files.is_self_signed:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            _trust(context, files, ssl.Purpose.SERVER_AUTH)
        return _Loaded(context, frozenset())

    def context(self) -> ssl.SSLContext:
        return self._watched.current().context

    def identify(self, shaken: ssl.SSLObject) -> Identified:
        return _identify(shaken, self._files, frozenset())

    async def check_address(self, who: Identified, host: str) -> None:
        raise AssertionError("a dialer knows whom it dials")


# ---- files -----------------------------------------------------------------------------------------------------------


def _require_both_or_neither(files: TlsFiles) -> None:
    if bool(files.client_cert) != bool(files.client_key):
        raise TlsUnusable(
            f"{files.flag('client-cert-file')} and {files.flag('client-key-file')} must both be given, or neither\n"
            f"  cert: {files.client_cert or 'none'}, key: {files.client_key or 'none'}"
        )


def _context(side: "ssl._SSLMethod", files: TlsFiles, cert: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = files.version_min
    if files.version_max is not None:
        context.maximum_version = files.version_max
    if files.ciphers:
        try:
            context.set_ciphers(":".join(files.ciphers))
        except ssl.SSLError:
            raise TlsUnusable(
                f"--cipher-suites: this machine's OpenSSL allows none of {', '.join(files.ciphers)}\n"
                "  `openssl ciphers` lists those that it does"
            ) from None
    # Go takes each certificate of the authorities' file as an end of the chain, also one that another has signed.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if cert:
        names = f"{files.flag('cert-file')} and {files.flag('key-file')}"
        _require_readable(files.flag("cert-file"), cert)
        _require_readable(files.flag("key-file"), key)
        try:
            context.load_cert_chain(cert, key, password=lambda: b"")  # or it would ask the terminal
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise TlsUnusable(f"{names}: the key in {key} is not the one of the certificate in {cert}") from None
            raise TlsUnusable(
                f"{names}: {cert} and {key} are no pair in PEM: {describe(error)}\n"
                "  Both files hold PEM (-----BEGIN …), the key without a passphrase"
            ) from None
    return context


def _trust(context: ssl.SSLContext, files: TlsFiles, purpose: ssl.Purpose) -> None:
    if not files.trusted_ca:
        context.load_default_certs(purpose)
        return
    flag = files.flag("trusted-ca-file")
    _require_readable(flag, files.trusted_ca)
    try:
        context.load_verify_locations(cafile=files.trusted_ca)
    except ssl.SSLError as error:
        raise TlsUnusable(
            f"{flag}: {files.trusted_ca} holds no certificates: {describe(error)}\n"
            "  It takes the authorities' certificates in PEM, one after the other"
        ) from None


def _revoked(files: TlsFiles) -> frozenset[int]:
    if not files.crl:
        return frozenset()
    flag = files.flag("crl-file")
    data = _require_readable(flag, files.crl)
    try:
        if PEM_CRL in data:
            lists = [x509.load_pem_x509_crl(PEM_CRL + part) for part in data.split(PEM_CRL)[1:]]
        else:
            lists = [x509.load_der_x509_crl(data)]
        return frozenset(revoked.serial_number for each in lists for revoked in each)
    except ValueError as error:
        raise TlsUnusable(f"{flag}: {files.crl} is no list of revoked certificates, PEM or DER: {error}") from None


def _require_readable(flag: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise TlsUnusable(f"{flag}: cannot read {path}: {error.strerror}") from None


# ---- certificates of others ------------------------------------------------------------------------------------------


def _identify(shaken: ssl.SSLObject, files: TlsFiles, revoked: frozenset[int]) -> Identified:
    shown = shaken.getpeercert(binary_form=True)
    alpn = shaken.selected_alpn_protocol()
    if shown is None:
        return Identified(alpn=alpn)
    try:
        certificate = x509.load_der_x509_certificate(shown)
        who = _read_names(certificate, alpn)
        serials = [certificate.serial_number]
        if revoked:
            serials = [x509.load_der_x509_certificate(each).serial_number for each in _chain(shaken)] or serials
    except (ValueError, *UNREADABLE) as error:
        raise NotTrusted(f"a certificate that cannot be read: {error}") from None
    for serial in serials:
        if serial in revoked:
            raise NotTrusted(f"transport: certificate serial {serial:x} revoked", who)
    if files.allowed_common_names and who.common_name not in files.allowed_common_names:
        raise NotTrusted(f"client certificate authentication failed: common name {who.common_name!r}", who)
    if files.allowed_hostnames and not any(is_named(who, host) for host in files.allowed_hostnames):
        raise NotTrusted("client certificate authentication failed: no allowed hostname", who)
    if shaken.session_reused and certificate.not_valid_after_utc < datetime.now(UTC):
        raise NotTrusted("the certificate of a resumed session has expired", who)
    return who


def _chain(shaken: ssl.SSLObject) -> list[bytes]:
    """What the other side has shown, its own certificate first."""
    if hasattr(shaken, "get_unverified_chain"):  # from Python 3.13 on
        return list(shaken.get_unverified_chain())
    shown = shaken._sslobj.get_unverified_chain()  # type: ignore[attr-defined]  # before, it has no public name
    return [ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in shown or ()]


def _read_names(certificate: x509.Certificate, alpn: str | None) -> Identified:
    # Of several common names Go takes the last.
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    common_name = str(common[-1].value) if common else ""
    try:
        extension = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    except x509.ExtensionNotFound:
        return Identified(alpn=alpn, common_name=common_name)
    names = extension.value
    assert isinstance(names, x509.SubjectAlternativeName)
    return Identified(
        alpn=alpn,
        common_name=common_name,
        dns_names=tuple(names.get_values_for_type(x509.DNSName)),
        ip_addresses=tuple(map(str, names.get_values_for_type(x509.IPAddress))),
    )


def is_named(who: Identified, host: str) -> bool:
    """Whether a certificate is for host: an address, or a name, of which `*.` may stand for the first label."""
    address = _address(host)
    if address is not None:
        return any(_address(each) == address for each in who.ip_addresses)
    host = host.lower().removesuffix(".")
    first, dot, rest = host.partition(".")
    for name in who.dns_names:
        name = name.lower().removesuffix(".")
        if name == host or (name.startswith("*.") and first and dot and name[2:] == rest):
            return True
    return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0].strip("[]"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


async def _check_address(who: Identified, host: str) -> None:
    """etcd's rule for members: an address among the names, a name that the address resolves to, or one that resolves to
    it. Raises NotTrusted."""
    if who.ip_addresses and is_named(who, host):
        return
    if not who.dns_names:
        valid = ", ".join(who.ip_addresses)
        raise NotTrusted(f"tls: the certificate is for {valid}, not {host}", who)
    try:
        async with asyncio.timeout(RESOLVE_S):
            if await _resolves_to_one(host, who.dns_names):
                return
    except TimeoutError:
        raise NotTrusted(
            f"tls: nobody said within {RESOLVE_S:g} s whether {host} has a name of the certificate"
        ) from None
    raise NotTrusted(f'tls: "{host}" does not match any of DNSNames {list(who.dns_names)}', who)


async def _resolves_to_one(host: str, dns_names: Sequence[str]) -> bool:
    loop = asyncio.get_running_loop()
    try:
        found, _ = await loop.getnameinfo((host, 0), socket.NI_NAMEREQD)
    except OSError:
        found = ""
    found = found.removesuffix(".")
    for name in dns_names:
        if found and (name == found or (name.startswith("*.") and found.endswith(name[1:]))):
            return True
    address = _address(host)
    for name in dns_names:
        if name.startswith("*."):
            continue
        try:
            answers = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, ValueError):  # the second: no name that a resolver could be asked for
            continue
        if any(_address(str(answer[4][0])) == address for answer in answers):
            return True
    return False
