"""What clients show instead of a password: three kinds, behind one protocol. Which is used, --auth-token says.

A token names a user, and the revision of authentication that he asks at. Knows no entries: what the log says of tokens
server.callers passes on. Never written to a log, whole or in part.
"""

from typing import Protocol

from kvorum.state.auth import Caller
from kvorum.state.refusal import AUTH_FAILED, Refusal


class Tokens(Protocol):
    """Those of one member, or all that carry the right signature."""

    def draw(self) -> bytes | Refusal:
        """The letters of a new token, for its entry in the log; empty where tokens are signed instead."""
        ...

    def sign(self, user: bytes, revision: int) -> bytes | Refusal | None:
        """The token that a client is given; None: the one that came of the entry."""
        ...

    def find(self, token: str, revision: int) -> Caller | None:
        """Who shows it; None if it is no token, or one no more. revision: of authentication, now."""
        ...

    def awaits(self, token: str) -> int:
        """How far this member must have applied the log to know the token; 0 if it knows it, or never will."""
        ...

    def signed_in(self, user: bytes, token: bytes) -> None: ...

    def signed_out(self, user: bytes | None) -> None:
        """Forgets the user's tokens, or all."""
        ...

    def purge(self) -> None:
        """Forgets those whose time is up. Called now and then."""
        ...


class NoTokens:
    """An empty --auth-token: nobody signs in, users are known by their certificates alone."""

    def draw(self) -> bytes | Refusal:
        return AUTH_FAILED

    def sign(self, user: bytes, revision: int) -> bytes | Refusal | None:
        return AUTH_FAILED

    def find(self, token: str, revision: int) -> Caller | None:
        return None

    def awaits(self, token: str) -> int:
        return 0

    def signed_in(self, user: bytes, token: bytes) -> None:
        return None

    def signed_out(self, user: bytes | None) -> None:
        return None

    def purge(self) -> None:
        return None
