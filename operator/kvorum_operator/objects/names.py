"""Names: a cluster's members are NAME-0, NAME-1, ... by ordinal, as a StatefulSet's pods are. Knows nothing else."""


def member_name(cluster: str, ordinal: int) -> str:
    return f"{cluster}-{ordinal}"


def ordinal(name: str) -> int:
    """The ordinal of a member's name. Raises ValueError when name is not a member's."""
    return int(name.rpartition("-")[2])
