"""What a person sees of a local cluster: a live table on a terminal, lines of text elsewhere.

Shows an outcome and knows nothing else; a line is printed when what it says has changed.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kvorum_operator.api.v1alpha1 import Condition, MemberStatus, Status
from kvorum_operator.cluster.step import Hold, Step
from kvorum_operator.reconcile import Outcome

COLUMNS = ("MEMBER", "ROLE", "STATE", "ENGINE", "REVISION", "LAG", "SIZE", "HEALTHY", "WHY")
REFRESHES_PER_S = 4


@dataclass(frozen=True, slots=True)
class Hints:
    """What to do with the cluster: a command that works as it stands."""

    title: str
    command: str


class Screen(Protocol):
    def say(self, kind: str, text: str) -> None: ...
    def show(self, outcome: Outcome) -> None: ...
    def close(self) -> None: ...


class Lines:
    """One line for each thing that happens, and the table when the cluster becomes ready."""

    def __init__(self, hints: Hints) -> None:
        self._hints = hints
        self._last = ""
        self._ready = False

    def say(self, kind: str, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')}  {kind:<6} {text}", flush=True)  # noqa: T201 - this is the program's output

    def show(self, outcome: Outcome) -> None:
        said = happenings(outcome)
        for kind, text in said:
            if kind == "step" or self._last != text:  # a step is news each time
                self.say(kind, text)
            self._last = text
        if outcome.ready and not self._ready:
            self._last = ""
            self.say("ready", ready_condition(outcome.status).message)
            self._show_table(outcome.status)
        elif self._ready and not outcome.ready and not said:
            self.say("change", ready_condition(outcome.status).message)
        self._ready = outcome.ready

    def _show_table(self, status: Status) -> None:
        rows = [COLUMNS, *(cells(member) for member in status.members)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
        for row in rows:
            print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())  # noqa: T201 - output, as in say
        if status.endpoints and serves(status):
            print(f"  endpoints  {','.join(status.endpoints)}")  # noqa: T201 - output, as in say
            print(f"  try        {self._hints.command.format(endpoints=','.join(status.endpoints))}", flush=True)  # noqa: T201 - output, as in say

    def close(self) -> None:
        pass


class LiveTable:
    """The table, redrawn in place; what happens scrolls by above it."""

    def __init__(self, hints: Hints) -> None:
        self._hints = hints
        self._console = Console(highlight=False)
        self._live = Live(Text("starting"), console=self._console, refresh_per_second=REFRESHES_PER_S)
        self._live.start()

    def say(self, kind: str, text: str) -> None:
        line = Text.assemble((time.strftime("%H:%M:%S  "), "dim"), (f"{kind:<6} ", STYLES.get(kind, "")), text)
        self._console.print(line)

    def show(self, outcome: Outcome) -> None:
        for kind, text in happenings(outcome):
            if kind == "step":  # a hold stands below the table
                self.say(kind, text)
        self._live.update(drawing(self._hints, outcome))

    def close(self) -> None:
        self._live.stop()


STYLES = {"step": "cyan", "refused": "yellow", "error": "red", "ready": "green"}


def drawing(hints: Hints, outcome: Outcome) -> RenderableType:
    status = outcome.status
    # Without lines between columns, so that it fits into 80.
    table = Table(title=hints.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for column in COLUMNS:
        table.add_column(column, justify="right" if column in ("REVISION", "LAG", "SIZE") else "left")
    for member in status.members:
        table.add_row(*cells(member), style="" if member.healthy else "yellow")
    below: list[RenderableType] = [Text.assemble(*condition_marks(status.conditions))]
    below.extend(Text.assemble((f"{kind:<6} ", STYLES.get(kind, "yellow")), text) for kind, text in happenings(outcome))
    below.append(Text(ready_condition(status).message, style="green" if outcome.ready else "yellow"))
    if status.endpoints and serves(status):
        below.append(Text(f"endpoints {','.join(status.endpoints)}", overflow="fold"))
        below.append(Text(hints.command.format(endpoints=",".join(status.endpoints)), style="dim", overflow="fold"))
    return Group(table, *below)


def condition_marks(conditions: Sequence[Condition]) -> list[tuple[str, str]]:
    marks = []
    for one in conditions:
        good = (one.status == "True") == (one.type in ("Ready", "Available"))
        marks.append((f"{one.type}={one.status}  ", "green" if good else "yellow"))
    return marks


def happenings(outcome: Outcome) -> list[tuple[str, str]]:
    """What this pass did, or why it did nothing: kind and text."""
    found = []
    if isinstance(outcome.decision, Step) and outcome.refused is None:
        found.append(("step", f"{outcome.decision}: {outcome.decision.because}"))
    held = outcome.refused or (outcome.decision if isinstance(outcome.decision, Hold) else None)
    if held is not None:
        waits = f"; waits for {held.waits_for}" if held.waits_for else ""
        found.append(("hold", f"{held.reason}: {held.because}{waits}"))
    return found


def cells(member: MemberStatus) -> tuple[str, ...]:
    return (
        member.name,
        member.role or "-",
        member.state,
        member.engine or "-",
        shown(member.revision),
        shown(member.lag_entries),
        f"{member.database_bytes / 1024:.0f}Ki" if member.database_bytes is not None else "-",
        "yes" if member.healthy else "no",
        member.reason or "",
    )


def shown(figure: int | None) -> str:
    return "-" if figure is None else str(figure)


def ready_condition(status: Status) -> Condition:
    return next(one for one in status.conditions if one.type == "Ready")


def serves(status: Status) -> bool:
    return any(one.type == "Available" and one.status == "True" for one in status.conditions)
