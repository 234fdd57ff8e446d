"""--auth-token: what kind of tokens clients are given, out of etcd's text for it.

`simple`; or `jwt,sign-method=RS256,priv-key=FILE,pub-key=FILE,ttl=5m`, where a public key alone checks tokens and makes
none; or nothing, for certificates only. What etcd ends for, ends us, in its words.
"""

import logging
from collections.abc import Callable

from kvorum.flags import Invalid, parse_duration_ns
from kvorum.server.tokens import NoTokens, Tokens
from kvorum.server.tokens_simple import SimpleTokens

INVALID = "auth: invalid auth options"
TTL_DEFAULT_S = 300.0  # of signed tokens, which --auth-token-ttl says nothing of
OPTIONS = ("sign-method", "pub-key", "priv-key", "ttl")

log = logging.getLogger(__name__)


class BadAuthToken(Exception):
    """lines: what is wrong, in etcd's words, which name no flag; then the way out."""

    def __init__(self, what: str, *way_out: str) -> None:
        super().__init__(what)
        self.lines = (what, *(f"--auth-token: {line}" for line in way_out or ("see docs/flags.md",)))


def tokens(text: str, ttl_s: int, now: Callable[[], float]) -> Tokens:
    """ttl_s: of simple tokens; now: a clock for them that does not jump. Raises BadAuthToken."""
    kind, options = _parse(text)
    if kind == "simple":
        return SimpleTokens(now, ttl_s)
    if kind == "jwt":
        return _signed(options)
    if not kind:
        return NoTokens()
    raise BadAuthToken(INVALID, f"The kind of tokens is simple or jwt, not {kind}.")


def _parse(text: str) -> tuple[str, dict[str, str]]:
    kind, *pairs = text.split(",")
    options: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or "=" in value:
            raise BadAuthToken(INVALID, f"{pair or 'Nothing'} is no option: write name=value, with commas between.")
        if name in options:
            raise BadAuthToken(INVALID, f"{name} is given twice.")
        options[name] = value
    return kind, options


def _signed(options: dict[str, str]) -> Tokens:
    from kvorum import signing_keys  # noqa: PLC0415 - 100 ms of a start and 8 MB, that only these tokens need

    unknown = sorted(options.keys() - set(OPTIONS))
    if unknown:
        log.warning("--auth-token: unknown JWT options", extra={"keys": unknown})
    ttl_s = _ttl_s(options.get("ttl", ""))
    try:
        return signing_keys.tokens(
            options.get("sign-method", ""), options.get("pub-key", ""), options.get("priv-key", ""), ttl_s
        )
    except signing_keys.BadKey as error:
        raise BadAuthToken(*error.lines) from error


def _ttl_s(text: str) -> float:
    if not text:
        return TTL_DEFAULT_S
    try:
        return parse_duration_ns(text) / 1e9
    except Invalid:
        raise BadAuthToken(f'time: invalid duration "{text}"', "ttl is a duration, as in 5m.") from None
