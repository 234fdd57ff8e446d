"""Replays interaction files: members of one group, their disks and the messages between them, one command at a time.

add-nodes 3 voters=(1,2,3) learners=(4) index=10 content=foo inflight=3 async-storage-writes=true prevote=true
          checkquorum=true max-committed-size-per-ready=1 disable-conf-change-validation=true
          read-only=lease-based step-down-on-removal=true
campaign ID · forget-leader ID · tick-election ID · tick-heartbeat ID · set-randomized-election-timeout ID timeout=5
propose ID DATA · propose-conf-change ID v1=true transition=explicit, with changes below: v1 l2 r3 u4
transfer-leadership from=1 to=2 · report-unreachable ON WHOM · send-snapshot FROM TO · compact ID INDEX
process-ready ID... · process-append-thread ID... · process-apply-thread ID... · deliver-msgs ID... drop=(2) type=MsgApp
stabilize ID... log-level=none · log-level debug|info|warn|error|fatal|none · raft-log ID · raft-state · status ID

Each prints what was done, with the lines that the members trace; `ok` if that is nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from kvorum.raft import change_codec
from kvorum.raft.core import Config, RawNode, Refusal, Role
from kvorum.raft.log import BYTES_UNLIMITED, MemoryStorage
from kvorum.raft.message import (
    APPEND_THREAD,
    APPLY_THREAD,
    ConfChange,
    ConfChangeTransition,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Snapshot,
    StorageMessage,
)
from kvorum.raft.replay import describe
from kvorum.raft.replay.confchange import parse_changes
from kvorum.raft.replay.datadriven import BadFile, Case
from kvorum.raft.trace import Level

LEVELS = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL", "NONE")
NONE_LEVEL = len(LEVELS) - 1
INFLIGHT_UNLIMITED = (1 << 31) - 1
TRANSITIONS = {
    "auto": ConfChangeTransition.AUTO,
    "implicit": ConfChangeTransition.JOINT_IMPLICIT,
    "explicit": ConfChangeTransition.JOINT_EXPLICIT,
}
THREADS = (APPEND_THREAD, APPLY_THREAD)
REQUESTS = (MessageType.VOTE, MessageType.PRE_VOTE)
KINDS = {name: kind for kind, name in describe.MESSAGES.items()}


class CommandFailed(Exception):
    """What a command prints in place of, or behind, the rest."""


class Disk(MemoryStorage):
    """A log storage whose newest snapshot is the state machine's: all that was applied, appended to each other."""

    __slots__ = ("applied",)

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__(snapshot=snapshot)
        self.applied = snapshot

    def snapshot(self) -> Snapshot:
        return self.applied


@dataclass(slots=True)
class Member:
    """One member, what its storage threads have yet to do, and the hard state in its last Ready."""

    node: RawNode
    disk: Disk
    hard_state: HardState
    append_work: list[StorageMessage] = field(default_factory=list)
    apply_work: list[StorageMessage] = field(default_factory=list)


def run(cases: list[Case]) -> list[str]:
    """What each case prints. Raises ValueError for a case that cannot be read."""
    group = Group()
    return [group.handle(case) for case in cases]


class Group:
    """The members, by ids from 1 on, and the messages that are under way."""

    def __init__(self) -> None:
        self._members: list[Member] = []
        self._messages: list[Message] = []
        self._lines: list[str] = []
        self._level = 0
        self._commands: dict[str, Callable[[Case], None]] = {
            "add-nodes": self._add_nodes,
            "campaign": lambda case: self._first(case).node.campaign(),
            "compact": self._compact,
            "deliver-msgs": self._deliver_msgs,
            "forget-leader": lambda case: self._first(case).node.forget_leader(),
            "log-level": lambda case: self._set_level(case.word(0)),
            "process-append-thread": lambda case: self._process(case, "processing append thread", self._append),
            "process-apply-thread": lambda case: self._process(case, "processing apply thread", self._apply),
            "process-ready": lambda case: self._process(case, "handling Ready", self._ready),
            "propose": self._propose,
            "propose-conf-change": self._propose_conf_change,
            "raft-log": lambda case: self._print_log(self._first(case)),
            "raft-state": self._print_states,
            "report-unreachable": self._report_unreachable,
            "send-snapshot": self._send_snapshot,
            "set-randomized-election-timeout": self._set_election_timeout,
            "stabilize": self._stabilize,
            "status": self._print_status,
            "tick-election": lambda case: self._tick(case, self._first(case).node.settings.election_ticks),
            "tick-heartbeat": lambda case: self._tick(case, self._first(case).node.settings.heartbeat_ticks),
            "transfer-leadership": self._transfer_leadership,
        }

    def handle(self, case: Case) -> str:
        """What the command prints. Raises ValueError if it cannot be read."""
        self._lines = []
        command = self._commands.get(case.command)
        try:
            if command is None:
                raise CommandFailed("unknown command")
            command(case)
        except CommandFailed as failure:
            self._lines.append(str(failure))  # also where nothing else is printed
        return "".join(self._lines).removesuffix("\n") or "ok"

    # -- printing

    def _print(self, text: str) -> None:
        if self._level < NONE_LEVEL:
            self._lines.append(text)

    def _trace(self, level: Level, template: str, *values: object) -> None:
        if self._level <= level:
            self._print(f"{level.name} {describe.traced(template, values)}\n")

    @contextmanager
    def _indented(self) -> Iterator[None]:
        before, self._lines = self._lines, []
        yield
        printed, self._lines = "".join(self._lines), before
        self._lines += [f"  {line}\n" for line in printed.splitlines()]

    def _set_level(self, name: str) -> None:
        if name.upper() not in LEVELS:
            raise CommandFailed(f"log levels must be either of [{' '.join(LEVELS)}]")
        self._level = LEVELS.index(name.upper())

    def _print_log(self, member: Member) -> None:
        first, last = member.disk.first_index, member.disk.last_index
        if last < first:
            self._print(f"log is empty: first index={first}, last index={last}")
        for entry in member.disk.entries(first, last + 1):
            self._print(f"{describe.entry(entry)}\n")

    def _print_states(self, _: Case) -> None:
        for member in self._members:
            node = member.node
            kind = "Voter" if node.id in node.config.all_voters else "Non-Voter"
            self._print(f"{node.id}: {describe.ROLES[node.role]} ({kind}) Term:{node.term} Lead:{node.leader}\n")

    def _print_status(self, case: Case) -> None:
        """Of who leads: others know nobody's progress."""
        node = self._first(case).node
        for id_, progress in node.tracked.items() if node.role is Role.LEADER else ():
            self._print(f"{id_}: {describe.progress(progress)}\n")

    # -- whom a command is about

    def _first(self, case: Case) -> Member:
        return self._member(case.word(0))

    def _named(self, case: Case) -> list[Member]:
        return [self._member(word) for word in case.words]

    def _member(self, word: str) -> Member:
        number = int(word)
        if not 0 < number <= len(self._members):
            raise ValueError(f"no member {word}")
        return self._members[number - 1]

    # -- what happens to a member

    def _add_nodes(self, case: Case) -> None:
        values = {argument.key: argument.values for argument in case.args}
        one = {key: given[0] for key, given in values.items() if given}
        conf_state = ConfState(tuple(map(int, values.get("voters", ()))), tuple(map(int, values.get("learners", ()))))
        snapshot = Snapshot(int(one.get("index", "0")), 0, conf_state, one.get("content", "").encode())
        if snapshot != Snapshot():
            if snapshot.index <= 1:
                raise CommandFailed("index must be specified as > 1 due to bootstrap")
            snapshot = Snapshot(snapshot.index, 1, snapshot.conf_state, snapshot.data)
        reads = one.get("read-only", "safe")
        if reads not in ("safe", "lease-based"):
            raise CommandFailed(f"invalid read-only option {describe.quoted(reads.encode())}")
        for _ in range(int(case.word(0))):
            config = Config(
                len(self._members) + 1,
                election_ticks=3,
                pre_vote=one.get("prevote") == "true",
                check_quorum=one.get("checkquorum") == "true",
                append_bytes_max=BYTES_UNLIMITED,
                inflight_max=int(one.get("inflight", INFLIGHT_UNLIMITED)),
                apply_bytes_max=int(one.get("max-committed-size-per-ready", BYTES_UNLIMITED)),
                async_storage_writes=one.get("async-storage-writes") == "true",
                tells_commit_at_once=True,
                steps_down_if_removed=one.get("step-down-on-removal") == "true",
                checks_changes=one.get("disable-conf-change-validation") != "true",
                reads_by_lease=reads == "lease-based",
            )
            disk = Disk(snapshot)
            node = RawNode(config, disk, applied=snapshot.index, random=lambda n: 0, trace=self._trace)
            self._members.append(Member(node, disk, HardState(node.term, node.vote, node.log.committed)))

    def _compact(self, case: Case) -> None:
        member = self._first(case)
        index = int(case.word(1))
        if index < member.disk.first_index:
            raise CommandFailed("requested index is unavailable due to compaction")
        member.disk.compact(index)
        self._print_log(member)

    def _propose(self, case: Case) -> None:
        if not self._first(case).node.propose([case.word(1).encode()]):
            raise CommandFailed(Refusal.DROPPED.value)

    def _propose_conf_change(self, case: Case) -> None:
        node = self._first(case).node
        changes = parse_changes(case.input)
        wanted = (case.values("transition") or ("auto",))[0]
        transition = TRANSITIONS.get(wanted)
        if transition is None:
            raise CommandFailed(f"unknown transition {wanted}")
        if case.values("v1") == ("true",):
            if len(changes) != 1 or transition is not ConfChangeTransition.AUTO:
                raise CommandFailed("v1 conf change can only have one operation and no transition")
            change = ConfChange(changes[0].type, changes[0].node_id)
            is_taken = node.propose_conf_change(change_codec.encode(change))
        else:
            is_taken = node.propose_conf_change_v2(ConfChangeV2(transition, changes))
        if not is_taken:
            raise CommandFailed(Refusal.DROPPED.value)

    def _report_unreachable(self, case: Case) -> None:
        on, whom = self._member(case.word(0)), self._member(case.word(1))
        on.node.report_unreachable(whom.node.id)

    def _send_snapshot(self, case: Case) -> None:
        sender, receiver = self._member(case.word(0)), self._member(case.word(1))
        message = Message(MessageType.SNAPSHOT, receiver.node.id, sender.node.id, sender.node.term)
        message.snapshot = sender.disk.snapshot()
        self._messages.append(message)
        self._print(describe.message(message))

    def _set_election_timeout(self, case: Case) -> None:
        self._first(case).node.election_timeout_ticks = int(case.value("timeout"))

    def _tick(self, case: Case, count: int) -> None:
        for _ in range(count):
            self._first(case).node.tick()

    def _transfer_leadership(self, case: Case) -> None:
        sender, to = self._member(case.value("from")), self._member(case.value("to"))
        sender.node.transfer_leader(to.node.id)

    # -- what is to be done

    def _process(self, case: Case, what: str, process: Callable[[Member], None]) -> None:
        members = self._named(case)
        for member in members:
            if len(members) == 1:
                process(member)
                continue
            self._print(f"> {member.node.id} {what}\n")
            with self._indented():
                process(member)

    def _ready(self, member: Member) -> None:
        node = member.node
        ready = node.ready()
        state, before = ready.hard_state or member.hard_state, member.hard_state
        must_sync = bool(ready.entries) or (state.term, state.vote) != (before.term, before.vote)
        member.hard_state = state
        # With etcd, requests for votes do not wait for the disk, and stand before what does.
        after = sorted(ready.messages_after_append, key=lambda message: message.type not in REQUESTS)
        messages = [*ready.messages, *after]
        self._print(describe.ready(ready, messages, must_sync=must_sync))
        for message in messages:
            if not isinstance(message, StorageMessage):
                self._messages.append(message)
            elif message.to == APPEND_THREAD:
                member.append_work.append(message)
            else:
                member.apply_work.append(message)
        if not node.settings.async_storage_writes:
            self._apply_entries(member, ready.committed)
            node.advance()

    def _append(self, member: Member) -> None:
        if not member.append_work:
            self._print("no append work to perform")
            return
        work = member.append_work.pop(0)
        responses, work.responses = work.responses, []
        self._print(f"Processing:\n{describe.message(work)}\n")
        if work.term or work.vote or work.commit:
            member.disk.set_hard_state(HardState(work.term, work.vote, work.commit))
        if work.snapshot is not None:
            member.disk.restore(work.snapshot)
        member.disk.append(work.entries)
        self._respond(responses)

    def _apply(self, member: Member) -> None:
        if not member.apply_work:
            self._print("no apply work to perform")
            return
        work = member.apply_work.pop(0)
        responses, work.responses = work.responses, []
        self._print(f"Processing:\n{describe.message(work)}\n")
        self._apply_entries(member, work.entries)
        self._respond(responses)

    def _respond(self, responses: list[Message]) -> None:
        self._print("Responses:\n")
        for message in responses:
            self._print(f"{describe.message(message)}\n")
        self._messages += responses

    @staticmethod
    def _apply_entries(member: Member, entries: Sequence[Entry]) -> None:
        disk = member.disk
        for entry in entries:
            conf_state, content = disk.applied.conf_state, entry.data
            if entry.type != EntryType.NORMAL:
                change = change_codec.decode(entry)
                conf_state, content = member.node.apply_conf_change(change), change.context
            disk.applied = Snapshot(entry.index, entry.term, conf_state, disk.applied.data + content)

    # -- messages

    def _deliver_msgs(self, case: Case) -> None:
        kind = None
        if case.values("type") is not None:
            kind = KINDS.get(case.value("type"))
            if kind is None:
                raise BadFile(f"line {case.line}: no message is a {case.value('type')}")
        count = 0
        for argument in case.args:
            if not argument.values:
                count += self._deliver(int(argument.key), kind)
            elif argument.key == "drop":
                count += sum(self._deliver(int(to), kind, drop=True) for to in argument.values)
        if count == 0:
            self._print("no messages\n")

    def _deliver(self, to: int, kind: MessageType | None = None, *, drop: bool = False) -> int:
        taken = self._take(to, kind, drop=drop)
        for message in taken:
            self._print(f"{'dropped: ' if drop else ''}{describe.message(message)}\n")
            if not drop:
                refusal = self._members[to - 1].node.step(message)
                if refusal is not None:
                    self._print(f"{refusal.value}\n")
        return len(taken)

    def _take(self, to: int, kind: MessageType | None, *, drop: bool) -> list[Message]:
        """Those under way to a member, in order. What its threads tell it is never dropped."""
        taken = [
            message
            for message in self._messages
            if message.to == to and kind in (None, message.type) and not (drop and is_own(message))
        ]
        self._messages = [message for message in self._messages if not any(message is other for other in taken)]
        return taken

    # -- until nothing is left to do

    def _stabilize(self, case: Case) -> None:
        members = self._named(case) or self._members
        level = self._level
        for name in case.values("log-level") or ():
            self._set_level(name)
        while sum(self._settle(members, *step) for step in self._steps()):  # each of them, then all again
            pass
        self._level = level

    def _steps(self) -> list[tuple[str, Callable[[Member], bool], Callable[[Member], object]]]:
        return [
            ("handling Ready", lambda member: member.node.has_ready(), self._ready),
            ("receiving messages", self._has_messages, lambda member: self._deliver(member.node.id)),
            ("processing append thread", lambda member: bool(member.append_work), self._append_all),
            ("processing apply thread", lambda member: bool(member.apply_work), self._apply_all),
        ]

    def _settle(
        self, members: list[Member], what: str, is_due: Callable[[Member], bool], act: Callable[[Member], object]
    ) -> bool:
        """Whether there was anything of this kind to do."""
        has_done = False
        for member in members:
            if is_due(member):
                self._print(f"> {member.node.id} {what}\n")
                with self._indented():
                    act(member)
                has_done = True
        return has_done

    def _has_messages(self, member: Member) -> bool:
        return any(message.to == member.node.id for message in self._messages)

    def _append_all(self, member: Member) -> None:
        while member.append_work:
            self._append(member)

    def _apply_all(self, member: Member) -> None:
        while member.apply_work:
            self._apply(member)


def is_own(message: Message) -> bool:
    return message.sender == message.to or message.sender in THREADS or message.to in THREADS
