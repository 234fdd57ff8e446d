"""Linearizable reads: asked of the leader in rounds, run once all that was acknowledged before is applied here.

One ReadIndex round is on its way at a time and speaks for every read that came before it began; what comes meanwhile
waits for the next (Raft thesis, 6.4). Knows nothing of what a read does, nor who may: what is run asks that, by then.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kvorum.raft.message import ReadState
from kvorum.server.answer import WAITING_MAX, Answer
from kvorum.state import refusal

if TYPE_CHECKING:
    from kvorum.server.server import Server

RETRY_MS = 500  # etcd's: a round whose messages were lost is asked again

Read = tuple[Callable[["Server", Answer], None], Answer, int]  # what to run, whom it answers, the tick it came at


class Reads:
    """Of one member. waiting: for the next round. unapplied: by the index that must be applied before they run."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self.waiting: list[Read] = []
        self.unapplied: list[tuple[int, list[Read]]] = []
        self.slow_count = 0
        self.failed_count = 0  # looks at which some had waited too long
        self._round: set[bytes] | None = None  # contexts of the one on its way: one for each time it was asked
        self._round_reads: list[Read] = []
        self._round_tick = 0
        self._retry_ticks = max(1, RETRY_MS // server.settings.heartbeat_ms)

    def add(self, run: Callable[["Server", Answer], None], answer: Answer) -> None:
        if len(self.waiting) >= WAITING_MAX:
            answer.fail(refusal.TOO_MANY_REQUESTS.code, refusal.TOO_MANY_REQUESTS.text)
        else:
            self.waiting.append((run, answer, self._server.ticks))

    def begin_round(self) -> None:
        """For all that wait, unless one is on its way."""
        if self._round is not None:
            return
        context = self._ask()
        if context is not None:
            self._round = {context}
            self._round_reads = self.waiting
            self._round_tick = self._server.ticks
            self.waiting = []

    def _ask(self) -> bytes | None:
        """The context that the answer will carry; None if there is nobody to ask."""
        context = self._server.ids.next().to_bytes(8, "big")
        return context if self._server.raft.read_index(context) else None

    def confirmed(self, state: ReadState) -> None:
        """The leader says how far the reads of a round must wait; of one that is over this says nothing."""
        if self._round is None or state.context not in self._round:
            return
        reads = self._round_reads
        self._round = None
        self._round_reads = []
        if self._server.machine.applied_index >= state.index:
            self._run(reads)
        else:
            self.unapplied.append((state.index, reads))
        if self.waiting:
            self._server.schedule_flush()

    def run_applied(self) -> None:
        """Runs those of the unapplied that need wait no more."""
        applied = self._server.machine.applied_index
        due = [reads for index, reads in self.unapplied if index <= applied]
        self.unapplied = [waiting for waiting in self.unapplied if waiting[0] > applied]
        for reads in due:
            self._run(reads)

    def _run(self, reads: list[Read]) -> None:
        server = self._server
        for run, answer, _ in reads:
            run(server, answer)

    def expire(self, oldest_tick: int) -> None:
        """At each tick: a round that is late is asked again; reads that came at oldest_tick or before fail."""
        if self._round is not None and self._server.ticks - self._round_tick >= self._retry_ticks:
            self.slow_count += 1
            self._round_tick = self._server.ticks
            context = self._ask()
            if context is not None:
                self._round.add(context)
        for reads in (self.waiting, self._round_reads):
            if reads and reads[0][2] <= oldest_tick:
                expired = [read for read in reads if read[2] <= oldest_tick]
                reads[:] = [read for read in reads if read[2] > oldest_tick]
                self.failed_count += 1
                for _, answer, _ in expired:
                    answer.fail(refusal.TIMEOUT.code, refusal.TIMEOUT.text)
        if self._round is not None and not self._round_reads:
            self._round = None

    def give_up(self) -> list[Answer]:
        """Forgets every read. Whom they were to answer: the caller fails them."""
        unapplied = [read for _, reads in self.unapplied for read in reads]
        answers = [answer for _, answer, _ in (*self.waiting, *self._round_reads, *unapplied)]
        self.waiting, self._round_reads, self._round, self.unapplied = [], [], None, []
        return answers
