"""What the settings say of TLS, and the names that etcd, which has Go's, gives to versions and cipher suites.

Knows texts; opens no file and imports no OpenSSL: certificates.py does. Error texts are etcd's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from kvorum.flags import Invalid

VERSIONS: Final = ("TLS1.2", "TLS1.3")

# Go's name -> OpenSSL's, "" for what OpenSSL has thrown out. All that Go 1.2x lists, the insecure ones too.
_CIPHERS: Final[Mapping[str, str]] = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",  # Go's former names
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "ECDHE-RSA-AES128-SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256": "AES128-SHA256",
    "TLS_RSA_WITH_RC4_128_SHA": "",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA": "",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA": "",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA": "",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA": "",
}
# Of TLS 1.3 Go, and OpenSSL's Python, let nobody choose: named or not, they are there.
_ALWAYS: Final = frozenset({"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"})
_HTTP2: Final = ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Of clients or of members; names are the flags'. Paths are empty where there is none."""

    cert_file: str = ""
    key_file: str = ""
    client_cert_file: str = ""
    client_key_file: str = ""
    client_cert_auth: bool = False
    trusted_ca_file: str = ""
    crl_file: str = ""
    auto_tls: bool = False
    allowed_cns: tuple[str, ...] = ()
    allowed_hostnames: tuple[str, ...] = ()

    @property
    def has_files(self) -> bool:
        return bool(self.cert_file or self.key_file)


@dataclass(frozen=True, slots=True)
class TlsRules:
    """For clients and members alike. version_max empty: the newest. ciphers: OpenSSL's names; none: its own choice."""

    version_min: str = "TLS1.2"
    version_max: str = ""
    ciphers: tuple[str, ...] = ()


def read_rules(version_min: str, version_max: str, suites: Sequence[str]) -> TlsRules:
    """Raises Invalid."""
    version_min = version_min or VERSIONS[0]  # empty is Go's own choice, which etcd takes for 1.2
    for version in filter(None, (version_min, version_max)):
        if version not in VERSIONS:
            raise Invalid(f'unexpected TLS version "{version}" (must be one of: {", ".join(VERSIONS)})')
    if version_max and version_min > version_max:
        raise Invalid(f"min version ({version_min}) is greater than max version ({version_max})")
    if suites and version_min == "TLS1.3":
        raise Invalid("cipher suites cannot be configured when only TLS1.3 is enabled")
    return TlsRules(version_min, version_max, _openssl_names(suites))


def _openssl_names(suites: Sequence[str]) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for suite in suites:
        if suite in _ALWAYS:
            continue
        name = _CIPHERS.get(suite)
        if name is None:
            raise Invalid(f'unexpected TLS cipher suite "{suite}"')
        if not name:
            raise Invalid(f'the TLS cipher suite "{suite}" is too weak for OpenSSL, which does not have it any more')
        names[name] = None
    if suites and not any(suite in _HTTP2 for suite in suites):
        raise Invalid(
            "http2: TLSConfig.CipherSuites is missing an HTTP/2-required AES_128_GCM_SHA256 cipher "
            f"(need at least one of {' or '.join(_HTTP2)})"
        )
    return tuple(names)
