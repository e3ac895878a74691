"""Between wire messages and the model. Messages are read once and let go: a sub-message would pin its whole arena."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeVar

from google.protobuf import message
from trackd.v1 import event_pb2, event_type_pb2, ingest_pb2, query_pb2

from server.errors import Invalid
from server.ingest.answer import Answer
from server.ingest.offered import Offered, OfferedChange
from server.ingest.rules import Fault
from server.model import Absent, Change, Count, Dimension, Durability, Event, EventFilter, EventType, Order, Outcome
from server.rpc import twins

DURABILITIES = {
    ingest_pb2.DURABILITY_UNSPECIFIED: Durability.DURABLE,
    ingest_pb2.DURABILITY_DURABLE: Durability.DURABLE,
    ingest_pb2.DURABILITY_ACCEPTED: Durability.ACCEPTED,
}
_DURABILITY_NUMBERS = {
    Durability.DURABLE: ingest_pb2.DURABILITY_DURABLE,
    Durability.ACCEPTED: ingest_pb2.DURABILITY_ACCEPTED,
}
_OUTCOMES = {
    Outcome.DUPLICATE: ingest_pb2.APPEND_OUTCOME_DUPLICATE,
    Outcome.REJECTED: ingest_pb2.APPEND_OUTCOME_REJECTED,
}
_ORDERS = {
    query_pb2.EVENT_ORDER_UNSPECIFIED: Order.TIME_DESC,
    query_pb2.EVENT_ORDER_TIME_ASC: Order.TIME_ASC,
    query_pb2.EVENT_ORDER_TIME_DESC: Order.TIME_DESC,
    query_pb2.EVENT_ORDER_POSITION_ASC: Order.POSITION_ASC,
    query_pb2.EVENT_ORDER_POSITION_DESC: Order.POSITION_DESC,
}
_DIMENSIONS = {
    query_pb2.COUNT_DIMENSION_TYPE: Dimension.TYPE,
    query_pb2.COUNT_DIMENSION_MONTH: Dimension.MONTH,
    query_pb2.COUNT_DIMENSION_SOURCE: Dimension.SOURCE,
    query_pb2.COUNT_DIMENSION_USER: Dimension.USER,
}
_COUNT_FIELDS = {
    Dimension.TYPE: "type",
    Dimension.MONTH: "month",
    Dimension.SOURCE: "source",
    Dimension.USER: "user_id",
}


# Events in


def _merge_events(field: twins.Field) -> None:
    if field.name == "events":
        field.label = twins.Field.LABEL_OPTIONAL


# `events` is not repeated here, so the decoder merges all events into one, which has a field if any of them has it
# (protobuf.dev/programming-guides/encoding, "Last One Wins"). One pass in C tells which columns there are.
_merged_batch = twins.twin(ingest_pb2.AppendStreamRequest, _merge_events)
_merged_request = twins.twin(ingest_pb2.AppendRequest, _merge_events)

_ALWAYS = ("id", "type", "user_id", "timestamp_ms", "metadata")
_OFTEN_ABSENT = ("session_id", "client_ip", "description")
_GETTERS = {name: attrgetter(name) for name in (*_ALWAYS, *_OFTEN_ABSENT)}
_tags_of = attrgetter("tags")


def offered(events: Iterable[event_pb2.Event], merged: message.Message) -> Offered:
    """The events of a message as columns. `merged` is the same message with all events merged into one."""
    sent = list(events)
    if not sent:
        return Offered((), (), (), (), (), (), (), ())
    # Column by column: a tuple an event, turned around afterwards, takes half as long again.
    ids, types, users, times, metadata = (list(map(_GETTERS[name], sent)) for name in _ALWAYS)
    given = {name: list(map(_GETTERS[name], sent)) for name in _OFTEN_ABSENT if merged.HasField(name)}
    absent = Absent(len(sent))
    timestamps: Sequence[int | None] = times
    if 0 in times:
        timestamps = [event.timestamp_ms if event.HasField("timestamp_ms") else None for event in sent]
    tags: dict[int, tuple[str, ...]] = {}
    changes: dict[int, OfferedChange] = {}
    if merged.tags:  # type: ignore[attr-defined]
        tags = {row: tuple(labels[:]) for row, labels in enumerate(map(_tags_of, sent)) if labels}
    if merged.HasField("change"):
        changes = {row: _offered_change(event.change) for row, event in enumerate(sent) if event.HasField("change")}
    return Offered(
        ids,
        types,
        users,
        timestamps,
        given.get("session_id", absent),
        given.get("client_ip", absent),
        given.get("description", absent),
        metadata,
        tags,
        changes,
    )


def _offered_change(change: event_pb2.Change) -> OfferedChange:
    return OfferedChange(
        change.table_name,
        change.row_id,
        change.action,
        change.old_values,
        change.new_values,
        change.status,
        change.rows_affected if change.HasField("rows_affected") else None,
    )


def durability(number: int) -> Durability:
    """The level asked for; Invalid for a number that is none."""
    level: Durability | None = DURABILITIES.get(number)  # type: ignore[call-overload]
    if level is None:
        raise Invalid("DURABILITY_INVALID", f"there is no durability {number}", field="durability")
    return level


@dataclass(slots=True)
class Parsed:
    """A batch of the wire, parsed but not read yet: that is the writer's work.

    `decode` gives the columns, and the events with text that is not UTF-8 (emptied, to be rejected by name).
    """

    batch_id: int
    atomic: bool
    events: int
    decode: Callable[[], tuple[Offered, dict[int, Fault]]]


def parse_open(raw: bytes) -> ingest_pb2.AppendStreamOpen:
    """The first message of a stream; Invalid if it is anything else."""
    try:
        request = ingest_pb2.AppendStreamRequest.FromString(raw)
    except message.DecodeError as error:
        raise undecodable("AppendStreamRequest") from error
    if request.WhichOneof("message") != "open":
        raise Invalid("STREAM_NOT_OPENED", "the first message of a stream must be `open`", field="open")
    return request.open


def parse_batch(raw: bytes) -> Parsed:
    """Any later message of a stream. Raises Invalid if it is no batch."""
    try:
        request = ingest_pb2.AppendStreamRequest.FromString(raw)
        faults: dict[int, Fault] = {}
    except message.DecodeError:
        request, faults = _decode_leniently(raw, _lenient_stream_message, ingest_pb2.AppendStreamRequest)
    if request.WhichOneof("message") != "batch":
        raise Invalid("BATCH_EXPECTED", "after `open` every message must be a batch", field="batch")
    batch = request.batch

    def decode() -> tuple[Offered, dict[int, Fault]]:
        merged = _merged_batch.FromString(raw).batch.events  # type: ignore[attr-defined]
        return offered(batch.events, merged), faults

    return Parsed(batch.batch_id, batch.atomic, len(batch.events), decode)


def parse_append(raw: bytes) -> tuple[str, int, Parsed]:
    """A unary request: its source, the number of its durability, and its batch."""
    try:
        request = ingest_pb2.AppendRequest.FromString(raw)
        faults: dict[int, Fault] = {}
    except message.DecodeError:
        request, faults = _decode_leniently(raw, _lenient_request, ingest_pb2.AppendRequest)

    def decode() -> tuple[Offered, dict[int, Fault]]:
        merged = _merged_request.FromString(raw).events  # type: ignore[attr-defined]
        return offered(request.events, merged), faults

    return request.source, request.durability, Parsed(0, request.atomic, len(request.events), decode)


# Messages with text that is not UTF-8: only the events at fault are rejected.

_lenient_stream_message = twins.twin(ingest_pb2.AppendStreamRequest)
_lenient_request = twins.twin(ingest_pb2.AppendRequest)
_Message = TypeVar("_Message", bound=message.Message)


def undecodable(kind: str) -> Invalid:
    """The bytes are no such message."""
    return Invalid(
        "UNDECODABLE",
        f"this is not a valid {kind} message: broken encoding, or text that is not UTF-8",
        hint="build messages from protos/trackd/v1 with a protobuf library",
    )


def _decode_leniently(
    raw: bytes, twin_type: type[message.Message], wanted: type[_Message]
) -> tuple[_Message, dict[int, Fault]]:
    """Decodes with the twin, empties the events at fault, and decodes the rest as it should be."""
    faults: dict[int, Fault] = {}
    try:
        twin: Any = twin_type.FromString(raw)
        for row, event in enumerate(twin.batch.events if "batch" in twin.DESCRIPTOR.fields_by_name else twin.events):
            if field := twins.bad_text(event, event_pb2.Event):
                faults[row] = Fault("TEXT_NOT_UTF8", f"{field} is not UTF-8", field)
                event.Clear()
        return wanted.FromString(twin.SerializeToString()), faults
    except message.DecodeError as error:
        raise undecodable(wanted.DESCRIPTOR.name) from error


# Answers out


def result(answer: Answer) -> ingest_pb2.AppendResult:
    """What became of a batch."""
    return ingest_pb2.AppendResult(
        accepted=answer.accepted,
        duplicate=answer.duplicate,
        rejected=answer.rejected,
        queued=answer.queued,
        first_position=answer.first_position,
        last_position=answer.last_position,
        durability=_DURABILITY_NUMBERS[answer.durability],
        items=[
            ingest_pb2.AppendItem(
                index=item.index,
                outcome=_OUTCOMES[item.outcome],
                reason=item.reason,
                message=item.message,
                field=item.field,
                retryable=item.retryable,
                existing_position=item.existing_position,
            )
            for item in answer.items
        ],
    )


def durability_number(level: Durability) -> ingest_pb2.Durability:
    """A level as the wire has it."""
    return _DURABILITY_NUMBERS[level]


# Questions


def event_filter(sent: query_pb2.EventFilter) -> EventFilter:
    """A filter of the wire."""

    def given(name: str) -> int | None:
        return getattr(sent, name) if sent.HasField(name) else None

    return EventFilter(
        given("start_ms"),
        given("end_ms"),
        tuple(sent.types),
        tuple(sent.user_ids),
        tuple(sent.sources),
        tuple(sent.session_ids),
        tuple(sent.tags),
        given("after_position"),
        given("up_to_position"),
    )


def order(number: int) -> Order:
    """The order asked for; Invalid for a number that is none."""
    found: Order | None = _ORDERS.get(number)  # type: ignore[call-overload]
    if found is None:
        raise Invalid("ORDER_INVALID", f"there is no order {number}", field="order")
    return found


def dimensions(numbers: Iterable[int]) -> tuple[Dimension, ...]:
    """The dimensions asked for; Invalid for a number that is none."""
    found = []
    for number in numbers:
        dimension = _DIMENSIONS.get(number)  # type: ignore[call-overload]
        if dimension is None:
            raise Invalid("DIMENSION_INVALID", f"events cannot be counted by {number}", field="by")
        found.append(dimension)
    return tuple(found)


def put_event(stored: event_pb2.StoredEvent, event: Event) -> None:
    """Fills an empty message. Field by field, absent ones left out: a third of what keyword arguments cost."""
    stored.position, stored.source, stored.received_ms = event.position, event.source, event.received_ms
    sent = stored.event
    sent.id, sent.type, sent.timestamp_ms = event.id, event.type, event.timestamp_ms
    if event.user_id:
        sent.user_id = event.user_id
    if event.session_id:
        sent.session_id = event.session_id
    if event.client_ip:
        sent.client_ip = event.client_ip
    if event.description:
        sent.description = event.description
    if event.tags:
        sent.tags.extend(event.tags)
    if event.metadata:
        sent.metadata = event.metadata
    if event.change:
        sent.change.CopyFrom(_change(event.change))


def _change(change: Change) -> event_pb2.Change:
    return event_pb2.Change(
        table_name=change.table_name,
        row_id=change.row_id,
        action=int(change.action),  # type: ignore[arg-type]  # the same numbers
        old_values=change.old_values,
        new_values=change.new_values,
        status=int(change.status),  # type: ignore[arg-type]  # the same numbers
        rows_affected=change.rows_affected,
    )


def count_row(count: Count, by: Sequence[Dimension]) -> query_pb2.CountRow:
    """One group and its count."""
    named = {_COUNT_FIELDS[dimension]: value for dimension, value in zip(by, count.key, strict=True)}
    return query_pb2.CountRow(events=count.events, **named)


def event_type(entry: EventType) -> event_type_pb2.EventType:
    """An entry of the registry."""
    return event_type_pb2.EventType(
        name=entry.name,
        description=entry.description,
        registered_ms=entry.registered_ms,
        declared=entry.declared,
        dimensions=entry.dimensions,
    )
