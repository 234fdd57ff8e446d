"""Rounds of reads that wait for a quorum."""

from kvorum.raft.message import Message, MessageType
from kvorum.raft.read_index import ROUNDS_MAX, ReadRounds

REQUEST = Message(MessageType.READ_INDEX)


def test_a_confirmed_round_releases_those_before_it_in_order() -> None:
    rounds = ReadRounds()
    for index, context in enumerate((b"a", b"b", b"c"), 5):
        assert rounds.begin(context, REQUEST, index)
    assert [released.index for released in rounds.release(b"b")] == [5, 6]
    assert rounds.newest_context == b"c"
    assert [released.index for released in rounds.release(b"c")] == [7]
    assert rounds.newest_context == b""


def test_answers_are_counted_by_round() -> None:
    rounds = ReadRounds()
    rounds.begin(b"a", REQUEST, 1)
    rounds.begin(b"b", REQUEST, 1)
    assert rounds.acknowledge(b"a", 2) == {2}
    assert rounds.acknowledge(b"a", 2) == {2}
    assert rounds.acknowledge(b"b", 3) == {3}
    assert rounds.acknowledge(b"unknown", 3) == set()


def test_a_context_is_one_round() -> None:
    rounds = ReadRounds()
    assert rounds.begin(b"a", REQUEST, 1)
    assert not rounds.begin(b"a", REQUEST, 2)
    assert [released.index for released in rounds.release(b"a")] == [1]


def test_rounds_and_postponed_requests_are_bounded() -> None:
    rounds = ReadRounds()
    assert all(rounds.begin(b"%d" % number, REQUEST, 1) for number in range(ROUNDS_MAX))
    assert not rounds.begin(b"one more", REQUEST, 1)
    assert all(rounds.postpone(REQUEST) for _ in range(ROUNDS_MAX))
    assert not rounds.postpone(REQUEST)


def test_postponed_requests_are_taken_once() -> None:
    rounds = ReadRounds()
    rounds.postpone(REQUEST)
    assert rounds.take_postponed() == [REQUEST]
    assert rounds.take_postponed() == []
