"""Certificates of a client: whom it trusts, and who it is. Read anew where a connection is made after they changed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc


class BadCertificates(ValueError):
    """A file of a Tls cannot be read, or a certificate came without its key. The text names it."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM.

    ca:          of those who sign servers' certificates; None: what gRPC trusts by itself (public authorities).
    cert, key:   the client's own, both or neither; cert may hold a chain.
    server_name: what a server's certificate must be made out to; None: the endpoint's host.
    """

    ca: Path | str | None = None
    cert: Path | str | None = None
    key: Path | str | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            given, missing = ("cert", "key") if self.key is None else ("key", "cert")
            raise BadCertificates(f"a client certificate needs both of its files: {given} is given, {missing} is not")

    def credentials(self) -> grpc.ChannelCredentials:
        """Raises BadCertificates."""
        return grpc.ssl_channel_credentials(read(self.ca), read(self.key), read(self.cert))

    def options(self) -> list[tuple[str, Any]]:
        """Of a channel."""
        if self.server_name is None:
            return []
        return [("grpc.ssl_target_name_override", self.server_name), ("grpc.default_authority", self.server_name)]

    def state(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Equal as long as the files are: their inode, size and time of change."""
        return tuple(state_of(path) for path in (self.ca, self.cert, self.key))


def read(path: Path | str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadCertificates(f"{path}: {error.strerror}") from None


def state_of(path: Path | str | None) -> tuple[int, int, int] | None:
    if path is None:
        return None
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
