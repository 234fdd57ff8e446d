"""Whether a watch hears: on streams of a real HTTP server, by a clock that is told."""

import asyncio

import kopf
from aiohttp import web
from kvorum_operator.controller.handlers import WATCHED
from kvorum_operator.controller.watches import Watches, forbidden, missing
from kvorum_operator.platforms.kubernetes.client import KVCLUSTERS, PODS, Client, Refused

from tests.kit.deadline import wait_until_async
from tests.kit.ports import free_port


def test_watch_is_heard_by_its_first_answer_and_by_each_line_of_its_stream() -> None:
    async def case() -> None:
        now_s, lines = 1000.0, asyncio.Queue[bytes | None]()

        async def stream(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            while (line := await lines.get()) is not None:
                await response.write(line)
            return response

        application, port = web.Application(), free_port()
        application.add_routes([web.get("/{path:.*}", stream)])
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        server = f"http://127.0.0.1:{port}"
        async with Client() as client:
            watches = Watches(client, ("prod",), kopf.OperatorRegistry(), lambda: now_s)
            for path in watches.paths[1:]:
                watches.hear(path)
            now_s += 100
            assert watches.silent_s() == 100
            async with (
                watches.session_of(kopf.ConnectionInfo(server=server)) as session,
                session.get(f"{server}{watches.paths[0]}?watch=true") as answer,
            ):
                for path in watches.paths[1:]:
                    watches.hear(path)
                assert watches.silent_s() == 0, "its answer has begun"
                now_s += 100
                watches.listen()
                assert watches.silent_s() == 100, "and brought nothing yet"
                for path in watches.paths[1:]:
                    watches.hear(path)
                await lines.put(b'{"type": "BOOKMARK"}\n')

                async def heard() -> bool:
                    watches.listen()
                    return watches.silent_s() == 0

                await wait_until_async(heard, 5, "the line is heard")
                assert await answer.content.readline() == b'{"type": "BOOKMARK"}\n'
                await lines.put(None)
        await runner.cleanup()

    asyncio.run(case())


def test_each_kind_is_watched_in_each_namespace_or_once_in_all() -> None:
    async def case() -> None:
        async with Client() as client:
            of_two = Watches(client, ("a", "b"), kopf.OperatorRegistry(), lambda: 0.0)
            assert len(set(of_two.paths)) == 2 * len(WATCHED)
            assert "/api/v1/namespaces/b/pods" in of_two.paths
            of_all = Watches(client, (), kopf.OperatorRegistry(), lambda: 0.0)
            assert "/apis/kvorum.dev/v1alpha1/kvclusters" in of_all.paths
            assert not of_all.listening

    asyncio.run(case())


def test_what_is_missing_is_said_with_the_way_out() -> None:
    assert "kubectl apply --server-side -f crds/" in missing(KVCLUSTERS)
    refusal = Refused("list Pod", 403, "Forbidden", 'User "x" cannot list resource "pods"')
    assert "may not list and watch pods in namespace prod" in forbidden(PODS, "prod", refusal)
    assert "in all namespaces" in forbidden(PODS, "", refusal)
    assert 'User "x" cannot list resource "pods"' in forbidden(PODS, "prod", refusal)
