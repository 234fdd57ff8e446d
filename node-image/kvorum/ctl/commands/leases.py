"""lease: grant, revoke, timetolive, list, keep-alive."""

import asyncio

from kvorum.client import Client, ClientError
from kvorum.ctl import go_text
from kvorum.ctl.call import Call, require_count
from kvorum.ctl.command import Command
from kvorum.ctl.exits import BAD_ARGS, BAD_CONNECTION, ERROR, Exit, said
from kvorum.ctl.flags import BOOL, Flag
from kvorum.ctl.formats.answers import Revoked, TimeToLive
from kvorum.ctl.go_text import GoError
from kvorum.etcdpb import rpc_pb2 as rpc

LEASE = "/etcdserverpb.Lease/"
NOT_FOUND = "etcdserver: requested lease not found"
RENEWALS = 3  # within a lease's time


async def grant(call: Call, arguments: list[str]) -> None:
    require_count(arguments, 1, "lease grant command needs TTL argument")
    try:
        ttl_s = go_text.parse_int(arguments[0])
    except GoError as error:
        raise Exit(BAD_ARGS, f"bad TTL ({error})") from None
    request = rpc.LeaseGrantRequest(TTL=ttl_s)
    async with call.client() as client:
        try:
            answer = await client.write(LEASE + "LeaseGrant", request, rpc.LeaseGrantResponse)
        except ClientError as error:
            raise Exit(ERROR, f"failed to grant lease ({said(error)})") from None
    call.show(answer)


async def revoke(call: Call, arguments: list[str]) -> None:
    require_count(arguments, 1, "lease revoke command needs 1 argument")
    lease_id = id_of(arguments[0])
    request = rpc.LeaseRevokeRequest(ID=lease_id)
    async with call.client() as client:
        try:
            answer = await client.write(LEASE + "LeaseRevoke", request, rpc.LeaseRevokeResponse)
        except ClientError as error:
            raise Exit(ERROR, f"failed to revoke lease ({said(error)})") from None
    call.show(Revoked(lease_id & go_text.UINT64_MAX, answer))


async def time_to_live(call: Call, arguments: list[str]) -> None:
    require_count(arguments, 1, "lease timetolive command needs lease ID as argument")
    keys = call.flags.boolean("keys")
    async with call.client() as client:
        request = rpc.LeaseTimeToLiveRequest(ID=id_of(arguments[0]), keys=keys)
        try:
            answer = await client.read(LEASE + "LeaseTimeToLive", request, rpc.LeaseTimeToLiveResponse)
        except ClientError as error:
            raise Exit(BAD_CONNECTION, said(error)) from None
    call.show(TimeToLive(answer, keys))


async def list_leases(call: Call, _: list[str]) -> None:
    async with call.client() as client:
        try:
            answer = await client.read(LEASE + "LeaseLeases", rpc.LeaseLeasesRequest(), rpc.LeaseLeasesResponse)
        except ClientError as error:
            raise Exit(BAD_CONNECTION, said(error)) from None
    call.show(answer)


async def keep_alive(call: Call, arguments: list[str]) -> None:
    require_count(arguments, 1, "lease keep-alive command needs lease ID as argument")
    lease_id = id_of(arguments[0])
    async with call.client() as client:
        if call.flags.boolean("once"):
            try:
                answer = await renew(client, lease_id)
            except ClientError as error:
                raise Exit(BAD_CONNECTION, said(error)) from None
            if answer.TTL <= 0:
                raise Exit(BAD_CONNECTION, NOT_FOUND)
            call.show(answer)
            return
        await keep(call, client, lease_id)
    if call.is_simple:
        call.line(f"lease {lease_id & go_text.UINT64_MAX:016x} expired or revoked.")


async def renew(client: Client, lease_id: int) -> rpc.LeaseKeepAliveResponse:
    request = rpc.LeaseKeepAliveRequest(ID=lease_id)
    return await client.read_first(LEASE + "LeaseKeepAlive", request, rpc.LeaseKeepAliveResponse)


async def keep(call: Call, client: Client, lease_id: int) -> None:
    """Until the lease is gone, or nobody could be asked for as long as it had."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + call.flags.seconds("dial-timeout")
    while True:
        try:
            answer = await renew(client, lease_id)
        except ClientError:
            if loop.time() >= until_s:
                return
            continue
        if answer.TTL <= 0:
            return
        call.show(answer)
        until_s = loop.time() + answer.TTL
        await asyncio.sleep(answer.TTL / RENEWALS)


def id_of(text: str) -> int:
    try:
        return go_text.parse_int(text, 16)
    except GoError as error:
        raise Exit(BAD_ARGS, f"bad lease ID arg ({error}), expecting ID in Hex") from None


def commands() -> list[Command]:
    return [
        Command(
            "lease <subcommand>",
            "Lease related commands",
            commands=[
                Command("grant <ttl>", "Creates leases", grant),
                Command("revoke <leaseID>", "Revokes leases", revoke),
                Command(
                    "timetolive <leaseID> [options]",
                    "Get lease information",
                    time_to_live,
                    flags=[Flag("keys", BOOL, False, "Get keys attached to this lease")],
                ),
                Command("list", "List all active leases", list_leases),
                Command(
                    "keep-alive [options] <leaseID>",
                    "Keeps leases alive (renew)",
                    keep_alive,
                    flags=[
                        Flag(
                            "once",
                            BOOL,
                            False,
                            "Resets the keep-alive time to its original value and cobrautl.Exits immediately",
                        )
                    ],
                ),
            ],
        )
    ]
