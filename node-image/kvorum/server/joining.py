"""Joining a cluster that exists: which of its members we are, and whether we may be it.

Pure: what the cluster says of itself comes in, an id or a refusal goes out. The rules are etcd's, and one more: a
member whose entry has started once (it has client URLs) and comes with an empty disk may have forgotten votes and
entries, so it must not come back under the same id.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol


class JoinRefused(Exception):
    """Why this node may not join. The text's further lines tell the way out."""


class DataLost(Exception):
    """This node was a member and comes without its data. The text's further lines tell the way out."""


class MemberSeen(Protocol):
    """A member as the cluster lists it."""

    @property
    def id(self) -> int: ...
    @property
    def peer_urls(self) -> Sequence[str]: ...
    @property
    def client_urls(self) -> Sequence[str]: ...


def identify(cluster: Mapping[str, Sequence[str]], name: str, members: Sequence[MemberSeen]) -> int:
    """Our member id.

    cluster: --initial-cluster, name to peer URLs; members: what a running member lists. Raises JoinRefused, DataLost.
    """
    if len(cluster) != len(members):
        raise JoinRefused(
            "error validating peerURLs: member count is unequal: --initial-cluster names "
            f"{len(cluster)}, the cluster has {len(members)}\n"
            "  Compare it with `etcdctl member list`; add this member with `etcdctl member add` first."
        )
    by_urls = {frozenset(member.peer_urls): member for member in members}
    for other, urls in cluster.items():
        if frozenset(urls) not in by_urls:
            raise JoinRefused(
                f"error validating peerURLs: unmatched member {other} with peer URLs {', '.join(urls)}\n"
                "  Compare --initial-cluster with `etcdctl member list`: it must name each member's peer URLs."
            )
    own = by_urls[frozenset(cluster[name])]
    if own.client_urls:
        raise DataLost(
            f"member {own.id:x} ({name}) has already served in this cluster, but its data directory is empty\n"
            "  It may have forgotten votes and entries, so it must not come back as the same member.\n"
            "  Bring its data back, or remove it (etcdctl member remove) and add it again as a new one."
        )
    return own.id


def require_compatible(cluster_version: str | None, own_version: str) -> None:
    """Raises JoinRefused where the cluster already speaks what we cannot."""
    if cluster_version is None:
        return
    theirs = tuple(int(part) for part in cluster_version.split(".")[:2])
    ours = tuple(int(part) for part in own_version.split(".")[:2])
    if not (3, 0) <= theirs <= ours:
        raise JoinRefused(
            f"incompatible with current running cluster: its version is {cluster_version}, ours {own_version}\n"
            "  Upgrade this node first."
        )
