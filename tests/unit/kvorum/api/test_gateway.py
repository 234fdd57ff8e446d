"""Calls made out of JSON, with handlers that do as they are told. Beside a real etcd: tests/compat/test_gateway.py."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from kvorum.api import routes
from kvorum.api.gateway import DOCUMENTS_MAX, METHODS, STATUSES, VALUES_MAX, Gateway
from kvorum.etcdpb import rpc_pb2 as rpc
from kvorum.net.call import Call

from tests.unit.kvorum.api.exchanges import Told, post
from tests.unit.kvorum.wire.websocket_frames import frame

MESSAGE_BYTES_MAX = 1000
DEADLINE_S = 20.0


class Toy:
    """A gateway whose calls are kept for the test: one unary method, one stream."""

    def __init__(self, handler: Callable[[Call], None] | None = None) -> None:
        self.calls: list[Call] = []
        self.auth_enabled = False
        self.gateway = Gateway(
            unary={"/etcdserverpb.KV/Range": handler or self.calls.append},
            streams={
                "/etcdserverpb.Watch/Watch": handler or self.calls.append,
                "/etcdserverpb.Maintenance/Snapshot": handler or self.calls.append,
            },
            message_bytes_max=MESSAGE_BYTES_MAX,
            counts={},
            auth_enabled=lambda: self.auth_enabled,
        )

    def ask(self, path: str, body: bytes | str = b"{}", **headers: str) -> Told:
        told = Told()
        self.gateway.handle(post(path, body, **headers), told)
        return told


def body_of(told: Told) -> Any:
    assert told.whole is not None
    return json.loads(told.whole.body)


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), DEADLINE_S))


def test_every_method_of_etcd_has_a_path_and_every_path_a_handler() -> None:
    served = {*routes.UNARY, *routes.STREAMS}
    reached = {one.path for one in METHODS.values()}
    assert {path for path in served - reached if not path.startswith("/grpc.health")} == set()
    assert reached - served == set()
    streams = {one.path for one in METHODS.values() if one.many}
    assert streams == {"/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/LeaseKeepAlive"}


def test_a_unary_call_is_its_message_and_its_answer() -> None:
    toy = Toy()
    told = toy.ask("/v3/kv/range", '{"key":"Zm9v"} not looked at')
    (call,) = toy.calls
    assert (call.path, call.body) == ("/etcdserverpb.KV/Range", b"\n\x03foo")
    call.reply(rpc.RangeResponse(count=1).SerializeToString())
    assert told.whole is not None
    assert (told.status, told.whole.body) == (200, b'{"count":"1"}')
    assert dict(told.whole.headers) == {
        "Content-Type": "application/json",
        "Grpc-Metadata-Content-Type": "application/grpc",
    }


def test_a_name_that_is_no_text_fails_the_call_and_not_who_answers_it() -> None:
    """He answers in the middle of applying an entry, and anything raised there ends the member."""
    toy = Toy()
    told = toy.ask("/v3/kv/range")
    toy.calls[0].reply(b"\x0a\x03\x0a\x01")  # cut off, as good as bad UTF-8
    assert (told.status, body_of(told)["code"]) == (500, 13)


@pytest.mark.parametrize("code", range(1, 17))
def test_a_refusal_has_its_status_and_the_fields_of_both_versions(code: int) -> None:
    told = Toy(lambda call: call.fail(code, 'a "text"')).ask("/v3/kv/range")
    assert told.status == STATUSES[code]
    assert body_of(told) == {"error": 'a "text"', "message": 'a "text"', "code": code}


def test_paths_and_methods_that_there_are_not() -> None:
    toy = Toy()
    for path in ("/v3/", "/v3/nothing", "/v3/kv/range/", "/v3beta/", "/v3beta/v3/kv/range"):
        assert (toy.ask(path).status, body_of(toy.ask(path))["code"]) == (404, 5), path
    for method in ("GET", "PUT", "HEAD", "DELETE"):
        assert toy.ask("/v3/kv/range", method=method).status == 501
    assert toy.ask("/v3beta/kv/range").status == 0
    assert len(toy.calls) == 1
    assert toy.ask("/v3/maintenance/hash").status == 501


@pytest.mark.parametrize("body", [b"no json", b"[]", b"\xff", b'{"key":"Zm9v"'])
def test_what_is_no_request_reaches_no_handler(body: bytes) -> None:
    toy = Toy()
    for path in ("/v3/kv/range", "/v3/watch", "/v3/maintenance/snapshot"):
        told = toy.ask(path, body)
        assert (told.status, body_of(told)["code"]) == (400, 3)
    assert toy.calls == []


def test_a_message_too_large_is_refused_as_grpc_would() -> None:
    toy = Toy()
    assert toy.ask("/v3/kv/range", json.dumps({"key": "AAAA" * 330})).status == 0
    told = toy.ask("/v3/kv/range", json.dumps({"key": "AAAA" * 340}))
    assert (told.status, body_of(told)["code"]) == (429, 8)
    assert "larger than max (1023 vs. 1000)" in body_of(told)["message"]


def test_headers_become_metadata() -> None:
    toy = Toy()
    toy.ask("/v3/kv/range", authorization="Bearer abc", grpc_metadata_hasleader="true", x_other="1")
    toy.ask("/v3/kv/range", authorization="abc", grpc_metadata_token="Bearer t")
    toy.ask("/v3/kv/range")
    names = ("authorization", "token", "hasleader", "x-other", "host")
    told = [[call.metadata(name) for name in names] for call in toy.calls]
    assert told == [["abc", None, "true", None, None], ["abc", "t", None, None, None], [None] * 5]
    assert [call.common_name for call in toy.calls] == [None, None, None]


def test_a_certificates_name_is_no_users_name_here() -> None:
    toy = Toy()

    def asked(name: str | None) -> int:
        told = Told(secure=True)
        told.common_name = name
        toy.gateway.handle(post("/v3/kv/range", "{}", authorization="token"), told)
        return told.status

    assert [asked(name) for name in ("alice", None, "")] == [0, 0, 0]  # handed on
    toy.auth_enabled = True
    assert [asked(name) for name in ("alice", None, "")] == [400, 0, 0]


# Streams


def test_the_head_of_a_stream_comes_with_its_first_message() -> None:
    toy = Toy()
    told = toy.ask("/v3/watch", '{"create_request":{}}')
    (call,) = toy.calls
    assert told.status == 0
    call.push(rpc.WatchResponse(created=True).SerializeToString())
    call.push(rpc.WatchResponse(watch_id=7).SerializeToString())
    assert (told.status, told.chunks, told.closed) == (
        200,
        [b'{"result":{"created":true}}\n', b'{"result":{"watch_id":"7"}}\n'],
        False,
    )
    call.finish()
    assert told.closed


def test_an_error_before_a_stream_is_an_answer_and_behind_it_a_line() -> None:
    toy = Toy()
    told = toy.ask("/v3/watch")
    toy.calls[0].fail(14, "no leader")
    assert (told.status, body_of(told)["message"]) == (503, "no leader")
    told = toy.ask("/v3/watch")
    toy.calls[1].push(b"")
    toy.calls[1].fail(14, "no leader")
    assert told.closed
    assert json.loads(told.chunks[1]) == {
        "error": {
            "code": 14,
            "message": "no leader",
            "grpc_code": 14,
            "http_code": 503,
            "http_status": "Service Unavailable",
        }
    }


def test_a_stream_that_ends_without_a_message_is_an_empty_answer() -> None:
    told = Toy(lambda call: call.finish()).ask("/v3/watch")
    assert told.whole is not None
    assert (told.status, told.whole.body) == (200, b"")


def listened(body: str, path: str = "/v3/watch") -> list[str]:
    """What a handler of a stream hears of a body."""
    heard: list[str] = []

    def handler(call: Call) -> None:
        call.on_message = lambda message: heard.append(message.hex())
        call.on_end = lambda: heard.append("end")

    Toy(handler).ask(path, body)
    return heard


def test_each_document_is_a_message_and_the_bodys_end_their_end() -> None:
    cancel = '{"cancel_request":{"watch_id":"1"}}'
    assert listened(cancel + " " + cancel) == ["12020801", "12020801", "end"]
    assert listened("") == ["end"]
    assert listened(cancel + " nonsense " + cancel) == ["12020801", "end"]
    # One that takes a single message gets one, and no other.
    assert listened("", "/v3/maintenance/snapshot") == ["", "end"]
    assert listened("{}{}", "/v3/maintenance/snapshot") == ["", "end"]


def test_no_more_documents_are_taken_than_one_turn_of_the_loop_can_bear() -> None:
    heard: list[bytes] = []
    gone: list[str] = []

    def handler(call: Call) -> None:
        call.on_message = heard.append
        call.on_close = lambda: gone.append("gone")

    told = Toy(handler).ask("/v3/watch", "{}" * (DOCUMENTS_MAX + 1))
    assert (told.status, body_of(told)["code"]) == (429, 8)
    assert (len(heard), gone) == (DOCUMENTS_MAX, ["gone"])
    assert Toy(handler).ask("/v3/watch", "{}" * DOCUMENTS_MAX).status == 0


@pytest.mark.parametrize("value", ["{}", "0", "[]"])
def test_no_more_values_are_read_than_one_turn_of_the_loop_can_bear(value: str) -> None:
    toy = Toy()
    told = toy.ask("/v3/kv/range", '{"of no field":[' + ",".join([value] * (VALUES_MAX + 1)) + "]}")
    assert (told.status, body_of(told)["code"], toy.calls) == (429, 8, [])
    toy.ask("/v3/kv/range", '{"of no field":[' + ",".join([value] * (VALUES_MAX // 2 - 2)) + "]}")
    assert len(toy.calls) == 1


def test_a_handler_that_has_finished_hears_no_more() -> None:
    heard: list[bytes] = []

    def handler(call: Call) -> None:
        def on_message(message: bytes) -> None:
            heard.append(message)
            call.finish(5, "enough")

        call.on_message = on_message
        call.on_end = lambda: heard.append(b"end")

    assert Toy(handler).ask("/v3/watch", "{}{}{}").status == 404
    assert heard == [b""]


def test_buffering_is_the_streams() -> None:
    toy = Toy()
    told = toy.ask("/v3/watch")
    (call,) = toy.calls
    read: list[int] = []
    call.on_writable = lambda: read.append(call.buffered_bytes)
    assert call.buffered_bytes == 0
    call.push(b"")
    told.buffered_bytes = 5
    assert told.on_writable is not None
    told.on_writable()
    assert read == [5]


# The client's end


def test_only_who_asked_is_told_that_the_client_went() -> None:
    toy = Toy()
    heard: list[str] = []
    unary, asked, stream = (toy.ask(path) for path in ("/v3/kv/range", "/v3/kv/range", "/v3/watch"))
    toy.calls[1].on_close = lambda: heard.append("unary")
    toy.calls[2].on_close = lambda: heard.append("stream")
    toy.calls[2].push(b"")
    for told in (unary, asked, stream):
        told.leave()
    assert heard == ["unary", "stream"]
    assert [call.cancelled for call in toy.calls] == [False, True, True]
    toy.calls[1].reply(b"")  # late answers need no check
    toy.calls[2].push(b"")
    toy.calls[2].finish()
    assert (asked.status, len(stream.chunks)) == (0, 1)
    toy.calls[0].reply(b"")  # a client that only said no more is still answered
    assert unary.status == 200


def test_a_timeout_answers_and_takes_the_call_back() -> None:
    async def story() -> None:
        toy = Toy()
        told = toy.ask("/v3/kv/range", grpc_timeout="1m")
        (call,) = toy.calls
        assert call.timeout_s == 0.001
        closed = asyncio.Event()
        call.on_close = closed.set
        await closed.wait()
        assert (told.status, body_of(told)["message"]) == (504, "context deadline exceeded")
        assert call.cancelled
        call.reply(b"")

    run(story)


def test_an_answer_in_time_ends_the_timeout() -> None:
    async def story() -> None:
        toy = Toy()
        told = toy.ask("/v3/kv/range", grpc_timeout="20m")
        heard: list[str] = []
        toy.calls[0].on_close = lambda: heard.append("closed")
        toy.calls[0].reply(b"")
        done, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: heard.append(str(context)))
        loop.call_later(0.05, done.set)
        await done.wait()
        assert (told.status, heard) == (200, [])
        assert toy.ask("/v3/kv/range", grpc_timeout="soon").status == 400

    run(story)


# WebSocket

HANDSHAKE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec_websocket_key": "dGhlIHNhbXBsZSBub25jZQ==",
    "sec_websocket_version": "13",
}


class Page:
    """A client that speaks WebSocket, from its handshake on."""

    def __init__(self, toy: Toy, path: str, **headers: str) -> None:
        self.told = toy.ask(path, b"", **{"method": "GET", **HANDSHAKE, **headers})

    def say(self, *frames: bytes) -> None:
        assert self.told.on_data is not None
        self.told.on_data(b"".join(frames))

    def heard(self) -> list[object]:
        """Messages as JSON; `pong`; the code of a close."""
        told: list[object] = []
        data = b"".join(self.told.chunks)
        self.told.chunks.clear()
        while data:
            size = data[1]
            at = 2
            if size == 126:
                size, at = int.from_bytes(data[2:4], "big"), 4
            payload, kind = data[at : at + size], data[0] & 15
            other = "pong" if kind == 10 else int.from_bytes(payload[:2], "big")
            told.append(json.loads(payload) if kind == 1 else other)
            data = data[at + size :]
        return told


def test_over_websocket_each_message_is_a_document_both_ways() -> None:
    toy = Toy()
    page = Page(toy, "/v3/watch")
    assert page.told.agreed["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert toy.calls == []
    heard: list[bytes] = []

    def handler(call: Call) -> None:
        toy.calls.append(call)
        call.on_message = heard.append
        call.on_end = lambda: heard.append(b"end")

    toy = Toy(handler)
    page = Page(toy, "/v3/watch")
    page.say(frame(1, b'{"cancel_request":{"watch_id":1}}'))
    page.say(frame(1, b'{"cancel_request":{"watch_id":2}}{"cancel_request":'), frame(9, b""))
    (call,) = toy.calls
    assert [message.hex() for message in heard] == ["12020801", "12020802"]
    answers = page.heard()
    assert answers[0] == {"error": "unexpected EOF", "message": "unexpected EOF", "code": 3}
    assert answers[1:] == [1000]
    assert call.cancelled
    assert page.told.closed


def test_over_websocket_answers_go_on_until_the_client_says_goodbye() -> None:
    toy = Toy()
    page = Page(toy, "/v3beta/watch")
    page.say(frame(1, b"{}"))
    (call,) = toy.calls
    gone: list[str] = []
    call.on_close = lambda: gone.append("gone")
    call.push(rpc.WatchResponse(created=True).SerializeToString())
    page.say(frame(9, b"?"))
    call.push(rpc.WatchResponse(watch_id=2).SerializeToString())
    assert page.heard() == [{"result": {"created": True}}, "pong", {"result": {"watch_id": "2"}}]
    page.say(frame(8, (1001).to_bytes(2, "big")), frame(9))
    assert (page.heard(), gone, page.told.closed) == ([1001], ["gone"], True)
    call.push(b"")
    assert page.heard() == []


def test_over_websocket_a_call_without_a_stream_ends_with_its_answer() -> None:
    toy = Toy(lambda call: call.reply(rpc.RangeResponse(count=1).SerializeToString()))
    page = Page(toy, "/v3/kv/range")
    page.say(frame(1, b"{}"), frame(1, b"{}"))
    assert page.heard() == [{"count": "1"}, 1000]
    page = Page(toy, "/v3/nothing")
    page.say(frame(1, b"{}"))
    assert page.heard() == [{"error": "Not Found", "message": "Not Found", "code": 5}, 1000]


def test_over_websocket_the_client_may_vanish_or_break_the_protocol() -> None:
    toy = Toy()
    for end in ("vanish", "break", "too large"):
        page = Page(toy, "/v3/watch")
        page.say(frame(1, b"{}"))
        call = toy.calls[-1]
        gone: list[str] = []
        call.on_close = lambda gone=gone: gone.append("gone")
        if end == "vanish":
            page.told.leave()
        else:
            page.say(b"\x81\x05Hello" if end == "break" else frame(1, bytes(2 * MESSAGE_BYTES_MAX + 1)))
        assert gone == ["gone"], end
        assert page.heard() == {"vanish": [], "break": [1002], "too large": [1009]}[end]


def test_a_token_may_come_as_a_subprotocol() -> None:
    toy = Toy()
    page = Page(toy, "/v3/watch", sec_websocket_protocol="Bearer, abc.1")
    assert page.told.agreed["Sec-WebSocket-Protocol"] == "Bearer"
    page.say(frame(1, b"{}"))
    assert toy.calls[0].metadata("authorization") == "abc.1"
    assert "Sec-WebSocket-Protocol" not in Page(toy, "/v3/watch", sec_websocket_protocol="chat").told.agreed


def test_what_is_no_handshake_is_refused() -> None:
    toy = Toy()
    for wrong in ({"sec_websocket_version": "8"}, {"sec_websocket_key": "x"}, {"method": "POST"}):
        assert Page(toy, "/v3/watch", **wrong).told.status == 400


def test_pongs_are_not_piled_up_for_who_does_not_read() -> None:
    page = Page(Toy(), "/v3/watch")
    page.told.buffered_bytes = 1 << 20
    page.say(frame(9, b"?"))
    assert page.heard() == []
