"""What aetcd makes of a server: `calls.py PORT`, a line for each call. Run where that library can be imported.

What is a cluster's own (ids, sizes, times) is not printed.
"""

import asyncio
import sys
from collections.abc import Awaitable
from typing import Any

import aetcd  # type: ignore[import-not-found]  # in a folder of its own, tests/kit/packages.py


async def call(name: str, asked: Awaitable[Any]) -> Any:
    try:
        result = await asked
    except aetcd.ClientError as error:
        print(f"{name}: {type(error).__name__}")
        return None
    return result


async def keys(client: Any) -> None:
    await client.put(b"ae/a", b"1")
    previous = await client.put(b"ae/a", b"2", prev_kv=True)
    print(f"previous: {previous.prev_kv.value}")
    print(f"get: {(await client.get(b'ae/a')).value}")
    print(f"nothing: {await client.get(b'ae/nothing')}")
    await client.put(b"ae/b", b"3")
    found = await client.get_prefix(b"ae/")
    print(f"prefix: {[(kv.key, kv.value, kv.version) for kv in found]}")
    print(f"keys: {[(kv.key, kv.value) for kv in await client.get_prefix(b'ae/', keys_only=True)]}")
    print(f"replace: {await client.replace(b'ae/b', b'3', b'4')} {await client.replace(b'ae/b', b'3', b'5')}")
    gone = await client.delete(b"ae/a", prev_kv=True)
    print(f"delete: {gone.prev_kv.value} {await client.delete(b'ae/a')}")
    print(f"delete prefix: {(await client.delete_prefix(b'ae/')).deleted}")
    await call("empty key", client.put(b"", b""))


async def leases(client: Any) -> None:
    lease = await client.lease(600)
    await client.put(b"ae/leased", b"x", lease=lease)
    print(f"keys: {await lease.keys()} {await lease.granted_ttl()} {(await lease.refresh()).TTL}")
    await lease.revoke()
    print(f"leased: {await client.get(b'ae/leased')}")
    async with client.lock(b"ae-lock", ttl=60) as lock:
        print(f"locked: {await lock.is_acquired()}")


async def watches(client: Any) -> None:
    watch = await client.watch_prefix(b"ae/w")
    await client.put(b"ae/w1", b"1")
    await client.delete(b"ae/w1")
    seen = 0
    async for event in watch:
        print(f"watched: {event.kind} {event.kv.key} {event.kv.value}")
        seen += 1
        if seen == 2:
            break
    await watch.cancel()


async def main(port: int) -> None:
    async with aetcd.Client(host="127.0.0.1", port=port, timeout=60) as client:
        await keys(client)
        await leases(client)
        await watches(client)
        print(f"status: {(await client.status()).version}")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
