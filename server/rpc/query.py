"""QueryService and EventTypeService."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf import message
from trackd.v1 import event_type_pb2, query_pb2

from server.ingest.service import IngestService
from server.model import Event
from server.observe import Observer
from server.query.aggregate import Aggregated
from server.query.service import QueryService
from server.rpc import aggregate, calls, codec

SERVICE = "trackd.v1.QueryService"
TYPES_SERVICE = "trackd.v1.EventTypeService"


class QueryMethods:
    """The methods of QueryService."""

    def __init__(self, query: QueryService, observer: Observer) -> None:
        self._query = query
        self._observer = observer

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """What the server registers."""
        return {
            "ListEvents": calls.unary(
                self._observer, SERVICE, "ListEvents", query_pb2.ListEventsRequest, self._list_events
            ),
            "CountEvents": calls.unary(
                self._observer, SERVICE, "CountEvents", query_pb2.CountEventsRequest, self._count_events
            ),
            "Aggregate": calls.unary(self._observer, SERVICE, "Aggregate", query_pb2.AggregateRequest, self._aggregate),
        }

    async def _list_events(self, request: query_pb2.ListEventsRequest) -> bytes:
        def encode(events: Sequence[Event], token: str, as_of: int) -> bytes:
            response = query_pb2.ListEventsResponse(next_page_token=token, as_of_position=as_of)
            for event in events:
                codec.put_event(response.events.add(), event)  # given as a message, each would be copied
            return response.SerializeToString()

        return await self._query.list_events(
            codec.event_filter(request.filter),
            codec.order(request.order),
            page_size=request.page_size,
            token=request.page_token,
            at_least=request.at_least_position if request.HasField("at_least_position") else None,
            encode=encode,
        )

    async def _count_events(self, request: query_pb2.CountEventsRequest) -> message.Message:
        by = codec.dimensions(request.by)
        counts, as_of = await self._query.count_events(
            codec.event_filter(request.filter),
            by,
            at_least=request.at_least_position if request.HasField("at_least_position") else None,
        )
        return query_pb2.CountEventsResponse(
            rows=[codec.count_row(count, by) for count in counts],
            events=sum(count.events for count in counts),
            as_of_position=as_of,
        )

    async def _aggregate(self, request: query_pb2.AggregateRequest) -> bytes:
        def encode(answer: Aggregated, milliseconds: float) -> bytes:
            return aggregate.response(request, answer, milliseconds)

        return await self._query.aggregate(
            aggregate.asked(request),
            at_least=request.at_least_position if request.HasField("at_least_position") else None,
            encode=encode,
        )


class EventTypeMethods:
    """The methods of EventTypeService."""

    def __init__(self, query: QueryService, ingest: IngestService, observer: Observer) -> None:
        self._query = query
        self._ingest = ingest
        self._observer = observer

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """What the server registers."""
        return {
            "ListEventTypes": calls.unary(
                self._observer, TYPES_SERVICE, "ListEventTypes", event_type_pb2.ListEventTypesRequest, self._list
            ),
            "DescribeEventType": calls.unary(
                self._observer,
                TYPES_SERVICE,
                "DescribeEventType",
                event_type_pb2.DescribeEventTypeRequest,
                self._describe,
            ),
            "RegisterEventType": calls.unary(
                self._observer,
                TYPES_SERVICE,
                "RegisterEventType",
                event_type_pb2.RegisterEventTypeRequest,
                self._register,
            ),
        }

    async def _list(self, request: event_type_pb2.ListEventTypesRequest) -> message.Message:
        entries, token = self._query.list_types(page_size=request.page_size, token=request.page_token)
        return event_type_pb2.ListEventTypesResponse(
            event_types=map(codec.event_type, entries), next_page_token=token, open_registry=self._query.open_registry
        )

    async def _describe(self, request: event_type_pb2.DescribeEventTypeRequest) -> message.Message:
        entry = self._query.describe_type(request.name)
        return event_type_pb2.DescribeEventTypeResponse(event_type=codec.event_type(entry))

    async def _register(self, request: event_type_pb2.RegisterEventTypeRequest) -> message.Message:
        entry = await self._ingest.register_type(request.name, request.description, tuple(request.dimensions))
        return event_type_pb2.RegisterEventTypeResponse(event_type=codec.event_type(entry))
