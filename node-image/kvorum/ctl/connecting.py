"""From flags to a client: certificates, who the user is, passwords that are asked for."""

import asyncio
import getpass
import ssl
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kvorum.client import BadCertificates, Client, Tls
from kvorum.ctl.exits import BAD_ARGS, ERROR, Exit
from kvorum.ctl.flags import FlagSet

if TYPE_CHECKING:
    from kvorum.ctl.call import Call

CERTIFICATE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Login:
    user: str
    password: str = field(repr=False)


def login_of(call: "Call") -> Login | None:
    """Of --user and --password; the password is asked for if there is none. Raises Exit."""
    for name in ("cert", "key", "cacert"):
        if name in call.flags.changed and not call.flags.string(name):
            raise Exit(BAD_ARGS, f"empty string is passed to --{name} option")
    return login_from(call, call.flags.string("user"), call.flags.string("password"), "Password: ")


def login_from(call: "Call", user: str, password: str, prompt: str) -> Login | None:
    if not user:
        return None
    if password:
        return Login(user, password)
    name, colon, password = user.partition(":")
    return Login(name, password) if colon else Login(user, ask_password(call, prompt))


def ask_password(call: "Call", prompt: str) -> str:
    """From the terminal without showing it; from standard input where that is none. Empty at its end."""
    if call.world.stdin.isatty():
        try:
            return getpass.getpass(prompt)
        except EOFError:
            return ""
    call.write(prompt.encode())
    line = call.world.stdin.readline()
    call.write(b"\n")
    return line.decode(errors="surrogateescape").rstrip("\r\n")


async def tls_of(flags: FlagSet, urls: Sequence[str]) -> Tls | None:
    """None without any flag of TLS. Raises BadCertificates with etcdctl's words."""
    tls = tls_from(flags)
    if flags.boolean("insecure-skip-tls-verify") and (tls or any(url.startswith("https://") for url in urls)):
        return await unverified(tls or Tls(), urls)
    return tls


def tls_from(flags: FlagSet) -> Tls | None:
    """Of the files alone. Raises BadCertificates."""
    cert, key, ca = flags.string("cert"), flags.string("key"), flags.string("cacert")
    if bool(cert) != bool(key):
        raise BadCertificates(f"KeyFile and CertFile must both be present[key: {key}, cert: {cert}]")
    for path in (cert, key, ca):
        if path and not Path(path).is_file():
            raise BadCertificates(f"open {path}: no such file or directory")
    is_wanted = bool(cert or ca) or not flags.boolean("insecure-transport")
    return Tls(ca or None, cert or None, key or None) if is_wanted else None


async def unverified(tls: Tls, urls: Sequence[str]) -> Tls:
    """Trusts whatever certificates the endpoints show now, whoever made them: for tests only, as the flag says.

    gRPC cannot leave the check out, so it is given their own certificates to trust, and a name that is in the first.
    """
    pems = await asyncio.gather(*(asyncio.to_thread(fetch_certificate, url) for url in urls))
    shown = [pem for pem in pems if pem]
    if not shown:
        return tls
    with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
        file.write("\n".join(shown))
    return Tls(file.name, tls.cert, tls.key, name_in(shown[0]))


def fetch_certificate(url: str) -> str | None:
    parts = urlsplit(url if "://" in url else f"https://{url}")
    try:
        return ssl.get_server_certificate((parts.hostname or "", parts.port or 2379), timeout=CERTIFICATE_TIMEOUT_S)
    except OSError:
        return None


def name_in(pem: str) -> str | None:
    from cryptography import x509  # noqa: PLC0415 - for this flag only; it takes a while to load

    certificate = x509.load_pem_x509_certificate(pem.encode())
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    hosts = names.get_values_for_type(x509.DNSName)
    addresses = names.get_values_for_type(x509.IPAddress)
    return hosts[0] if hosts else str(addresses[0]) if addresses else None


@asynccontextmanager
async def connected(flags: FlagSet, urls: Sequence[str], tls: Tls | None, login: Login | None) -> AsyncIterator[Client]:
    """Raises Exit if an endpoint is none."""
    timeout_s = flags.seconds("command-timeout")
    is_known = login is not None and bool(login.password)  # etcd's client logs in with both or not at all
    if not urls:
        raise Exit(ERROR, "at least one Endpoint is required in client config")
    client = Client(
        urls,
        timeout_s,
        connect_timeout_s=flags.seconds("dial-timeout"),
        deadline_s=timeout_s,
        tls=tls,
        user=login.user if login and is_known else None,
        password=login.password if login and is_known else None,
    )
    try:
        yield client
    finally:
        await client.close()
