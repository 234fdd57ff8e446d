"""The watches of the API server: kopf in a thread and on a loop of its own, begun anew whenever it ends.

kopf ends the tasks of the loop it runs on and gives up on some errors for good (a watch that answers 403 or 500 for a
while, a CRD that goes away). So it does not share our loop, and its end is one line in the log and a new beginning,
with a list of all that is there. Whether each watch still hears the server is seen on its connections: bookmarks come
once a minute.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

import aiohttp
import kopf

from kvorum_operator.controller.handlers import WATCHED, kopf_settings, label_selector
from kvorum_operator.platforms.kubernetes.client import (
    KVCLUSTERS,
    Call,
    Client,
    KubernetesError,
    NotFound,
    Refused,
    Resource,
    read_login,
)

LOOK_S = 1.0
FIRST_WORD_S = 60.0  # from the start until each watch has its list
SILENCE_S = 150.0  # bookmarks come each minute, kopf connects anew after 70 s without
AGAIN_S_MIN, AGAIN_S_MAX = 1.0, 30.0
OBSTACLE_S = 3.0  # to look whether a CRD or a permission that was missing is there
STEADY_S = 120.0  # who ran for so long begins anew at once
LOGIN_S_MIN = 5.0  # kopf logs in whenever it is refused, without a pause

log = logging.getLogger(__name__)


class Watches:
    """Runs until cancelled. Noticed is told from kopf's thread."""

    def __init__(
        self, client: Client, namespaces: Sequence[str], registry: kopf.OperatorRegistry, clock: Callable[[], float]
    ) -> None:
        self._client = client
        self._namespaces = tuple(namespaces)
        self._registry = registry
        self._clock = clock
        self._heard_s: dict[str, float] = {}  # by path; written by kopf's thread, too
        self._streams: dict[str, tuple[aiohttp.ClientResponse, int]] = {}  # by path; and how many bytes it had brought
        self._began_s = clock()
        self.paths = [
            Call("watch", "GET", resource, namespace).path for resource in WATCHED for namespace in namespaces or ("",)
        ]
        self.problem = "the watches have not begun yet"  # why there are none; empty while they run
        self._login_s = 0.0
        kopf.on.login(registry=registry)(self._log_in)

    @property
    def listening(self) -> bool:
        """Whether each watch has had its list."""
        return not self.problem and all(path in self._heard_s for path in self.paths)

    def silent_s(self) -> float:
        """For how long the most silent watch has heard nothing."""
        now_s = self._clock()
        return max(now_s - self._heard_s.get(path, self._began_s) for path in self.paths)

    def hear(self, path: str) -> None:
        """The API server said something to the watch of that path."""
        self._heard_s[path] = self._clock()

    def listen(self) -> None:
        """Notes which streams brought something since the last time: the tracing of aiohttp tells of none of it."""
        for path, (stream, bytes_before) in list(self._streams.items()):
            bytes_now = stream.content.total_bytes
            if bytes_now != bytes_before:
                self._streams[path] = (stream, bytes_now)
                self.hear(path)

    async def run(self) -> None:
        again_s = AGAIN_S_MIN
        while True:
            problem = await self._find_obstacle()
            self._say(problem)
            if problem:
                await asyncio.sleep(OBSTACLE_S)
                continue
            began_s = self._clock()
            end = await self._run_kopf()
            log.warning("the watches ended and begin anew", extra={"error": end})
            again_s = AGAIN_S_MIN if self._clock() - began_s > STEADY_S else min(AGAIN_S_MAX, again_s * 2)
            await asyncio.sleep(again_s)

    def _say(self, problem: str) -> None:
        if problem and problem != self.problem:
            log.error(problem)
        if not problem:
            log.info("watching", extra={"namespaces": list(self._namespaces) or "all"})
        self.problem = problem

    async def _find_obstacle(self) -> str:
        """What kopf would only stumble over; empty for nothing."""
        for namespace in self._namespaces or ("",):
            for resource in WATCHED:
                try:
                    # Of no object: whether it may be asked for at all.
                    await self._client.list(resource, namespace, label_selector(resource), "metadata.name=none")
                except NotFound:
                    return missing(resource)
                except Refused as error:
                    return forbidden(resource, namespace, error)
                except KubernetesError as error:
                    return f"the API server cannot be asked: {error}"
        return ""

    async def _run_kopf(self) -> str:
        """Until it ends, or hears nothing. Why."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[str] = loop.create_future()
        stopping: list[Callable[[], object]] = []
        self._began_s = self._clock()
        self._heard_s, self._streams = {}, {}

        async def operate() -> None:
            flag = asyncio.Event()
            own = asyncio.get_running_loop()
            stopping.append(lambda: own.call_soon_threadsafe(flag.set))
            await kopf.operator(
                registry=self._registry,
                settings=kopf_settings(),
                # Nobody reads it, but without one kopf asks for the user's name, and a user of a container has none.
                identity=cast(Any, "kvorum-operator"),
                standalone=True,
                clusterwide=not self._namespaces,
                namespaces=self._namespaces,
                stop_flag=flag,
            )

        def work() -> None:
            end = "kopf stopped"
            try:
                asyncio.run(operate())
            except Exception as error:  # the outermost edge of the thread: why it ended is told, and it begins anew
                log.debug("kopf ended", exc_info=True)
                end = f"{type(error).__name__}: {error}"
            with contextlib.suppress(RuntimeError):  # our loop is closed: this process ends
                loop.call_soon_threadsafe(ended.set_result, end)

        # A daemon: a process that was told to end does not wait for it.
        threading.Thread(target=work, name="kopf", daemon=True).start()
        try:
            while not ended.done():
                await asyncio.wait((ended,), timeout=LOOK_S)
                self.listen()
                if self._deaf():
                    return f"a watch has heard nothing for {self.silent_s():.0f}s"
            return ended.result()
        finally:
            for stop in stopping:
                with contextlib.suppress(RuntimeError):  # its loop is closed: it has ended by itself
                    stop()

    def _deaf(self) -> bool:
        begun = all(path in self._heard_s for path in self.paths)
        return self.silent_s() > (SILENCE_S if begun else FIRST_WORD_S)

    async def _log_in(self, **_: object) -> kopf.AiohttpSession:
        """kopf's login, with a session of ours."""
        await asyncio.sleep(max(0.0, self._login_s + LOGIN_S_MIN - self._clock()))
        self._login_s = self._clock()
        login = read_login()
        return kopf.AiohttpSession(
            aiohttp_session=self.session_of(login), server=login.server, default_namespace=login.default_namespace
        )

    def session_of(self, login: kopf.ConnectionInfo) -> aiohttp.ClientSession:
        """Notes what each watch hears."""
        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(self._hear_answer)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=login.as_ssl_context()),
            headers=login.as_http_headers(),
            proxy=login.proxy_url,
            trust_env=login.trust_env,
            trace_configs=[trace],
        )

    async def _hear_answer(self, _session: Any, _context: Any, said: aiohttp.TraceRequestEndParams) -> None:
        if said.response.ok:
            self._streams[said.url.path] = (said.response, 0)
            self.hear(said.url.path)


def missing(resource: Resource) -> str:
    group = resource.api_version.partition("/")[0]
    if resource is KVCLUSTERS:
        return (
            f"the Kubernetes cluster knows no {resource.plural}.{group}: install the CRD (kubectl apply --server-side "
            "-f crds/, or the chart with crds.install=true); it is looked for again every few seconds"
        )
    return f"the Kubernetes cluster knows no {resource.plural} of {resource.api_version}: is it 1.29 or newer?"


def forbidden(resource: Resource, namespace: str, error: Refused) -> str:
    where = f"in namespace {namespace}" if namespace else "in all namespaces"
    return (
        f"the operator may not list and watch {resource.plural} {where}: grant it by a Role "
        f"(see the chart's RBAC), or name the namespaces to work in with --namespace ({error.message})"
    )
