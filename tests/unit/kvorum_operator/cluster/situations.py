"""Situations in text: an observation of a cluster, a line for each member, and the operator's answer below.

    # why this case is here
    plan replicas=3 [engine=etcd] [engine-blocked=WHY] [paused] [list=unknown] [no-id] [woken]
    record kv-0 kv-1 kv-2        (or record-damaged)
    before kv-0 kv-1             (members that had data, by the last status)
    kv-0 leader
    kv-1 follower silent=4m
    kv-3 learner added=10s

A member is `leader`, `follower` (a voter), `learner`, `added` (a learner that never started), `unstarted` (a voter that
never did) or `nobody` (in no member list). It runs, answers, has caught up and has its labelled volume, but for:
down[=WHY] silent[=SINCE] leaderless behind=ENTRIES log=PERCENT no-volume stale-volume foreign-volume unlabelled
labelled=NAME (with another member's id) of=ENGINE (its data; else kvorum's) emptied (its node ended for want of data)
failing=STARTS,RETRY-IN blocked=WHY since=AGO says=STATE (at /kvorum/v1/member) elsewhere (not one of ours)
other-cluster outdated (not made from today's specification) held-up=REASON,TEXT (its platform tries to run it)
started=AGO stopping ready, unready (its platform sees it serve, or not) host=MACHINE.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from kvorum_operator.api.reasons import Reason
from kvorum_operator.api.v1alpha1 import Engine, Spec
from kvorum_operator.cluster.diagnosis import diagnose
from kvorum_operator.cluster.observation import (
    Address,
    Answer,
    Entry,
    HandOvers,
    HeldUp,
    Node,
    Observation,
    OwnWord,
    Record,
    Volume,
)
from kvorum_operator.cluster.plan import plan
from kvorum_operator.cluster.step import Hold, Step

NOW_S = 1_764_000_000.0
CLUSTER_ID = 0xC1
HEAD_INDEX = 100_000
SEPARATOR = "----"
UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a file: its lines up to the answer, and the answer as the file has it."""

    title: str
    question: str
    answer: str


def read_cases(path: Path) -> list[Case]:
    cases = []
    for block in re.split(r"\n{2,}", path.read_text().strip()):
        question, _, answer = block.partition(f"\n{SEPARATOR}")
        titles = [line[1:].strip() for line in question.splitlines() if line.startswith("#")]
        cases.append(Case(" ".join(titles), question, answer.strip("\n")))
    return cases


def write_cases(path: Path, cases: list[Case]) -> None:
    path.write_text("\n\n".join(f"{one.question}\n{SEPARATOR}\n{one.answer}" for one in cases) + "\n")


def answer(question: str) -> str:
    """What the operator says to a situation."""
    spec, seen = read_situation(question)
    diagnosis = diagnose(spec, seen)
    lines = [f"diagnosis  {diagnosis.health}/{diagnosis.reason} {diagnosis.message}"]
    decision = plan(spec, seen)
    if isinstance(decision, Step):
        lines += [f"step       {decision}", f"because    {decision.because}"]
    elif isinstance(decision, Hold):
        until = f" until +{decision.until_s - NOW_S:g}s" if decision.until_s is not None else ""
        lines += [f"hold       {decision.reason}: {decision.because}"]
        lines += [f"waits for  {decision.waits_for}{until}"] if decision.waits_for or until else []
    else:
        lines.append("nothing    to do")
    return "\n".join(lines)


def read_situation(question: str) -> tuple[Spec, Observation]:
    lines = [line for line in question.splitlines() if line and not line.startswith("#")]
    head = words_of(lines[0].removeprefix("plan "))
    wanted = {"replicas": int(head["replicas"]), "paused": "paused" in head, "engine": head.get("engine", "kvorum")}
    spec = Spec.model_validate(wanted)
    addresses = {f"kv-{k}": Address(f"kv-{k}", f"http://kv-{k}:2379", f"http://kv-{k}:2380") for k in range(9)}
    scene = Scene()
    for line in lines[1:]:
        first, _, rest = line.partition(" ")
        if first == "record":
            scene.record = Record("local/kv/uid", tuple(rest.split()))
        elif first == "before":
            scene.names_before = frozenset(rest.split())
        elif first == "record-damaged":
            scene.record_damage = "bootstrap.json is damaged"
        elif first == "hand-overs":
            name, tries, ago = rest.split()
            scene.hand_overs[id_of(name)] = HandOvers(int(tries), NOW_S - seconds(ago))
        else:
            scene.add(first, words_of(rest))
    for name, answered in scene.answered.items():
        if answered.leader:
            scene.answered[name] = replace(answered, leader=scene.leader)
    return spec, Observation(
        now_s=NOW_S,
        addresses=addresses,
        nodes=scene.nodes,
        volumes=scene.volumes,
        blocked=scene.blocked,
        engine_blocked=head.get("engine-blocked", "").replace("_", " "),
        names_before=scene.names_before,
        woken="woken" in head,
        record=scene.record,
        record_damage=scene.record_damage,
        own_words=scene.own_words,
        latched_cluster_id=None if "no-id" in head else CLUSTER_ID,
        entries=None if head.get("list") == "unknown" else tuple(scene.entries),
        answered=scene.answered,
        hand_overs=scene.hand_overs,
        joining_since_s=scene.joining_since_s,
    )


class Scene:
    """What the lines of a situation add up to."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.nodes: dict[str, Node] = {}
        self.volumes: dict[str, Volume] = {}
        self.blocked: dict[str, str] = {}
        self.answered: dict[str, Answer] = {}
        self.names_before: frozenset[str] = frozenset()
        self.record: Record | None = None
        self.record_damage = ""
        self.own_words: dict[str, OwnWord] = {}
        self.hand_overs: dict[int, HandOvers] = {}
        self.joining_since_s: dict[int, float] = {}
        self.leader = 0

    def add(self, name: str, words: dict[str, str]) -> None:
        role = next(iter(words))
        assert role in ("leader", "follower", "learner", "added", "unstarted", "nobody"), f"no such role: {role}"
        known = {"down", "silent", "leaderless", "behind", "log", "no-volume", "stale-volume", "foreign-volume"}
        known |= {
            "unlabelled",
            "labelled",
            "failing",
            "blocked",
            "since",
            "elsewhere",
            "other-cluster",
            "outdated",
            "held-up",
            "started",
            "stopping",
            "ready",
            "unready",
            "host",
            "says",
            "of",
            "emptied",
        }
        assert not (strange := set(words) - known - {role}), f"no such words: {strange}"
        started = role not in ("added", "unstarted")
        if role != "nobody":
            ours = None if "elsewhere" in words else name
            learner = role in ("learner", "added")
            self.entries.append(Entry(id_of(name), ours, (f"http://{name}:2380",), started, learner))
        if "elsewhere" in words:
            return
        if role == "added" and "since" in words:
            self.joining_since_s[id_of(name)] = NOW_S - seconds(words["since"])
        self.add_node(name, words)
        self.add_volume(name, words)
        if "says" in words:
            self.own_words[name] = OwnWord("0.1.0", words["says"], "of itself")
        if "blocked" in words:
            self.blocked[name] = words["blocked"].replace("_", " ")
        if role == "leader" and "down" not in words:
            self.leader = id_of(name)
        silent = {"down", "silent", "failing", "blocked", "emptied", "held-up"} & set(words)
        if started and role != "nobody" and not silent:
            behind = int(words.get("behind", "0"))
            self.answered[name] = Answer(
                member_id=id_of(name),
                cluster_id=CLUSTER_ID + 1 if "other-cluster" in words else CLUSTER_ID,
                leader=0 if "leaderless" in words else -1,  # whoever leads, known when all lines are read
                term=2,
                raft_index=HEAD_INDEX * int(words.get("log", "100").rstrip("%")) // 100 - behind,
                applied_index=HEAD_INDEX - behind,
                revision=1000,
                database_bytes=20480,
                version="3.5.30",
                is_learner=role == "learner",
            )

    def add_node(self, name: str, words: dict[str, str]) -> None:
        if "failing" in words:
            starts, retry = words["failing"].split(",")
            retry_at_s, emptied = NOW_S + seconds(retry), "emptied" in words
            node = Node(
                name, False, NOW_S - 1, "ended with exit code 1", int(starts), retry_at_s, found_no_data=emptied
            )
        elif "emptied" in words:
            node = Node(name, False, NOW_S - 1, "ended with exit code 1", found_no_data=True)
        elif "down" in words:
            node = Node(name, False, NOW_S - 1, words["down"].replace("_", " "))
        elif "blocked" in words:
            return
        else:
            since_s = NOW_S - seconds(words.get("silent") or words.get("started") or "1h")
            ready = {"ready": True, "unready": False}.get(next(iter({"ready", "unready"} & set(words)), ""))
            node = Node(name, True, since_s, ready=ready)
        held_up = None
        if "held-up" in words:
            reason, _, text = words["held-up"].partition(",")
            held_up = HeldUp(Reason(reason), text.replace("_", " "))
        self.nodes[name] = replace(
            node,
            running=node.running and held_up is None,
            current="outdated" not in words,
            held_up=held_up,
            stopping="stopping" in words,
            host=words.get("host", ""),
        )

    def add_volume(self, name: str, words: dict[str, str]) -> None:
        if "no-volume" in words:
            return
        engine = Engine(words.get("of", "kvorum"))
        if "foreign-volume" in words:
            self.volumes[name] = Volume(name, ours=False)
        elif "unlabelled" in words:
            self.volumes[name] = Volume(name, engine=engine)
        else:
            member_id = id_of(words.get("labelled", name)) + (0x800 if "stale-volume" in words else 0)
            self.volumes[name] = Volume(name, True, CLUSTER_ID, member_id, engine)


def id_of(name: str) -> int:
    return 0x100 + int(name.rpartition("-")[2])


def words_of(line: str) -> dict[str, str]:
    found = {}
    for word in line.split():
        key, _, value = word.partition("=")
        found[key] = value
    return found


def seconds(text: str) -> float:
    match = re.fullmatch(r"(-?[0-9.]+)(ms|s|m|h)", text)
    assert match is not None, f"no length of time: {text!r}"
    return float(match[1]) * UNITS_S[match[2]]
