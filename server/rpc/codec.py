"""Between wire messages and the model. Messages are read once and let go: a sub-message would pin its whole arena."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory
from trackd.v1 import event_pb2, event_type_pb2, ingest_pb2, query_pb2

from server.errors import Invalid
from server.ingest.offered import Offered, OfferedChange
from server.ingest.rules import Fault
from server.ingest.service import Answer
from server.model import Change, Count, Dimension, Durability, Event, EventFilter, EventType, Order, Outcome

_columns = attrgetter(
    "id", "type", "user_id", "timestamp_ms", "session_id", "client_ip", "description", "metadata"
)

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


def offered(events: Iterable[event_pb2.Event]) -> Offered:
    """The events of a message as columns."""
    sent = list(events)
    if not sent:
        return Offered((), (), (), (), (), (), (), ())
    ids, types, users, times, sessions, addresses, descriptions, metadata = zip(*map(_columns, sent), strict=True)
    timestamps: Sequence[int | None] = times
    if 0 in times:
        timestamps = [event.timestamp_ms if event.HasField("timestamp_ms") else None for event in sent]
    return Offered(
        ids,
        types,
        users,
        timestamps,
        sessions,
        addresses,
        descriptions,
        metadata,
        {row: tuple(tags) for row, event in enumerate(sent) if (tags := event.tags)},
        {row: _offered_change(event.change) for row, event in enumerate(sent) if event.HasField("change")},
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
    level = DURABILITIES.get(number)  # type: ignore[call-overload]
    if level is None:
        raise Invalid("DURABILITY_INVALID", f"there is no durability {number}", field="durability")
    return level


# Messages whose text is not UTF-8


def _lenient_twin() -> type[message.Message]:
    """AppendStreamRequest with every string as bytes: the same wire format without the check for UTF-8.

    The decoder refuses a message as a whole for one wrong byte and does not say where. Its twin can be decoded, so that
    only the event at fault is rejected, by name.
    """
    pool = descriptor_pool.DescriptorPool()
    for source in (event_pb2.DESCRIPTOR, ingest_pb2.DESCRIPTOR):
        file = descriptor_pb2.FileDescriptorProto()
        source.CopyToProto(file)
        if "google/rpc/status.proto" in file.dependency:
            file.dependency.remove("google/rpc/status.proto")
            kept = [kind for kind in file.message_type if kind.name in ("AppendRequest", "AppendBatch", "AppendStreamOpen", "AppendStreamRequest")]
            del file.message_type[:]
            file.message_type.extend(kept)
            del file.service[:]
        for kind in file.message_type:
            for entry in kind.field:
                if entry.type == descriptor_pb2.FieldDescriptorProto.TYPE_STRING:
                    entry.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("trackd.v1.AppendStreamRequest"))


_Twin = _lenient_twin()


def decode_stream_message(
    raw: bytes,
) -> tuple[ingest_pb2.AppendStreamRequest, dict[int, Fault]]:
    """One message of a stream, and the events in it that hold text that is not UTF-8 (emptied, to be rejected).

    Raises Invalid(UNDECODABLE) if it is no such message at all.
    """
    try:
        return ingest_pb2.AppendStreamRequest.FromString(raw), {}
    except message.DecodeError:
        return _decode_leniently(raw)


def decode_append(raw: bytes) -> tuple[ingest_pb2.AppendRequest, dict[int, Fault]]:
    """The same for a unary request: its events stand in the twin's batch."""
    try:
        return ingest_pb2.AppendRequest.FromString(raw), {}
    except message.DecodeError as error:
        raise undecodable("AppendRequest") from error


def undecodable(kind: str) -> Invalid:
    """The bytes are no such message."""
    return Invalid(
        "UNDECODABLE",
        f"this is not a valid {kind} message: broken encoding, or text that is not UTF-8",
        hint="build messages from protos/trackd/v1 with a protobuf library",
    )


def _decode_leniently(raw: bytes) -> tuple[ingest_pb2.AppendStreamRequest, dict[int, Fault]]:
    try:
        twin = _Twin.FromString(raw)
    except message.DecodeError as error:
        raise undecodable("AppendStreamRequest") from error
    if twin.WhichOneof("message") != "batch":
        raise Invalid("TEXT_NOT_UTF8", "the text of this message is not UTF-8", field="open.source")
    request = ingest_pb2.AppendStreamRequest()
    request.batch.batch_id = twin.batch.batch_id  # type: ignore[attr-defined]
    request.batch.atomic = twin.batch.atomic  # type: ignore[attr-defined]
    faults: dict[int, Fault] = {}
    for row, event in enumerate(twin.batch.events):  # type: ignore[attr-defined]
        try:
            request.batch.events.append(event_pb2.Event.FromString(event.SerializeToString()))
        except message.DecodeError:
            request.batch.events.append(event_pb2.Event())
            field = _not_utf8(event)
            faults[row] = Fault("TEXT_NOT_UTF8", f"{field} is not UTF-8", field)
    return request, faults


def _not_utf8(event: message.Message) -> str:
    """The first field whose bytes are not UTF-8."""
    for descriptor, value in event.ListFields():
        if descriptor.name == "change":
            if inner := _not_utf8(value):
                return f"change.{inner}"
        elif descriptor.name != "id" and descriptor.type == descriptor.TYPE_BYTES:
            for text in value if isinstance(value, Sequence) and not isinstance(value, bytes) else [value]:
                try:
                    bytes(text).decode()
                except UnicodeDecodeError:
                    return descriptor.name
    return ""


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
        return getattr(sent, name) if sent.HasField(name) else None  # type: ignore[arg-type]

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
    found = _ORDERS.get(number)  # type: ignore[call-overload]
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


def stored_event(event: Event) -> event_pb2.StoredEvent:
    """A stored event as the wire has it."""
    return event_pb2.StoredEvent(
        position=event.position,
        source=event.source,
        received_ms=event.received_ms,
        event=event_pb2.Event(
            id=event.id,
            type=event.type,
            user_id=event.user_id,
            timestamp_ms=event.timestamp_ms,
            session_id=event.session_id,
            client_ip=event.client_ip,
            description=event.description,
            tags=event.tags,
            metadata=event.metadata,
            change=_change(event.change) if event.change else None,
        ),
    )


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
    return query_pb2.CountRow(events=count.events, **named)  # type: ignore[arg-type]


def event_type(entry: EventType) -> event_type_pb2.EventType:
    """An entry of the registry."""
    return event_type_pb2.EventType(
        name=entry.name,
        description=entry.description,
        registered_ms=entry.registered_ms,
        declared=entry.declared,
    )
