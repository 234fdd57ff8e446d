"""Keys of signed tokens: each method with its own kind of key, and mistakes that are told at the start."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from kvorum.server.tokens_jwt import SignedTokens
from kvorum.signing_keys import METHODS, BadKey, tokens
from kvorum.state.auth import Caller

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
MAKERS: dict[str, Callable[[], Any]] = {
    "RS": lambda: RSA,
    "PS": lambda: RSA,
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


def key_of(method: str) -> Any:
    return MAKERS.get(method, MAKERS.get(method[:2]))()  # type: ignore[misc]  # one of the two is there


def private(folder: Path, key: Any, encryption: Any = None) -> str:
    path = folder / "private.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))
    return str(path)


def public(folder: Path, key: Any) -> str:
    path = folder / "public.pem"
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return str(path)


def certificate(folder: Path, key: Any) -> str:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "signer")])
    begin = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    built = x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin + datetime.timedelta(days=36_500))
    path = folder / "certificate.pem"
    path.write_bytes(built.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    return str(path)


def refused(*arguments: Any) -> tuple[str, ...]:
    with pytest.raises(BadKey) as caught:
        tokens(*arguments)
    return caught.value.lines


def signed(made_by: SignedTokens) -> str:
    made = made_by.sign(b"ann", 7)
    assert isinstance(made, bytes)
    return made.decode()


@pytest.mark.parametrize("method", [method for method in METHODS if not method.startswith("HS")])
def test_each_method_signs_with_its_key_and_checks_with_the_public_one(method: str, tmp_path: Path) -> None:
    key = key_of(method)
    both = tokens(method, public(tmp_path, key), private(tmp_path, key), 60.0)
    checking = tokens(method, public(tmp_path, key), "", 60.0)
    by_certificate = (
        tokens(method, certificate(tmp_path, RSA), "", 60.0) if method[1:2] == "S" and method[0] in "RP" else both
    )
    for one in (both, checking, by_certificate):
        assert one.find(signed(both), 7) == Caller(b"ann", 7)


@pytest.mark.parametrize("method", ["HS256", "HS384", "HS512"])
def test_a_secret_signs_and_checks(method: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"x" * 64)
    one = tokens(method, "", str(path), 60.0)
    assert one.find(signed(one), 7) == Caller(b"ann", 7)


def test_a_short_secret_is_taken_and_named_once_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"short")
    one = tokens("HS256", "", str(path), 60.0)
    assert one.find(signed(one), 7) == Caller(b"ann", 7)
    assert caplog.text.count("easier to guess") == 1
    assert [str(warned.message) for warned in recwarn.list] == []


def test_keys_that_cannot_be_are_refused_at_the_start(tmp_path: Path) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    curve = key_of("ES384")
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    assert refused("", "", "", 1.0)[0] == "auth: invalid auth signature method"
    assert refused("XX", "", "", 1.0)[0] == "auth: invalid auth signature method"
    assert refused("none", "", "", 1.0)[0] == "unsupported signing method: *jwt.signingMethodNone"
    for method in ("HS256", "RS256", "EdDSA"):
        assert refused(method, "", "", 1.0)[0] == "auth: missing key data"
        assert refused(method, "", str(empty), 1.0)[0] == "auth: missing key data"
    assert refused("RS256", public(tmp_path, other), private(tmp_path, RSA), 1.0)[0] == (
        "auth: public and private keys don't match"
    )
    assert refused("RS256", "", private(tmp_path, curve), 1.0)[0] == "key is not a valid RSA private key"
    assert refused("ES256", public(tmp_path, RSA), "", 1.0)[0] == "key is not a valid ECDSA public key"
    assert refused("ES256", "", private(tmp_path, curve), 1.0)[0] == "the private key is of secp384r1"
    assert refused("ES256", public(tmp_path, curve), "", 1.0)[0] == "the public key is of secp384r1"
    assert refused("RS256", "", public(tmp_path, RSA), 1.0)[0] == "priv-key is not a valid RSA private key"
    assert refused("RS256", private(tmp_path, RSA), "", 1.0)[0] == "pub-key is not a valid RSA public key"
    locked = private(tmp_path, RSA, BestAvailableEncryption(b"locked"))
    assert refused("RS256", "", locked, 1.0)[0] == "priv-key is not a valid RSA private key"
    assert refused("HS256", "", private(tmp_path, RSA), 1.0)[0].startswith("HS256 cannot sign with priv-key")
