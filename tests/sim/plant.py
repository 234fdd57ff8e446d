"""Plants bugs into a copy of the core, and sees how many steps the simulation needs to find each.

python -m tests.sim.plant [NAME...]

A simulation that finds no planted bug proves nothing when it finds none.
Each bug is a change of the source text, so a bug that no longer fits the source is noticed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import kvorum.raft

from tests.sim.run import run

SEEDS_MAX = 200
STEPS = 2500  # of each seed


@dataclass(frozen=True, slots=True)
class Bug:
    """name says what is wrong; in file, each text is put in place of another that is there exactly once."""

    name: str
    file: str
    changes: tuple[tuple[str, str], ...]
    is_rare: bool = False  # found by many runs only; a unit test holds it down


BUGS = (
    Bug(
        "vote forgotten at restart",
        "core.py",
        (("self.term, self.vote = hard_state.term, hard_state.vote", "self.term, self.vote = hard_state.term, NONE"),),
    ),
    Bug(
        "term forgotten at restart",
        "core.py",
        (("self.term, self.vote = hard_state.term, hard_state.vote", "self.term, self.vote = 0, NONE"),),
    ),
    Bug(
        "vote not synced",
        "core.py",
        (("snapshot is not None or is_promise", "snapshot is not None"),),
    ),
    Bug(
        "acknowledgement before fsync",
        "core.py",
        (("        MessageType.APPEND_REPLY,\n        MessageType.VOTE,", "        MessageType.VOTE,"),),
    ),
    Bug(
        "leader counts its own entries before fsync",
        "core.py",
        (("acknowledge(self.log.durable_index)", "acknowledge(self.log.last_index)"),),
    ),
    Bug(
        "own vote counted before fsync",
        "core.py",
        (("durable.term == self.term and durable.vote == self.id and self.id not in", "self.id not in"),),
    ),
    Bug("votes twice in a term", "core.py", (("self.vote == message.sender\n", "is_vote\n"),)),
    Bug(
        "vote for a log that lacks entries",
        "core.py",
        (("if may_vote and self.log.is_up_to_date(message.index, message.log_term):", "if may_vote:"),),
    ),
    Bug(
        "entry of an old term committed by counting",
        "leader.py",
        (("if raft.log.term(index) != raft.term or not", "if not"),),
    ),
    Bug(
        "read without a quorum round",
        "leader.py",
        (("if quorum.is_reached(raft.config.halves, raft.reads.acknowledge(context, raft.id)):", "if True:"),),
    ),
    Bug(
        "read before the first commit of the term",
        "leader.py",
        (("if raft.log.term(raft.log.committed) != raft.term:", "if False:"),),
    ),
    Bug(
        "learner counted as voter",
        "config_change.py",
        (
            (
                "if self.voters_outgoing else (self.voters,)",
                "if self.voters_outgoing else (self.voters | self.learners,)",
            ),
        ),
    ),
    Bug(
        "two changes in flight",
        "leader.py",
        (("elif raft.pending_conf_index > raft.log.applied or raft.config.is_joint:", "elif False:"),),
    ),
    Bug(
        "campaign with a change not applied",
        "core.py",
        ((" and self.may_campaign and not self.log.has_unapplied_conf_change()", " and self.may_campaign"),),
    ),
    Bug(
        "log truncated behind what is known to agree",
        "log.py",
        (
            ("position = self._first_difference(entries)", "position = 0"),
            (
                '        assert last >= self.committed, f"cannot drop committed entries: {last} < {self.committed}"\n',
                "",
            ),
        ),
    ),
    Bug(
        "append accepted without a match",
        "log.py",
        (("if self.term(after) != term:\n", "if self.term(after) is None:\n"),),
    ),
    Bug(
        "conflicting entries kept",
        "log.py",
        (
            (
                "            if self.term(entry.index) != entry.term:\n                return position",
                "            if entry.index > self.last_index:\n                return position",
            ),
        ),
    ),
    Bug(
        "commit index of a heartbeat not held back",
        "leader.py",
        (("commit = min(progress.match, raft.log.committed)", "commit = raft.log.committed"),),
    ),
    Bug(
        "another leader's entries sent from the cache",
        "core.py",
        (("        self._sent_slice = (0, 0, ())  # a range", "        # a range"),),
        is_rare=True,
    ),
    Bug(
        "torn write hides a committed change",
        "core.py",
        (("        self.log.commit(self.log.index_committed_by_rule())\n", ""),),
        is_rare=True,
    ),
)


def plant(bug: Bug, directory: Path) -> None:
    """Copies the core into directory, with the bug in it. Raises ValueError if the bug does not fit the source."""
    source = Path(kvorum.raft.__file__).parent
    target = directory / "kvorum" / "raft"
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    (directory / "kvorum" / "__init__.py").touch()
    text = (target / bug.file).read_text()
    for old, new in bug.changes:
        if text.count(old) != 1:
            raise ValueError(f"{bug.name}: {text.count(old)} times in {bug.file}: {old!r}")
        text = text.replace(old, new)
    (target / bug.file).write_text(text)


def hunt(bug: Bug) -> str | None:
    """What the simulation says of a core with this bug: after how many steps, and how it failed. None: not found."""
    with tempfile.TemporaryDirectory() as directory:
        plant(bug, Path(directory))
        found = subprocess.run(  # in its own process, so that it is the copy that is imported
            [sys.executable, "-m", "tests.sim.plant", "--hunt"],
            env={**os.environ, "PYTHONPATH": directory},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    if found.returncode not in (0, 1):
        raise RuntimeError(found.stderr)
    return found.stdout.strip() if found.returncode == 1 else None


def hunt_here() -> int:
    """In the process with the planted core: worlds, one seed after the other, until one fails."""
    steps = 0
    for seed in range(1, SEEDS_MAX + 1):
        try:
            run(seed, STEPS)
        except RuntimeError as failed:
            reason = str(failed).splitlines()[0]
            last = int(reason.split()[1])
            print(f"{steps + last} steps: {reason.partition(': ')[2]}")
            return 1
        steps += STEPS
    return 0


def main(arguments: list[str]) -> int:
    if arguments == ["--hunt"]:
        return hunt_here()
    missed = 0
    for bug in BUGS:
        if not arguments or bug.name in arguments:
            found = hunt(bug)
            missed += found is None
            print(f"{bug.name:48} {found or f'NOT FOUND in {SEEDS_MAX * STEPS} steps'}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
