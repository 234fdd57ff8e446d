"""Who is a member: ids, URLs, learners, who was removed for ever, the cluster's version. And the log's words for it.

Pure bookkeeping of what the log said, in tables with etcd's rows; it asks nobody whether a member is reachable. A
change is validated twice: before it is proposed, to refuse in time, and when it is applied, since the log may hold
what has become invalid meanwhile (peer-protocol.md, 4.4). One that is invalid at apply changes nothing.
"""

# ruff: noqa: A002 - `id` is the protocol's own name

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from kvorum.raft import change_codec
from kvorum.raft.message import NONE, ConfChange, ConfChangeType, ConfState, Entry, EntryType
from kvorum.state import go_json
from kvorum.state.refusal import (
    MEMBER_EXISTS,
    MEMBER_NOT_FOUND,
    MEMBER_NOT_LEARNER,
    PEER_URL_EXISTS,
    TOO_MANY_LEARNERS,
    Refusal,
)
from kvorum.state.store import CLUSTER, MEMBERS, MEMBERS_REMOVED, Store
from kvorum.state.v2_store import V2Store

LEARNERS_MAX = 1
NOT_DECIDED = "not_decided"  # what members tell for the version of a cluster that has none yet
CLUSTER_VERSION, DOWNGRADE = b"clusterVersion", b"downgrade"
VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+(?:[-+].*)?")


class UnknownMember(Exception):
    """The log speaks of a member that never was. Every etcd member panics on such an entry."""


class BadVersion(Exception):
    """The log sets a cluster version that is none."""


@dataclass(frozen=True, slots=True)
class Member:
    """An entry of the member list. Bootstrap members have a name from birth; client URLs come when one has started."""

    id: int
    peer_urls: tuple[str, ...] = ()
    is_learner: bool = False
    name: str = ""
    client_urls: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Go's fields in Go's order. Absent peer URLs are null."""
        document: dict[str, object] = {"id": self.id, "peerURLs": list(self.peer_urls) or None}
        if self.is_learner:
            document["isLearner"] = True
        if self.name:
            document["name"] = self.name
        if self.client_urls:
            document["clientURLs"] = list(self.client_urls)
        return document

    @classmethod
    def from_json(cls, document: dict[str, object]) -> "Member":
        """What /members, the rows and conf changes hold. Raises ValueError, TypeError or KeyError for anything else."""
        return cls(
            id=_integer(document["id"]),
            peer_urls=_strings(document.get("peerURLs")),
            is_learner=bool(document.get("isLearner", False)),
            name=str(document.get("name", "")),
            client_urls=_strings(document.get("clientURLs")),
        )


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"an id is a number, not {value!r}")
    return value


def _strings(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"URLs are a list of strings, not {value!r}")
    return tuple(value)


# -- ids -------------------------------------------------------------------------------------------------------------


def member_id(peer_urls: Iterable[str], token: str, added_at_s: int | None = None) -> int:
    """The id of a member. added_at_s: Unix seconds for MemberAdd, None at bootstrap. The name is not part of it."""
    text = "".join(sorted(peer_urls)) + token + ("" if added_at_s is None else str(added_at_s))
    return _first_eight(text.encode())


def cluster_id(member_ids: Iterable[int]) -> int:
    """The id of a cluster that is bootstrapped with these members."""
    return _first_eight(b"".join(member.to_bytes(8, "big") for member in sorted(member_ids)))


def _first_eight(data: bytes) -> int:
    return int.from_bytes(hashlib.sha1(data, usedforsecurity=False).digest()[:8], "big")


def hex_id(id: int) -> str:
    """As in paths, headers and rows: lower case, no leading zeros."""
    return f"{id:x}"


# -- conf changes, as the log holds them -----------------------------------------------------------------------------


def bootstrap_members(initial_cluster: Iterable[tuple[str, Sequence[str]]], token: str) -> list[Member]:
    """The first members of a new cluster, from (name, peer URLs), by ascending id."""
    members = [Member(member_id(urls, token), tuple(sorted(urls)), name=name) for name, urls in initial_cluster]
    return sorted(members, key=lambda member: member.id)


def bootstrap_entries(members: Iterable[Member]) -> list[Entry]:
    """The first entries of a new cluster's log: term 1, committed by definition. The same bytes on every member."""
    ordered = sorted(members, key=lambda member: member.id)
    changes = [ConfChange(ConfChangeType.ADD_NODE, member.id, 0, member_context(member)) for member in ordered]
    return [
        Entry(term=1, index=index, type=EntryType.CONF_CHANGE, data=change_codec.encode(change))
        for index, change in enumerate(changes, start=1)
    ]


def member_context(member: Member) -> bytes:
    """The context that adds or updates a member."""
    return go_json.dumps(member.to_json())


def promote_context(id: int) -> bytes:
    """The context that makes a voter of a learner: the same type of change as adding one."""
    return go_json.dumps({"id": id, "peerURLs": None, "isPromote": True})


def add_change(member: Member, id: int) -> ConfChange:
    """id: of the request, as in ConfChange.id."""
    kind = ConfChangeType.ADD_LEARNER if member.is_learner else ConfChangeType.ADD_NODE
    return ConfChange(kind, member.id, id, member_context(member))


def promote_change(learner: int, id: int) -> ConfChange:
    return ConfChange(ConfChangeType.ADD_NODE, learner, id, promote_context(learner))


def update_change(member: int, peer_urls: Sequence[str], id: int) -> ConfChange:
    return ConfChange(ConfChangeType.UPDATE_NODE, member, id, member_context(Member(member, tuple(peer_urls))))


def remove_change(member: int, id: int) -> ConfChange:
    return ConfChange(ConfChangeType.REMOVE_NODE, member, id)


def encode_conf_state(state: ConfState) -> bytes:
    """The row meta/confState: raftpb.ConfState as Go's JSON."""
    document: dict[str, object] = {}
    for name in ("voters", "learners", "voters_outgoing", "learners_next"):
        if ids := getattr(state, name):
            document[name] = list(ids)
    document["auto_leave"] = state.auto_leave
    return go_json.dumps(document)


def decode_conf_state(row: bytes) -> ConfState:
    document = json.loads(row)
    return ConfState(
        voters=tuple(document.get("voters") or ()),
        learners=tuple(document.get("learners") or ()),
        voters_outgoing=tuple(document.get("voters_outgoing") or ()),
        learners_next=tuple(document.get("learners_next") or ()),
        auto_leave=bool(document.get("auto_leave", False)),
    )


# -- the list itself -------------------------------------------------------------------------------------------------


class Membership:
    """The member list, and every id that was ever removed."""

    def __init__(self, store: Store, tree: V2Store | None = None) -> None:
        """tree: told of each change that the log brings, in etcd's way, so that it counts the same indexes."""
        self._store = store
        self._tree = tree
        self._members: dict[int, Member] = {}
        self.removed: set[int] = set()
        self.cluster_version: str | None = None  # x.y.z; None until the leader has decided
        self.downgrade_target: str | None = None  # set while a downgrade is enabled

    @property
    def members(self) -> list[Member]:
        """By ascending id."""
        return [self._members[member] for member in sorted(self._members)]

    def find(self, id: int) -> Member | None:
        return self._members.get(id)

    def validate(self, change: ConfChange) -> Refusal | None:
        """Why a change cannot be applied now, with etcd's texts of the client API; etcd's order of the questions."""
        if change.node_id in self.removed:
            return MEMBER_NOT_FOUND  # `membership: ID removed` among members
        known = self._members.get(change.node_id)
        if change.type == ConfChangeType.REMOVE_NODE:
            return MEMBER_NOT_FOUND if known is None else None
        member, is_promotion = parse_context(change.context)
        if change.type == ConfChangeType.UPDATE_NODE:
            if known is None:
                return MEMBER_NOT_FOUND
            others = [other for other in self._members.values() if other.id != change.node_id]
            return PEER_URL_EXISTS if _shares_url(member, others) else None
        if is_promotion:
            if known is None:
                return MEMBER_NOT_FOUND
            return None if known.is_learner else MEMBER_NOT_LEARNER
        if known is not None:
            return MEMBER_EXISTS
        if _shares_url(member, self._members.values()):
            return PEER_URL_EXISTS
        if member.is_learner and sum(other.is_learner for other in self._members.values()) >= LEARNERS_MAX:
            return TOO_MANY_LEARNERS
        return None

    def apply(self, change: ConfChange) -> tuple[ConfChange, Refusal | None]:
        """A change out of the log: applied, or given back with node id NONE and the reason.

        Updating changes the peer URLs alone, as from etcd 3.5.31 on: before, it made a voter of a learner in the list,
        though not in the configuration.
        """
        refusal = self.validate(change)
        if refusal is not None:
            return replace(change, node_id=NONE), refusal
        tree = self._tree
        if change.type == ConfChangeType.REMOVE_NODE:
            self._remove(change.node_id)
            if tree is not None:
                tree.delete(_tree_path(change.node_id), recursive=True)
                tree.create(_removed_tree_path(change.node_id), "")
            return change, None
        member, is_promotion = parse_context(change.context)
        assert member.id == change.node_id, (member.id, change.node_id)
        is_new = False
        if change.type == ConfChangeType.UPDATE_NODE:
            member = replace(self._members[member.id], peer_urls=member.peer_urls)
        elif is_promotion:
            member = replace(self._members[member.id], is_learner=False)
        else:
            is_new = True
        self._save(member)
        if tree is not None:
            (tree.create if is_new else tree.update)(_tree_path(member.id, "raftAttributes"), _raft_attributes(member))
        return change, None

    def publish(self, id: int, name: str, client_urls: Sequence[str]) -> None:
        """A member tells its name and client URLs; from then on it counts as started. Of a removed one: nothing."""
        member = self._members.get(id)
        if member is not None:
            member = replace(member, name=name, client_urls=tuple(client_urls))
            self._save(member)
            if self._tree is not None:
                self._tree.set(_tree_path(id, "attributes"), _attributes(member))
        elif id not in self.removed:
            raise UnknownMember(f"attributes of member {hex_id(id)}, which is not in the list and never was removed")

    def set_cluster_version(self, version: str) -> None:
        self._save_version(version)
        if self._tree is not None:
            self._tree.set("/0/version", version)

    def set_downgrade(self, target: str | None) -> None:
        """target: the version a downgrade goes to; None ends it."""
        self.downgrade_target = target
        document = {"target-version": target or "", "enabled": target is not None}
        self._store.put(CLUSTER, DOWNGRADE, go_json.dumps(document))

    def load(self) -> None:
        """From the tables members, members_removed and cluster."""
        self._members = {}
        for _, row in self._store.scan(MEMBERS):
            member = Member.from_json(json.loads(row))
            self._members[member.id] = member
        self.removed = {int(key, 16) for key, _ in self._store.scan(MEMBERS_REMOVED)}
        version = self._store.get(CLUSTER, CLUSTER_VERSION)
        self.cluster_version = None if version is None else version.decode()
        downgrade = json.loads(self._store.get(CLUSTER, DOWNGRADE) or b"{}")
        self.downgrade_target = downgrade["target-version"] if downgrade.get("enabled") else None

    def restore(self, members: Iterable[Member], removed: Iterable[int], cluster_version: str | None) -> None:
        """In place of all that is there: what a snapshot's v2 tree says, which counts more than rows beside it."""
        for table in (MEMBERS, MEMBERS_REMOVED):
            for key, _ in list(self._store.scan(table)):
                self._store.delete(table, key)
        self._members = {}
        self.removed = set()
        for member in members:
            self._save(member)
        for gone in removed:
            self._remove(gone)
        self.cluster_version = None
        self._store.delete(CLUSTER, CLUSTER_VERSION)
        if cluster_version is not None:
            self._save_version(cluster_version)

    def plant(self) -> None:
        """Writes all of it into a tree that knows nothing of it yet."""
        tree = self._tree
        assert tree is not None
        for member in self.members:
            tree.create(_tree_path(member.id, "raftAttributes"), _raft_attributes(member))
            if member.name or member.client_urls:
                tree.set(_tree_path(member.id, "attributes"), _attributes(member))
        for gone in sorted(self.removed):
            tree.create(_removed_tree_path(gone), "")
        if self.cluster_version is not None:
            tree.set("/0/version", self.cluster_version)

    def _save(self, member: Member) -> None:
        self._members[member.id] = member
        self._store.put(MEMBERS, hex_id(member.id).encode(), go_json.dumps(member.to_json()))

    def _save_version(self, version: str) -> None:
        if not VERSION.fullmatch(version):
            raise BadVersion(f"cluster version {version!r} is not x.y.z")
        self.cluster_version = version
        self._store.put(CLUSTER, CLUSTER_VERSION, version.encode())

    def _remove(self, id: int) -> None:
        key = hex_id(id).encode()
        self._store.put(MEMBERS_REMOVED, key, b"removed")
        self._store.delete(MEMBERS, key)
        self._members.pop(id, None)
        self.removed.add(id)


def _tree_path(id: int, part: str = "") -> str:
    return f"/0/members/{hex_id(id)}/{part}".rstrip("/")


def _removed_tree_path(id: int) -> str:
    return f"/0/removed_members/{hex_id(id)}"


def _raft_attributes(member: Member) -> str:
    """As the v2 tree holds them: a file of JSON."""
    document: dict[str, object] = {"peerURLs": list(member.peer_urls) or None}
    if member.is_learner:
        document["isLearner"] = True
    return go_json.dumps(document).decode()


def _attributes(member: Member) -> str:
    document: dict[str, object] = {}
    if member.name:
        document["name"] = member.name
    if member.client_urls:
        document["clientURLs"] = list(member.client_urls)
    return go_json.dumps(document).decode()


def parse_context(context: bytes) -> tuple[Member, bool]:
    """The member of a conf change's context, and whether it is a promotion."""
    document = json.loads(context)
    return Member.from_json(document), bool(document.get("isPromote", False))


def _shares_url(member: Member, others: Iterable[Member]) -> bool:
    used = {url for other in others for url in other.peer_urls}
    return any(url in used for url in member.peer_urls)
