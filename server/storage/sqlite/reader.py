"""Answering questions from month files: planned per month, run per month, combined here.

Until the deferred index exists a question scans the months it touches. The cut is always `position <= as_of`.
"""

from __future__ import annotations

import heapq
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import apsw
import orjson

from retention.month import Month
from server.errors import Corrupt, TrackdError, Unavailable
from server.model import Count, Dimension, Event, EventFilter, Keyset, MonthInfo, Order
from server.question import Answer, Question
from server.storage.contract import Reader
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite import questions, schema
from server.storage.sqlite.layout import Layout
from server.storage.sqlite.month_file import change_of

FETCH_ROWS = 256

WINDOW_POSITIONS = 1_000_000
"""A scan of so many rows takes some tenths of a second."""


class SqliteReader(Reader):
    """One thread's connections to the months it asked last."""

    def __init__(
        self,
        layout: Layout,
        months: Callable[[], Sequence[MonthInfo]],
        damaged: Mapping[Month, TrackdError],
        *,
        open_max: int,
        cache_bytes: int,
    ) -> None:
        self._layout = layout
        self._months = months
        self._damaged = damaged
        self._open_max = open_max
        self._cache_bytes = cache_bytes
        self._open: OrderedDict[tuple[Month, int], apsw.Connection] = OrderedDict()
        self._guard = threading.Lock()
        self._running = False
        self._stopped = False

    # Questions

    def list_events(
        self, where: EventFilter, order: Order, limit: int, *, after: Keyset | None, as_of: int
    ) -> Sequence[Event]:
        with self._question():
            months = [info for info in self._touched(where) if _may_hold(info.month, order, after)]
            if order.by_time:
                months.sort(key=lambda info: info.month, reverse=order.descending)
                events: list[Event] = []
                for info in months:
                    wanted = limit - len(events)
                    if wanted <= 0:
                        break
                    events += self._list_month(info, where, order, wanted, after, as_of)
                return events
            lists = [self._list_month(info, where, order, limit, after, as_of) for info in months]
            merged = heapq.merge(*lists, key=lambda event: event.position, reverse=order.descending)
            return list(islice(merged, limit))

    def count_events(self, where: EventFilter, by: Sequence[Dimension], *, as_of: int) -> Sequence[Count]:
        with self._question():
            columns = [dimension for dimension in by if dimension is not Dimension.MONTH]
            totals: Counter[tuple[str, ...]] = Counter()
            for info in self._touched(where):
                month = {Dimension.MONTH: str(info.month)}
                for window in self._windows(info, where, as_of):
                    sql, bindings = questions.count(info.month, window, columns, as_of)
                    for *names, events in self._rows(info, sql, bindings):
                        named = month | dict(zip(columns, names, strict=True))
                        totals[tuple(named[dimension] for dimension in by)] += events
            if not by:
                return [Count((), totals[()])]
            return [Count(key, events) for key, events in sorted(totals.items()) if events]

    def aggregate(self, questions: Sequence[Question]) -> Answer:
        raise NotImplementedError

    def _windows(self, info: MonthInfo, where: EventFilter, as_of: int) -> Iterator[EventFilter]:
        """The filter in pieces of bounded length: a statement that runs for long keeps the log from starting over."""
        ((first, last),) = self._rows(info, *questions.extent(info.month))
        if first is None:
            return
        start = max(first - 1, where.after_position or 0)
        end = min(last, as_of, last if where.up_to_position is None else where.up_to_position)
        for after in range(start, end, WINDOW_POSITIONS):
            yield replace(where, after_position=after, up_to_position=min(end, after + WINDOW_POSITIONS))

    def _list_month(
        self, info: MonthInfo, where: EventFilter, order: Order, limit: int, after: Keyset | None, as_of: int
    ) -> list[Event]:
        sql, bindings = questions.page(info.month, where, order, limit, after, as_of)
        return [_event(row) for row in self._rows(info, sql, bindings)]

    def _touched(self, where: EventFilter) -> list[MonthInfo]:
        touched = [info for info in self._months() if where.touches(info.month)]
        for info in touched:
            if problem := self._damaged.get(info.month):
                raise Corrupt(
                    "MONTH_DAMAGED",
                    f"the file of {info.month} is damaged: {problem.message}",
                    hint="ask about other months, or restore this one from a backup",
                )
        return touched

    # Running

    def interrupt(self) -> None:
        with self._guard:
            if self._running:
                self._stopped = True
                for connection in self._open.values():
                    connection.interrupt()

    @contextmanager
    def _question(self) -> Iterator[None]:
        with self._guard:
            self._running, self._stopped = True, False
        try:
            yield
        finally:
            with self._guard:
                self._running = False

    def _rows(self, info: MonthInfo, sql: str, bindings: Sequence[apsw.SQLiteValue]) -> Iterator[tuple[Any, ...]]:
        path = self._layout.events(info.month, info.generation)
        connection = self._connection(info, path)
        with sqlite.translated(path):
            cursor = connection.execute(sql, bindings)
            while rows := list(islice(cursor, FETCH_ROWS)):
                self._unless_stopped()
                yield from rows

    def _unless_stopped(self) -> None:
        if self._stopped:
            raise Unavailable(
                "INTERRUPTED", "the question was stopped", hint="give it a later deadline or ask for less"
            )

    def _connection(self, info: MonthInfo, path: Path) -> apsw.Connection:
        key = (info.month, info.generation)
        connection = self._open.get(key)
        if connection is None:
            connection = sqlite.open_reader(path, cache_bytes=self._cache_bytes)
            with sqlite.translated(path):
                schema.read_about(connection, path)
        with self._guard:
            self._unless_stopped()
            self._open[key] = connection
            self._open.move_to_end(key)
            surplus = [self._open.popitem(last=False)[1] for _ in range(len(self._open) - self._open_max)]
        for old in surplus:
            old.close()
        return connection

    def close(self) -> None:
        with self._guard:
            connections = list(self._open.values())
            self._open.clear()
        for connection in connections:
            with sqlite.translated():
                connection.close()


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
