"""Pages of events: the index tells which positions are next, the truth has the events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from server.model import EventFilter, Keyset, MonthInfo, Order
from server.question import AllOf, Field, FieldKind, OneOf
from server.storage.sqlite import questions
from server.storage.sqlite.answers.cut import Cut, MonthCut, take_cut
from server.storage.sqlite.answers.files import Files, IndexUnusable
from server.storage.sqlite.answers.names import Names
from server.storage.sqlite.answers.selection import Columns, Matcher
from server.storage.sqlite.answers.truth_rows import gap_rows
from server.storage.sqlite.index.derived import Derived
from server.storage.sqlite.index.reading import Chunk, IndexReader
from server.storage.sqlite.index.rows import Keys, Mask, Positions, Rows, Times, joined
from server.storage.sqlite.index.tables import TAG, Projection, Slot

LEADS_MAX = 64
FETCH_MAX = 250
"""Positions in one statement."""
NEAR_POSITIONS = 50_000
"""In the order of positions, so few are read one after the other faster than looked up."""

ATTEMPTS = 2
"""A run may be replaced in the middle of a page; then the index is pinned."""

LEAD = {Projection.BY_USER: Slot.USER, Projection.BY_TYPE: Slot.TYPE, Projection.BY_LABEL: Slot.LABEL}
"""The column that each order is found by."""

NOTHING = (np.empty(0, np.int64), np.empty(0, np.int64))
"""No times and no positions."""

Row = tuple[Any, ...]


class Lists:
    """Makes lists for one reader."""

    def __init__(self, files: Files, derived: Derived, names: Names) -> None:
        self._files = files
        self._derived = derived
        self._names = names

    def of(self, where: EventFilter, order: Order, as_of: int, months: Sequence[MonthInfo]) -> List:
        """A list over these months."""
        parts = [
            OneOf(Field(kind), values)
            for kind, values in (
                (FieldKind.TYPE, where.types),
                (FieldKind.USER, where.user_ids),
                (FieldKind.SOURCE, where.sources),
            )
            if values
        ]
        matcher = Matcher(AllOf(tuple(parts)), self._names, months)
        return List(self._files, self._derived, matcher, where, order, as_of)


class List:
    """The events that match a filter, in one order, month by month."""

    def __init__(
        self, files: Files, derived: Derived, matcher: Matcher, where: EventFilter, order: Order, as_of: int
    ) -> None:
        self._files = files
        self._derived = derived
        self._matcher = matcher
        self._where = where
        self._order = order
        self._as_of = as_of

    def month(self, info: MonthInfo, limit: int, after: Keyset | None) -> list[Row]:
        """The first matching events of a month behind `after`, as rows of `questions.page`."""
        if not self._better_scanned(after):
            for attempt in range(ATTEMPTS):
                try:
                    cut = take_cut(self._files, self._derived, [info], pin=attempt > 0)
                    return _Page(self._files, self._matcher, self._where, self._order, self._as_of).rows(
                        cut, limit, after
                    )
                except IndexUnusable:
                    continue
        return list(
            self._files.rows(info, *questions.page(info.month, self._where, self._order, limit, after, self._as_of))
        )

    def _better_scanned(self, after: Keyset | None) -> bool:
        where, order = self._where, self._order
        few_leads = any(0 < len(values) <= LEADS_MAX for values in (where.user_ids, where.tags))
        if not order.by_time:
            first = max(where.after_position or 0, 0 if after is None or order.descending else after.position)
            return not few_leads or self._as_of - first <= NEAR_POSITIONS
        return bool(where.session_ids) and not few_leads


class _Page:
    """One page out of one month."""

    def __init__(self, files: Files, matcher: Matcher, where: EventFilter, order: Order, as_of: int) -> None:
        self._files = files
        self._matcher = matcher
        self._where = where
        self._order = order
        self._last = as_of if where.up_to_position is None else min(as_of, where.up_to_position)

    def rows(self, whole: Cut, limit: int, after: Keyset | None) -> list[Row]:
        """The page. What the index does not know is asked of the truth, so it may take several rounds."""
        cut = whole.months[0]
        info = cut.info
        gap = (rows for rows, _tags in gap_rows(self._files, cut))
        outside = joined([*gap, whole.tail.rows({cut.info.month: cut.tail_from})])
        # What only the truth can tell.
        residual = EventFilter(session_ids=self._where.session_ids, tags=self._where.tags)
        found: list[Row] = []
        wanted = limit
        while True:
            times, positions, more = self._candidates(cut, outside, wanted, after)
            for start in range(0, len(positions), FETCH_MAX):
                part = positions[start : start + FETCH_MAX].tolist()
                rows = self._files.few_rows(info, *questions.events_at(info.month, part, residual, self._order))
                found += [(position, bytes.fromhex(identity), *rest) for position, identity, *rest in rows]
                if len(found) >= limit:
                    return found[:limit]
            if not more:
                return found
            after = Keyset(int(times[-1]), int(positions[-1]))
            wanted = min(wanted * 2, 10_000)

    def _candidates(
        self, cut: MonthCut, outside: Rows, wanted: int, after: Keyset | None
    ) -> tuple[Times, Positions, bool]:
        """The next positions in order, with their times, and whether there may be more behind them."""
        parts = [NOTHING]
        if len(outside):
            parts.append(self._matching(outside.timestamp_ms, outside.position, _columns(outside), cut, after))
        if cut.index is not None:
            with self._files.index_reading(cut.info, cut.version):
                parts += self._indexed(cut, cut.index, wanted, after)
        times = np.concatenate([part[0] for part in parts])
        positions = np.concatenate([part[1] for part in parts])
        order = np.lexsort((positions, times)) if self._order.by_time else np.argsort(positions)
        if self._order.descending:
            order = order[::-1]
        ordered = positions[order]
        if self._where.tags:
            # An event that has two of the tags is found twice.
            _unique, first = np.unique(ordered, return_index=True)
            order = order[np.sort(first)]
        return times[order[:wanted]], positions[order[:wanted]], len(order) > wanted or len(order) == wanted

    def _indexed(
        self, cut: MonthCut, index: IndexReader, wanted: int, after: Keyset | None
    ) -> list[tuple[Times, Positions]]:
        """Matching rows of the index; in the order of times no more chunks than are needed for the wanted."""
        start_ms = cut.info.month.start_ms
        chunks = [(chunk, projection, leads) for chunk, projection, leads in self._chunks(cut, index, after, start_ms)]
        descending = self._order.descending
        chunks.sort(key=lambda entry: -entry[0].late if descending else entry[0].early)
        found: list[tuple[Times, Positions]] = []
        seen = 0
        bound: int | None = None  # the time of the last one that is wanted, as far as is known
        for chunk, projection, leads in chunks:
            self._files.unless_stopped()
            if bound is not None and (chunk.late + start_ms < bound if descending else chunk.early + start_ms > bound):
                break
            part = self._read(cut, index, chunk, projection, leads, after)
            if len(part[0]):
                found.append(part)
                seen += len(part[0])
            if self._order.by_time and seen >= wanted and not self._where.tags:
                times = np.concatenate([times for times, _positions in found])
                bound = int(
                    np.partition(times, len(times) - wanted)[len(times) - wanted]
                    if descending
                    else np.partition(times, wanted - 1)[wanted - 1]
                )
        return found

    def _chunks(
        self, cut: MonthCut, index: IndexReader, after: Keyset | None, start_ms: int
    ) -> list[tuple[Chunk, Projection, Keys | None]]:
        projection, leads = self._leads(index)
        low = 0 if self._where.start_ms is None else self._where.start_ms - start_ms
        high = cut.info.month.end_ms - start_ms
        high = high if self._where.end_ms is None else min(high, self._where.end_ms - start_ms)
        if after is not None and self._order.by_time:
            if self._order.descending:
                high = min(high, after.timestamp_ms - start_ms + 1)
            else:
                low = max(low, after.timestamp_ms - start_ms)
        wanted = None if leads is None else leads.tolist()
        return [
            (chunk, projection, leads)
            for run in cut.runs
            if run.first <= self._last and run.last > (self._where.after_position or 0)
            for chunk in index.chunks(run, projection, wanted)
            if chunk.late >= low and chunk.early < high
        ]

    def _leads(self, index: IndexReader) -> tuple[Projection, Keys | None]:
        if 0 < len(self._where.user_ids) <= LEADS_MAX:
            return Projection.BY_USER, self._matcher.required(FieldKind.USER)
        if 0 < len(self._where.tags) <= LEADS_MAX:
            wanted = set(self._where.tags)
            keys = sorted(key for key, name in index.labels(TAG).items() if name in wanted)
            return Projection.BY_LABEL, np.array(keys, np.uint32)
        types = self._matcher.required(FieldKind.TYPE)
        if types is not None and len(types) <= LEADS_MAX:
            return Projection.BY_TYPE, types
        return Projection.BY_TYPE, None

    def _read(
        self,
        cut: MonthCut,
        index: IndexReader,
        chunk: Chunk,
        projection: Projection,
        leads: Keys | None,
        after: Keyset | None,
    ) -> tuple[Times, Positions]:
        slots = {
            kind: slot
            for kind, slot, values in (
                (FieldKind.TYPE, Slot.TYPE, self._where.types),
                (FieldKind.USER, Slot.USER, self._where.user_ids),
                (FieldKind.SOURCE, Slot.SOURCE, self._where.sources),
            )
            if values
        }
        lead = LEAD[projection]
        read = list(dict.fromkeys([Slot.TIME, Slot.POSITION, *slots.values(), *([] if leads is None else [lead])]))
        found = dict(zip(read, index.fields(chunk, read), strict=True))
        if leads is not None:
            mine = _rows_of(found[lead], leads)
            found = {slot: column[mine] for slot, column in found.items()}
        times = found[Slot.TIME].astype(np.int64) + cut.info.month.start_ms
        keys = {kind: found[slot] for kind, slot in slots.items()}
        return self._matching(times, found[Slot.POSITION], Columns(len(times), keys), cut, after)

    def _matching(
        self, times: Times, positions: Positions, columns: Columns, cut: MonthCut, after: Keyset | None
    ) -> tuple[Times, Positions]:
        kept: Mask = positions <= self._last
        if self._where.after_position is not None:
            kept &= positions > self._where.after_position
        if self._where.start_ms is not None:
            kept &= times >= self._where.start_ms
        if self._where.end_ms is not None:
            kept &= times < self._where.end_ms
        if after is not None:
            kept &= self._behind(times, positions, after)
        if len(cut.removed):
            kept &= ~np.isin(positions, cut.removed)
        if not self._matcher.trivial:
            kept &= self._matcher.mask(columns)
        return times[kept], positions[kept]

    def _behind(self, times: Times, positions: Positions, after: Keyset) -> Mask:
        if not self._order.by_time:
            behind: Mask = positions < after.position if self._order.descending else positions > after.position
            return behind
        same: Mask = times == after.timestamp_ms
        if self._order.descending:
            return (times < after.timestamp_ms) | (same & (positions < after.position))
        return (times > after.timestamp_ms) | (same & (positions > after.position))


def _rows_of(column: Keys, leads: Keys) -> slice | Mask:
    """Where some leads are in a column of them, which is sorted."""
    if len(leads) != 1:
        return np.isin(column, leads)
    first, end = np.searchsorted(column, leads[0], side="left"), np.searchsorted(column, leads[0], side="right")
    return slice(int(first), int(end))


def _columns(rows: Rows) -> Columns:
    return Columns(len(rows), {FieldKind.TYPE: rows.type, FieldKind.USER: rows.user, FieldKind.SOURCE: rows.source})
