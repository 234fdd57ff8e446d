"""What a node answers over HTTP that cannot be a member. Whole such nodes: tests/e2e/test_member_states.py."""

import json

from kvorum.api.bystander import Bystander, Trouble

from tests.unit.kvorum.api.exchanges import Told, post

TROUBLE = Trouble("data-lost", ("the volume is empty", "Restore it, or remove this member."))


def ask(path: str, body: str = "{}", *, method: str = "POST") -> Told:
    told = Told()
    Bystander(TROUBLE, name="n", claimed_version="3.5.30").handle(post(path, body, method=method), told)
    assert told.whole is not None
    return told


def test_clients_of_json_hear_why_and_take_it_for_unavailable() -> None:
    for path in ("/v3/kv/range", "/v3beta/kv/put", "/v3/watch", "/v3/auth/authenticate"):
        told = ask(path)
        assert told.status == 503
        assert told.whole is not None
        error = json.loads(told.whole.body)
        assert error["code"] == 14
        assert "data-lost" in error["message"]
        assert "the volume is empty" in error["message"]
    assert ask("/v3/nothing").status == 404


def test_probes_hear_it_as_before() -> None:
    assert ask("/livez", method="GET").status == 200
    assert ask("/readyz", method="GET").status == 503
    assert ask("/nothing", method="GET").status == 404
