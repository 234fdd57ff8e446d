"""What clients ask for: few keys and few leases, so that requests meet, and every kind of request.

Only chooses; what becomes of a request is the members' affair, and whether the answers are right the judge's.
"""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kvorum.etcdpb.internal_pb2 import InternalRaftRequest
from kvorum.etcdpb.rpc_pb2 import AlarmRequest, AlarmType, Compare, Permission, RangeRequest, TxnRequest
from kvorum.state.auth import ROOT
from kvorum.state.v2_request import publish_request

from tests.sim.membership import Members, Wish

if TYPE_CHECKING:
    from tests.sim.member import Member
    from tests.sim.world import World

USER, ROLE = b"user", b"role"  # who may do something, beside root
KEYS = tuple(b"key-%d" % number for number in range(8))
ALL_KEYS = (b"key-", b"key.")
LEASES_REMEMBERED = 4
VOTERS_MAX = 5  # before more come; joint changes may add two at once
SHRINK = {1: 0.0, 2: 0.1, 3: 0.3}  # chance that one of so many voters may go: small groups have fewer ways to fail
WRITES_MAX = 4  # in one operation

Action = tuple[Any, ...]


class Clients:
    """Knows the members as clients do, and who leads: half of what is asked goes there."""

    def __init__(self, world: "World", rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self._next_id = 0
        self._next_lease = 0
        self._next_member = len(world.members) + 1
        self._leases: list[int] = []  # granted last
        self._likes_auth = rng.random() < 0.4
        self.likes_joint = rng.random() < 0.5
        self._haste = rng.choice((1, 3))  # of promotions against removals
        self._patience = rng.choice((0.0, 0.3, 0.9))  # with a learner
        inclination = world.inclination
        self._lease_ttls_s = inclination.lease_ttls_s
        self._keeps_even = inclination.keeps_even
        self._operations = OPERATIONS + LEASE_OPERATIONS * inclination.lease_operations
        if inclination.likes_joint is not None:
            self.likes_joint = inclination.likes_joint
        if inclination.patience is not None:
            self._patience = inclination.patience

    # -- whom to ask

    def running(self) -> "list[Member]":
        return [member for member in self._world.members.values() if member.node is not None and not member.is_paused]

    def leader(self) -> "Member | None":
        """Of the newest term, if somebody leads it."""
        leaders = [member for member in self.running() if member.is_leader]
        return max(leaders, key=lambda member: member.node.term if member.node else 0, default=None)

    def _somebody(self) -> "Member":
        running = self.running()
        leaders = [member for member in running if member.is_leader]  # one that was replaced and does not know it, too
        return self._rng.choice(leaders if leaders and self._rng.random() < 0.5 else running)

    # -- what to ask

    def operations(self) -> list[Action]:
        """One thing that a client does."""
        return self._rng.choice(self._operations)(self, self._somebody().id)

    def _envelope(self) -> InternalRaftRequest:
        self._next_id += 1
        envelope = InternalRaftRequest()
        envelope.header.ID = self._next_id
        auth = self._world.judge.machine.auth
        if auth.enabled:  # as a server fills it in; some decide on rights that have changed since
            envelope.header.username = self._rng.choice((ROOT, ROOT, ROOT, USER))
            envelope.header.auth_revision = max(1, auth.revision - (self._rng.random() < 0.1))
        return envelope

    @staticmethod
    def _request(number: int, envelope: InternalRaftRequest) -> Action:
        return "request", number, envelope.header.ID, envelope.SerializeToString()

    def _value(self) -> bytes:
        return b"value of %d" % self._next_id

    def puts(self, number: int) -> list[Action]:
        actions = []
        for _ in range(self._rng.randint(1, WRITES_MAX)):
            envelope = self._envelope()
            envelope.put.key = self._rng.choice(KEYS)
            envelope.put.value = self._value()
            if self._leases and self._rng.random() < 0.3:
                envelope.put.lease = self._rng.choice(self._leases)
            actions.append(self._request(number, envelope))
        return actions

    def delete(self, number: int) -> list[Action]:
        envelope = self._envelope()
        if self._rng.random() < 0.2:
            envelope.delete_range.key, envelope.delete_range.range_end = ALL_KEYS
        else:
            envelope.delete_range.key = self._rng.choice(KEYS)
        return [self._request(number, envelope)]

    def txn(self, number: int) -> list[Action]:
        envelope = self._envelope()
        txn: TxnRequest = envelope.txn
        rng = self._rng
        key, other = rng.sample(KEYS, 2)
        txn.compare.add(key=key, target=Compare.VERSION, result=Compare.GREATER, version=rng.randrange(3))
        txn.success.add().request_put.CopyFrom(self._put(key))
        txn.success.add().request_delete_range.key = other
        txn.success.add().request_range.key = key
        txn.failure.add().request_put.CopyFrom(self._put(other))
        txn.failure.add().request_put.CopyFrom(self._put(key))
        return [self._request(number, envelope)]

    def _put(self, key: bytes) -> Any:
        put = InternalRaftRequest().put
        put.key, put.value = key, self._value()
        return put

    def compaction(self, number: int) -> list[Action]:
        envelope = self._envelope()
        revision = self._world.judge.machine.revision
        envelope.compaction.revision = max(1, revision - self._rng.choice((0, 1, 3, 10)))
        return [self._request(number, envelope)]

    def grant(self, number: int) -> list[Action]:
        envelope = self._envelope()
        self._next_lease += 1
        envelope.lease_grant.ID = self._next_lease
        envelope.lease_grant.TTL = self._rng.choice(self._lease_ttls_s)
        self._remember(self._next_lease)
        key = self._envelope()
        key.put.key, key.put.value, key.put.lease = self._rng.choice(KEYS), self._value(), self._next_lease
        return [self._request(number, envelope), self._request(number, key)]

    def _remember(self, lease: int) -> None:
        """Some are renewed for long, others soon forgotten."""
        alive = self._world.judge.machine.leases
        self._leases = [known for known in self._leases if alive.find(known) is not None or known == self._leases[-1]]
        del self._leases[LEASES_REMEMBERED - 1 :]
        self._leases.append(lease)

    def revoke(self, number: int) -> list[Action]:
        if not self._leases or self._rng.random() < 0.5:
            return []
        envelope = self._envelope()
        envelope.lease_revoke.ID = self._rng.choice(self._leases)
        return [self._request(number, envelope)]

    def keep_alive(self, number: int) -> list[Action]:
        """Of all leases, as a client does that holds them; asked of whoever leads, or believes that it does."""
        leaders = [member.id for member in self.running() if member.is_leader]
        return [("keep alive", leader, lease) for leader in leaders for lease in self._leases]

    def checkpoint(self, number: int) -> list[Action]:
        return [("checkpoint", number, self._rng.choice(self._leases))] if self._leases else []

    def alarm(self, number: int) -> list[Action]:
        """Raised and disarmed by two different members at times, so that they overlap."""
        envelope = self._envelope()
        envelope.alarm.alarm = AlarmType.NOSPACE
        envelope.alarm.memberID = self._rng.choice(sorted(self._world.members))
        activates = self._rng.random() < 0.2
        envelope.alarm.action = AlarmRequest.ACTIVATE if activates else AlarmRequest.DEACTIVATE
        return [self._request(number, envelope)]

    def disarm(self, number: int) -> list[Action]:
        actions = []
        for alarm in self._world.judge.machine.alarms.active():
            envelope = self._envelope()
            envelope.alarm.alarm, envelope.alarm.memberID = AlarmType.NOSPACE, alarm.memberID
            envelope.alarm.action = AlarmRequest.DEACTIVATE
            actions.append(self._request(number, envelope))
        return actions

    def authentication(self, number: int) -> list[Action]:
        """A step of somebody who sets it up, changes what a user may do, or turns it on or off."""
        if not self._likes_auth:
            return []
        rng, auth = self._rng, self._world.judge.machine.auth
        if auth.find_user(ROOT) is None or rng.random() < 0.1:
            return [self._request(number, envelope) for envelope in self._first_users()]
        envelope = self._envelope()
        dice = rng.random()
        if dice < 0.3:
            envelope.auth_enable.SetInParent()
        elif dice < 0.5:
            envelope.auth_disable.SetInParent()
        elif dice < 0.7:
            grant = envelope.auth_role_grant_permission
            grant.name, grant.perm.permType = ROLE, Permission.READWRITE
            grant.perm.key, grant.perm.range_end = rng.choice(KEYS), ALL_KEYS[1]
        elif dice < 0.8:
            envelope.auth_role_revoke_permission.role = ROLE
            envelope.auth_role_revoke_permission.key = rng.choice(KEYS)
            envelope.auth_role_revoke_permission.range_end = ALL_KEYS[1]
        elif dice < 0.9:
            envelope.auth_user_revoke_role.name, envelope.auth_user_revoke_role.role = USER, ROLE
        else:
            envelope.auth_user_delete.name = USER
        return [self._request(number, envelope)]

    def _first_users(self) -> list[InternalRaftRequest]:
        envelopes = []
        for user, role in ((ROOT, ROOT), (USER, ROLE)):
            add_user, add_role, grant = self._envelope(), self._envelope(), self._envelope()
            add_user.auth_user_add.name, add_user.auth_user_add.options.no_password = user, True
            add_role.auth_role_add.name = role
            grant.auth_user_grant_role.user, grant.auth_user_grant_role.role = user, role
            envelopes += [add_user, add_role, grant]
        return envelopes

    def read(self, number: int) -> list[Action]:
        leaders = [member for member in self.running() if member.is_leader]
        if len(leaders) > 1 and self._rng.random() < 0.7:  # where a stale read would come from
            number = min(leaders, key=lambda member: member.node.term if member.node else 0).id
        return self.read_at(number)

    def read_at(self, number: int) -> list[Action]:
        """Of one key or of all, now or at a revision that may be compacted meanwhile."""
        request = RangeRequest()
        rng = self._rng
        if rng.random() < 0.5:
            request.key, request.range_end = ALL_KEYS
        else:
            request.key = rng.choice(KEYS)
        revision = self._world.judge.machine.revision
        if rng.random() < 0.2 and revision > 3:
            request.revision = revision - rng.randrange(3)
        return [("read", number, request.SerializeToString())]

    def probe(self) -> tuple[int, bytes]:
        """A put that must come through in the end. (An alarm may refuse it; it is committed all the same.)"""
        envelope = self._envelope()
        envelope.put.key, envelope.put.value = b"probe", self._value()
        return envelope.header.ID, envelope.SerializeToString()

    def publish(self, number: int) -> tuple[int, bytes]:
        """What a member that has started says of itself."""
        self._next_id += 1
        name, urls = f"member-{number}", [f"http://client-{number}"]
        return self._next_id, publish_request(number, name, urls, self._next_id)

    # -- the membership

    def changes(self) -> list[Action]:
        """A step that somebody in charge would take: grow by a learner, promote it, or shrink."""
        members, rng = self._world.oracle.newest_members, self._rng
        wishes: list[Wish] = []
        self._next_member = max(self._next_member, *(number + 1 for number in self._world.members))
        if members.outgoing or (self.likes_joint and rng.random() < 0.8):
            return self._joint_changes(members)
        if members.learners and rng.random() < self._patience:
            return []
        if self._keeps_even and not members.learners and len(members.voters) % 2 == 0:
            return [("change", self._somebody().id, "learn", self._next_member)]
        if members.learners:
            wishes += [("promote", learner) for learner in members.learners] * self._haste
            wishes += [("remove", learner) for learner in members.learners]
        elif len(members.voters) < VOTERS_MAX:
            wishes.append(("learn", self._next_member))
            if rng.random() < 0.3:
                wishes.append(("add", self._next_member))
        if rng.random() < SHRINK.get(len(members.voters), 1.0):
            wishes += [("remove", voter) for voter in sorted(members.voters)]
        if not wishes:
            return []
        asked = self._somebody()
        count = 2 if rng.random() < 0.2 else 1  # somebody else is in charge too
        return [("change", self._asked(asked, wish).id, *wish) for wish in rng.choices(wishes, k=count)]

    def _joint_changes(self, members: Members) -> list[Action]:
        """Some voters for others in one go. A joint configuration that does not end by itself is ended, sooner or
        later."""
        rng, leader = self._rng, self.leader()
        if leader is None:
            return []
        if members.outgoing:
            return [("joint", leader.id, (), 0)] if rng.random() < 0.5 else []
        coming = rng.choice((0, 1, 2, 2)) if len(members.voters) < VOTERS_MAX else 0
        going = rng.randint(0 if coming else 1, 2) if len(members.voters) > 2 else 0
        wishes = [("add", self._next_member + number) for number in range(coming)]
        wishes += [("remove", voter) for voter in rng.sample(sorted(members.voters), min(going, len(members.voters)))]
        return [("joint", leader.id, tuple(wishes), rng.randrange(3))] if wishes else []

    def _asked(self, asked: "Member", wish: Wish) -> "Member":
        return (self.leader() or asked) if wish[0] == "remove" else asked


OPERATIONS: tuple[Callable[[Clients, int], list[Action]], ...] = (
    *(Clients.puts,) * 6,
    *(Clients.read,) * 6,
    *(Clients.keep_alive,) * 6,
    Clients.delete,
    Clients.txn,
    Clients.txn,
    Clients.compaction,
    Clients.grant,
    Clients.grant,
    Clients.revoke,
    Clients.checkpoint,
    Clients.authentication,
    Clients.alarm,
    Clients.disarm,
    Clients.disarm,
)

LEASE_OPERATIONS: tuple[Callable[[Clients, int], list[Action]], ...] = (Clients.keep_alive,)
