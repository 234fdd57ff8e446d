"""What other members may ask this one beside raft (peer.handlers.MemberAsked): members, versions, leases, hashes."""

import asyncio
from collections.abc import Callable

from kvorum.raft.message import Message
from kvorum.server import reconfiguration
from kvorum.server.answer import Done
from kvorum.server.hashing import hash_kv
from kvorum.server.peers import LeaseLife
from kvorum.server.server import Server
from kvorum.server.snapshots import Incoming, SnapshotRefused
from kvorum.state.membership import Member
from kvorum.state.refusal import LEASE_NOT_FOUND, NOT_LEADER, NOT_PRIMARY_LESSOR, Refusal

APPLY_TIMEOUT_S = 1.0  # etcd's: for what is committed to be applied, before a lease is renewed
APPLY_POLL_S = 0.005


class AskedByPeers:
    """Answers from one server. The coroutines raise TimeoutError."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def cluster_version(self) -> str | None:
        return self._server.machine.membership.cluster_version

    def members(self) -> list[Member]:
        return self._server.machine.membership.members

    def is_removed(self, member_id: int) -> bool:
        return member_id in self._server.machine.membership.removed

    def receive_snapshot(self, message: Message) -> Incoming | str:
        try:
            return self._server.snapshots.receive(message)
        except SnapshotRefused as why:
            return str(why)

    async def promote_member(self, member_id: int) -> Refusal | None:
        def ask(done: Callable[[Refusal | None], None]) -> None:
            if self._server.is_leader:
                reconfiguration.promote_here(self._server, member_id, done)
            else:
                done(NOT_LEADER)

        return await self._refusal_of(ask)

    async def renew_lease(self, lease_id: int) -> int | Refusal:
        await self._caught_up()
        if not self._server.lessor.is_primary:
            return NOT_PRIMARY_LESSOR
        return self._server.lessor.renew(lease_id) or LEASE_NOT_FOUND

    async def lease_life(self, lease_id: int, *, keys: bool) -> LeaseLife | Refusal:
        await self._caught_up()
        if not self._server.lessor.is_primary:
            return NOT_PRIMARY_LESSOR
        lease = self._server.machine.leases.find(lease_id)
        if lease is None:
            return LEASE_NOT_FOUND
        attached = tuple(lease.sorted_keys()) if keys else ()
        return LeaseLife(self._server.lessor.remaining_s(lease_id), lease.ttl_s, attached)

    async def hash_kv(self, revision: int) -> tuple[int, int, int] | Refusal:
        found = await hash_kv(self._server, revision)
        if isinstance(found, Refusal):
            return found
        return found.hash, self._server.machine.revision, found.compact_revision

    async def downgrade_enabled(self) -> bool:
        def ask(done: Callable[[Refusal | None], None]) -> None:
            self._server.read(lambda server, answer: answer.reply(b""), Done(done))

        if await self._refusal_of(ask) is not None:
            raise TimeoutError
        return self._server.machine.membership.downgrade_target is not None

    async def _refusal_of(self, ask: Callable[[Callable[[Refusal | None], None]], None]) -> Refusal | None:
        answered: asyncio.Future[Refusal | None] = self._server.loop.create_future()

        def done(refused: Refusal | None) -> None:
            if not answered.done():
                answered.set_result(refused)

        ask(done)
        return await answered

    async def _caught_up(self) -> None:
        """What is committed may revoke the very lease that is asked about."""
        server = self._server
        deadline = server.loop.time() + APPLY_TIMEOUT_S
        while server.machine.applied_index < server.raft.log.committed:
            if server.loop.time() >= deadline:
                raise TimeoutError
            await asyncio.sleep(APPLY_POLL_S)
