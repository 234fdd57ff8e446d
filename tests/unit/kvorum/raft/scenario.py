"""One member in a text: what happens to it, and what it then says, stores and applies.

A file holds blocks: comment lines, what happens, `----`, what was seen. `member` begins with a new one, other blocks go
on with the same. Knows the core's interface only; the words of a message are its fields' names.
"""

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kvorum.raft.core import Config, RawNode, Ready, Role
from kvorum.raft.log import MemoryStorage
from kvorum.raft.message import (
    NONE,
    ConfChange,
    ConfChangeType,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Snapshot,
)

MESSAGES = {kind.name.lower().replace("_", "-"): kind for kind in MessageType}
CHANGES = {
    "add": ConfChangeType.ADD_NODE,
    "learn": ConfChangeType.ADD_LEARNER,
    "remove": ConfChangeType.REMOVE_NODE,
    "update": ConfChangeType.UPDATE_NODE,
}


@dataclass(slots=True)
class Block:
    """comments and happens as written; seen as the file has it."""

    comments: list[str] = field(default_factory=list)
    happens: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def text(self) -> str:
        return "\n".join([*self.comments, *self.happens, "----", *self.seen]) + "\n"


def blocks(path: Path) -> Iterator[Block]:
    """The blocks of a file; an empty line ends each."""
    for part in path.read_text().strip().split("\n\n"):
        head, _, seen = part.partition("\n----")
        lines = head.splitlines()
        yield Block(
            [line for line in lines if line.startswith("#")],
            [line for line in lines if not line.startswith("#")],
            seen.strip("\n").splitlines(),
        )


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)


def described_entry(entry: Entry) -> str:
    mark = "!" if entry.type == EntryType.CONF_CHANGE else ":" if entry.data else ""
    return f"{entry.term}/{entry.index}{mark}{entry.data.decode()}"


def described_message(message: Message) -> str:
    """Without to whom it goes, so that the same word to several is one line."""
    words = [f"{message.sender}->{message.type.name.lower().replace('_', '-')}"]
    for name, value in (
        ("term", message.term),
        ("log", f"{message.log_term}/{message.index}" if message.index or message.log_term else ""),
        ("commit", message.commit),
        ("context", message.context.decode()),
        ("refused, hint", message.reject_hint if message.reject else ""),
        ("entries", ",".join(described_entry(entry) for entry in message.entries)),
    ):
        if value not in (0, ""):
            words.append(f"{name}={value}")
    if message.reject and not message.reject_hint:
        words.append("refused")
    if message.snapshot is not None:
        words.append(f"snapshot={message.snapshot.term}/{message.snapshot.index}")
    return " ".join(words)


class Scenario:
    """Carries one member from block to block."""

    def __init__(self) -> None:
        self._storage = MemoryStorage()
        self._node = RawNode(Config(1), self._storage, applied=0, random=lambda n: 0)
        self._held: Ready | None = None
        self._holds = False
        self._seen: list[str] = []

    def answer(self, block: Block) -> list[str]:
        """What is seen when the block's lines happen."""
        self._seen = []
        for line in block.happens:
            words = shlex.split(line)
            if words[0].isdigit():
                self._node.step(self._message(words))
            else:
                action: Callable[[list[str]], None] = getattr(self, f"_do_{words[0].replace('-', '_')}")
                action(words[1:])
        self._pump()
        self._seen.append(self._described())
        return self._seen

    # -- what happens

    def _do_member(self, words: list[str]) -> None:
        """voters, learners: ids. log: the terms of its entries, TERM!change for a conf change. random: 0 to 9."""
        given = dict(word.split("=", 1) for word in words[1:])
        entries: list[Entry] = []
        for index, word in enumerate(filter(None, given.pop("log", "").split(",")), 1):
            term, is_change, data = word.partition("!")
            kind = EntryType.CONF_CHANGE if is_change else EntryType.NORMAL
            entries.append(Entry(int(term), index, data.encode(), kind))
        applied, random = int(given.pop("applied", 0)), int(given.pop("random", 0))
        self._storage = MemoryStorage(
            hard_state=HardState(
                int(given.pop("term", 0)), int(given.pop("vote", 0)), int(given.pop("commit", str(applied)))
            ),
            conf_state=ConfState(numbers(given.pop("voters", "")), numbers(given.pop("learners", ""))),
            entries=entries,
        )
        config = Config(
            int(words[0]),
            pre_vote=given.pop("pre-vote", "yes") == "yes",
            check_quorum=given.pop("check-quorum", "yes") == "yes",
            inflight_max=int(given.pop("inflight", 512)),
            append_bytes_max=int(given.pop("append-bytes", 1 << 20)),
        )
        assert not given, f"not known: {given}"
        self._held, self._holds = None, False
        self._node = RawNode(config, self._storage, applied=applied, random=lambda n: random % n)

    def _do_tick(self, words: list[str]) -> None:
        for _ in range(int(words[0]) if words else 1):
            self._node.tick()

    def _do_campaign(self, _: list[str]) -> None:
        self._node.campaign()

    def _do_becomes_leader(self, _: list[str]) -> None:
        """By the votes of all; nobody has acknowledged its first entry."""
        node = self._node
        node.campaign()
        self._pump()
        if node.role is Role.PRE_CANDIDATE:
            self._vote(MessageType.PRE_VOTE_REPLY, node.term + 1)
        self._pump()
        if node.role is Role.CANDIDATE:
            self._vote(MessageType.VOTE_REPLY, node.term)
        self._pump()
        assert node.role is Role.LEADER
        self._seen = []

    def _do_replicated(self, _: list[str]) -> None:
        """All others have acknowledged the whole log, and everything is applied."""
        self._pump()
        for member in self._node.tracked:
            if member != self._node.id:
                self._node.step(
                    Message(
                        MessageType.APPEND_REPLY,
                        sender=member,
                        term=self._node.term,
                        index=self._node.log.last_index,
                    )
                )
        self._pump()
        self._seen = []

    def _do_holds(self, _: list[str]) -> None:
        """The disk takes its time from here on: a Ready is given out, and not done."""
        self._holds = True

    def _do_synced(self, _: list[str]) -> None:
        """The disk is done with the Ready that was given out, and fast again."""
        self._holds = False
        assert self._held is not None
        held, self._held = self._held, None
        self._finish(held)

    def _do_propose(self, words: list[str]) -> None:
        self._said(self._node.propose([word.encode() for word in words]))

    def _do_change(self, words: list[str]) -> None:
        self._said(self._node.propose_conf_change("_".join(words).encode()))

    def _do_read(self, words: list[str]) -> None:
        self._said(self._node.read_index(words[0].encode()))

    def _do_transfer(self, words: list[str]) -> None:
        self._node.transfer_leader(int(words[0]))

    def _do_unreachable(self, words: list[str]) -> None:
        self._node.report_unreachable(int(words[0]))

    def _do_snapshot(self, words: list[str]) -> None:
        """snapshot arrived ID, snapshot failed ID: what the transport says of one that was sent."""
        self._node.report_snapshot(int(words[1]), words[0] == "arrived")

    def _do_compact(self, words: list[str]) -> None:
        """A snapshot of all that is applied is made, and the log before and at the index is dropped."""
        self._pump()
        self._storage.create_snapshot(self._node.log.applied, self._node.config.state(), b"state")
        self._storage.compact(int(words[0]))

    def _message(self, words: list[str]) -> Message:
        given = dict(word.partition("=")[::2] for word in words[2:])
        message = Message(MESSAGES[words[1]], sender=int(words[0]), to=self._node.id)
        message.term = int(given.pop("term", 0))
        log_term, _, index = given.pop("log", "0/0").partition("/")
        message.log_term, message.index = int(log_term), int(index)
        message.commit = int(given.pop("commit", 0))
        message.reject = given.pop("refused", None) is not None
        message.reject_hint = int(given.pop("hint", 0))
        message.context = given.pop("context", "").encode()
        message.entries = [
            self._entry(word, message.index + offset)
            for offset, word in enumerate(filter(None, given.pop("entries", "").split(",")), 1)
        ]
        snapshot = given.pop("snapshot", "")
        if snapshot:
            term, _, at = snapshot.partition("/")
            conf_state = ConfState(numbers(given.pop("voters", "")), numbers(given.pop("learners", "")))
            message.snapshot = Snapshot(int(at), int(term), conf_state, b"state")
        assert not given, f"not known: {given}"
        return message

    @staticmethod
    def _entry(word: str, index: int) -> Entry:
        """TERM, TERM:data or TERM!change; without a term (0) the index is none either, as in a forwarded proposal."""
        term, is_change, data = word.partition("!")
        kind = EntryType.CONF_CHANGE if is_change else EntryType.NORMAL
        if not is_change:
            term, _, data = word.partition(":")
        return Entry(int(term), index if int(term) else 0, data.encode(), kind)

    def _vote(self, kind: MessageType, term: int) -> None:
        for member in sorted(self._node.config.all_voters - {self._node.id}):
            self._node.step(Message(kind, sender=member, term=term))

    # -- what is seen

    def _said(self, is_taken: bool) -> None:
        if not is_taken:
            self._seen.append("dropped")

    def _pump(self) -> None:
        node = self._node
        while self._held is None and node.has_ready():
            ready = node.ready()
            self._see_messages("says", ready.messages)
            stored = [described_entry(entry) for entry in ready.entries]
            if ready.snapshot is not None:
                stored.insert(0, f"snapshot={ready.snapshot.term}/{ready.snapshot.index}")
            if ready.hard_state is not None:
                state = ready.hard_state
                stored.append(f"term={state.term} vote={state.vote} commit={state.commit}")
            if stored:
                self._seen.append(f"{'stores':9} {' '.join(stored)}{'' if ready.must_sync else ' (no sync)'}")
            if self._holds:
                self._held = ready
            else:
                self._finish(ready)

    def _finish(self, ready: Ready) -> None:
        self._see_messages("then says", ready.messages_after_append)
        if ready.committed:
            self._seen.append(f"{'applies':9} {' '.join(described_entry(entry) for entry in ready.committed)}")
        for entry in ready.committed:
            if entry.type != EntryType.NORMAL:
                verb, _, number = entry.data.decode().partition("_")
                member = int(number) if verb in CHANGES else NONE
                self._node.apply_conf_change(ConfChange(CHANGES.get(verb, ConfChangeType.ADD_NODE), member))
        self._see("reads", [f"{state.context.decode()} at {state.index}" for state in ready.read_states])
        self._node.advance()

    def _see_messages(self, what: str, messages: list[Message]) -> None:
        """A line for what is said to several in a row, and a count for what is said over and over."""
        said: list[tuple[str, list[str]]] = []
        for message in messages:
            text = described_message(message)
            if said and said[-1][0] == text and str(message.to) not in said[-1][1]:
                said[-1][1].append(str(message.to))
            else:
                said.append((text, [str(message.to)]))
            head = f"{message.sender}->"
            assert text.startswith(head), text
        lines = [f"{text.split('->')[0]}->{','.join(to)} {text.split('->', 1)[1]}" for text, to in said]
        for position, line in enumerate(lines):
            if position == 0 or lines[position - 1] != line:
                count = next((n for n, other in enumerate(lines[position:]) if other != line), len(lines) - position)
                self._see(what, [line if count == 1 else f"{line} ({count} times)"])

    def _see(self, what: str, lines: list[str]) -> None:
        self._seen.extend(f"{what:9} {line}" for line in lines)

    def _described(self) -> str:
        node = self._node
        log = node.log
        words = [
            f"{'is':9} {node.role.value} term={node.term} vote={node.vote} leader={node.leader}",
            f"log={log.last_term}/{log.last_index} committed={log.committed} applied={log.applied}",
        ]
        state = node.config.state()
        words.append(f"voters={','.join(map(str, state.voters))}")
        if state.learners:
            words.append(f"learners={','.join(map(str, state.learners))}")
        if log.first_index > 1:
            words.append(f"first={log.first_index}")
        if node.leader_transferee:
            words.append(f"transfer={node.leader_transferee}")
        if node.role is Role.LEADER:
            for member, progress in node.tracked.items():
                if member != node.id:
                    kind = " learner" if progress.is_learner else ""
                    paused = " paused" if progress.is_paused else ""
                    words.append(
                        f"| {member} {progress.state.value} match={progress.match} next={progress.next}{kind}{paused}"
                    )
        return " ".join(words)
