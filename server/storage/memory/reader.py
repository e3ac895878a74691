"""Questions to the reference engine: each goes through all events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter

from retention.facts import RAW
from retention.hold import Hold
from retention.month import Month
from server.errors import Unavailable
from server.frozen import Frozen
from server.model import Count, Dimension, Event, EventFilter, Keyset, MonthInfo, Order
from server.question import Answer, Question, Read
from server.rewriting import Heard, MonthStocks, Selection
from server.storage.contract import Reader, SealedRows
from server.storage.digest import ContentDigest, digested
from server.storage.exported import Exported, exported_of, to_export
from server.storage.frozen_grain import check_rows_tell
from server.storage.memory import aggregation
from server.storage.memory.freezing import freeze, frozen_parts
from server.storage.memory.records import MemoryRecords
from server.storage.memory.rewriting import Forms

_EXPORT_ROWS = 1_000


class MemoryReader(Reader):
    """Goes through all events for every question."""

    def __init__(
        self,
        head: Callable[[], int],
        events_up_to: Callable[[int], Sequence[Event]],
        months: Callable[[], Sequence[MonthInfo]],
        records: MemoryRecords,
        zones: tuple[str, ...],
        stocks: Callable[[Month, Sequence[Hold]], MonthStocks],
        forms: Mapping[Month, Forms],
    ) -> None:
        self._head = head
        self._events_up_to = events_up_to
        self._months = months
        self._records = records
        self._zones = zones
        self._stocks = stocks
        self._forms = forms
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
        months = [info.month for info in self._months()]
        check_rows_tell(where, by, months, self._records.losses, self._records.frozen)
        if not by:
            return [Count((), counts.total())]
        return [Count(key, counts[key]) for key in sorted(counts)]

    def aggregate(self, questions: Sequence[Question]) -> Answer:
        self._interrupted = False
        as_of = self._head()
        events = self._events_up_to(as_of)
        read = Read(rows=len(questions) * len(events))
        # What is lost is looked up after the events: so whatever is not among them any more is known to be lost.
        tables = tuple(
            aggregation.table(question, self._each(events), frozen_parts(question, self._months(), self._records, read))
            for question in questions
        )
        return Answer(tables, as_of, read)

    def freeze(self, month: Month, types: Sequence[str], heard: Heard | None = None) -> Frozen:
        info = next((info for info in self._months() if info.month == month), None)
        frozen = freeze(info, month, types, self._events_up_to(self._head()), self._records, self._zones)
        if heard is not None:
            heard(sum(sum(one.quarters.events) for one in frozen.types.values()))
        return frozen

    def stocks(self, month: Month, holds: Sequence[Hold] = ()) -> MonthStocks:
        return self._stocks(month, holds)

    @contextmanager
    def sealed(self, month: Month, *, generation: int | None = None) -> Iterator[SealedRows]:
        to_export(month, next((info for info in self._months() if info.month == month), None), generation)
        forms = self._forms.get(month, {})
        where = EventFilter(start_ms=month.start_ms, end_ms=month.end_ms)
        found = self._matching(where, self._head())
        yield SealedEvents([(event, forms.get(event.position, (RAW, None))[0]) for event in found])

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


@dataclass(frozen=True, slots=True)
class SealedEvents(SealedRows):
    """The events of a month, each with its form."""

    events: Sequence[tuple[Event, str]]

    def export(self, rows: Selection) -> Iterator[Exported]:
        chosen = self._chosen(rows)
        for start in range(0, len(chosen), _EXPORT_ROWS):
            some = chosen[start : start + _EXPORT_ROWS]
            yield exported_of([event for event, _ in some], [form for _, form in some])

    def content_digest(self, rows: Selection, heard: Heard | None = None) -> ContentDigest:
        chosen = self._chosen(rows)
        if heard is not None:
            heard(len(chosen))
        return digested(event for event, _ in chosen)

    def _chosen(self, rows: Selection) -> Sequence[tuple[Event, str]]:
        return [(event, form) for event, form in self.events if event.type in rows.types and form in rows.forms]


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
