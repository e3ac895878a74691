"""The reference engine: the shortest code that keeps every sentence of the storage contract but durability.

Other engines are compared with this one by the model tests, so it prefers being obviously right to being fast: every
question looks at every event.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter

from retention.chain import Deed
from retention.facts import RAW
from retention.hold import Hold
from retention.month import Month
from server.content import same_change, same_json
from server.errors import NotFound, Precondition, TrackdError, Unavailable
from server.model import (
    Appended,
    Batch,
    Count,
    Dimension,
    Event,
    EventFilter,
    EventType,
    Finding,
    Item,
    Keyset,
    MonthInfo,
    MonthState,
    Order,
    Outcome,
    Rebuilt,
    Size,
)
from server.question import Answer, Question, Read
from server.rewriting import Heard, Losses, MonthStocks, OnWriter, Rewrite, Rewritten, Selection
from server.storage.contract import Reader, Store
from server.storage.digest import ContentDigest, digest_of, digested
from server.storage.exported import Exported, exported_of
from server.storage.memory import aggregation
from server.storage.memory.records import MemoryRecords

_EXPORT_ROWS = 1_000
_POSITION = attrgetter("position")
_REBUILDS = {(MonthState.SEALING, MonthState.SEALED), (MonthState.SEALED, MonthState.OPEN)}


class MemoryStore(Store):
    """Keeps everything in this process's memory and loses it with the process: nothing here is durable."""

    def __init__(self, *, months_max: int = 1200) -> None:
        self._months_max = months_max
        self._lock = threading.Lock()
        """Held for every look at the fields below and for every change of them; never while a question is worked on."""
        self._last_position = 0
        """The last one given out: also to events that were not stored in the end."""
        self._head = 0
        """The highest position that ever had an event."""
        self._log: list[Event] = []
        """All events in order of position. Appended to; replaced by a shorter one when events are removed."""
        self._months: dict[Month, dict[bytes, Event]] = {}
        """The same events by identity. A month is here once it has an event, and stays when its last one is removed."""
        self._infos: dict[Month, MonthInfo] = {}
        """Of months that are not as they began."""
        self._removals: Counter[Month] = Counter()
        """How often events of a month were removed."""
        self._types: dict[str, EventType] = {}
        self._sources: set[str] = set()
        self._records = MemoryRecords()

    @property
    def head(self) -> int:
        with self._lock:
            return self._head

    def append(self, batches: Sequence[Batch]) -> Sequence[Appended | TrackdError]:
        with self._lock:
            return [self._append_batch(batch) for batch in batches]

    def register_type(self, name: str, description: str, now_ms: int, *, dimensions: Sequence[str] = ()) -> EventType:
        with self._lock:
            known = self._types.get(name)
            since_ms = known.registered_ms if known else now_ms
            self._types[name] = EventType(name, description, since_ms, True, tuple(sorted(dimensions)))
            return self._types[name]

    def remove(self, month: Month, positions: Sequence[int]) -> int:
        with self._lock:
            held = self._months.get(month, {})
            if self._info(month).state is MonthState.SEALED:
                raise Precondition("MONTH_SEALED", f"{month} is sealed", hint="reopen the month first")
            removed = {event.position for event in held.values()}.intersection(positions)
            if removed:
                self._removals[month] += 1
                self._months[month] = {key: event for key, event in held.items() if event.position not in removed}
                self._log = [event for event in self._log if event.position not in removed]
            return len(removed)

    def fence(self, month: Month) -> MonthInfo:
        with self._lock:
            info = self._known(month)
            if info.state is MonthState.OPEN:
                self._infos[month] = replace(info, state=MonthState.SEALING)
            return self._info(month)

    def rebuild(self, month: Month, state: MonthState, heard: Callable[[int], None] | None = None) -> Rebuilt:
        with self._lock:
            info = self._known(month)
            if (info.state, state) not in _REBUILDS:
                raise Precondition("MONTH_STATE", f"{month} is {info.state.value}", hint="fence it first")
            events = [event for event in self._log if Month.of(event.timestamp_ms) == month]
            times = [event.timestamp_ms for event in events]
            if heard is not None:
                heard(len(events))
            return Rebuilt(
                month,
                info.generation + 1,
                info.generation,
                state,
                self._removals[month],
                len(events),
                digest_of(events),
                min(times, default=None),
                max(times, default=None),
            )

    def adopt(self, rebuilt: Rebuilt) -> MonthInfo:
        with self._lock:
            info = self._known(rebuilt.month)
            now = (info.generation, self._removals[rebuilt.month])
            if now != (rebuilt.built_from, rebuilt.removals) or (info.state, rebuilt.state) not in _REBUILDS:
                raise Precondition("MONTH_CHANGED", f"{rebuilt.month} has changed", hint="rebuild it again")
            self._infos[rebuilt.month] = MonthInfo(rebuilt.month, rebuilt.generation, rebuilt.state)
            return self._info(rebuilt.month)

    @property
    def records(self) -> MemoryRecords:
        return self._records

    def rewrite(self, month: Month, change: Rewrite, on_writer: OnWriter, heard: Heard | None = None) -> Rewritten:
        raise NotImplementedError

    def drop(self, month: Month, lost: Losses, deed: Deed) -> MonthInfo:
        raise NotImplementedError

    def _info(self, month: Month) -> MonthInfo:
        return self._infos.get(month) or MonthInfo(month, 1, MonthState.OPEN)

    def _known(self, month: Month) -> MonthInfo:
        if month not in self._months:
            raise NotFound("MONTH_UNKNOWN", f"there are no events of {month}", hint="list the months there are")
        return self._info(month)

    def event_types(self) -> Sequence[EventType]:
        with self._lock:
            return [self._types[name] for name in sorted(self._types)]

    def sources(self) -> Sequence[str]:
        with self._lock:
            return sorted(self._sources)

    def months(self) -> Sequence[MonthInfo]:
        with self._lock:
            return [self._info(month) for month in sorted(self._months)]

    def sizes(self) -> Mapping[MonthState, Size]:
        with self._lock:
            rows = Counter(Month.of(event.timestamp_ms) for event in self._log)
            sizes: dict[MonthState, Size] = {}
            for month in self._months:
                state = self._info(month).state
                sizes[state] = Size(sizes.get(state, Size(0, 0)).rows + rows[month], 0)
            return sizes

    def last_positions(self) -> Mapping[Month, int]:
        with self._lock:
            lasts = {Month.of(event.timestamp_ms): event.position for event in self._log}
            return {month: lasts.get(month, 0) for month in self._months}

    def maintain(self, *, idle: bool) -> None:
        """Has nothing to do."""

    def reader(self) -> MemoryReader:
        return MemoryReader(lambda: self.head, self._events_up_to, self.months)

    def check(self) -> Sequence[Finding]:
        with self._lock:
            return list(self._findings())

    def close(self) -> None:
        """Keeps nothing open, so gives nothing back."""

    def _events_up_to(self, as_of: int) -> Sequence[Event]:
        with self._lock:
            return self._log[: bisect_right(self._log, as_of, key=_POSITION)]

    def _append_batch(self, batch: Batch) -> Appended:
        """Works on a draft of what is new, so that a batch that is given up has changed nothing but positions."""
        draft: dict[tuple[Month, bytes], Event] = {}
        months = set(self._months)
        items: list[Item] = []
        for index in range(len(batch)):
            self._last_position += 1
            event = _event_of(batch, index, self._last_position)
            month = Month.of(event.timestamp_ms)
            known = draft.get((month, event.id)) or self._months.get(month, {}).get(event.id)
            if known:
                items.append(_item_of(index, event, known))
            elif self._info(month).state is not MonthState.OPEN:
                items.append(_sealed(index, month))
            elif month not in months and len(months) >= self._months_max:
                items.append(_month_limit(index, month, self._months_max))
            else:
                months.add(month)
                draft[month, event.id] = event
        if batch.atomic and any(item.outcome is Outcome.REJECTED for item in items):
            return _aborted(len(batch), items, {event.position for event in draft.values()})
        self._keep(draft)
        stored = [event.position for event in draft.values()]
        return Appended(len(stored), min(stored, default=None), max(stored, default=None), tuple(items))

    def _keep(self, draft: Mapping[tuple[Month, bytes], Event]) -> None:
        for (month, identifier), event in draft.items():
            self._months.setdefault(month, {})[identifier] = event
            self._sources.add(event.source)
            if event.type not in self._types:
                self._types[event.type] = EventType(event.type, "", event.received_ms, declared=False)
            self._log.append(event)
            self._head = event.position

    def _findings(self) -> Iterator[Finding]:
        positions = [event.position for event in self._log]
        if any(one >= other for one, other in zip([0, *positions], positions, strict=False)):
            yield Finding("log", "positions do not rise strictly from 1")
        if positions and positions[-1] > self._head:
            yield Finding("log", f"position {positions[-1]} is above the head, {self._head}")
        if self._head > self._last_position:
            yield Finding("head", f"position {self._head} was never given out")
        by_identity = {(Month.of(event.timestamp_ms), event.id): event for event in self._log}
        if len(by_identity) < len(self._log):
            yield Finding("log", "holds an identity twice")
        if by_identity != {(month, key): event for month, held in self._months.items() for key, event in held.items()}:
            yield Finding("months", "hold other events than the log")
        if len(self._months) > self._months_max:
            yield Finding("months", f"are {len(self._months)}, more than the {self._months_max} allowed")
        if missing := {event.source for event in self._log} - self._sources:
            yield Finding("sources", f"lack {sorted(missing)}")
        if missing := {event.type for event in self._log} - self._types.keys():
            yield Finding("types", f"lack {sorted(missing)}")


class MemoryReader(Reader):
    """Goes through all events for every question."""

    def __init__(
        self,
        head: Callable[[], int],
        events_up_to: Callable[[int], Sequence[Event]],
        months: Callable[[], Sequence[MonthInfo]],
    ) -> None:
        self._head = head
        self._events_up_to = events_up_to
        self._months = months
        self._interrupted = False

    def list_events(
        self, where: EventFilter, order: Order, limit: int, *, after: Keyset | None, as_of: int
    ) -> Sequence[Event]:
        def place(event: Event | Keyset) -> tuple[int, int]:
            return (event.timestamp_ms if order.by_time else 0, event.position)

        found = sorted(self._matching(where, as_of), key=place, reverse=order.descending)
        if after and order.descending:
            found = [event for event in found if place(event) < place(after)]
        elif after:
            found = [event for event in found if place(event) > place(after)]
        return found[:limit]

    def count_events(self, where: EventFilter, by: Sequence[Dimension], *, as_of: int) -> Sequence[Count]:
        counts = Counter(tuple(_KEYS[dimension](event) for dimension in by) for event in self._matching(where, as_of))
        if not by:
            return [Count((), counts.total())]
        return [Count(key, counts[key]) for key in sorted(counts)]

    def aggregate(self, questions: Sequence[Question]) -> Answer:
        self._interrupted = False
        as_of = self._head()
        events = self._events_up_to(as_of)
        tables = tuple(aggregation.table(question, self._each(events)) for question in questions)
        return Answer(tables, as_of, Read(rows=len(questions) * len(events)))

    def stocks(self, month: Month, holds: Sequence[Hold] = ()) -> MonthStocks:
        raise NotImplementedError

    def export(self, month: Month, rows: Selection, *, generation: int | None = None) -> Iterator[Exported]:
        events = self._sealed(month, rows, generation)
        for start in range(0, len(events), _EXPORT_ROWS):
            yield exported_of(list(self._each(events[start : start + _EXPORT_ROWS])))

    def content_digest(
        self, month: Month, rows: Selection, heard: Heard | None = None, *, generation: int | None = None
    ) -> ContentDigest:
        events = self._sealed(month, rows, generation)
        if heard is not None:
            heard(len(events))
        return digested(self._each(events))

    def _sealed(self, month: Month, rows: Selection, generation: int | None) -> Sequence[Event]:
        self._interrupted = False
        info = next((info for info in self._months() if info.month == month), None)
        if info is None:
            raise NotFound("MONTH_UNKNOWN", f"there are no events of {month}")
        if info.state is not MonthState.SEALED:
            raise Precondition("MONTH_STATE", f"{month} is {info.state.value}", hint="seal the month first")
        if generation not in (None, info.generation):
            raise Precondition("MONTH_CHANGED", f"{month} is in another generation by now", hint="plan again")
        of_month = (event for event in self._events_up_to(self._head()) if Month.of(event.timestamp_ms) == month)
        return [event for event in of_month if event.type in rows.types and RAW in rows.forms]

    def interrupt(self) -> None:
        self._interrupted = True

    def close(self) -> None:
        """Holds nothing, so gives nothing back."""

    def _matching(self, where: EventFilter, as_of: int) -> Iterator[Event]:
        # Here and not at the end of a question: an interrupt that comes between two questions is meant for neither.
        self._interrupted = False
        return (event for event in self._each(self._events_up_to(as_of)) if _matches(where, event))

    def _each(self, events: Sequence[Event]) -> Iterator[Event]:
        for event in events:
            if self._interrupted:
                raise Unavailable("INTERRUPTED", "the question was stopped")
            yield event


_KEYS: Mapping[Dimension, Callable[[Event], str]] = {
    Dimension.TYPE: attrgetter("type"),
    Dimension.MONTH: lambda event: str(Month.of(event.timestamp_ms)),
    Dimension.SOURCE: attrgetter("source"),
    Dimension.USER: attrgetter("user_id"),
}


def _matches(where: EventFilter, event: Event) -> bool:
    return (
        (where.start_ms is None or event.timestamp_ms >= where.start_ms)
        and (where.end_ms is None or event.timestamp_ms < where.end_ms)
        and (not where.types or event.type in where.types)
        and (not where.user_ids or event.user_id in where.user_ids)
        and (not where.sources or event.source in where.sources)
        and (not where.session_ids or event.session_id in where.session_ids)
        and (not where.tags or any(tag in where.tags for tag in event.tags))
        and (where.after_position is None or event.position > where.after_position)
        and (where.up_to_position is None or event.position <= where.up_to_position)
    )


def _event_of(batch: Batch, index: int, position: int) -> Event:
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


def _item_of(index: int, event: Event, known: Event) -> Item:
    """The answer to an event whose identity is taken by `known`."""
    if _same_content(event, known):
        return Item(index, Outcome.DUPLICATE, existing_position=known.position)
    return Item(
        index,
        Outcome.REJECTED,
        reason="ID_CONFLICT",
        message="another event of this month has this id and other content; give each event an id of its own",
        field="id",
        existing_position=known.position,
    )


def _sealed(index: int, month: Month) -> Item:
    return Item(index, Outcome.REJECTED, "MONTH_SEALED", f"{month} is sealed and takes no more events", "timestamp_ms")


def _month_limit(index: int, month: Month, months_max: int) -> Item:
    return Item(
        index,
        Outcome.REJECTED,
        reason="MONTH_LIMIT",
        message=f"{month} is not in the store, which takes no more than {months_max} months; check the event's time",
        field="timestamp_ms",
    )


def _aborted(events: int, items: Sequence[Item], drafted: set[int]) -> Appended:
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
