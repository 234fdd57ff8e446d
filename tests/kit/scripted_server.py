"""A gRPC server whose answers a test writes: what a client meets when a server hangs, dies or refuses.

grpc.aio's own server under the real wire protocol. Knows no rule of etcd.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from tests.kit.ports import free_port

# Either a coroutine that returns the answer's bytes (unary), or one that uses context.read() and context.write().
Unary = Callable[[bytes, Any], Awaitable[bytes]]
Stream = Callable[[Any, Any], Awaitable[None]]


class ScriptedServer(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs only
    """unary: path -> handler of (request bytes, context); streams: path -> handler of (requests, context).

    calls: (path, request bytes) of the unary calls that arrived, in order.
    """

    def __init__(self, unary: dict[str, Unary] | None = None, streams: dict[str, Stream] | None = None) -> None:
        self.unary = unary or {}
        self.streams = streams or {}
        self.calls: list[tuple[str, bytes]] = []
        self.port = free_port()
        self._server: grpc.aio.Server | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> "ScriptedServer":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((self,))
        self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        """Cuts what is under way."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(0)

    def service(self, handler_call_details: Any) -> Any:
        path = handler_call_details.method
        if path in self.unary:

            async def answer(request: bytes, context: Any) -> bytes:
                self.calls.append((path, request))
                return await self.unary[path](request, context)

            return grpc.unary_unary_rpc_method_handler(answer)
        if path in self.streams:

            async def converse(requests: Any, context: Any) -> None:  # a function: grpc takes no other coroutine
                await self.streams[path](requests, context)

            return grpc.stream_stream_rpc_method_handler(converse)
        return None
