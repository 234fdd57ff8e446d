"""`kvorum-operator run`: the parts of the operator put together, from its start to its end.

Every replica watches; the one that holds the Lease works. Whoever stops leading forgets what it kept, and a new leader
begins with a pass over every cluster that it knows of.
"""

import asyncio
import contextlib
import logging
import secrets
import signal
import time
from collections.abc import Callable
from importlib.metadata import version

from prometheus_client import disable_created_metrics

from kvorum_operator.controller import health, json_log
from kvorum_operator.controller.handlers import Noticed, registry_of
from kvorum_operator.controller.health import Contact, Health
from kvorum_operator.controller.lease import Leadership
from kvorum_operator.controller.news import News
from kvorum_operator.controller.passes import Passes
from kvorum_operator.controller.watches import Watches
from kvorum_operator.controller.work_queue import Key, Lane, Workers
from kvorum_operator.metrics import Metrics
from kvorum_operator.objects.images import Images
from kvorum_operator.platforms.kubernetes.client import Client
from kvorum_operator.settings import Settings, host_name

EXIT_OK, EXIT_FAILED = 0, 1
STOP_S_MAX = 4.0  # of the five that a stop may take

log = logging.getLogger(__name__)


class Operator:
    """One operator, which runs once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.contact = Contact(time.monotonic)
        self.identity = f"{host_name()}_{secrets.token_hex(4)}"
        self.known: set[Key] = set()
        lease_client = Client(on_call=self._called)
        self.leadership = Leadership(
            lease_client, settings.lease_namespace, settings.lease_name, self.identity, time.monotonic, self.metrics
        )
        self.client = Client(before_write=self.leadership.fence, on_call=self._called)
        self.watching_client = Client(on_call=self._called)
        self.clients = (lease_client, self.client, self.watching_client)
        self.passes = Passes(
            self.client,
            Images(settings.node_image, settings.etcd_image_repository),
            News(self.client, self.identity, time.monotonic),
            self.metrics,
            self.leadership.fence,
        )
        self.workers = Workers(self.passes.run, settings.workers, time.monotonic)
        self.metrics.watch_queue(lambda: len(self.workers.queue), self.workers.oldest_s)
        self.parts: list[asyncio.Task[None]] = []

    def _called(self, verb: str, resource: str, status: int, seconds: float) -> None:
        self.contact.heard(status)
        self.metrics.count_call(verb, resource, status, seconds)

    # What kopf's thread tells.

    def noticed(self) -> Noticed:
        loop = asyncio.get_running_loop()

        def hand_over(told: Callable[..., None], *details: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: this process ends
                loop.call_soon_threadsafe(told, *details)

        return Noticed(
            cluster_changed=lambda key, lane: hand_over(self._changed, key, lane),
            cluster_gone=lambda key: hand_over(self._gone, key),
            belonging_changed=lambda key, touched: hand_over(self._belonging_changed, key, touched),
        )

    def _changed(self, key: Key, lane: Lane) -> None:
        self.known.add(key)
        if self.leadership.leading:
            self.workers.add(key, lane)

    def _gone(self, key: Key) -> None:
        self.known.discard(key)
        if self.leadership.leading:
            self.workers.add(key)  # the pass sees that it is gone, and forgets it

    def _belonging_changed(self, key: Key, touched: bool) -> None:
        if touched:
            self.passes.touched(key)
        if key in self.known and self.leadership.leading:
            self.workers.add(key)

    # The parts.

    async def work(self) -> None:
        """Passes, while this operator leads."""
        while True:
            await self.leadership.led.wait()
            working, losing = asyncio.create_task(self.workers.run()), asyncio.create_task(self.leadership.lost.wait())
            for key in sorted(self.known):
                self.workers.add(key)
            try:
                await asyncio.wait((working, losing), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (working, losing):
                    task.cancel()
                await asyncio.wait((working, losing))
                await self.passes.forget_all()
            if not working.cancelled():
                working.result()  # it ends by a bug alone: raised here

    def ended_part(self) -> str:
        return next((part.get_name() for part in self.parts if part.done()), "")

    async def run(self) -> int:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for one in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(one, stopping.set)
        watches = Watches(self.watching_client, self.settings.namespaces, registry_of(self.noticed()), time.monotonic)
        judged = Health(self.contact, watches, self.workers.stuck_s, lambda: self.leadership.problem, self.ended_part)
        try:
            server = await health.serve(self.settings.metrics_port, judged, self.metrics)
        except OSError as error:
            log.error("the port of metrics cannot be used", extra={"error": str(error)})
            return EXIT_FAILED
        log.info(
            "kvorum-operator started",
            extra={
                "version": version("kvorum-operator"),
                "identity": self.identity,
                "namespaces": list(self.settings.namespaces) or "all",
                "port": self.settings.metrics_port,
            },
        )
        parts = {"lease": self.leadership.run(), "watches": watches.run(), "passes": self.work()}
        self.parts += [asyncio.create_task(part, name=name) for name, part in parts.items()]
        stopped = asyncio.create_task(stopping.wait())
        await asyncio.wait((stopped, *self.parts), return_when=asyncio.FIRST_COMPLETED)
        for part in self.parts:
            if part.done() and not part.cancelled() and (bug := part.exception()) is not None:
                log.error(f"{part.get_name()} ended by a bug of the operator", exc_info=bug)
        exit_status = EXIT_OK if stopping.is_set() else EXIT_FAILED
        try:
            async with asyncio.timeout(STOP_S_MAX):
                await self.stop()
                await server.cleanup()
        except TimeoutError:
            log.warning("not all could be ended in time")
        log.info("kvorum-operator ended")
        return exit_status

    async def stop(self) -> None:
        """Passes first; once nothing can act any more, the Lease is given back."""
        for part in self.parts:
            part.cancel()
        await asyncio.wait(self.parts)
        await self.leadership.release()
        for client in self.clients:
            await client.close()


def run(settings: Settings) -> int:
    """The exit status."""
    json_log.configure(settings.log_level)
    # Else each counter has a second series, which nobody reads.
    disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types for it
    return asyncio.run(Operator(settings).run())
