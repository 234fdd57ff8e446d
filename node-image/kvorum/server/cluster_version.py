"""The version that every member of the cluster can speak: the minimum of what they claim, decided by the leader.

The rule is pure; asking the members is the leader's task every few seconds. Source: etcd's monitorVersions.
"""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kvorum.server.answer import Done
from kvorum.state import v2_request

if TYPE_CHECKING:
    from kvorum.server.server import Server

MONITOR_INTERVAL_S = 4.0
MONITOR_SOON_S = 0.1  # while no version is decided: nobody is ready before
MINIMUM = "3.0.0"  # what a cluster starts with when a member cannot be asked


def decide(current: str | None, claimed: Mapping[int, str | None]) -> str | None:
    """The version to set now, as MAJOR.MINOR.0; None to leave it as it is.

    claimed: what each member answers, None if it does not. A version only rises: a member that was asked at the
    wrong moment must not pull the cluster back.
    """
    if any(version is None for version in claimed.values()):
        return MINIMUM if current is None else None
    lowest = min((_minor(version) for version in claimed.values() if version), default=None)
    if lowest is None or (current is not None and _minor(current) >= lowest):
        return None
    return f"{lowest[0]}.{lowest[1]}.0"


def _minor(version: str) -> tuple[int, int]:
    major, minor, *_ = version.split(".")
    return int(major), int(minor)


async def monitor(server: "Server") -> None:
    """Runs on every member as long as it lives; does nothing where it does not lead."""
    while True:
        current = server.machine.membership.cluster_version
        if server.is_leader and server.lessor.is_primary:
            wanted = decide(current, await _claimed(server))
            if wanted is not None and server.is_leader:
                request_id = server.ids.next()
                entry = v2_request.put_request(v2_request.CLUSTER_VERSION_PATH, wanted, request_id)
                server.propose_entry(request_id, entry, Done(lambda refused: None))
        await asyncio.sleep(MONITOR_INTERVAL_S if current is not None else MONITOR_SOON_S)


async def _claimed(server: "Server") -> dict[int, str | None]:
    others = [member for member in server.machine.membership.members if member.id != server.member_id]
    answers = await asyncio.gather(*(_ask(server, member.peer_urls) for member in others))
    claimed = dict(zip((member.id for member in others), answers, strict=True))
    return {**claimed, server.member_id: server.settings.claimed_version}


async def _ask(server: "Server", urls: tuple[str, ...]) -> str | None:
    try:
        return await server.peers.version(urls)
    except (OSError, TimeoutError):
        return None
