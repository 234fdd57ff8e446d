"""Alarms: which member raised what, and what is refused while one is active.

The mode follows etcd's, oddities included, because refusing what etcd applies would part the states: the alarm raised
last decides, and when the last alarm of either kind is disarmed all restrictions end, those of the other kind too.
"""

from enum import Enum

from kvorum.etcdpb.rpc_pb2 import AlarmMember, AlarmRequest, AlarmType
from kvorum.state.row import field
from kvorum.state.store import ALARM, Store


class Mode(Enum):
    """What is applied: everything; no puts and grants; hardly anything."""

    NORMAL = "normal"
    CAPPED = "NOSPACE"
    CORRUPT = "CORRUPT"


_MODES = {AlarmType.NOSPACE: Mode.CAPPED, AlarmType.CORRUPT: Mode.CORRUPT}


def alarm_name(kind: int) -> str:
    """As Go prints it: a client may have raised one that has no name."""
    return AlarmType.Name(kind) if kind in AlarmType.values() else str(kind)


class Alarms:
    """The active alarms, as (type, member id)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._active: set[tuple[int, int]] = set()
        self.mode = Mode.NORMAL

    def active(self, alarm: int = AlarmType.NONE) -> list[AlarmMember]:
        """By type and member. NONE: of every type."""
        return [
            AlarmMember(memberID=member, alarm=AlarmType.Name(kind) if kind in _MODES else kind)  # type: ignore[arg-type]  # an open enum
            for kind, member in sorted(self._active)
            if alarm in (AlarmType.NONE, kind)
        ]

    def is_active(self, alarm: int) -> bool:
        return any(kind == alarm for kind, _ in self._active)

    def apply(self, request: AlarmRequest) -> bytes:
        """GET, ACTIVATE or DEACTIVATE, all of which go through the log. Gives an AlarmResponse without its header."""
        if request.action == AlarmRequest.GET:
            return b"".join(field(b"\x12", member.SerializeToString()) for member in self.active(request.alarm))
        alarm = (request.alarm, request.memberID)
        row = AlarmMember(memberID=request.memberID, alarm=request.alarm).SerializeToString()
        if request.action == AlarmRequest.ACTIVATE and request.alarm != AlarmType.NONE:
            first = not self.is_active(request.alarm)
            if alarm not in self._active:
                self._active.add(alarm)
                self._store.put(ALARM, row, b"")
            if first:
                self.mode = _MODES.get(request.alarm, self.mode)
            return field(b"\x12", row)
        if request.action == AlarmRequest.DEACTIVATE and alarm in self._active:
            self._active.remove(alarm)
            self._store.delete(ALARM, row)
            if request.alarm in _MODES and not self.is_active(request.alarm):
                self.mode = Mode.NORMAL
            return field(b"\x12", row)
        return b""

    def load(self) -> None:
        """From the table `alarm`. Of two alarms CORRUPT decides, whichever came last."""
        self._active.clear()
        for row, _ in self._store.scan(ALARM):
            member = AlarmMember.FromString(row)
            self._active.add((member.alarm, member.memberID))
        self.mode = Mode.NORMAL
        for alarm, mode in _MODES.items():
            if self.is_active(alarm):
                self.mode = mode
