"""Values as etcd's raft writes them, where no replayed file shows it."""

import pytest
from kvorum.raft import change_codec
from kvorum.raft.core import Ready
from kvorum.raft.message import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    Entry,
    EntryType,
    Message,
    MessageType,
    ReadState,
)
from kvorum.raft.replay import describe


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", '""'),
        (b"a b", '"a b"'),
        (b'"\\\n\t\x00\x7f', r'"\"\\\n\t\x00\x7f"'),
        ("é世".encode(), '"é世"'),
        (b"\xff\xc3", r'"\xff\xc3"'),
        ("\u200b".encode(), r'"\u200b"'),
    ],
)
def test_data_is_quoted_as_go_does(data: bytes, text: str) -> None:
    assert describe.quoted(data) == text


def test_a_change_in_a_trace_is_a_structure_of_go() -> None:
    first = ConfChange(ConfChangeType.REMOVE_NODE, 7, 5, b"ab")
    singles = (ConfChangeSingle(ConfChangeType.ADD_LEARNER, 3), ConfChangeSingle(ConfChangeType.UPDATE_NODE, 4))
    second = ConfChangeV2(ConfChangeTransition.JOINT_EXPLICIT, singles)
    for change, kind, text in (
        (first, EntryType.CONF_CHANGE, "{ConfChangeRemoveNode 7 [97 98] 5}"),
        (
            second,
            EntryType.CONF_CHANGE_V2,
            "{ConfChangeTransitionJointExplicit [{ConfChangeAddLearnerNode 3} {ConfChangeUpdateNode 4}] []}",
        ),
    ):
        assert describe.traced("%x: %s", (31, Entry(0, 0, change_codec.encode(change), kind))) == f"1f: {text}"


def test_members_are_hexadecimal_where_messages_go() -> None:
    assert describe.message(Message(MessageType.HEARTBEAT, to=0xAB)) == "None->ab MsgHeartbeat Term:0 Log:0/0"


def test_reads_are_told_with_their_contexts_as_numbers() -> None:
    reads = [ReadState(11, b"\x01\x02"), ReadState(12, b"")]
    ready = Ready(None, None, (), None, False, [], [], (), reads)
    assert describe.ready(ready, [], must_sync=False) == "Ready MustSync=false:\nReadStates [{11 [1 2]} {12 []}]\n"


def test_every_message_has_its_name() -> None:
    assert set(describe.MESSAGES) == set(MessageType)
