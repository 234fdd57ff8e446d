"""Whom a client trusts, who it is, and certificates that are replaced while it runs."""

import asyncio
from pathlib import Path

import grpc
import grpc.aio
import pytest
from kvorum.client import BadCertificates, Client, ClientError, Tls, Unreachable
from kvorum.client.endpoints import tls_for
from kvorum.etcdpb import rpc_pb2 as rpc

from tests.kit.certificates import Authority, Pair, replace
from tests.kit.ports import free_port


class TlsServer:
    """Answers a range; of_clients: the CA that a client's certificate must be of, None if it needs none."""

    def __init__(self, pair: Pair, of_clients: Path | None = None) -> None:
        self.port = free_port()
        self.endpoint = f"https://127.0.0.1:{self.port}"
        self._pair = pair.key.read_bytes(), pair.cert.read_bytes()
        self._of_clients = None if of_clients is None else of_clients.read_bytes()

    async def __aenter__(self) -> "TlsServer":
        async def answer(request: bytes, context: object) -> bytes:
            return rpc.RangeResponse(count=7).SerializeToString()

        handlers = {"Range": grpc.unary_unary_rpc_method_handler(answer)}
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("etcdserverpb.KV", handlers),))
        credentials = grpc.ssl_server_credentials([self._pair], self._of_clients, self._of_clients is not None)
        self._server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(0)


async def count(endpoint: str, tls: Tls | None) -> int:
    async with Client([endpoint], timeout_s=10, tls=tls) as client:
        return (await client.range(b"a")).count


def test_server_of_a_trusted_authority_is_spoken_to_and_no_other(tmp_path: Path) -> None:
    async def run() -> None:
        ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
        async with TlsServer(ours.sign("server")) as server:
            assert await count(server.endpoint, Tls(ours.cert)) == 7
            assert await count(server.endpoint.removeprefix("https://"), Tls(ours.cert)) == 7
            for tls, why in (
                (Tls(theirs.cert), "signature failure|unable to get local issuer"),
                (Tls(), "unable to get local issuer certificate"),
                (None, "unable to get local issuer certificate"),
                (Tls(ours.cert, server_name="db.example"), "Hostname Verification Check failed"),
            ):
                with pytest.raises(Unreachable, match=why):
                    await count(server.endpoint, tls)

    asyncio.run(run())


def test_client_shows_its_certificate_where_it_must(tmp_path: Path) -> None:
    async def run() -> None:
        ours = Authority(tmp_path / "ours")
        alice = ours.sign("alice", common_name="alice")
        async with TlsServer(ours.sign("server"), of_clients=ours.cert) as server:
            assert await count(server.endpoint, Tls(ours.cert, alice.cert, alice.key)) == 7
            with pytest.raises(ClientError):
                await count(server.endpoint, Tls(ours.cert))

    asyncio.run(run())


def test_name_in_the_servers_certificate_may_be_given(tmp_path: Path) -> None:
    async def run() -> None:
        ours = Authority(tmp_path / "ours")
        async with TlsServer(ours.sign("server", hosts=["db.example"])) as server:
            assert await count(server.endpoint, Tls(ours.cert, server_name="db.example")) == 7
            with pytest.raises(Unreachable):
                await count(server.endpoint, Tls(ours.cert))

    asyncio.run(run())


def test_authority_that_is_replaced_is_taken_up_by_the_next_connection(tmp_path: Path) -> None:
    async def run() -> None:
        old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
        trusted = tmp_path / "trusted.pem"
        trusted.write_bytes(old.cert.read_bytes())
        async with TlsServer(new.sign("server")) as server, Client([server.endpoint], 10, tls=Tls(trusted)) as client:
            with pytest.raises(Unreachable):
                await client.range(b"a")
            replace(trusted, new.pem)
            assert (await client.range(b"a")).count == 7

    asyncio.run(run())


def test_files_that_do_not_serve_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadCertificates, match="cert is given, key is not"):
        Tls(cert=tmp_path / "a.pem")

    async def run() -> None:
        async with Client(["https://127.0.0.1:1"], tls=Tls(tmp_path / "nosuch.pem")) as client:
            with pytest.raises(BadCertificates, match=r"nosuch\.pem: No such file"):
                await client.range(b"a")

    asyncio.run(run())


def test_encryption_is_the_endpoints_choice_as_in_etcds_clients() -> None:
    tls = Tls(server_name="x")
    assert tls_for("http://a:1", tls) is None
    assert tls_for("https://a:1", tls) is tls
    assert tls_for("https://a:1", None) == Tls()
    assert tls_for("a:1", tls) is tls
    assert tls_for("a:1", None) is None
