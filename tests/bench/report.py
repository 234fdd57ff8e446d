"""What a benchmark found, as numbers and as the page docs/performance.md."""

import statistics
from collections import defaultdict
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Cell:
    """What was measured: an operation with so many streams."""

    operation: str
    streams: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One run. foreign_cores: what other processes than the servers and the load used of the machine meanwhile."""

    requests_per_s: float
    latency_ms: float
    foreign_cores: float


@dataclass
class Report:
    """samples: of a cell and an engine by round; missing: why there is none, by the same."""

    engines: tuple[str, str]
    machine: list[str]
    samples: dict[tuple[Cell, str], dict[int, Sample]] = field(default_factory=lambda: defaultdict(dict))
    missing: dict[tuple[Cell, str, int], str] = field(default_factory=dict)

    def cells(self) -> list[Cell]:
        found = [cell for cell, _ in self.samples] + [cell for cell, _, _ in self.missing]
        return sorted(set(found), key=lambda cell: (cell.operation, cell.streams))

    def ratios(self, cell: Cell) -> list[float]:
        """Of each round in which both engines have a figure: the second's requests by the first's, ascending."""
        first, second = (self.samples.get((cell, engine), {}) for engine in self.engines)
        both = first.keys() & second.keys()
        return sorted(second[number].requests_per_s / first[number].requests_per_s for number in both)

    def row(self, cell: Cell) -> list[str]:
        columns = [f"{cell.operation}, {cell.streams} stream{'s' if cell.streams > 1 else ''}"]
        for engine in self.engines:
            samples = list(self.samples.get((cell, engine), {}).values())
            if not samples:
                columns.append("no figure")
                continue
            speed = statistics.median(sample.requests_per_s for sample in samples)
            latency = statistics.median(sample.latency_ms for sample in samples)
            columns.append(f"{speed:,.0f}/s, {latency:.2f} ms")
        ratios = self.ratios(cell)
        if ratios:
            columns += [f"{ratios[0]:.2f}", f"**{statistics.median(ratios):.2f}**", f"{ratios[-1]:.2f}"]
        else:
            columns += ["-", "-", "-"]
        return columns

    def table(self) -> str:
        first, second = self.engines
        titles = ["", f"3 {first}", f"3 {second}", "ratio min", "median", "max"]
        rows = [titles, ["---"] * len(titles), *(self.row(cell) for cell in self.cells())]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def notes(self) -> list[str]:
        """What a reader has to know before believing the table."""
        foreign = [sample.foreign_cores for by_round in self.samples.values() for sample in by_round.values()]
        notes = [
            f"No figure for {cell.operation} at {cell.streams} streams, {engine}, round {number}: {why}"
            for (cell, engine, number), why in self.missing.items()
        ]
        if foreign:
            notes.append(
                f"Other processes used {statistics.median(foreign):.2f} cores beside a run (median; "
                f"{max(foreign):.2f} at most)."
            )
        return notes

    def page(self) -> str:
        lines = [
            "<!-- Measured and written by `make bench`, never edited by hand. -->",
            "# How fast it is",
            "",
            *(f"- {line}" for line in self.machine),
            *(f"- {note}" for note in self.notes()),
            "",
            self.table(),
            "",
            "Requests a second and mean latency are medians of the rounds; a ratio is taken within a round, "
            f"{self.engines[1]} by {self.engines[0]}, more is faster. Three members and the load share the "
            "processor: on machines with several cores a member, etcd uses them and a Python process does not.",
            "",
        ]
        return "\n".join(lines)
