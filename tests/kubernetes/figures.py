"""What was measured, in lines that a report can be made of: `FIGURE name value unit (wanted < x)`; MISSED where not."""

import os
from pathlib import Path

LOST = "LOST"  # a line that begins so is of data: no second run makes it good
SLACK = 4  # a time of a test may be so many times what is wanted: a busy machine is no bug, and makes no bytes

FILE = os.environ.get("KVORUM_E2E_FIGURES")  # lines are appended there too


def note(name: str, value: float, unit: str, wanted: float) -> None:
    """Raises AssertionError where the value is not even below SLACK times what is wanted, for MB just what is."""
    line = f"FIGURE {name} {value:.2f} {unit} ({'wanted' if value < wanted else 'MISSED: wanted'} < {wanted:g})"
    write(line)
    assert value < (SLACK if unit != "MB" else 1) * wanted, line


def require_kept(kept: bool, what: str) -> None:
    """Raises AssertionError where data is lost or differs, for good: a run that comes to it has failed."""
    if not kept:
        write(f"{LOST} {what}")
    assert kept, what


def write(line: str) -> None:
    print(line)
    if FILE:
        with Path(FILE).open("a") as lines:
            lines.write(line + "\n")
