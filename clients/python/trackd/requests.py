"""Every unary call, once for all clients, blocking or asyncio: its request, and how its answer reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from trackd.health import METHOD as HEALTH_METHOD
from trackd.health import Health, decode_response, encode_request
from trackd.table import Table, table_of
from trackd.v1 import event_type_pb2_grpc, ingest_pb2_grpc, query_pb2_grpc, retention_pb2_grpc
from trackd.v1.event_pb2 import Event
from trackd.v1.event_type_pb2 import (
    DescribeEventTypeRequest,
    EventType,
    ListEventTypesRequest,
    ListEventTypesResponse,
    RegisterEventTypeRequest,
)
from trackd.v1.ingest_pb2 import AppendRequest, AppendResult
from trackd.v1.query_pb2 import (
    AggregateRequest,
    CountEventsRequest,
    CountEventsResponse,
    EventFilter,
    ListEventsRequest,
    ListEventsResponse,
)

OrderName = Literal["time_asc", "time_desc", "position_asc", "position_desc"]
DimensionName = Literal["type", "month", "source", "user"]
DurabilityName = Literal["durable", "accepted"]

PAGE_SIZE_MAX = 1_000

Answer = TypeVar("Answer")


class Stubs:
    """The calls of one channel; `channel` may be one of grpc or of grpc.aio."""

    def __init__(self, channel: Any) -> None:
        # The generated classes carry no types; the functions below state them.
        self.ingest = ingest_pb2_grpc.IngestServiceStub(channel)  # type: ignore[no-untyped-call]
        self.types = event_type_pb2_grpc.EventTypeServiceStub(channel)  # type: ignore[no-untyped-call]
        self.query = query_pb2_grpc.QueryServiceStub(channel)  # type: ignore[no-untyped-call]
        self.retention = retention_pb2_grpc.RetentionServiceStub(channel)  # type: ignore[no-untyped-call]
        self.health = channel.unary_unary(
            HEALTH_METHOD, request_serializer=encode_request, response_deserializer=decode_response
        )


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """One call that is not made yet."""

    method: Callable[[Stubs], Callable[..., Any]]
    request: Any
    read: Callable[[Any], Answer]
    """What the caller gets out of the response."""


def _whole(response: Any) -> Any:
    return response


def append(
    events: Iterable[Event], *, source: str, durability: DurabilityName = "durable", atomic: bool = False
) -> Call[AppendResult]:
    """One batch."""
    request = AppendRequest(source=source, durability=f"DURABILITY_{durability.upper()}", events=events, atomic=atomic)
    return Call(lambda stubs: stubs.ingest.Append, request, lambda response: response.result)


def list_events_page(
    where: EventFilter | None,
    *,
    order: OrderName,
    page_size: int,
    page_token: str,
    at_least_position: int | None,
) -> Call[ListEventsResponse]:
    """One page of events."""
    request = ListEventsRequest(
        filter=where,
        order=f"EVENT_ORDER_{order.upper()}",
        page_size=page_size,
        page_token=page_token,
        at_least_position=at_least_position,
    )
    return Call(lambda stubs: stubs.query.ListEvents, request, _whole)


def count_events(
    where: EventFilter | None, *, by: Sequence[DimensionName], at_least_position: int | None
) -> Call[CountEventsResponse]:
    """Events in groups."""
    request = CountEventsRequest(
        filter=where, by=[f"COUNT_DIMENSION_{name.upper()}" for name in by], at_least_position=at_least_position
    )
    return Call(lambda stubs: stubs.query.CountEvents, request, _whole)


def ask(question: AggregateRequest) -> Call[Table]:
    """An aggregate question."""
    return Call(lambda stubs: stubs.query.Aggregate, question, table_of)


def list_event_types_page(*, page_size: int, page_token: str) -> Call[ListEventTypesResponse]:
    """One page of types."""
    request = ListEventTypesRequest(page_size=page_size, page_token=page_token)
    return Call(lambda stubs: stubs.types.ListEventTypes, request, _whole)


def describe_event_type(name: str) -> Call[EventType]:
    """One type."""
    request = DescribeEventTypeRequest(name=name)
    return Call(lambda stubs: stubs.types.DescribeEventType, request, lambda response: response.event_type)


def register_event_type(name: str, description: str, dimensions: Sequence[str]) -> Call[EventType]:
    """A type that is to be known."""
    request = RegisterEventTypeRequest(name=name, description=description, dimensions=dimensions)
    return Call(lambda stubs: stubs.types.RegisterEventType, request, lambda response: response.event_type)


def health(service: str) -> Call[Health]:
    """Whether something serves."""
    return Call(lambda stubs: stubs.health, service, _whole)
