"""Who asks: the user whom a call's token or certificate names, as far as this member can know now.

Hot path while authentication is on: of() runs for every request. While it is off nobody asks here.

What the named one may do state.auth knows. Here is the rest of what changes with it: tokens come and go with entries,
calls wait for the entry that made their token, and watches are looked at again when rights change.
"""

import heapq
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kvorum.server.tokens import Tokens
from kvorum.state.auth import READ, Caller, News, RightsChanged, SignedIn, SignedOut
from kvorum.state.auth_checks import Check
from kvorum.state.refusal import AUTH_OLD_REVISION, INVALID_AUTH_TOKEN, STOPPED, TOO_MANY_REQUESTS, Refusal
from kvorum.state.row import varint

if TYPE_CHECKING:
    from kvorum.server.server import Server

HELD_MAX = 1_000  # calls with a token that is not known yet; more are refused at once
HELD_BYTES_MAX = 64 << 20  # of their requests: who holds no token that counts must not fill the memory
PURGE_S = 1.0
NOBODY = Caller(b"", 0)

log = logging.getLogger(__name__)


class Asker(Protocol):
    """What of a call says who asks."""

    def metadata(self, name: str) -> str | None: ...

    @property
    def common_name(self) -> str | None: ...


class Watching(Protocol):
    """A stream of watches, each made by a user."""

    def signed_out(self, user: bytes) -> None:
        """Of a token that the user made watches by."""
        ...

    def rights_changed(self) -> None: ...


Ask = Callable[[Check], Refusal | None]


class Held(NamedTuple):
    """A call that waits, in the order of what it waits for."""

    awaited_index: int
    number: int
    tick: int
    size_bytes: int
    go_on: Callable[[], None]
    give_up: Callable[[Refusal], None]


class Callers:
    """Of one member."""

    def __init__(self, server: "Server", tokens: Tokens) -> None:
        self._server = server
        self.tokens = tokens
        self.streams: set[Watching] = set()  # all that are open
        self._held: list[Held] = []
        self._held_count = 0  # ever
        self._held_bytes = 0
        self._named: tuple[Caller, bytes] = (NOBODY, b"")
        self._next_purge = 0.0

    # -- who -----------------------------------------------------------------------------------------------------

    def of(self, asker: Asker) -> Caller | Refusal:
        """NOBODY where nothing says so."""
        token = _token(asker)
        revision = self._server.machine.auth.revision
        if token is not None:
            return self.tokens.find(token, revision) or INVALID_AUTH_TOKEN
        name = asker.common_name
        return NOBODY if name is None else Caller(name.encode(), revision)

    def has_token(self, asker: Asker) -> bool:
        return _token(asker) is not None

    def refuses(self, asker: Asker, ask: Ask) -> Refusal | None:
        """Why the caller may not do what is asked of the check, by what is applied here."""
        caller = self.of(asker)
        if isinstance(caller, Refusal):
            return caller
        return ask(self.check(caller))

    def refuses_read(self, asker: Asker, ask: Ask) -> Refusal | None:
        """The same for what is answered from here at once: not by rights of a time that this member does not know."""
        caller = self.of(asker)
        if isinstance(caller, Refusal):
            return caller
        refused = ask(self.check(caller))
        if refused is None and caller.revision and caller.revision != self._server.machine.auth.revision:
            return AUTH_OLD_REVISION
        return refused

    def refuses_range(self, asker: Asker, key: bytes, range_end: bytes) -> Refusal | None:
        """refuses_read of a range: nearly every read is one."""
        caller = self.of(asker)
        if isinstance(caller, Refusal):
            return caller
        auth = self._server.machine.auth
        refused = auth.refuses_keys(caller, key, range_end, READ)
        if refused is None and caller.revision != auth.revision:
            return AUTH_OLD_REVISION
        return refused

    def check(self, caller: Caller) -> Check:
        machine = self._server.machine
        return Check(machine.auth, machine.leases, caller)

    def header_tail(self, caller: Caller) -> bytes:
        """The fields of an entry's RequestHeader that name him: username, auth_revision."""
        last, tail = self._named
        if last is not caller:
            name = caller.name
            tail = (b"\x12" + varint(len(name)) + name if name else b"") + (
                b"\x18" + varint(caller.revision) if caller.revision else b""
            )
            self._named = (caller, tail)
        return tail

    # -- what the log says ---------------------------------------------------------------------------------------

    def hear(self, news: Iterable[News]) -> None:
        """What was applied to users, roles and tokens, in its order."""
        rights_changed = False
        for one in news:
            match one:
                case SignedIn(user, token):
                    self.tokens.signed_in(user, token)
                case SignedOut(user):
                    self.tokens.signed_out(user)
                    if user is not None:
                        for stream in list(self.streams):
                            stream.signed_out(user)
                case RightsChanged():
                    rights_changed = True
        if rights_changed:
            self.look_again()

    def replaced(self) -> None:
        """A snapshot took the place of everything: which tokens it ended nobody can tell, so all are."""
        self.tokens.signed_out(None)
        self.look_again()

    def look_again(self) -> None:
        for stream in list(self.streams):
            stream.rights_changed()

    # -- tokens that are early -----------------------------------------------------------------------------------

    def awaits(self, asker: Asker) -> int:
        """The index that must be applied before the asker's token can be known here; 0 if nothing need."""
        token = _token(asker)
        index = self.tokens.awaits(token) if token is not None else 0
        return index if index > self._server.machine.applied_index else 0

    def hold(self, index: int, size_bytes: int, go_on: Callable[[], None], give_up: Callable[[Refusal], None]) -> None:
        """Goes on once index is applied; gives up when that does not come within a request's time.

        size_bytes: what is kept for the call meanwhile.
        """
        if len(self._held) >= HELD_MAX or self._held_bytes + size_bytes > HELD_BYTES_MAX:
            give_up(TOO_MANY_REQUESTS)
            return
        self._held_count += 1
        self._held_bytes += size_bytes
        heapq.heappush(self._held, Held(index, self._held_count, self._server.ticks, size_bytes, go_on, give_up))

    @property
    def has_held(self) -> bool:
        return bool(self._held)

    def applied(self) -> None:
        """A batch was applied."""
        applied = self._server.machine.applied_index
        while self._held and self._held[0].awaited_index <= applied:
            ripe = heapq.heappop(self._held)
            self._held_bytes -= ripe.size_bytes
            ripe.go_on()

    def tick(self) -> None:
        server = self._server
        if self._held:
            oldest = server.ticks - server.settings.request_timeout_ms // server.settings.heartbeat_ms
            expired = [one for one in self._held if one.tick <= oldest]
            if expired:
                self._held = [one for one in self._held if one.tick > oldest]
                heapq.heapify(self._held)
                self._give_up(expired, INVALID_AUTH_TOKEN)
        now = server.loop.time()
        if now >= self._next_purge:
            self._next_purge = now + PURGE_S
            self.tokens.purge()

    def stop(self) -> None:
        held, self._held = self._held, []
        self._give_up(held, STOPPED)

    def _give_up(self, held: Sequence[Held], why: Refusal) -> None:
        for one in held:
            self._held_bytes -= one.size_bytes
            one.give_up(why)


def _token(asker: Asker) -> str | None:
    token = asker.metadata("token")
    return asker.metadata("authorization") if token is None else token
