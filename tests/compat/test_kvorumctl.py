"""kvorumctl beside a real etcdctl: the same words on stdout and stderr, byte by byte, and the same exit status.

Each script runs twice against a member of the same name, URLs and token, begun anew, so that ids, revisions and terms
are equal without a mask: once by etcdctl, once by kvorumctl. What is left out of the comparison, and nothing else:
times (`took`), ids of leases, raft's indexes and the size of the data file, which depend on how often each of the two
logs in; etcdctl's log, whose lines are JSON and name addresses in its memory; and the programs' own names and versions.

A line of a script is a command, as in tests/compat/scripts.py; ETCDCTL_X=y before it is its environment.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

import pytest
from kvorum.ctl.call import World
from kvorum.ctl.main import run

from tests.compat.scripts import COUNTER_COLUMNS, Step, step_of, steps
from tests.kit.deadline import wait_until
from tests.kit.etcd import Etcd
from tests.kit.etcdctl import COMMAND_S, Etcdctl
from tests.kit.ports import free_port
from tests.kit.processes import Node, Program

PATIENCE = "--command-timeout=30s"
# etcdctl's log, and what the program says that it asks to hide a password, without a terminal.
UNSAID = ('{"level"', "stty: ")
MASKS = (
    (r"took = [0-9.]+(µs|ms|s)", "took = TIME"),
    (r'"took":"[0-9.]+(µs|ms|s)"', '"took":"TIME"'),
    (r'"Took" : [0-9.]+(µs|ms|s)', '"Took" : TIME'),
    (r"remaining\(\d+s\)", "remaining(TIME)"),
    (r'"ttl":\d+', '"ttl":TIME'),
    (r'"TTL" : \d+', '"TTL" : TIME'),
    (r'"(raftIndex|raftAppliedIndex|dbSize|dbSizeInUse)":\d+', r'"\1":N'),
    (r'"(RaftIndex|RaftAppliedIndex|DBSize)" : \d+', r'"\1" : N'),
    (r"(?<=, 3\.5\.30, )[0-9.]+ [kM]?B(, true, false, \d+), \d+, \d+", r"SIZE\1, N, N"),
    (r"(?<=/)[0-9a-f]{12,16}\b", "LEASE"),  # keys of locks and elections
    (r"kvorumctl", "etcdctl"),
    (r"(etcdctl version:|VERSION:\n\t)\s*[0-9.]+", r"\1 N"),
)

# What needs no member: arguments, flags, help.
ALONE = r"""
    get
    get -x a
    get --nosuch a
    get --nosuch=1 a
    get --limit
    get --limit=x a
    get --limit= a
    get --rev=99999999999999999999 a
    get --prefix=maybe a
    get --prefix --from-key a
    get --keys-only --count-only a
    get --consistency=x a
    get --order=sideways a
    get --sort-by=age a
    get --prefix a b
    get --from-key a b
    get a --=x
    get a ---x
    get -w
    get -wjson -x
    get a -w=
    get a -w=bad
    get a -wbad
    get a --write-out bad
    --dial-timeout=5 get a
    --dial-timeout=5x get a
    --dial-timeout=x get a
    --dial-timeout= get a
    --command-timeout=9999999999999h get a
    '--endpoints="' get a
    '--endpoints=a"b' get a
    '--endpoints="a"b,c' get a
    --cert= get a
    --key= get a
    --cacert= get a
    --cert=nosuch.pem get a
    --key=nosuch.pem get a
    --cacert=nosuch.pem get a
    put
    put a
    put a b --lease=zz
    put a b --lease=ffffffffffffffffff
    put a b --ignore-value
    del
    del a b c
    del --prefix --from-key a
    del --prefix a b
    compaction
    compaction x
    compaction 1 2
    compaction --physical=x 1
    txn x
    watch
    watch a --
    watch a b --prefix
    ETCDCTL_WATCH_RANGE_END=b watch
    ETCDCTL_WATCH_KEY=a watch b
    lease
    lease nosuch
    lease grant
    lease grant x
    lease grant 99999999999999999999
    lease revoke
    lease revoke zz
    lease timetolive
    lease timetolive zz
    lease keep-alive
    lease keep-alive zz
    member
    member add
    member add a b
    member add a http://b https://c
    member add a
    member remove
    member remove zz
    member update
    member update zz
    member update 1
    member promote
    member promote 12345678901234567
    move-leader
    move-leader zz
    alarm list x
    alarm disarm x
    snapshot save
    snapshot save a b
    auth enable x
    auth disable x
    auth status x
    user add
    user add a b
    user add :b
    user delete
    user get
    user list x
    user passwd
    user grant-role a
    user revoke-role a
    role add
    role delete
    role get
    role list x
    role grant-permission a read
    role grant-permission a nosuch k
    role grant-permission a read --prefix --from-key k
    role grant-permission a read --prefix k l
    role grant-permission a read --from-key k l
    role grant-permission a read --prefix --from-key ''
    role revoke-permission a
    lock
    elect
    elect a
    elect a b -l
    elect a b c
    make-mirror
    version
    version --help
    foo
    l
    ge
    leas gran
    lea li x y -h
    e
    put --help
    get -h
    help
    help get
    help lease grant
    help foo
    help member ad
    -h
    lease grant -h
    user add --help
    role grant-permission -h
    member add -h
    member list -h
    member promote -h
    endpoint --help
    endpoint status -h
    endpoint health -h
    endpoint hashkv -h
    alarm -h
    auth -h
    watch -h
    txn -h
    lock -h
    elect -h
    make-mirror -h
    move-leader -h
    defrag -h
    del -h
    compaction -h
    user -h
    role -h
    member -h
    lease keep-alive -h
    lease timetolive -h
    snapshot save -h
    user passwd -h
    user get -h
    """

# Against members: keys, leases, members, endpoints.
DATA = r"""
    put a 1
    put a 2 --prev-kv
    put -w json b 3
    put -w fields b 4 --prev-kv
    put c -- -4
    put from/stdin << some text
    put 'quotes "and" <tags> & more' 'ü ☃ \ end'
    get a
    get a -w json
    get a -w=fields
    get a -wprotobuf
    get a -w table
    get a --hex
    get a --print-value-only
    get a --print-value-only -w json
    get nosuch
    get nosuch -w json
    get nosuch -w fields
    get '' --prefix
    get '' --from-key --keys-only
    get '' --prefix --keys-only -w json
    get '' --prefix --count-only
    get '' --prefix --count-only -w fields
    get '' --prefix --count-only -w json
    get a c
    get a c -w json --limit 1
    get a --rev=2
    get a --rev=1
    get a --rev=1000
    get a --rev=-5
    get '' --prefix --order=DESCEND --sort-by=VALUE
    get '' --prefix --order=ascend --sort-by=modify -w json
    get '' --prefix --sort-by=VERSION
    get '' --prefix --sort-by=CREATE --order=DESCEND -w fields
    get 'quotes "and" <tags> & more' -w json
    get 'quotes "and" <tags> & more' -w fields
    get quotes --prefix --hex
    put a --ignore-value
    put new --ignore-value
    put a x --ignore-lease
    put a x --lease=1234
    put '' x
    get ''
    del a b
    del a b --range --prev-kv
    del nosuch
    del from --prefix --prev-kv -w json
    del c --prev-kv -w fields
    del '' --prefix -w protobuf
    put a 1
    compaction 3
    compaction 3
    compaction 1000
    compaction 5 --physical
    get a --rev=2
    txn << value("a") = "1"; ; put b 2; get a; ; put c 3; ;
    txn -w json << create("nosuch") = "0"; mod("a") > "1"; ; put d 4; get '' --prefix; del a; ; get a; ;
    txn -w fields << version("a") != "1"; ; put d 5; ; del '' --prefix --prev-kv; ;
    txn -w protobuf << ; get nosuch; ; ;
    txn -i << val("d") < "z"; ; put "with \"quotes\"" 'and spaces'; get 'with "quotes"' --print-value-only; ; ;
    txn << ; put x 1; put x 2; ; ;
    txn << ; get x --rev=1000; ; ;
    txn << value(a) = "1"; ; ; ;
    txn << value("a" = "1"; ; ; ;
    txn << nosuch("a") = "1"; ; ; ;
    txn << version("a") = "x"; ; ; ;
    txn << value; ; ; ;
    txn << ; frob a; ; ;
    txn << ; put; ; ;
    txn << ; put a; ; ;
    txn << value("a") = "1"
    lines=9 watch a --rev=6
    lines=1 watch a --rev=6 -w json
    lines=11 watch a --rev=6 -w fields
    lines=12 watch '' --prefix --rev=6 --prev-kv
    lines=4 watch a --rev=6 --hex
    watch a --rev=1
    watch a --rev=1 -w json
    watch d --rev=6 -- sh -c 'echo $ETCD_WATCH_KEY $ETCD_WATCH_VALUE $ETCD_WATCH_EVENT_TYPE; exit 3'
    watch d --rev=6 -- sh -c 'echo $ETCD_WATCH_REVISION; exit 3'
    watch d --rev=6 -- /nosuch/program
    watch d --rev=6 -- nosuchprogram
    ETCDCTL_WATCH_KEY=d lines=3 watch --rev=6
    lines=6 watch -i << watch d --rev=6;
    get d --endpoints=127.0.0.1:1
    watch -i << watch
    watch -i << frob
    watch -i << watch a --nosuch
    member list
    member list -w table
    member list -w json
    member list -w fields
    member list -w protobuf
    member list -w json --hex
    endpoint status
    endpoint status -w table
    endpoint status -w json
    endpoint status -w fields
    endpoint status -w protobuf
    endpoint status --cluster
    endpoint health
    endpoint health -w json
    endpoint health -w fields
    endpoint hashkv
    endpoint hashkv -w table
    endpoint hashkv -w json
    endpoint hashkv -w fields
    endpoint hashkv --rev 8
    endpoint hashkv --rev 1
    endpoint hashkv --rev 100000
    alarm list
    alarm list -w json
    alarm list -w fields
    alarm list -w table
    alarm disarm
    defrag
    defrag --cluster
    member remove 1234
    member update 1234 --peer-urls=http://127.0.0.1:1
    member promote 1234
    member add n9 --peer-urls=nonsense
    member add n9 --peer-urls=ftp://a:1
    member add n9 --peer-urls=http://a
    member add n9 --peer-urls=http://a:1/b
    member add n9 --peer-urls=http://a:1,nonsense
    member update 1234 --peer-urls=nonsense
    move-leader 1234
    NEW = until member add n9 --peer-urls=http://127.0.0.1:1 --learner
    member add n9 --peer-urls=http://127.0.0.1:1
    member add n8 --peer-urls=http://127.0.0.1:2 --learner -w json
    sorted member list
    member promote $NEW
    member update $NEW --peer-urls=http://127.0.0.1:4,http://127.0.0.1:5
    member remove $NEW -w fields
    member remove $NEW
    snapshot save nosuch/folder/file
    ETCDCTL_WRITE_OUT=json get d
    ETCDCTL_HEX=true get d
    ETCDCTL_HEX=nonsense get d
    ETCDCTL_HEX=true get d --hex=false
    ETCDCTL_NOSUCH=1 get d
    ONE = lease grant 100
    lease grant 100 -w json
    lease grant 100 -w fields
    lease grant 100 -w protobuf
    lease grant 0
    lease grant 10000000000
    put leased 1 --lease=$ONE
    get leased -w json
    lease timetolive $ONE
    lease timetolive $ONE --keys
    lease timetolive $ONE --keys -w json
    lease timetolive $ONE --keys -w fields
    lease timetolive $ONE -w protobuf
    lease timetolive 1234
    lease timetolive 1234 -w json
    lease keep-alive $ONE --once
    lease keep-alive $ONE --once -w json
    lease keep-alive $ONE --once -w fields
    lease keep-alive 1234 --once
    lease keep-alive 1234
    lease revoke $ONE
    lease revoke $ONE
    lease revoke $ONE -w json
    lease timetolive $ONE -w fields
    lines=2 lock resource
    lock other sh -c 'echo $ETCD_LOCK_REV; exit 4'
    lock other true
    lock other nosuchprogram
    lines=2 elect office me
    """

# Where nobody listens.
DOWN = r"""
    --endpoints=$DOWN --command-timeout=200ms get a
    --endpoints=$DOWN --command-timeout=200ms put a b
    --endpoints=$DOWN --command-timeout=200ms lease grant 10
    --endpoints=$DOWN --command-timeout=200ms member list
    --endpoints=$DOWN --command-timeout=200ms endpoint status -w table
    --endpoints=$DOWN --command-timeout=200ms endpoint status -w json
    --endpoints=$DOWN --command-timeout=200ms endpoint health
    --endpoints=$DOWN --command-timeout=200ms endpoint hashkv
    --endpoints=$DOWN --command-timeout=200ms endpoint status --cluster
    --endpoints=$DOWN --command-timeout=200ms defrag
    --endpoints=$DOWN --command-timeout=200ms move-leader 1234
    --endpoints=$DOWN --dial-timeout=200ms --user=a:b get a
    --endpoints=$DOWN --dial-timeout=200ms --user=a:b endpoint health
    """

# Users and roles, then with authentication on. Each log-in costs a server 50 ms and more.
USERS = r"""
    auth status
    auth status -w json
    auth status -w fields
    auth enable
    user add root:pw
    user add root:pw
    user add alice --new-user-password=secret
    user add bob --interactive=false << pass word
    user add carol --no-password -w json
    user add dan:x -w fields
    user list
    user list -w json
    user list -w fields
    user get alice
    user get nosuch
    user passwd bob --interactive=false << other
    role add readers
    role add readers
    role add writers -w json
    role grant-permission readers read data/ --prefix
    role grant-permission readers readwrite own
    role grant-permission readers write w x -w json
    role grant-permission readers read z --from-key
    role grant-permission readers READ '' --prefix -w fields
    role grant-permission nosuch read a
    role get readers
    role get readers -w json
    role get readers -w fields
    role get nosuch
    role revoke-permission readers '' --prefix
    role revoke-permission readers z --from-key
    role revoke-permission readers w x
    role revoke-permission readers nosuch
    role list
    role list -w json
    role list -w fields
    user grant-role alice readers
    user grant-role alice nosuch
    user grant-role nosuch readers
    user get alice --detail
    user get alice -w json
    user get alice -w fields
    user revoke-role alice writers
    user delete dan
    user delete dan
    role delete writers -w fields
    put data/1 one
    auth enable
    get data/1
    --user=alice:secret get data/1
    --user=alice --password=secret get data/1
    --user=alice get data/1 << secret
    --user=alice:wrong get data/1
    --user=nosuch:x get data/1
    --user=alice:secret put data/1 x
    --user=alice:secret put own x
    --user=alice:secret get other
    --user=alice:secret watch other
    --user=alice:secret user list
    --user=alice:secret user get alice
    ETCDCTL_USER=alice:secret get data/1
    --user=alice:secret endpoint health
    endpoint health
    endpoint status --user=root:pw -w fields
    endpoint status --cluster --user=root:pw -w fields
    endpoint health --cluster --user=root:pw
    endpoint hashkv --cluster --user=root:pw
    endpoint health --cluster --user=root:wrong
    endpoint status --cluster
    --user=root:pw auth status
    --user=root:pw auth disable
    auth status
    """


@dataclass
class Said:
    status: int
    stdout: str
    stderr: str


@dataclass
class Tool:
    """One of the two programs against one member. names: the ids that a script has named."""

    node: Node | None
    names: dict[str, str] = field(default_factory=dict)

    def arguments(self, step: Step) -> tuple[dict[str, str], list[str]]:
        """Its environment and its words, with the ids in them."""
        words = [
            re.sub(r"\$([A-Z]+)", lambda found: self.names.get(found[1], found[0]), word) for word in step.arguments
        ]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ETCDCTL_")}
        while words and (found := re.match(r"(ETCDCTL_\w+)=(.*)", words[0])):
            environment[found[1]] = found[2]
            words.pop(0)
        if self.node is not None:
            words = [f"--endpoints={self.node.endpoint}", PATIENCE, *words]
        return environment, words

    def run(self, step: Step) -> Said:
        """With what is left out of the comparison masked."""
        environment, words = self.arguments(step)
        said = self.said(step, environment, words)
        if step.until and said.status != 0:
            said = self.once_done(step, environment, words)
        if step.name:
            found = re.match(r"\w+ +([0-9a-f]+) ", said.stdout)
            assert found is not None, f"no id in what {' '.join(words)} said: {said}"
            self.names[step.name] = found[1]
        if step.lines:
            said = replace(said, stdout="".join(said.stdout.splitlines(keepends=True)[: step.lines]), status=0)
        stderr = "".join(line for line in said.stderr.splitlines(keepends=True) if not line.startswith(UNSAID))
        stdout = self.masked(said.stdout)
        if step.sorted:  # by ids, of which one is a matter of time
            stdout = "".join(sorted(stdout.splitlines(keepends=True)))
        return Said(said.status, stdout, self.masked(stderr))

    def once_done(self, step: Step, environment: dict[str, str], words: list[str]) -> Said:
        def succeeded() -> Said | None:
            said = self.said(step, environment, words)
            return said if said.status == 0 else None

        said = wait_until(succeeded, COMMAND_S, f"{step.text} succeeds")
        assert said is not None
        return said

    def said(self, step: Step, environment: dict[str, str], words: list[str]) -> Said:
        raise NotImplementedError

    def masked(self, text: str) -> str:
        text = re.sub(r"(?<=Member) +", " ", text)  # shorter ids are padded
        for name, value in self.names.items():
            text = re.sub(rf"\b(0*{int(value, 16):x}|{int(value, 16)})\b", name, text)
        for pattern, replacement in MASKS:
            text = re.sub(pattern, replacement, text)
        # A new member and the others are named in the order of a map.
        text = re.sub(r'(?<=ETCD_INITIAL_CLUSTER=")[^"]*', lambda one: ",".join(sorted(one[0].split(","))), text)
        if "lease" in text or "TTL" in text:
            text = re.sub(r"\b[0-9a-f]{15,16}\b|(?<=\"ID\" : )\d{15,20}|(?<=\"ID\":)\d{15,20}", "LEASE", text)
        return "".join(without_counters(text.splitlines(keepends=True)))


class Etcdctls(Tool):
    def said(self, step: Step, environment: dict[str, str], words: list[str]) -> Said:
        tool = Etcdctl([])
        if step.lines:
            tool.command = lambda arguments: [str(tool.program), *arguments]  # type: ignore[method-assign]  # none added
            output = tool.run_until(step.lines, *words, stdin=step.stdin)
            return Said(output.status, output.stdout, output.stderr)
        done = subprocess.run(
            [str(tool.program), *words],
            input=step.stdin.encode(),
            capture_output=True,
            timeout=COMMAND_S,
            env=environment,
            check=False,
        )
        return Said(done.returncode, text_of(done.stdout), text_of(done.stderr))


class Kvorumctls(Tool):
    """In this process, which saves the second that Python and gRPC need to begin; what goes on is a process."""

    loop = asyncio.new_event_loop()  # gRPC's poller stays with the loop it began in

    def said(self, step: Step, environment: dict[str, str], words: list[str]) -> Said:
        if step.lines:
            tool = Etcdctl([])
            tool._environment = environment
            tool.command = lambda arguments: [sys.executable, "-m", "kvorum.ctl", *arguments]  # type: ignore[method-assign]  # ours
            output = tool.run_until(step.lines, *words, stdin=step.stdin)
            return Said(output.status, output.stdout, output.stderr)
        stdout, stderr = BytesIO(), BytesIO()
        world = World(words, environment, BytesIO(step.stdin.encode()), stdout, stderr)
        status = self.loop.run_until_complete(asyncio.wait_for(run(world), COMMAND_S))
        return Said(status, text_of(stdout.getvalue()), text_of(stderr.getvalue()))


def text_of(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape")


def without_counters(lines: list[str]) -> list[str]:
    """A table's counters, whose cells are narrower than their titles, become blanks."""
    titles = next((line.split("│") for line in lines if line.startswith("│")), [])
    blanked = {index for index, title in enumerate(titles) if title.strip() in COUNTER_COLUMNS - {"VERSION"}}
    out: list[str] = []
    for line in lines:
        cells = line.split("│")
        if line.startswith("│") and cells != titles:
            line = "│".join(" " * len(cell) if index in blanked else cell for index, cell in enumerate(cells))
        out.append(line)
    return out


def transcript(tool: Tool, script: str) -> list[tuple[str, Said]]:
    return [(step.text, tool.run(step)) for step in steps(script)]


def differences(expected: list[tuple[str, Said]], got: list[tuple[str, Said]]) -> list[str]:
    return [
        f"$ {text}\netcdctl   {said}\nkvorumctl {ours}"
        for (text, said), (_, ours) in zip(expected, got, strict=True)
        if said != ours
    ]


@pytest.fixture(params=["etcd", "kvorum"])
def born(request: pytest.FixtureRequest, reference: Program, subject: Program, tmp_path: Path) -> Iterator["Births"]:
    births = Births(reference if request.param == "etcd" else subject, tmp_path)
    yield births
    births.end()


class Births:
    """The same member, each time begun anew: of the same name, URLs, token, and therefore ids."""

    def __init__(self, program: Program, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._ports = free_port(), free_port()
        self._node: Node | None = None
        self._count = 0

    def anew(self) -> Node:
        self.end()
        self._count += 1
        client_port, peer_port = self._ports
        folder = self._folder / str(self._count)
        self._node = Node(self._program, folder, name="n0", client_port=client_port, peer_port=peer_port)
        self._node.start()
        self._node.wait_healthy()
        return self._node

    def end(self) -> None:
        if self._node is not None:
            self._node.kill()


@pytest.mark.parametrize("member", ["etcd", "kvorum"])
def test_snapshot_that_was_saved_is_one_that_etcd_takes(
    member: str, reference: Program, subject: Program, real_etcd: Etcd, tmp_path: Path
) -> None:
    with Node(reference if member == "etcd" else subject, tmp_path) as node:
        tool = Kvorumctls(node)
        tool.run(step_of("put a 1"))
        path = tmp_path / "saved.db"
        assert tool.run(step_of(f"snapshot save {path}")) == Said(0, f"Snapshot saved at {path}\n", "")
    status = subprocess.run(
        [real_etcd.etcdutl, "snapshot", "status", path, "-w", "json"],
        capture_output=True,
        timeout=COMMAND_S,
        check=True,
    )
    assert json.loads(status.stdout)["revision"] == 2
    assert path.stat().st_mode & 0o777 == 0o600
    assert [other.name for other in tmp_path.glob("saved*")] == ["saved.db"]


def test_program_itself_ends_and_speaks_so(reference: Program, tmp_path: Path) -> None:
    with Node(reference, tmp_path) as node:
        command = [sys.executable, "-m", "kvorum.ctl", f"--endpoints={node.endpoint}"]
        put = subprocess.run(
            [*command, "put", "a"], input=b"\xff\x00", capture_output=True, timeout=COMMAND_S, check=True
        )
        got = subprocess.run([*command, "get", "a"], capture_output=True, timeout=COMMAND_S, check=True)
        bad = subprocess.run([*command, "get"], capture_output=True, timeout=COMMAND_S, check=False)
    assert (put.stdout, got.stdout) == (b"OK\n", b"a\n\xff\x00\n")
    assert (bad.returncode, bad.stdout) == (128, b"")
    assert bad.stderr == b"Error: get command needs one argument as key and an optional argument as range_end\n"


def test_members_that_do_not_answer_are_told_as_etcdctl_tells_it(real_etcd: Etcd) -> None:
    script = DOWN.replace("$DOWN", f"http://127.0.0.1:{free_port()}")
    assert differences(transcript(Etcdctls(None), script), transcript(Kvorumctls(None), script)) == []


def test_arguments_and_help_are_read_as_etcdctl_reads_them(real_etcd: Etcd) -> None:
    expected = transcript(Etcdctls(None), ALONE)
    got = transcript(Kvorumctls(None), ALONE)
    assert differences(without_what_ours_lacks(expected), without_what_ours_lacks(got)) == []


@pytest.mark.parametrize("script", [DATA, USERS], ids=["data", "users"])
def test_members_are_asked_and_answers_shown_as_etcdctl_does(script: str, born: Births) -> None:
    expected = transcript(Etcdctls(born.anew()), script)
    got = transcript(Kvorumctls(born.anew()), script)
    assert differences(expected, got) == []


def without_what_ours_lacks(said: list[tuple[str, Said]]) -> list[tuple[str, Said]]:
    """A list of commands without those that ours lacks or refuses: docs/kvorumctl.md."""
    lacking = re.compile(r"^\t(check|completion|snapshot status|snapshot restore)[ \t].*\n", re.MULTILINE)
    return [(text, replace(one, stdout=lacking.sub("", one.stdout))) for text, one in said]
