"""A core in the place of each member of a real etcd 3.5.30 says what that member said, word for word.

testdata/etcd-life.jsonl: the raft messages between three members and a fourth that joins, in the order a proxy saw
them: bootstrap, proposals and reads through followers, a leadership transfer, a learner that is promoted and removed,
auth. Left out: heartbeats without a context, and their answers. Entries as [type, term, index, data].
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from kvorum.raft import change_codec
from kvorum.raft.core import Config, RawNode, Role
from kvorum.raft.log import MemoryStorage
from kvorum.raft.message import Entry, EntryType, HardState, Message, MessageType

TYPES = {
    "MsgProp": MessageType.PROPOSE,
    "MsgApp": MessageType.APPEND,
    "MsgAppResp": MessageType.APPEND_REPLY,
    "MsgVote": MessageType.VOTE,
    "MsgVoteResp": MessageType.VOTE_REPLY,
    "MsgHeartbeat": MessageType.HEARTBEAT,
    "MsgHeartbeatResp": MessageType.HEARTBEAT_REPLY,
    "MsgTimeoutNow": MessageType.TIMEOUT_NOW,
    "MsgReadIndex": MessageType.READ_INDEX,
    "MsgReadIndexResp": MessageType.READ_INDEX_REPLY,
    "MsgPreVote": MessageType.PRE_VOTE,
    "MsgPreVoteResp": MessageType.PRE_VOTE_REPLY,
}
N1, N2, N3, N4 = 0x55D08C339832BAE9, 0x831BA729F7C3E122, 0xB0046E73A70A4081, 0xB18ED2EFBE3A4DF9


def captured() -> Iterator[Message]:
    for line in (Path(__file__).parent / "testdata" / "etcd-life.jsonl").read_text().splitlines():
        row = json.loads(line)
        yield Message(
            TYPES[row["type"]],
            to=int(row["to"], 16),
            sender=int(row["from"], 16),
            term=row["term"],
            log_term=row.get("logTerm", 0),
            index=row.get("index", 0),
            entries=[
                Entry(term, index, bytes.fromhex(data), kind) for kind, term, index, data in row.get("entries", ())
            ],
            commit=row.get("commit", 0),
            reject=row.get("reject", False),
            reject_hint=row.get("rejectHint", 0),
            context=bytes.fromhex(row.get("context", "")),
        )


MESSAGES = list(captured())
WHOLE_LOG = next(m.entries for m in MESSAGES if m.to == N4 and m.index == 0 and m.entries)  # what the fourth was sent
BOOTSTRAP = WHOLE_LOG[:3]


class Member:
    """Our core under the name of a captured member. What its server did shows in what it said, and is done here too."""

    def __init__(self, member: int) -> None:
        self.id = member
        self.said: list[Message] = []
        self.expected: list[Message] = []
        is_first = member != N4
        storage = MemoryStorage(
            hard_state=HardState(1, 0, len(BOOTSTRAP)) if is_first else None, entries=BOOTSTRAP if is_first else ()
        )
        self.node = RawNode(Config(member), storage, applied=0, random=lambda n: 0)
        self.log: list[Entry] = []
        self._pump()

    def replay(self) -> None:
        contexts: set[bytes] = set()
        for message in MESSAGES:
            if message.to == self.id and message.type is MessageType.PROPOSE:
                # The order among proposals that came together shows in the appends only, so they are made from those.
                assert self.node.role is Role.LEADER
            elif message.to == self.id:
                self.node.step(message)
                contexts.add(message.context)
            elif message.sender == self.id:
                self._prompted(message)
                # An answer to a heartbeat that the proxy did not write down cannot be expected.
                if message.type is not MessageType.HEARTBEAT_REPLY or message.context in contexts:
                    self.expected.append(message)
            self._pump()

    def _prompted(self, message: Message) -> None:
        node = self.node
        is_leader = node.role is Role.LEADER
        if message.type is MessageType.PRE_VOTE and node.role is Role.FOLLOWER:
            node.campaign()
        elif message.type is MessageType.PROPOSE:
            node.propose([entry.data for entry in message.entries])
        elif message.type is MessageType.READ_INDEX or (message.type is MessageType.HEARTBEAT and is_leader):
            node.read_index(message.entries[0].data if message.entries else message.context)
        elif message.type is MessageType.TIMEOUT_NOW:
            node.transfer_leader(message.to)
        elif message.type is MessageType.APPEND and is_leader:
            for entry in message.entries:
                if entry.index > node.log.last_index and entry.type == EntryType.NORMAL:
                    node.propose([entry.data])
                elif entry.index > node.log.last_index:
                    node.propose_conf_change(entry.data)

    def _pump(self) -> None:
        node = self.node
        while node.has_ready():
            ready = node.ready()
            self.said += ready.messages + ready.messages_after_append
            for entry in ready.committed:
                self.log.append(entry)
                if entry.type != EntryType.NORMAL:
                    node.apply_conf_change(change_codec.decode_single(entry.data))
            node.advance()


def in_words(message: Message) -> str:
    entries = [(entry.type, entry.term, entry.index, entry.data) for entry in message.entries]
    return repr((message.type.name, message.to, message.term, message.log_term, message.index, message.commit)) + repr(
        (message.reject, message.reject_hint, message.context, entries)
    )


def missing(expected: list[Message], said: list[Message]) -> list[str]:
    """What was to be said and was not, in this order."""
    words = iter([in_words(message) for message in said])
    return [in_words(message) for message in expected if in_words(message) not in words]


@pytest.mark.parametrize(
    ("member", "role"), [(N1, Role.LEADER), (N2, Role.FOLLOWER), (N3, Role.FOLLOWER), (N4, Role.FOLLOWER)]
)
def test_core_says_what_etcd_said(member: int, role: Role) -> None:
    played = Member(member)
    played.replay()
    # Appends depend on what lay in the queue at the moment: those are compared by their content below.
    kinds = {message.type for message in played.expected} - {MessageType.APPEND}
    for kind in kinds:
        for to in {message.to for message in played.expected}:
            expected = [message for message in played.expected if (message.type, message.to) == (kind, to)]
            said = [message for message in played.said if (message.type, message.to) == (kind, to)]
            assert missing(expected, said) == [], kind
    assert played.node.role is role
    assert played.node.term == 3


@pytest.mark.parametrize("member", [N1, N2, N3])
def test_core_holds_the_log_that_etcd_sent(member: int) -> None:
    played = Member(member)
    played.replay()
    log = {entry.index: entry for entry in played.log}
    assert played.log == [log[index] for index in range(1, 41)]
    for message in MESSAGES:
        if message.type is MessageType.APPEND:
            for entry in message.entries:
                assert log[entry.index] == entry
            assert message.log_term == (log[message.index].term if message.index else 0)
    assert played.node.config.state().voters == (N1, N2, N3)


def test_every_kind_of_message_was_captured() -> None:
    assert {message.type for message in MESSAGES} == set(TYPES.values())
