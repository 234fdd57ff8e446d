"""The keys that tokens are signed with and checked by (JWT): read from their files, once, and tried.

Where etcd would only find out when the first user signs in (a key of another curve, two keys that are no pair), that is
told at the start here.
"""

import logging
import warnings
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from jwt.warnings import InsecureKeyLengthWarning

from kvorum.server.tokens_jwt import SignedTokens

MISSING = "auth: missing key data"
RSA, EC, ED, SECRET = "RSA", "ECDSA", "Ed25519", "a secret"  # what a method signs with
METHODS: dict[str, str] = {
    **{f"{family}{bits}": RSA for family in ("RS", "PS") for bits in (256, 384, 512)},
    **{f"ES{bits}": EC for bits in (256, 384, 512)},
    **{f"HS{bits}": SECRET for bits in (256, 384, 512)},
    "EdDSA": ED,
}
PRIVATE: dict[str, type[Any]] = {RSA: rsa.RSAPrivateKey, EC: ec.EllipticCurvePrivateKey, ED: ed25519.Ed25519PrivateKey}
PUBLIC: dict[str, type[Any]] = {RSA: rsa.RSAPublicKey, EC: ec.EllipticCurvePublicKey, ED: ed25519.Ed25519PublicKey}
CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}

log = logging.getLogger(__name__)


class BadKey(Exception):
    """lines: what was seen, in etcd's words where it has some; then the way out."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def tokens(method: str, public_path: str, private_path: str, ttl_s: float) -> SignedTokens:
    """An empty path stands for no key. Raises BadKey."""
    public, private = _read(public_path), _read(private_path)
    if method == "none":
        raise BadKey("unsupported signing method: *jwt.signingMethodNone", f"sign-method is one of {_methods()}.")
    if method not in METHODS:
        raise BadKey("auth: invalid auth signature method", f"sign-method={method} is none of {_methods()}.")
    needs = METHODS[method]
    if needs == SECRET:
        if not private:
            raise BadKey(MISSING, f"{method} needs priv-key=FILE with a secret.")
        _try(method, private, private)
        return SignedTokens(method, signing_key=private, checking_key=private, ttl_s=ttl_s)
    signing_key = _private_key(private, needs, method) if private else None
    checking_key = _public_key(public, needs, method) if public else None
    if signing_key is None and checking_key is None:
        raise BadKey(MISSING, f"{method} needs priv-key=FILE, or pub-key=FILE to check tokens only.")
    if signing_key is not None:
        own = signing_key.public_key()
        if checking_key is not None and _encoded(checking_key) != _encoded(own):
            raise BadKey("auth: public and private keys don't match", "Leave pub-key out: priv-key is enough.")
        checking_key = own
        _try(method, signing_key, checking_key)
    return SignedTokens(method, signing_key=signing_key, checking_key=checking_key, ttl_s=ttl_s)


def _methods() -> str:
    return ", ".join(METHODS)


def _read(name: str) -> bytes:
    if not name:
        return b""
    try:
        return Path(name).read_bytes()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise BadKey(f"open {name}: {why}", "priv-key and pub-key are files that this program may read.") from None


def _private_key(data: bytes, needs: str, method: str) -> Any:
    try:
        key: Any = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadKey(f"priv-key is not a valid {needs} private key", "It is a PEM file without a passphrase.") from None
    return _checked(key, PRIVATE[needs], needs, method, "private")


def _public_key(data: bytes, needs: str, method: str) -> Any:
    """A public key, or a certificate with one."""
    try:
        if b"BEGIN CERTIFICATE" in data:
            key: Any = x509.load_pem_x509_certificate(data).public_key()
        else:
            key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey(f"pub-key is not a valid {needs} public key", "It is a PEM file.") from None
    return _checked(key, PUBLIC[needs], needs, method, "public")


def _checked(key: Any, kind: type[Any], needs: str, method: str, side: str) -> Any:
    if not isinstance(key, kind):
        raise BadKey(f"key is not a valid {needs} {side} key", f"{method} signs with {needs} keys.")
    curve = CURVES.get(method)
    if curve is not None and key.curve.name != curve:
        raise BadKey(f"the {side} key is of {key.curve.name}", f"{method} needs a key of {curve}.")
    return key


def _encoded(key: Any) -> bytes:
    encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert isinstance(encoded, bytes)
    return encoded


def _try(method: str, signing_key: Any, checking_key: Any) -> None:
    """What the library would refuse when the first user signs in, or would warn of at each of them."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            jwt.decode(jwt.encode({}, signing_key, algorithm=method), checking_key, algorithms=[method])
        except jwt.PyJWTError as error:
            raise BadKey(f"{method} cannot sign with priv-key: {error}") from None
    if any(issubclass(one.category, InsecureKeyLengthWarning) for one in warned):
        log.warning(
            "--auth-token: the key is short for its method, and so is easier to guess", extra={"method": method}
        )
        warnings.simplefilter("ignore", InsecureKeyLengthWarning)
