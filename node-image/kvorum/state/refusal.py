"""What a member answers instead of a result: etcd's gRPC codes and texts, because clients compare both.

A refusal is a value and not an exception: it is an ordinary answer, and state stays as it was (NO_SPACE apart, which
may come with a write that was applied all the same). Texts and codes are those of etcd 3.5.30 (etcd.md, Appendix C
lists 3.6's; where the two differ, the version we claim to be decides).
"""

from dataclasses import dataclass

UNKNOWN = 2
INVALID_ARGUMENT = 3
NOT_FOUND = 5
PERMISSION = 7
RESOURCE_EXHAUSTED = 8
FAILED_PRECONDITION = 9
OUT_OF_RANGE = 11
UNIMPLEMENTED = 12
UNAVAILABLE = 14
DATA_LOSS = 15
UNAUTHENTICATED = 16


@dataclass(frozen=True, slots=True)
class Refusal:
    """code: the gRPC status code; text: the message beside it."""

    code: int
    text: str


EMPTY_KEY = Refusal(INVALID_ARGUMENT, "etcdserver: key is not provided")
KEY_NOT_FOUND = Refusal(INVALID_ARGUMENT, "etcdserver: key not found")
VALUE_PROVIDED = Refusal(INVALID_ARGUMENT, "etcdserver: value is provided")
LEASE_PROVIDED = Refusal(INVALID_ARGUMENT, "etcdserver: lease is provided")
TOO_MANY_OPS = Refusal(INVALID_ARGUMENT, "etcdserver: too many operations in txn request")
DUPLICATE_KEY = Refusal(INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request")
INVALID_SORT_OPTION = Refusal(INVALID_ARGUMENT, "etcdserver: invalid sort option")
COMPACTED = Refusal(OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")
FUTURE_REVISION = Refusal(OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")
NO_SPACE = Refusal(RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded")

LEASE_NOT_FOUND = Refusal(NOT_FOUND, "etcdserver: requested lease not found")
LEASE_EXISTS = Refusal(FAILED_PRECONDITION, "etcdserver: lease already exists")
LEASE_TTL_TOO_LARGE = Refusal(OUT_OF_RANGE, "etcdserver: too large lease TTL")
NOT_PRIMARY_LESSOR = Refusal(UNKNOWN, "not a primary lessor")  # lessor's own error, mapped to no code

MEMBER_EXISTS = Refusal(FAILED_PRECONDITION, "etcdserver: member ID already exist")
PEER_URL_EXISTS = Refusal(FAILED_PRECONDITION, "etcdserver: Peer URLs already exists")
MEMBER_NOT_ENOUGH_STARTED = Refusal(
    UNKNOWN, "etcdserver: re-configuration failed due to not enough started members"
)  # mapped to no code in 3.5; 3.6: FailedPrecondition
MEMBER_BAD_URLS = Refusal(INVALID_ARGUMENT, "etcdserver: given member URLs are invalid")
MEMBER_NOT_FOUND = Refusal(NOT_FOUND, "etcdserver: member not found")
MEMBER_NOT_LEARNER = Refusal(FAILED_PRECONDITION, "etcdserver: can only promote a learner member")
LEARNER_NOT_READY = Refusal(
    FAILED_PRECONDITION, "etcdserver: can only promote a learner member which is in sync with leader"
)
TOO_MANY_LEARNERS = Refusal(FAILED_PRECONDITION, "etcdserver: too many learner members in cluster")

ROOT_USER_MISSING = Refusal(FAILED_PRECONDITION, "etcdserver: root user does not exist")
ROOT_ROLE_MISSING = Refusal(FAILED_PRECONDITION, "etcdserver: root user does not have root role")
USER_EXISTS = Refusal(FAILED_PRECONDITION, "etcdserver: user name already exists")
USER_EMPTY = Refusal(INVALID_ARGUMENT, "etcdserver: user name is empty")
USER_NOT_FOUND = Refusal(FAILED_PRECONDITION, "etcdserver: user name not found")
ROLE_EXISTS = Refusal(FAILED_PRECONDITION, "etcdserver: role name already exists")
ROLE_NOT_FOUND = Refusal(FAILED_PRECONDITION, "etcdserver: role name not found")
ROLE_EMPTY = Refusal(INVALID_ARGUMENT, "etcdserver: role name is empty")
ROLE_NOT_GRANTED = Refusal(FAILED_PRECONDITION, "etcdserver: role is not granted to the user")
PERMISSION_DENIED = Refusal(PERMISSION, "etcdserver: permission denied")
PERMISSION_NOT_GIVEN = Refusal(INVALID_ARGUMENT, "etcdserver: permission not given")
PERMISSION_NOT_GRANTED = Refusal(FAILED_PRECONDITION, "etcdserver: permission is not granted to the role")
AUTH_FAILED = Refusal(INVALID_ARGUMENT, "etcdserver: authentication failed, invalid user ID or password")
AUTH_NOT_ENABLED = Refusal(FAILED_PRECONDITION, "etcdserver: authentication is not enabled")
AUTH_OLD_REVISION = Refusal(INVALID_ARGUMENT, "etcdserver: revision of auth store is old")
INVALID_AUTH_MANAGEMENT = Refusal(INVALID_ARGUMENT, "etcdserver: invalid auth management")
NO_PASSWORD_USER = Refusal(
    UNKNOWN, "auth: authentication failed, password was given for no password user"
)  # mapped to no code, nor to a text of the server's
INVALID_AUTH_TOKEN = Refusal(UNAUTHENTICATED, "etcdserver: invalid auth token")
PASSWORD_TOO_LONG = Refusal(UNKNOWN, "bcrypt: password length exceeds 72 bytes")
VERIFY_ONLY = Refusal(UNKNOWN, "auth: token signing attempted with verify-only key")

REQUEST_TOO_LARGE = Refusal(INVALID_ARGUMENT, "etcdserver: request is too large")
TOO_MANY_REQUESTS = Refusal(UNKNOWN, "etcdserver: too many requests")  # mapped to no code; its own is 8, for clients

NO_LEADER = Refusal(UNAVAILABLE, "etcdserver: no leader")
NOT_LEADER = Refusal(FAILED_PRECONDITION, "etcdserver: not leader")
STOPPED = Refusal(UNAVAILABLE, "etcdserver: server stopped")
TIMEOUT = Refusal(UNAVAILABLE, "etcdserver: request timed out")
TIMEOUT_LEADER_FAILED = Refusal(UNAVAILABLE, "etcdserver: request timed out, possibly due to previous leader failure")
UNHEALTHY = Refusal(UNAVAILABLE, "etcdserver: unhealthy cluster")
CORRUPT = Refusal(DATA_LOSS, "etcdserver: corrupt cluster")
NOT_SUPPORTED_FOR_LEARNER = Refusal(UNAVAILABLE, "etcdserver: rpc not supported for learner")  # 3.6: FailedPrecondition
DOWNGRADE_BAD_FORMAT = Refusal(INVALID_ARGUMENT, "etcdserver: wrong downgrade target version format")
DOWNGRADE_BAD_TARGET = Refusal(INVALID_ARGUMENT, "etcdserver: invalid downgrade target version")
DOWNGRADE_NO_VERSION = Refusal(FAILED_PRECONDITION, "etcdserver: cluster version not found during downgrade")
DOWNGRADE_IN_PROGRESS = Refusal(FAILED_PRECONDITION, "etcdserver: cluster has a downgrade job in progress")
DOWNGRADE_NOT_IN_PROGRESS = Refusal(FAILED_PRECONDITION, "etcdserver: no inflight downgrade job")
UNKNOWN_METHOD = Refusal(UNKNOWN, "etcdserver: unknown method")
BAD_LEADER_TRANSFEREE = Refusal(FAILED_PRECONDITION, "etcdserver: bad leader transferee")
