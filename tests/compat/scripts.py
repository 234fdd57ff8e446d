"""Scripts of etcdctl commands, run against two clusters, and their outputs compared line by line.

A script is text, a command a line:

    put a 1                     a command and its arguments, as a shell would split them
    LEASE = lease grant 100     the id in the output gets a name, and is `$LEASE` from there on
    until defrag                repeated while it fails (a cluster just started refuses changes for five seconds)
    lines=6 watch --rev=1 a     a command that goes on is ended once it has printed so many lines
    sorted endpoint health      the order of the output's lines is a matter of time
    txn << compare; ; op; ;     the rest is its standard input, a line for each semicolon
    # a remark

`$n0`, `$n1`, ... are the ids of members by name, `$n0.endpoint` and `$n0.peer` their URLs. In outputs ids, URLs, times,
sizes and raft's counters are replaced by what they are; all else has to be equal, exit statuses and errors included.
"""

import re
import shlex
from dataclasses import dataclass, field

from tests.kit.deadline import wait_until
from tests.kit.etcdctl import Etcdctl, Output
from tests.kit.processes import Node

UNTIL_S = 60.0

# Tables of `endpoint status` and `-w fields`, JSON: what depends on time, not on what was done.
COUNTERS = (
    (r'"(raft_term|raftTerm|raftIndex|raftAppliedIndex|dbSize|dbSizeInUse)":\d+', r'"\1":N'),
    (r'"(RaftTerm|RaftIndex|RaftAppliedIndex|DBSize|DBSizeInUse)" : \d+', r'"\1" : N'),
    (r'"version":"3\.5\.\d+"', '"version":"3.5.N"'),
    (r'"Version" : "3\.5\.\d+"', '"Version" : "3.5.N"'),
    (r"took = [0-9.]+(µs|ms|s)", "took = TIME"),
    (r'"took":"[0-9.]+(µs|ms|s)"', '"took":"TIME"'),
    (r'"(Took)" : "[0-9.]+(µs|ms|s)"', r'"\1" : "TIME"'),
    (r"remaining\(\d+s\)", "remaining(TIME)"),
    (r'"ttl":\d+', '"ttl":TIME'),  # what is left; -1, for none, stays
    (r"[0-9.]+ [kM]?B\b", "SIZE"),
    # An id is made of the URLs and the second: the same URL again is refused for either, as the clock has it.
    (r"member ID already exist", "Peer URLs already exists"),
)
COUNTER_COLUMNS = {"VERSION", "DB SIZE", "RAFT TERM", "RAFT INDEX", "RAFT APPLIED INDEX", "TOOK"}


@dataclass
class Cluster:
    """One of the two, and the names its ids have in scripts."""

    nodes: list[Node]
    names: dict[str, str] = field(default_factory=dict)  # URLs, and ids in hexadecimal

    def __post_init__(self) -> None:
        self.etcdctl = Etcdctl([node.endpoint for node in self.nodes])
        for node in self.nodes:
            self.names[f"{node.name}.endpoint"] = node.endpoint
            self.names[f"{node.name}.address"] = node.endpoint.removeprefix("http://")
            self.names[f"{node.name}.peer"] = node.peer_url
        self.read_members()

    def read_members(self) -> None:
        for line in self.etcdctl.run("member", "list").stdout.splitlines():
            member_id, _, name, *_ = line.split(", ")
            if name:
                self.names[name] = member_id

    def run(self, step: "Step") -> list[str]:
        """The lines of a step's output, with names for what is this cluster's own. Learns the id it names."""
        arguments = [self.filled(argument) for argument in step.arguments]

        def once() -> Output:
            if step.lines:
                return self.etcdctl.run_until(step.lines, *arguments, stdin=step.stdin)
            return self.etcdctl.run(*arguments, stdin=step.stdin)

        if step.until:
            succeeded = wait_until(lambda: passed(once()), UNTIL_S, f"{' '.join(arguments)} succeeds")
            assert succeeded is not None
            output = succeeded
        else:
            output = once()
        if step.name:
            # `Member ID added to ...`, `lease ID granted ...`
            found = re.match(r"\w+ +([0-9a-f]+) ", output.stdout)
            assert found is not None, f"no id in what {' '.join(arguments)} said: {output}"
            self.names[step.name] = found.group(1)
        stdout = output.stdout
        if step.lines:  # what came after it, if any, came by chance
            stdout = "\n".join(stdout.splitlines()[: step.lines])
            status = "ended by the script"
        else:
            status = f"exit status {output.status}"
        lines = self.named(stdout).splitlines()
        if step.sorted:
            lines = [part for line in lines for part in re.split(r"(?<=\}),(?=\{)|(?<=\[)|(?=\])", line)]  # of JSON
            lines.sort()
        return [*lines, *self.named(output.error).splitlines(), status]

    def filled(self, text: str) -> str:
        return re.sub(r"\$(\w+(\.\w+)?)", lambda found: self.names[found.group(1)], text)

    def named(self, text: str) -> str:
        text = without_counters(text)
        for name, value in sorted(self.names.items(), key=lambda item: -len(item[1])):
            text = text.replace(value, f"<{name}>")
            if re.fullmatch("[0-9a-f]+", value):
                # JSON has ids as decimal numbers; leading zeros are printed here and left out there.
                text = re.sub(rf"\b(0*{int(value, 16):x}|{int(value, 16)})\b", f"<{name}>", text)
        # The cluster's id, and leases that locks and elections made for themselves. Leading zeros are not printed: one
        # id in 256 has two digits less.
        text = re.sub(r"\b[0-9a-f]{12,16}\b|\b\d{15,20}\b", "<id>", text)
        return re.sub(r" +(?=<[\w.]+>)", " ", text)  # shorter ids are padded with blanks


@dataclass(frozen=True, slots=True)
class Step:
    text: str
    arguments: list[str]
    name: str = ""
    lines: int = 0
    until: bool = False
    sorted: bool = False
    stdin: str = ""


def steps(script: str) -> list[Step]:
    return [step_of(line.strip()) for line in script.splitlines() if line.strip() and not line.strip().startswith("#")]


def step_of(line: str) -> Step:
    command, _, stdin = line.partition(" << ")
    name = ""
    if found := re.match(r"(\w+) = ", command):
        name, command = found.group(1), command[found.end() :]
    words = shlex.split(command)
    lines, until, in_order = 0, False, False
    while words[0] in ("until", "sorted") or words[0].startswith("lines="):
        word = words.pop(0)
        until = until or word == "until"
        in_order = in_order or word == "sorted"
        if word.startswith("lines="):
            lines = int(word.removeprefix("lines="))
    text = "".join(part.strip() + "\n" for part in stdin.split(";")) if stdin else ""
    return Step(line, words, name, lines, until, in_order, text)


def passed(output: Output) -> Output | None:
    return output if output.status == 0 else None


def without_counters(text: str) -> str:
    for pattern, replacement in COUNTERS:
        text = re.sub(pattern, replacement, text)
    # etcdctl names the members in the order of a map.
    text = re.sub(r'(?<=ETCD_INITIAL_CLUSTER=")[^"]*', lambda found: ",".join(sorted(found.group().split(","))), text)
    return "\n".join(without_columns(text.splitlines())) if "│" in text else text


def without_columns(lines: list[str]) -> list[str]:
    """A table as its cells, whose widths depend on the lengths of ids and ports; counters are blanked."""
    kept: list[str] = []
    blanked: set[int] = set()
    for line in lines:
        if not line.startswith("│"):
            continue
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        if not kept:
            blanked = {index for index, title in enumerate(cells) if title in COUNTER_COLUMNS}
        else:
            cells = ["N" if index in blanked else cell for index, cell in enumerate(cells)]
        kept.append(" | ".join(cells))
    return kept


def compare(script: str, reference: Cluster, subject: Cluster) -> None:
    """Runs each step on both and asserts that it said the same."""
    said: list[str] = []
    for step in steps(script):
        expected, got = reference.run(step), subject.run(step)
        transcript = "\n".join(said[-20:])
        assert got == expected, f"after\n{transcript}\n$ etcdctl {step.text}\netcd said {expected}\n   we say {got}"
        said += [f"$ etcdctl {step.text}", *got]
