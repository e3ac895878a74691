"""trackd: send events to a trackd daemon and ask it questions.

    with trackd.Client("127.0.0.1:7077") as client:
        client.append([trackd.new_event("review_submitted", user_id="ann")], source="reviews")

Client asks, follows, and sends one batch at a time; Tracker is for applications that track what happens in them;
Appender sends many events that are there already. trackd.aio is the same for asyncio, trackd.logging a handler.
trackd.retention is for those who keep a daemon's data by policy.
"""

from trackd import retention, where
from trackd.appender import Appender
from trackd.backoff import Backoff
from trackd.channel import DEFAULT_TARGET, Tls
from trackd.client import Client, DimensionName, DurabilityName, OrderName
from trackd.errors import (
    DeadlineExceeded,
    Exhausted,
    GaveUp,
    Internal,
    Invalid,
    NotFound,
    OutOfRange,
    PermissionDenied,
    Precondition,
    TrackdError,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from trackd.events import new_change, new_event, new_id
from trackd.health import Health
from trackd.outcomes import BatchResult, Rejection, Totals
from trackd.questions import new_question, question_from_json, question_to_json
from trackd.settings import Stats
from trackd.subscription import Subscription
from trackd.table import Table
from trackd.tracker import Tracker
from trackd.v1.event_pb2 import Change, Event, StoredEvent
from trackd.v1.event_type_pb2 import EventType
from trackd.v1.ingest_pb2 import AppendItem, AppendResult
from trackd.v1.query_pb2 import (
    AggregateRequest,
    CountEventsResponse,
    CountRow,
    EventFilter,
    ListEventsResponse,
    Predicate,
)
from trackd.v1.subscribe_pb2 import SubscribeGap, SubscribeResponse

__all__ = [
    "DEFAULT_TARGET",
    "AggregateRequest",
    "AppendItem",
    "AppendResult",
    "Appender",
    "Backoff",
    "BatchResult",
    "Change",
    "Client",
    "CountEventsResponse",
    "CountRow",
    "DeadlineExceeded",
    "DimensionName",
    "DurabilityName",
    "Event",
    "EventFilter",
    "EventType",
    "Exhausted",
    "GaveUp",
    "Health",
    "Internal",
    "Invalid",
    "ListEventsResponse",
    "NotFound",
    "OrderName",
    "OutOfRange",
    "PermissionDenied",
    "Precondition",
    "Predicate",
    "Rejection",
    "Stats",
    "StoredEvent",
    "SubscribeGap",
    "SubscribeResponse",
    "Subscription",
    "Table",
    "Tls",
    "Totals",
    "TrackdError",
    "Tracker",
    "Unauthenticated",
    "Unavailable",
    "Unreachable",
    "new_change",
    "new_event",
    "new_id",
    "new_question",
    "question_from_json",
    "question_to_json",
    "retention",
    "where",
]
