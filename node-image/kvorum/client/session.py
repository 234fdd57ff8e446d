"""A lease that is kept alive as long as a block runs: what is put under it goes when the program does.

It counts as lost once its time has passed since the last renewal was sent, whoever still answers: the members may have
ended it from then on, and somebody else may have what was held by it. So a program that is cut off knows in time.
"""

import asyncio
import time
from contextlib import suppress

from kvorum.client.client import Client
from kvorum.client.errors import ClientError, SessionExpired

RENEWALS = 3  # within the lease's time, so that two may fail
PAUSE_S = 0.5  # at most, after a renewal that failed


class Session:
    """`async with Session(client, ttl_s=10) as session:` grants a lease, keeps it alive, and revokes it at the end.

    ttl_s:    seconds; the server may grant more.
    lease_id: of a lease to keep alive instead, which is then not revoked at the end.

    lease_id is of the lease, also of one that was granted; 0 before the block.
    """

    def __init__(self, client: Client, ttl_s: int = 60, *, lease_id: int = 0) -> None:
        self.client = client
        self.lease_id = lease_id
        self.ttl_s = ttl_s
        self._is_own = lease_id == 0
        self._expires_s = 0.0  # by the monotonic clock
        self._lost = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Session":
        """Raises LeaseNotFound if a lease to keep alive is not there."""
        sent_s = time.monotonic()
        if self._is_own:
            lease = await self.client.lease_grant(self.ttl_s)
            self.lease_id, self.ttl_s = lease.id, lease.ttl_s
        else:
            self.ttl_s = await self.client.lease_keepalive(self.lease_id)
            if self.ttl_s <= 0:
                raise SessionExpired(f"lease {self.lease_id:016x} is not there")
        self._expires_s = sent_s + self.ttl_s
        self._keeping = asyncio.create_task(self._keep(), name=f"keeps lease {self.lease_id:016x}")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._keeping is not None
        self._keeping.cancel()
        with suppress(asyncio.CancelledError):
            await self._keeping
        if self._is_own and not self.is_lost:
            with suppress(ClientError):  # it ends by itself then
                await self.client.lease_revoke(self.lease_id)

    @property
    def is_lost(self) -> bool:
        return self._lost.is_set() or (self._keeping is not None and time.monotonic() >= self._expires_s)

    async def lost(self) -> None:
        """Returns when the lease is lost, which it does not come back from."""
        await self._lost.wait()

    def require(self) -> None:
        """Raises SessionExpired if the lease is lost."""
        if self.is_lost:
            raise SessionExpired(f"session of lease {self.lease_id:016x} is expired")

    async def _keep(self) -> None:
        pause_s = self.ttl_s / RENEWALS
        while not self.is_lost:
            await asyncio.sleep(min(pause_s, max(0.0, self._expires_s - time.monotonic())))
            sent_s = time.monotonic()
            left_s = self._expires_s - sent_s
            if left_s <= 0:
                break
            try:
                ttl_s = await asyncio.wait_for(self.client.lease_keepalive(self.lease_id), left_s)
            except (ClientError, TimeoutError):
                pause_s = min(PAUSE_S, self.ttl_s / RENEWALS)
                continue
            if ttl_s <= 0:
                break
            self._expires_s = sent_s + ttl_s
            pause_s = ttl_s / RENEWALS
        self._lost.set()
