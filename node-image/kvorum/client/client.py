"""The client: etcd's calls as coroutines over values.

Knows which calls may be repeated at another endpoint, and repeats no other.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message

from kvorum.client.auth import Auth
from kvorum.client.endpoints import Endpoints
from kvorum.client.errors import DEADLINE_EXCEEDED, UNAVAILABLE, ClientError
from kvorum.client.login import Login
from kvorum.client.messages import (
    delete_result_of,
    header_of,
    member_of,
    members_of,
    put_result_of,
    range_result_of,
    request_of_txn,
    txn_result_of,
)
from kvorum.client.tls import Tls
from kvorum.client.values import (
    Alarm,
    AlarmType,
    DeleteResult,
    HashKV,
    Header,
    KeyValue,
    Lease,
    LeaseInfo,
    Member,
    PutResult,
    RangeResult,
    SortOrder,
    SortTarget,
    Status,
    Txn,
    TxnResult,
)
from kvorum.client.watcher import Watcher, watch_request
from kvorum.etcdpb import rpc_pb2 as rpc

KV = "/etcdserverpb.KV/"
LEASE = "/etcdserverpb.Lease/"
CLUSTER = "/etcdserverpb.Cluster/"
MAINTENANCE = "/etcdserverpb.Maintenance/"

NOT_LEADER = "etcdserver: not leader"
DEFRAGMENT_TIMEOUT_S = 60.0  # it copies the whole data file

Answer = TypeVar("Answer", bound=Message)


class Client:
    """A client of one cluster.

    endpoints:  http(s)://host:port or host:port of members, any of them; reads go on to the next where one does not
                answer.
    timeout_s:  of each attempt at one endpoint; a call takes at most that times the endpoints.
    connect_timeout_s: of connecting to an endpoint alone, if it is to be shorter.
    deadline_s: for that long a read, and a write that could not leave, is tried again at all endpoints in turn, as long
                as none of them answers; None: each is asked once.
    tls:        certificates; https:// without it trusts public authorities.
    user, password: where authentication is on. The token for both is fetched when it is needed first, and again when
                it is not taken any more.

    Every call raises ClientError or one of its classes (see errors, and there what a failed write means).
    A call with an `endpoint` asks that member and no other; it need not be one of the client's endpoints.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        timeout_s: float = 2.0,
        *,
        connect_timeout_s: float | None = None,
        deadline_s: float | None = None,
        tls: Tls | None = None,
        user: str | None = None,
        password: str | None = None,
    ) -> None:
        if (user is None) != (password is None):
            raise ValueError("a client needs both user and password, or neither")
        login = None if user is None or password is None else Login(user, password)
        self._endpoints = Endpoints(
            endpoints,
            timeout_s,
            connect_timeout_s=connect_timeout_s,
            deadline_s=deadline_s,
            tls=tls,
            login=login,
        )
        self.auth = Auth(self._endpoints)

    @property
    def endpoints(self) -> tuple[str, ...]:
        return self._endpoints.urls

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._endpoints.close()

    async def login(self, *, timeout_s: float | None = None) -> None:
        """Fetches the user's token now, where otherwise the first call does. Nothing without a user.

        Raises AuthenticationFailed, and ClientError if no endpoint answers.
        """
        await self._endpoints.log_in(timeout_s)

    # Keys

    async def put(
        self, key: bytes, value: bytes, lease: int = 0, prev_kv: bool = False, *, timeout_s: float | None = None
    ) -> PutResult:
        request = rpc.PutRequest(key=key, value=value, lease=lease, prev_kv=prev_kv)
        return put_result_of(await self._endpoints.write(KV + "Put", request, rpc.PutResponse, timeout_s))

    async def get(
        self, key: bytes, *, revision: int = 0, serializable: bool = False, timeout_s: float | None = None
    ) -> KeyValue | None:
        """One key, at a revision or now. serializable: as the member asked knows it, which may be behind."""
        answer = await self.range(key, revision=revision, serializable=serializable, timeout_s=timeout_s)
        return answer.kvs[0] if answer.kvs else None

    async def range(
        self,
        key: bytes,
        range_end: bytes = b"",
        *,
        limit: int = 0,
        revision: int = 0,
        sort_order: SortOrder = SortOrder.NONE,
        sort_target: SortTarget = SortTarget.KEY,
        serializable: bool = False,
        keys_only: bool = False,
        count_only: bool = False,
        min_mod_revision: int = 0,
        max_mod_revision: int = 0,
        min_create_revision: int = 0,
        max_create_revision: int = 0,
        endpoint: str | None = None,
        timeout_s: float | None = None,
    ) -> RangeResult:
        """The keys from key up to range_end, not included.

        range_end: b"" for the key alone, b"\\0" for all from key on, prefix_end(key) for all that begin with it.
        """
        request = rpc.RangeRequest(
            key=key,
            range_end=range_end,
            limit=limit,
            revision=revision,
            sort_order=rpc.RangeRequest.SortOrder.Name(sort_order),
            sort_target=rpc.RangeRequest.SortTarget.Name(sort_target),
            serializable=serializable,
            keys_only=keys_only,
            count_only=count_only,
            min_mod_revision=min_mod_revision,
            max_mod_revision=max_mod_revision,
            min_create_revision=min_create_revision,
            max_create_revision=max_create_revision,
        )
        return range_result_of(await self._read(endpoint, KV + "Range", request, rpc.RangeResponse, timeout_s))

    async def delete(
        self, key: bytes, range_end: bytes = b"", *, prev_kv: bool = False, timeout_s: float | None = None
    ) -> DeleteResult:
        request = rpc.DeleteRangeRequest(key=key, range_end=range_end, prev_kv=prev_kv)
        answer = await self._endpoints.write(KV + "DeleteRange", request, rpc.DeleteRangeResponse, timeout_s)
        return delete_result_of(answer)

    async def txn(self, txn: Txn, *, timeout_s: float | None = None) -> TxnResult:
        """Counts as a write, also where it only reads."""
        return txn_result_of(await self._endpoints.write(KV + "Txn", request_of_txn(txn), rpc.TxnResponse, timeout_s))

    async def compact(self, revision: int, *, physical: bool = False, timeout_s: float | None = None) -> Header:
        """Drops what only reads before `revision` need. physical: returns when it is gone from the data file too."""
        request = rpc.CompactionRequest(revision=revision, physical=physical)
        return header_of(
            (await self._endpoints.write(KV + "Compact", request, rpc.CompactionResponse, timeout_s)).header
        )

    def watch(
        self,
        key: bytes,
        range_end: bytes = b"",
        *,
        start_revision: int = 0,
        prev_kv: bool = False,
        progress_notify: bool = False,
        filters: Sequence[str] = (),
        require_leader: bool = False,
    ) -> Watcher:
        """Events of a key or range from start_revision on; 0: from now on, which `async with` waits for.

        require_leader: the member ends the stream when it has had no leader for a while, and the next one is asked.
        """
        request = watch_request(
            key,
            range_end,
            start_revision=start_revision,
            prev_kv=prev_kv,
            progress_notify=progress_notify,
            filters=filters,
        )
        return Watcher(self._endpoints, request, require_leader=require_leader)

    # Leases

    async def lease_grant(self, ttl_s: int, lease_id: int = 0, *, timeout_s: float | None = None) -> Lease:
        """lease_id: 0 lets the server choose."""
        request = rpc.LeaseGrantRequest(TTL=ttl_s, ID=lease_id)
        answer = await self._endpoints.write(LEASE + "LeaseGrant", request, rpc.LeaseGrantResponse, timeout_s)
        return Lease(answer.ID, answer.TTL)

    async def lease_revoke(self, lease_id: int, *, timeout_s: float | None = None) -> Header:
        """Ends a lease and deletes its keys."""
        request = rpc.LeaseRevokeRequest(ID=lease_id)
        answer = await self._endpoints.write(LEASE + "LeaseRevoke", request, rpc.LeaseRevokeResponse, timeout_s)
        return header_of(answer.header)

    async def lease_keepalive(self, lease_id: int, *, timeout_s: float | None = None) -> int:
        """Renews a lease once: its TTL from now in seconds, 0 if there is no such lease (any more)."""
        request = rpc.LeaseKeepAliveRequest(ID=lease_id)
        answer = await self._endpoints.read_stream(
            LEASE + "LeaseKeepAlive", request, rpc.LeaseKeepAliveResponse, timeout_s
        )
        return int(answer.TTL)

    async def lease_time_to_live(
        self, lease_id: int, *, keys: bool = False, timeout_s: float | None = None
    ) -> LeaseInfo:
        request = rpc.LeaseTimeToLiveRequest(ID=lease_id, keys=keys)
        answer = await self._endpoints.read(LEASE + "LeaseTimeToLive", request, rpc.LeaseTimeToLiveResponse, timeout_s)
        return LeaseInfo(answer.ID, answer.TTL, answer.grantedTTL, tuple(answer.keys))

    async def leases(self, *, endpoint: str | None = None, timeout_s: float | None = None) -> tuple[int, ...]:
        """The ids of all leases."""
        request = rpc.LeaseLeasesRequest()
        answer = await self._read(endpoint, LEASE + "LeaseLeases", request, rpc.LeaseLeasesResponse, timeout_s)
        return tuple(lease.ID for lease in answer.leases)

    # Members

    async def members(
        self, linearizable: bool = True, *, endpoint: str | None = None, timeout_s: float | None = None
    ) -> tuple[Member, ...]:
        """linearizable False: as the member asked knows it, which also works without a leader."""
        request = rpc.MemberListRequest(linearizable=linearizable)
        answer = await self._read(endpoint, CLUSTER + "MemberList", request, rpc.MemberListResponse, timeout_s)
        return members_of(answer.members)

    async def member_add(
        self, peer_urls: Sequence[str], learner: bool = True, *, timeout_s: float | None = None
    ) -> Member:
        """Adds an entry to the member list; the member itself is started after that."""
        request = rpc.MemberAddRequest(peerURLs=peer_urls, isLearner=learner)
        answer = await self._endpoints.write(CLUSTER + "MemberAdd", request, rpc.MemberAddResponse, timeout_s)
        return member_of(answer.member)

    async def member_remove(self, member_id: int, *, timeout_s: float | None = None) -> tuple[Member, ...]:
        """The members that stay."""
        request = rpc.MemberRemoveRequest(ID=member_id)
        answer = await self._endpoints.write(CLUSTER + "MemberRemove", request, rpc.MemberRemoveResponse, timeout_s)
        return members_of(answer.members)

    async def member_promote(self, member_id: int, *, timeout_s: float | None = None) -> tuple[Member, ...]:
        """Makes a learner a voter. ClientError `...in sync with leader` while it has not caught up."""
        request = rpc.MemberPromoteRequest(ID=member_id)
        answer = await self._endpoints.write(CLUSTER + "MemberPromote", request, rpc.MemberPromoteResponse, timeout_s)
        return members_of(answer.members)

    async def member_update(
        self, member_id: int, peer_urls: Sequence[str], *, timeout_s: float | None = None
    ) -> tuple[Member, ...]:
        request = rpc.MemberUpdateRequest(ID=member_id, peerURLs=peer_urls)
        answer = await self._endpoints.write(CLUSTER + "MemberUpdate", request, rpc.MemberUpdateResponse, timeout_s)
        return members_of(answer.members)

    # Maintenance

    async def status(self, endpoint: str | None = None, *, timeout_s: float | None = None) -> Status:
        """endpoint: whose status; by default of any member that answers."""
        answer = await self._read(endpoint, MAINTENANCE + "Status", rpc.StatusRequest(), rpc.StatusResponse, timeout_s)
        return Status(
            member_id=answer.header.member_id,
            cluster_id=answer.header.cluster_id,
            leader=answer.leader,
            version=answer.version,
            raft_index=answer.raftIndex,
            raft_term=answer.raftTerm,
            applied_index=answer.raftAppliedIndex,
            db_size=answer.dbSize,
            is_learner=answer.isLearner,
            errors=tuple(answer.errors),
            revision=answer.header.revision,
        )

    async def move_leader(self, member_id: int, *, timeout_s: float | None = None) -> None:
        """Hands leadership to a member. Only the leader can: it has to be among the client's endpoints.

        Raises ClientError `etcdserver: not leader` if none of the endpoints leads.
        """
        request = rpc.MoveLeaderRequest(targetID=member_id)
        failure = ClientError(UNAVAILABLE, "no endpoint was asked")
        for url in self._endpoints.urls:
            try:
                await self._endpoints.ask(url, MAINTENANCE + "MoveLeader", request, rpc.MoveLeaderResponse, timeout_s)
            except ClientError as error:
                # Whom leadership was not moved by can be passed over: asking another one moves it at most once.
                if error.text != NOT_LEADER and error.code not in (UNAVAILABLE, DEADLINE_EXCEEDED):
                    raise
                failure = error
                continue
            return
        raise failure

    async def alarms(self, *, timeout_s: float | None = None) -> tuple[Alarm, ...]:
        request = rpc.AlarmRequest(action=rpc.AlarmRequest.GET)
        return alarms_of(await self._endpoints.read(MAINTENANCE + "Alarm", request, rpc.AlarmResponse, timeout_s))

    async def alarm_disarm(
        self, member_id: int = 0, alarm: AlarmType = AlarmType.NONE, *, timeout_s: float | None = None
    ) -> tuple[Alarm, ...]:
        """Disarms an alarm of a member; without arguments all there are. The alarms disarmed."""
        if member_id == 0 and alarm is AlarmType.NONE:
            disarmed: list[Alarm] = []
            for active in await self.alarms(timeout_s=timeout_s):
                disarmed += await self.alarm_disarm(active.member_id, active.type, timeout_s=timeout_s)
            return tuple(disarmed)
        request = rpc.AlarmRequest(
            action=rpc.AlarmRequest.DEACTIVATE, memberID=member_id, alarm=rpc.AlarmType.Name(alarm)
        )
        return alarms_of(await self._endpoints.write(MAINTENANCE + "Alarm", request, rpc.AlarmResponse, timeout_s))

    async def hash_kv(
        self, revision: int = 0, *, endpoint: str | None = None, timeout_s: float | None = None
    ) -> HashKV:
        """A member's hash of its store up to a revision, 0 for all; equal on all members that are that far."""
        request = rpc.HashKVRequest(revision=revision)
        answer = await self._read(endpoint, MAINTENANCE + "HashKV", request, rpc.HashKVResponse, timeout_s)
        return HashKV(header_of(answer.header), answer.hash, answer.compact_revision, answer.hash_revision)

    async def defragment(self, endpoint: str | None = None, *, timeout_s: float = DEFRAGMENT_TIMEOUT_S) -> None:
        """Rewrites a member's data file without its free space. The member may not answer meanwhile."""
        url = endpoint or self._endpoints.in_turn()[0][1]
        await self._endpoints.ask(
            url, MAINTENANCE + "Defragment", rpc.DefragmentRequest(), rpc.DefragmentResponse, timeout_s
        )

    def snapshot(self, endpoint: str | None = None, *, timeout_s: float | None = None) -> AsyncIterator[bytes]:
        """A member's whole state, piece by piece, its checksum last (see snapshot.save_snapshot).

        timeout_s: of all of it; None: as long as it takes. Raises ClientError, also in between.
        """
        url = endpoint or self._endpoints.in_turn()[0][1]
        return self._snapshot(url, timeout_s)

    async def _snapshot(self, url: str, timeout_s: float | None) -> AsyncIterator[bytes]:
        path = MAINTENANCE + "Snapshot"
        async for answer in self._endpoints.read_all(url, path, rpc.SnapshotRequest(), rpc.SnapshotResponse, timeout_s):
            yield answer.blob

    # Messages

    async def read(
        self,
        path: str,
        request: Message,
        answer: type[Answer],
        *,
        endpoint: str | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """A call by etcd's own messages that changes nothing, or may happen twice: for who wants all they hold."""
        return await self._read(endpoint, path, request, answer, timeout_s)  # type: ignore[no-any-return]  # grpc's

    async def read_first(
        self, path: str, request: Message, answer: type[Answer], *, timeout_s: float | None = None
    ) -> Answer:
        """The same for a method of streams: one request, and its first answer."""
        return await self._endpoints.read_stream(path, request, answer, timeout_s)  # type: ignore[no-any-return]  # grpc's

    async def write(
        self, path: str, request: Message, answer: type[Answer], *, timeout_s: float | None = None
    ) -> Answer:
        """The same for one that leaves once."""
        return await self._endpoints.write(path, request, answer, timeout_s)  # type: ignore[no-any-return]  # grpc's

    async def _read(self, endpoint: str | None, path: str, request: Any, answer: Any, timeout_s: float | None) -> Any:
        if endpoint is not None:
            return await self._endpoints.ask(endpoint, path, request, answer, timeout_s)
        return await self._endpoints.read(path, request, answer, timeout_s)


def alarms_of(answer: rpc.AlarmResponse) -> tuple[Alarm, ...]:
    return tuple(Alarm(alarm.memberID, AlarmType(alarm.alarm)) for alarm in answer.alarms)


def prefix_end(prefix: bytes) -> bytes:
    """The range_end of all keys that begin with prefix, which must not be empty."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,)) if kept else b"\0"
