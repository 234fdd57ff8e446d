"""grpc.health.v1.Health: the service "" is SERVING as long as the member does, as etcd's is.

With --experimental-stop-grpc-service-on-defrag it is not while the store is defragmented; what is asked meanwhile is
answered all the same.
"""

from kvorum.api.request import read
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.net.call import Call
from kvorum.server.server import Server

SERVING = rpc.HealthCheckResponse(status=rpc.HealthCheckResponse.SERVING).SerializeToString()
NOT_SERVING = rpc.HealthCheckResponse(status=rpc.HealthCheckResponse.NOT_SERVING).SerializeToString()
NOT_FOUND = 5


def check(server: Server, call: Call) -> None:
    request = read(call, rpc.HealthCheckRequest, call.body)
    if request is None:
        return
    if request.service:
        call.fail(NOT_FOUND, "unknown service")
    else:
        call.reply(_status(server))


def _status(server: Server) -> bytes:
    return NOT_SERVING if server.settings.stop_grpc_on_defrag and server.commits.is_defragmenting else SERVING


def watch(server: Server, call: Call) -> None:
    """Says how it is, and again whenever that changes."""

    def changed() -> None:
        call.push(_status(server))

    def on_message(message: bytes) -> None:
        request = read(call, rpc.HealthCheckRequest, message)
        if request is None:
            return
        if request.service:
            unknown = rpc.HealthCheckResponse(status=rpc.HealthCheckResponse.SERVICE_UNKNOWN)
            call.push(unknown.SerializeToString())
            return
        changed()
        if server.settings.stop_grpc_on_defrag:
            server.commits.on_defragmenting.add(changed)

    call.on_message = on_message
    call.on_close = lambda: server.commits.on_defragmenting.discard(changed)
