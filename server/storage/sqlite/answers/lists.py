"""Pages of events: the index tells which positions are next, the truth has the events."""

from __future__ import annotations

from dataclasses import replace
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
from server.storage.sqlite.index.file import Chunk, IndexFile
from server.storage.sqlite.index.rows import Keys, Mask, Positions, Rows, Times, joined
from server.storage.sqlite.index.tables import TAG, Projection, Slot

LEADS_MAX = 64
FETCH_MAX = 250
"""Positions in one statement."""
NEAR_POSITIONS = 50_000
"""In the order of positions, so few are read one after the other faster than looked up."""

Row = tuple[Any, ...]


class Lists:
    """Finds the events of one page, month by month."""

    def __init__(self, files: Files, derived: Derived, names: Names) -> None:
        self._files = files
        self._derived = derived
        self._names = names

    def month(
        self, info: MonthInfo, where: EventFilter, order: Order, limit: int, after: Keyset | None, as_of: int
    ) -> list[Row]:
        """The first matching events of a month behind `after`, as rows of `questions.page`."""
        if self._better_scanned(where, order, after, as_of):
            return self._scan(info, where, order, limit, after, as_of)
        try:
            cut = take_cut(self._files, self._derived, [info])
            return _Page(self._files, self._names, info, where, order, as_of).rows(cut, limit, after)
        except IndexUnusable:
            return self._scan(info, where, order, limit, after, as_of)

    def _better_scanned(self, where: EventFilter, order: Order, after: Keyset | None, as_of: int) -> bool:
        few_leads = any(0 < len(values) <= LEADS_MAX for values in (where.user_ids, where.tags))
        if not order.by_time:
            first = max(where.after_position or 0, 0 if after is None or order.descending else after.position)
            return not few_leads or as_of - first <= NEAR_POSITIONS
        return bool(where.session_ids) and not few_leads

    def _scan(
        self, info: MonthInfo, where: EventFilter, order: Order, limit: int, after: Keyset | None, as_of: int
    ) -> list[Row]:
        return list(self._files.rows(info, *questions.page(info.month, where, order, limit, after, as_of)))


class _Page:
    """One page out of one month."""

    def __init__(
        self, files: Files, names: Names, info: MonthInfo, where: EventFilter, order: Order, as_of: int
    ) -> None:
        self._files = files
        self._info = info
        self._where = where
        self._order = order
        self._last = as_of if where.up_to_position is None else min(as_of, where.up_to_position)
        parts = [
            OneOf(Field(kind), values)
            for kind, values in (
                (FieldKind.TYPE, where.types),
                (FieldKind.USER, where.user_ids),
                (FieldKind.SOURCE, where.sources),
            )
            if values
        ]
        self._matcher = Matcher(AllOf(tuple(parts)), names, [info])

    def rows(self, whole: Cut, limit: int, after: Keyset | None) -> list[Row]:
        """The page. What the index does not know is asked of the truth, so it may take several rounds."""
        cut = whole.months[0]
        gap = (rows for rows, _tags in gap_rows(self._files, cut))
        outside = joined([*gap, whole.tail.rows({cut.info.month: cut.tail_from})])
        found: list[Row] = []
        wanted = limit
        while True:
            times, positions, more = self._candidates(cut, outside, wanted, after)
            for start in range(0, len(positions), FETCH_MAX):
                part = positions[start : start + FETCH_MAX].tolist()
                sql, bindings = questions.events_at(self._info.month, part, self._residual(), self._order)
                found += self._files.rows(self._info, sql, bindings)
                if len(found) >= limit:
                    return found[:limit]
            if not more:
                return found
            after = Keyset(int(times[-1]), int(positions[-1]))
            wanted = min(wanted * 2, 10_000)

    def _residual(self) -> EventFilter:
        """What only the truth can tell."""
        return replace(EventFilter(), session_ids=self._where.session_ids, tags=self._where.tags)

    def _candidates(
        self, cut: MonthCut, outside: Rows, wanted: int, after: Keyset | None
    ) -> tuple[Times, Positions, bool]:
        """The next positions in order, with their times, and whether there may be more behind them."""
        parts = [self._matching(outside.timestamp_ms, outside.position, _columns(outside), cut, after)]
        if cut.index is not None:
            with self._files.index_reading(cut.info, cut.index):
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
        self, cut: MonthCut, index: IndexFile, wanted: int, after: Keyset | None
    ) -> list[tuple[Times, Positions]]:
        """Matching rows of the index; in the order of times no more chunks than are needed for the wanted."""
        start_ms = self._info.month.start_ms
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
        self, cut: MonthCut, index: IndexFile, after: Keyset | None, start_ms: int
    ) -> list[tuple[Chunk, Projection, Keys | None]]:
        projection, leads = self._leads(index)
        low = 0 if self._where.start_ms is None else self._where.start_ms - start_ms
        high = self._info.month.end_ms - start_ms
        high = high if self._where.end_ms is None else min(high, self._where.end_ms - start_ms)
        if after is not None and self._order.by_time:
            if self._order.descending:
                high = min(high, after.timestamp_ms - start_ms + 1)
            else:
                low = max(low, after.timestamp_ms - start_ms)
        runs = [run.run for run in cut.runs if run.first <= self._last and run.last > (self._where.after_position or 0)]
        found = index.chunks(runs, projection, None if leads is None else leads.tolist()) if runs else []
        return [(chunk, projection, leads) for chunk in found if chunk.late >= low and chunk.early < high]

    def _leads(self, index: IndexFile) -> tuple[Projection, Keys | None]:
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
        index: IndexFile,
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
        wanted = leads if projection is Projection.BY_LABEL else None
        label = [] if wanted is None else [Slot.LABEL]
        found = index.fields(chunk, [Slot.TIME, Slot.POSITION, *slots.values(), *label])
        if wanted is not None:
            mine = np.isin(found[-1], wanted)
            found = [column[mine] for column in found]
        times, positions = found[0].astype(np.int64) + self._info.month.start_ms, found[1]
        keys = dict(zip(slots, found[2:], strict=False))
        return self._matching(times, positions, Columns(len(times), keys), cut, after)

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


def _columns(rows: Rows) -> Columns:
    return Columns(len(rows), {FieldKind.TYPE: rows.type, FieldKind.USER: rows.user, FieldKind.SOURCE: rows.source})
