"""Replays confchange files: what changes make of a configuration, and of the progress of its members.

simple            one change in all        v1 l2 r3 u4: make 1 a voter, 2 a learner, remove 3, update 4
enter-joint       any changes              autoleave=true is kept with the configuration
leave-joint
"""

from kvorum.raft.config_change import Configuration, ImpossibleChange
from kvorum.raft.message import ConfChangeSingle, ConfChangeType
from kvorum.raft.progress import Progress
from kvorum.raft.replay import describe
from kvorum.raft.replay.datadriven import Case

INFLIGHT_MAX = 10
CHANGES = {
    "v": ConfChangeType.ADD_NODE,
    "l": ConfChangeType.ADD_LEARNER,
    "r": ConfChangeType.REMOVE_NODE,
    "u": ConfChangeType.UPDATE_NODE,
}


def run(cases: list[Case]) -> list[str]:
    """What each case prints. The log is one entry longer with every case, also with one that is refused.

    Raises ValueError for an input that names no change.
    """
    configuration = Configuration()
    tracked: dict[int, Progress] = {}
    printed: list[str] = []
    for last_index, case in enumerate(cases):
        try:
            configuration = _changed(configuration, case)
        except ImpossibleChange as error:
            printed.append(str(error))
            continue
        tracked = {
            member: tracked.get(member)
            or Progress(next_index=max(last_index, 1), inflight_max=INFLIGHT_MAX, active=True)
            for member in sorted(configuration.members)
        }
        lines = [describe.configuration(configuration)]
        for member, progress in tracked.items():
            progress.is_learner = member in configuration.learners
            lines.append(f"{member}: {describe.progress(progress)}")
        printed.append("\n".join(lines))
    return printed


def _changed(configuration: Configuration, case: Case) -> Configuration:
    changes = parse_changes(case.input)
    if case.command == "simple":
        return configuration.simple(changes)
    if case.command == "enter-joint":
        return configuration.enter_joint(changes, auto_leave=case.values("autoleave") == ("true",))
    if case.command == "leave-joint":
        return configuration.leave_joint()
    raise ImpossibleChange("unknown command")


def parse_changes(text: str) -> tuple[ConfChangeSingle, ...]:
    """`v1 l2 r3 u4`. Raises ValueError for anything else."""
    for word in text.split():
        if word[0] not in CHANGES or not word[1:].isdigit():
            raise ValueError(f"{word!r} is no change: v1, l1, r1 and u1 are")
    return tuple(ConfChangeSingle(CHANGES[word[0]], int(word[1:])) for word in text.split())
