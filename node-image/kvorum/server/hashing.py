"""Hashes of the keys, made in slices between requests."""

import asyncio
from typing import TYPE_CHECKING

from kvorum.state.hash_kv import Hashing, KeySpaceHash
from kvorum.state.refusal import Refusal

if TYPE_CHECKING:
    from kvorum.server.server import Server

ROWS_A_SLICE = 1000  # about 2 ms of the loop


async def hash_kv(server: "Server", revision: int) -> KeySpaceHash | Refusal:
    """The hash of every row up to revision (0: now)."""
    machine = server.machine
    found = machine.hash_at(revision)
    if not isinstance(found, Hashing):
        return found
    try:
        done = False
        while not done:
            done = found.step(ROWS_A_SLICE)
            await asyncio.sleep(0)  # lets requests in between
            if server.machine is not machine:
                return await hash_kv(server, revision)  # a snapshot came meanwhile: these rows are gone
        return found.result
    finally:
        found.close()
