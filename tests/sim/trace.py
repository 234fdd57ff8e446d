"""Traces: the actions of a run as a list, played again, and made smaller as long as the same promise is broken.

In a trace a message has a name, made of what is in it and how often the like was sent before, so that it is still found
when other actions have been left out. Making smaller is delta debugging (Zeller, ddmin): halves, quarters and so on are
left out while the run still fails in the same way. Bounded in time: what is smallest by then is shown.
"""

import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from kvorum.etcdpb.internal_pb2 import InternalRaftRequest
from kvorum.etcdpb.rpc_pb2 import RangeRequest
from kvorum.raft.message import Message
from kvorum.state.v2_request import is_v2_request

from tests.sim import metamorphic
from tests.sim.schedule import Action, Schedule
from tests.sim.violation import WAYS_PART, Violation
from tests.sim.world import Parts, World

Trace = list[tuple[float, Action]]  # when, in ticks, and what
LINE_CHARACTERS_MAX = 160


def failure_kind(error: BaseException) -> str:
    """What stays the same while a trace is made smaller: the promise, or the place in the product that gave up."""
    if isinstance(error, Violation):
        return error.kind
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.name}"


class Names:
    """A name for each message, and the message for each name. The same message again (a copy) has the same name."""

    def __init__(self) -> None:
        self.messages: dict[str, Message] = {}
        self._names: dict[int, str] = {}
        self._counts: Counter[str] = Counter()

    def add(self, message: Message) -> None:
        text = describe_message(message)
        self._counts[text] += 1
        name = f"{text} #{self._counts[text]}"
        self.messages[name] = message
        self._names[id(message)] = name  # held above, so no other gets its id

    def name(self, message: Message) -> str:
        return self._names[id(message)]


def record(seed: int, steps: int, parts: Parts) -> tuple[Trace, str]:
    """The actions of a run up to its failure, and the kind of that; ("", no actions) if it does not fail."""
    names = Names()

    def make_world(
        seed: int, parts: Parts, post: Callable[[Message], None], write_begun: Callable[[Any], None]
    ) -> World:
        def named_post(message: Message) -> None:
            names.add(message)
            post(message)

        return World(seed, parts, named_post, write_begun)

    recorded: Trace = []
    try:
        schedule = Schedule(seed, parts, make_world, recorded=recorded)
        schedule.run(steps)
        schedule.heal()
        _check_ways(schedule.world)
    except Exception as error:  # noqa: BLE001 - whatever the product raises is what is looked for
        kind = failure_kind(error)
    else:
        return [], ""
    return [(now, _with_names(action, names)) for now, action in recorded], kind


def _with_names(action: Action, names: Names) -> Action:
    return (action[0], names.name(action[1])) if action[0] == "deliver" else action


def _check_ways(world: World) -> None:
    metamorphic.check(world.judge, world.oracle.committed, world.seed, world.parts.member.machine_class)


def play(
    seed: int, parts: Parts, trace: Sequence[tuple[float, Action]], *, in_other_ways: bool = False
) -> BaseException | None:
    """Performs the actions in a new world, and nothing else; then whole logs are looked at. The failure, if there is
    one.

    in_other_ways: whether what was committed is applied in other ways, too, which takes longer.
    """
    names = Names()
    try:
        world = World(seed, parts, names.add, lambda member: None)
        for now, action in trace:
            world.now = now
            if action[0] == "deliver":
                message = names.messages.get(action[1])
                if message is None:
                    continue
                action = ("deliver", message)
            world.perform(action)
        world.oracle.audit(world.members.values())
        if in_other_ways:
            _check_ways(world)
    except Exception as error:  # noqa: BLE001 - whatever the product raises is what is looked for
        return error
    return None


def minimise(seed: int, parts: Parts, trace: Trace, kind: str, *, seconds: float) -> Trace:
    """A part of trace that still fails in the same way; the shortest that was found in the time.

    All of it where no action is to blame: a group that does not get well again (NOT_WELL).
    """
    deadline = time.monotonic() + seconds

    def fails(candidate: Trace) -> bool:
        error = play(seed, parts, candidate, in_other_ways=kind == WAYS_PART)
        return error is not None and failure_kind(error) == kind

    if not fails(trace):
        return trace
    for name in sorted({action[0] for _, action in trace}):
        without = [step for step in trace if step[1][0] != name]
        if fails(without):
            trace = without
    chunk = max(1, len(trace) // 2)
    while time.monotonic() < deadline:
        start, length_before = 0, len(trace)
        while start < len(trace) and time.monotonic() < deadline:
            candidate = trace[:start] + trace[start + chunk :]
            if fails(candidate):
                trace = candidate
            else:
                start += chunk
        if chunk == 1 and len(trace) == length_before:
            break
        chunk = max(1, chunk // 2)
    return trace


# -- for people


def describe_message(message: Message) -> str:
    text = f"{message.sender}>{message.to} {message.type.name.lower()} term {message.term}"
    if message.index or message.log_term:
        text += f" at {message.log_term}/{message.index}"
    if message.entries:
        entries = message.entries
        text += f" entries {entries[0].term}/{entries[0].index}"
        if len(entries) > 1:
            text += f"..{entries[-1].term}/{entries[-1].index}"
    if message.commit:
        text += f" commit {message.commit}"
    if message.snapshot is not None:
        text += f" snapshot {message.snapshot.term}/{message.snapshot.index}"
    if message.reject:
        text += f" reject hint {message.reject_hint}"
    return text


def describe(trace: Sequence[tuple[float, Action]]) -> list[str]:
    """A line for each action."""
    return [f"{now:8.2f} {_describe_action(*action)}"[:LINE_CHARACTERS_MAX] for now, action in trace]


def _describe_action(name: str, *arguments: Any) -> str:
    if name == "request":
        number, request_id, data = arguments
        what = "publish" if is_v2_request(data) else " ".join(str(InternalRaftRequest.FromString(data)).split())
        return f"request {request_id} at {number}: {what}"
    if name == "read":
        return f"read at {arguments[0]}: {' '.join(str(RangeRequest.FromString(arguments[1])).split())}"
    if name in ("cut", "mend"):
        return f"{name} {' '.join(f'{a}>{b}' for a, b in arguments[0])}"
    return " ".join(map(str, (name, *arguments)))
