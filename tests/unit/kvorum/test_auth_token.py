"""--auth-token: which texts are one, and what is said of the others: etcd's words first, then the way out."""

from pathlib import Path

import pytest
from kvorum.auth_token import BadAuthToken, tokens
from kvorum.server.tokens import NoTokens
from kvorum.server.tokens_jwt import SignedTokens
from kvorum.server.tokens_simple import SimpleTokens

INVALID = "auth: invalid auth options"


def now() -> float:
    return 0.0


def refused(text: str) -> tuple[str, ...]:
    with pytest.raises(BadAuthToken) as caught:
        tokens(text, 300, now)
    return caught.value.lines


def secret(folder: Path) -> Path:
    path = folder / "secret"
    path.write_bytes(b"a secret of this test alone, for HS256")
    return path


def test_the_kind_is_the_first_word(tmp_path: Path) -> None:
    assert isinstance(tokens("simple", 300, now), SimpleTokens)
    assert isinstance(tokens("simple,a=b", 300, now), SimpleTokens)
    assert isinstance(tokens("", 300, now), NoTokens)
    assert isinstance(tokens(f"jwt,sign-method=HS256,priv-key={secret(tmp_path)}", 300, now), SignedTokens)


@pytest.mark.parametrize(
    ("text", "way_out"),
    [
        ("foo", "The kind of tokens is simple or jwt, not foo."),
        ("jwt,sign-method", "sign-method is no option: write name=value, with commas between."),
        ("simple,a", "a is no option: write name=value, with commas between."),
        ("simple,a=b=c", "a=b=c is no option: write name=value, with commas between."),
        ("simple,", "Nothing is no option: write name=value, with commas between."),
        ("jwt,ttl=1s,ttl=1s", "ttl is given twice."),
    ],
)
def test_a_text_that_is_none_is_refused_with_the_way_out(text: str, way_out: str) -> None:
    assert refused(text) == (INVALID, f"--auth-token: {way_out}")


def test_what_is_wrong_with_an_option_is_said_first() -> None:
    assert refused("jwt,sign-method=HS256,ttl=x") == (
        'time: invalid duration "x"',
        "--auth-token: ttl is a duration, as in 5m.",
    )
    assert refused("jwt,sign-method=HS256,priv-key=/no/such") == (
        "open /no/such: no such file or directory",
        "--auth-token: priv-key and pub-key are files that this program may read.",
    )


def test_an_unknown_option_is_only_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokens(f"jwt,sign-method=HS256,priv-key={secret(tmp_path)},colour=red", 300, now)
    assert "unknown JWT options" in caplog.text


def test_no_secret_is_told_of_one_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"")
    assert refused(f"jwt,sign-method=HS256,priv-key={path}")[0] == "auth: missing key data"
    path.write_bytes(b"not a key")
    assert "not a key" not in " ".join(refused(f"jwt,sign-method=RS256,priv-key={path}"))
