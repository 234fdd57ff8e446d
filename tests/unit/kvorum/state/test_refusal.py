"""Refusals: etcd's texts with etcd's codes, each once."""

import grpc
from kvorum.state import refusal
from kvorum.state.refusal import Refusal

ALL = {name: value for name, value in vars(refusal).items() if isinstance(value, Refusal)}


def test_every_text_stands_for_one_refusal() -> None:
    texts = [found.text for found in ALL.values()]
    assert len(texts) == len(set(texts))


def test_codes_are_those_of_grpc() -> None:
    codes = {code.value[0] for code in grpc.StatusCode}
    assert {found.code for found in ALL.values()} <= codes - {grpc.StatusCode.OK.value[0]}
    for code in grpc.StatusCode:
        named = getattr(refusal, code.name, None)
        if isinstance(named, int):
            assert named == code.value[0], code.name


def test_texts_are_those_of_etcds_server() -> None:
    assert [name for name, found in ALL.items() if not found.text.startswith(("etcdserver: ", "kvorum: "))] == [
        "NOT_PRIMARY_LESSOR",
        "NO_PASSWORD_USER",
        "PASSWORD_TOO_LONG",
        "VERIFY_ONLY",
    ]


def test_where_3_5_and_3_6_differ_the_version_we_claim_decides() -> None:
    assert refusal.NOT_SUPPORTED_FOR_LEARNER.code == refusal.UNAVAILABLE
    # Errors that etcd 3.5 passes on in their clients' form reach clients without a code.
    assert refusal.TOO_MANY_REQUESTS.code == refusal.MEMBER_NOT_ENOUGH_STARTED.code == refusal.UNKNOWN
