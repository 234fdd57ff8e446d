"""Who a client is where authentication is on: a user, a password, and the token that stands for both.

The token is fetched by the first call that needs it, once for all that wait for it, and again when the server does not
take it any more. Neither it nor the password appears in an error, a log, or a repr.
"""

import asyncio
from collections.abc import Awaitable, Callable

from kvorum.client.errors import ClientError
from kvorum.etcdpb import rpc_pb2 as rpc

# What a server says of a token that a new one helps against; it has changed nothing then. The last: it forgot the token
# (clientv3 counts it so, too).
STALE = frozenset(
    (
        "etcdserver: invalid auth token",
        "etcdserver: revision of auth store is old",
        "etcdserver: user name is empty",
    )
)
NOT_ENABLED = "etcdserver: authentication is not enabled"
LOGINS_MAX = 3  # for one call: users and roles that change all the time make every token old

Authenticate = Callable[[rpc.AuthenticateRequest], Awaitable[rpc.AuthenticateResponse]]


class Login:
    def __init__(self, user: str, password: str) -> None:
        self.user = user
        self._password = password
        self._token: str | None = None  # "" while authentication is off
        self._fetching = asyncio.Lock()

    async def token(self, authenticate: Authenticate) -> str:
        """ "" if authentication is off. Raises AuthenticationFailed, and what authenticate raises."""
        async with self._fetching:
            if self._token is None:
                try:
                    answer = await authenticate(rpc.AuthenticateRequest(name=self.user, password=self._password))
                except ClientError as error:
                    if error.text != NOT_ENABLED:
                        raise
                    self._token = ""  # nosec B105
                else:
                    self._token = answer.token
            return self._token

    def forget(self, token: str) -> None:
        """A server did not take it. Nothing if another call has fetched a new one meanwhile."""
        if self._token == token:
            self._token = None
