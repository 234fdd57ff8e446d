"""Replays quorum files: which index two halves of a configuration have agreed on, and what votes decide.

    committed cfg=(1,2,3) cfgj=(4) idx=(100,_,99,7)
    vote cfg=(1,2,3) votes=(y,n,_)

cfg is one half, cfgj the other one (`zero`: joint with an empty half), idx and votes go by the order in which the
members first appear; `_` is a member that said nothing.
"""

from kvorum.raft import quorum
from kvorum.raft.quorum import VoteOutcome
from kvorum.raft.replay.datadriven import Case

OUTCOMES = {VoteOutcome.WON: "VoteWon", VoteOutcome.LOST: "VoteLost", VoteOutcome.PENDING: "VotePending"}


def run(cases: list[Case]) -> list[str]:
    """What each case prints. Raises ValueError where the values do not fit the members."""
    return [_run(case) for case in cases]


def _run(case: Case) -> str:
    majority, joint = _ids(case.values("cfg")), _ids(case.values("cfgj"))
    voters = list(dict.fromkeys((*majority, *joint)))  # in the order of their values
    halves = [set(half) for half in (majority, joint) if half]
    if case.command == "vote":
        votes = dict(zip(voters, case.values("votes") or (), strict=True))
        return OUTCOMES[quorum.vote_outcome(halves, {id_: vote == "y" for id_, vote in votes.items() if vote != "_"})]
    if case.command != "committed":
        return "unknown command"
    told = dict(zip(voters, case.values("idx") or (), strict=True))
    indexes = {id_: int(index) for id_, index in told.items() if index != "_"}
    if not halves:  # no majority of nobody is missing
        return "<empty majority quorum>∞"
    agreed = quorum.agreed_index([indexes.get(id_, 0) for id_ in half] for half in halves)
    return "\n".join([*_drawn(sorted(voters), indexes), str(agreed)])


def _ids(values: tuple[str, ...] | None) -> list[int]:
    return [int(value) for value in values or () if value != "zero"]


def _drawn(voters: list[int], indexes: dict[int, int]) -> list[str]:
    """A line a member, with a bar as long as there are members behind it; none if another one is level with it."""
    count = len(voters)
    by_index = sorted(voters, key=lambda id_: (indexes.get(id_, 0), id_))
    lines = [" " * count + "    idx"]
    for id_ in voters:
        index, place = indexes.get(id_), by_index.index(id_)
        is_level = place > 0 and indexes.get(by_index[place - 1], 0) == (index or 0)
        bar = 0 if is_level else place
        head = "?" + " " * count if index is None else "x" * bar + ">" + " " * (count - bar)
        lines.append(f"{head} {index or 0:5d}    (id={id_})")
    return lines
