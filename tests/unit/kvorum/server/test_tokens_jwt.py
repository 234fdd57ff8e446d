"""Signed tokens: what names a user, and what does not, whatever it says of itself."""

import base64
import json
from typing import Any

import jwt
import pytest
from kvorum.server import tokens_jwt
from kvorum.server.tokens_jwt import SignedTokens
from kvorum.state.auth import Caller
from kvorum.state.refusal import VERIFY_ONLY

SECRET = b"a secret of this test alone, for HS256"
FAR = 1 << 40  # seconds; PyJWT looks at the real clock


class Clock:
    def __init__(self) -> None:
        self.now = float(FAR - 100)

    def __call__(self) -> float:
        return self.now


def tokens(clock: Clock | None = None, **settings: Any) -> SignedTokens:
    usual = {"signing_key": SECRET, "checking_key": SECRET, "ttl_s": 100.0}
    return SignedTokens("HS256", now=clock or Clock(), **{**usual, **settings})


def signed(**claims: Any) -> str:
    return jwt.encode({"username": "ann", "revision": 7, **claims}, SECRET, algorithm="HS256")


def test_a_token_of_ours_names_its_user_and_the_revision_it_was_made_at() -> None:
    made = tokens().sign(b"ann", 7)
    assert isinstance(made, bytes)
    assert tokens().find(made.decode(), 99) == Caller(b"ann", 7)
    assert jwt.decode(made, SECRET, algorithms=["HS256"]) == {"username": "ann", "revision": 7, "exp": FAR}


def test_a_name_that_is_no_utf8_is_signed_as_go_would() -> None:
    made = tokens().sign(b"\xff", 7)
    assert isinstance(made, bytes)
    assert tokens().find(made.decode(), 7) == Caller("\N{REPLACEMENT CHARACTER}".encode(), 7)


def test_a_public_key_alone_checks_and_makes_none() -> None:
    assert tokens(signing_key=None).sign(b"ann", 7) == VERIFY_ONLY
    assert tokens(signing_key=None).find(signed(exp=FAR), 7) == Caller(b"ann", 7)


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 1},
        {"nbf": FAR},
        {"iat": FAR},
        {"exp": "soon"},
        {"username": None},
        {"username": 7},
        {"username": ["root"]},
        {"revision": None},
        {"revision": "7"},
        {"revision": True},
        {"revision": -1},
        {"revision": 1 << 64},
        {"revision": float("nan")},
        {"revision": float("inf")},
        {"username": "\ud800"},
    ],
    ids=str,
)
def test_claims_that_say_too_little_or_something_else_name_nobody(claims: dict[str, Any]) -> None:
    assert tokens().find(signed(**claims), 7) is None


@pytest.mark.parametrize(
    "claims", [{"aud": "them"}, {"iss": "them"}, {"sub": 7}, {"jti": 7}, {"exp": FAR, "revision": 7.0}]
)
def test_claims_that_etcd_does_not_look_at_may_be_anything(claims: dict[str, Any]) -> None:
    assert tokens().find(signed(**claims), 7) == Caller(b"ann", 7)


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a.b.c", "\xff.\xff.\xff", "[" * 5000 + ".e30.", "e30.e30.e30.e30", "é"]
)
def test_what_is_no_token_names_nobody(text: str) -> None:
    assert tokens().find(text, 7) is None


def test_a_head_of_endless_depth_is_no_token() -> None:
    head = base64.urlsafe_b64encode(b'{"alg":' + b"[" * 100_000).decode().rstrip("=")
    assert tokens().find(f"{head}.e30.e30", 7) is None


def test_no_token_chooses_how_it_is_checked() -> None:
    head, body, _ = signed(exp=FAR).split(".")
    none = base64.urlsafe_b64encode(json.dumps({"alg": "none"}).encode()).decode().rstrip("=")
    assert tokens().find(f"{none}.{body}.", 7) is None
    assert tokens().find(f"{head}.{body}.", 7) is None
    long = b"of this test alone" * 4
    other = jwt.encode({"username": "ann", "revision": 7}, long, algorithm="HS512")
    assert tokens(checking_key=long).find(other, 7) is None


def test_a_token_found_good_still_ends_when_it_says() -> None:
    clock = Clock()
    one = tokens(clock)
    made = one.sign(b"ann", 7)
    assert isinstance(made, bytes)
    text = made.decode()
    assert one.find(text, 7) == one.find(text, 7) == Caller(b"ann", 7)
    clock.now = FAR - 1
    one.purge()
    assert one.find(text, 7) == Caller(b"ann", 7)
    clock.now = FAR
    assert one.find(text, 7) is None


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens_jwt, "REMEMBERED_MAX", 3)
    one = tokens()
    for revision in range(1, 9):
        assert one.find(signed(exp=FAR, revision=revision), 7) == Caller(b"ann", revision)
        assert len(one._remembered) <= 3
