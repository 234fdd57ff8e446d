"""Linearizable reads without a log entry: which index a read must wait for, and whether this leader still may say so.

The commit index is noted when a read is asked for; once a quorum has answered a heartbeat sent after that, no newer
leader can have committed anything the read would miss (Raft thesis, 6.4). Rounds are kept in the order they began: a
quorum that confirms one confirms all before it. Knows no clock: leases are not trusted for reads.
"""

from kvorum.raft.message import Message

ROUNDS_MAX = 4096  # waiting at once; more are dropped and asked for again by who needs them


class ReadRound:
    """One request to read: the message that asked, from this member's server or a follower, and the index then."""

    __slots__ = ("acknowledged", "index", "request")

    def __init__(self, request: Message, index: int) -> None:
        self.request = request
        self.index = index
        self.acknowledged: set[int] = set()


class ReadRounds:
    """What a leader has not confirmed yet. Forgotten when its term ends: who asked will ask again."""

    __slots__ = ("_postponed", "_rounds")

    def __init__(self) -> None:
        self._rounds: dict[bytes, ReadRound] = {}  # by context, in the order they began
        self._postponed: list[Message] = []  # asked for before the first commit of the term

    @property
    def newest_context(self) -> bytes:
        """What a periodic heartbeat carries, so that a lost round is repeated. Empty: nothing waits."""
        return next(reversed(self._rounds), b"")

    def begin(self, context: bytes, request: Message, index: int) -> bool:
        """Notes a round; False if it is known (a repeated message) or too many wait."""
        if context in self._rounds or len(self._rounds) >= ROUNDS_MAX:
            return False
        self._rounds[context] = ReadRound(request, index)
        return True

    def acknowledge(self, context: bytes, member: int) -> set[int]:
        """Who has answered the heartbeat of this round so far; empty if the round is over."""
        read_round = self._rounds.get(context)
        if read_round is None:
            return set()
        read_round.acknowledged.add(member)
        return read_round.acknowledged

    def release(self, context: bytes) -> list[ReadRound]:
        """A quorum answered this round: it and all that began before it."""
        released: list[ReadRound] = []
        for first in list(self._rounds):
            released.append(self._rounds.pop(first))
            if first == context:
                break
        return released

    def postpone(self, request: Message) -> bool:
        """Keeps a request until the leader has committed in its term and so knows the commit index; False if full."""
        if len(self._postponed) >= ROUNDS_MAX:
            return False
        self._postponed.append(request)
        return True

    def take_postponed(self) -> list[Message]:
        postponed, self._postponed = self._postponed, []
        return postponed
