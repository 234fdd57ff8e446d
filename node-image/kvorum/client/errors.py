"""How a call fails, told by what the caller may conclude from it."""

CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 1, 2, 4, 12, 13, 14  # gRPC's codes

OPEN = frozenset((CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE))


class ClientError(Exception):
    """A call got no good answer. code: gRPC's; text: the server's own, or the connection's trouble.

    Where a write ends so and may_have_been_applied is true (a timeout, a lost connection, a lost leader), whether it
    was applied is not known: look before you repeat it. Otherwise the server refused, and nothing was changed.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return f"{self.text} (gRPC code {self.code})"

    @property
    def may_have_been_applied(self) -> bool:
        return self.code in OPEN


class Unreachable(ClientError):
    """No endpoint could be connected to, so nothing was sent. text: what each of them met."""

    def __init__(self, text: str) -> None:
        super().__init__(UNAVAILABLE, text)

    @property
    def may_have_been_applied(self) -> bool:
        return False


class WatchCancelled(ClientError):
    """The server ended a watch. compact_revision > 0: events up to it are gone, read anew and watch from there on."""

    def __init__(self, reason: str, compact_revision: int) -> None:
        super().__init__(CANCELLED, reason)
        self.compact_revision = compact_revision
