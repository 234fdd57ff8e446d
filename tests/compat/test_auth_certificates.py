"""A certificate's common name is its user, over gRPC and where certificates are asked for: as with etcd."""

import ssl
from pathlib import Path
from typing import Any

import grpc
from kvorum.etcdpb import rpc_pb2 as rpc

from tests.kit.certificates import Authority, Pair
from tests.kit.processes import Node, Program
from tests.kit.users import DENIED, EMPTY, INVALID, OK, Client, turn_on, watch

QUICK = "--bcrypt-cost=4"


class CertifiedClient(Client):
    """pair: shown to the node; None: no certificate at all."""

    def __init__(self, node: Node, authority: Authority, pair: Pair | None, token: str | None = None) -> None:
        super().__init__(node, token)
        self.channel.close()
        self._authority, self._pair = authority, pair
        credentials = grpc.ssl_channel_credentials(
            authority.pem,
            None if pair is None else pair.key.read_bytes(),
            None if pair is None else pair.cert.read_bytes(),
        )
        options = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))
        self.channel = grpc.secure_channel(f"127.0.0.1:{node.client_port}", credentials, options=options)

    def with_token(self, token: str | None, *, header: str = "token") -> "Client":
        return CertifiedClient(self.node, self._authority, self._pair, token)


def told(node: Node, authority: Authority, pairs: dict[str, Pair | None]) -> dict[str, Any]:
    """What each certificate's owner is answered."""
    answers: dict[str, Any] = {}
    root = CertifiedClient(node, authority, pairs["nameless"]).signed_in("root", "r")
    for name, pair in pairs.items():
        client = CertifiedClient(node, authority, pair)
        stream = watch(client, "z")
        answers[name] = {
            "put a": client.put("a"),
            "put z": client.put("z"),
            "get r": client.get("r"),
            "get z serializable": client.get("z", serializable=True),
            "status": client.outcome("Maintenance/Status", rpc.StatusRequest()),
            "members": client.outcome("Cluster/MemberList", rpc.MemberListRequest()),
            "users": client.outcome("Auth/UserList", rpc.AuthUserListRequest()),
            "himself": client.outcome("Auth/UserGet", rpc.AuthUserGetRequest(name="alice")),
            "watch z": stream.read().cancel_reason,
            "with root's token": client.with_token(root.token).put("z"),
            "with a wrong token": client.with_token("x.1").put("a"),
        }
        stream.close()
    return answers


def answers_of(program: Program, folder: Path, *flags: str) -> dict[str, Any]:
    """Of a node with https, users root and alice, and clients of each kind."""
    authority = Authority(folder / "certificates")
    server = authority.sign("server")
    pairs: dict[str, Pair | None] = {
        name: authority.sign(name, common_name=name) for name in ("alice", "root", "nosuch")
    }
    nameless = pairs["nameless"] = authority.sign("nameless")
    trust = ssl.create_default_context(cafile=str(authority.cert))
    trust.load_cert_chain(nameless.cert, nameless.key)
    all_flags = (QUICK, *server.server_flags, *(flag.format(ca=authority.cert) for flag in flags))
    with Node(program, folder, flags=all_flags, scheme="https", trust=trust) as node:
        turn_on(CertifiedClient(node, authority, nameless))
        if not flags:
            pairs["without"] = None
        return told(node, authority, pairs)


def test_where_certificates_are_asked_for_their_names_are_users(
    reference: Program, subject: Program, tmp_path: Path
) -> None:
    asked = ("--trusted-ca-file={ca}", "--client-cert-auth")
    expected = answers_of(reference, tmp_path / "reference", *asked)
    got = answers_of(subject, tmp_path / "subject", *asked)
    assert got == expected
    assert (got["alice"]["put a"], got["alice"]["put z"], got["alice"]["himself"]) == (OK, DENIED, OK)
    assert (got["root"]["put z"], got["nosuch"]["put a"], got["nameless"]["put a"]) == (OK, DENIED, DENIED)
    assert {name: of["with root's token"] for name, of in got.items()} == dict.fromkeys(got, OK)
    assert {name: of["with a wrong token"] for name, of in got.items()} == dict.fromkeys(got, INVALID)


def test_where_they_are_not_asked_for_names_are_nobodys(reference: Program, subject: Program, tmp_path: Path) -> None:
    expected = answers_of(reference, tmp_path / "reference")
    got = answers_of(subject, tmp_path / "subject")
    assert got == expected
    assert {name: of["put a"] for name, of in got.items()} == dict.fromkeys(got, EMPTY)
