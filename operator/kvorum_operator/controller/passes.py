"""The passes over clusters of Kubernetes: read the KVCluster, run the pass, write its status, tell its events.

What is kept of a cluster from pass to pass may be lost at any moment (I10). Everything that a pass decides from is read
by the pass itself; of a KVCluster that is gone or on its way out nothing is touched: what belongs to it the garbage
collector takes, and there is no finalizer that could hang.
"""

import asyncio
import logging
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import InvalidCluster, KVCluster, Status, parse_spec, status_of
from kvorum_operator.cluster import status as statuses
from kvorum_operator.cluster.events import NOT_YET, Event, changes
from kvorum_operator.cluster.step import Hold, Step
from kvorum_operator.controller.news import News
from kvorum_operator.controller.work_queue import Failed, Key
from kvorum_operator.members.asking import Members
from kvorum_operator.metrics import Metrics
from kvorum_operator.objects.images import Images
from kvorum_operator.platforms.kubernetes.client import (
    KVCLUSTERS,
    Client,
    Conflict,
    KubernetesError,
    Manifest,
    NotFound,
)
from kvorum_operator.platforms.kubernetes.platform import KubernetesPlatform
from kvorum_operator.reconcile import Fenced, Outcome, Reconciler

SEEN_S_MAX = 20.0  # a step by what was seen longer ago would be one in the dark; a look itself takes up to half of it
PASS_S_MAX = 50.0  # each question in it has its own bound; below what /healthz allows
CONFLICT_S = 0.2  # somebody else wrote meanwhile: read it again
CONFLICTS_MAX = 10  # in a row; what is refused more often is no race that was lost, and is tried less and less often
MOVING_S = 1.0  # something is under way that no event tells of
MOVING_SHARE = 0.1  # what has not moved for ten minutes need not be looked at each second
SETTLED_S = 60.0
SETTLED_SHARE = 0.1  # by so much earlier, differently for each cluster: not all at once

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Kept:
    """One KVCluster from pass to pass."""

    uid: str
    platform: KubernetesPlatform
    members: Members
    reconciler: Reconciler
    readable: KVCluster | None = None  # the last that could be read
    began_s: float = 0.0  # when its last pass did
    written_s: float = 0.0
    changed_s: float = 0.0  # when its status last said something new
    decision: Step | Hold | None = None
    refused: Hold | None = None  # why the step of the last pass was not done


class TooLate(Exception):
    """What a pass has seen is too old to act by: a member may have gone since. The step is not done."""


class Passes:
    """fence: raises Fenced unless this operator leads. clock: monotonic seconds; wall: seconds since 1970."""

    def __init__(
        self,
        client: Client,
        images: Images,
        news: News,
        metrics: Metrics,
        fence: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._images = images
        self._news = news
        self._metrics = metrics
        self._fence = fence
        self._clock = clock
        self._wall = wall
        self._kept: dict[Key, Kept] = {}
        self._complaints: dict[Key, str] = {}
        self._conflicts_count: dict[Key, int] = {}  # in a row

    def touched(self, key: Key) -> None:
        """Somebody wrote to an object of the cluster that passes do not read each time."""
        if key in self._kept:
            self._kept[key].platform.forget_objects()

    async def run(self, key: Key) -> float | None:
        """One pass. The seconds until the next at the latest, None for never. Raises Failed, once it has said why."""
        began_s, result = self._clock(), "failed"
        try:
            async with asyncio.timeout(PASS_S_MAX):
                again_s = await self._pass(key)
            result = "done"
            self._conflicts_count.pop(key, None)
            self._say(key, "")
        except (Conflict, NotFound) as error:
            result, again_s = "conflict", CONFLICT_S
            self._count_conflict(key, error)
        except Fenced:
            # Whoever stopped leading forgets all keys anyway; who leads again in a moment must not lose this one.
            result, again_s = "fenced", MOVING_S
        except TimeoutError:
            self._fail(key, f"a pass took longer than {PASS_S_MAX:g}s and was given up")
        except (TooLate, KubernetesError) as error:
            self._fail(key, str(error))
        except Exception:  # the outermost edge of a pass: a bug in one cluster's must not end the others'
            result = "bug"
            log.exception("a pass ended by a bug of the operator", extra={"cluster": str(key)})
            raise Failed from None
        finally:
            self._metrics.pass_seconds.observe(self._clock() - began_s)
            self._metrics.count_pass(result)
        return again_s

    def _count_conflict(self, key: Key, error: KubernetesError) -> None:
        """Raises Failed where that is no race any more."""
        self._conflicts_count[key] = self._conflicts_count.get(key, 0) + 1
        if self._conflicts_count[key] > CONFLICTS_MAX:
            self._fail(key, str(error))
        log.debug("somebody else wrote meanwhile", extra={"cluster": str(key), "error": str(error)})

    def _fail(self, key: Key, complaint: str) -> NoReturn:
        self._say(key, complaint)
        raise Failed from None

    def _say(self, key: Key, complaint: str) -> None:
        """Once for each trouble, and once that it is over."""
        before = self._complaints.pop(key, "")
        if complaint:
            self._complaints[key] = complaint
        if complaint and complaint != before:
            log.warning("a pass failed and is tried again", extra={"cluster": str(key), "error": complaint})
        elif before and not complaint:
            log.info("passes succeed again", extra={"cluster": str(key)})

    async def _pass(self, key: Key) -> float | None:
        began_s = self._clock()
        live = await self._client.get(KVCLUSTERS, key.namespace, key.name)
        kept = self._kept.get(key)
        if kept is not None and (live is None or live["metadata"]["uid"] != kept.uid):
            await self._forget(key)
            kept = None
        if live is None or live["metadata"].get("deletionTimestamp"):
            self._metrics.clusters.forget(*key)
            return None
        if kept is None:
            kept = self._kept[key] = self._keep(key, live)
        kept.began_s = began_s
        generation = live["metadata"]["generation"]
        outcome, status, events = await self._judge(kept, live, generation)
        if outcome is not None:
            self._count(key, kept, outcome)
        self._metrics.clusters.show(*key, status)
        try:
            await self._write(kept, live, status)
        finally:
            await self._news.tell(live, events)
        return self._next(key, kept, outcome)

    def _keep(self, key: Key, live: Manifest) -> Kept:
        platform = KubernetesPlatform(self._client, key.namespace, key.name, self._images)
        members = Members()
        reconciler = Reconciler(platform, members, status_of(live))
        kept = Kept(live["metadata"]["uid"], platform, members, reconciler, changed_s=self._clock())
        reconciler.fence = lambda: self._require_recent(kept)
        return kept

    def _require_recent(self, kept: Kept) -> None:
        """Before a step or any object. Raises TooLate, and Fenced."""
        self._fence()
        seen_s = self._clock() - kept.began_s
        if seen_s > SEEN_S_MAX:
            raise TooLate(f"the API server is slow: what was seen {seen_s:.0f}s ago is no reason to act any more")

    async def _judge(
        self, kept: Kept, live: Manifest, generation: int
    ) -> tuple[Outcome | None, Status, tuple[Event, ...]]:
        """The pass itself. A document that cannot be read freezes its cluster as the last that could describes it."""
        held = None
        try:
            kept.readable = parse_spec(live)
        except InvalidCluster as error:
            held = Hold(Reason.SPEC_INVALID, "; ".join(error.problems), "spec to be put right")
        before = kept.reconciler.status
        if kept.readable is None:
            assert held is not None
            status = statuses.unreadable(before, held, generation, self._wall())
            kept.reconciler.status = status
            outcome, events = None, tuple(changes(before, status))
        else:
            outcome = await kept.reconciler.run_pass(kept.readable, generation, held)
            status, events = outcome.status, outcome.events
        if statuses.steady(status) != statuses.steady(before):
            kept.changed_s = self._clock()
        return outcome, status, events

    async def _write(self, kept: Kept, live: Manifest, status: Status) -> None:
        """Where it says something new, also compared with what somebody else may have written there (I9)."""
        there = status_of(live) if "status" in live else None
        if not statuses.worth_writing(status, there, kept.written_s, self._wall()):
            return
        metadata = {name: live["metadata"][name] for name in ("namespace", "name", "resourceVersion")}
        body = {
            "apiVersion": KVCLUSTERS.api_version,
            "kind": KVCLUSTERS.kind,
            "metadata": metadata,
            "status": status.model_dump(by_alias=True, exclude_none=True, mode="json"),
        }
        await self._client.patch_status(KVCLUSTERS, body)
        kept.written_s = self._wall()

    def _count(self, key: Key, kept: Kept, outcome: Outcome) -> None:
        """A refusal is told once, though the step is tried in each pass; that it only comes early is no trouble."""
        before, kept.refused = kept.refused, outcome.refused
        if isinstance(outcome.decision, Step):
            kind, refused = type(outcome.decision).__name__, outcome.refused
            self._metrics.count_step(kind, "done" if refused is None else "refused")
            extra = {"cluster": str(key), "step": str(outcome.decision)}
            if refused is None:
                log.info(outcome.decision.because, extra=extra)
            elif refused != before:
                level = logging.INFO if refused.reason in NOT_YET else logging.WARNING
                log.log(level, "a step was not done", extra={**extra, "error": refused.because})

    def _next(self, key: Key, kept: Kept, outcome: Outcome | None) -> float:
        """In how many seconds to look again, if no event calls before."""
        settled_s = SETTLED_S * (1 - SETTLED_SHARE * (zlib.crc32(str(key).encode()) % 100) / 100)
        if outcome is None:
            return settled_s
        repeated, kept.decision = kept.decision == outcome.decision, outcome.decision
        if outcome.acted and not repeated:
            return 0.0
        if not outcome.moving and not outcome.acted:
            return settled_s
        hold = outcome.refused or outcome.decision
        until_s = hold.until_s if isinstance(hold, Hold) else None
        left_s = until_s - outcome.seen.now_s if until_s is not None else None
        return moving_s(self._clock() - kept.changed_s, left_s, settled_s)

    async def _forget(self, key: Key) -> None:
        kept = self._kept.pop(key, None)
        self._complaints.pop(key, None)
        self._conflicts_count.pop(key, None)
        self._metrics.clusters.forget(*key)
        if kept is not None:
            self._news.forget(kept.uid)
            await kept.members.close()

    async def forget_all(self) -> None:
        """Another operator leads, or none of ours any more: what is kept would be out of date."""
        for key in list(self._kept):
            await self._forget(key)
        self._metrics.clusters.clear()


def moving_s(quiet_s: float, left_s: float | None, settled_s: float) -> float:
    """When to look again at what is under way. A step that is decided again has not shown its effect yet, either.

    quiet_s: for how long nothing has changed. left_s: until what is waited for ends by itself.
    """
    again_s = min(settled_s, max(MOVING_S, quiet_s * MOVING_SHARE))
    return again_s if left_s is None else min(again_s, max(MOVING_S, left_s))
