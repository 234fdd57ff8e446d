"""/healthz, /readyz and /metrics, and what they are judged by.

/healthz fails where a new start may help: nothing was heard of the API server for a minute, a watch is dead, the passes
do not go on. That clusters wait because there are very many of them is no such case: a new start would begin with all
of them again. An event loop that is stuck answers nothing at all, which a probe takes for the same.
A CRD or a permission that is missing is no such case: /readyz says it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from kvorum_operator.controller.watches import SILENCE_S, Watches
from kvorum_operator.metrics import Metrics

CONTACT_S_MAX = 60.0  # the Lease alone asks every two seconds
STUCK_S_MAX = 60.0  # a pass is given up before
WATCH_S_MAX = SILENCE_S + 60.0  # the watches begin anew by themselves before


class Contact:
    """When the API server last answered our own client."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heard_s = clock()

    def heard(self, status: int) -> None:
        """status: HTTP's of a call; 0 without an answer."""
        if 0 < status < 500:
            self._heard_s = self._clock()

    def silent_s(self) -> float:
        return self._clock() - self._heard_s


@dataclass(frozen=True, slots=True)
class Health:
    contact: Contact
    watches: Watches
    stuck_s: Callable[[], float]  # for how long the queue has not gone on, or a pass has not ended
    lease_problem: Callable[[], str]  # why it cannot be read or renewed; empty where it can
    ended: Callable[[], str]  # the name of a part of the operator that is not running any more; empty for none

    def problems(self) -> list[str]:
        """Why this process should be started anew."""
        found = []
        if (silent_s := self.contact.silent_s()) > CONTACT_S_MAX:
            found.append(f"the API server has not answered for {silent_s:.0f}s")
        if not self.watches.problem and (silent_s := self.watches.silent_s()) > WATCH_S_MAX:
            found.append(f"a watch has heard nothing for {silent_s:.0f}s")
        if (stuck_s := self.stuck_s()) > STUCK_S_MAX:
            found.append(f"passes have been stuck for {stuck_s:.0f}s")
        if part := self.ended():
            found.append(f"{part} ended")
        return found

    def obstacles(self) -> list[str]:
        """Why this operator could not do its work, or take over from another."""
        found = self.problems()
        if problem := self.lease_problem():
            found.append(f"the Lease cannot be read or renewed: {problem}")
        if self.watches.problem:
            found.append(self.watches.problem)
        elif not self.watches.listening:
            found.append("the watches have not all had their lists yet")
        return found


async def serve(port: int, health: Health, metrics: Metrics) -> web.AppRunner:
    """On all addresses. What is to be cleaned up. Raises OSError if the port is taken."""

    async def healthz(_: web.Request) -> web.Response:
        return answer(health.problems(), 500)

    async def readyz(_: web.Request) -> web.Response:
        return answer(health.obstacles(), 503)

    async def page(_: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    application = web.Application()
    application.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", page)])
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, None, port)
    await site.start()
    return runner


def answer(problems: list[str], status: int) -> web.Response:
    return web.Response(text="".join(f"{one}\n" for one in problems) or "ok\n", status=status if problems else 200)
