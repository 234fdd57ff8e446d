"""/healthz, /readyz and /metrics of a real server, by a clock that is told."""

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import kopf
import pytest
from kvorum_operator.controller import health
from kvorum_operator.controller.health import Contact, Health
from kvorum_operator.controller.watches import SILENCE_S, Watches
from kvorum_operator.metrics import Metrics
from kvorum_operator.platforms.kubernetes.client import Client

from tests.kit.ports import free_port


class Operator:
    """What health judges, in a state that a test sets."""

    def __init__(self, client: Client) -> None:
        self.now_s = 1000.0
        self.stuck_s = 0.0
        self.ended = self.lease_problem = ""
        self.contact = Contact(self.clock)
        self.watches = Watches(client, ("prod",), kopf.OperatorRegistry(), self.clock)
        self.watches.problem = ""
        self.hear_all()
        self.health = Health(
            self.contact, self.watches, lambda: self.stuck_s, lambda: self.lease_problem, lambda: self.ended
        )

    def clock(self) -> float:
        return self.now_s

    def hear_all(self) -> None:
        for path in self.watches.paths:
            self.watches.hear(path)


Ask = Callable[[str], Awaitable[tuple[int, str]]]


def served(case: Callable[[Operator, Ask], Awaitable[None]]) -> None:
    async def run() -> None:
        async with Client() as client, aiohttp.ClientSession() as session:
            operator = Operator(client)
            port = free_port()
            runner = await health.serve(port, operator.health, Metrics())

            async def ask(page: str) -> tuple[int, str]:
                async with session.get(f"http://127.0.0.1:{port}/{page}") as answer:
                    return answer.status, await answer.text()

            try:
                await case(operator, ask)
            finally:
                await runner.cleanup()

    asyncio.run(run())


def test_operator_that_works_is_healthy_and_ready() -> None:
    async def case(_: Operator, ask: Ask) -> None:
        assert await ask("healthz") == await ask("readyz") == (200, "ok\n")

    served(case)


def test_operator_that_is_cut_off_is_not_healthy_and_recovers() -> None:
    async def case(operator: Operator, ask: Ask) -> None:
        operator.now_s += 61
        operator.contact.heard(0)
        operator.contact.heard(503)
        assert await ask("healthz") == (500, "the API server has not answered for 61s\n")
        operator.contact.heard(403)
        assert await ask("healthz") == (200, "ok\n")

    served(case)


def test_watch_that_hears_nothing_is_not_healthy() -> None:
    async def case(operator: Operator, ask: Ask) -> None:
        operator.now_s += SILENCE_S + 61
        operator.contact.heard(200)
        for path in operator.watches.paths[1:]:
            operator.watches.hear(path)
        assert await ask("healthz") == (500, "a watch has heard nothing for 211s\n")
        operator.hear_all()
        assert (await ask("healthz"))[0] == 200

    served(case)


@pytest.mark.parametrize("page", ["healthz", "readyz"])
def test_queue_that_does_not_go_on_and_an_ended_part_are_not_healthy(page: str) -> None:
    async def case(operator: Operator, ask: Ask) -> None:
        operator.stuck_s, operator.ended = 61, "passes"
        status, text = await ask(page)
        assert status == (500 if page == "healthz" else 503)
        assert text == "passes have been stuck for 61s\npasses ended\n"

    served(case)


def test_lease_that_may_not_be_read_is_not_ready() -> None:
    async def case(operator: Operator, ask: Ask) -> None:
        operator.lease_problem = "get Lease x in ops: forbidden"
        assert await ask("readyz") == (503, "the Lease cannot be read or renewed: get Lease x in ops: forbidden\n")
        assert (await ask("healthz"))[0] == 200

    served(case)


def test_missing_crd_is_not_ready_and_no_reason_to_be_started_anew() -> None:
    async def case(operator: Operator, ask: Ask) -> None:
        operator.watches.problem = "the Kubernetes cluster knows no kvclusters.kvorum.dev"
        operator.now_s += 3600
        operator.contact.heard(404)
        assert await ask("healthz") == (200, "ok\n")
        assert await ask("readyz") == (503, "the Kubernetes cluster knows no kvclusters.kvorum.dev\n")

    served(case)


def test_metrics_are_a_page_of_prometheus() -> None:
    async def case(_: Operator, ask: Ask) -> None:
        status, text = await ask("metrics")
        assert status == 200
        assert "kvorum_operator_leader 0.0" in text

    served(case)
