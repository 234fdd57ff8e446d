"""endpoint, alarm, defrag, snapshot: members one by one, and their data."""

import asyncio
import time

from kvorum.client import BadSnapshot, Client, ClientError, PermissionDenied, save_snapshot
from kvorum.ctl import go_text
from kvorum.ctl.call import Call, require_count
from kvorum.ctl.command import Command
from kvorum.ctl.exits import BAD_FEATURE, ERROR, INTERRUPTED, Exit, said
from kvorum.ctl.flags import BOOL, INT, STRING, Flag
from kvorum.ctl.formats import simple
from kvorum.ctl.formats.answers import Hashes, Health, Healths, Statuses
from kvorum.etcdpb import rpc_pb2 as rpc

MAINTENANCE = "/etcdserverpb.Maintenance/"
CLUSTER_FLAG = Flag("cluster", BOOL, False, "use all endpoints from the cluster member list")


# endpoint


async def health(call: Call, _: list[str]) -> None:
    found = await asyncio.gather(*(health_of(call, url) for url in await call.endpoints_of_members()))
    answer = Healths(found)
    call.show(answer)
    if call.is_simple:
        for line in simple.unhealthy(answer):
            call.complain(line)
    if any(one.error for one in found):
        raise Exit(ERROR, "unhealthy cluster")


async def health_of(call: Call, endpoint: str) -> Health:
    begun_ns = time.monotonic_ns()
    error = ""
    try:
        async with call.client([endpoint]) as client:
            begun_ns = time.monotonic_ns()
            try:
                await client.get(b"health")
            except PermissionDenied:
                pass  # it went through consensus to be denied
            except ClientError as failure:
                error = said(failure)
            took_ns = time.monotonic_ns() - begun_ns
            if not error:
                error = await alarms_of(client)
    except Exit as refusal:
        return Health(endpoint, False, "", refusal.text or "")
    return Health(endpoint, not error, go_text.duration(took_ns), error)


async def alarms_of(client: Client) -> str:
    try:
        alarms = await client.alarms()
    except ClientError:
        return "Unable to fetch the alarm list"
    return "Active Alarm(s): " + "".join(f"{alarm.type.name} " for alarm in alarms) if alarms else ""


async def status(call: Call, _: list[str]) -> None:
    found: list[tuple[str, rpc.StatusResponse]] = []
    is_failed = False
    async with call.client() as client:
        for endpoint in await call.endpoints_of_members():
            try:
                answer = await client.read(
                    MAINTENANCE + "Status", rpc.StatusRequest(), rpc.StatusResponse, endpoint=endpoint
                )
            except ClientError as error:
                call.complain(f"Failed to get the status of endpoint {endpoint} ({said(error)})")
                is_failed = True
                continue
            found.append((endpoint, answer))
    call.show(Statuses(found))
    if is_failed:
        raise Exit(ERROR, None)


async def hashkv(call: Call, _: list[str]) -> None:
    found: list[tuple[str, rpc.HashKVResponse]] = []
    failure = ""
    request = rpc.HashKVRequest(revision=call.flags.integer("rev"))
    async with call.client() as client:
        for endpoint in await call.endpoints_of_members():
            try:
                answer = await client.read(MAINTENANCE + "HashKV", request, rpc.HashKVResponse, endpoint=endpoint)
            except ClientError as error:
                failure = said(error)
                call.complain(f"Failed to get the hash of endpoint {endpoint} ({failure})")
                continue
            found.append((endpoint, answer))
    call.show(Hashes(found))
    if failure:
        raise Exit(ERROR, failure)


# alarm


async def alarm_list(call: Call, arguments: list[str]) -> None:
    require_count(arguments, 0, "alarm list command accepts no arguments")
    request = rpc.AlarmRequest(action=rpc.AlarmRequest.GET)
    call.show(await call.ask(None, lambda client: client.read(MAINTENANCE + "Alarm", request, rpc.AlarmResponse)))


async def alarm_disarm(call: Call, arguments: list[str]) -> None:
    require_count(arguments, 0, "alarm disarm command accepts no arguments")

    async def disarm(client: Client) -> rpc.AlarmResponse:
        active = await client.read(
            MAINTENANCE + "Alarm", rpc.AlarmRequest(action=rpc.AlarmRequest.GET), rpc.AlarmResponse
        )
        answer = rpc.AlarmResponse()
        for alarm in active.alarms:
            request = rpc.AlarmRequest(action=rpc.AlarmRequest.DEACTIVATE, memberID=alarm.memberID, alarm=alarm.alarm)
            answer.alarms.extend((await client.write(MAINTENANCE + "Alarm", request, rpc.AlarmResponse)).alarms)
        return answer

    call.show(await call.ask(None, disarm))


# defrag


async def defrag(call: Call, _: list[str]) -> None:
    if call.flags.string("data-dir"):
        raise Exit(ERROR, "--data-dir is not supported: use `etcdutl defrag` on etcd's data; kvorum's needs none")
    is_failed = False
    async with call.client() as client:
        for endpoint in await call.endpoints_of_members():
            try:
                await client.defragment(endpoint, timeout_s=call.timeout_s)
            except ClientError as error:
                call.complain(f"Failed to defragment etcd member[{endpoint}] ({said(error)})")
                is_failed = True
            else:
                call.line(f"Finished defragmenting etcd member[{endpoint}]")
    if is_failed:
        raise Exit(ERROR, None)


# snapshot


async def snapshot_save(call: Call, arguments: list[str]) -> None:
    require_count(arguments, 1, "snapshot save expects one argument")
    endpoints = call.endpoints()
    if len(endpoints) != 1:
        told = f"snapshot must be requested to one selected node, not multiple [{' '.join(endpoints)}]"
        raise Exit(INTERRUPTED, told)
    timeout_s = call.timeout_s if "command-timeout" in call.flags.changed else None
    async with call.client() as client:
        try:
            await save_snapshot(client, arguments[0], timeout_s=timeout_s)
        except ClientError as error:
            raise Exit(INTERRUPTED, said(error)) from None
        except BadSnapshot as error:
            raise Exit(INTERRUPTED, str(error)) from None
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise Exit(INTERRUPTED, f"could not open {arguments[0]}.part (open {arguments[0]}.part: {why})") from None
    call.line(f"Snapshot saved at {arguments[0]}")


async def snapshot_offline(call: Call, _: list[str]) -> None:
    raise Exit(
        BAD_FEATURE,
        f"snapshot {call.command.name} reads files, not members: use `etcdutl snapshot {call.command.name}`",
    )


def commands() -> list[Command]:
    return [
        Command(
            "endpoint <subcommand>",
            "Endpoint related commands",
            persistent=[CLUSTER_FLAG],
            commands=[
                Command("health", "Checks the healthiness of endpoints specified in `--endpoints` flag", health),
                Command(
                    "status",
                    "Prints out the status of endpoints specified in `--endpoints` flag",
                    status,
                    long="When --write-out is set to simple, this command prints out comma-separated status lists for "
                    "each endpoint.\nThe items in the lists are endpoint, ID, version, db size, is leader, is learner, "
                    "raft term, raft index, raft applied index, errors.\n",
                ),
                Command(
                    "hashkv",
                    "Prints the KV history hash for each endpoint in --endpoints",
                    hashkv,
                    persistent=[Flag("rev", INT, 0, "maximum revision to hash (default: all revisions)")],
                ),
            ],
        ),
        Command(
            "alarm <subcommand>",
            "Alarm related commands",
            commands=[
                Command("disarm", "Disarms all alarms", alarm_disarm),
                Command("list", "Lists all alarms", alarm_list),
            ],
        ),
        Command(
            "defrag",
            "Defragments the storage of the etcd members with given endpoints",
            defrag,
            persistent=[CLUSTER_FLAG],
            flags=[
                Flag(
                    "data-dir",
                    STRING,
                    "",
                    "Optional. If present, defragments a data directory not in use by etcd.",
                )
            ],
        ),
        Command(
            "snapshot <subcommand>",
            "Manages etcd node snapshots",
            commands=[
                Command("save <filename>", "Stores an etcd node backend snapshot to a given file", snapshot_save),
                Command("status <filename>", "Refused: use `etcdutl snapshot status`", snapshot_offline),
                Command("restore <filename> [options]", "Refused: use `etcdutl snapshot restore`", snapshot_offline),
            ],
        ),
    ]
