"""Instants as Kubernetes writes them, `2026-11-25T13:18:30Z`, and as seconds since 1970. Reads no clock."""

from datetime import UTC, datetime


def from_seconds(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_seconds(text: str) -> float:
    """Raises ValueError when text is no such instant."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
