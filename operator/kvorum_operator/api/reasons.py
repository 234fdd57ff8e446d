"""Why a cluster is as it is: the closed set of reasons that conditions, holds and events give.

A reason names a state, never an action, and is stable: alerts and runbooks are keyed by it. The message beside it is
for a person and may change. Order: what is well, what is on its way, what waits for a person, what is broken.
"""

from enum import StrEnum


class Reason(StrEnum):
    # All is as the document says, or on its way there.
    SPREAD_OUT = "SpreadOut"  # no two voters share a machine
    HEALTHY = "Healthy"  # every member serves, and there are as many as the document wants
    ASLEEP = "Asleep"  # spec.replicas is 0: no member runs, the data is kept
    FALLING_ASLEEP = "FallingAsleep"  # spec.replicas is 0, and members still run
    NEVER_BOOTSTRAPPED = "NeverBootstrapped"  # spec.replicas is 0 and there is no data: nothing to keep asleep
    BOOTSTRAPPING = "Bootstrapping"  # the first members start; the cluster has no id yet
    WAKING = "Waking"  # members were started and do not serve yet
    CHANGING_MEMBERS = "ChangingMembers"  # the member list is on its way to spec.replicas
    LEARNER_BEHIND = "LearnerBehind"  # the new member still copies data; it votes once it has caught up
    CLUSTER_UNSETTLED = "ClusterUnsettled"  # members refuse a change until all have been connected for some seconds
    HANDING_OVER = "HandingOver"  # a leader that must go was asked to hand over; its successor is awaited
    MIGRATING = "Migrating"  # members change to spec.engine, one at a time
    ROLLING = "Rolling"  # members are restarted, one at a time, to run as the specification says by now
    CHANGE_PENDING = "ChangePending"  # one membership change at a time, and another is under way (I1)

    # Somebody has to say or change something.
    STOPPED = "Stopped"  # the operator was told to stop the members and ended; its next start wakes them
    PAUSED = "Paused"  # spec.paused: seen and reported, not touched
    SPEC_MISSING = "SpecMissing"  # the document went away: nothing is touched until it is back
    SPEC_INVALID = "SpecInvalid"  # the document cannot be read, or changes what cannot change
    NODE_BLOCKED = "NodeBlocked"  # a member cannot be started here: its port is taken, its program is missing
    IMAGE_UNAVAILABLE = "ImageUnavailable"  # a member's image cannot be pulled, or its container cannot be made
    POD_REFUSED = "PodRefused"  # the API server admits no pod for a member: a quota, Pod Security, a webhook
    OBJECT_REFUSED = "ObjectRefused"  # the API server refuses an object that the operator puts
    POD_UNSCHEDULABLE = "PodUnschedulable"  # no node takes a member's pod now; an autoscaler may add one
    TOO_FEW_MEMBERS = "TooFewMembers"  # with one or two voters none can change its engine: three keep two copies
    RECORD_DAMAGED = (
        "RecordDamaged"  # the record of the bootstrap is there and cannot be read: nothing may follow from it
    )
    FOREIGN_VOLUME = "ForeignVolume"  # a volume holds data of unknown origin where a member would be put

    # Something is broken.
    MEMBERS_SHARE_NODE = "MembersShareNode"  # two voters run on one machine: its loss takes both
    MEMBER_DOWN = "MemberDown"  # a member's node does not run
    MEMBER_FAILING = "MemberFailing"  # a member's node ends soon after each start
    MEMBER_UNREACHABLE = "MemberUnreachable"  # a member's node runs, and does not answer or sees no leader
    MEMBER_BEHIND = "MemberBehind"  # a voter that would have to carry the quorum has not caught up (I2)
    MEMBER_DATA_LOST = "MemberDataLost"  # a started member's data is gone: it must not come back empty (I7)
    QUORUM_AT_RISK = "QuorumAtRisk"  # writes go on, but the next loss or the wished step would stop them
    QUORUM_LOST = "QuorumLost"  # fewer voters than a quorum serve: no writes
    CLUSTER_ID_MISMATCH = "ClusterIDMismatch"  # members of two clusters answer: everything is frozen (I4)
    REQUEST_REFUSED = "RequestRefused"  # a member refused or did not answer a request of the operator
