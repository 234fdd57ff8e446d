"""Which of several operators acts: the holder of one Lease, and only while it knows that it is.

The rules are those of Kubernetes' own controllers. A Lease is taken over when it did not change for its duration, by
the taker's monotonic clock since it last saw a change: instants that others wrote are never compared with a clock. The
holder stops by itself before that: what it may do ends RENEW_DEADLINE_S after it *began* its last successful renewal,
also if it was stopped meanwhile and nothing told it. `fence` is asked right before each write.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kvorum_operator.metrics import Metrics
from kvorum_operator.platforms.kubernetes.client import LEASES, Client, Conflict, KubernetesError, NotFound
from kvorum_operator.reconcile import Fenced

DURATION_S = 15  # how long others wait without seeing a change
RENEW_DEADLINE_S = 10.0  # the rest, 5 s, is for a write that had left when the deadline passed
RETRY_S = 2.0  # between two renewals, or two looks
CALL_S_MAX = 4.0  # so that a renewal that hangs leaves time for another

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Record:
    """What a Lease says. Its renewTime is not read but for being another one than before."""

    holder: str
    transitions_count: int
    version: str  # resourceVersion: what a write must have seen
    duration_s: float


def record_of(lease: dict[str, Any]) -> Record:
    spec = lease.get("spec") or {}
    return Record(
        spec.get("holderIdentity") or "",
        spec.get("leaseTransitions") or 0,
        lease["metadata"]["resourceVersion"],
        spec.get("leaseDurationSeconds") or DURATION_S,
    )


class Election:
    """What this operator knows of the Lease. Instants come in as arguments, of one monotonic clock."""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self.record: Record | None = None  # as last seen, or written
        self._seen_s = 0.0  # when it was first seen so
        self._renewed_s: float | None = None  # when the last renewal that succeeded began

    def see(self, record: Record, now_s: float) -> None:
        if record != self.record:
            self.record, self._seen_s = record, now_s
        if record.holder != self.identity:
            self._renewed_s = None

    def renewed(self, record: Record, began_s: float) -> None:
        """record: as it was written. began_s: before the request was sent, so that we never believe too long."""
        self.record, self._seen_s, self._renewed_s = record, began_s, began_s

    def released(self) -> None:
        self._renewed_s = None

    def holds(self, now_s: float) -> bool:
        return self._renewed_s is not None and now_s < self._renewed_s + RENEW_DEADLINE_S

    def may_take(self, now_s: float) -> bool:
        """Whether the Lease that was last seen is nobody's, or can be taken without waiting.

        Ours that we were too late to renew: since nobody wrote it meanwhile, which the write makes sure of, nobody led.
        """
        if self.record is None:
            return False
        if self.record.holder in ("", self.identity):
            return True
        return now_s >= self._seen_s + self.record.duration_s


class Leadership:
    """Takes, renews and releases the Lease. client: one of its own, which nothing fences and no other call delays."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        name: str,
        identity: str,
        clock: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._clock = clock
        self._metrics = metrics
        self._election = Election(identity)
        self.problem = ""  # why it cannot be read or renewed; empty where it can
        self._leading = False
        self.led = asyncio.Event()  # set while this operator leads, as far as it has noticed
        self.lost = asyncio.Event()  # set while it does not
        self.lost.set()
        self._acquired = ""  # since when this operator holds it, as the Lease says it

    @property
    def leading(self) -> bool:
        return self._leading and self._election.holds(self._clock())

    def fence(self) -> None:
        """Raises Fenced unless this operator leads, now."""
        if not self.leading:
            raise Fenced("this operator does not hold the Lease any more: nothing is written")

    async def run(self) -> None:
        """Until cancelled. Then `release` may follow."""
        while True:
            began_s = self._clock()
            self._tell()  # a process that was stopped for long does not lead on: another may have led meanwhile
            try:
                async with asyncio.timeout(CALL_S_MAX):
                    await self._take_or_renew()
                self._say("")
            except TimeoutError:
                self._say(f"no answer within {CALL_S_MAX:g}s")
            except KubernetesError as error:
                self._say(str(error))
            self._tell()
            # A renewal that hung has used its pause up already.
            await asyncio.sleep(max(0.1, RETRY_S - (self._clock() - began_s)))

    async def _take_or_renew(self) -> None:
        election, began_s = self._election, self._clock()
        if election.holds(began_s):
            with contextlib.suppress(Conflict, NotFound):
                await self._write(election.identity, DURATION_S)
                return
            # Somebody else wrote or deleted it, or it was we, and the answer did not arrive.
        await self._look()
        if election.may_take(self._clock()):
            with contextlib.suppress(Conflict):  # another was faster
                await self._write(election.identity, DURATION_S)

    async def _look(self) -> None:
        lease = await self._client.get(LEASES, self._namespace, self._name)
        if lease is None:
            self._election.released()
            with contextlib.suppress(Conflict):
                began_s = self._clock()
                written = await self._client.create(LEASES, self._body(None, self._election.identity, DURATION_S))
                self._election.renewed(record_of(written), began_s)
            return
        self._election.see(record_of(lease), self._clock())

    async def _write(self, holder: str, duration_s: int) -> None:
        began_s = self._clock()
        written = await self._client.update(LEASES, self._body(self._election.record, holder, duration_s))
        self._election.renewed(record_of(written), began_s)

    def _body(self, seen: Record | None, holder: str, duration_s: int) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        metadata = {"namespace": self._namespace, "name": self._name}
        if seen is not None:
            metadata["resourceVersion"] = seen.version
        taken = holder != "" and (seen is None or seen.holder != holder)
        if taken:
            self._acquired = now
        spec = {
            "holderIdentity": holder,
            "leaseDurationSeconds": duration_s,
            "acquireTime": self._acquired,
            "renewTime": now,
            "leaseTransitions": seen.transitions_count + taken if seen is not None else 0,
        }
        return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}

    def _tell(self) -> None:
        leads = self._election.holds(self._clock())
        if leads == self._leading:
            return
        self._leading = leads
        self._metrics.leader.set(leads)
        if leads:
            log.info("this operator leads now", extra={"lease": f"{self._namespace}/{self._name}"})
            self.led.set()
            self.lost.clear()
        else:
            log.warning("this operator does not lead any more: it acts no longer, and tries to lead again")
            self.led.clear()
            self.lost.set()

    def _say(self, complaint: str) -> None:
        """Once for each trouble, and once that it is over."""
        if complaint == self.problem:
            return
        self.problem = complaint
        where = f"{self._namespace}/{self._name}"
        if complaint:
            log.warning("the Lease cannot be renewed or read", extra={"lease": where, "error": complaint})
        else:
            log.info("the Lease can be read and renewed again", extra={"lease": where})

    async def release(self) -> None:
        """Gives the Lease back, so that another operator need not wait for it to expire. Nothing may act any more."""
        held = self._election.holds(self._clock())
        self._leading = False
        if not held:
            return
        try:
            async with asyncio.timeout(CALL_S_MAX / 2):
                await self._write("", 1)
        except (TimeoutError, KubernetesError) as error:
            log.warning("the Lease was not given back and will expire", extra={"error": str(error) or "no answer"})
        self._election.released()
