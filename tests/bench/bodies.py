"""Request bodies for h2load, which sends one file over and over: the file changes while it does.

h2load opens the file once and reads it for every request. So it is written over in place, thousands of times a second,
each time with another key and value of the same length. A body read half way through a change is a mixture of two, and
as valid as either.
"""

import mmap
import os
import random
import struct
import threading
from pathlib import Path

from google.protobuf.message import Message
from kvorum.etcdpb import rpc_pb2 as rpc

KEYS = 10_000
KEY_BYTES = 8
VALUE_BYTES = 256
CHANGE_S = 0.0002  # about 4000 bodies a second, for 3% of a core


def key(number: int) -> bytes:
    return b"key-%04d" % number


def framed(message: Message) -> bytes:
    """A message as gRPC sends it: not compressed, its length, its bytes."""
    body = message.SerializeToString()
    return struct.pack(">BI", 0, len(body)) + body


class ChangingBody:
    """A file with a put or a range of one key, that changes for as long as the block lasts.

    changes: how many bodies there were.
    """

    def __init__(self, path: Path, request: rpc.PutRequest | rpc.RangeRequest, seed: int) -> None:
        self.path = path
        self.changes = 0
        body = framed(request)
        path.write_bytes(body)
        self._key_at = body.index(request.key)
        self._value_at = body.index(request.value) if isinstance(request, rpc.PutRequest) else 0
        self._random = random.Random(seed)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._change)

    def __enter__(self) -> "ChangingBody":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _change(self) -> None:
        with self.path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as body:
            while not self._ended.wait(CHANGE_S):
                body[self._key_at : self._key_at + KEY_BYTES] = key(self._random.randrange(KEYS))
                if self._value_at:
                    body[self._value_at : self._value_at + 32] = os.urandom(32)
                self.changes += 1
