"""Simple tokens, with a clock that only the test moves."""

import re

import pytest
from kvorum.server import tokens_simple
from kvorum.server.tokens_simple import TTL_DEFAULT_S, SimpleTokens
from kvorum.state.auth import Caller

TOKEN = "abcdefghijklmnop.7"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def held(clock: Clock, *, ttl_s: int = 10) -> SimpleTokens:
    tokens = SimpleTokens(clock, ttl_s)
    tokens.signed_in(b"ann", TOKEN.encode())
    return tokens


def test_letters_are_sixteen_and_never_the_same(clock: Clock) -> None:
    drawn = [SimpleTokens(clock, 1).draw() for _ in range(100)]
    assert all(isinstance(one, bytes) and re.fullmatch(rb"[a-zA-Z]{16}", one) for one in drawn)
    assert len(set(drawn)) == 100


def test_a_token_names_its_user_at_the_revision_of_now(clock: Clock) -> None:
    tokens = held(clock)
    assert [tokens.find(TOKEN, revision) for revision in (3, 3, 9)] == [Caller(b"ann", n) for n in (3, 3, 9)]
    assert tokens.find(TOKEN[:-1], 3) is None


def test_a_token_lasts_its_time_from_its_last_use(clock: Clock) -> None:
    tokens = held(clock)
    for _ in range(5):
        clock.now += 9.9
        assert tokens.find(TOKEN, 1) is not None
    clock.now += 10.0
    assert tokens.find(TOKEN, 1) is None
    clock.now -= 10.0  # not even if the clock were turned back
    assert tokens.find(TOKEN, 1) is None


def test_no_time_at_all_stands_for_the_usual_one(clock: Clock) -> None:
    tokens = held(clock, ttl_s=0)
    clock.now += TTL_DEFAULT_S - 1
    assert tokens.find(TOKEN, 1) is not None
    clock.now += TTL_DEFAULT_S
    assert tokens.find(TOKEN, 1) is None


def test_what_has_ended_is_forgotten_without_being_asked_for(clock: Clock) -> None:
    tokens = held(clock)
    clock.now += 5
    tokens.signed_in(b"ben", b"other.8")
    clock.now += 5
    tokens.purge()
    assert tokens.held_count == 1
    assert tokens.find("other.8", 1) == Caller(b"ben", 1)


def test_signing_out_ends_the_users_tokens_alone_or_all(clock: Clock) -> None:
    tokens = held(clock)
    tokens.signed_in(b"ann", b"second.8")
    tokens.signed_in(b"ben", b"other.9")
    tokens.signed_out(b"ann")
    assert [tokens.find(text, 1) for text in (TOKEN, "second.8", "other.9")] == [None, None, Caller(b"ben", 1)]
    tokens.signed_out(None)
    assert tokens.held_count == 0


def test_more_than_the_bound_push_the_oldest_out(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens_simple, "TOKENS_MAX", 2)
    tokens = SimpleTokens(clock, 10)
    for number in range(3):
        tokens.signed_in(b"ann", b"t.%d" % number)
    assert [tokens.find(f"t.{number}", 1) is not None for number in range(3)] == [False, True, True]


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("x.7", 8),
        ("x.0", 1),
        (".7", 8),
        ("x", 0),
        ("x.", 0),
        ("x.-1", 0),
        ("x.y", 0),
        ("x.7.8", 0),
        ("x.٧", 0),
        ("", 0),
    ],
)
def test_an_unknown_token_may_come_with_the_entry_behind_its_index(clock: Clock, text: str, index: int) -> None:
    assert held(clock).awaits(text) == index


def test_a_known_token_awaits_nothing(clock: Clock) -> None:
    assert held(clock).awaits(TOKEN) == 0
