"""A cluster of one out of a member's data, for a quorum that is lost for good (--force-new-cluster).

Pure. The whole log counts as committed, and entries that remove every other member behind it do, although nobody else
has them. The others' ids are then removed for ever, so none of them can come back beside
this one.
"""

from collections.abc import Iterable, Sequence

from kvorum.raft import change_codec
from kvorum.raft.message import ConfChangeType, ConfState, Entry, EntryType
from kvorum.state import membership
from kvorum.state.membership import Member

NO_REQUEST = 0  # nobody waits for these entries


def lone_entries(
    own_id: int, own_peer_urls: Sequence[str], applied: ConfState, unapplied: Iterable[Entry], *, after: int, term: int
) -> list[Entry]:
    """The entries that leave one voter, own_id, to follow the entry `after`.

    applied: the configuration as of the tables; unapplied: what is in the log and not in them yet, up to `after`.
    own_peer_urls: for an entry of its own, where the configuration does not have it.
    """
    voters, learners = configuration(applied, unapplied)
    changes = [membership.remove_change(other, NO_REQUEST) for other in sorted(voters | learners) if other != own_id]
    if own_id in learners:
        changes.append(membership.promote_change(own_id, NO_REQUEST))
    elif own_id not in voters:
        changes.append(membership.add_change(Member(own_id, tuple(own_peer_urls)), NO_REQUEST))
    # Its own first: a configuration must never be without a voter.
    changes.sort(key=lambda change: change.node_id != own_id)
    return [
        Entry(term=term, index=index, type=EntryType.CONF_CHANGE, data=change_codec.encode(change))
        for index, change in enumerate(changes, start=after + 1)
    ]


def removals(unapplied: Iterable[Entry]) -> set[int]:
    """Who is removed by these entries, and so for ever."""
    changes = [change_codec.decode_single(entry.data) for entry in unapplied if entry.type == EntryType.CONF_CHANGE]
    return {change.node_id for change in changes if change.type is ConfChangeType.REMOVE_NODE}


def configuration(applied: ConfState, unapplied: Iterable[Entry]) -> tuple[set[int], set[int]]:
    """Voters and learners once these entries are applied. Joint configurations are no etcd's."""
    voters, learners = set(applied.voters), set(applied.learners)
    for entry in unapplied:
        if entry.type == EntryType.CONF_CHANGE:
            change = change_codec.decode_single(entry.data)
            if change.type is ConfChangeType.REMOVE_NODE:
                voters.discard(change.node_id)
                learners.discard(change.node_id)
            elif change.type is ConfChangeType.ADD_NODE:
                voters.add(change.node_id)
                learners.discard(change.node_id)
            elif change.type is ConfChangeType.ADD_LEARNER and change.node_id not in voters:
                learners.add(change.node_id)
    return voters, learners
