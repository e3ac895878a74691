"""Builders of events and batches, and the plainest ways to read a store back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

from retention.month import Month
from server.model import Appended, Batch, Change, Event, EventFilter, Item, Keyset, Order, Outcome
from server.storage.contract import Reader, Store

MONTH = "2025-11"
RECEIVED_MS = 1_764_000_000_000
EVERYTHING = EventFilter()


@dataclass(frozen=True)
class Sent:
    """One event as its sender tells it: the content that duplicates are compared by."""

    id: bytes
    timestamp_ms: int
    type: str = "pr_opened"
    user_id: str = "ann"
    session_id: str = ""
    client_ip: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    metadata: str = ""
    change: Change | None = None


def make_id(number: int) -> bytes:
    """The 16 bytes of an id; ids of larger numbers sort later."""
    return number.to_bytes(16, "big")


def ms(month: str, offset_ms: int = 0) -> int:
    """An instant of a month written YYYY-MM: so long after its beginning or, if negative, so long before its end."""
    whole = Month.parse(month)
    return (whole.start_ms if offset_ms >= 0 else whole.end_ms) + offset_ms


def make_event(number: int, month: str = MONTH, offset_ms: int = 0, **content: object) -> Sent:
    """An event with the id of `number`; `content` are other fields of Sent."""
    return Sent(id=make_id(number), timestamp_ms=ms(month, offset_ms), **content)  # type: ignore[arg-type]


def make_batch(*events: Sent, source: str = "reviews", received_ms: int = RECEIVED_MS, atomic: bool = False) -> Batch:
    """The events as one batch, in columns."""
    return Batch(
        source=source,
        received_ms=received_ms,
        ids=[event.id for event in events],
        types=[event.type for event in events],
        user_ids=[event.user_id for event in events],
        timestamps_ms=[event.timestamp_ms for event in events],
        session_ids=[event.session_id for event in events],
        client_ips=[event.client_ip for event in events],
        descriptions=[event.description for event in events],
        metadata=[event.metadata for event in events],
        tags={row: event.tags for row, event in enumerate(events) if event.tags},
        changes={row: event.change for row, event in enumerate(events) if event.change},
        atomic=atomic,
    )


def sent_part(event: Event) -> Sent:
    """What the sender of a stored event had said."""
    return Sent(**{field.name: getattr(event, field.name) for field in fields(Sent)})


def append(store: Store, *events: Sent, source: str = "reviews", atomic: bool = False) -> Appended:
    """Appends one batch in a group of its own."""
    (answer,) = append_group(store, make_batch(*events, source=source, atomic=atomic))
    return answer


def append_group(store: Store, *batches: Batch) -> list[Appended]:
    """Appends one group; an answer that is an error fails the test."""
    answers = []
    for answer in store.append(batches):
        if not isinstance(answer, Appended):
            raise answer
        answers.append(answer)
    return answers


def outcomes(answer: Appended) -> list[tuple[int, Outcome, str]]:
    """The items of an answer without their texts and positions."""
    return [(item.index, item.outcome, item.reason) for item in answer.items]


def only_item(answer: Appended) -> Item:
    """The one item of an answer."""
    (item,) = answer.items
    return item


def pages(
    reader: Reader, where: EventFilter, order: Order, limit: int, *, as_of: int, after: Keyset | None = None
) -> Iterator[list[Event]]:
    """Page after page up to the first empty one, which is not handed out. An event that comes twice fails the test."""
    seen: set[int] = set()
    while page := list(reader.list_events(where, order, limit, after=after, as_of=as_of)):
        # Without this, a page that begins one event too early would go on for ever.
        assert seen.isdisjoint(positions(page)), "an event is listed twice"
        seen.update(positions(page))
        yield page
        after = Keyset(page[-1].timestamp_ms, page[-1].position)


def read(
    store: Store, where: EventFilter = EVERYTHING, order: Order = Order.POSITION_ASC, *, as_of: int | None = None
) -> list[Event]:
    """All matching events, at the head if nothing else is asked for."""
    reader = store.reader()
    try:
        cut = store.head if as_of is None else as_of
        return [event for page in pages(reader, where, order, 1_000, as_of=cut) for event in page]
    finally:
        reader.close()


def stored(store: Store) -> list[Sent]:
    """What senders had said, in the order of positions."""
    return [sent_part(event) for event in read(store)]


def positions(events: Iterable[Event]) -> list[int]:
    """The positions of events."""
    return [event.position for event in events]
