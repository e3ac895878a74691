"""What the reference engine says of each event, and of the generations of a month."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from retention.month import Month
from server.content import same_change, same_json
from server.model import Appended, Batch, Event, Item, MonthInfo, MonthState, Outcome, Rebuilt
from server.storage.digest import digest_of


def event_of(batch: Batch, index: int, position: int) -> Event:
    """An event of a batch, as it is stored."""
    return Event(
        position=position,
        id=batch.ids[index],
        type=batch.types[index],
        user_id=batch.user_ids[index],
        source=batch.source,
        timestamp_ms=batch.timestamps_ms[index],
        received_ms=batch.received_ms,
        session_id=batch.session_ids[index],
        client_ip=batch.client_ips[index],
        description=batch.descriptions[index],
        tags=batch.tags.get(index, ()),
        metadata=batch.metadata[index],
        change=batch.changes.get(index),
    )


def _same_content(one: Event, other: Event) -> bool:
    """Whether a sender said the same twice: all but what the server filled in, and JSON by its value."""

    def plain(event: Event) -> Event:
        return replace(event, position=0, source="", received_ms=0, metadata="", change=None)

    return (
        plain(one) == plain(other) and same_json(one.metadata, other.metadata) and same_change(one.change, other.change)
    )


def duplicate(index: int, known: Event) -> Item:
    """It is stored already."""
    return Item(index, Outcome.DUPLICATE, existing_position=known.position)


def item_of(index: int, event: Event, known: Event) -> Item:
    """The answer to an event whose identity is taken by `known`."""
    if _same_content(event, known):
        return duplicate(index, known)
    return Item(
        index,
        Outcome.REJECTED,
        reason="ID_CONFLICT",
        message="another event of this month has this id and other content; give each event an id of its own",
        field="id",
        existing_position=known.position,
    )


def sealed(index: int, month: Month) -> Item:
    """Its month takes no events any more."""
    return Item(index, Outcome.REJECTED, "MONTH_SEALED", f"{month} is sealed and takes no more events", "timestamp_ms")


def dropped(index: int, month: Month) -> Item:
    """Its month is gone."""
    return Item(index, Outcome.REJECTED, "MONTH_DROPPED", f"the events of {month} were dropped", "timestamp_ms")


def rebuilt_of(info: MonthInfo, generation: int, state: MonthState, removals: int, events: Sequence[Event]) -> Rebuilt:
    """What a generation with these events says of itself."""
    times = [event.timestamp_ms for event in events]
    return Rebuilt(
        info.month,
        generation,
        info.generation,
        state,
        removals,
        len(events),
        digest_of(events),
        min(times, default=None),
        max(times, default=None),
    )


def month_limit(index: int, month: Month, months_max: int) -> Item:
    """It would open one month too many."""
    return Item(
        index,
        Outcome.REJECTED,
        reason="MONTH_LIMIT",
        message=f"{month} is not in the store, which takes no more than {months_max} months; check the event's time",
        field="timestamp_ms",
    )


def aborted(events: int, items: Sequence[Item], drafted: set[int]) -> Appended:
    """The answer to an atomic batch that is given up: rejections as found, everything else as aborted.

    `drafted` are the positions that no event got in the end: a conflict with one of them has no existing position.
    """
    at_fault = {item.index: item for item in items if item.outcome is Outcome.REJECTED}
    answers = []
    for index in range(events):
        item = at_fault.get(index)
        if item is None:
            message = "another event of this atomic batch was rejected; correct that one and send the batch again"
            item = Item(index, Outcome.REJECTED, reason="ATOMIC_ABORTED", message=message, retryable=True)
        elif item.existing_position in drafted:
            item = replace(item, existing_position=None)
        answers.append(item)
    return Appended(0, None, None, tuple(answers))
