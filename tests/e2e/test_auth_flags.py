"""What the flags of authentication do, seen from outside, on a running node of either engine."""

import base64
import json
import time
from pathlib import Path

import pytest
from kvorum.etcdpb import auth_pb2
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.state.store import AUTH_USERS

from tests.kit.deadline import wait_until
from tests.kit.processes import Node, Program, etcd_program, kvorum_program
from tests.kit.tables import tables_of
from tests.kit.users import INVALID, OK, WRONG, Client, turn_on

QUICK = "--bcrypt-cost=4"


@pytest.fixture
def program(engine: str) -> Program:
    return kvorum_program() if engine == "kvorum" else etcd_program()


def test_a_simple_token_ends_when_it_is_not_used_for_its_time(program: Program, tmp_path: Path) -> None:
    with Node(program, tmp_path, flags=(QUICK, "--auth-token-ttl=2")) as node:
        client = Client(node)
        turn_on(client)
        unused, made = client.signed_in("alice", "a"), time.monotonic()
        assert client.signed_in("alice", "a").put("a") == OK
        # Asking would renew it. etcd looks for what has ended once a second.
        wait_until(lambda: time.monotonic() - made > 3.5, 60.0, "its time is over")
        assert unused.put("a") == INVALID


def test_passwords_are_kept_as_hashes_of_the_cost_asked_for(program: Program, tmp_path: Path) -> None:
    with Node(program, tmp_path, flags=("--bcrypt-cost=5",)) as node:
        client = Client(node)
        turn_on(client)
        client.signed_in("alice", "a").close()
        assert client.outcome("Auth/Authenticate", rpc.AuthenticateRequest(name="alice", password="b")) == WRONG
        node.stop()
        users = [auth_pb2.User.FromString(row) for _, row in tables_of(node, (AUTH_USERS,))[AUTH_USERS]]
        assert {user.name: user.password[:7] for user in users} == {b"root": b"$2a$05$", b"alice": b"$2a$05$"}


def test_tokens_are_signed_by_the_method_asked_for(program: Program, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"of this test alone, and long enough for HS384: 48 bytes of it")
    token_flag = f"--auth-token=jwt,sign-method=HS384,priv-key={secret},ttl=1h"
    with Node(program, tmp_path, flags=(QUICK, token_flag)) as node:
        client = Client(node)
        turn_on(client)
        alice = client.signed_in("alice", "a")
        assert alice.put("a") == OK
        assert alice.token is not None
        header, claims = (json.loads(base64.urlsafe_b64decode(part + "===")) for part in alice.token.split(".")[:2])
        assert header == {"alg": "HS384", "typ": "JWT"}
        assert (claims["username"], claims["revision"]) == ("alice", client.signed_in("root", "r").auth_revision())


def test_nobody_signs_in_where_there_are_no_tokens(program: Program, tmp_path: Path) -> None:
    with Node(program, tmp_path, flags=(QUICK, "--auth-token=")) as node:
        client = Client(node)
        turn_on(client)
        assert client.outcome("Auth/Authenticate", rpc.AuthenticateRequest(name="alice", password="a")) == WRONG
        assert client.with_token("x.1").put("a") == INVALID
