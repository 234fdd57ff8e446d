"""What leaves for the API server, and what its answers are to us; what goes over the wire tests/kubernetes shows."""

from typing import Any

import pytest
from kvorum_operator.platforms.kubernetes import client
from kvorum_operator.platforms.kubernetes.client import (
    AlreadyExists,
    Call,
    Conflict,
    KubernetesError,
    NotFound,
    NotLoggedIn,
    Refused,
    Unavailable,
    error_of,
)


@pytest.mark.parametrize(
    ("call", "path", "text"),
    [
        (Call("get", "GET", client.PODS, "db", "kv-0"), "/api/v1/namespaces/db/pods/kv-0", "get Pod kv-0 in db"),
        (Call("list", "GET", client.KVCLUSTERS, ""), "/apis/kvorum.dev/v1alpha1/kvclusters", "list KVCluster"),
        (
            Call("create", "POST", client.LEASES, "db", "it"),
            "/apis/coordination.k8s.io/v1/namespaces/db/leases",
            "create Lease it in db",
        ),
        (
            Call("patch", "PATCH", client.KVCLUSTERS, "db", "kv", "status"),
            "/apis/kvorum.dev/v1alpha1/namespaces/db/kvclusters/kv/status",
            "patch KVCluster kv in db",
        ),
    ],
)
def test_calls_go_where_the_api_server_has_things(call: Call, path: str, text: str) -> None:
    assert call.path == path
    assert str(call) == text


def answer(reason: str, message: str) -> dict[str, Any]:
    return {"kind": "Status", "reason": reason, "message": message}


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (401, answer("Unauthorized", "Unauthorized"), NotLoggedIn),
        (403, answer("Forbidden", "exceeded quota: q"), Refused),
        (404, answer("NotFound", 'pods "kv-0" not found'), NotFound),
        (404, None, NotFound),
        (409, answer("AlreadyExists", "already exists"), AlreadyExists),
        (409, answer("Conflict", "the UID in the precondition"), Conflict),
        (422, answer("Invalid", "spec: Forbidden"), Refused),
        (400, answer("BadRequest", "strict decoding error"), Refused),
        (429, answer("TooManyRequests", "later"), Unavailable),
        (500, answer("InternalError", "etcdserver: request timed out"), Unavailable),
        (504, None, Unavailable),
        (200, None, Unavailable),  # a page of some proxy
    ],
)
def test_answers_are_told_apart_by_what_a_caller_can_do(
    status: int, said: dict[str, Any] | None, kind: type[KubernetesError]
) -> None:
    error = error_of(Call("patch", "PATCH", client.PODS, "db", "kv-0"), status, said, None)
    assert type(error) is kind
    assert str(error).startswith("patch Pod kv-0 in db: ")
    assert (said or {"message": f"HTTP {status}"})["message"] in str(error)


def test_refusal_names_each_field_and_keeps_to_one_short_line() -> None:
    causes = [{"reason": "FieldValueInvalid", "field": "spec", "message": "field is immutable"}]
    said = {**answer("Invalid", "spec is\nwrong " * 500), "details": {"causes": causes}}
    error = error_of(Call("patch", "PATCH", client.PODS, "db", "kv-0"), 422, said, None)
    assert error.causes == ("field is immutable",)
    assert len(str(error)) < 350
    assert "\n" not in str(error)


@pytest.mark.parametrize(("header", "seconds"), [("3", 3.0), (None, None), ("Wed, 21 Oct 2026 07:28:00 GMT", None)])
def test_server_may_say_for_how_long_it_is_busy(header: str | None, seconds: float | None) -> None:
    assert error_of(Call("get", "GET", client.PODS, "db"), 429, None, header).retry_after_s == seconds


def test_missing_credentials_are_told_with_what_was_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(NotLoggedIn, match="neither a service account's token nor a file named by KUBECONFIG"):
        client.read_login()


@pytest.mark.parametrize("content", ["{", "contexts: []", "current-context: a\ncontexts: []", "- 1"])
def test_kubeconfig_that_cannot_be_used_is_named_as_such(
    content: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "config").write_text(content)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(NotLoggedIn, match="the credentials cannot be read"):
        client.read_login()
