"""Who is let through to the client port over HTTP. Beside a real etcd: tests/e2e/test_gateway_flags.py."""

import pytest
from kvorum.api.access import Access, host_of
from kvorum.net.exchange import Exchange, HttpRequest, HttpResponse

from tests.unit.kvorum.api.exchanges import Told, post


def ask(
    request: HttpRequest, *, origins: tuple[str, ...] = (), hosts: tuple[str, ...] = (), secure: bool = False
) -> Told:
    def handle(request: HttpRequest, exchange: Exchange) -> None:
        exchange(HttpResponse(200, b"let through"))

    told = Told(secure=secure)
    Access(handle, origins=origins, hosts=hosts).handle(request, told)
    return told


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("a", "a"),
        ("a:1", "a"),
        ("a:", "a"),
        ("10.0.0.1:2379", "10.0.0.1"),
        ("[::1]:2379", "::1"),
        ("[::1]", "[::1]"),
        ("::1", "::1"),
        ("a:b", "a:b"),
        ("", ""),
        ("A", "A"),
    ],
)
def test_the_host_is_named_without_its_port(header: str, host: str) -> None:
    assert host_of(post("/", host=header)) == host


def test_hosts_are_checked_where_no_certificate_does_it() -> None:
    assert ask(post("/", host="evil:1"), hosts=("a", "b")).status == 421
    assert ask(post("/", host="evil:1"), hosts=("a", "b"), secure=True).status == 200
    assert ask(post("/", host="b:1"), hosts=("a", "b")).status == 200
    for everybody in ((), ("*",), ("a", "*")):
        assert ask(post("/", host="evil:1"), hosts=everybody).status == 200


def test_the_refusal_names_the_host_and_the_way_out() -> None:
    told = ask(post("/", host="evil"), hosts=("a",))
    assert told.whole is not None
    text = told.whole.body.decode()
    assert "evil" in text
    assert "--host-whitelist" in text
    assert "TLS" in text


def test_only_pages_of_allowed_origins_are_told_so() -> None:
    assert dict(ask(post("/", origin="http://x")).headers)["Access-Control-Allow-Origin"] == "*"
    assert dict(ask(post("/", origin="http://x"), origins=("*",)).headers)["Access-Control-Allow-Origin"] == "*"
    allowed = ask(post("/", origin="http://x"), origins=("http://x", "http://y"))
    assert dict(allowed.headers)["Access-Control-Allow-Origin"] == "http://x"
    for origin in ("http://z", "*", ""):
        told = ask(post("/", origin=origin), origins=("http://x",))
        assert (told.status, told.headers) == (200, ())
    assert ask(post("/"), origins=("http://x",)).headers == ()


def test_options_asks_nothing_of_the_server() -> None:
    told = ask(post("/v3/kv/put", method="OPTIONS"))
    assert told.whole == HttpResponse(200)
    assert len(told.headers) == 3


def test_a_page_of_another_origin_opens_no_websocket() -> None:
    asked = {"connection": "upgrade", "upgrade": "websocket"}
    assert ask(post("/v3/watch", origin="http://z", **asked), origins=("http://x",)).status == 403
    assert ask(post("/v3/watch", origin="http://x", **asked), origins=("http://x",)).status == 200
    assert ask(post("/v3/watch", origin="http://z", **asked)).status == 200
    assert ask(post("/v3/watch", **asked), origins=("http://x",)).status == 200  # no page at all
