"""Answering questions from month files: planned per month, run per month, combined here."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

import orjson

from retention.hold import Hold
from retention.month import Month
from server.apart import aside
from server.errors import Corrupt, NotFound, Precondition, TrackdError
from server.frozen import Frozen
from server.model import Count, Dimension, Event, EventFilter, Keyset, MonthInfo, MonthState, Order
from server.question import Answer, FieldKind, Question
from server.rewriting import Heard, MonthStocks, nobody
from server.storage.contract import Reader
from server.storage.exported import to_export
from server.storage.frozen_grain import check_rows_tell
from server.storage.records import check_freezing
from server.storage.sqlite import questions, schema
from server.storage.sqlite.answers.aggregate import Aggregates
from server.storage.sqlite.answers.files import Files
from server.storage.sqlite.answers.freezing import freeze
from server.storage.sqlite.answers.frozen import FrozenMonths
from server.storage.sqlite.answers.lists import List, Lists
from server.storage.sqlite.answers.names import Names
from server.storage.sqlite.answers.stocks import open_stocks, sealed_stocks
from server.storage.sqlite.catalog import CatalogReader
from server.storage.sqlite.index.derived import Derived
from server.storage.sqlite.month_file import change_of
from server.storage.sqlite.records import CatalogRecords
from server.storage.sqlite.sealed_file import SealedFile

FIRST_EVENTS = 16
"""Of each month, where months are merged in the order of positions."""

_TAGS = schema.EVENT_COLUMNS.index("tags")
_CHANGE = len(schema.EVENT_COLUMNS)

WINDOW_POSITIONS = 1_000_000
"""A scan of so many rows takes some tenths of a second."""


class SqliteReader(Reader):
    """One thread's connections to the months it asked last."""

    def __init__(
        self,
        files: Files,
        names: Names,
        catalog: CatalogReader,
        derived: Derived,
        months: Callable[[], Sequence[MonthInfo]],
        damaged: Mapping[Month, TrackdError],
        *,
        records: CatalogRecords,
        rows_max: int,
        groups_max: int,
    ) -> None:
        self._names = names
        self._derived = derived
        self._records = records
        self._files = files
        self._catalog = catalog
        self._months = months
        self._damaged = damaged
        self._lists = Lists(files, derived, names)
        # Only what any thread may ask of the records.
        frozen = FrozenMonths(catalog, names, derived.indexes.held, lambda: records.losses, lambda: records.frozen)
        self._aggregates = Aggregates(files, derived, names, frozen, rows_max=rows_max, groups_max=groups_max)

    def list_events(
        self, where: EventFilter, order: Order, limit: int, *, after: Keyset | None, as_of: int
    ) -> Sequence[Event]:
        with self._files.question():
            months = [info for info in self._touched(where.touches) if _may_hold(info.month, order, after)]
            listed = self._lists.of(where, order, as_of, months)
            if order.by_time:
                months.sort(key=lambda info: info.month, reverse=order.descending)
                return list(map(_event, listed.over(months, limit, after)))
            lists = [_by_position(listed, info, limit, after) for info in months]
            merged = heapq.merge(*lists, key=lambda event: event.position, reverse=order.descending)
            return list(islice(merged, limit))

    def count_events(self, where: EventFilter, by: Sequence[Dimension], *, as_of: int) -> Sequence[Count]:
        with self._files.question():
            columns = [dimension for dimension in by if dimension is not Dimension.MONTH]
            totals: Counter[tuple[str, ...]] = Counter()
            touched = self._touched(where.touches)
            lost = [info.month for info in (*touched, *self._dropped(where.touches))]
            check_rows_tell(where, by, lost, self._records.losses, self._records.frozen)
            for info in touched:
                month = {Dimension.MONTH: str(info.month)}
                for window in self._windows(info, where, as_of):
                    sql, bindings = questions.count(info.month, window, columns, as_of)
                    for *names, events in self._files.rows(info, sql, bindings):
                        named = month | dict(zip(columns, names, strict=True))
                        totals[tuple(named[dimension] for dimension in by)] += events
            if not by:
                return [Count((), totals[()])]
            return [Count(key, events) for key, events in sorted(totals.items()) if events]

    def aggregate(self, questions: Sequence[Question]) -> Answer:
        filters = [EventFilter(start_ms=question.start_ms, end_ms=question.end_ms) for question in questions]
        with self._files.question():

            def touches(month: Month) -> bool:
                return any(where.touches(month) for where in filters)

            months, dropped = self._touched(touches), self._dropped(touches)
            return self._aggregates.answer(questions, months, dropped)

    def freeze(self, month: Month, types: Sequence[str], heard: Heard | None = None) -> Frozen:
        with self._files.question():
            info = next((info for info in self._months() if info.month == month), None)
            if info is None:
                raise NotFound("MONTH_UNKNOWN", f"there are no events of {month}", hint="list the months there are")
            if info.state is not MonthState.SEALED:
                raise Precondition("MONTH_STATE", f"{month} is {info.state.value}", hint="seal it first")
            kept = self._records.frozen.get(month)
            check_freezing(month, types, self._records.losses.get(month, {}), kept)
            keys = self._names.keys_of(FieldKind.TYPE)
            sources = {key: name for name, key in self._names.keys_of(FieldKind.SOURCE).items()}
            zones = tuple(self._derived.zones)
            wanted = {name: keys.get(name) for name in types}
            size = self._files.size(info)
            path, every = self._files.path(info), kept is None
            return aside(size, path.parent, freeze, path, month, wanted, sources, zones, every, heard=heard or nobody)

    def stocks(self, month: Month, holds: Sequence[Hold] = ()) -> MonthStocks:
        info = next((one for one in self._touched(lambda other: other == month)), None)
        if info is None:
            raise NotFound("MONTH_UNKNOWN", f"there are no events of {month}", hint="list the months there are")
        size = self._files.size(info)
        if info.state is not MonthState.SEALED:
            return open_stocks(self._files, lambda question: self.aggregate([question]), info, holds, size)
        with self._files.question():
            return sealed_stocks(self._files, info, holds, size)

    @contextmanager
    def sealed(self, month: Month, *, generation: int | None = None) -> Iterator[SealedFile]:
        with self._files.question():
            info = next(iter(self._touched(lambda other: other == month)), None)
            yield SealedFile(self._files.path(to_export(month, info, generation)), month)

    def _windows(self, info: MonthInfo, where: EventFilter, as_of: int) -> Iterator[EventFilter]:
        """The filter in pieces of bounded length: a statement that runs for long keeps the log from starting over."""
        ((first, last),) = self._files.rows(info, *questions.extent(info.month))
        if first is None:
            return
        start = max(first - 1, where.after_position or 0)
        end = min(last, as_of, last if where.up_to_position is None else where.up_to_position)
        for after in range(start, end, WINDOW_POSITIONS):
            yield replace(where, after_position=after, up_to_position=min(end, after + WINDOW_POSITIONS))

    def _touched(self, touches: Callable[[Month], bool]) -> list[MonthInfo]:
        touched = [info for info in self._months() if info.state is not MonthState.DROPPED and touches(info.month)]
        for info in touched:
            if problem := self._damaged.get(info.month):
                raise Corrupt(
                    "MONTH_DAMAGED",
                    f"the file of {info.month} is damaged: {problem.message}",
                    hint="ask about other months, or restore this one from a backup",
                )
        return touched

    def _dropped(self, touches: Callable[[Month], bool]) -> list[MonthInfo]:
        return [info for info in self._months() if info.state is MonthState.DROPPED and touches(info.month)]

    def interrupt(self) -> None:
        self._files.interrupt()

    def close(self) -> None:
        self._files.close()
        self._catalog.close()


def _by_position(listed: List, info: MonthInfo, limit: int, after: Keyset | None) -> Iterator[Event]:
    """A month's part of a list, a little at a time: of hundreds of months most have nothing near."""
    size = min(limit, FIRST_EVENTS)
    while True:
        events = [_event(row) for row in listed.month(info, size, after)]
        yield from events
        if len(events) < size:
            return
        after = Keyset(events[-1].timestamp_ms, events[-1].position)
        size = min(2 * size, limit)


def _may_hold(month: Month, order: Order, after: Keyset | None) -> bool:
    """Whether events behind `after` can be in this month."""
    if after is None or not order.by_time:
        return True
    return month.start_ms <= after.timestamp_ms if order.descending else month.end_ms > after.timestamp_ms


def _event(row: Sequence[Any]) -> Event:
    """A row of `questions.page`: the columns of events, in the order of Event's fields, then those of changes."""
    tags = row[_TAGS]
    labels = tuple(orjson.loads(tags)) if tags else ()
    audit = change_of(row[_CHANGE:]) if row[_CHANGE] is not None else None
    return Event(*row[:_TAGS], labels, row[_TAGS + 1], audit)  # type: ignore[call-arg]  # ten are before the tags
