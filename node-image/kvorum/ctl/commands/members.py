"""member: add, remove, update, promote, list; and move-leader."""

import re
from typing import Any

from kvorum.client import Client, ClientError
from kvorum.ctl import go_text
from kvorum.ctl.call import Call, require_count
from kvorum.ctl.command import Command
from kvorum.ctl.exits import BAD_ARGS, ERROR, Exit, said
from kvorum.ctl.flags import BOOL, STRING, Flag
from kvorum.ctl.formats.answers import Done
from kvorum.ctl.go_text import GoError, quoted
from kvorum.etcdpb import rpc_pb2 as rpc

CLUSTER = "/etcdserverpb.Cluster/"
MAINTENANCE = "/etcdserverpb.Maintenance/"
SCHEMES = ("http", "https", "unix", "unixs")
NO_ID = "member ID is not provided"
NO_URLS = "member peer urls not provided"


async def add(call: Call, arguments: list[str]) -> None:
    if not arguments:
        raise Exit(BAD_ARGS, "member name not provided")
    if len(arguments) > 1:
        urls = (word for word in arguments if word.lower().startswith("http"))
        raise Exit(BAD_ARGS, "too many arguments" + "".join(f", did you mean --peer-urls={url}" for url in urls))
    name, peer_urls = arguments[0], call.flags.string("peer-urls")
    if not peer_urls:
        raise Exit(BAD_ARGS, NO_URLS)
    require_urls(peer_urls)
    request = rpc.MemberAddRequest(peerURLs=peer_urls.split(","), isLearner=call.flags.boolean("learner"))
    answer = await call.ask(None, lambda client: client.write(CLUSTER + "MemberAdd", request, rpc.MemberAddResponse))
    text = b"Member %16x added to cluster %16x" % (answer.member.ID, answer.header.cluster_id)
    call.show(Done(text, answer, has_fields=False))
    if call.is_simple:
        cluster = ",".join(
            f"{name if member.ID == answer.member.ID else member.name}={url}"
            for member in answer.members
            for url in member.peerURLs
        )
        call.line("")
        call.line(f"ETCD_NAME={quoted(name)}")
        call.line(f"ETCD_INITIAL_CLUSTER={quoted(cluster)}")
        call.line(f"ETCD_INITIAL_ADVERTISE_PEER_URLS={quoted(peer_urls)}")
        call.line('ETCD_INITIAL_CLUSTER_STATE="existing"')


async def remove(call: Call, arguments: list[str]) -> None:
    request = rpc.MemberRemoveRequest(ID=id_of(arguments))
    await change(call, "MemberRemove", request, rpc.MemberRemoveResponse, b"removed from")


async def update(call: Call, arguments: list[str]) -> None:
    member_id = id_of(arguments)
    peer_urls = call.flags.string("peer-urls")
    if not peer_urls:
        raise Exit(BAD_ARGS, NO_URLS)
    require_urls(peer_urls)
    request = rpc.MemberUpdateRequest(ID=member_id, peerURLs=peer_urls.split(","))
    await change(call, "MemberUpdate", request, rpc.MemberUpdateResponse, b"updated in")


async def promote(call: Call, arguments: list[str]) -> None:
    request = rpc.MemberPromoteRequest(ID=id_of(arguments))
    await change(call, "MemberPromote", request, rpc.MemberPromoteResponse, b"promoted in")


async def change(call: Call, method: str, request: Any, answer_type: Any, done: bytes) -> None:
    """Of one member, that is there. done: what has become of it, and the word before the cluster."""
    answer = await call.ask(None, lambda client: client.write(CLUSTER + method, request, answer_type))
    text = b"Member %16x %s cluster %16x" % (request.ID, done, answer.header.cluster_id)
    call.show(Done(text, answer, has_fields=False))


async def list_members(call: Call, _: list[str]) -> None:
    request = rpc.MemberListRequest(linearizable=True)
    call.show(await call.ask(None, lambda client: client.read(CLUSTER + "MemberList", request, rpc.MemberListResponse)))


async def move_leader(call: Call, arguments: list[str]) -> None:
    require_count(arguments, 1, "move-leader command needs 1 argument")
    try:
        target = go_text.parse_uint(arguments[0], 16)
    except GoError as error:
        raise Exit(BAD_ARGS, str(error)) from None
    endpoints = call.endpoints()
    async with call.client() as client:
        try:
            endpoint, leader = await leader_of(client, endpoints)
            answer = await client.read(
                MAINTENANCE + "MoveLeader",
                rpc.MoveLeaderRequest(targetID=target),
                rpc.MoveLeaderResponse,
                endpoint=endpoint,
            )
        except ClientError as error:
            raise Exit(ERROR, said(error)) from None
    text = f"Leadership transferred from {leader:x} to {target:x}".encode()
    call.show(Done(text, answer, has_fields=False))


async def leader_of(client: Client, endpoints: list[str]) -> tuple[str, int]:
    """The leader's endpoint and id. Raises ClientError; Exit if none of them is its."""
    for endpoint in endpoints:
        status = await client.status(endpoint)
        if status.member_id == status.leader:
            return endpoint, status.leader
    raise Exit(BAD_ARGS, f"no leader endpoint given at [{' '.join(endpoints)}]")


def require_urls(text: str) -> None:
    """Raises Exit unless all are URLs that members may have, as etcd's client checks them."""
    for url in map(str.strip, text.split(",")):
        scheme, separator, rest = url.partition("://")
        host, slash, _ = rest.partition("/")
        if not separator or scheme not in SCHEMES:
            raise Exit(ERROR, f"URL scheme must be http, https, unix, or unixs: {url}")
        if scheme.startswith("unix"):
            continue
        if not re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*):[^:]*", host):
            raise Exit(ERROR, f'URL address does not have the form "host:port": {url}')
        if slash:
            raise Exit(ERROR, f"URL must not contain a path: {url}")


def id_of(arguments: list[str]) -> int:
    require_count(arguments, 1, NO_ID)
    try:
        return go_text.parse_uint(arguments[0], 16)
    except GoError as error:
        raise Exit(BAD_ARGS, f"bad member ID arg ({error}), expecting ID in Hex") from None


def commands() -> list[Command]:
    return [
        Command(
            "member <subcommand>",
            "Membership related commands",
            commands=[
                Command(
                    "add <memberName> [options]",
                    "Adds a member into the cluster",
                    add,
                    flags=[
                        Flag("peer-urls", STRING, "", "comma separated peer URLs for the new member."),
                        Flag("learner", BOOL, False, "indicates if the new member is raft learner"),
                    ],
                ),
                Command("remove <memberID>", "Removes a member from the cluster", remove),
                Command(
                    "update <memberID> [options]",
                    "Updates a member in the cluster",
                    update,
                    flags=[Flag("peer-urls", STRING, "", "comma separated peer URLs for the updated member.")],
                ),
                Command(
                    "list",
                    "Lists all members in the cluster",
                    list_members,
                    long="When --write-out is set to simple, this command prints out comma-separated member lists for "
                    "each endpoint.\nThe items in the lists are ID, Status, Name, Peer Addrs, Client Addrs, Is "
                    "Learner.\n",
                ),
                Command(
                    "promote <memberID>",
                    "Promotes a non-voting member in the cluster",
                    promote,
                    long="Promotes a non-voting learner member to a voting one in the cluster.\n",
                ),
            ],
        ),
        Command(
            "move-leader <transferee-member-id>", "Transfers leadership to another etcd cluster member.", move_leader
        ),
    ]
