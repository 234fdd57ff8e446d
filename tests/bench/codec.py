"""What the codec costs: microseconds for a unary call, from the client's bytes to the answer's, without a socket.

Run it: `.venv/bin/python -m tests.bench.codec`. CPU time, the best of several rounds: others use the machine too.
"""

import gc
import time

import hpack
from kvorum.net.call import GrpcCall, Opening, Routes
from kvorum.wire import http2
from kvorum.wire.grpc import message_head

from tests.unit.kvorum.wire import frames

ROUNDS = 7
CALLS = 30_000
REQUEST_BYTES = 274  # a put of 8 + 256 bytes
RESPONSE_BYTES = 28  # its answer's header
HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/etcdserverpb.KV/Put"),
    (":authority", "127.0.0.1:2379"),
    ("content-type", "application/grpc"),
    ("user-agent", "grpc-go/1.71.1"),
    ("te", "trailers"),
]


def bursts(calls_each: int, *, timeouts: bool) -> list[bytes]:
    """As a client sends them that has its table in step; with timeouts, each call brings a new one into it."""
    encoder = hpack.Encoder()
    message = message_head(REQUEST_BYTES) + bytes(REQUEST_BYTES)
    found = []
    for first in range(1, 2 * CALLS, 2 * calls_each):
        parts = [frames.window_update(0, calls_each * (RESPONSE_BYTES + 5))]
        for stream_id in range(first, first + 2 * calls_each, 2):
            timeout = [("grpc-timeout", f"{4_000_000 + stream_id}u")] if timeouts else []
            block = encoder.encode([*HEADERS, *timeout])
            parts.append(frames.frame(http2.HEADERS, http2.END_HEADERS, stream_id, block))
            parts.append(frames.data(stream_id, message, end=True))
        found.append(b"".join(parts))
    return found


def us_a_call(sent: list[bytes]) -> float:
    answer = bytes(RESPONSE_BYTES)
    routes = Routes(
        unary={"/etcdserverpb.KV/Put": lambda call: call.reply(answer)}, streams={}, message_bytes_max=1 << 20
    )
    best = float("inf")
    for _ in range(ROUNDS):
        connection: http2.Connection[Opening] = http2.Connection(
            routes.open, GrpcCall, lambda: None, http2.Limits(), now=0.0
        )
        connection.receive(http2.PREFACE + frames.settings(), 0.0)
        connection.take()
        started = time.process_time()
        for burst in sent:
            connection.receive(burst, 0.0)
            connection.take()
        best = min(best, time.process_time() - started)
        assert not connection.closing, connection.fault
        assert not connection.streams
    return best / CALLS * 1e6


def main() -> None:
    gc.disable()
    for calls_each in (1, 64):
        for timeouts in (False, True):
            us = us_a_call(bursts(calls_each, timeouts=timeouts))
            print(f"{calls_each:3} calls at once, {'new timeouts' if timeouts else 'equal headers':13}  {us:5.2f} us")


if __name__ == "__main__":
    main()
