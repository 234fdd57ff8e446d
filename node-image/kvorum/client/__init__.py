"""An asyncio client of etcd's API for one cluster: `Client`, and the values it takes and gives.

Needs the extra `client` of the distribution (grpcio). Knows nothing of the server beside it but the messages.
"""

from kvorum.client.client import Client, prefix_end
from kvorum.client.errors import ClientError, Unreachable, WatchCancelled
from kvorum.client.values import (
    Alarm,
    AlarmType,
    Compare,
    CompareTarget,
    Delete,
    DeleteResult,
    Event,
    EventType,
    Get,
    HashKV,
    Header,
    KeyValue,
    Lease,
    LeaseInfo,
    Member,
    Put,
    PutResult,
    RangeResult,
    Relation,
    SortOrder,
    SortTarget,
    Status,
    Txn,
    TxnResult,
    WatchBatch,
)
from kvorum.client.watcher import Watcher

__all__ = [
    "Alarm",
    "AlarmType",
    "Client",
    "ClientError",
    "Compare",
    "CompareTarget",
    "Delete",
    "DeleteResult",
    "Event",
    "EventType",
    "Get",
    "HashKV",
    "Header",
    "KeyValue",
    "Lease",
    "LeaseInfo",
    "Member",
    "Put",
    "PutResult",
    "RangeResult",
    "Relation",
    "SortOrder",
    "SortTarget",
    "Status",
    "Txn",
    "TxnResult",
    "Unreachable",
    "WatchBatch",
    "WatchCancelled",
    "Watcher",
    "prefix_end",
]
