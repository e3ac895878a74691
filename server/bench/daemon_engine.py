"""Questions to the daemon over gRPC, as any client asks them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import grpc
from trackd.v1 import event_type_pb2, event_type_pb2_grpc, query_pb2, query_pb2_grpc

from retention.month import Month
from server.bench.asking import Rows, document
from server.bench.history import TYPES, type_name
from server.bench.questions import Asked, Kind
from server.errors import Internal

TIMEOUT_S = 60.0
NAMES = frozenset({"type", "source", "user"})
"""Columns whose values are names with a number in them."""


class DaemonEngine:
    """One channel, warm after the first question."""

    def __init__(self, target: str, sources: Sequence[str]) -> None:
        self._channel = grpc.insecure_channel(target)
        self._query: Any = query_pb2_grpc.QueryServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._sources = {name: number for number, name in enumerate(sources)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._channel.close()

    def declare(self, dimensions: Sequence[str]) -> None:
        """Registers all types of a history, with the metadata keys that questions will use."""
        types: Any = event_type_pb2_grpc.EventTypeServiceStub(self._channel)  # type: ignore[no-untyped-call]
        for number in range(TYPES):
            types.RegisterEventType(
                event_type_pb2.RegisterEventTypeRequest(name=type_name(number), dimensions=dimensions),
                timeout=TIMEOUT_S,
            )

    def ask(self, _kind: Kind, asked: Asked) -> Any:
        """The response. Internal if the daemon refuses or fails."""
        request = asked.request
        try:
            if isinstance(request, query_pb2.AggregateRequest):
                return self._query.Aggregate(request, timeout=TIMEOUT_S)
            if isinstance(request, query_pb2.ListEventsRequest):
                return self._query.ListEvents(request, timeout=TIMEOUT_S)
            return self._query.CountEvents(request, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            status: Any = error
            raise Internal("BENCH_FAILED", f"{status.code().name}: {status.details()}") from error

    def rows(self, answer: Any) -> Rows:
        """The rows in the common form."""
        if isinstance(answer, query_pb2.AggregateResponse):
            return list(zip(*(self._values(column, answer.rows) for column in answer.columns), strict=True))
        if isinstance(answer, query_pb2.ListEventsResponse):
            return [self._event(stored) for stored in answer.events]
        return [(_number(row.type), Month.parse(row.month).start_ms, row.events) for row in answer.rows]

    def _values(self, column: query_pb2.Column, rows: int) -> list[object]:
        given = next((list(kind) for kind in (column.integers, column.reals, column.texts) if kind), [])
        values: list[object] = [self._named(column.name, value) for value in given] if given else [None] * rows
        for row in column.absent_rows:
            values[row] = None
        return values

    def _named(self, column: str, value: Any) -> object:
        if column == "source":
            return self._sources[value]
        return _number(value) if column in NAMES else value

    def _event(self, stored: Any) -> tuple[object, ...]:
        event = stored.event
        return (
            event.id.hex(),
            _number(event.type),
            _number(event.user_id),
            self._sources[stored.source],
            event.timestamp_ms,
            _number(event.session_id),
            tuple(event.tags),
            document(event.metadata),
        )


def read_report(answer: Any) -> dict[str, Any]:
    """What the daemon says that it read for an answer."""
    if not isinstance(answer, query_pb2.AggregateResponse):
        return {}
    return {field.name: round(getattr(answer.read, field.name), 3) for field in query_pb2.ReadReport.DESCRIPTOR.fields}


def _number(name: str) -> int:
    """The digits at the end of a name."""
    return int(name[len(name.rstrip("0123456789")) :])
