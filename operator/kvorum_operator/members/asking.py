"""Asking members: how each of them is, who is in the member list, and the changes a step wants.

Every question is bounded in time and asked of all at once; silence is an answer too. A change leaves once, to the
leader, and names members by id; what became of it the next pass observes.
"""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from kvorum.client import Client, ClientError, Member, Status

from kvorum_operator.api.reasons import Reason
from kvorum_operator.cluster.observation import Address, Answer, Entry, Observation, OwnWord
from kvorum_operator.cluster.step import AddLearner, HandOver, Hold, PromoteMember, RemoveMember, Step
from kvorum_operator.members.own_word import fetch_own_word

QUESTION_TIMEOUT_S = 1.0  # beyond it a member is silent for this pass
CHANGE_TIMEOUT_S = 7.0  # members give up after 5 s and two election timeouts; hear their answer

# etcd's texts for "not yet": ordinary, and over in some seconds.
NOT_YET = {
    "etcdserver: unhealthy cluster": (Reason.CLUSTER_UNSETTLED, "all members to have been connected for 5s"),
    "etcdserver: re-configuration failed due to not enough started members": (
        Reason.CLUSTER_UNSETTLED,
        "more members to have started",
    ),
    "etcdserver: can only promote a learner member which is in sync with leader": (
        Reason.LEARNER_BEHIND,
        "the learner to catch up",
    ),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """By name. entries: the member list as a quorum confirmed it, None when none did."""

    answered: Mapping[str, Answer]
    entries: tuple[Entry, ...] | None
    own_words: Mapping[str, OwnWord] = field(default_factory=dict)


class Members:
    """The members of one cluster. Connections are kept from pass to pass; close() ends them."""

    def __init__(self) -> None:
        self._clients: dict[str, Client] = {}

    async def close(self) -> None:
        await self._close_all_but(frozenset())

    async def _close_all_but(self, urls: Collection[str]) -> None:
        """A pod that is made anew has another address, so what was asked before may never be asked again."""
        for url in self._clients.keys() - set(urls):
            await self._clients.pop(url).close()

    def _client(self, url: str) -> Client:
        if url not in self._clients:
            self._clients[url] = Client([url], timeout_s=QUESTION_TIMEOUT_S)
        return self._clients[url]

    async def ask(self, running: Mapping[str, Address], addresses: Mapping[str, Address]) -> Asked:
        """running: whom to ask, by name, and where. Only nodes that the platform runs: nobody else answers there."""
        urls = [address.client_url for address in running.values()]
        await self._close_all_but(urls)
        answers, words = await asyncio.gather(
            asyncio.gather(*(self._status(url) for url in urls)),
            asyncio.gather(*(fetch_own_word(url, QUESTION_TIMEOUT_S) for url in urls)),
        )
        answered = {name: answer for name, answer in zip(running, answers, strict=True) if answer is not None}
        # The word of who has another name is another's; one of its states would be evidence against a member of ours.
        spoken = [(name, word) for name, word in zip(running, words, strict=True) if word is not None]
        own_words = {name: word for name, word in spoken if word.name in ("", name)}
        clusters = [
            {name: answer for name, answer in answered.items() if answer.cluster_id == one}
            for one in {answer.cluster_id for answer in answered.values()}
        ]
        lists = await asyncio.gather(*(self._entries(cluster, running, addresses) for cluster in clusters))
        asked = list(zip(clusters, lists, strict=True))
        # An address of ours may be another's by now, as a pod's is. Whose list names none of ours is no member here.
        strangers = {name for cluster, entries in asked if is_of_others(entries) for name in cluster}
        confirmed = [entries for _, entries in asked if not is_of_others(entries)]
        return Asked(
            {name: answer for name, answer in answered.items() if name not in strangers},
            confirmed[0] if len(confirmed) == 1 else None,
            {name: word for name, word in own_words.items() if name not in strangers},
        )

    async def _status(self, url: str) -> Answer | None:
        try:
            status = await self._client(url).status()
        except ClientError:
            return None
        return answer_of(status)

    async def _entries(
        self, answered: Mapping[str, Answer], running: Mapping[str, Address], addresses: Mapping[str, Address]
    ) -> tuple[Entry, ...] | None:
        """Linearizable, so a quorum confirms it: an old list must not make a new member's data look like a leftover.

        answered: members of one cluster.
        """
        voters = [name for name, answer in answered.items() if answer.leader and not answer.is_learner]
        leading = [name for name in voters if answered[name].leader == answered[name].member_id]
        for name in (leading + voters)[:2]:  # one that hangs must not cost the pass more than once
            try:
                members = await self._client(running[name].client_url).members()
            except ClientError:
                continue
            names = {address.peer_url: address.name for address in addresses.values()}
            return tuple(entry_of(member, names) for member in members)
        return None

    async def perform(self, step: Step, seen: Observation) -> Hold | None:
        """A membership step. None when it was done, else a hold that says what the members answered."""
        leader = seen.name_of(seen.leader)
        if leader not in seen.addresses:
            return Hold(Reason.REQUEST_REFUSED, f"{step}: no leader of ours is known", "a leader")
        client = self._client(seen.client_url(leader))
        try:
            match step:
                case AddLearner():
                    await client.member_add([step.peer_url], learner=True, timeout_s=CHANGE_TIMEOUT_S)
                case PromoteMember():
                    await client.member_promote(step.member_id, timeout_s=CHANGE_TIMEOUT_S)
                case RemoveMember():
                    await client.member_remove(step.member_id, timeout_s=CHANGE_TIMEOUT_S)
                case HandOver():
                    await client.move_leader(step.to, timeout_s=CHANGE_TIMEOUT_S)
                case _:
                    raise AssertionError(f"{step} is nothing that members do")
        except ClientError as refusal:
            if refusal.text in NOT_YET:
                reason, waits_for = NOT_YET[refusal.text]
                return Hold(reason, f"{step}: the members are not ready for it yet ({refusal.text})", waits_for)
            return Hold(Reason.REQUEST_REFUSED, f"{step} was refused: {refusal.text}", "the members to take it")
        return None


def is_of_others(entries: tuple[Entry, ...] | None) -> bool:
    """Whether a member list is known, and of another cluster than ours: peer URLs are permanent."""
    return entries is not None and all(entry.name is None for entry in entries)


def answer_of(status: Status) -> Answer:
    return Answer(
        member_id=status.member_id,
        cluster_id=status.cluster_id,
        leader=status.leader,
        term=status.raft_term,
        raft_index=status.raft_index,
        applied_index=status.applied_index,
        revision=status.revision,
        database_bytes=status.db_size,
        version=status.version,
        is_learner=status.is_learner,
    )


def entry_of(member: Member, names: Mapping[str, str]) -> Entry:
    """names: of ours, by peer URL."""
    name = next((names[url] for url in member.peer_urls if url in names), None)
    return Entry(member.id, name, member.peer_urls, started=bool(member.client_urls), is_learner=member.is_learner)
