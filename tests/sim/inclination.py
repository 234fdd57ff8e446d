"""What a world is inclined to: six of eight seeds in a row try what chance alone seldom brings about.

Some mistakes show only where three rare things meet: a learner beside two voters, a leader that comes back with entries
of its own after two others have led, a lease of a second while leaders change. Chance finds them in a hundred thousand
steps; such a world in a few thousand. An inclination changes how often things happen, never what is right, and the
other two of eight are whatever is drawn. Knows numbers only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Coup:
    """How a leader is replaced that is cut off. Times are in ticks."""

    cut: Range = (5.0, 20.0)  # how long it is cut off
    asks: tuple[int, int] = (2, 8)  # what clients ask of it meanwhile
    looks: int = 0  # and how often they read there, at any time until it is connected again
    second: float = 0.6  # chance that the next one is replaced as well
    reign: Range = (3.0, 15.0)  # after which that happens
    waits: bool = False  # for the next one to be elected; else it may be the same again


@dataclass(frozen=True, slots=True)
class Inclination:
    """As it stands: none. faults, core: fields of schedule.Faults and the core's Config with a value of their own."""

    name: str = "any"
    sizes: tuple[int, ...] = (1, 2, 2, 3, 3, 3, 3, 4, 4, 5, 7)  # of the group at first: one of these
    faults: Mapping[str, Any] = field(default_factory=dict)
    core: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""  # a name out of schedule.FAVOURITES: most faults are that
    coup: Coup = Coup()
    dies_of_a_vote: float = 0.1  # chance that the power goes right after a vote is on the disk
    likes_joint: bool | None = None  # None: as is drawn
    patience: float | None = None  # chance that a learner is left alone for another while; None: as is drawn
    keeps_even: bool = False  # voters, with a learner beside them
    lease_ttls_s: tuple[int, ...] = (1, 2, 3, 5)
    lease_operations: int = 0  # of a client, beside the common ones


ANY = Inclination()
LEARNERS = Inclination(  # beside two voters, where one vote more makes a majority of one of them
    name="learners",
    sizes=(2,),
    faults={
        "delay_max": 2.0,
        "is_orderly": False,
        "write_ticks_max": 2.0,
        "fault_every": 25.0,
        "upkeep_every": 1.0,
        "compaction": 0.3,
        "client_every": 0.4,
        "change_share": 0.2,
        "transfer_share": 0.01,
    },
    core={"append_bytes_max": 1 << 20, "inflight_max": 512},
    likes_joint=False,
    keeps_even=True,
    patience=0.97,
)
OVERTHROWS = Inclination(  # a leader comes back with entries of its own when two others have led
    name="overthrows",
    sizes=(3, 3, 5),
    faults={
        "delay_max": 0.6,
        "write_ticks_max": 0.5,
        "fault_every": 8.0,
        "client_every": 1.0,
        "change_share": 0.03,
        "compaction": 0.0,
    },
    core={"check_quorum": False, "append_bytes_max": 1, "inflight_max": 2},
    fault="coup",
    coup=Coup(cut=(12.0, 30.0), asks=(6, 14), looks=8, second=0.9, reign=(3.0, 8.0), waits=True),
    likes_joint=False,
)
CANDIDATES = Inclination(  # several at once ask for votes, of members that die over them, also while joint
    name="candidates",
    sizes=(3, 4, 5),
    faults={"fault_every": 8.0, "delay_max": 3.0, "is_orderly": False, "change_share": 0.2},
    core={"pre_vote": False, "check_quorum": False},
    fault="upheaval",
    dies_of_a_vote=0.5,
    likes_joint=True,
)
LEASES = Inclination(  # short ones, renewed by clients while leaders change, and those of before live and believe on
    name="leases",
    sizes=(3,),
    faults={
        "delay_max": 0.2,
        "write_ticks_max": 0.5,
        "dies_written": 0.0,
        "fault_every": 25.0,
        "client_every": 0.4,
        "change_share": 0.03,
        "transfer_share": 0.1,
    },
    core={"check_quorum": False, "append_bytes_max": 1 << 20, "inflight_max": 512},
    fault="coup",
    coup=Coup(cut=(10.0, 25.0), asks=(4, 8), looks=8, second=0.0),
    lease_ttls_s=(1, 1, 2),
    lease_operations=12,
)
JOINT = Inclination(  # several voters for others at once, caught up by snapshots, while nobody is sure who leads
    name="joint",
    sizes=(3,),
    faults={"fault_every": 8.0, "upkeep_every": 1.0, "compaction": 0.3, "change_share": 0.3},
    core={"append_bytes_max": 1 << 20, "inflight_max": 512},
    fault="upheaval",
    likes_joint=True,
)

TURNS = (LEARNERS, ANY, OVERTHROWS, LEASES, CANDIDATES, LEASES, JOINT, ANY)


def inclination_of(seed: int) -> Inclination:
    """Worlds take turns, so that no eight in a row lack one."""
    return TURNS[seed % len(TURNS)]
