"""Names: members are NAME-0, NAME-1, ... by ordinal, as a StatefulSet's pods are; objects are named after the cluster.

Knows nothing else. Addresses are permanent, for peer URLs are written into the member list; they end in `.svc` without
the Kubernetes cluster's own domain, which may be another after a move.
"""

from kvorum_operator.api.v1alpha1 import PEERS_SUFFIX, REPLICAS_MAX
from kvorum_operator.cluster.observation import Address

CLIENT_PORT, PEER_PORT, METRICS_PORT = 2379, 2380, 2381


def member_name(cluster: str, ordinal: int) -> str:
    return f"{cluster}-{ordinal}"


def ordinal(name: str) -> int:
    """The ordinal of a member's name. Raises ValueError when name is not a member's."""
    return int(name.rpartition("-")[2])


def all_members(cluster: str) -> tuple[str, ...]:
    """The names of every member there may be, in their order."""
    return tuple(member_name(cluster, ordinal) for ordinal in range(REPLICAS_MAX))


def peers_service(cluster: str) -> str:
    """The headless Service, which gives each member a name of its own."""
    return f"{cluster}{PEERS_SUFFIX}"


def members_config(cluster: str) -> str:
    return f"{cluster}-members"


def bootstrap_record(cluster: str) -> str:
    return f"{cluster}-bootstrap"


def volume_claim(member: str) -> str:
    """As the StatefulSet controller names it, by its claim template `data`."""
    return f"data-{member}"


def member_of_claim(claim: str) -> str:
    """The member whose volume a claim of that name is."""
    return claim.removeprefix("data-")


def address(cluster: str, namespace: str, member: str) -> Address:
    host = f"{member}.{peers_service(cluster)}.{namespace}.svc"
    return Address(member, f"http://{host}:{CLIENT_PORT}", f"http://{host}:{PEER_PORT}")


def addresses(cluster: str, namespace: str) -> dict[str, Address]:
    """Of every member there may be, by name and in their order."""
    return {member: address(cluster, namespace, member) for member in all_members(cluster)}
