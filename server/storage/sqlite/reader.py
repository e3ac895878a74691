"""Answering questions from month files: planned per month, run per month, combined here."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import orjson

from retention.month import Month
from server.errors import Corrupt, TrackdError
from server.model import Count, Dimension, Event, EventFilter, Keyset, MonthInfo, Order
from server.question import Answer, Question
from server.storage.contract import Reader
from server.storage.sqlite import questions, schema
from server.storage.sqlite.answers.aggregate import Aggregates
from server.storage.sqlite.answers.files import Files
from server.storage.sqlite.answers.lists import List, Lists
from server.storage.sqlite.answers.names import Names
from server.storage.sqlite.catalog import CatalogReader
from server.storage.sqlite.index.derived import Derived
from server.storage.sqlite.month_file import change_of

FIRST_EVENTS = 16
"""Of each month, where months are merged in the order of positions."""

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
        rows_max: int,
        groups_max: int,
    ) -> None:
        self._files = files
        self._catalog = catalog
        self._months = months
        self._damaged = damaged
        self._lists = Lists(files, derived, names)
        self._aggregates = Aggregates(files, derived, names, rows_max=rows_max, groups_max=groups_max)

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
            for info in self._touched(where.touches):
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
            months = self._touched(lambda month: any(where.touches(month) for where in filters))
            return self._aggregates.answer(questions, months)

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
        touched = [info for info in self._months() if touches(info.month)]
        for info in touched:
            if problem := self._damaged.get(info.month):
                raise Corrupt(
                    "MONTH_DAMAGED",
                    f"the file of {info.month} is damaged: {problem.message}",
                    hint="ask about other months, or restore this one from a backup",
                )
        return touched

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


def _event(row: tuple[Any, ...]) -> Event:
    """A row of `questions.page`: the columns of events, in the order of Event's fields, then those of changes."""
    *plain, tags, metadata = row[: len(schema.EVENT_COLUMNS)]
    change = row[len(schema.EVENT_COLUMNS) :]
    labels = tuple(orjson.loads(tags)) if tags else ()
    audit = change_of(change) if change[0] is not None else None
    return Event(*plain, labels, metadata, audit)  # type: ignore[call-arg]  # `plain` holds exactly the ten before
