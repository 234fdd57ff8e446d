"""Signed tokens (JWT): any member with the key knows them, none remembers them.

They carry the revision of authentication that they were made at, so each change of users or roles is the end of all.
One way of signing is allowed, the one in the settings: what a token says of itself never chooses the key's use.

Hot path: a signature costs 40 to 200 us to check, so a token once found good is remembered until it expires.
"""

import time
from collections.abc import Callable
from typing import Any

import jwt

from kvorum.state.auth import Caller
from kvorum.state.refusal import VERIFY_ONLY, Refusal

REMEMBERED_MAX = 10_000  # tokens found good; then all are forgotten, and looked at again as they come
_UINT64_END = 1 << 64
# Claims that etcd does not look at may be anything.
_ASKED = {"verify_aud": False, "verify_iss": False, "verify_sub": False, "verify_jti": False}


class SignedTokens:
    """method: of signing, by its JWT name. signing_key None: tokens come from elsewhere, and are only checked."""

    def __init__(
        self,
        method: str,
        *,
        signing_key: Any,
        checking_key: Any,
        ttl_s: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._method = method
        self._signing_key = signing_key
        self._checking_key = checking_key
        self._ttl_s = ttl_s
        self._now = now
        self._remembered: dict[str, tuple[Caller, float]] = {}  # and when it expires

    def draw(self) -> bytes | Refusal:
        return b""

    def sign(self, user: bytes, revision: int) -> bytes | Refusal | None:
        if self._signing_key is None:
            return VERIFY_ONLY
        name = user.decode("utf-8", "replace")  # as Go's JSON has it
        claims = {"username": name, "revision": revision, "exp": int(self._now() + self._ttl_s)}
        return jwt.encode(claims, self._signing_key, algorithm=self._method).encode()

    def find(self, token: str, revision: int) -> Caller | None:
        remembered = self._remembered.get(token)
        if remembered is not None:
            if self._now() < remembered[1]:
                return remembered[0]
            del self._remembered[token]
            return None
        try:
            claims = jwt.decode(token, self._checking_key, algorithms=[self._method], options=_ASKED)  # type: ignore[arg-type]  # its own type for them is private
            caller = _caller(claims)
            ends = float(claims.get("exp", "inf"))
        except (jwt.PyJWTError, ValueError, TypeError):
            return None  # what it is instead of a token is its sender's affair
        if caller is not None:
            if len(self._remembered) >= REMEMBERED_MAX:
                self._remembered.clear()
            self._remembered[token] = caller, ends
        return caller

    def awaits(self, token: str) -> int:
        return 0

    def signed_in(self, user: bytes, token: bytes) -> None:
        return None

    def signed_out(self, user: bytes | None) -> None:
        """Nothing to forget: the revision moved with whatever ends a session."""

    def purge(self) -> None:
        now = self._now()
        for token in [token for token, (_, ends) in self._remembered.items() if ends <= now]:
            del self._remembered[token]


def _caller(claims: dict[str, Any]) -> Caller | None:
    name, revision = claims.get("username"), claims.get("revision")
    if not isinstance(name, str) or isinstance(revision, bool) or not isinstance(revision, int | float):
        return None
    if not 0 <= revision < _UINT64_END:
        return None
    return Caller(name.encode(), int(revision))
