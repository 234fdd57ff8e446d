"""A node that stands aside: it has the client's ports and answers there what is wrong with it, and is no member.

Taken where a start would be wrong and to end would be of no use: whoever starts it again would only see the same, and
nobody could ask it why. The peer port stays closed: to the other members it is a member that is down.
"""

import asyncio
import logging

from kvorum import certificates
from kvorum.api.access import Access
from kvorum.api.bystander import Bystander, Trouble
from kvorum.certificates import Certificates
from kvorum.config import Config
from kvorum.flags import Url
from kvorum.net.call import Routes
from kvorum.net.exchange import HttpHandler
from kvorum.net.listener import Listener
from kvorum.net.tls import ServerTls
from kvorum.server.corruption import Differs
from kvorum.server.joining import DataLost
from kvorum.storage.fault import CorruptDb, CorruptSnap, CorruptStore, CorruptWal, LogLost
from kvorum.wire.http2 import Limits

log = logging.getLogger(__name__)

MESSAGE_BYTES_SPARE = 512 << 10  # etcd's: the gRPC layer takes this much more than the server will
DRAIN_S = 1.0  # for calls that are under way when the node stops
NEVER_S = float("inf")

# What a start can meet that no further start will mend, and the word for it.
STATES: dict[type[Exception], str] = {
    DataLost: "data-lost",
    LogLost: "data-lost",
    CorruptWal: "corrupt",
    CorruptStore: "corrupt",
    CorruptSnap: "corrupt",  # this and the next: of an etcd's directory that is taken over
    CorruptDb: "corrupt",
    Differs: "corrupt",
}


def trouble_of(error: Exception) -> Trouble | None:
    """None for what is to end the process."""
    state = STATES.get(type(error))
    return None if state is None else Trouble(state, lines_of(error))


def lines_of(error: Exception) -> tuple[str, ...]:
    """What was seen, then the way out, as texts of ours have it."""
    return tuple(str(error).replace("\n  ", "\n").split("\n"))


class Aside:
    """Made by start()."""

    def __init__(self, listeners: list[Listener]) -> None:
        self._listeners = listeners

    @classmethod
    async def start(cls, config: Config, trouble: Trouble) -> "Aside":
        """Raises CannotListen, TlsUnusable."""
        log.critical("%s: %s", trouble.state, "\n  ".join(trouble.lines))
        answers = Bystander(trouble, name=config.name, claimed_version=config.claim_etcd_version)
        table = Routes(unary=answers.unary(), streams=answers.streams(), message_bytes_max=message_bytes_max(config))
        return cls(await open_client_ports(config, certificates.load(config), table, answers.handle, answers.probe))

    async def stop(self) -> None:
        await asyncio.gather(*(listener.close(grace_s=DRAIN_S) for listener in self._listeners))


def message_bytes_max(config: Config) -> int:
    return config.max_request_bytes + MESSAGE_BYTES_SPARE


def http_body_bytes_max(config: Config) -> int:
    """A message's bytes are base64 in JSON, a third longer; names, numbers and blanks come to them."""
    return 2 * message_bytes_max(config)


async def open_client_ports(
    config: Config, shown: Certificates, table: Routes, handle: HttpHandler, handle_metrics: HttpHandler
) -> list[Listener]:
    """The ports for clients and for metrics, open. Raises CannotListen."""
    access = Access(handle, origins=config.cors, hosts=config.host_whitelist)
    at_client_urls = None if config.listen_client_http_urls else access.handle
    limits = Limits(
        streams_max=config.max_concurrent_streams,
        ping_interval_min_s=config.grpc_keepalive_min_time_ms / 1000,
        silence_s=config.grpc_keepalive_interval_ms / 1000 or NEVER_S,
        answer_s=config.grpc_keepalive_timeout_ms / 1000,
    )
    ports: tuple[tuple[Routes | None, HttpHandler | None, tuple[Url, ...], ServerTls | None, str], ...] = (
        (table, at_client_urls, config.listen_client_urls, shown.clients, "--listen-client-urls"),
        (None, access.handle, config.listen_client_http_urls, shown.http_clients, "--listen-client-http-urls"),
        (None, handle_metrics, config.listen_metrics_urls, shown.metrics, "--listen-metrics-urls"),
    )
    listeners: list[Listener] = []
    for routes, http, urls, tls, flag in ports:
        listener = Listener(
            routes, http, limits=limits, http_body_bytes_max=http_body_bytes_max(config), log=log, flag=flag
        )
        listeners.append(listener)
        for url in dict.fromkeys(urls):
            plain, secure = url._replace(scheme="http"), url._replace(scheme="https")
            if url.scheme == "https":
                plain_too = plain in urls  # etcd takes both on one port
                await listener.listen(str(url), reuse_port=config.socket_reuse_port, tls=tls, plain_too=plain_too)
            elif secure not in urls:
                await listener.listen(str(url), reuse_port=config.socket_reuse_port)
    return listeners
