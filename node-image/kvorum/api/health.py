"""grpc.health.v1.Health: the service "" is SERVING as long as the member does, as etcd's is."""

from google.protobuf.message import DecodeError

from kvorum.api.kv import bad_request
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.net.call import Call
from kvorum.server.server import Server

SERVING = rpc.HealthCheckResponse(status=rpc.HealthCheckResponse.SERVING).SerializeToString()
NOT_SERVING = rpc.HealthCheckResponse(status=rpc.HealthCheckResponse.NOT_SERVING).SerializeToString()
NOT_FOUND = 5


def check(server: Server, call: Call) -> None:
    try:
        request = rpc.HealthCheckRequest.FromString(call.body)
    except DecodeError as error:
        bad_request(call, error)
        return
    if request.service:
        call.fail(NOT_FOUND, "unknown service")
    else:
        call.reply(SERVING)


def watch(server: Server, call: Call) -> None:
    """Says SERVING once; the stream then stays open, since that does not change while the process lives."""

    def on_message(message: bytes) -> None:
        try:
            request = rpc.HealthCheckRequest.FromString(message)
        except DecodeError as error:
            bad_request(call, error)
            return
        unknown = rpc.HealthCheckResponse(status=rpc.HealthCheckResponse.SERVICE_UNKNOWN).SerializeToString()
        call.push(unknown if request.service else SERVING)

    call.on_message = on_message
