"""Space for what a client wants to write: refused where there is none, and the alarm NOSPACE asked of the cluster.

Hot path: asked for every put. How large the tables are, and what a request needs, the machine knows.
"""

from typing import TYPE_CHECKING

from kvorum.etcdpb.rpc_pb2 import AlarmType, LeaseGrantRequest, PutRequest, TxnRequest
from kvorum.server.answer import Done
from kvorum.state import refusal
from kvorum.state.machine import space_of
from kvorum.state.refusal import Refusal
from kvorum.state.row import varint

if TYPE_CHECKING:
    from kvorum.server.server import Server


class Quota:
    """As one member sees it. Which alarms are active the cluster decides."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._is_raising = False

    def refuses(self, request: PutRequest | TxnRequest | LeaseGrantRequest) -> Refusal | None:
        """NO_SPACE when the store has outgrown its quota, which asks the cluster to raise the alarm; or the disk is
        full, which is this member's own business."""
        server = self._server
        if server.full_disk.is_full:
            return refusal.NO_SPACE if space_of(request) else None
        refused = server.machine.refuses_for_space(request)
        if refused is not None:
            self.raise_alarm()
        return refused

    def raise_alarm(self) -> None:
        """Once for each time the quota is crossed: every member must hear of it, and an operator must clear it."""
        server = self._server
        if self._is_raising or server.machine.alarms.is_active(AlarmType.NOSPACE):
            return
        self._is_raising = True

        def raised(refused: Refusal | None) -> None:
            self._is_raising = False

        body = b"\x08\x01\x10" + varint(server.member_id) + b"\x18\x01"
        server.propose(b"\x52" + varint(len(body)) + body, Done(raised))
