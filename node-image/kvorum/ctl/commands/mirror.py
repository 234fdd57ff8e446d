"""make-mirror: copies keys to another cluster, and then every change of them, until it is stopped."""

import asyncio

from kvorum.client import Client, ClientError, Compacted, Delete, EventType, Put, Tls, Txn, WatchCancelled, prefix_end
from kvorum.ctl import connecting
from kvorum.ctl.call import Call, raw, require_count
from kvorum.ctl.command import Command
from kvorum.ctl.exits import BAD_ARGS, ERROR, Exit, said
from kvorum.ctl.flags import BOOL, STRING, Flag

PAGE_KEYS = 1000
REPORT_S = 30


class Mirror:
    """keys: how many were written so far. from_prefix, to_prefix: what a key's beginning becomes."""

    def __init__(self, source: Client, destination: Client, from_prefix: bytes, to_prefix: bytes) -> None:
        self.keys = 0
        self._source = source
        self._destination = destination
        self._from_prefix = from_prefix
        self._to_prefix = to_prefix

    async def run(self) -> None:
        """Raises ClientError: it ends in no other way."""
        revision = await self._copy()
        key, range_end = self._span()
        async with self._source.watch(key, range_end, start_revision=revision + 1) as watcher:
            async for batch in watcher:
                by_revision: dict[int, list[Put | Delete]] = {}
                for event in batch.events:
                    key = self._renamed(event.kv.key)
                    change = Put(key, event.kv.value) if event.type is EventType.PUT else Delete(key)
                    by_revision.setdefault(event.kv.mod_revision, []).append(change)
                for changes in by_revision.values():
                    await self._destination.txn(Txn(success=changes))
                    self.keys += len(changes)

    async def _copy(self) -> int:
        """All keys as of one revision, which is given back."""
        key, range_end = self._span()
        revision = 0
        while True:
            page = await self._source.range(key, range_end, limit=PAGE_KEYS, revision=revision)
            revision = revision or page.header.revision
            for kv in page.kvs:
                await self._destination.put(self._renamed(kv.key), kv.value)
                self.keys += 1
            if not page.more:
                return revision
            key = page.kvs[-1].key + b"\0"

    def _span(self) -> tuple[bytes, bytes]:
        return (self._from_prefix, prefix_end(self._from_prefix)) if self._from_prefix else (b"\0", b"\0")

    def _renamed(self, key: bytes) -> bytes:
        return key.replace(self._from_prefix, self._to_prefix, 1)


async def make_mirror(call: Call, arguments: list[str]) -> None:
    require_count(arguments, 1, "make-mirror takes one destination argument")
    flags = call.flags
    call.configure()
    login = connecting.login_from(
        call, flags.string("dest-user"), flags.string("dest-password"), "Destination Password: "
    )
    prefix, to_prefix, at_root = flags.string("prefix"), flags.string("dest-prefix"), flags.boolean("no-dest-prefix")
    if at_root and to_prefix:
        raise Exit(BAD_ARGS, "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one")
    to_prefix = to_prefix if at_root or to_prefix else prefix
    tls = destination_tls(call)
    async with (
        call.client() as source,
        connecting.connected(flags, [arguments[0]], tls, login) as destination,
    ):
        mirror = Mirror(source, destination, raw(prefix), raw(to_prefix))
        reporting = asyncio.create_task(report(call, mirror))
        try:
            await mirror.run()
        except (Compacted, WatchCancelled) as error:
            raise Exit(ERROR, error.text) from None
        except ClientError as error:
            raise Exit(ERROR, said(error)) from None
        finally:
            reporting.cancel()


async def report(call: Call, mirror: Mirror) -> None:
    while True:
        await asyncio.sleep(REPORT_S)
        call.line(str(mirror.keys))


def destination_tls(call: Call) -> Tls | None:
    flags = call.flags
    ca, cert, key = flags.string("dest-cacert"), flags.string("dest-cert"), flags.string("dest-key")
    if ca or cert or not flags.boolean("dest-insecure-transport"):
        return Tls(ca or None, cert or None, key or None)
    return None


def commands() -> list[Command]:
    return [
        Command(
            "make-mirror [options] <destination>",
            "Makes a mirror at the destination etcd cluster",
            make_mirror,
            flags=[
                Flag("prefix", STRING, "", "Key-value prefix to mirror"),
                Flag(
                    "dest-prefix",
                    STRING,
                    "",
                    "destination prefix to mirror a prefix to a different prefix in the destination cluster",
                ),
                Flag("no-dest-prefix", BOOL, False, "mirror key-values to the root of the destination cluster"),
                Flag(
                    "dest-cert",
                    STRING,
                    "",
                    "Identify secure client using this TLS certificate file for the destination cluster",
                ),
                Flag("dest-key", STRING, "", "Identify secure client using this TLS key file"),
                Flag(
                    "dest-cacert", STRING, "", "Verify certificates of TLS enabled secure servers using this CA bundle"
                ),
                Flag("dest-insecure-transport", BOOL, True, "Disable transport security for client connections"),
                Flag(
                    "dest-user",
                    STRING,
                    "",
                    "Destination username[:password] for authentication (prompt if password is not supplied)",
                ),
                Flag(
                    "dest-password",
                    STRING,
                    "",
                    "Destination password for authentication (if this option is used, --user option shouldn't include "
                    "password)",
                ),
            ],
        )
    ]
