"""What a node with an empty data directory is to be: a founder of a new cluster, or the member that one waits for.

Asks the other members, and writes nothing: only when the answer is known is there anything to put on a disk.
"""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kvorum.config import Config, check_bootstrap
from kvorum.peer.discovery import ClusterSeen, Discovery
from kvorum.raft.message import NONE, Entry, HardState
from kvorum.server import joining
from kvorum.server.joining import DataLost, JoinRefused
from kvorum.state import membership
from kvorum.state.membership import Member

ANSWER_S = 1.0  # for one member to tell of the cluster, or of its version


@dataclass(frozen=True, slots=True)
class Birth:
    """hard_state, entries: the head of the log, the same on every founder; none for a member that joins.

    known: the peer URLs of a cluster that is joined, by member id, before the log tells of them.
    """

    member_id: int
    cluster_id: int
    hard_state: HardState
    entries: tuple[Entry, ...] = ()
    known: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


async def find(config: Config, discovery: Discovery) -> Birth:
    """Raises JoinRefused, DataLost, or ConfigError for an initial cluster that cannot be."""
    _require_place(config)
    cluster = check_bootstrap(config, _resolve)
    if config.initial_cluster_state == "existing":
        return await _join(config, cluster, discovery)
    return await _found(config, cluster, discovery)


def _require_place(config: Config) -> None:
    """A file without the own name (I7) is for a member with data: without, it lost them. Raises DataLost."""
    if config.initial_cluster_state == "existing" and config.name not in config.initial_cluster():
        raise DataLost(
            f'couldn\'t find local name "{config.name}" in the initial cluster configuration, '
            f"and {config.data_dir} is empty\n"
            "  So this node was a member already, or --name is wrong.\n"
            "  Without its data it must not come back as itself: it may have forgotten votes and entries.\n"
            "  Bring its data back, or remove the member (etcdctl member remove) and add it again as a new one."
        )


async def _found(config: Config, cluster: Mapping[str, tuple[str, ...]], discovery: Discovery) -> Birth:
    members = membership.bootstrap_members(cluster.items(), config.initial_cluster_token)
    own = next(member for member in members if member.name == config.name)
    others = [url for name, urls in cluster.items() if name != config.name for url in urls]
    for seen in await asyncio.gather(*(_ask(discovery, url) for url in others)):
        for member in seen.members if seen is not None else ():
            if member.id == own.id and member.client_urls:
                raise DataLost(
                    f"member {own.id:x} has already been bootstrapped, but {config.data_dir} is empty\n"
                    "  It may have voted and forgotten it. Bring its data back, "
                    "or remove the member from the cluster and add it again as a new one."
                )
    entries = tuple(membership.bootstrap_entries(members))
    hard_state = HardState(term=1, vote=NONE, commit=len(entries))  # committed by definition
    return Birth(own.id, membership.cluster_id(member.id for member in members), hard_state, entries)


async def _join(config: Config, cluster: Mapping[str, tuple[str, ...]], discovery: Discovery) -> Birth:
    others = sorted(url for name, urls in cluster.items() if name != config.name for url in urls)
    for url in others:
        seen = await _ask(discovery, url)
        if seen is not None:
            break
    else:
        raise JoinRefused(
            "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs\n"
            f"  Asked {', '.join(others) or 'nobody'}. At least one member must run; check --initial-cluster."
        )
    own_id = joining.identify(cluster, config.name, seen.members)
    await _check_versions([member for member in seen.members if member.id != own_id], config, discovery)
    known = {member.id: tuple(member.peer_urls) for member in seen.members}
    return Birth(own_id, seen.cluster_id, HardState(), known=known)


async def _ask(discovery: Discovery, url: str) -> ClusterSeen | None:
    try:
        return await asyncio.wait_for(discovery.cluster([url]), ANSWER_S)
    except (OSError, TimeoutError):
        return None


async def _check_versions(members: Sequence[Member], config: Config, discovery: Discovery) -> None:
    for member in members:
        try:
            versions = await asyncio.wait_for(discovery.versions(member.peer_urls), ANSWER_S)
        except (OSError, TimeoutError):
            continue
        joining.require_compatible(versions.cluster, config.claim_etcd_version)


def _resolve(host: str) -> str:
    """Before the loop serves anybody, so that a slow resolver keeps nobody waiting."""
    try:
        return socket.gethostbyname(host)
    except OSError:
        return host
