"""Simple tokens: sixteen letters drawn at random, and how far the log was. They live in each member's memory.

Hot path: find() runs for every request while authentication is on.

Every member hears of a new token by the entry of the user who signed in, so it counts at all of them, from when they
have applied that on; a member that was started later does not know it, and its client signs in anew. It lasts as long
as it is used, at each member by its own clock.
"""

import re
import secrets
import string
from collections.abc import Callable

from kvorum.state.auth import Caller
from kvorum.state.refusal import Refusal

LETTERS_COUNT = 16
TTL_DEFAULT_S = 300  # what 0 stands for, too
TOKENS_MAX = 100_000  # more are signed in within their time by nobody who means well: the oldest go
_TOKEN = re.compile(r"[^.]*\.([0-9]{1,19})")


class _Held:
    """caller: made anew when the revision has moved."""

    __slots__ = ("caller", "ends")

    def __init__(self, caller: Caller, ends: float) -> None:
        self.caller = caller
        self.ends = ends


class SimpleTokens:
    """Those that one member knows. now: seconds, of a clock that does not jump."""

    def __init__(self, now: Callable[[], float], ttl_s: int) -> None:
        self._now = now
        self._ttl_s = ttl_s or TTL_DEFAULT_S
        self._held: dict[str, _Held] = {}

    @property
    def held_count(self) -> int:
        return len(self._held)

    def draw(self) -> bytes | Refusal:
        return "".join(secrets.choice(string.ascii_letters) for _ in range(LETTERS_COUNT)).encode()

    def sign(self, user: bytes, revision: int) -> bytes | Refusal | None:
        return None

    def find(self, token: str, revision: int) -> Caller | None:
        held = self._held.get(token)
        if held is None:
            return None
        now = self._now()
        if held.ends <= now:
            del self._held[token]
            return None
        held.ends = now + self._ttl_s
        caller = held.caller
        if caller.revision != revision:
            caller = held.caller = Caller(caller.name, revision)
        return caller

    def awaits(self, token: str) -> int:
        """The entry itself comes behind the index that the token ends in."""
        if token in self._held:
            return 0
        found = _TOKEN.fullmatch(token)
        return int(found[1]) + 1 if found else 0

    def signed_in(self, user: bytes, token: bytes) -> None:
        if len(self._held) >= TOKENS_MAX:
            self._held.pop(next(iter(self._held)))
        self._held[token.decode("latin-1")] = _Held(Caller(user, 0), self._now() + self._ttl_s)

    def signed_out(self, user: bytes | None) -> None:
        if user is None:
            self._held.clear()
        else:
            self._held = {token: held for token, held in self._held.items() if held.caller.name != user}

    def purge(self) -> None:
        now = self._now()
        for token in [token for token, held in self._held.items() if held.ends <= now]:
            del self._held[token]
